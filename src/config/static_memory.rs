//! Host RAM that somebody chose for a VM: Xen's `xen,static-mem`.
//!
//! Only which host RAM it is can be chosen. In the guest's address space it lies where all guests' RAM does.

use super::domain::{STATIC_CELLS, STATIC_MEMORY};
use super::node::{Cells, count, wrong};
use super::{Bytes, Findings, VmConfig};
use crate::addr::{Address, HostPhysAddr, HostRange, PAGE_SIZE};
use crate::fdt::Platform;
use crate::memory::Memory;
use crate::problem;
use crate::problem::Problem;
use alloc::vec::Vec;
use dtoolkit::fdt::FdtNode;
use dtoolkit::{Node, Property};

/// Pieces that one VM's memory may be of.
const MAX_PIECES: usize = 32;

/// The pieces in a domain's node, in order; none if it does not choose.
///
/// Their cells are given by properties of their own, or, as Xen has it since 4.17, are those of the node above.
pub(super) fn read(node: &FdtNode<'_>, place: &str, above: Cells) -> Result<Vec<HostRange>, Problem> {
    let [address, size] = STATIC_CELLS;
    let cells = match (count(node, place, address)?, count(node, place, size)?) {
        (None, None) => above,
        (Some(address), Some(size)) => Cells { address, size },
        (Some(_), None) => return Err(alone(place, address, size)),
        (None, Some(_)) => return Err(alone(place, size, address)),
    };
    let mut pieces = Vec::new();
    let Some(property) = node.property(STATIC_MEMORY) else { return Ok(pieces) };
    let value = property.value();
    let bad = |what: core::fmt::Arguments<'_>| {
        problem!("E0231", ("{place} {STATIC_MEMORY}"); ("{what}");
            ("Give 1 to {MAX_PIECES} ranges in whole pages of 4K, each {} cells of address and {} of size", cells.address, cells.size))
    };
    if value.is_empty()
        || !value.len().is_multiple_of(cells.entry())
        || value.len() / cells.entry() > MAX_PIECES
    {
        return Err(bad(format_args!("{} bytes long", value.len())));
    }
    for entry in value.chunks_exact(cells.entry()) {
        let range =
            cells.take(entry).and_then(|(start, size)| HostRange::new(HostPhysAddr::new(start), size));
        match range {
            Some(range) if range.is_empty() => {
                return Err(bad(format_args!("an empty range at {}", range.start())));
            }
            Some(range) if range.align_in(PAGE_SIZE) != range => {
                return Err(bad(format_args!("{range} is not in whole pages")));
            }
            Some(range) => pieces.push(range),
            None => return Err(bad(format_args!("a range that ends beyond 2^64"))),
        }
    }
    Ok(pieces)
}

fn alone(place: &str, given: &str, missing: &str) -> Problem {
    problem!("E0231", ("{place} {given}"); ("there without {missing}"); ("Give both, or none to have those of the node above"))
}

/// Checks VMs' pieces against what they add up to, and against each other: E0230, E0232.
pub(super) fn check(vms: &[VmConfig<'_>], found: &mut Findings) {
    for (n, vm) in vms.iter().enumerate().filter(|(_, vm)| !vm.static_memory.is_empty()) {
        let sum = vm.static_memory.iter().fold(0u64, |sum, piece| sum.saturating_add(piece.size()));
        if sum != vm.memory {
            let what = format_args!("{} in all, and memory says {}", Bytes(sum), Bytes(vm.memory));
            found.error(wrong("E0230", &vm.place, STATIC_MEMORY, what, "Make them the same"));
        }
        let earlier =
            vms.iter().take(n).flat_map(|vm| vm.static_memory.iter().map(|piece| (piece, &vm.place)));
        for (m, piece) in vm.static_memory.iter().enumerate() {
            let own = vm.static_memory.iter().take(m).map(|piece| (piece, &vm.place));
            if let Some((other, whose)) = earlier.clone().chain(own).find(|(other, _)| other.overlaps(piece))
            {
                let what = format_args!("{piece} overlaps {other} of {whose}");
                found.error(wrong("E0232", &vm.place, STATIC_MEMORY, what, "Give each VM RAM of its own"));
            }
        }
    }
}

/// Checks a VM's pieces against the machine that its tree describes: E0232.
pub(super) fn fits(vm: &VmConfig<'_>, platform: &Platform<'_>, found: &mut Findings) {
    for piece in &vm.static_memory {
        if !platform.ram.iter().any(|bank| bank.encloses(piece)) {
            let bank = platform.ram.iter().max_by_key(|bank| bank.size()).copied().unwrap_or_default();
            found.error(
                problem!("E0232", ("{} {STATIC_MEMORY}", vm.place); ("{piece} is not all within one bank of RAM");
                ("The largest bank is {bank}")),
            );
        }
        let taken = platform.reserved.iter().map(|kept| (kept.range, "is reserved for the firmware"));
        let modules = platform.modules.iter().map(|module| (module.range, "is a boot module"));
        let initrd = platform.initrd.iter().map(|range| (*range, "is the initrd"));
        if let Some((range, what)) =
            taken.chain(modules).chain(initrd).find(|(range, _)| range.overlaps(piece))
        {
            found.error(overlap(vm, piece, &range, what));
        }
    }
}

/// A piece that is somebody's already; `what` says whose.
pub(super) fn overlap(vm: &VmConfig<'_>, piece: &HostRange, range: &HostRange, what: &str) -> Problem {
    wrong(
        "E0232",
        &vm.place,
        STATIC_MEMORY,
        format_args!("{piece} overlaps {range}, which {what}"),
        "Choose other RAM",
    )
}

/// Sets aside what was chosen, before anybody else takes memory.
///
/// # Errors
/// E0232 for what is not free.
pub fn set_aside(vms: &[VmConfig<'_>], memory: &mut Memory) -> Result<(), Problem> {
    for vm in vms {
        for piece in &vm.static_memory {
            if !memory.keep(*piece) {
                let free = memory.largest(PAGE_SIZE).unwrap_or_default();
                return Err(
                    problem!("E0232", ("{} {STATIC_MEMORY}", vm.place); ("{piece} is not all free RAM");
                    ("Choose other RAM: the largest that is free is {free}")),
                );
            }
        }
    }
    Ok(())
}
