//! What of a vCPU lives in this CPU's registers, and moving it there and back.
//!
//! An exit that returns to the same vCPU moves nothing but general registers. EL1 registers, timer and
//! list registers move when another vCPU comes ([`Resident`] says whose they are). FP registers are loaded when a
//! vCPU first uses them here, and written back when it leaves, so that it may go on anywhere; back on the same CPU it
//! finds them there, if nobody used the unit meanwhile.

use super::el2::cptr;
use super::sys::{op, read, write};
use crate::vcpu::{CpuId, El1, FpRegs, LiveId, Vcpu};
use alloc::vec::Vec;

macro_rules! el1 {
    (last $last:ident $last_name:literal; $($variant:ident $name:literal;)*) => {
        fn save_el1(vcpu: &mut Vcpu) {
            $(vcpu.el1.set(El1::$variant, read!($name));)*
            vcpu.el1.set(El1::$last, read!($last_name));
        }
        fn load_el1(vcpu: &Vcpu) {
            $(write!($name, vcpu.el1.get(El1::$variant));)*
            super::isb();
            write!($last_name, vcpu.el1.get(El1::$last));
        }
        /// One EL1 register of the resident vCPU.
        pub(super) fn read_el1(reg: El1) -> u64 {
            match reg { $(El1::$variant => read!($name),)* El1::$last => read!($last_name), El1::Actlr => 0 }
        }
        /// Sets one EL1 register of the resident vCPU.
        pub(super) fn write_el1(reg: El1, value: u64) {
            match reg {
                $(El1::$variant => write!($name, value),)*
                El1::$last => write!($last_name, value),
                El1::Actlr => {}
            }
        }
    };
}

// ACTLR_EL1 traps (HCR_EL2.TACR): it never holds a guest's value. TCR_EL1 comes last: until then its EPD bits
// keep the MMU from walking one guest's tables under another's SCTLR_EL1.
el1! {
    last Tcr "TCR_EL1";
    Cpacr "CPACR_EL1"; Ttbr0 "TTBR0_EL1"; Ttbr1 "TTBR1_EL1"; Mair "MAIR_EL1"; Amair "AMAIR_EL1";
    Sctlr "SCTLR_EL1"; Vbar "VBAR_EL1"; Esr "ESR_EL1"; Far "FAR_EL1"; Afsr0 "AFSR0_EL1"; Afsr1 "AFSR1_EL1";
    Elr "ELR_EL1"; Spsr "SPSR_EL1"; Sp0 "SP_EL0"; Sp1 "SP_EL1"; Tpidr0 "TPIDR_EL0"; Tpidrro0 "TPIDRRO_EL0";
    Tpidr1 "TPIDR_EL1"; ContextIdr "CONTEXTIDR_EL1"; Par "PAR_EL1"; Csselr "CSSELR_EL1"; Cntkctl "CNTKCTL_EL1";
}

/// Whose state this CPU's registers hold.
pub(super) struct Resident {
    /// EL1 registers, timer and list registers.
    vcpu: LiveId,
    /// Which load of FP and SIMD registers the unit holds.
    fp: LiveId,
    /// For each VM, by its number, which of its vCPUs was here last: another one means stale TLB entries.
    last: Vec<LiveId>,
}

impl Default for Resident {
    fn default() -> Self {
        Self { vcpu: LiveId::NOBODY, fp: LiveId::NOBODY, last: Vec::new() }
    }
}

impl Resident {
    /// Whether `vcpu`'s EL1 registers and timer are on this CPU.
    #[inline]
    pub(super) fn is(&self, vcpu: &Vcpu) -> bool {
        self.vcpu == vcpu.live
    }

    /// Loads everything of `vcpu` but general and FP registers. Nobody else is resident.
    #[cold]
    pub(super) fn load(&mut self, vcpu: &mut Vcpu, cpu: CpuId) {
        // Erratum 1319367/1319537/1165522 (A57, A72, A76): no speculative walk may mix two guests' Stage 1
        // and Stage 2. TCR_EL1.EPD0 and EPD1 stop Stage 1 walks while both change.
        write!("TCR_EL1", 1 << 23 | 1 << 7);
        super::isb();
        write!("VTCR_EL2", vcpu.vtcr);
        write!("VTTBR_EL2", vcpu.vttbr);
        write!("VMPIDR_EL2", vcpu.mpidr);
        write!("VPIDR_EL2", vcpu.midr);
        write!("CNTVOFF_EL2", vcpu.cntvoff);
        super::isb();
        load_el1(vcpu);
        write!("CNTV_CVAL_EL0", vcpu.virtual_timer.cval);
        write!("CNTV_CTL_EL0", vcpu.virtual_timer.ctl);
        // ASIDs are one vCPU's own, so another vCPU of the same VM must not find this one's entries
        // (Arm ARM D8.17: entries are tagged with VMID and ASID only). Nor does it find here what it left behind when
        // it went to another CPU, whatever it has invalidated there.
        if self.was_another(vcpu) | (vcpu.last_cpu.replace(cpu) != Some(cpu)) {
            op!("tlbi vmalle1");
            op!("ic iallu");
            op!("dsb nsh");
        }
        write!("CPTR_EL2", if self.owns_fp(vcpu) { cptr::FP_ON } else { cptr::FP_OFF });
        super::isb();
        self.vcpu = vcpu.live;
    }

    /// Whether another vCPU of the same VM, an earlier life of this one, or nobody was the VM's last here.
    fn was_another(&mut self, vcpu: &Vcpu) -> bool {
        let place = usize::from(vcpu.vm.0);
        if place >= self.last.len() {
            self.last.resize(place + 1, LiveId::NOBODY);
        }
        core::mem::replace(&mut self.last[place], vcpu.live) != vcpu.live
    }

    /// Writes EL1 and FP registers and the timer back, and stops the timer.
    pub(super) fn save(&mut self, vcpu: &mut Vcpu) {
        save_el1(vcpu);
        Self::save_timer(vcpu);
        write!("CNTV_CTL_EL0", 0);
        if self.owns_fp(vcpu) {
            // SAFETY: the area is the vCPU's own; CPTR_EL2 lets EL2 have the unit, as it does whenever the resident
            // vCPU's registers are in it (`load` and `take_fp`).
            unsafe { __fp_save(&raw mut vcpu.fp) };
        }
        self.vcpu = LiveId::NOBODY;
    }

    /// Brings the copy of the virtual timer up to date.
    pub(super) fn save_timer(vcpu: &mut Vcpu) {
        use crate::vcpu::timer_ctl::{ENABLE, IMASK};
        vcpu.virtual_timer.ctl = read!("CNTV_CTL_EL0") & (ENABLE | IMASK);
        vcpu.virtual_timer.cval = read!("CNTV_CVAL_EL0");
    }

    /// Whether the FP registers are `vcpu`'s, as it last had them.
    fn owns_fp(&self, vcpu: &Vcpu) -> bool {
        self.fp == vcpu.fp_live
    }

    /// The guest touched FP or SIMD and the trap is armed: give it the unit. What is in it has been written back
    /// when its owner left.
    #[cold]
    pub(super) fn take_fp(&mut self, vcpu: &mut Vcpu) {
        write!("CPTR_EL2", cptr::FP_ON);
        super::isb();
        // SAFETY: the area is the vCPU's own, and the trap that would come back to us is off.
        unsafe { __fp_load(&raw const vcpu.fp) };
        vcpu.fp_live = LiveId::fresh();
        self.fp = vcpu.fp_live;
    }
}

unsafe extern "C" {
    fn __fp_save(area: *mut FpRegs);
    fn __fp_load(area: *const FpRegs);
}

const _: () = {
    assert!(core::mem::offset_of!(FpRegs, v) == 0);
    assert!(core::mem::offset_of!(FpRegs, fpcr) == 512);
    assert!(core::mem::offset_of!(FpRegs, fpsr) == 520);
    assert!(core::mem::offset_of!(Vcpu, regs) == 0);
};
