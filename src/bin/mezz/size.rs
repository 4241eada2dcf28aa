//! Sizes of memory as people write them: 256M, 1G, 512KiB.
//!
//! A letter is a power of two, as in QEMU and `dd`. A bare number is refused, since QEMU reads it as MiB and
//! others as bytes, and `MB` because half of its readers mean a million.

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// Reads a size in bytes; the error is a sentence's end: "is not a size: ...".
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = trimmed.split_at(digits);
    let Ok(number) = number.parse::<u64>() else {
        return Err(format!("`{text}` does not start with a whole number; write it like 256M or 1G"));
    };
    let scale = match unit.trim_start().to_ascii_lowercase().as_str() {
        "k" | "kib" => KIB,
        "m" | "mib" => MIB,
        "g" | "gib" => GIB,
        "" => return Err(format!("`{text}` has no unit; {number}M is {number} MiB")),
        "kb" | "mb" | "gb" => {
            let letter = unit.trim_start().get(..1).unwrap_or_default().to_ascii_uppercase();
            return Err(format!(
                "`{unit}` could mean powers of ten; {number}{letter} is {number} {letter}iB"
            ));
        }
        _ => return Err(format!("`{unit}` is no unit; use K, M or G")),
    };
    number.checked_mul(scale).ok_or_else(|| format!("`{text}` is more than 64 bits can count"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        for (text, bytes) in [
            ("512K", 512 * KIB),
            ("256M", 256 * MIB),
            ("1G", GIB),
            ("1GiB", GIB),
            ("16 MiB", 16 * MIB),
            ("2kib", 2 * KIB),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refusals_say_what_would_be_right() {
        for (text, right) in [
            ("256", "256M is 256 MiB"),
            ("256MB", "256M is 256 MiB"),
            ("M", "like 256M"),
            ("-1G", "like 256M"),
            ("1.5G", "K, M or G"),
            ("12Q", "K, M or G"),
            ("99999999999G", "64 bits"),
            ("", "like 256M"),
        ] {
            let message = parse(text).expect_err(text);
            assert!(message.contains(right), "{text}: {message}");
        }
    }
}
