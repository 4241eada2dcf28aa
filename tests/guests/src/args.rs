//! What a guest is asked for: words of /chosen/bootargs.

use crate::fdt;

/// The command line.
pub fn line() -> &'static str {
    let value = fdt::tree().and_then(|tree| tree.find(&["", "chosen"], "bootargs")).unwrap_or(&[]);
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    core::str::from_utf8(&value[..end]).unwrap_or("")
}

/// The value of `name=value`.
pub fn value(name: &str) -> Option<&'static str> {
    line().split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// The number in `name=number`, or the usual one.
pub fn number(name: &str, usual: u64) -> u64 {
    let Some(text) = value(name) else { return usual };
    text.parse().unwrap_or_else(|_| {
        crate::fail(format_args!("{name}={text} is no number"));
        usual
    })
}

/// The first word without `=`.
pub fn word() -> &'static str {
    line().split_whitespace().find(|word| !word.contains('=')).unwrap_or("")
}
