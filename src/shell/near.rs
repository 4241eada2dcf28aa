//! What somebody meant who slipped once.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// The word of `known` that `word` is, or would be without one slip: a letter too many, too few, another one, or two
/// swapped. Takes a look at each, and no table as [`nearest`](crate::problem::nearest) does: guests wait meanwhile.
pub(super) fn near<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    known.iter().find(|known| slip(word.as_bytes(), known.as_bytes())).copied()
}

fn slip(a: &[u8], b: &[u8]) -> bool {
    if a.len().abs_diff(b.len()) > 1 {
        return false;
    }
    let before = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let (a, b) = (a.get(before..).unwrap_or_default(), b.get(before..).unwrap_or_default());
    let after = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    let a = a.get(..a.len().saturating_sub(after)).unwrap_or_default();
    let b = b.get(..b.len().saturating_sub(after)).unwrap_or_default();
    match (a, b) {
        ([w, x], [y, z]) => w == z && x == y,
        _ => a.len() <= 1 && b.len() <= 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slip_is_seen_and_two_are_not() {
        let known = ["vm", "dmesg", "start", "timers"];
        for (word, meant) in [
            ("vm", "vm"),
            ("vmm", "vm"),
            ("v", "vm"),
            ("dmsg", "dmesg"),
            ("strat", "start"),
            ("stsrt", "start"),
            ("timer", "timers"),
            ("itmers", "timers"),
        ] {
            assert_eq!(near(word, &known), Some(meant), "{word}");
        }
        for word in ["", "xx", "dmeggs", "trats", "tiers1", &"m".repeat(3000)] {
            assert_eq!(near(word, &known), None, "{word}");
        }
    }
}
