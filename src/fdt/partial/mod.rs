//! A tree of which parts go into a guest's: Xen's `multiboot,device-tree`.
//!
//! What is under `/passthrough` becomes a node of the guest's tree, and `/aliases` names nodes in it; the rest
//! stays behind. A node `/gic` stands for the guest's interrupt controller: its phandle becomes that one's
//! (Xen, docs/misc/arm/passthrough.txt), which is 65000 where there is none (GUEST_PHANDLE_GIC).
//!
//! As long as no devices are assigned to guests, such a tree may describe what is no hardware: clocks, names,
//! figures for drivers and people. What it may not claim is refused here, node by node, before any VM is made.

mod claims;
mod links;
mod nodes;
#[cfg(test)]
mod tests;

use super::check::{MAX_DEPTH, depth};
use super::{Flat, repeated};
use crate::problem;
use crate::problem::Problem;
use alloc::vec::Vec;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};
use nodes::{Nodes, value};

/// Phandle of a guest's interrupt controller, unless a partial tree says otherwise.
pub(super) const GIC: u32 = 65_000;
/// Phandle of a guest's clock; Xen has the one between for an IOMMU.
pub(super) const CLOCK: u32 = 65_002;
/// Phandle of a guest's GPIO controller, which its power key refers to.
pub(super) const GPIO: u32 = 65_003;

/// What a guest's own tree has beside the interrupt controller, by phandle.
const OWN: [(u32, &str); 2] = [(CLOCK, "clock"), (GPIO, "GPIO controller")];

/// Whose phandle it is in a guest's own tree, the interrupt controller's apart.
fn own(phandle: u32) -> Option<&'static str> {
    OWN.iter().find(|(own, _)| *own == phandle).map(|(_, name)| *name)
}

/// Bytes of such a tree: it is copied on the little heap that there is before guests run.
const MAX_SIZE: usize = 64 << 10;
/// Nodes under `/passthrough`.
const MAX_NODES: usize = 256;
/// Properties of one node.
const MAX_PROPERTIES: usize = 256;

/// Warnings that are kept: there is not much heap.
const MAX_WARNINGS: usize = 16;

/// What to do about a phandle.
const LABELS: &str = "Leave phandles to dtc: use labels";

const PASSTHROUGH: &str = "passthrough";
/// Aliases of a guest's own tree.
const OWN_ALIASES: &[&str] = &["serial0"];

/// A partial tree that may go into a guest's.
#[derive(Clone, Copy, Debug)]
pub struct Partial<'a> {
    passthrough: FdtNode<'a>,
    aliases: Option<FdtNode<'a>>,
    gic: u32,
}

impl<'a> Partial<'a> {
    /// Reads and checks such a tree; `place` is for messages. Warnings go to `warnings`.
    ///
    /// # Errors
    /// E0240 damaged or too large; E0241 nothing for the guest in it; E0242 to E0250 what it may not have.
    pub fn read(blob: &'a [u8], place: &str, warnings: &mut Vec<Problem>) -> Result<Self, Problem> {
        let tree = sound(blob, place)?;
        let root = tree.root();
        let (mut passthrough, mut aliases, mut gic) = (None, None, None);
        for child in root.children() {
            let slot = match child.name_without_address() {
                PASSTHROUGH => &mut passthrough,
                "aliases" => &mut aliases,
                "gic" => &mut gic,
                "__symbols__" | "__local_fixups__" => continue,
                "__fixups__" => {
                    return Err(
                        problem!("E0243", ("{place} /__fixups__"); ("references to labels of another tree");
                        ("Compile it as a tree of its own, without /plugin/")),
                    );
                }
                // A person reads the first few; a hostile tree has thousands.
                _ if warnings.len() >= MAX_WARNINGS => continue,
                name => {
                    warnings.push(problem!("E0251", ("{place} /{name}"); ("not for the guest's tree");
                        ("What is meant for it belongs under /{PASSTHROUGH}")));
                    continue;
                }
            };
            if slot.replace(child).is_some() {
                return Err(
                    problem!("E0249", ("{place} /{}", child.name()); ("there twice"); ("Give it once")),
                );
            }
        }
        let Some(passthrough) = passthrough else {
            return Err(
                problem!("E0241", ("{place}"); ("no /{PASSTHROUGH}: nothing of it is for the guest");
                ("Put what is meant for the guest's tree under /{PASSTHROUGH}")),
            );
        };
        let given = gic.and_then(|node| value(&node, "phandle").or_else(|| value(&node, "linux,phandle")));
        let partial =
            Self { passthrough, aliases, gic: given.map_or(Ok(GIC), |value| phandle(value, place, "/gic"))? };
        let nodes = Nodes::read(passthrough, partial.gic, place)?;
        claims::check(&nodes)?;
        links::check(&nodes)?;
        partial.check_aliases(&nodes, place)?;
        Ok(partial)
    }

    /// Aliases that are copied: names and paths, each of a node that is copied too.
    fn check_aliases(&self, nodes: &Nodes<'_, '_>, place: &str) -> Result<(), Problem> {
        let Some(node) = self.aliases else { return Ok(()) };
        if node.properties().nth(MAX_PROPERTIES).is_some() {
            return Err(nodes.too_many("aliases", MAX_PROPERTIES));
        }
        if let Some(alias) = repeated(&node) {
            return Err(
                problem!("E0249", ("{place} /aliases {}", alias.name()); ("there twice"); ("Give it once")),
            );
        }
        for alias in node.properties() {
            let path = alias.value().strip_suffix(b"\0").unwrap_or_default();
            let what = if OWN_ALIASES.contains(&alias.name()) {
                "the guest's own tree has it"
            } else if (0..nodes.list.len()).any(|n| nodes.path(n).as_bytes() == path) {
                continue;
            } else {
                "not the path of a node that goes into the guest's tree"
            };
            return Err(problem!("E0250", ("{place} /aliases {}", alias.name()); ("{what}");
                ("Name a node under /{PASSTHROUGH}, by a name of its own")));
        }
        Ok(())
    }

    /// Phandle of the guest's interrupt controller.
    pub(super) fn gic(&self) -> u32 {
        self.gic
    }

    /// Writes the aliases into the open node.
    pub(super) fn write_aliases(&self, out: &mut Flat) {
        self.aliases.iter().for_each(|node| copy_properties(node, out));
    }

    /// Writes what goes into a guest's tree into the open node.
    pub(super) fn write(&self, out: &mut Flat) {
        copy(&self.passthrough, out);
    }
}

/// Bounded by [`MAX_DEPTH`], like every walk here.
fn copy(node: &FdtNode<'_>, out: &mut Flat) {
    out.begin(node.name());
    copy_properties(node, out);
    node.children().for_each(|child| copy(&child, out));
    out.end();
}

fn copy_properties(node: &FdtNode<'_>, out: &mut Flat) {
    for property in node.properties() {
        out.bytes(property.name(), property.value());
    }
}

/// A tree that can be walked.
fn sound<'a>(blob: &'a [u8], place: &str) -> Result<Fdt<'a>, Problem> {
    let damaged = |what: core::fmt::Arguments<'_>| problem!("E0240", ("{place}"); ("{what}"); ("dtc -I dtb -O dts shows what is left of it; dtc -O dtb makes one"));
    let Some(size) = super::total_size(blob) else {
        return Err(damaged(format_args!("no device tree")));
    };
    if size > MAX_SIZE {
        return Err(problem!("E0240", ("{place}"); ("{size} bytes long"); ("At most {MAX_SIZE} are copied")));
    }
    let Some(blob) = blob.get(..size) else {
        return Err(damaged(format_args!("{size} bytes stated, {} there", blob.len())));
    };
    let tree = Fdt::new(blob).map_err(|error| damaged(format_args!("damaged: {error}")))?;
    match depth(blob) {
        Some(depth) if depth <= MAX_DEPTH => Ok(tree),
        Some(depth) => {
            Err(damaged(format_args!("nodes are nested {depth} deep, and at most {MAX_DEPTH} are read")))
        }
        None => Err(damaged(format_args!("damaged: tokens that make no tree"))),
    }
}

/// A phandle, if it is one.
fn phandle(value: &[u8], place: &str, path: &str) -> Result<u32, Problem> {
    match <[u8; 4]>::try_from(value).map(u32::from_be_bytes) {
        Ok(number) if !matches!(number, 0 | u32::MAX) => Ok(number),
        Ok(number) => Err(problem!("E0242", ("{place} {path} phandle"); ("{number:#x}"); ("{LABELS}"))),
        Err(_) => {
            Err(problem!("E0242", ("{place} {path} phandle"); ("{} bytes long", value.len()); ("{LABELS}")))
        }
    }
}
