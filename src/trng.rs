//! The firmware's random numbers (DEN0098), and the generator behind them.
//!
//! A board may have no source of entropy at EL2 but what its firmware left in the device tree, so guests draw
//! from a generator that was seeded once and is stirred with whatever comes along. It replaces its own key
//! before it gives anything out: who reads EL2's memory later learns nothing of numbers given before.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use chacha20::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};

/// TRNG_VERSION: 1.0.
pub const VERSION: u64 = 1 << 16;

/// TRNG_GET_UUID: which generator this is, 7fdc6a41-8ac2-4a44-9d9b-c3a1f74eb1b9 as four words of SMCCC.
pub const UUID: [u64; 4] = [0x416a_dc7f, 0x444a_c28a, 0xa1c3_9b9d, 0xb9b1_4ef7];

/// Return codes (DEN0098 2.2), sign extended.
pub mod status {
    /// Done.
    pub const SUCCESS: u64 = 0;
    /// No such call.
    pub const NOT_SUPPORTED: u64 = (-1_i64) as u64;
    /// Zero bits, or more than one call can return.
    pub const INVALID_PARAMETERS: u64 = (-2_i64) as u64;
}

/// A call of TRNG_RND32 or TRNG_RND64 whose arguments make sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// How many bits: 1 to 96, or 1 to 192 if `wide`.
    pub bits: u8,
    /// TRNG_RND64: each result register holds 64 bits, not 32.
    pub wide: bool,
}

/// What becomes of a call, where there is a source of entropy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// The result, for x0.
    Value(u64),
    /// The results, for x0 to x3.
    Values([u64; 4]),
    /// Random bits, by [`answer`].
    Request(Request),
}

/// Function numbers: bits 15:0 of the function identifier.
pub mod function {
    /// TRNG_VERSION.
    pub const VERSION: u16 = 0x50;
    /// TRNG_FEATURES.
    pub const FEATURES: u16 = 0x51;
    /// TRNG_GET_UUID.
    pub const GET_UUID: u16 = 0x52;
    /// TRNG_RND32 or TRNG_RND64.
    pub const RND: u16 = 0x53;
}

/// Decodes the call of function `number` with argument x1 (already cut to 32 bits where not `wide`).
pub fn decode(number: u16, wide: bool, x1: u64) -> Decoded {
    match (number, wide) {
        (function::VERSION, false) => Decoded::Value(VERSION),
        (function::FEATURES, false) => Decoded::Value(features(x1 as u32)),
        (function::GET_UUID, false) => Decoded::Values(UUID),
        (function::RND, _) => {
            let most = if wide { 192 } else { 96 };
            match u8::try_from(x1) {
                Ok(bits) if (1..=most).contains(&bits) => Decoded::Request(Request { bits, wide }),
                _ => Decoded::Value(status::INVALID_PARAMETERS),
            }
        }
        _ => Decoded::Value(status::NOT_SUPPORTED),
    }
}

fn features(function: u32) -> u64 {
    match function {
        0x8400_0050..=0x8400_0053 | 0xc400_0053 => status::SUCCESS,
        _ => status::NOT_SUPPORTED,
    }
}

/// The results for x0 to x3: where `random` never gives anything, there is no such call. The bits fill x3 from the bottom, then x2, then x1; what is left over is zero.
pub fn answer(request: Request, random: &mut dyn FnMut() -> Option<u64>) -> [u64; 4] {
    let mut words = [0; 3];
    let width: u32 = if request.wide { 64 } else { 32 };
    let mut left = u32::from(request.bits);
    for word in words.iter_mut().rev() {
        let bits = left.min(width);
        if bits == 0 {
            break;
        }
        let Some(random) = random() else { return [status::NOT_SUPPORTED, 0, 0, 0] };
        *word = random >> 64_u32.wrapping_sub(bits);
        left = left.wrapping_sub(bits);
    }
    let [x1, x2, x3] = words;
    [status::SUCCESS, x1, x2, x3]
}

/// Numbers made from one key: the first four become the next key, the others are given out.
const BATCH: usize = 28;

/// A ChaCha20 generator with fast key erasure.
pub struct Entropy {
    key: [u8; 32],
    /// Given out from the end; taken numbers are zero.
    ready: [u64; BATCH],
    left: usize,
    seeded: bool,
}

impl core::fmt::Debug for Entropy {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Entropy").field("seeded", &self.seeded).finish_non_exhaustive()
    }
}

impl Default for Entropy {
    fn default() -> Self {
        Self::new()
    }
}

impl Entropy {
    /// A generator that gives nothing out before it is seeded.
    pub const fn new() -> Self {
        Self { key: [0; 32], ready: [0; BATCH], left: 0, seeded: false }
    }

    /// Takes in a secret: the tree's `rng-seed` or `kaslr-seed`, or what a hardware generator gave.
    ///
    /// Adds to what is there, so a bad seed after a good one does no harm.
    pub fn seed(&mut self, secret: &[u8]) {
        if !secret.is_empty() {
            self.absorb(secret);
            self.seeded = true;
        }
    }

    /// Takes in something that differs from boot to boot but is no secret: a counter, say.
    pub fn stir(&mut self, value: u64) {
        self.absorb(&value.to_le_bytes());
    }

    /// 64 random bits; `None` before the first [`seed`](Self::seed).
    pub fn next_u64(&mut self) -> Option<u64> {
        if !self.seeded {
            return None;
        }
        if self.left == 0 {
            self.refill();
        }
        self.left = self.left.saturating_sub(1);
        self.ready.get_mut(self.left).map(core::mem::take)
    }

    /// Each piece goes through the cipher before the next comes, and the length ends it: two secrets with
    /// equal bytes in different places do not meet.
    fn absorb(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(32) {
            self.mix(piece);
        }
        self.mix(&(bytes.len() as u64).to_le_bytes());
        // Numbers made before would not have it in them.
        self.ready = [0; BATCH];
        self.left = 0;
    }

    fn mix(&mut self, piece: &[u8]) {
        self.key.iter_mut().zip(piece).for_each(|(k, p)| *k ^= p);
        let mut cipher = ChaCha20Rng::from_seed(self.key);
        cipher.fill_bytes(&mut self.key);
    }

    fn refill(&mut self) {
        let mut cipher = ChaCha20Rng::from_seed(self.key);
        cipher.fill_bytes(&mut self.key);
        self.ready.iter_mut().for_each(|number| *number = cipher.next_u64());
        self.left = BATCH;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn seeded() -> Entropy {
        let mut entropy = Entropy::new();
        entropy.seed(b"a secret of the firmware");
        entropy
    }

    #[test]
    fn nothing_comes_out_unseeded() {
        let mut entropy = Entropy::new();
        entropy.stir(99);
        entropy.seed(&[]);
        assert_eq!(entropy.next_u64(), None);
        assert_eq!(
            answer(Request { bits: 8, wide: true }, &mut || entropy.next_u64()),
            [status::NOT_SUPPORTED, 0, 0, 0]
        );
        entropy.seed(&[1]);
        assert!(entropy.next_u64().is_some());
    }

    #[test]
    fn numbers_do_not_repeat_and_depend_on_every_input() {
        let mut seen = HashSet::new();
        let mut draw = |entropy: &mut Entropy| (0..100).all(|_| seen.insert(entropy.next_u64().unwrap()));
        assert!(draw(&mut seeded()));
        let mut entropy = seeded();
        entropy.stir(1);
        assert!(draw(&mut entropy));
        let mut entropy = seeded();
        entropy.seed(&[0]);
        assert!(draw(&mut entropy));
        for zeroes in 1..40 {
            let mut entropy = Entropy::new();
            entropy.seed(&vec![0; zeroes]);
            assert!(draw(&mut entropy), "{zeroes} zero bytes");
        }
    }

    #[test]
    fn equal_seeds_give_equal_numbers() {
        let (mut a, mut b) = (seeded(), seeded());
        assert!((0..100).all(|_| a.next_u64() == b.next_u64()));
    }

    #[test]
    fn the_state_holds_nothing_that_was_given_out() {
        let mut entropy = seeded();
        let key = entropy.key;
        let number = entropy.next_u64().unwrap();
        assert_ne!(entropy.key, key);
        assert!(!entropy.ready.contains(&number));
        // A seed leaves no number that was made before it.
        let next = *entropy.ready.get(entropy.left - 1).unwrap();
        entropy.seed(&[1]);
        assert_ne!(entropy.next_u64(), Some(next));
    }

    #[test]
    fn bits_are_about_half_ones() {
        let mut entropy = seeded();
        let ones: u32 = (0..1000).map(|_| entropy.next_u64().unwrap().count_ones()).sum();
        assert!((31_000..33_000).contains(&ones), "{ones}");
    }

    #[test]
    fn random_bits_lie_where_the_standard_says() {
        let mut entropy = seeded();
        for wide in [false, true] {
            let (width, most) = if wide { (64, 192) } else { (32, 96) };
            for bits in 1..=most {
                let mut ever = [0_u64; 4];
                for _ in 0..64 {
                    let results = answer(Request { bits, wide }, &mut || entropy.next_u64());
                    assert_eq!(results[0], status::SUCCESS);
                    ever.iter_mut().zip(results).for_each(|(all, one)| *all |= one);
                }
                let mask = |from: u32| -> u64 {
                    let n = u32::from(bits).saturating_sub(from).min(width);
                    if n == 0 { 0 } else { u64::MAX >> (64 - n) }
                };
                assert_eq!(ever, [0, mask(2 * width), mask(width), mask(0)], "{bits} bits, wide {wide}");
            }
        }
    }

    #[test]
    fn calls() {
        assert_eq!(decode(0x50, false, 0), Decoded::Value(0x1_0000));
        assert_eq!(decode(0x52, false, 0), Decoded::Values(UUID));
        for (id, expected) in [
            (0x8400_0050, status::SUCCESS),
            (0x8400_0053, status::SUCCESS),
            (0xc400_0053, status::SUCCESS),
            (0xc400_0050, status::NOT_SUPPORTED),
            (0x8400_0054, status::NOT_SUPPORTED),
        ] {
            assert_eq!(decode(0x51, false, id), Decoded::Value(expected), "{id:#x}");
        }
        assert_eq!(decode(0x53, true, 192), Decoded::Request(Request { bits: 192, wide: true }));
        assert_eq!(decode(0x53, false, 96), Decoded::Request(Request { bits: 96, wide: false }));
        for (wide, bits) in [(true, 0), (true, 193), (true, 256), (true, u64::MAX), (false, 97), (false, 0)] {
            assert_eq!(decode(0x53, wide, bits), Decoded::Value(status::INVALID_PARAMETERS), "{bits}");
        }
        for number in [0x50, 0x51, 0x52] {
            assert_eq!(decode(number, true, 0), Decoded::Value(status::NOT_SUPPORTED));
        }
    }
}
