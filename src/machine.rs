//! The seam between logic and machine: all that the run loop may ask of hardware.
//!
//! `arch` implements [`Machine`] for a physical CPU; tests implement it by a script, so that a whole
//! guest is a list of [`Exit`]s.

use crate::addr::HostRange;
use crate::exit::Exit;
use crate::stage2::Flush;
use crate::vcpu::{CpuId, El1, Vcpu};

/// Ticks of the system counter, CNTPCT_EL0, at CNTFRQ_EL0 a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Ticks(pub u64);

impl Ticks {
    /// A time that never comes.
    pub const NEVER: Self = Self(u64::MAX);
}

/// A physical interrupt, by its INTID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IntId(pub u32);

impl IntId {
    /// What CPUs kick each other with: SGI 0.
    pub const KICK: Self = Self::sgi(0);
    /// Software generated interrupt `n`, 0 to 15.
    pub const fn sgi(n: u32) -> Self {
        Self(n)
    }
    /// Private peripheral interrupt `n`, 0 to 15.
    pub const fn ppi(n: u32) -> Self {
        Self(16 + n)
    }
    /// Shared peripheral interrupt `n`, from 0.
    pub const fn spi(n: u32) -> Self {
        Self(32 + n)
    }
}

/// The PPIs of the architected timers and the maintenance interrupt, on the host and in every guest (BSA 3.8).
pub mod ppi {
    use super::IntId;
    /// vGIC maintenance.
    pub const MAINTENANCE: IntId = IntId::ppi(9);
    /// Non-secure EL2 physical timer, CNTHP.
    pub const HYP_TIMER: IntId = IntId::ppi(10);
    /// Virtual timer, CNTV.
    pub const VIRTUAL_TIMER: IntId = IntId::ppi(11);
    /// Secure EL1 physical timer; never fires here.
    pub const SECURE_TIMER: IntId = IntId::ppi(13);
    /// Non-secure EL1 physical timer, CNTP.
    pub const PHYSICAL_TIMER: IntId = IntId::ppi(14);
}

/// One physical CPU as its run loop sees it.
pub trait Machine {
    /// Runs the guest until it exits. Loads whatever of `vcpu` is not resident yet; the caller has `put`
    /// the vCPU that was resident before.
    fn enter(&mut self, vcpu: &mut Vcpu) -> Exit;

    /// Writes everything of `vcpu` that is resident on this CPU back and forgets it: EL1 and FP registers, timer,
    /// list registers. Does nothing if nothing is.
    ///
    /// True if a system error (SError) was pending once all that the vCPU did had arrived: it has been taken, and it is
    /// this vCPU's, whoever runs next.
    #[must_use = "the error is nobody else's"]
    fn put(&mut self, vcpu: &mut Vcpu) -> bool;

    /// Reads the used list registers, VMCR and EOIcount back into `vcpu.lists`, if they are loaded.
    fn fold(&mut self, vcpu: &mut Vcpu);

    /// Brings `vcpu.virtual_timer` up to date without giving up residence.
    fn sync_timer(&mut self, vcpu: &mut Vcpu);

    /// Whether the vCPU's virtual timer holds its interrupt line high now, if it is resident; low if not.
    fn timer_line(&mut self, vcpu: &Vcpu) -> bool;

    /// One EL1 register, wherever it lives now.
    fn el1(&mut self, vcpu: &Vcpu, reg: El1) -> u64;

    /// Sets one EL1 register, wherever it lives now.
    fn set_el1(&mut self, vcpu: &mut Vcpu, reg: El1, value: u64);

    /// The counter.
    fn now(&self) -> Ticks;

    /// The counter's frequency in Hz: CNTFRQ_EL0.
    fn frequency(&self) -> u64;

    /// Has the hypervisor's own timer fire at `deadline`, or never.
    fn arm_timer(&mut self, deadline: Option<Ticks>);

    /// Acknowledges the most urgent pending physical interrupt.
    fn irq_ack(&mut self) -> Option<IntId>;

    /// Drops the priority of an acknowledged interrupt, and deactivates it unless `keep_active`: then a
    /// guest's own end of interrupt does, through a hardware list register.
    fn irq_done(&mut self, id: IntId, keep_active: bool);

    /// Waits for a physical interrupt. `waiting`: the vCPU that is resident, if one waits here; physical interrupts in
    /// its [`release`](crate::vcpu::Lists::release) are let go before, or they could not end the wait.
    fn idle(&mut self, waiting: Option<&mut Vcpu>);

    /// Interrupts another CPU by [`IntId::KICK`]. What was written before is seen by whoever takes it.
    fn kick(&mut self, cpu: CpuId);

    /// Makes a change of Stage 2 tables visible to all CPUs.
    fn flush(&mut self, flush: Flush);

    /// Cleans and invalidates the caches over a range of memory to the point of coherency, and invalidates
    /// the instruction caches: after it, a guest with its MMU off sees what was written.
    fn publish(&mut self, range: HostRange);

    /// Writes zeroes over memory that the caller owns, and publishes them.
    fn scrub(&mut self, range: HostRange);

    /// Gives as many of `bytes` to the console as it takes without waiting.
    fn console_put(&mut self, bytes: &[u8]) -> usize;

    /// Takes a byte that somebody typed.
    fn console_get(&mut self) -> Option<u8>;

    /// Has the console interrupt when it takes bytes again.
    fn console_want_room(&mut self, on: bool);

    /// Has the console interrupt when somebody types, or not while there is no room for it.
    fn console_listen(&mut self, on: bool);

    /// The console's interrupt.
    fn console_irq(&self) -> Option<IntId>;

    /// Whether the interrupt controller has to be touched now and then, as it forgets levels: QEMU's GICv2 does not
    /// look again at a physical line that a guest's end of interrupt deactivated, until something else happens.
    fn forgets_levels(&self) -> bool {
        false
    }

    /// 64 random bits, or `None` where the machine has no source of entropy.
    fn random(&mut self) -> Option<u64>;

    /// Whether [`random`](Self::random) has anything to give. A source that was there stays.
    fn has_entropy(&mut self) -> bool {
        self.random().is_some()
    }
}
