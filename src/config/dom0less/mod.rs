//! Xen's dom0less nodes in the machine's own tree: VMs whose files a boot loader put into memory.
//!
//! `Platform::read` runs before there is a heap and only sees that there are such nodes; they are read here.

#[cfg(test)]
mod tests;

use super::domain::{self, DOMAIN, FILE, Kind, Module, Source};
use super::node::{Cells, is, require, wrong};
use super::{Findings, VmConfig, foreign, out_of_ram, static_memory};
use crate::addr::{Address, HostPhysAddr, HostRange};
use crate::fdt::{ModuleKind, Platform};
use crate::problem;
use crate::problem::Problem;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use dtoolkit::fdt::Fdt;
use dtoolkit::{Node, Property};

/// VMs that are read from nodes of the machine's tree: there is not much heap yet, and no memory to add to it before
/// it is known where their modules lie.
const MAX_DOMAINS: usize = 128;

/// Memory that is somebody's.
struct Claim {
    range: HostRange,
    kind: Kind,
    place: String,
}

/// The ranges of memory in which modules of dom0less nodes lie, for whoever gives memory out before [`read`].
///
/// # Errors
/// As [`read`], but for what is wrong with modules' contents.
pub fn modules(platform: &Platform<'_>) -> Result<Vec<HostRange>, Problem> {
    let mut ranges = Vec::new();
    let mut note = |range| {
        ranges.push(range);
        Some(&[][..])
    };
    let mut found = Findings::default();
    read(platform, &mut note, &mut Vec::new(), &mut found);
    found.settle().map(|_| ranges)
}

/// Appends to `vms` a VM for each node under `/chosen` that describes one.
pub(super) fn read<'a>(
    platform: &Platform<'a>,
    blob_at: &mut dyn FnMut(HostRange) -> Option<&'a [u8]>,
    vms: &mut Vec<VmConfig<'a>>,
    found: &mut Findings,
) {
    // Without a tree there is nothing in it: a machine that a test made up.
    let Ok(tree) = Fdt::new(platform.tree) else { return };
    let root = tree.root();
    let Some(node) = root.children().find(|child| child.name_without_address() == "chosen") else { return };
    foreign::chosen(&node, found);
    let outer = found.take(Cells::of(&root, "/", Cells::DEFAULT)).unwrap_or(Cells::DEFAULT);
    let above = found.take(Cells::of(&node, "/chosen", outer)).unwrap_or(outer);
    let before = vms.len();
    let mut claims = Vec::new();
    let mut bytes = |module: &Module<'_, 'a>| {
        let range = place_of(module)?;
        claims.push(Claim { range, kind: module.kind, place: module.place.into() });
        blob_at(range).ok_or_else(|| out_of_ram(module.place, range))
    };
    let mut source =
        Source { module_properties: &["compatible", "reg", FILE], bytes: &mut bytes, firmware: None };
    for child in node.children().filter(|child| is(child, DOMAIN)) {
        if domain::is_full(vms.len() - before, MAX_DOMAINS, "/chosen", &child, found) {
            break;
        }
        vms.extend(domain::read(&child, above, &mut source, found));
    }
    let ours = vms.get(before..).unwrap_or_default();
    apart(&claims, platform, found);
    for vm in ours {
        static_memory::fits(vm, platform, found);
        for (piece, claim) in vm.static_memory.iter().flat_map(|piece| claims.iter().map(move |c| (piece, c)))
        {
            if piece.overlaps(&claim.range) {
                found.error(static_memory::overlap(vm, piece, &claim.range, &format!("is {}", claim.place)));
            }
        }
    }
    if !ours.is_empty() {
        for module in platform.modules.iter().filter(|module| module.kind == ModuleKind::Kernel) {
            let what = format_args!("to Xen this would be Dom0; here it is a VM like any other");
            let fix = "Make it a node with compatible = \"xen,domain\" to say what it gets";
            found.warning(wrong("E0229", "/chosen", module.name, what, fix));
        }
    }
}

/// Where a module lies.
fn place_of(module: &Module<'_, '_>) -> Result<HostRange, Problem> {
    let Module { node, place, cells, .. } = module;
    if node.property("reg").is_none() && node.property(FILE).is_some() {
        return Err(
            problem!("E0222", ("{place} {FILE}"); ("a file, which only Xen started by UEFI would load");
            ("Load it and say where in reg, or put it into a bundle")),
        );
    }
    let reg = require(node, place, "reg")?;
    let (value, entry) = (reg.value(), cells.entry());
    let bad = |what: core::fmt::Arguments<'_>| {
        problem!("E0221", ("{place} reg"); ("{what}");
            ("Give one range: {} cells of address and {} of size, {entry} bytes, by the #address-cells and #size-cells of the node above it", cells.address, cells.size))
    };
    if value.len() != entry {
        return Err(bad(format_args!("{} bytes long", value.len())));
    }
    match cells.take(value) {
        Some((start, 0)) => Err(bad(format_args!("no bytes at {start:#x}"))),
        Some((start, size)) => HostRange::new(HostPhysAddr::new(start), size)
            .ok_or_else(|| bad(format_args!("{size:#x} bytes from {start:#x} on end beyond 2^64"))),
        None => Err(bad(format_args!("a number of more than 64 bits"))),
    }
}

/// Checks that no module lies in another's memory: E0223. Several VMs may be made of the same one.
fn apart(claims: &[Claim], platform: &Platform<'_>, found: &mut Findings) {
    let mut overlap = |place: &str, range: &HostRange, other: &HostRange, whose: &str| {
        let what = format_args!("{range} overlaps {other}, {whose}");
        found.error(wrong("E0223", place, "reg", what, "Load them apart"));
    };
    for (n, claim) in claims.iter().enumerate() {
        let range = &claim.range;
        let same = |other: &Claim| (other.range, other.kind) == (claim.range, claim.kind);
        if let Some(other) = claims.iter().take(n).find(|other| other.range.overlaps(range) && !same(other)) {
            overlap(&claim.place, range, &other.range, &other.place);
        }
        if let Some(initrd) = platform.initrd.filter(|initrd| initrd.overlaps(range)) {
            overlap(&claim.place, range, &initrd, "the initrd");
        }
        if let Some(module) = platform.modules.iter().find(|module| module.range.overlaps(range)) {
            overlap(&claim.place, range, &module.range, module.name);
        }
    }
}
