//! Raw properties, cells and addresses of a checked tree.
//!
//! The `fdt` crate finds nodes and properties; what the properties mean is read here, since the crate's own
//! readers panic on short ones, know no `ranges`, and no interrupts of three cells.

use super::check::MAX_DEPTH;
use crate::addr::{Address, HostPhysAddr, HostRange};
use crate::problem;
use crate::problem::Problem;

pub(super) type Node<'b, 'a> = fdt::node::FdtNode<'b, 'a>;

/// Value of a property, or `None`.
#[inline(never)]
pub(super) fn prop<'a>(node: Node<'_, 'a>, name: &str) -> Option<&'a [u8]> {
    node.property(name).map(|p| p.value)
}

/// A property as text: what comes before its first NUL.
#[inline(never)]
pub(super) fn text<'a>(node: Node<'_, 'a>, name: &str) -> Result<Option<&'a str>, Problem> {
    let Some(value) = prop(node, name) else { return Ok(None) };
    let bytes = value.split(|&b| b == 0).next().unwrap_or_default();
    core::str::from_utf8(bytes)
        .map(Some)
        .map_err(|_| bad(node.name, name, "is not text", "Text in UTF-8 belongs there"))
}

/// A property as one number of 4 or 8 bytes.
#[inline(never)]
pub(super) fn number(node: Node<'_, '_>, name: &str) -> Result<Option<u64>, Problem> {
    let Some(value) = prop(node, name) else { return Ok(None) };
    match value.len() {
        4 => Ok(Cells(value).take(1)),
        8 => Ok(Cells(value).take(2)),
        n => Err(problem!("E0105", ("{} {name}", node.name); ("{n} bytes long");
            ("One number of 4 or 8 bytes belongs there"))),
    }
}

/// E0105, for a property that is not what it has to be.
#[inline(never)]
pub(super) fn bad(node: &str, name: &str, what: &str, fix: &str) -> Problem {
    problem!("E0105", ("{node} {name}"); ("{what}"); ("{fix}"))
}

/// Whether a node is in use: no `status`, or "okay" (Devicetree Specification 2.3.4).
#[inline(never)]
pub(super) fn enabled(node: Node<'_, '_>) -> bool {
    match prop(node, "status") {
        None => true,
        Some(value) => value.starts_with(b"ok\0") || value.starts_with(b"okay\0"),
    }
}

/// Whether one of a node's `compatible` strings is among `names`.
#[inline(never)]
pub(super) fn compatible(node: Node<'_, '_>, names: &[&str]) -> bool {
    node.compatible().is_some_and(|c| c.all().any(|have| names.contains(&have)))
}

/// The name without its unit address.
#[inline(never)]
pub(super) fn base_name(name: &str) -> &str {
    let end = name.bytes().position(|b| b == b'@').unwrap_or(name.len());
    name.get(..end).unwrap_or(name)
}

/// Big-endian 32-bit cells, taken from the front.
#[derive(Clone, Copy)]
pub(super) struct Cells<'a>(pub(super) &'a [u8]);

impl Cells<'_> {
    /// A number of `count` cells; `None` at the end, or if it has more than 64 bits.
    #[inline(never)]
    pub(super) fn take(&mut self, count: u32) -> Option<u64> {
        let (number, rest) = self.0.split_at_checked(count as usize * 4)?;
        self.0 = rest;
        number.chunks_exact(4).try_fold(0u64, |sum, cell| {
            let cell = u32::from_be_bytes(cell.try_into().ok()?);
            (sum >> 32 == 0).then_some(sum << 32 | u64::from(cell))
        })
    }
}

/// What a node's children need to know of it.
#[derive(Clone, Copy)]
pub(super) struct Bus<'a> {
    pub(super) address_cells: u32,
    pub(super) size_cells: u32,
    ranges: Option<&'a [u8]>,
    /// Phandle of the interrupt controller, inherited.
    pub(super) interrupt_parent: Option<u32>,
}

impl<'a> Bus<'a> {
    /// Reads `#address-cells` and the rest of `node`; the counts default to 2 and 1 (specification 2.3.5).
    #[inline(never)]
    pub(super) fn of(node: Node<'_, 'a>, above: Option<&Bus<'a>>) -> Self {
        let count =
            |name, default| prop(node, name).and_then(|v| Cells(v).take(1)).map_or(default, |n| n as u32);
        Self {
            address_cells: count("#address-cells", 2).min(8),
            size_cells: count("#size-cells", 1).min(8),
            ranges: prop(node, "ranges"),
            interrupt_parent: interrupt_parent(node).or(above.and_then(|a| a.interrupt_parent)),
        }
    }

    /// The entries of a `reg` (or of anything like one) on this bus.
    pub(super) fn entries(&self, value: &'a [u8]) -> impl Iterator<Item = (u64, u64)> + 'a {
        let (mut cells, address_cells, size_cells) = (Cells(value), self.address_cells, self.size_cells);
        core::iter::from_fn(move || {
            if cells.0.is_empty() || address_cells + size_cells == 0 {
                return None;
            }
            Some((cells.take(address_cells)?, cells.take(size_cells)?))
        })
    }

    /// Entry `n` of `reg` as a range of addresses; `None` after the last. A length that is no multiple of an
    /// entry, or a range that wraps, is E0105.
    #[inline(never)]
    pub(super) fn reg(&self, node: Node<'_, 'a>, n: usize) -> Result<Option<HostRange>, Problem> {
        let value = prop(node, "reg").unwrap_or_default();
        let stride = (self.address_cells + self.size_cells) as usize * 4;
        if self.size_cells == 0 || stride == 0 || !value.len().is_multiple_of(stride) {
            return Err(problem!("E0105", ("{} reg", node.name); ("{} bytes long", value.len());
                ("Entries of {} cells of address and {} of size belong there", self.address_cells, self.size_cells)));
        }
        match self.entries(value.get(n * stride..).unwrap_or_default()).next() {
            Some((start, size)) => range(node, start, size).map(Some),
            None if n < value.len() / stride => Err(bad(
                node.name,
                "reg",
                "has a number of more than 64 bits",
                "Addresses have 64 bits at most",
            )),
            None => Ok(None),
        }
    }

    /// An address on this bus as one of the bus above, if `ranges` says how.
    #[inline(never)]
    fn up(&self, address: u64, above: &Bus<'a>) -> Option<u64> {
        let ranges = self.ranges?;
        if ranges.is_empty() {
            return Some(address);
        }
        let mut cells = Cells(ranges);
        if self.address_cells + above.address_cells + self.size_cells == 0 {
            return None;
        }
        while !cells.0.is_empty() {
            let child = cells.take(self.address_cells);
            let parent = cells.take(above.address_cells)?;
            let size = cells.take(self.size_cells)?;
            if let Some(offset) = child.and_then(|c| address.checked_sub(c))
                && offset < size
            {
                return parent.checked_add(offset);
            }
        }
        None
    }
}

/// A range of host memory; E0105 if it wraps.
pub(super) fn range(node: Node<'_, '_>, start: u64, size: u64) -> Result<HostRange, Problem> {
    HostRange::new(HostPhysAddr::new(start), size).ok_or_else(|| {
        problem!("E0105", ("{} reg", node.name); ("{size:#x} bytes from {start:#x} on"); ("A range ends below 2^64"))
    })
}

/// Phandle in a node's own `interrupt-parent`.
pub(super) fn interrupt_parent(node: Node<'_, '_>) -> Option<u32> {
    prop(node, "interrupt-parent").and_then(|v| Cells(v).take(1)).map(|n| n as u32)
}

/// The buses from the root down to the one that a node is on.
pub(super) type Chain<'a> = heapless::Vec<Bus<'a>, MAX_DEPTH>;

/// Entry `n` of a device's `reg`, as the CPU sees it; `None` if there is no such entry.
///
/// # Errors
/// E0109 if a bus above does not translate the address.
#[inline(never)]
pub(super) fn device<'a>(
    node: Node<'_, 'a>,
    chain: &Chain<'a>,
    n: usize,
) -> Result<Option<HostRange>, Problem> {
    let Some(bus) = chain.last() else { return Ok(None) };
    let Some((start, size)) = bus.entries(prop(node, "reg").unwrap_or_default()).nth(n) else {
        return Ok(None);
    };
    let mut address = start;
    for pair in chain.windows(2).rev() {
        let [above, below] = pair else { continue };
        address = below.up(address, above).ok_or_else(|| {
            problem!("E0109", ("{} reg", node.name); ("{address:#x} is not translated to an address of the CPU's");
                ("The \"ranges\" of every bus above it has to cover it"))
        })?;
    }
    range(node, address, size).map(Some)
}
