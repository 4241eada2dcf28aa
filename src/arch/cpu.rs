//! One physical CPU behind the seam: `impl Machine`.

use super::context::{self, Resident};
use super::el2::hcr;
use super::gic::{Gic, Peer};
use super::sys::{op, read, write};
use super::{cache, smc, timer, uart};
use crate::addr::{GuestPhysAddr, HostRange};
use crate::exit::{self, Abort, Exit, Mmio};
use crate::fdt::Conduit;
use crate::machine::{IntId, Machine, Ticks};
use crate::stage2::Flush;
use crate::trng::Entropy;
use crate::vcpu::{CpuId, El1, Vcpu};
use aarch64_cpu::registers::{ESR_EL2, FAR_EL2, HCR_EL2, HPFAR_EL2, Readable, Writeable};

unsafe extern "C" {
    /// `vectors.s`: runs a guest until it exits; which vector it came back by.
    fn __enter_guest(regs: *mut crate::regs::GuestRegs) -> u64;
    /// `vectors.s`: lets an SError that is pending come, for a moment; 1 if one came.
    fn __take_serror() -> u64;
}

/// Which vector a guest came back by, as `vectors.s` numbers them.
const SYNCHRONOUS: u64 = 0;
const IRQ: u64 = 1;
const FIQ: u64 = 2;

/// A physical CPU.
pub struct Cpu {
    pub(super) id: CpuId,
    pub(super) gic: Gic,
    pub(super) resident: Resident,
    /// List registers of the hardware that may hold something while nobody is resident.
    pub(super) left_listed: u16,
    /// HCR_EL2 as it is now.
    pub(super) hcr: u64,
    pub(super) console_irq: Option<IntId>,
    pub(super) conduit: Option<Conduit>,
    /// How to reach every CPU, by [`CpuId`]; all have the same.
    pub(super) peers: alloc::sync::Arc<[Peer]>,
    pub(super) entropy: Entropy,
}

impl Cpu {
    /// Its place among the CPUs that run; the CPU that booted is 0.
    pub fn id(&self) -> CpuId {
        self.id
    }

    /// Has the console interrupt another CPU from here on; nobody else changes a route meanwhile. Nothing
    /// changes if there is no such CPU.
    pub fn route_console(&mut self, cpu: CpuId) {
        if let (Some(irq), Some(peer)) = (self.console_irq, self.peers.get(usize::from(cpu.0))) {
            self.gic.enable_spi(irq, peer);
        }
    }

    /// Turns the machine off, once the console has put out what it had.
    pub fn off(self) -> ! {
        uart::drain();
        smc::off(self.conduit);
        loop {
            op!("wfi");
        }
    }

    /// Decodes what ESR_EL2 says of a synchronous exception from a guest.
    #[inline(always)]
    fn syndrome() -> Exit {
        let esr = ESR_EL2.get();
        if exit::is_device_access(esr) {
            let far = FAR_EL2.get();
            return Exit::Mmio(Mmio { abort: Abort { ipa: Self::fault_address(far), far, esr } });
        }
        if exit::is_abort(esr) { Self::abort(esr) } else { exit::decode(esr, 0, GuestPhysAddr::at(0)) }
    }

    /// What the vCPU that leaves wrote has arrived, or failed, before another's registers are here: if it failed by an
    /// SError, that is taken now. True if there was one.
    ///
    /// EL2 runs with PSTATE.A set, so an SError that is routed to EL2 (HCR_EL2.AMO) stays pending and shows in
    /// ISR_EL1.A (Arm ARM, ISR_EL1). One that is routed to EL3 is firmware's, and cannot be taken here.
    #[inline(always)]
    fn take_system_error() -> bool {
        /// ISR_EL1.A.
        const PENDING: u64 = 1 << 8;
        op!("dsb sy");
        if read!("ID_AA64PFR0_EL1") >> 28 & 15 != 0 {
            return Self::take_deferred_error();
        }
        // ISR_EL1 must not be read before the barrier is through.
        super::isb();
        read!("ISR_EL1") & PENDING != 0 && Self::take_masked_error()
    }

    /// With FEAT_RAS: ESB has what earlier instructions caused pend, and as it is masked moves it to DISR_EL1 (Arm ARM,
    /// ESB and DISR_EL1): nothing is left to be taken.
    #[inline(always)]
    fn take_deferred_error() -> bool {
        /// DISR_EL1.A.
        const DEFERRED: u64 = 1 << 31;
        op!("hint #16"); // ESB
        let deferred = read!("S3_0_C12_C1_1") & DEFERRED != 0; // DISR_EL1
        if deferred {
            write!("S3_0_C12_C1_1", 0);
        }
        deferred
    }

    #[cold]
    fn take_masked_error() -> bool {
        // SAFETY: `vectors.s` saves what it uses; what an SError that comes there overwrites (ELR_EL2, SPSR_EL2, ESR_EL2,
        // TPIDR_EL1, TPIDRRO_EL0) is dead: no guest is resident, and the next one's are loaded before it is entered.
        unsafe { __take_serror() != 0 }
    }

    /// HPFAR_EL2 has the page, FAR_EL2 the offset in it.
    #[inline(always)]
    fn fault_address(far: u64) -> GuestPhysAddr {
        GuestPhysAddr::at((HPFAR_EL2.get() & 0xfff_ffff_fff0) << 8 | far & 0xfff)
    }

    #[cold]
    fn abort(esr: u64) -> Exit {
        let far = FAR_EL2.get();
        if !exit::needs_walk(esr) {
            return exit::decode(esr, far, Self::fault_address(far));
        }
        match Self::walk(far) {
            Some(page) => exit::decode(esr, far, GuestPhysAddr::at(page | far & 0xfff)),
            None => Exit::Again,
        }
    }

    /// The page that Stage 1 of the resident guest maps `va` to. `None` if it no longer maps it: the guest
    /// changed its tables meanwhile, and will fault again if it should.
    #[cold]
    fn walk(va: u64) -> Option<u64> {
        let saved = read!("PAR_EL1");
        // SAFETY: AT changes PAR_EL1 only, which is put back.
        unsafe { core::arch::asm!("at s1e1r, {}", in(reg) va, options(nostack, preserves_flags)) };
        super::isb();
        let par = read!("PAR_EL1");
        write!("PAR_EL1", saved);
        (par & 1 == 0).then_some(par & 0xf_ffff_ffff_f000)
    }
}

impl Machine for Cpu {
    #[inline(always)]
    fn enter(&mut self, vcpu: &mut Vcpu) -> Exit {
        // Loaded lists are those of a vCPU that is resident: `put` folds them.
        if !vcpu.lists.loaded {
            if self.resident.is(vcpu) {
                self.gic.load_lists(&mut vcpu.lists);
            } else {
                self.gic.load_all(vcpu, self.left_listed);
                self.resident.load(vcpu, self.id);
            }
        }
        let hcr = vcpu.hcr | vcpu.lists.signalled;
        if self.hcr != hcr {
            self.hcr = hcr;
            HCR_EL2.set(hcr);
        }
        loop {
            // SAFETY: `regs` is the guest's and ours alone; all other state that the guest can reach is its
            // own (Stage 2, traps and EL1 registers were loaded above), and it comes back by our vectors.
            match unsafe { __enter_guest(&raw mut vcpu.regs) } {
                SYNCHRONOUS => match Self::syndrome() {
                    Exit::Fp => self.resident.take_fp(vcpu),
                    Exit::Again => {}
                    exit => return exit,
                },
                IRQ | FIQ => return Exit::Irq,
                _ => return Exit::SError,
            }
        }
    }

    fn put(&mut self, vcpu: &mut Vcpu) -> bool {
        if self.resident.is(vcpu) {
            self.left_listed = self.gic.save_all(vcpu, self.left_listed);
            self.resident.save(vcpu);
        }
        Self::take_system_error()
    }

    #[inline(always)]
    fn fold(&mut self, vcpu: &mut Vcpu) {
        if vcpu.lists.loaded {
            self.gic.fold_lists(&mut vcpu.lists);
        }
    }

    fn sync_timer(&mut self, vcpu: &mut Vcpu) {
        if self.resident.is(vcpu) {
            Resident::save_timer(vcpu);
        }
    }

    fn timer_line(&mut self, vcpu: &Vcpu) -> bool {
        use crate::vcpu::timer_ctl::{ENABLE, IMASK, ISTATUS};
        self.resident.is(vcpu) && read!("CNTV_CTL_EL0") & (ENABLE | IMASK | ISTATUS) == ENABLE | ISTATUS
    }

    fn el1(&mut self, vcpu: &Vcpu, reg: El1) -> u64 {
        if self.resident.is(vcpu) { context::read_el1(reg) } else { vcpu.el1.get(reg) }
    }

    fn set_el1(&mut self, vcpu: &mut Vcpu, reg: El1, value: u64) {
        if self.resident.is(vcpu) {
            context::write_el1(reg, value);
        } else {
            vcpu.el1.set(reg, value);
        }
    }

    #[inline]
    fn now(&self) -> Ticks {
        timer::now()
    }

    fn frequency(&self) -> u64 {
        timer::frequency()
    }

    fn arm_timer(&mut self, deadline: Option<Ticks>) {
        timer::arm(deadline);
    }

    #[inline]
    fn irq_ack(&mut self) -> Option<IntId> {
        self.gic.ack()
    }

    #[inline]
    fn irq_done(&mut self, id: IntId, keep_active: bool) {
        self.gic.done(id, keep_active);
    }

    fn idle(&mut self, waiting: Option<&mut Vcpu>) {
        if let Some(vcpu) = waiting {
            self.gic.release(&mut vcpu.lists);
        }
        // Interrupts are masked at EL2; WFI wakes for them all the same (Arm ARM D1.6.1). Not for what list
        // registers of a blocked vCPU still hold of what the vGIC took out meanwhile, nor for what an emulated
        // interface signals to it.
        let presented = self.gic.silence();
        if self.hcr & hcr::SIGNALS != 0 {
            self.hcr &= !hcr::SIGNALS;
            HCR_EL2.set(self.hcr);
            super::isb();
        }
        op!("dsb sy");
        op!("wfi");
        self.gic.present(presented);
    }

    fn kick(&mut self, cpu: CpuId) {
        if let Some(peer) = self.peers.get(usize::from(cpu.0)) {
            self.gic.kick(peer);
        }
    }

    fn flush(&mut self, flush: Flush) {
        // New entries, or the breaking of old ones, reach the walkers first (Arm ARM D8.16).
        op!("dsb ishst");
        if let Flush::Vm { vttbr } = flush {
            let current = read!("VTTBR_EL2");
            if current != vttbr {
                write!("VTTBR_EL2", vttbr);
                super::isb();
            }
            // Twice: CVE-2025-10263 and erratum 1286807 on A76 and its kin; once more costs others little.
            for _ in 0..2 {
                op!("tlbi vmalls12e1is");
                op!("dsb ish");
            }
            if current != vttbr {
                write!("VTTBR_EL2", current);
            }
        }
        if flush == Flush::All {
            for _ in 0..2 {
                op!("tlbi alle1is");
                op!("dsb ish");
            }
            op!("ic ialluis");
            op!("dsb ish");
        }
        super::isb();
    }

    fn publish(&mut self, range: HostRange) {
        cache::publish(range);
    }

    fn scrub(&mut self, range: HostRange) {
        // SAFETY: the caller of `scrub` owns the range: memory of a VM none of whose vCPUs has run yet.
        unsafe { cache::zero(range) };
    }

    #[inline]
    fn console_put(&mut self, bytes: &[u8]) -> usize {
        uart::put(bytes)
    }

    fn console_get(&mut self) -> Option<u8> {
        uart::get()
    }

    fn console_want_room(&mut self, on: bool) {
        uart::want_room(on);
    }

    fn console_listen(&mut self, on: bool) {
        uart::listen(on);
    }

    fn console_irq(&self) -> Option<IntId> {
        self.console_irq
    }

    fn forgets_levels(&self) -> bool {
        self.gic.forgets_levels()
    }

    fn random(&mut self) -> Option<u64> {
        self.entropy.next_u64()
    }
}
