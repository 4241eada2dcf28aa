//! Lists of CPUs as people write them: `0-3,^2`.
//!
//! Xen's binding has numbers and ranges with commas between them; `^`, which takes out again what the rest names, is
//! from Xen's own tools. CPUs count from 0 on by their place among those that the machine's tree has in use.

use super::node::wrong;
use crate::problem::Problem;
use core::fmt;

/// CPUs that run guests, at most: each has a bit of 64.
pub const MAX_CPUS: u16 = crate::cpus::MAX as u16;

/// The first `count` CPUs.
pub(super) fn first(count: u16) -> u64 {
    match count {
        0 => 0,
        1..MAX_CPUS => u64::MAX >> MAX_CPUS.wrapping_sub(count),
        _ => u64::MAX,
    }
}

/// CPUs `from` to `to`, both below [`MAX_CPUS`].
fn range(from: u16, to: u16) -> u64 {
    first(to.saturating_add(1)) & !first(from)
}

/// Reads a list for the `key` at `place`; it names at least one CPU.
///
/// # Errors
/// E0332 for what is no list, E0333 for a CPU that no machine has, E0334 for a list without a CPU.
#[inline(never)]
pub fn parse_cpus(place: &str, key: &str, text: &str) -> Result<u64, Problem> {
    let (mut named, mut taken_out) = (0, 0);
    let blank = text.trim_ascii().is_empty();
    for item in text.as_bytes().split(|byte| *byte == b',').filter(|_| !blank) {
        let item = item.trim_ascii();
        let (list, sum) = match item.strip_prefix(b"^") {
            Some(list) => (list, &mut taken_out),
            None => (item, &mut named),
        };
        let mut ends = list.split(|byte| *byte == b'-').map(number);
        let (from, to) = match (ends.next().flatten(), ends.next(), ends.next()) {
            (Some(from), None, _) => (from, from),
            (Some(from), Some(Some(to)), None) => (from, to),
            _ => (1, 0),
        };
        if from > to || to >= MAX_CPUS {
            let (code, fix) = match from <= to {
                true => ("E0333", "There are 64 at most: use 0 to 63"),
                false => ("E0332", "Write CPUs and ranges, such as 0-3,5; ^2 takes CPU 2 out again"),
            };
            let item = core::str::from_utf8(item).unwrap_or_default();
            let what = format_args!("\"{item}\" is no CPU and no range of CPUs");
            return Err(wrong(code, place, key, what, fix));
        }
        *sum |= range(from, to);
    }
    match named & !taken_out {
        0 => Err(wrong(
            "E0334",
            place,
            key,
            format_args!("\"{text}\" leaves no CPU to run on"),
            "Name one at least, or leave it out for all of them",
        )),
        mask => Ok(mask),
    }
}

/// A number without sign and, since C reads those as octal, without zeroes before it.
fn number(text: &[u8]) -> Option<u16> {
    let text = text.trim_ascii();
    if text.is_empty() || text.len() > 1 && text.starts_with(b"0") {
        return None;
    }
    text.iter().try_fold(0u16, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| byte.wrapping_sub(b'0'))?;
        Some(sum.saturating_mul(10).saturating_add(digit.into()))
    })
}

/// CPUs, a bit each, as a list of numbers and ranges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuList(pub u64);

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = self.0;
        let mut comma = "";
        while left != 0 {
            let from = left.trailing_zeros() as u16;
            let to = from.saturating_add((left >> from).trailing_ones() as u16).wrapping_sub(1);
            match to.wrapping_sub(from) {
                0 => write!(f, "{comma}{from}")?,
                _ => write!(f, "{comma}{from}-{to}")?,
            }
            left &= !range(from, to);
            comma = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::string::ToString;

    fn read(text: &str) -> Result<u64, &'static str> {
        parse_cpus("vm.a", "affinity", text).map_err(|problem| problem.code)
    }

    #[test]
    fn lists_are_read_or_refused() {
        for (text, mask) in [
            ("0", 1),
            ("63", 1 << 63),
            ("0-63", u64::MAX),
            ("0-3,^2", 0b1011),
            ("^2,0-3", 0b1011),
            (" 0 - 1 , 5 ", 0b10_0011),
            ("1-1,1", 0b10),
            ("0-7,^1-6", 0b1000_0001),
        ] {
            assert_eq!(read(text), Ok(mask), "{text}");
        }
        for (text, code) in [
            ("", "E0334"),
            ("  ", "E0334"),
            ("^0", "E0334"),
            ("0-3,^0-3", "E0334"),
            ("64", "E0333"),
            ("0-64", "E0333"),
            ("^64", "E0333"),
            ("99999999999999999999", "E0333"),
            ("3-0", "E0332"),
            ("0,", "E0332"),
            (",", "E0332"),
            ("a", "E0332"),
            ("-1", "E0332"),
            ("+1", "E0332"),
            ("0-", "E0332"),
            ("0-1-2", "E0332"),
            ("0x1", "E0332"),
            ("010", "E0332"),
            ("^^1", "E0332"),
            ("1;2", "E0332"),
            ("1 2", "E0332"),
        ] {
            assert_eq!(read(text), Err(code), "{text:?}");
        }
        assert_eq!(
            parse_cpus("vm.a", "affinity", "0,1.5").unwrap_err().to_string(),
            "E0332 vm.a affinity: \"1.5\" is no CPU and no range of CPUs. Write CPUs and ranges, such as 0-3,5; \
             ^2 takes CPU 2 out again."
        );
    }

    #[test]
    fn the_first_cpus() {
        assert_eq!([0, 1, 2, 63, 64, 512].map(first), [0, 1, 3, u64::MAX >> 1, u64::MAX, u64::MAX]);
    }

    proptest! {
        #[test]
        fn a_list_reads_back(mask in 1u64..) {
            prop_assert_eq!(read(&CpuList(mask).to_string()), Ok(mask));
        }

        #[test]
        fn a_list_is_what_its_items_add_up_to(items in proptest::collection::vec((0u16..64, 0u16..64, any::<bool>()), 1..8)) {
            let (mut named, mut out) = (BTreeSet::new(), BTreeSet::new());
            let mut texts = std::vec::Vec::new();
            for (a, b, minus) in items {
                let (from, to) = (a.min(b), a.max(b));
                if minus { &mut out } else { &mut named }.extend(from..=to);
                texts.push(std::format!("{}{from}-{to}", if minus { "^" } else { "" }));
            }
            let expected = named.difference(&out).fold(0, |sum: u64, cpu| sum | 1 << cpu);
            prop_assert_eq!(read(&texts.join(",")), if expected == 0 { Err("E0334") } else { Ok(expected) });
        }

        #[test]
        fn any_text_is_survived(text in "[-^, 0-9a]{0,12}") {
            if let Ok(mask) = read(&text) {
                prop_assert_ne!(mask, 0);
            }
        }
    }
}
