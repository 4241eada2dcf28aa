//! A VM as a node of Xen's dom0less binding describes it, wherever the node is.
//!
//! One reader for both ways in: in a bundle a module is a file (`xen,uefi-binary`), in the machine's own tree
//! it lies in memory (`reg`). Binding: Xen, docs/misc/arm/device-tree/booting.txt. What Xen names and
//! Mezzanine cannot give is refused in `foreign`, with the reason.

use super::foreign;
use super::node::{Cells, is, is_any, number, only, require, short, text, wrong};
use super::{Findings, VmConfig, cmdline, cpus, share, static_memory};
use crate::map::{GicVersion, MAX_VCPUS};
use crate::problem;
use crate::problem::Problem;
use alloc::format;
use alloc::vec::Vec;
use dtoolkit::fdt::FdtNode;
use dtoolkit::{Node, Property};

pub(super) const DOMAIN: &str = "xen,domain";
pub(super) const MODULE: &str = "multiboot,module";
pub(super) const KERNEL: &str = "multiboot,kernel";
pub(super) const RAMDISK: &str = "multiboot,ramdisk";
pub(super) const DEVICE_TREE: &str = "multiboot,device-tree";
pub(super) const FILE: &str = "xen,uefi-binary";
pub(super) const FIRMWARE: &str = "mezzanine,firmware";
pub(super) const GIC_VERSION: &str = "mezzanine,gic-version";
pub(super) const WEIGHT: &str = "mezzanine,weight";
pub(super) const CAP: &str = "mezzanine,cap";
pub(super) const DEDICATED: &str = "mezzanine,dedicated";
pub(super) const CONSOLE_LOG: &str = "mezzanine,console-log";
pub(super) const VCPU: &str = "xen,vcpu";
pub(super) const HARD_AFFINITY: &str = "hard-affinity";
pub(super) const STATIC_MEMORY: &str = "xen,static-mem";
pub(super) const STATIC_CELLS: [&str; 2] = ["#xen,static-mem-address-cells", "#xen,static-mem-size-cells"];

/// What Xen 4.4 called them, and takes to this day.
pub(super) const MODULES: &[&str] = &[MODULE, "xen,multiboot-module"];
pub(super) const KERNELS: &[&str] = &[KERNEL, "xen,linux-zimage"];
const RAMDISKS: &[&str] = &[RAMDISK, "xen,linux-initrd"];
const DEVICE_TREES: &[&str] = &[DEVICE_TREE];

/// The properties of a domain that are read here.
pub(super) const PROPERTIES: &[&str] = &[
    "compatible",
    "status",
    "memory",
    "cpus",
    "vpl011",
    FIRMWARE,
    GIC_VERSION,
    WEIGHT,
    CAP,
    DEDICATED,
    CONSOLE_LOG,
    "#address-cells",
    "#size-cells",
    STATIC_MEMORY,
    STATIC_CELLS[0],
    STATIC_CELLS[1],
];

/// VMs that are read from the nodes of a bundle, and that a machine has.
pub(super) const MAX_VMS: usize = 1000;

/// Whether no more VMs are read after `count`: E0227 at the next one's node.
pub(super) fn is_full(
    count: usize,
    most: usize,
    place: &str,
    next: &FdtNode<'_>,
    found: &mut Findings,
) -> bool {
    if count == most {
        found.error(
            problem!("E0227", ("{place}/{}", next.name()); ("more than {most} VMs"); ("Fewer are read")),
        );
    }
    count == most
}

/// What a module is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Kernel,
    Ramdisk,
    DeviceTree,
}

/// Each kind with the names that say so.
const KINDS: &[(Kind, &[&str])] =
    &[(Kind::Kernel, KERNELS), (Kind::Ramdisk, RAMDISKS), (Kind::DeviceTree, DEVICE_TREES)];

/// A module's node on its way to its bytes.
pub(super) struct Module<'n, 'a> {
    pub(super) node: &'n FdtNode<'a>,
    pub(super) place: &'n str,
    pub(super) kind: Kind,
    /// How its `reg` is written.
    pub(super) cells: Cells,
}

/// Nodes of a VM that were read.
#[derive(Default)]
struct Seen {
    kinds: Vec<Kind>,
    /// vCPUs with a node, a bit each.
    vcpus: u64,
}

/// How the place where the nodes are has it.
pub(super) struct Source<'s, 'a> {
    /// Properties of a module's node, besides a kernel's `bootargs`.
    pub(super) module_properties: &'static [&'static str],
    /// Finds a module's bytes.
    pub(super) bytes: &'s mut dyn FnMut(&Module<'_, 'a>) -> Result<&'a [u8], Problem>,
    /// Finds a file by its path, for the property at a place; where there are files.
    #[allow(clippy::type_complexity, reason = "one closure, named where it is made")]
    pub(super) firmware: Option<&'s mut dyn FnMut(&str, &str) -> Result<&'a [u8], Problem>>,
}

/// Reads the VM of a node below one that has `above`; `None` if its `status` says that it is not to be, or if
/// something that a VM has to have could not be read.
///
/// Finds E0207 to E0209, E0220 to E0231: what is wrong with the node, and where.
pub(super) fn read<'a>(
    node: &FdtNode<'a>,
    above: Cells,
    source: &mut Source<'_, 'a>,
    found: &mut Findings,
) -> Option<VmConfig<'a>> {
    let place = short(format_args!("/chosen/{}", node.name()));
    foreign::properties(node, &place, found);
    if let Some(status) = node.property("status")
        && !matches!(found.take(text(&status, &place)), Some("okay" | "ok") | None)
    {
        let what = format_args!("this VM is left out");
        found.warning(wrong("E0229", &place, "status", what, "Say \"okay\", or nothing, to have it"));
        return None;
    }
    let memory = found.take(memory(node, &place));
    let cpus =
        found.take(require(node, &place, "cpus").and_then(|cpus| number(&cpus, &place, "a number of vCPUs")));
    let gic = found.take(gic(node, &place));
    let chosen_memory = found.take(static_memory::read(node, &place, above));
    let mut vm = VmConfig {
        name: short(format_args!("{}", node.name_without_address())),
        memory: memory.unwrap_or_default(),
        vcpus: cpus.map_or(0, |cpus| u16::try_from(cpus).unwrap_or(u16::MAX)),
        gic: gic.flatten(),
        static_memory: chosen_memory.unwrap_or_default(),
        without_uart: node.property("vpl011").is_none(),
        place,
        ..VmConfig::default()
    };
    shares(node, &mut vm, found);
    let cells = found.take(Cells::of(node, &vm.place, above)).unwrap_or(above);
    let mut seen = Seen::default();
    let mut whole = true;
    for child in node.children() {
        let read = sub_node(&child, cells, source, &mut seen, &mut vm, found);
        whole &= found.take(read).is_some();
    }
    let read = firmware(node, source, &vm.place);
    match found.take(read) {
        Some(file) => vm.firmware = file,
        None => whole = false,
    }
    if vm.affinity.iter().all(|mask| *mask == 0) {
        vm.affinity.clear();
    } else {
        vm.affinity.resize(vm.vcpus.min(MAX_VCPUS).into(), 0);
    }
    if !seen.kinds.contains(&Kind::Kernel) && node.property(FIRMWARE).is_none() {
        found.error(problem!("E0209", ("{}", vm.place); ("no kernel");
            ("A node with compatible = \"{KERNEL}\", \"{MODULE}\" belongs in it, or {FIRMWARE} in a bundle")));
        whole = false;
    }
    (whole && memory.is_some() && cpus.is_some() && gic.is_some()).then_some(vm)
}

/// The ROM image of a VM, which is a file of a bundle.
fn firmware<'a>(
    node: &FdtNode<'a>,
    source: &mut Source<'_, 'a>,
    place: &str,
) -> Result<Option<&'a [u8]>, Problem> {
    let Some(property) = node.property(FIRMWARE) else { return Ok(None) };
    match &mut source.firmware {
        Some(find) => find(text(&property, place)?, place).map(Some),
        None => Err(wrong(
            "E0222",
            place,
            FIRMWARE,
            format_args!("a file, and there is no bundle here"),
            "Put the VM into a bundle",
        )),
    }
}

/// Bytes of memory that a VM asks for.
fn memory(node: &FdtNode<'_>, place: &str) -> Result<u64, Problem> {
    let kib = number(&require(node, place, "memory")?, place, "KiB as <HIGH LOW>")?;
    kib.checked_mul(1024).ok_or_else(|| {
        let what = format_args!("{kib} KiB are more than there can be");
        wrong("E0208", place, "memory", what, "Give KiB as <HIGH LOW>")
    })
}

/// Reads a VM's share of the CPUs, and how much of its output is kept.
fn shares(node: &FdtNode<'_>, vm: &mut VmConfig<'_>, found: &mut Findings) {
    let place = vm.place.as_str();
    let mut value = |name, right| found.take(number(&node.property(name)?, place, right));
    let [weight, cap] = [value(WEIGHT, "1 to 65535"), value(CAP, "1 to 100")];
    let log = value(CONSOLE_LOG, "a number of bytes");
    vm.weight = weight.and_then(|n| found.take(share::weight(place, WEIGHT, n)));
    vm.cap = cap.and_then(|n| found.take(share::cap(place, CAP, n)));
    vm.console_log = log.and_then(|n| found.take(share::console_log(place, CONSOLE_LOG, n)));
    if let Some(property) = node.property(DEDICATED) {
        vm.dedicated = true;
        if !property.value().is_empty() {
            let what = format_args!("has a value, and says yes by being there");
            found.error(wrong("E0208", place, DEDICATED, what, "Write it without one, or take it out"));
        }
    }
}

/// Reads where one vCPU may run: Xen's `xen,vcpu`.
fn vcpu(
    node: &FdtNode<'_>,
    place: &str,
    seen: &mut Seen,
    vm: &mut VmConfig<'_>,
    found: &mut Findings,
) -> Result<(), Problem> {
    only(node, place, &["compatible", "id", HARD_AFFINITY], found);
    let id = number(&require(node, place, "id")?, place, "a vCPU's number, from 0 on")?;
    let count = vm.vcpus.min(MAX_VCPUS);
    if id >= count.into() {
        // Of a wrong count there is word already.
        let what = format_args!("there is no vCPU {id} in a VM of {count}");
        return if vm.vcpus == count && count != 0 {
            Err(wrong("E0335", place, "id", what, "They count from 0 on"))
        } else {
            Ok(())
        };
    }
    let bit = 1u64.checked_shl(id as u32).unwrap_or_default();
    if seen.vcpus & bit != 0 {
        let what = format_args!("{id}, and another node is for that vCPU too");
        return Err(wrong("E0336", place, "id", what, "Give each vCPU one node at most"));
    }
    seen.vcpus |= bit;
    let Some(list) = node.property(HARD_AFFINITY) else { return Ok(()) };
    let mask = cpus::parse_cpus(place, HARD_AFFINITY, text(&list, place)?)?;
    vm.affinity.resize(count.into(), 0);
    if let Some(own) = vm.affinity.get_mut(id as usize) {
        *own = mask;
    }
    Ok(())
}

/// Reads a node within a domain's: a module, or something of Xen's.
fn sub_node<'a>(
    node: &FdtNode<'a>,
    cells: Cells,
    source: &mut Source<'_, 'a>,
    seen: &mut Seen,
    vm: &mut VmConfig<'a>,
    found: &mut Findings,
) -> Result<(), Problem> {
    let place = short(format_args!("{}/{}", vm.place, node.name()));
    if foreign::node(node, &place, found) {
        return Ok(());
    }
    if is(node, VCPU) {
        return vcpu(node, &place, seen, vm, found);
    }
    let mut kinds = KINDS.iter().filter(|(_, names)| is_any(node, names));
    let (Some((kind, _)), None, true) = (kinds.next(), kinds.next(), is_any(node, MODULES)) else {
        return Err(problem!("E0208", ("{place} compatible"); ("a node of no known kind");
            ("\"{KERNEL}\", \"{RAMDISK}\" and \"{DEVICE_TREE}\" are known, each with \"{MODULE}\"")));
    };
    let mut known = source.module_properties.to_vec();
    if *kind == Kind::Kernel {
        known.push("bootargs");
    }
    only(node, &place, &known, found);
    if seen.kinds.contains(kind) {
        let what = format_args!("a second one of its kind in this VM");
        let fix = "A VM has one kernel, and at most one ramdisk and one device tree";
        return Err(wrong("E0208", &place, "compatible", what, fix));
    }
    seen.kinds.push(*kind);
    if *kind == Kind::Kernel
        && let Some(bootargs) = node.property("bootargs")
    {
        let line = text(&bootargs, &place)?;
        cmdline::length(line, &format!("{place} bootargs"))?;
        vm.cmdline = line;
    }
    let bytes = (source.bytes)(&Module { node, place: &place, kind: *kind, cells })?;
    match kind {
        Kind::Kernel => vm.kernel = Some(bytes),
        Kind::Ramdisk => vm.initrd = Some(bytes),
        Kind::DeviceTree => vm.partial_tree = Some(bytes),
    }
    Ok(())
}

fn gic(node: &FdtNode<'_>, place: &str) -> Result<Option<GicVersion>, Problem> {
    let Some(property) = node.property(GIC_VERSION) else { return Ok(None) };
    match number(&property, place, "2 or 3")? {
        2 => Ok(Some(GicVersion::V2)),
        3 => Ok(Some(GicVersion::V3)),
        n => Err(wrong("E0208", place, GIC_VERSION, format_args!("{n}"), "2 and 3 are known")),
    }
}
