//! Exceptions that EL2 gives a guest: what the CPU itself would have done on taking one to EL1.
//!
//! [`deliver`] is AArch64.TakeException of the Arm ARM for a target of EL1, as a pure function: the
//! run loop gives it the guest's PC and PSTATE and two EL1 registers, and writes the result back where
//! these live. State of features that guests do not see (TCO, ALLINT, EXLOCK) comes out clear.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::exit::{Abort, Exit};
use crate::regs::pstate;

/// What goes wrong for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The instruction at PC does not exist.
    Undefined {
        /// It has 4 bytes, not the 2 of T32 (ESR_ELx.IL).
        long: bool,
    },
    /// A load, store or cache maintenance went wrong.
    DataAbort {
        /// The virtual address; `None` where the CPU did not say (FnV).
        far: Option<u64>,
        /// ISS beside DFSC and FnV that the guest is told: [`WNR`] and [`CM`].
        iss: u64,
        /// IL of the instruction.
        long: bool,
    },
    /// An instruction fetch went wrong.
    InstructionAbort {
        /// The virtual address; `None` where the CPU did not say (FnV).
        far: Option<u64>,
    },
    /// A system error. The caller looks at PSTATE.A first, or has HCR_EL2.VSE do all this.
    SError {
        /// ISS: zero says nothing about it.
        iss: u64,
    },
}

/// ISS of a data abort: a write.
pub const WNR: u64 = 1 << 6;
/// ISS of a data abort: cache maintenance.
pub const CM: u64 = 1 << 8;
/// ISS of an abort: FAR_EL1 is not valid.
const FNV: u64 = 1 << 10;
/// DFSC and IFSC: synchronous external abort, not on a table walk. The bus answers so where nothing is.
const EXTERNAL_ABORT: u64 = 0b01_0000;
/// ESR_ELx.IL.
const IL: u64 = 1 << 25;

/// SCTLR_EL1.SPAN: exceptions leave PSTATE.PAN as it is.
const SCTLR_SPAN: u64 = 1 << 23;
/// SCTLR_EL1.DSSBS: PSTATE.SSBS on exceptions.
const SCTLR_DSSBS: u64 = 1 << 44;

/// ESR_EL1.EC. The abort classes have bit 0 set when taken from EL1 itself.
mod class {
    pub(super) const UNKNOWN: u64 = 0x00;
    pub(super) const INSTRUCTION_ABORT: u64 = 0x20;
    pub(super) const DATA_ABORT: u64 = 0x24;
    pub(super) const SERROR: u64 = 0x2f;
}

/// The EL1 registers that decide how an exception is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct El1View {
    /// SCTLR_EL1.
    pub sctlr: u64,
    /// VBAR_EL1.
    pub vbar: u64,
}

/// What changes by an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Where the guest goes on: a vector.
    pub pc: u64,
    /// How.
    pub pstate: u64,
    /// ELR_EL1.
    pub elr: u64,
    /// SPSR_EL1.
    pub spsr: u64,
    /// ESR_EL1.
    pub esr: u64,
    /// FAR_EL1; `None` leaves it as it is.
    pub far: Option<u64>,
}

impl Fault {
    /// What a guest gets for an exit that nothing else serves, with the PC still at the instruction.
    ///
    /// `None` for exits that are no fault of the guest. HVC and SMC are never faults here: an unknown call is
    /// answered. For [`Exit::Undefined`] and [`Exit::SysReg`] from AArch32 the caller has looked at the condition.
    pub fn for_exit(exit: &Exit) -> Option<Self> {
        match exit {
            Exit::Mmio(mmio) => Some(Self::data_abort(mmio.abort)),
            Exit::DataAbort(abort) => Some(Self::data_abort(*abort)),
            Exit::InstructionAbort(abort) => Some(Self::InstructionAbort { far: address(*abort) }),
            Exit::SysReg(_) => Some(Self::Undefined { long: true }),
            Exit::Undefined(trap) | Exit::Cp15(trap) => {
                Some(Self::Undefined { long: trap.instruction_bytes() == 4 })
            }
            Exit::SError => Some(Self::SError { iss: 0 }),
            Exit::Hvc(_)
            | Exit::Smc(_)
            | Exit::Wfi(_)
            | Exit::Wfe(_)
            | Exit::Irq
            | Exit::Fp
            | Exit::Again
            | Exit::Unknown(_) => None,
        }
    }

    /// An external abort for a Stage 2 abort: the guest accessed what is not there, or not so.
    ///
    /// Also where the access was one of a table walk: the level that the manual would have in DFSC then is
    /// not known here, and no guest can do more about it than report.
    fn data_abort(abort: Abort) -> Self {
        Self::DataAbort {
            far: address(abort),
            iss: abort.esr & (WNR | CM),
            long: abort.instruction_bytes() == 4,
        }
    }

    /// ESR_EL1, for an exception taken from EL1 itself or from EL0.
    fn syndrome(self, from_el1: bool) -> u64 {
        let fnv = |far: Option<u64>| if far.is_some() { 0 } else { FNV };
        let (class, iss, long) = match self {
            Self::Undefined { long } => (class::UNKNOWN, 0, long),
            Self::DataAbort { far, iss, long } => {
                (class::DATA_ABORT | u64::from(from_el1), iss & (WNR | CM) | fnv(far) | EXTERNAL_ABORT, long)
            }
            Self::InstructionAbort { far } => {
                (class::INSTRUCTION_ABORT | u64::from(from_el1), fnv(far) | EXTERNAL_ABORT, true)
            }
            Self::SError { iss } => (class::SERROR, iss & 0x1ff_ffff, true),
        };
        class << 26 | if long { IL } else { 0 } | iss
    }

    fn far(self) -> Option<u64> {
        match self {
            Self::DataAbort { far, .. } | Self::InstructionAbort { far } => far,
            Self::Undefined { .. } | Self::SError { .. } => None,
        }
    }
}

/// FAR_EL2, unless the abort says that it does not hold.
fn address(abort: Abort) -> Option<u64> {
    (abort.esr & FNV == 0).then_some(abort.far)
}

/// Offset of the vector by where the exception came from (Arm ARM D1.3.1, exception vectors).
fn vector(from: u64) -> u64 {
    if from & pstate::NRW != 0 {
        return 0x600;
    }
    match from & pstate::MODE {
        pstate::EL1T => 0x000,
        pstate::EL1H => 0x200,
        _ => 0x400,
    }
}

/// PSTATE at the vector: EL1 with its own stack, all masked. Flags and DIT stay, and everything else that is
/// not named here is clear: IL, SS, BTYPE, UAO, and of AArch32 the IT, T, E, GE and Q bits.
fn taken(from: u64, sctlr: u64) -> u64 {
    // PAN, DIT and the flags have the same places when they come from AArch32.
    let mut to = from & (pstate::NZCV | pstate::DIT | pstate::PAN) | pstate::EL1H | pstate::DAIF;
    if sctlr & SCTLR_SPAN == 0 {
        to |= pstate::PAN;
    }
    if sctlr & SCTLR_DSSBS != 0 {
        to |= pstate::SSBS;
    }
    to
}

/// Takes `fault` to EL1 for a guest at `pc` with `from` as its PSTATE.
pub fn deliver(fault: Fault, pc: u64, from: u64, el1: &El1View) -> Delivery {
    let from_el1 = from & pstate::NRW == 0 && from & pstate::MODE != pstate::EL0T;
    let kind = if matches!(fault, Fault::SError { .. }) { 0x180 } else { 0 };
    Delivery {
        // VBAR_EL1's low 11 bits are RES0.
        pc: (el1.vbar & !0x7ff) | vector(from) | kind,
        pstate: taken(from, el1.sctlr),
        elr: pc,
        spsr: from,
        esr: fault.syndrome(from_el1),
        far: fault.far(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::GuestPhysAddr;
    use crate::exit::{Mmio, SysReg, SysRegId, Trap};

    const VBAR: u64 = 0xffff_8000_1000_0800;
    const EL1: El1View = El1View { sctlr: SCTLR_SPAN, vbar: VBAR };
    const AARCH32_USER: u64 = pstate::NRW;

    fn abort(esr: u64) -> Abort {
        Abort { ipa: GuestPhysAddr::at(0x1000), far: 0xffff_0000_dead_0000, esr }
    }

    fn undefined(from: u64, el1: El1View) -> Delivery {
        deliver(Fault::Undefined { long: true }, 0x4000, from, &el1)
    }

    #[test]
    fn vector_by_source() {
        for (from, offset) in
            [(pstate::EL1T, 0x000), (pstate::EL1H, 0x200), (pstate::EL0T, 0x400), (AARCH32_USER, 0x600)]
        {
            assert_eq!(undefined(from, EL1).pc, VBAR + offset);
            let error = deliver(Fault::SError { iss: 0 }, 0x4000, from, &EL1);
            assert_eq!(error.pc, VBAR + offset + 0x180);
            assert_eq!(error.esr, 0x2f << 26 | IL);
        }
        let unaligned = El1View { vbar: VBAR | 0x7ff, ..EL1 };
        assert_eq!(undefined(pstate::EL0T, unaligned).pc, VBAR + 0x400);
    }

    #[test]
    fn pstate_is_el1h_masked_with_flags_and_dit_kept() {
        let before = pstate::NZCV | pstate::DIT | pstate::BTYPE | pstate::IL | pstate::SS | pstate::UAO;
        let d = undefined(before | pstate::EL0T | pstate::TCO | pstate::SSBS, EL1);
        assert_eq!(d.pstate, pstate::NZCV | pstate::DIT | pstate::DAIF | pstate::EL1H);
        assert_eq!(d.spsr, before | pstate::TCO | pstate::SSBS);
        assert_eq!((d.elr, d.far), (0x4000, None));
    }

    #[test]
    fn aarch32_state_does_not_come_along() {
        // T32 in an IT block, big endian, with GE and Q.
        let before = AARCH32_USER | 1 << 5 | 0xfc << 8 | 0b11 << 25 | 1 << 9 | 0xf << 16 | 1 << 27 | 1 << 31;
        let d = deliver(Fault::Undefined { long: false }, 0x8002, before, &EL1);
        assert_eq!(d.pstate, 1 << 31 | pstate::DAIF | pstate::EL1H);
        assert_eq!((d.spsr, d.elr, d.esr), (before, 0x8002, 0));
    }

    #[test]
    fn span_and_dssbs() {
        let pan = |from, sctlr| undefined(from, El1View { sctlr, vbar: VBAR }).pstate & pstate::PAN != 0;
        assert!(!pan(pstate::EL0T, SCTLR_SPAN) && pan(pstate::EL0T, 0));
        assert!(pan(pstate::EL1H | pstate::PAN, SCTLR_SPAN), "kept");
        let ssbs = |sctlr| undefined(pstate::SSBS, El1View { sctlr, vbar: VBAR }).pstate & pstate::SSBS != 0;
        assert!(!ssbs(0) && ssbs(SCTLR_DSSBS));
    }

    #[test]
    fn nothing_is_there() {
        let esr = 0x24 << 26 | IL | 1 << 24 | WNR | 0b00_0111;
        let mmio = Exit::Mmio(Mmio { abort: abort(esr) });
        let fault = Fault::for_exit(&mmio).unwrap();
        let from_el1 = deliver(fault, 0x4000, pstate::EL1H, &EL1);
        assert_eq!(from_el1.esr, 0x25 << 26 | IL | WNR | 0x10);
        assert_eq!(from_el1.far, Some(0xffff_0000_dead_0000));
        assert_eq!(deliver(fault, 0x4000, pstate::EL0T, &EL1).esr, 0x24 << 26 | IL | WNR | 0x10);
        assert_eq!(deliver(fault, 0x4000, AARCH32_USER, &EL1).esr >> 26, 0x24);
    }

    #[test]
    fn an_unknown_address_stays_unknown() {
        let fault = Fault::for_exit(&Exit::DataAbort(abort(0x24 << 26 | IL | FNV | CM | 0x10))).unwrap();
        let d = deliver(fault, 0x4000, pstate::EL1H, &EL1);
        assert_eq!((d.esr, d.far), (0x25 << 26 | IL | FNV | CM | 0x10, None));
    }

    #[test]
    fn a_jump_to_nowhere() {
        let fault = Fault::for_exit(&Exit::InstructionAbort(abort(0x20 << 26 | IL | 6))).unwrap();
        let d = deliver(fault, 0x10, pstate::EL1H, &EL1);
        assert_eq!((d.esr, d.far), (0x21 << 26 | IL | 0x10, Some(0xffff_0000_dead_0000)));
        assert_eq!(deliver(fault, 0x10, pstate::EL0T, &EL1).esr, 0x20 << 26 | IL | 0x10);
    }

    #[test]
    fn which_exits_are_faults() {
        let sysreg = SysReg { reg: SysRegId::new(3, 0, 15, 0, 0), rt: 0, read: true };
        assert_eq!(Fault::for_exit(&Exit::SysReg(sysreg)), Some(Fault::Undefined { long: true }));
        let thumb = Trap { esr: 0x07 << 26 };
        assert_eq!(Fault::for_exit(&Exit::Undefined(thumb)), Some(Fault::Undefined { long: false }));
        for exit in [Exit::Hvc(0), Exit::Smc(1), Exit::Irq, Exit::Wfi(thumb), Exit::Wfe(thumb)] {
            assert_eq!(Fault::for_exit(&exit), None);
        }
    }

    #[test]
    fn every_source_gives_a_legal_state() {
        for low in 0..1_u64 << 10 {
            for high in 0..1_u64 << 8 {
                let from = low | high << 20;
                let d = undefined(from, EL1);
                assert_eq!(
                    d.pstate & (pstate::NRW | pstate::MODE | pstate::DAIF),
                    pstate::EL1H | pstate::DAIF
                );
                assert!(d.pc >= VBAR && d.pc < VBAR + 0x800);
            }
        }
    }
}
