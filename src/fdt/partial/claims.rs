//! What a partial tree may not claim: addresses, interrupts, devices of the machine's.

use super::nodes::Nodes;
use crate::addr::{Address, GuestPhysAddr, GuestRange};
use crate::map;
use crate::problem::Problem;

/// Why devices are refused.
const NOT_YET: &str = "no devices are assigned to guests yet";

/// Xen's words for a device of the machine's.
const ASSIGNED: &[&str] = &["xen,reg", "xen,path", "xen,force-assign-without-iommu"];
/// Words for interrupts that the GIC would deliver.
const INTERRUPTS: &[&str] = &["interrupts", "interrupts-extended", "interrupt-map"];

/// Beginnings of `compatible` of what a guest has and can have once: firmware, timers, interrupt controllers.
const ONCE: &[&[u8]] =
    &[b"arm,psci", b"arm,armv", b"arm,gic", b"arm,cortex-", b"arm,pl390", b"qcom,msm-qgic"];

/// What says of a node that it is memory or a CPU.
const TYPE: &str = "device_type";

/// Checks all nodes.
pub(super) fn check(nodes: &Nodes<'_, '_>) -> Result<(), Problem> {
    for n in 0..nodes.list.len() {
        let has = |names: &[&'static str]| names.iter().copied().find(|name| nodes.value(n, name).is_some());
        if let Some(name) = has(ASSIGNED) {
            let what = format_args!("a device of the machine's, and {NOT_YET}");
            return Err(nodes.wrong("E0247", n, name, what, "Take the node out"));
        }
        if let Some(name) = has(INTERRUPTS) {
            let what = format_args!("claims interrupts, and {NOT_YET}");
            return Err(nodes.wrong(
                "E0246",
                n,
                name,
                what,
                "Take it out: a driver that can do without polls",
            ));
        }
        if nodes.value(n, TYPE).is_some_and(|kind| matches!(kind, b"memory\0" | b"cpu\0")) {
            let what = format_args!("memory or a CPU, and the guest has its own");
            return Err(nodes.wrong(
                "E0245",
                n,
                TYPE,
                what,
                "Take the node out; the VM's memory and cpus say what it gets",
            ));
        }
        let kinds = nodes.value(n, "compatible").unwrap_or_default();
        if kinds.split(|&b| b == 0).any(|kind| ONCE.iter().any(|once| kind.starts_with(once))) {
            let what = format_args!("what the guest has one of already");
            return Err(nodes.wrong("E0245", n, "compatible", what, "Take the node out"));
        }
        for (name, stride) in [("ranges", false), ("dma-ranges", false), ("reg", true)] {
            shape(nodes, n, name, stride)?;
        }
        if let Some(reg) = nodes.value(n, "reg") {
            address(nodes, n, reg)?;
        }
    }
    Ok(())
}

/// Counts of cells in an entry of a property: address and size, or address here, address above and size.
fn entry(nodes: &Nodes<'_, '_>, n: usize, reg: bool) -> [u32; 3] {
    let above = nodes.cells_above(n);
    let own = nodes.list.get(n).map_or([2, 1], |entry| entry.cells);
    if reg { [above[0], 0, above[1]] } else { [own[0], above[0], own[1]] }
}

/// Whether a property is made of whole entries.
fn shape(nodes: &Nodes<'_, '_>, n: usize, name: &str, reg: bool) -> Result<(), Problem> {
    let Some(value) = nodes.value(n, name) else { return Ok(()) };
    let [first, second, size] = entry(nodes, n, reg);
    let stride = (first + second + size) as usize * 4;
    let fits = if stride == 0 { value.is_empty() } else { value.len().is_multiple_of(stride) };
    if fits && !(reg && value.is_empty()) {
        return Ok(());
    }
    let what = format_args!("{} bytes long, where entries have {stride}", value.len());
    Err(nodes.wrong("E0248", n, name, what, "Keep to the #address-cells and #size-cells that hold there"))
}

/// Refuses a `reg` that the CPU would see.
fn address(nodes: &Nodes<'_, '_>, n: usize, reg: &[u8]) -> Result<(), Problem> {
    let [first, _, size] = entry(nodes, n, true);
    // Where nothing has a size, a `reg` is a number on some bus.
    if size == 0 {
        return Ok(());
    }
    for piece in reg.chunks_exact((first + size) as usize * 4) {
        let (start, size) = piece.split_at_checked(first as usize * 4).unwrap_or_default();
        let Some(start) = up(nodes, n, wide(start)) else { continue };
        let range = GuestRange::new(GuestPhysAddr::new(start), wide(size));
        let whose = range.and_then(|range| own(&range)).unwrap_or(NOT_YET);
        let what = format_args!("claims address {start:#x}: {whose}");
        return Err(nodes.wrong("E0245", n, "reg", what, "Take it out; what is no hardware has no address"));
    }
    Ok(())
}

/// Who has a part of `range` in a guest's map.
fn own(range: &GuestRange) -> Option<&'static str> {
    let slots = map::VIRTIO_STRIDE.wrapping_mul(u64::from(map::VIRTIO_COUNT));
    let all = [
        ("GICD", map::GICD),
        ("GICC", map::GICC),
        ("GICR", map::gicr(map::MAX_VCPUS)),
        ("PL011", map::UART),
        ("PL031", map::RTC),
        ("PL061", map::PL061),
        ("PV_TIME records", map::PV_TIME),
        ("virtio-mmio", GuestRange::new(map::VIRTIO_BASE, slots).unwrap_or_default()),
        ("RAM, or beyond it", GuestRange::between(map::RAM_BASE, GuestPhysAddr::at(u64::MAX))),
    ];
    all.iter().find(|(_, own)| own.overlaps(range)).map(|(name, _)| *name)
}

/// An address on the bus that node `n` is on, as the guest's CPU would see it; `None` if it would not.
fn up(nodes: &Nodes<'_, '_>, n: usize, mut address: u64) -> Option<u64> {
    let mut n = n;
    while let Some(bus) = nodes.above(n) {
        let ranges = nodes.value(bus, "ranges")?;
        let [here, there, size] = entry(nodes, bus, false).map(|cells| cells as usize * 4);
        let stride = (here + there + size).max(4);
        let window = ranges.chunks_exact(stride).find_map(|window| {
            let offset = address.checked_sub(wide(window.get(..here)?))?;
            let to = wide(window.get(here..here + there)?).checked_add(offset)?;
            (offset < wide(window.get(here + there..)?)).then_some(to)
        });
        if !ranges.is_empty() {
            address = window?;
        }
        n = bus;
    }
    Some(address)
}

/// The lower 64 bits of a number in cells.
fn wide(cells: &[u8]) -> u64 {
    cells.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}
