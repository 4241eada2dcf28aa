//! Reads the machine's tree into a [`Platform`], and writes a guest's.
//!
//! [`Platform::read`] runs first of all on a CPU whose MMU is off: it allocates nothing, takes no lock, and
//! keeps what it found in fixed arrays. The tree comes from firmware, a boot loader or a person, so a damaged
//! one is a [`Problem`], never a panic: `dtoolkit` checks the structure, then the `fdt` crate walks it.

mod check;
mod flat;
pub mod guest;
mod partial;
mod read;
mod sound;
#[cfg(test)]
pub(crate) mod tests;
mod tree;

pub use check::{squeeze, total_size};
pub(crate) use flat::Flat;
pub use partial::Partial;
pub use sound::contradictions;

use crate::addr::{Address, HostPhysAddr, HostRange, PAGE_SIZE};
use crate::machine::IntId;
use crate::problem::Problem;
use dtoolkit::fdt::{FdtNode, FdtProperty};
use dtoolkit::{Node, Property};
use heapless::Vec;

/// Banks of RAM that a [`Platform`] holds.
pub const MAX_BANKS: usize = 32;
/// Reserved ranges that a [`Platform`] holds.
pub const MAX_RESERVED: usize = 64;
/// CPUs that a [`Platform`] holds; further ones are counted and left alone.
pub const MAX_CPUS: usize = 128;
/// Regions of redistributors of a GICv3.
pub const MAX_REDISTRIBUTORS: usize = 8;
/// Boot modules that a [`Platform`] holds.
pub const MAX_MODULES: usize = 32;
/// Pieces of usable RAM that [`Platform::usable`] returns.
pub const MAX_USABLE: usize = 96;

/// The machine as its tree describes it.
#[derive(Debug, Default)]
pub struct Platform<'a> {
    /// Root `model`, or nothing.
    pub model: &'a str,
    /// Root `compatible`, NUL between names; see [`Platform::is`].
    compatible: &'a [u8],
    /// All banks of RAM.
    pub ram: Vec<HostRange, MAX_BANKS>,
    /// What the firmware keeps for itself, wherever it says so.
    pub reserved: Vec<Reserved, MAX_RESERVED>,
    /// The CPUs in the order of the tree.
    pub cpus: Vec<Cpu, MAX_CPUS>,
    /// CPUs beyond [`MAX_CPUS`].
    pub cpus_left_out: usize,
    /// The interrupt controller.
    pub gic: Gic,
    /// The interrupt by which list registers ask for service.
    pub maintenance: Option<IntId>,
    /// The architected timers' interrupts; none on a machine without a GIC.
    pub timer: TimerInts,
    /// The console.
    pub uart: Option<Uart<'a>>,
    /// Registers of a PL031 clock.
    pub rtc: Option<HostRange>,
    /// How to talk to the firmware, if it can be talked to.
    pub psci: Option<Psci>,
    /// Our own options, `/chosen/bootargs`.
    pub bootargs: &'a str,
    /// `/chosen/linux,initrd-start` and `-end`.
    pub initrd: Option<HostRange>,
    /// `/chosen/kaslr-seed`.
    pub kaslr_seed: Option<u64>,
    /// `/chosen/rng-seed`: bytes from the firmware's random number generator, or none.
    pub rng_seed: &'a [u8],
    /// Boot modules under `/chosen`.
    pub modules: Vec<Module<'a>, MAX_MODULES>,
    /// The tree itself, for what is read once there is a heap.
    pub tree: &'a [u8],
}

/// Memory that somebody else uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserved {
    /// Where.
    pub range: HostRange,
    /// It must not be mapped, not even by EL2.
    pub no_map: bool,
}

/// One CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Affinity fields of its MPIDR_EL1: bits 39:32 and 23:0.
    pub affinity: u64,
    /// Whether it may be started.
    pub status: CpuStatus,
    /// How it is started.
    pub enable: EnableMethod,
}

/// `status` of a CPU's node (Devicetree Specification 3.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuStatus {
    /// In order.
    Okay,
    /// Switched off, for good as far as we know.
    Disabled,
    /// Broken.
    Fail,
}

/// `enable-method` of a CPU's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnableMethod {
    /// CPU_ON.
    Psci,
    /// It polls this address for the address to go to.
    SpinTable(HostPhysAddr),
    /// Nothing that we know, or nothing at all.
    Unknown,
}

/// The interrupt controller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Gic {
    /// No GIC.
    #[default]
    None,
    /// GICv2; `hyp` and `vcpu` are there where it has the Virtualization Extensions.
    V2 {
        /// GICD.
        dist: HostRange,
        /// GICC.
        cpu: HostRange,
        /// GICH.
        hyp: Option<HostRange>,
        /// GICV.
        vcpu: Option<HostRange>,
    },
    /// GICv3 or v4.
    V3 {
        /// GICD.
        dist: HostRange,
        /// Regions of GICR frames.
        redistributors: Vec<HostRange, MAX_REDISTRIBUTORS>,
        /// Bytes from one CPU's frames to the next, where the tree says so.
        stride: Option<u64>,
        /// GICC, GICH and GICV for GICv2 guests.
        compat: [Option<HostRange>; 3],
    },
}

/// Interrupts of the architected timers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimerInts {
    /// Secure EL1 physical.
    pub secure: Option<IntId>,
    /// Non-secure EL1 physical, CNTP.
    pub physical: Option<IntId>,
    /// EL1 virtual, CNTV.
    pub virt: Option<IntId>,
    /// EL2 physical, CNTHP.
    pub hyp: Option<IntId>,
    /// EL2 virtual, CNTHV.
    pub hyp_virt: Option<IntId>,
}

/// A serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uart<'a> {
    /// What it is.
    pub kind: UartKind<'a>,
    /// Its registers, as the CPU sees them.
    pub range: HostRange,
    /// Its interrupt, where that goes to the GIC.
    pub interrupt: Option<IntId>,
    /// Bits to shift a register's number by (`reg-shift`, for the 16550 kind).
    pub reg_shift: u8,
    /// Baud rate from the options after ':' in `stdout-path`.
    pub baud: Option<u32>,
}

/// Kinds of serial line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UartKind<'a> {
    /// Arm PL011.
    Pl011,
    /// The Raspberry Pi's mini UART.
    MiniUart,
    /// 16550 and its kin.
    Ns16550,
    /// Something else, by its first `compatible` name.
    Unknown(&'a str),
}

/// The firmware's power state interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Psci {
    /// The instruction that calls it.
    pub conduit: Conduit,
    /// Version 0.2 or newer: function numbers are the standard's.
    pub standard: bool,
}

/// The instruction by which firmware is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduit {
    /// SMC.
    Smc,
    /// HVC.
    Hvc,
}

/// A blob that the boot loader put into memory for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module<'a> {
    /// Name of its node.
    pub name: &'a str,
    /// What it is for.
    pub kind: ModuleKind,
    /// Where it lies.
    pub range: HostRange,
    /// Its command line.
    pub bootargs: &'a str,
}

/// Kinds of boot module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModuleKind {
    /// `multiboot,kernel`.
    Kernel,
    /// `multiboot,ramdisk`.
    Ramdisk,
    /// Any other.
    Other,
}

impl<'a> Platform<'a> {
    /// Reads a tree; `blob` may be longer than the tree is. Call [`squeeze`] on it before.
    ///
    /// # Errors
    /// E0101 to E0113, when the tree is damaged or does not say what Mezzanine has to know.
    pub fn read(blob: &'a [u8]) -> Result<Self, Problem> {
        read::read(blob)
    }

    /// The names in the root's `compatible`, the most special first.
    pub fn compatible(&self) -> impl Iterator<Item = &'a str> {
        self.compatible
            .split(|&b| b == 0)
            .filter_map(|s| core::str::from_utf8(s).ok())
            .filter(|s| !s.is_empty())
    }

    /// Whether the root's `compatible` has this name.
    pub fn is(&self, name: &str) -> bool {
        self.compatible().any(|have| have == name)
    }

    /// Whether EL2 maps the whole of a range: RAM in one bank, no part of it `no-map`.
    pub fn is_mapped(&self, range: HostRange) -> bool {
        self.ram.iter().any(|bank| bank.encloses(&range))
            && !self.reserved.iter().any(|hole| hole.no_map && hole.range.overlaps(&range))
    }

    /// RAM in whole pages, less what is reserved, what the boot loader brought, and what is `taken` besides:
    /// our own image and the tree.
    ///
    /// Pieces beyond [`MAX_USABLE`] are left unused.
    pub fn usable(&self, taken: &[HostRange]) -> Vec<HostRange, MAX_USABLE> {
        let mut free: Vec<HostRange, MAX_USABLE> = Vec::new();
        for bank in &self.ram {
            // A bank that is listed twice must not be handed out twice.
            for known in free.clone() {
                cut(&mut free, known, bank);
            }
            let _ = free.push(bank.align_in(PAGE_SIZE));
        }
        let reserved = self.reserved.iter().map(|r| r.range);
        let modules = self.modules.iter().map(|m| m.range);
        for hole in reserved.chain(modules).chain(self.initrd).chain(taken.iter().copied()) {
            let hole = hole.align_out(PAGE_SIZE);
            for piece in free.clone() {
                cut(&mut free, piece, &hole);
            }
        }
        free.retain(|piece| !piece.is_empty());
        sort_by_start(&mut free, |piece| piece);
        free
    }
}

/// A property of a node that has the name of one before it.
#[inline(never)]
pub(crate) fn repeated<'a>(node: &FdtNode<'a>) -> Option<FdtProperty<'a>> {
    let (_, property) = node
        .properties()
        .enumerate()
        .find(|(n, property)| node.properties().take(*n).any(|earlier| earlier.name() == property.name()))?;
    Some(property)
}

/// Sorts by address. By insertion: a few entries, and a tenth of the code of the library's sort.
pub(crate) fn sort_by_start<T>(list: &mut [T], range: impl Fn(&T) -> &HostRange) {
    for end in 1..list.len() {
        let mut at = end;
        while let Some([below, above]) = list.get(at.wrapping_sub(1)..=at)
            && range(below).start() > range(above).start()
        {
            list.swap(at - 1, at);
            at -= 1;
        }
    }
}

/// Takes `hole` out of `piece`, which is one of `free`.
fn cut(free: &mut Vec<HostRange, MAX_USABLE>, piece: HostRange, hole: &HostRange) {
    if !piece.overlaps(hole) {
        return;
    }
    free.retain(|p| *p != piece);
    for rest in [HostRange::between(piece.start(), hole.start()), HostRange::between(hole.end(), piece.end())]
    {
        if !rest.is_empty() {
            let _ = free.push(rest);
        }
    }
}
