//! Mezzanine's own options: the words of `/chosen/bootargs`.
//!
//! Read before there is a heap, since one of them says how much to print.

use crate::problem;
use crate::problem::{Hint, Problem};
use log::LevelFilter;

const KNOWN: &[&str] = &["loglevel", "console", "memory", "vcpus", "mezzanine.vgic", "trace-exits"];
/// In the order of [`LevelFilter`].
const LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

/// What `/chosen/bootargs` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options<'a> {
    /// `loglevel=`: what is worth printing.
    pub loglevel: Option<LevelFilter>,
    /// `console=`: path or alias of a serial line, in place of `stdout-path`.
    pub console: Option<&'a str>,
    /// `memory=`: bytes of RAM for each VM that comes as a plain module.
    pub memory: Option<u64>,
    /// `vcpus=`: vCPUs for each VM that comes as a plain module.
    pub vcpus: Option<u16>,
    /// `trace-exits`: count exits by reason, and tell at the end.
    pub trace_exits: bool,
    /// `mezzanine.vgic=emulated`: guests' CPU interfaces are emulated, whatever the GIC has for them.
    pub emulated_vgic: bool,
}

impl<'a> Options<'a> {
    /// Reads words of the form `name=value` with blanks between them; the last of two that agree in name counts.
    ///
    /// # Errors
    /// E0215 for a name that nobody knows, E0216 for a value that makes no sense.
    pub fn parse(text: &'a str) -> Result<Self, Problem> {
        let mut options = Self::default();
        for word in text.split_ascii_whitespace() {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match name {
                "loglevel" => options.loglevel = Some(level(value)?),
                "console" if !value.is_empty() => options.console = Some(value),
                "console" => return Err(bad(name, value, "the path or alias of a serial line")),
                "memory" => {
                    options.memory =
                        Some(parse_size(value).ok_or_else(|| bad(name, value, "a size such as 256M or 1G"))?);
                }
                "vcpus" => {
                    options.vcpus =
                        Some(value.parse().map_err(|_| bad(name, value, "a number of vCPUs, such as 2"))?);
                }
                "trace-exits" if value.is_empty() => options.trace_exits = true,
                "trace-exits" => return Err(bad(name, value, "it without a value")),
                "mezzanine.vgic" => {
                    options.emulated_vgic = match value {
                        "emulated" => true,
                        "hardware" => false,
                        _ => return Err(bad(name, value, "\"hardware\" or \"emulated\"")),
                    };
                }
                _ => {
                    return Err(problem!("E0215", ("/chosen bootargs"); ("option \"{name}\" is not known");
                        ("{}", Hint { word: name, known: KNOWN })));
                }
            }
        }
        Ok(options)
    }
}

fn level(value: &str) -> Result<LevelFilter, Problem> {
    let known = LevelFilter::iter().zip(LEVELS).find(|(_, name)| name.eq_ignore_ascii_case(value));
    known.map(|(level, _)| level).ok_or_else(|| {
        problem!("E0216", ("/chosen bootargs loglevel"); ("\"{value}\""); ("{}", Hint { word: value, known: LEVELS }))
    })
}

fn bad(name: &str, value: &str, right: &str) -> Problem {
    problem!("E0216", ("/chosen bootargs {name}"); ("\"{value}\""); ("Give {right}"))
}

/// Reads a size: a number of bytes, or with K, M, G or T (also KiB, and so on) of 1024, 1024² and further.
pub fn parse_size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let shift = match unit.strip_suffix("iB").unwrap_or(unit) {
        "" if unit.is_empty() => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_the_log() {
        for (name, level) in LEVELS.iter().zip(LevelFilter::iter()) {
            assert_eq!(level.to_string(), name.to_uppercase());
            assert_eq!(Options::parse(&std::format!("loglevel={name}")).unwrap().loglevel, Some(level));
        }
        assert_eq!(LEVELS.len(), LevelFilter::iter().count());
        assert_eq!(Options::parse("loglevel=Debug").unwrap().loglevel, Some(LevelFilter::Debug));
        assert_eq!(Options::parse("loglevel=3").unwrap_err().code, "E0216");
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("256M"), Some(256 << 20));
        assert_eq!(parse_size("1GiB"), Some(1 << 30));
        assert_eq!(parse_size("64k"), Some(65536));
        assert_eq!(parse_size("4096"), Some(4096));
        for bad in ["", "M", "1X", "-1", "1.5G", "iB", "1iB", "20000000T", "1 M", "M1"] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn options_are_read_or_refused_with_a_hint() {
        let options = Options::parse(
            " loglevel=debug memory=1G  vcpus=3 console=serial1 vcpus=4 mezzanine.vgic=emulated trace-exits",
        )
        .unwrap();
        let expected = Options {
            loglevel: Some(LevelFilter::Debug),
            console: Some("serial1"),
            memory: Some(1 << 30),
            vcpus: Some(4),
            trace_exits: true,
            emulated_vgic: true,
        };
        assert_eq!(options, expected);
        assert_eq!(Options::parse("").unwrap(), Options::default());
        let text = |t| Options::parse(t).unwrap_err().to_string();
        assert_eq!(
            text("logleve=debug"),
            "E0215 /chosen bootargs: option \"logleve\" is not known. Did you mean \"loglevel\"?"
        );
        assert_eq!(
            text("loglevel=debgu"),
            "E0216 /chosen bootargs loglevel: \"debgu\". Did you mean \"debug\"?"
        );
        for bad in [
            "memory=lots",
            "memory",
            "vcpus=-1",
            "vcpus=70000",
            "console=",
            "loglevel=",
            "mezzanine.vgic=soft",
            "trace-exits=1",
        ] {
            assert_eq!(Options::parse(bad).unwrap_err().code, "E0216", "{bad}");
        }
    }
}
