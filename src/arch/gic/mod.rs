//! The machine's own interrupt controller. What guests see is [`crate::vdev::vgic`].
//!
//! Everything that depends on its version lies in this folder: `cpu.rs` asks for acknowledge, done, list
//! registers and kicks, whatever stands behind them. Where guests' CPU interfaces are emulated
//! ([`Lists::emulated`]) the hardware presents nothing, and lets guests have no register of its own.

mod v2;
mod v3;

use super::sys::op;
use crate::fdt;
use crate::machine::{IntId, ppi};
use crate::map::GicVersion;
use crate::problem;
use crate::problem::Problem;
use crate::vcpu::{Lists, Vcpu};
use crate::vdev::vgic::lr;

/// Every interrupt has one priority: EL2 takes none while it runs, so order does not matter.
const PRIORITY: u32 = 0xa0a0_a0a0;

/// How a CPU is reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    /// MPIDR affinity.
    pub(super) affinity: u64,
    /// What the register that sends SGIs takes to send it SGI 0: ICC_SGI1R_EL1 or GICD_SGIR.
    pub(super) signal: u64,
}

/// One CPU's way to the GIC, whatever its version.
pub(super) enum Gic {
    V2(v2::Gic),
    V3(v3::Gic),
}

/// Brings up the controller of the tree for the CPU with this affinity; the distributor with the `first`.
///
/// # Errors
/// E0132: none that we drive; E0133: it has nothing for this CPU; E0136: its CPU interface is too old.
///
/// # Safety
/// What the tree says of it is true and mapped as device memory for good.
pub(super) unsafe fn open(gic: &fdt::Gic, affinity: u64, first: bool) -> Result<Gic, Problem> {
    match gic {
        fdt::Gic::V3 { dist, redistributors, .. } => {
            // SAFETY: the caller says so.
            let gic = unsafe { v3::Gic::new(*dist, redistributors, affinity, first) };
            gic.map(Gic::V3).ok_or_else(|| {
                problem!("E0133", ("/intc reg"); ("no redistributor for CPU {affinity:#x}"); ("One GICR frame for each CPU"))
            })
        }
        fdt::Gic::V2 { dist, cpu, hyp, .. } => {
            // SAFETY: the caller says so.
            let gic = unsafe { v2::Gic::new(*dist, *cpu, *hyp, first) };
            gic.map(Gic::V2).ok_or_else(|| {
                problem!("E0136", ("/intc reg"); ("GICC at {cpu} has no GICC_DIR"); ("A GICv2's CPU interface takes 8 KiB"))
            })
        }
        fdt::Gic::None => Err(problem!("E0132", ("/ interrupt controller"); ("no GIC");
            ("Mezzanine needs a GICv2 or a GICv3 so far: on QEMU, gic-version=3"))),
    }
}

/// Does the same with either version.
macro_rules! either {
    ($gic:expr, $inner:ident => $what:expr) => {
        match $gic {
            Gic::V3($inner) => $what,
            Gic::V2($inner) => $what,
        }
    };
}

impl Gic {
    /// The version.
    pub(super) fn version(&self) -> GicVersion {
        match self {
            Self::V2(_) => GicVersion::V2,
            Self::V3(_) => GicVersion::V3,
        }
    }

    /// List registers that this CPU has; none without the Virtualization Extensions.
    pub(super) fn list_registers(&self) -> u8 {
        either!(self, gic => gic.list_registers())
    }

    /// Bits of a virtual priority.
    pub(super) fn priority_bits(&self) -> u8 {
        either!(self, gic => gic.priority_bits())
    }

    /// See [`Machine::forgets_levels`](crate::machine::Machine::forgets_levels).
    pub(super) fn forgets_levels(&self) -> bool {
        match self {
            Self::V2(gic) => gic.forgets_levels,
            Self::V3(_) => false,
        }
    }

    /// How others reach this CPU, whose affinity it is.
    pub(super) fn peer(&self, affinity: u64) -> Peer {
        Peer { affinity, signal: either!(self, gic => gic.signal(affinity)) }
    }

    /// Lets a shared interrupt through, to that CPU alone.
    pub(super) fn enable_spi(&self, id: IntId, to: &Peer) {
        either!(self, gic => gic.enable_spi(id, to));
    }

    /// Acknowledges the most urgent pending interrupt.
    #[inline(always)]
    pub(super) fn ack(&self) -> Option<IntId> {
        either!(self, gic => gic.ack())
    }

    /// Drops the running priority, and deactivates unless a guest will.
    #[inline(always)]
    pub(super) fn done(&self, id: IntId, keep_active: bool) {
        either!(self, gic => gic.done(id, keep_active));
    }

    /// Has that CPU look at its mailbox: SGI 0.
    #[inline(always)]
    pub(super) fn kick(&self, peer: &Peer) {
        op!("dsb ishst"); // what it shall find there comes first
        either!(self, gic => gic.send(peer.signal));
    }

    /// Sets or clears the active state of a private interrupt: it belongs to the vCPU whose timer it is.
    fn set_active(&self, id: IntId, active: bool) {
        either!(self, gic => gic.set_active(id, active));
    }

    /// Writes what changed of the list registers before an entry.
    #[inline(always)]
    pub(super) fn load_lists(&self, lists: &mut Lists) {
        if !lists.emulated {
            either!(self, gic => gic.load_lists(lists));
            lists.loaded = true;
        }
        if lists.hcr_dirty {
            self.load_control(lists);
        }
    }

    #[cold]
    fn load_control(&self, lists: &mut Lists) {
        lists.hcr_dirty = false;
        if !lists.emulated {
            either!(self, gic => gic.load_control(lists.hcr));
        }
        self.release(lists);
    }

    /// What the guest ended without the hardware: the physical interrupt may fire again.
    pub(super) fn release(&self, lists: &mut Lists) {
        let mut release = core::mem::take(&mut lists.release);
        while release != 0 {
            self.set_active(IntId(release.trailing_zeros()), false);
            release &= release - 1;
        }
    }

    /// Reads back what the guest did with the used list registers; they stay loaded in the hardware.
    #[inline(always)]
    pub(super) fn fold_lists(&self, lists: &mut Lists) {
        either!(self, gic => gic.fold_lists(lists));
        lists.loaded = false;
    }

    /// Has the hardware present nothing; returns what [`present`](Self::present) takes to undo it.
    pub(super) fn silence(&self) -> u64 {
        either!(self, gic => gic.silence())
    }

    /// The end of a [`silence`](Self::silence).
    pub(super) fn present(&self, hcr: u64) {
        either!(self, gic => gic.present(hcr));
    }

    /// All list registers that there are, a bit each.
    pub(super) fn all_lists(&self) -> u16 {
        (u32::from(u16::MAX) >> (16 - self.list_registers().min(16))) as u16
    }

    /// Loads the whole of a vCPU's interface when it becomes resident. `left`: list registers in which others
    /// [left](Self::save_all) something.
    pub(super) fn load_all(&self, vcpu: &mut Vcpu, left: u16) {
        either!(self, gic => gic.load_rest(vcpu));
        let lists = &mut vcpu.lists;
        lists.hcr_dirty = false;
        // Nothing physical is active, so nothing is to be let go.
        lists.release = 0;
        // Traps stay so while it is resident.
        either!(self, gic => gic.load_control(if lists.emulated { lr::HCR_TRAPS } else { lists.hcr }));
        // What others left is nothing of this vCPU's: its own of those are free, and say so.
        lists.dirty = lists.used | left;
        // A timer interrupt that is pending through hardware, or active, stays active in the GIC; one that
        // is not is free to fire, as `save_all` left it. Before CNTV_CTL_EL0 is restored (docs/design.md, 5).
        if lists.linked_active(ppi::VIRTUAL_TIMER) {
            self.set_active(ppi::VIRTUAL_TIMER, true);
        }
        self.load_lists(lists);
    }

    /// Takes the whole of a vCPU's interface back; the hardware then presents nothing. In which list registers there
    /// may be something: what of it is still good is in `vcpu`; `left` before.
    pub(super) fn save_all(&self, vcpu: &mut Vcpu, left: u16) -> u16 {
        if vcpu.lists.loaded {
            self.fold_lists(&mut vcpu.lists);
        }
        either!(self, gic => gic.load_control(0));
        self.set_active(ppi::VIRTUAL_TIMER, false);
        // With that, whatever was to be deactivated is.
        vcpu.lists.release = 0;
        if vcpu.lists.emulated {
            return left;
        }
        either!(self, gic => gic.save_rest(vcpu));
        vcpu.lists.used | vcpu.lists.dirty
    }
}
