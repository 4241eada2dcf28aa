#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

use super::*;
use crate::addr::PAGE_SIZE;
use crate::stage2::fake::HostMemory;
use proptest::prelude::*;

const BASE: u64 = 0x4000_0000;

fn gpa(raw: u64) -> GuestPhysAddr {
    GuestPhysAddr::at(raw)
}
fn guest(start: u64, size: u64) -> GuestRange {
    GuestRange::new(gpa(start), size).unwrap()
}

/// Memory whose parts lie in the guest in another order than on the host.
struct Fixture {
    memory: HostMemory,
    ram: GuestRam,
    /// Offset on the host of each byte of the guest.
    host: Vec<usize>,
}

fn fixture(parts: &[(usize, usize)]) -> Fixture {
    let memory = HostMemory::new(0x8000, 0x1000);
    memory.fill(0xcc);
    let start = memory.range().start();
    let range = |&(at, size): &(usize, usize)| {
        HostRange::new(start.checked_add(at as u64).unwrap(), size as u64).unwrap()
    };
    let chunks: Vec<_> = parts.iter().map(range).collect();
    #[allow(unsafe_code, reason = "the test's own memory")]
    // SAFETY: the allocation lives in the fixture, beside the RAM that is made of it.
    let ram = unsafe { GuestRam::new(gpa(BASE), &chunks) };
    let host = parts.iter().flat_map(|&(at, size)| at..at + size).collect();
    Fixture { memory, ram, host }
}

const PARTS: [(usize, usize); 3] = [(0x4000, 0x2000), (0, 0x1000), (0x7000, 0x1000)];

#[test]
fn chunks_lie_in_the_order_of_the_guest() {
    let f = fixture(&PARTS);
    assert_eq!(f.ram.range(), guest(BASE, 0x4000));
    let host = f.memory.range().start().raw();
    let chunks: Vec<_> = f.ram.chunks().map(|(at, r)| (at.raw(), r.start().raw() - host, r.size())).collect();
    assert_eq!(chunks, [(BASE, 0x4000, 0x2000), (BASE + 0x2000, 0, 0x1000), (BASE + 0x3000, 0x7000, 0x1000)]);
    let parts = f.ram.host_ranges(guest(BASE + 0x1ff0, 0x1020)).unwrap();
    let parts: Vec<_> = parts.map(|r| (r.start().raw() - host, r.size())).collect();
    assert_eq!(parts, [(0x5ff0, 0x10), (0, 0x1000), (0x7000, 0x10)]);
}

#[test]
fn outside_is_refused_whole() {
    let f = fixture(&PARTS);
    let mut bytes = [0x11; 16];
    for at in [0, BASE - 16, BASE - 1, BASE + 0x3ff1, BASE + 0x4000, u64::MAX, u64::MAX - 15, 1 << 63] {
        assert_eq!(f.ram.write(gpa(at), &bytes), Err(OutOfRam), "{at:#x}");
        assert_eq!(f.ram.read(gpa(at), &mut bytes), Err(OutOfRam), "{at:#x}");
        assert_eq!(bytes, [0x11; 16]);
        if let Some(range) = GuestRange::new(gpa(at), 16) {
            assert_eq!(f.ram.zero(range), Err(OutOfRam));
            assert!(f.ram.host_ranges(range).is_err());
        }
    }
    assert!(f.memory.bytes(0, 0x8000).iter().all(|b| *b == 0xcc));
    assert_eq!(f.ram.write(gpa(BASE + 0x4000), &[]), Ok(()));
    assert_eq!(f.ram.write(gpa(BASE + 0x4001), &[]), Err(OutOfRam));
}

/// Pages that EL2 and guests share come from the pool of the tables, zeroed, and go back there.
#[test]
fn shared_pages() {
    let memory = HostMemory::new(2 << 20, 2 << 20);
    memory.fill(0xcc);
    let mut books = crate::memory::Memory::new();
    books.add(memory.range());
    #[allow(unsafe_code, reason = "the test's own memory")]
    // SAFETY: the allocation outlives the books, and nobody else uses it.
    let mut free = unsafe { FreeRam::new(books) };
    let before = free.memory().free();
    let (a, b) = (free.shared_page().unwrap(), free.shared_page().unwrap());
    assert!(!a.range().overlaps(&b.range()) && a.range().size() == PAGE_SIZE);
    assert!(a.range().start().is_aligned(PAGE_SIZE));
    assert!((0..513).all(|word| a.load(word) == 0 && b.load(word) == 0));
    a.store(511, 0x0102_0304_0506_0708);
    a.store(512, u64::MAX);
    let offset = (a.range().start().raw() - memory.range().start().raw()) as usize;
    assert_eq!(memory.bytes(offset + 0xff0, 16), [0, 0, 0, 0, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
    assert!(memory.bytes(offset + 0x1000, 8).iter().all(|byte| *byte == 0 || *byte == 0xcc));
    assert_eq!((a.load(511), a.load(512), b.load(511)), (0x0102_0304_0506_0708, 0, 0));
    free.give_shared_page(a);
    free.give_shared_page(b);
    assert_eq!((free.memory().free(), free.table_bytes()), (before, 0));
    // One that was used before holds zeroes again.
    assert!((0..16).all(|_| free.shared_page().unwrap().load(511) == 0));
}

#[test]
fn no_ram_at_all() {
    let f = fixture(&[]);
    assert_eq!(f.ram.read(gpa(BASE), &mut [0]), Err(OutOfRam));
    assert_eq!(f.ram.chunks().count(), 0);
    assert!(f.ram.scrub_with(&mut 0, 1, &mut |_| panic!()));
}

#[test]
fn what_does_not_fit_below_the_end_is_left_out() {
    let memory = HostMemory::new(0x2000, 0x1000);
    let (first, second) = (memory.range().start(), memory.range().start().checked_add(PAGE_SIZE).unwrap());
    let chunks = [first, second].map(|at| HostRange::new(at, PAGE_SIZE).unwrap());
    #[allow(unsafe_code, reason = "the test's own memory")]
    // SAFETY: the allocation outlives the RAM.
    let ram = unsafe { GuestRam::new(gpa(u64::MAX - 0x1fff), &chunks) };
    assert_eq!(ram.range().size(), PAGE_SIZE);
    assert_eq!(ram.write(gpa(u64::MAX - 0xfff), &[1]), Err(OutOfRam));
}

#[test]
fn empty_chunks_do_not_end_a_copy() {
    let f = fixture(&[(0, 0), (0x1000, 0x10), (0, 0), (0x3000, 0x10)]);
    assert_eq!(f.ram.chunks().count(), 2);
    f.ram.write(gpa(BASE), &[0x55; 0x20]).unwrap();
    assert_eq!(
        (f.memory.bytes(0x1000, 0x10), f.memory.bytes(0x3000, 0x10)),
        (vec![0x55; 16], vec![0x55; 16])
    );
}

#[test]
fn scrubbing_zeroes_by_itself() {
    let f = fixture(&PARTS);
    let mut progress = 0;
    while !f.ram.scrub(&mut progress, 0x1001) {}
    let mut bytes = vec![1; 0x4000];
    f.ram.read(gpa(BASE), &mut bytes).unwrap();
    assert!(bytes.iter().all(|b| *b == 0));
}

#[test]
fn scrubbing_goes_in_bounded_pieces() {
    let f = fixture(&PARTS);
    let (mut progress, mut steps) = (0, 0);
    let mut pieces = Vec::new();
    loop {
        let mut size = 0;
        let done = f.ram.scrub_with(&mut progress, 0x1800, &mut |piece| {
            size += piece.size();
            pieces.push(piece);
            bulk::zero(piece);
        });
        steps += 1;
        assert!(size <= 0x1800);
        if done {
            break;
        }
    }
    assert_eq!((steps, progress), (3, 0x4000));
    assert_eq!(pieces.iter().map(|p| p.size()).sum::<u64>(), 0x4000);
    let mut bytes = vec![1; 0x4000];
    f.ram.read(gpa(BASE), &mut bytes).unwrap();
    assert!(bytes.iter().all(|b| *b == 0));
    // What belongs to nobody is as it was.
    assert!(f.memory.bytes(0x1000, 0x3000).iter().all(|b| *b == 0xcc));
    assert!(f.ram.scrub_with(&mut progress, 0x1800, &mut |_| panic!()));
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, Vec<u8>),
    Zero(usize, usize),
    Read(usize, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let len = || prop_oneof![0..40_usize, 0..0x1800_usize];
    let step = prop_oneof![
        (0..0x4000_usize, len(), any::<u8>()).prop_map(|(at, len, seed)| {
            Step::Write(at, (0..len).map(|n| (n as u8).wrapping_mul(7).wrapping_add(seed)).collect())
        }),
        (0..0x4000_usize, len()).prop_map(|(at, len)| Step::Zero(at, len)),
        (0..0x4000_usize, len()).prop_map(|(at, len)| Step::Read(at, len)),
    ];
    prop::collection::vec(step, 1..24)
}

proptest! {
    #[test]
    fn behaves_like_an_array(steps in steps(), skew in 0..9_usize) {
        // Chunks of odd sizes and places: any alignment of source to target occurs.
        let f = fixture(&[(0x4000 + skew, 0x2000 - 2 * skew), (skew, 0x1003), (0x7000, 0x1000 - skew)]);
        let mut model = vec![0xcc_u8; f.host.len()];
        for step in steps {
            match step {
                Step::Write(at, bytes) => {
                    let inside = at + bytes.len() <= model.len();
                    prop_assert_eq!(f.ram.write(gpa(BASE + at as u64), &bytes).is_ok(), inside);
                    if inside { model[at..at + bytes.len()].copy_from_slice(&bytes); }
                }
                Step::Zero(at, len) => {
                    let inside = at + len <= model.len();
                    prop_assert_eq!(f.ram.zero(guest(BASE + at as u64, len as u64)).is_ok(), inside);
                    if inside { model[at..at + len].fill(0); }
                }
                Step::Read(at, len) => {
                    let mut bytes = vec![0; len];
                    let inside = at + len <= model.len();
                    prop_assert_eq!(f.ram.read(gpa(BASE + at as u64), &mut bytes).is_ok(), inside);
                    if inside { prop_assert_eq!(&bytes[..], &model[at..at + len]); }
                }
            }
        }
        let mut all = vec![0xcc; 0x8000];
        for (at, byte) in f.host.iter().zip(model) { all[*at] = byte; }
        prop_assert_eq!(f.memory.bytes(0, 0x8000), all);
    }
}
