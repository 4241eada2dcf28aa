//! Nodes and properties of a tree that somebody wrote by hand: taken whole, or refused with a hint.
//!
//! A misspelt property must not be one that is silently not there, and a value of the wrong size not a number.

use super::Findings;
use crate::fdt::repeated;
use crate::problem;
use crate::problem::{Hint, Problem, Text};
use alloc::string::String;
use core::fmt;
use dtoolkit::fdt::{FdtNode, FdtProperty};
use dtoolkit::{Node, Property};

/// A problem with a property of a node: most are that, and each `problem!` costs its weight in the image.
#[cold]
#[inline(never)]
pub(super) fn wrong(
    code: &'static str,
    place: &str,
    name: &str,
    what: fmt::Arguments<'_>,
    fix: &str,
) -> Problem {
    problem!(code, ("{place} {name}"); ("{what}"); ("{fix}"))
}

/// A place or a name, as much of it as a problem has room for: a node's name may be as long as its tree, and the heap
/// is small.
pub(super) fn short(text: fmt::Arguments<'_>) -> String {
    Text::<96>::from_args(text).as_str().into()
}

/// What `dtc` and boot loaders add to any node.
const ANYWHERE: &[&str] = &["phandle", "linux,phandle", "name"];

/// `#address-cells` and `#size-cells` as they hold for a node's children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cells {
    pub(super) address: u32,
    pub(super) size: u32,
}

impl Cells {
    /// Those of a node that says nothing (Devicetree Specification 2.3.5).
    pub(super) const DEFAULT: Self = Self { address: 2, size: 1 };

    /// Those of `node`, whose parent has `above`: Xen has each inherited unless it is given, and QEMU counts on it.
    ///
    /// # Errors
    /// E0220 for a count that no address can have.
    pub(super) fn of(node: &FdtNode<'_>, place: &str, above: Self) -> Result<Self, Problem> {
        Ok(Self {
            address: count(node, place, "#address-cells")?.unwrap_or(above.address),
            size: count(node, place, "#size-cells")?.unwrap_or(above.size),
        })
    }

    /// Bytes of one address with its size.
    pub(super) fn entry(self) -> usize {
        (self.address + self.size) as usize * 4
    }

    /// Splits one entry off the front: address and size, `None` where one has more than 64 bits.
    pub(super) fn take(self, entry: &[u8]) -> Option<(u64, u64)> {
        let (address, size) = entry.split_at_checked(self.address as usize * 4)?;
        Some((wide(address)?, wide(size)?))
    }
}

/// A number of up to 64 bits in cells of 32.
fn wide(cells: &[u8]) -> Option<u64> {
    cells.iter().try_fold(0u64, |sum, &byte| (sum >> 56 == 0).then_some(sum << 8 | u64::from(byte)))
}

/// A count of cells, 1 to 4, where it is given.
pub(super) fn count(node: &FdtNode<'_>, place: &str, name: &str) -> Result<Option<u32>, Problem> {
    let Some(property) = node.property(name) else { return Ok(None) };
    let value = property.value();
    match <[u8; 4]>::try_from(value).map(u32::from_be_bytes) {
        Ok(cells @ 1..=4) => Ok(Some(cells)),
        Ok(cells) => Err(wrong("E0220", place, name, format_args!("{cells}"), "Give 1 to 4; 2 is usual")),
        Err(_) => {
            Err(wrong("E0220", place, name, format_args!("{} bytes long", value.len()), "Give one cell: <2>"))
        }
    }
}

/// Whether one of a node's `compatible` strings is `name`.
pub(super) fn is(node: &FdtNode<'_>, name: &str) -> bool {
    node.property("compatible").is_some_and(|p| p.value().split(|&b| b == 0).any(|s| s == name.as_bytes()))
}

/// Whether one of them is among `names`.
pub(super) fn is_any(node: &FdtNode<'_>, names: &[&str]) -> bool {
    names.iter().any(|name| is(node, name))
}

/// Refuses properties that are not among `known`, and those that are there twice: E0207, E0208.
pub(super) fn only(node: &FdtNode<'_>, place: &str, known: &[&str], found: &mut Findings) {
    let mut strange = false;
    for property in odd(node, known) {
        strange = true;
        // What is near a word takes long to find: a tree may have thousands.
        if found.is_full() {
            continue;
        }
        found.error(unknown(place, "property", property.name(), known));
    }
    if !strange {
        once(node, place, found);
    }
}

/// Refuses a property that is there twice, in a node that has but known ones: E0208.
pub(super) fn once(node: &FdtNode<'_>, place: &str, found: &mut Findings) {
    // The known are few, and so is what is left.
    if let Some(property) = repeated(node) {
        found.error(wrong("E0208", place, property.name(), format_args!("there twice"), "Give it once"));
    }
}

/// Properties that are not among `known`.
pub(super) fn odd<'a>(node: &FdtNode<'a>, known: &[&str]) -> impl Iterator<Item = FdtProperty<'a>> {
    node.properties()
        .filter(move |property| !known.contains(&property.name()) && !ANYWHERE.contains(&property.name()))
}

pub(super) fn unknown(place: &str, what: &str, word: &str, known: &[&str]) -> Problem {
    problem!("E0207", ("{place}"); ("{what} \"{word}\" is not known"); ("{}", Hint { word, known }))
}

pub(super) fn require<'a>(node: &FdtNode<'a>, place: &str, name: &str) -> Result<FdtProperty<'a>, Problem> {
    node.property(name).ok_or_else(|| {
        wrong("E0209", place, name, format_args!("missing"), "Add it: docs/config-tree.md says what it means")
    })
}

/// A number of one or two cells; `right` says what it is.
pub(super) fn number(property: &FdtProperty<'_>, place: &str, right: &str) -> Result<u64, Problem> {
    let value = property.value();
    match value.len() {
        4 | 8 => Ok(wide(value).unwrap_or_default()),
        n => Err(problem!("E0208", ("{place} {}", property.name()); ("{n} bytes long"); ("Give {right}"))),
    }
}

pub(super) fn text<'a>(property: &FdtProperty<'a>, place: &str) -> Result<&'a str, Problem> {
    property.value_as::<&'a str>().ok().filter(|text| !text.contains('\0')).ok_or_else(|| {
        wrong(
            "E0208",
            place,
            property.name(),
            format_args!("no text, or more than one"),
            "Give one text in quotes",
        )
    })
}
