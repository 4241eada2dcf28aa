//! A virtual CPU: everything of a guest's processor that is not running right now.
//!
//! A [`Vcpu`] is plain data, owned by exactly one place at a time: the CPU loop that runs it, a run
//! queue, or the parking slot of its VM. While it is *resident* on a CPU, parts of it live in that CPU's
//! registers (EL1, timer, list registers, FP) and the copies here are stale until
//! [`Machine::put`](crate::machine::Machine::put) wrote them back.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::machine::{IntId, ppi};
use crate::regs::{GuestRegs, pstate};
use crate::sched::{Account, Share};
use core::num::NonZeroU64;

/// Names one life of one vCPU, or one load of its FP registers, to tell whose state a CPU's registers hold.
///
/// Never reused, and new at creation and at every reset: a record that names an earlier life matches nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LiveId(NonZeroU64);

impl LiveId {
    /// Nobody's: no life has it.
    pub const NOBODY: Self = Self(NonZeroU64::MAX);

    /// A fresh name.
    pub fn fresh() -> Self {
        use core::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // 2^64 lives do not happen; the clamp only keeps the type honest.
        Self(NonZeroU64::new(NEXT.fetch_add(1, Ordering::Relaxed)).unwrap_or(NonZeroU64::MIN))
    }
}

/// The place of a VM in the machine's list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VmId(pub u16);

/// The place of a vCPU in its VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VcpuId(pub u16);

/// A physical CPU, by its place in the device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuId(pub u16);

macro_rules! el1_registers {
    ($($variant:ident = $name:literal, $reset:expr;)*) => {
        /// The EL1 and EL0 system registers that switch with the vCPU.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        #[allow(missing_docs, reason = "the manual's names, each given as text by `name`")]
        pub enum El1 { $($variant),* }

        impl El1 {
            /// All of them, in the order of the discriminants.
            pub const ALL: &'static [El1] = &[$(El1::$variant),*];

            /// The manual's name.
            pub fn name(self) -> &'static str {
                match self { $(El1::$variant => $name),* }
            }

            const RESET: &'static [u64] = &[$($reset),*];
        }
    };
}

// SCTLR_EL1 at reset: MMU and caches off, RES1 bits of Armv8.0 (LSMAOE, nTLSMD, SPAN, EIS, TSCXT, EOS) set.
el1_registers! {
    Sctlr = "SCTLR_EL1", 0x30d0_0800;
    Actlr = "ACTLR_EL1", 0;
    Cpacr = "CPACR_EL1", 0;
    Ttbr0 = "TTBR0_EL1", 0;
    Ttbr1 = "TTBR1_EL1", 0;
    Tcr = "TCR_EL1", 0;
    Mair = "MAIR_EL1", 0;
    Amair = "AMAIR_EL1", 0;
    Vbar = "VBAR_EL1", 0;
    Esr = "ESR_EL1", 0;
    Far = "FAR_EL1", 0;
    Afsr0 = "AFSR0_EL1", 0;
    Afsr1 = "AFSR1_EL1", 0;
    Elr = "ELR_EL1", 0;
    Spsr = "SPSR_EL1", 0;
    Sp0 = "SP_EL0", 0;
    Sp1 = "SP_EL1", 0;
    Tpidr0 = "TPIDR_EL0", 0;
    Tpidrro0 = "TPIDRRO_EL0", 0;
    Tpidr1 = "TPIDR_EL1", 0;
    ContextIdr = "CONTEXTIDR_EL1", 0;
    Par = "PAR_EL1", 0;
    Csselr = "CSSELR_EL1", 0;
    Cntkctl = "CNTKCTL_EL1", 0;
}

/// How many there are.
pub const EL1_COUNT: usize = El1::ALL.len();

/// The saved EL1 registers, indexed by [`El1`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct El1Regs([u64; EL1_COUNT]);

impl Default for El1Regs {
    fn default() -> Self {
        let mut regs = [0; EL1_COUNT];
        regs.copy_from_slice(El1::RESET);
        Self(regs)
    }
}

impl El1Regs {
    /// One register.
    pub fn get(&self, reg: El1) -> u64 {
        self.0.get(reg as usize).copied().unwrap_or(0)
    }

    /// Sets one register.
    pub fn set(&mut self, reg: El1, value: u64) {
        if let Some(slot) = self.0.get_mut(reg as usize) {
            *slot = value;
        }
    }

    /// All of them, in the order of [`El1::ALL`].
    pub fn all_mut(&mut self) -> &mut [u64; EL1_COUNT] {
        &mut self.0
    }
}

/// CNTx_CTL bits (Arm ARM D24.10).
pub mod timer_ctl {
    /// The timer runs.
    pub const ENABLE: u64 = 1;
    /// Its interrupt is masked.
    pub const IMASK: u64 = 1 << 1;
    /// Its condition is met (read-only).
    pub const ISTATUS: u64 = 1 << 2;
}

/// One architected timer of a guest, in the guest's own time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timer {
    /// CNTx_CTL_EL0: ENABLE and IMASK.
    pub ctl: u64,
    /// CNTx_CVAL_EL0.
    pub cval: u64,
}

impl Timer {
    /// When its interrupt is due, in the guest's time; `None` if it is off or masked.
    pub fn due(&self) -> Option<u64> {
        (self.ctl & (timer_ctl::ENABLE | timer_ctl::IMASK) == timer_ctl::ENABLE).then_some(self.cval)
    }

    /// [`due`](Self::due) in the machine's time. What lies beyond the end of that is never: a guest that wants no
    /// interrupt may say so by the largest CVAL.
    pub fn deadline(&self, cntvoff: u64) -> Option<u64> {
        self.due().map(|guest| guest.saturating_add(cntvoff))
    }

    /// Whether its interrupt line is high at `now`, the guest's time.
    pub fn fires(&self, now: u64) -> bool {
        self.due().is_some_and(|cval| now >= cval)
    }
}

/// FP and SIMD registers. `arch` loads them when the vCPU first uses them on a CPU, and writes them back when it leaves.
#[derive(Clone, Debug, Default)]
#[repr(C, align(16))]
pub struct FpRegs {
    /// V0 to V31.
    pub v: [u128; 32],
    /// FPCR.
    pub fpcr: u64,
    /// FPSR.
    pub fpsr: u64,
}

/// The most list registers that the architecture allows (GICv3: 16).
pub const MAX_LISTS: usize = 16;

/// The list registers and what belongs to them, in the form of the ICH_* registers.
///
/// A cache of the vGIC's state: [`vgic`](crate::vdev::vgic) fills it before entry and folds it back only
/// when it was used. A backend without ICH registers translates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// ICH_LRn_EL2. Stale for the bits of `used` while `loaded`; `Machine::fold` reads those back.
    pub lr: [u64; MAX_LISTS],
    /// Which list registers hold an interrupt that the vGIC has not folded back yet.
    pub used: u16,
    /// Which of `lr` must be written to the hardware before the next entry.
    pub dirty: u16,
    /// The hardware has been running with these since the last fold. Whoever changes anything here has
    /// folded before, so that `enter` has only this to look at.
    pub loaded: bool,
    /// ICH_HCR_EL2 is to be written before the next entry.
    pub hcr_dirty: bool,
    /// ICH_HCR_EL2: En and what the vGIC asks for (UIE, NPIE ..); EOIcount after a fold.
    pub hcr: u64,
    /// ICH_VMCR_EL2: the guest's view of priority mask, binary points, group enables. Valid after a fold.
    pub vmcr: u64,
    /// ICH_AP0Rn_EL2 and ICH_AP1Rn_EL2: active priorities. Saved on `put` only.
    pub apr: [[u64; 4]; 2],
    /// No hardware stands behind these: the vGIC itself is the CPU interface. They are never `loaded`.
    pub emulated: bool,
    /// Since it left its CPU, and nothing is listed: there is something that should be.
    pub owed: bool,
    /// HCR_EL2.VI and VF: what the emulated interface signals. Nothing where hardware does.
    pub signalled: u64,
    /// PPIs whose physical interrupt is active for this vCPU's sake with no hardware entry that says so.
    pub parked: u32,
    /// PPIs whose physical interrupt the machine has to deactivate before the next entry, if the vCPU has
    /// been resident since; `hcr_dirty` is set with it. The machine clears it.
    pub release: u32,
}

/// HCR_EL2.TVM: writes of the Stage 1 registers trap. Set while a guest that used set/way maintenance turns
/// its caches on.
pub const HCR_TVM: u64 = 1 << 26;
/// HCR_EL2.TWI: WFI traps. Not set for a vCPU that has its CPU to itself.
pub const HCR_TWI: u64 = 1 << 13;
/// HCR_EL2.TWE: WFE traps. Set while somebody else waits for the CPU.
pub const HCR_TWE: u64 = 1 << 14;
/// HCR_EL2.VF: a virtual FIQ is pending.
pub const HCR_VF: u64 = 1 << 6;
/// HCR_EL2.VI: a virtual IRQ is pending.
pub const HCR_VI: u64 = 1 << 7;

/// A virtual CPU.
///
/// The general registers come first: `arch/vectors.s` counts on it.
#[derive(Debug)]
#[repr(C)]
pub struct Vcpu {
    /// General registers, PC, PSTATE: always current while the vCPU is not inside [`enter`](crate::machine::Machine::enter).
    pub regs: GuestRegs,
    /// This life.
    pub live: LiveId,
    /// Its VM.
    pub vm: VmId,
    /// Its place there.
    pub id: VcpuId,
    /// MPIDR_EL1 as the guest sees it.
    pub mpidr: u64,
    /// MIDR_EL1 as the guest sees it: the CPU's own.
    pub midr: u64,
    /// HCR_EL2 while it runs.
    pub hcr: u64,
    /// VTTBR_EL2 while it runs: VMID and root of its VM's Stage 2.
    pub vttbr: u64,
    /// VTCR_EL2 while it runs.
    pub vtcr: u64,
    /// CNTVOFF_EL2 while it runs: what its VM's [`clock`](crate::clock) is behind the machine's, as it was when the
    /// vCPU got on its CPU.
    pub cntvoff: u64,
    /// EL1 registers; stale while resident.
    pub el1: El1Regs,
    /// The virtual timer, CNTV; stale while resident.
    pub virtual_timer: Timer,
    /// The EL1 physical timer, CNTP: trapped, so always current. In the guest's time.
    pub physical_timer: Timer,
    /// FP and SIMD; stale while it is resident and has used them.
    pub fp: FpRegs,
    /// When they were last loaded: a CPU with the same in its record still has them.
    pub fp_live: LiveId,
    /// List registers; stale while resident and loaded.
    pub lists: Lists,
    /// What the scheduler keeps of it.
    pub account: Account,
    /// The CPUs that it may run on, a bit each by [`CpuId`].
    pub affinity: u64,
    /// A software timer may be set for it on the CPU where it is, or comes to.
    pub timed: bool,
    /// The CPU that it was last resident on, if it was on any.
    pub last_cpu: Option<CpuId>,
    /// It has its CPU to itself: its WFI does not trap, and nothing but its own affairs interrupts it.
    pub dedicated: bool,
    /// The guest uses set/way maintenance and turns its caches on: next step of the flush, if one is under way.
    pub flush: Option<crate::addr::GuestPhysAddr>,
    /// After SYSTEM_SUSPEND: where it goes on, and with which x0, once something wakes it.
    pub resume_at: Option<(u64, u64)>,
}

impl Vcpu {
    /// A vCPU that is off, with every register at its reset value.
    pub fn new(vm: VmId, id: VcpuId) -> Self {
        Self {
            regs: GuestRegs::default(),
            live: LiveId::fresh(),
            vm,
            id,
            mpidr: 0,
            midr: 0,
            hcr: 0,
            vttbr: 0,
            vtcr: 0,
            cntvoff: 0,
            el1: El1Regs::default(),
            virtual_timer: Timer::default(),
            physical_timer: Timer::default(),
            fp: FpRegs::default(),
            fp_live: LiveId::fresh(),
            lists: Lists::default(),
            affinity: u64::MAX,
            last_cpu: None,
            timed: true,
            dedicated: false,
            flush: None,
            resume_at: None,
            account: Account::new(Share::default()),
        }
    }

    /// Starts a new life at `entry` with `x0`, everything else as after reset (PSCI DEN0022 6.4, booting.rst).
    pub fn reset(&mut self, entry: u64, x0: u64) {
        let fresh = Self::new(self.vm, self.id);
        *self = Self {
            mpidr: self.mpidr,
            midr: self.midr,
            hcr: self.hcr & !(HCR_TVM | HCR_TWE),
            vttbr: self.vttbr,
            vtcr: self.vtcr,
            cntvoff: self.cntvoff,
            account: self.account,
            affinity: self.affinity,
            dedicated: self.dedicated,
            ..fresh
        };
        self.regs.set_x(0, x0);
        self.regs.pc = entry;
        self.regs.pstate = pstate::EL1H | pstate::DAIF;
    }

    /// When the next timer of this vCPU is due, in the machine's time, which the guest's is `cntvoff` behind: while it
    /// is parked, not by what it took along. Those are left out whose interrupt is among `pending` ones, a bit by INTID,
    /// already: their time has come, and nothing came of it so far.
    ///
    /// Only meaningful when the timers are not stale: after `put`, or for a blocked vCPU after `sync_timer`.
    pub fn next_deadline(&self, cntvoff: u64, pending: u32) -> Option<u64> {
        let new =
            |timer: &Timer, ppi: IntId| timer.deadline(cntvoff).filter(|_| pending >> (ppi.0 & 31) & 1 == 0);
        let physical = new(&self.physical_timer, ppi::PHYSICAL_TIMER);
        new(&self.virtual_timer, ppi::VIRTUAL_TIMER).into_iter().chain(physical).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reset_keeps_the_place_and_forgets_the_rest() {
        let mut vcpu = Vcpu::new(VmId(1), VcpuId(2));
        vcpu.mpidr = 0x8000_0002;
        vcpu.el1.set(El1::Vbar, 0x1234);
        vcpu.regs.set_x(5, 99);
        vcpu.lists.used = 3;
        let before = vcpu.live;
        vcpu.reset(0x4020_0000, 0x4000_0000);
        assert_ne!(vcpu.live, before);
        assert_eq!((vcpu.vm, vcpu.id, vcpu.mpidr), (VmId(1), VcpuId(2), 0x8000_0002));
        assert_eq!((vcpu.regs.x(0), vcpu.regs.x(5), vcpu.regs.pc), (0x4000_0000, 0, 0x4020_0000));
        assert_eq!(vcpu.el1, El1Regs::default());
        assert_eq!(vcpu.lists, Lists::default());
    }

    #[test]
    fn timers_fire_when_enabled_and_unmasked() {
        let mut t = Timer { ctl: timer_ctl::ENABLE, cval: 100 };
        assert!(!t.fires(99) && t.fires(100));
        t.ctl |= timer_ctl::IMASK;
        assert!(!t.fires(100));
        assert_eq!(t.due(), None);
    }

    #[test]
    fn a_timer_at_the_end_of_time_is_never_due() {
        let mut vcpu = Vcpu::new(VmId(0), VcpuId(0));
        vcpu.physical_timer = Timer { ctl: timer_ctl::ENABLE, cval: u64::MAX };
        assert_eq!(vcpu.next_deadline(1000, 0), Some(u64::MAX));
        vcpu.virtual_timer = Timer { ctl: timer_ctl::ENABLE, cval: 5 };
        assert_eq!(vcpu.next_deadline(1000, 0), Some(1005));
    }

    #[test]
    fn names_and_resets_line_up() {
        assert_eq!(El1::ALL.len(), El1::RESET.len());
        for (n, reg) in El1::ALL.iter().enumerate() {
            assert_eq!(*reg as usize, n);
        }
        assert_eq!(El1::Vbar.name(), "VBAR_EL1");
    }
}
