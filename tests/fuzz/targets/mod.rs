//! What is fuzzed: each target takes bytes and must come back.
//!
//! libFuzzer runs them for as long as one likes (`make fuzz`), and `cargo test --test corpus` over the corpus that
//! is kept in the tree.

mod exits;
mod gic;
mod input;
mod pl011;
mod shell;
mod trees;
mod ways;

/// One target.
pub type Target = fn(&[u8]);

/// All of them, by the names of their folders in the corpus.
pub const ALL: &[(&str, Target)] = &[
    ("tree", trees::machine),
    ("partial", trees::partial),
    ("bundle", ways::bundle),
    ("cpio", ways::cpio),
    ("image", ways::image),
    ("elf", ways::elf),
    ("gzip", ways::gzip),
    ("exit", exits::decode),
    ("instruction", exits::instruction),
    ("gic", gic::run),
    ("pl011", pl011::run),
    ("json", shell::json),
    ("shell", shell::keys),
];

/// The target of that name.
#[allow(dead_code, reason = "libFuzzer's side asks by name, the corpus' test does not")]
pub fn find(name: &str) -> Option<Target> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}
