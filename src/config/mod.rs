//! How guests arrive: from a bundle or from boot modules, each way into the same [`VmConfig`].
//!
//! Nothing here starts anything: [`read`] either knows all of the machine's VMs, checked, or says what is
//! wrong with them. The host tool checks what it packed with the same code.

pub mod bundle;
mod check;
mod cmdline;
mod cpus;
mod dom0less;
mod domain;
mod findings;
mod foreign;
mod modules;
mod node;
mod options;
mod placement;
mod share;
mod static_memory;
#[cfg(test)]
mod tests;

pub(crate) use check::no_gicv3;
pub use check::{MAX_NAME, MIN_MEMORY, check, check_all, is_name};
pub use cpus::{CpuList, MAX_CPUS, parse_cpus};
pub use dom0less::modules as domain_modules;
pub use findings::Findings;
pub use options::{Options, parse_size};
pub use placement::place;
pub use share::{DEFAULT_CONSOLE_LOG, DEFAULT_WEIGHT, NO_CAP, cap, console_log, weight};
pub use static_memory::set_aside;

use crate::addr::{BLOCK_2M, HostRange, PAGE_SIZE};
use crate::fdt::{self, CpuStatus, Gic, Partial, Platform};
use crate::guest::rom;
use crate::map::GicVersion;
use crate::memory::Memory;
use crate::problem;
use crate::problem::Problem;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// One VM as somebody asked for it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct VmConfig<'a> {
    /// Its name: 1 to 31 of `A-Za-z0-9_-`.
    pub name: String,
    /// The kernel's file: needed unless there is firmware.
    pub kernel: Option<&'a [u8]>,
    /// The initrd's file.
    pub initrd: Option<&'a [u8]>,
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// Bytes of RAM.
    pub memory: u64,
    /// Virtual CPUs.
    pub vcpus: u16,
    /// The interrupt controller, where somebody cares.
    pub gic: Option<GicVersion>,
    /// A ROM image that lies at guest address 0 and is entered there; a kernel then only lies in memory.
    pub firmware: Option<&'a [u8]>,
    /// A device tree of which nodes go into the guest's: Xen's `multiboot,device-tree`.
    pub partial_tree: Option<&'a [u8]>,
    /// Host RAM that its memory has to be, in this order: Xen's `xen,static-mem`. Empty: whatever is free.
    pub static_memory: Vec<HostRange>,
    /// Its share of a busy CPU beside others' shares, where somebody cares: `mezzanine,weight`.
    pub weight: Option<u16>,
    /// Percent of a CPU that each of its vCPUs has at most: `mezzanine,cap`.
    pub cap: Option<u8>,
    /// The CPUs that each vCPU may run on, a bit each by their place in the tree: Xen's `hard-affinity`. No bits: all
    /// of them, for that vCPU; no masks: for all vCPUs.
    pub affinity: Vec<u64>,
    /// Each vCPU has a CPU to itself: `mezzanine,dedicated`.
    pub dedicated: bool,
    /// Bytes of its output that are kept while its screen is not shown: `mezzanine,console-log`.
    pub console_log: Option<u32>,
    /// It has no serial port: one of Xen's domains without `vpl011`.
    pub without_uart: bool,
    /// Where it is described, for messages.
    pub place: String,
}

impl VmConfig<'_> {
    /// A VM with a name and nothing else.
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), place: format!("vm.{name}"), ..Self::default() }
    }

    /// Its partial tree, checked, with warnings of what in it is not for the guest.
    ///
    /// # Errors
    /// E0240 to E0250.
    pub fn partial(&self, warnings: &mut Vec<Problem>) -> Result<Option<Partial<'_>>, Problem> {
        let read = |blob| Partial::read(blob, &format!("{} partial tree", self.place), warnings);
        self.partial_tree.map(read).transpose()
    }

    /// Bytes of the machine's RAM that it takes: its own RAM, and its firmware's ROM.
    pub fn host_bytes(&self) -> u64 {
        self.memory.saturating_add(self.firmware.map_or(0, rom::host_bytes))
    }
}

impl fmt::Debug for VmConfig<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kernel, initrd) = (self.kernel.map_or(0, <[u8]>::len), self.initrd.map_or(0, <[u8]>::len));
        write!(
            f,
            "{} ({}: firmware {} bytes, kernel {kernel} bytes, initrd {initrd} bytes, ",
            self.name,
            self.place,
            self.firmware.map_or(0, <[u8]>::len)
        )?;
        write!(f, "{}, {} vCPUs, GIC {:?}, {:?})", Bytes(self.memory), self.vcpus, self.gic, self.cmdline)
    }
}

/// All that a machine is to do.
#[derive(Debug)]
pub struct MachineConfig<'a> {
    /// Its VMs, checked.
    pub vms: Vec<VmConfig<'a>>,
    /// Mezzanine's own options.
    pub options: Options,
    /// What looks wrong but may be right.
    pub warnings: Vec<Problem>,
}

/// What the machine has to give.
#[derive(Clone, Copy, Debug)]
pub struct HostFacts {
    /// CPUs that run guests.
    pub cpus: u16,
    /// Bytes of RAM free for guests.
    pub memory: u64,
    /// The interrupt controller of a guest that names none.
    pub gic: GicVersion,
}

/// Reads and checks everything that was handed over at boot: the bundle in the initrd, Xen's dom0less nodes, then
/// plain modules.
///
/// `blob_at` makes a range of host memory readable, or says that it is not all RAM.
///
/// # Errors
/// E02xx about the way in, E03xx about a VM, E04xx about its files.
pub fn read<'a>(
    platform: &Platform<'a>,
    blob_at: &dyn Fn(HostRange) -> Option<&'a [u8]>,
    host: &HostFacts,
) -> Result<MachineConfig<'a>, Problem> {
    let mut found = Findings::default();
    let options = Options::parse(platform.bootargs)?;
    let mut vms = Vec::new();
    if let Some(range) = platform.initrd {
        let bytes = blob_at(range).ok_or_else(|| out_of_ram("/chosen linux,initrd-start", range))?;
        vms = bundle::read_all(bytes, &mut found);
    }
    dom0less::read(platform, &mut |range| blob_at(range), &mut vms, &mut found);
    modules::read(platform, blob_at, host, &options, &mut vms, &mut found);
    check_all(&vms, Some(host), &mut found);
    let warnings = found.settle()?;
    Ok(MachineConfig { vms, options, warnings })
}

/// Checks a whole machine's tree as [`read`] would, without the memory that it speaks of: the files of its VMs are
/// unknown, and so is what is in a bundle. Returns warnings.
///
/// Without `host`, what the machine has to give is taken from the tree, less what Mezzanine itself needs.
///
/// # Errors
/// E01xx about the tree, E02xx about the ways in, E03xx about a VM.
pub fn check_tree(bytes: &[u8], host: Option<&HostFacts>) -> Result<Vec<Problem>, Problem> {
    let mut found = Findings::default();
    check_tree_all(bytes, host, &mut found);
    found.settle()
}

/// What a machine's tree says of it.
#[derive(Clone, Copy, Debug)]
pub struct TreeFacts {
    /// What it has to give.
    pub host: HostFacts,
    /// VMs outside of a bundle.
    pub vms: usize,
    /// Whether there is an initrd: a bundle, which nobody has looked into.
    pub bundle: bool,
}

/// The same, with everything that is wrong, and what the tree says.
pub fn check_tree_all(bytes: &[u8], host: Option<&HostFacts>, found: &mut Findings) -> Option<TreeFacts> {
    let mut tree = bytes.to_vec();
    fdt::squeeze(&mut tree);
    let platform = found.take(Platform::read(&tree))?;
    fdt::contradictions(&platform, &mut |problem| found.error(problem));
    let options = found.take(Options::parse(platform.bootargs)).unwrap_or_default();
    let mut blobs = Vec::new();
    let mut vms = Vec::new();
    let in_ram = |range: HostRange| platform.is_mapped(range).then_some(&[][..]);
    if let Some(range) = platform.initrd.filter(|range| !platform.is_mapped(*range)) {
        found.error(out_of_ram("/chosen linux,initrd-start", range));
    }
    let mut blob_at = |range: HostRange| {
        blobs.push(range);
        in_ram(range)
    };
    dom0less::read(&platform, &mut blob_at, &mut vms, found);
    let host = host.copied().unwrap_or_else(|| HostFacts::of(&platform, &blobs));
    modules::read(&platform, &in_ram, &host, &options, &mut vms, found);
    if !vms.is_empty() || platform.initrd.is_none() {
        check::outside(&vms, Some(&host), found);
    }
    Some(TreeFacts { host, vms: vms.len(), bundle: platform.initrd.is_some() })
}

/// Bytes that guests may have of what is free: whole blocks of 2 MiB, less [`OWN_BLOCKS`].
pub fn for_guests(memory: &Memory) -> u64 {
    let whole: u64 = memory.ranges().iter().map(|range| range.align_in(BLOCK_2M).size()).sum();
    whole.saturating_sub(OWN_BLOCKS)
}

/// What [`for_guests`] keeps back for VMs' tables and heap.
const OWN_BLOCKS: u64 = 2 * BLOCK_2M;
/// What a VM takes at EL2 at most: heap, tables, and the pages of a heap in its pieces.
const VM_BYTES: u64 = 192 << 10;
/// RAM that its image and its tree keep from guests, on whatever machine: a block each.
const IMAGE_AND_TREE: u64 = 2 * BLOCK_2M;

impl HostFacts {
    /// Bytes of RAM for so many VMs, of which [`OWN_BLOCKS`] may not be enough for what they take at EL2.
    fn memory_for(&self, vms: &[VmConfig<'_>]) -> u64 {
        let vcpus: u64 = vms.iter().map(|vm| u64::from(vm.vcpus)).sum();
        let taken =
            (vms.len() as u64).saturating_mul(VM_BYTES).saturating_add(vcpus.saturating_mul(PAGE_SIZE));
        self.memory.saturating_sub(taken.next_multiple_of(BLOCK_2M).saturating_sub(OWN_BLOCKS))
    }

    /// What a machine has to give by its tree, less `taken`.
    fn of(platform: &Platform<'_>, taken: &[HostRange]) -> Self {
        let mut memory = Memory::new();
        platform.usable(&[]).iter().for_each(|piece| memory.add(*piece));
        taken.iter().for_each(|range| memory.reserve(range.align_out(PAGE_SIZE)));
        let cpus = platform.cpus.iter().filter(|cpu| cpu.status == CpuStatus::Okay).count();
        let cpus = cpus.clamp(1, MAX_CPUS.into());
        let gic = if matches!(platform.gic, Gic::V2 { .. }) { GicVersion::V2 } else { GicVersion::V3 };
        Self { cpus: cpus as u16, memory: for_guests(&memory).saturating_sub(IMAGE_AND_TREE), gic }
    }
}

fn out_of_ram(place: &str, range: HostRange) -> Problem {
    problem!("E0202", ("{place}"); ("{range} is not all within the machine's RAM");
        ("Have the boot loader put it into RAM, apart from everything else"))
}

/// A number of bytes as people write it: `256M`.
#[derive(Clone, Copy)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "G"), (20, "M"), (10, "K")] {
            if self.0 >> shift > 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{} bytes", self.0)
    }
}
