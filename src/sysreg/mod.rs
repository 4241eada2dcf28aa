//! Trapped MSR, MRS and system instructions: what each one means.
//!
//! [`lookup`] names an [`Action`] that the run loop carries out. It is a table with deny as its default: an
//! encoding that is not listed, or listed for the other direction alone, is UNDEFINED to the guest. That goes for
//! all that the ID registers hide (PMU, LORegions, RAS, AMU, SPE, trace, SVE, SME, MTE ..), so that what
//! a guest is told and what it meets agree; and for IMPLEMENTATION DEFINED registers (CRn 11 and 15, trapped by
//! HCR_EL2.TIDCP): a kernel for EL1 leaves those to firmware, and KVM answers them in the same way.
//!
//! The debug registers take part as hardware that never does anything: ID_AA64DFR0_EL1 cannot say that there is
//! none. Breakpoints can be set and do not hit; a single step by MDSCR_EL1.SS does not happen.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod timer;

use crate::exit::SysRegId;
use crate::vcpu::El1;
use timer::TimerReg;

/// What a trapped access means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Reads an ID register: [`IdRegs::get`](crate::idregs::IdRegs::get) with CRm and op2.
    Id(u8, u8),
    /// Reads one of the registers that say which CPU this is.
    Identity(Identity),
    /// Reads as this.
    Value(u64),
    /// A write without effect.
    Ignore,
    /// Reads or writes the EL1 physical timer, by [`timer::read`] and [`timer::write`].
    Timer(TimerReg),
    /// Reads the physical counter, in the guest's time.
    Counter,
    /// Writes a register that makes the vGIC send a software generated interrupt.
    Sgi(Sgi),
    /// Reads or writes ICC_SRE_EL1: system registers are used, and that cannot be changed (7), with a vGICv3.
    IccSre,
    /// Reads or writes another register of the GIC's CPU interface: the vGIC's business, UNDEFINED without a vGICv3.
    Icc,
    /// Data cache maintenance by set and way.
    SetWay,
    /// Reads or writes a virtual memory control register, trapped while HCR_EL2.TVM or TRVM is set.
    Vm(El1),
    /// There is no such register, not in this direction.
    Undefined,
}

/// Registers that say which CPU this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// MIDR_EL1: [`Vcpu::midr`](crate::vcpu::Vcpu::midr).
    Midr,
    /// MPIDR_EL1: [`Vcpu::mpidr`](crate::vcpu::Vcpu::mpidr).
    Mpidr,
    /// REVIDR_EL1: the CPU's own, as errata are known by it; trapped by HCR_EL2.TID1 alone.
    Revidr,
}

/// Registers of which a write sends a software generated interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sgi {
    /// ICC_SGI1R_EL1: group 1 of this security state.
    Sgi1,
    /// ICC_ASGI1R_EL1: group 1 of the other security state.
    Asgi1,
    /// ICC_SGI0R_EL1: group 0.
    Sgi0,
}

/// ID registers: op0 3, op1 0, CRn 0. What is left are CRm and op2.
const ID_SPACE: u32 = SysRegId::new(3, 0, 0, 0, 0).raw();
const ID_MASK: u32 = SysRegId::new(3, 7, 15, 0, 0).raw();

/// Written for each interrupt between CPUs, so it is looked at first.
const ICC_SGI1R: SysRegId = SysRegId::new(3, 0, 12, 11, 5);

/// OSLSR_EL1: an OS Lock is implemented (OSLM) and unlocked.
const OSLSR: u64 = 1 << 3;

/// CRm and op2 of an ID register of group 3 (HCR_EL2.TID3), if `reg` is one.
#[inline(always)]
pub fn id_register(reg: SysRegId) -> Option<(u8, u8)> {
    let (_, _, _, crm, op2) = reg.fields();
    (reg.raw() & ID_MASK == ID_SPACE && matches!(crm, 1..=7)).then_some((crm, op2))
}

/// Whether it is a write of ICC_SGI1R_EL1.
#[inline(always)]
pub fn sends_sgi1(reg: SysRegId, read: bool) -> bool {
    reg == ICC_SGI1R && !read
}

/// Whether it is ICC_IAR1_EL1 or ICC_EOIR1_EL1, which a guest uses for each interrupt.
#[inline(always)]
pub fn takes_or_ends(reg: SysRegId) -> bool {
    const IAR1: u32 = SysRegId::new(3, 0, 12, 12, 0).raw();
    const EOIR1: u32 = SysRegId::new(3, 0, 12, 12, 1).raw();
    reg.raw() & !(IAR1 ^ EOIR1) == IAR1
}

/// What an access to `reg` means: a read (MRS), or a write (MSR or a system instruction).
#[inline]
pub fn lookup(reg: SysRegId, read: bool) -> Action {
    if let Some((crm, op2)) = id_register(reg).filter(|_| read) {
        return Action::Id(crm, op2);
    }
    if sends_sgi1(reg, read) {
        return Action::Sgi(Sgi::Sgi1);
    }
    match row(reg) {
        Some(row) if read => row.read,
        Some(row) => row.write,
        None => Action::Undefined,
    }
}

/// The manual's name, for reports; `None` for what no row lists.
pub fn name(reg: SysRegId) -> Option<&'static str> {
    row(reg).map(|row| row.name)
}

/// What is known of a register.
struct Row {
    name: &'static str,
    read: Action,
    write: Action,
}

macro_rules! registers {
    ($($op0:literal $op1:literal $crn:literal $crm:literal $op2:literal, $name:literal, $read:expr, $write:expr;)*) => {
        /// The row of a register, if it has one.
        fn row(reg: SysRegId) -> Option<&'static Row> {
            use {Action::*, TimerReg::*, self::Identity::*, self::Sgi::*};
            // Compares with constants, of which the compiler makes a search.
            match reg.raw() {
                $(raw if raw == const { SysRegId::new($op0, $op1, $crn, $crm, $op2).raw() } =>
                    Some(const { &Row { name: $name, read: $read, write: $write } }),)*
                _ => None,
            }
        }

        /// The encodings of all rows.
        #[cfg(test)]
        const ROWS: &[SysRegId] = &[$(SysRegId::new($op0, $op1, $crn, $crm, $op2)),*];
    };
}

registers! {
    // op0 op1 CRn CRm op2  name            on read            on write
    3 0 12 11 5, "ICC_SGI1R_EL1",           Undefined,         Sgi(Sgi1);
    3 0 12 11 6, "ICC_ASGI1R_EL1",          Undefined,         Sgi(Asgi1);
    3 0 12 11 7, "ICC_SGI0R_EL1",           Undefined,         Sgi(Sgi0);
    3 0 12 12 5, "ICC_SRE_EL1",             IccSre,            IccSre;
    // The rest of the CPU interface, trapped by ICH_HCR_EL2 (TDIR, TC, TALL0, TALL1).
    3 0  4  6 0, "ICC_PMR_EL1",             Icc,               Icc;
    3 0 12  8 0, "ICC_IAR0_EL1",            Icc,               Undefined;
    3 0 12  8 1, "ICC_EOIR0_EL1",           Undefined,         Icc;
    3 0 12  8 2, "ICC_HPPIR0_EL1",          Icc,               Undefined;
    3 0 12  8 3, "ICC_BPR0_EL1",            Icc,               Icc;
    3 0 12  8 4, "ICC_AP0R0_EL1",           Icc,               Icc;
    3 0 12  8 5, "ICC_AP0R1_EL1",           Icc,               Icc;
    3 0 12  8 6, "ICC_AP0R2_EL1",           Icc,               Icc;
    3 0 12  8 7, "ICC_AP0R3_EL1",           Icc,               Icc;
    3 0 12  9 0, "ICC_AP1R0_EL1",           Icc,               Icc;
    3 0 12  9 1, "ICC_AP1R1_EL1",           Icc,               Icc;
    3 0 12  9 2, "ICC_AP1R2_EL1",           Icc,               Icc;
    3 0 12  9 3, "ICC_AP1R3_EL1",           Icc,               Icc;
    3 0 12 11 1, "ICC_DIR_EL1",             Undefined,         Icc;
    3 0 12 11 3, "ICC_RPR_EL1",             Icc,               Undefined;
    3 0 12 12 0, "ICC_IAR1_EL1",            Icc,               Undefined;
    3 0 12 12 1, "ICC_EOIR1_EL1",           Undefined,         Icc;
    3 0 12 12 2, "ICC_HPPIR1_EL1",          Icc,               Undefined;
    3 0 12 12 3, "ICC_BPR1_EL1",            Icc,               Icc;
    3 0 12 12 4, "ICC_CTLR_EL1",            Icc,               Icc;
    3 0 12 12 6, "ICC_IGRPEN0_EL1",         Icc,               Icc;
    3 0 12 12 7, "ICC_IGRPEN1_EL1",         Icc,               Icc;
    // The EL1 physical timer and its counter (CNTHCTL_EL2).
    3 3 14  0 1, "CNTPCT_EL0",              Counter,           Undefined;
    3 3 14  2 0, "CNTP_TVAL_EL0",           Timer(Tval),       Timer(Tval);
    3 3 14  2 1, "CNTP_CTL_EL0",            Timer(Ctl),        Timer(Ctl);
    3 3 14  2 2, "CNTP_CVAL_EL0",           Timer(Cval),       Timer(Cval);
    // Cache maintenance by set and way (HCR_EL2.TSW).
    1 0  7  6 2, "DC ISW",                  Undefined,         SetWay;
    1 0  7 10 2, "DC CSW",                  Undefined,         SetWay;
    1 0  7 14 2, "DC CISW",                 Undefined,         SetWay;
    // Virtual memory control (HCR_EL2.TVM, TRVM).
    3 0  1  0 0, "SCTLR_EL1",               Vm(El1::Sctlr),    Vm(El1::Sctlr);
    3 0  2  0 0, "TTBR0_EL1",               Vm(El1::Ttbr0),    Vm(El1::Ttbr0);
    3 0  2  0 1, "TTBR1_EL1",               Vm(El1::Ttbr1),    Vm(El1::Ttbr1);
    3 0  2  0 2, "TCR_EL1",                 Vm(El1::Tcr),      Vm(El1::Tcr);
    3 0  5  1 0, "AFSR0_EL1",               Vm(El1::Afsr0),    Vm(El1::Afsr0);
    3 0  5  1 1, "AFSR1_EL1",               Vm(El1::Afsr1),    Vm(El1::Afsr1);
    3 0  5  2 0, "ESR_EL1",                 Vm(El1::Esr),      Vm(El1::Esr);
    3 0  6  0 0, "FAR_EL1",                 Vm(El1::Far),      Vm(El1::Far);
    3 0 10  2 0, "MAIR_EL1",                Vm(El1::Mair),     Vm(El1::Mair);
    3 0 10  3 0, "AMAIR_EL1",               Vm(El1::Amair),    Vm(El1::Amair);
    3 0 13  0 1, "CONTEXTIDR_EL1",          Vm(El1::ContextIdr), Vm(El1::ContextIdr);
    // Which CPU this is (HCR_EL2.TID1), and auxiliary control (TACR).
    3 0  0  0 0, "MIDR_EL1",                Identity(Midr),    Undefined;
    3 0  0  0 5, "MPIDR_EL1",               Identity(Mpidr),   Undefined;
    3 0  0  0 6, "REVIDR_EL1",              Identity(Revidr),  Undefined;
    3 1  0  0 7, "AIDR_EL1",                Value(0),          Undefined;
    3 0  1  0 1, "ACTLR_EL1",               Value(0),          Ignore;
    // Debug (MDCR_EL2.TDA, TDOSA, TDRA): two breakpoints and two watchpoints, as ID_AA64DFR0_EL1 says.
    2 0  0  0 2, "OSDTRRX_EL1",             Value(0),          Ignore;
    2 0  0  2 0, "MDCCINT_EL1",             Value(0),          Ignore;
    2 0  0  2 2, "MDSCR_EL1",               Value(0),          Ignore;
    2 0  0  3 2, "OSDTRTX_EL1",             Value(0),          Ignore;
    2 0  0  6 2, "OSECCR_EL1",              Value(0),          Ignore;
    2 0  0  0 4, "DBGBVR0_EL1",             Value(0),          Ignore;
    2 0  0  0 5, "DBGBCR0_EL1",             Value(0),          Ignore;
    2 0  0  0 6, "DBGWVR0_EL1",             Value(0),          Ignore;
    2 0  0  0 7, "DBGWCR0_EL1",             Value(0),          Ignore;
    2 0  0  1 4, "DBGBVR1_EL1",             Value(0),          Ignore;
    2 0  0  1 5, "DBGBCR1_EL1",             Value(0),          Ignore;
    2 0  0  1 6, "DBGWVR1_EL1",             Value(0),          Ignore;
    2 0  0  1 7, "DBGWCR1_EL1",             Value(0),          Ignore;
    2 0  1  0 0, "MDRAR_EL1",               Value(0),          Undefined;
    2 0  1  0 4, "OSLAR_EL1",               Undefined,         Ignore;
    2 0  1  1 4, "OSLSR_EL1",               Value(OSLSR),      Undefined;
    2 0  1  3 4, "OSDLR_EL1",               Value(0),          Ignore;
    2 0  1  4 4, "DBGPRCR_EL1",             Value(0),          Ignore;
    2 0  7  8 6, "DBGCLAIMSET_EL1",         Value(0),          Ignore;
    2 0  7  9 6, "DBGCLAIMCLR_EL1",         Value(0),          Ignore;
    2 0  7 14 6, "DBGAUTHSTATUS_EL1",       Value(0),          Undefined;
    2 3  0  1 0, "MDCCSR_EL0",              Value(0),          Undefined;
    2 3  0  4 0, "DBGDTR_EL0",              Value(0),          Ignore;
    2 3  0  5 0, "DBGDTRRX_EL0/DBGDTRTX_EL0", Value(0),        Ignore;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idregs::{IdRegs, View};
    use std::collections::HashSet;

    fn all() -> impl Iterator<Item = SysRegId> {
        (0..1_u32 << 16).map(|n| SysRegId::new(n >> 14, n >> 11 & 7, n >> 7 & 15, n >> 3 & 15, n & 7))
    }

    fn both(reg: SysRegId) -> [Action; 2] {
        [lookup(reg, true), lookup(reg, false)]
    }

    #[test]
    fn every_encoding_is_listed_or_undefined() {
        let rows: HashSet<_> = ROWS.iter().copied().collect();
        assert_eq!(rows.len(), ROWS.len(), "a row twice");
        let mut listed = 0;
        for reg in all() {
            let (op0, op1, crn, crm, _) = reg.fields();
            let id = (op0, op1, crn) == (3, 0, 0) && (1..8).contains(&crm);
            let defined = both(reg).iter().any(|action| *action != Action::Undefined);
            assert_eq!(defined, id || rows.contains(&reg), "{reg:?}");
            assert_eq!(name(reg).is_some(), rows.contains(&reg));
            listed += usize::from(defined);
        }
        assert_eq!(listed, ROWS.len() + 7 * 8);
    }

    #[test]
    fn reads_give_values_and_writes_do_not() {
        for reg in all() {
            let [read, write] = both(reg);
            assert!(!matches!(read, Action::Ignore | Action::Sgi(_) | Action::SetWay), "{reg:?}");
            let reads =
                matches!(write, Action::Id(..) | Action::Identity(_) | Action::Value(_) | Action::Counter);
            assert!(!reads, "{reg:?}");
        }
    }

    #[test]
    fn id_registers() {
        let regs = IdRegs::new(&[u64::MAX; 64], View { ipa_bits: 48, gic_system_registers: true });
        for crm in 1..8 {
            for op2 in 0..8 {
                let reg = SysRegId::new(3, 0, 0, crm, op2);
                assert_eq!(lookup(reg, true), Action::Id(crm as u8, op2 as u8));
                assert_eq!(lookup(reg, false), Action::Undefined);
                let _ = regs.get(crm as u8, op2 as u8);
            }
        }
        assert_eq!(lookup(SysRegId::new(3, 0, 0, 0, 0), true), Action::Identity(Identity::Midr));
        assert_eq!(lookup(SysRegId::new(3, 0, 0, 0, 5), true), Action::Identity(Identity::Mpidr));
        assert_eq!(lookup(SysRegId::new(3, 0, 0, 8, 0), true), Action::Undefined);
    }

    #[test]
    fn directions() {
        let sgi1r = SysRegId::new(3, 0, 12, 11, 5);
        assert_eq!(both(sgi1r), [Action::Undefined, Action::Sgi(Sgi::Sgi1)]);
        let oslsr = SysRegId::new(2, 0, 1, 1, 4);
        assert_eq!(both(oslsr), [Action::Value(8), Action::Undefined]);
        let oslar = SysRegId::new(2, 0, 1, 0, 4);
        assert_eq!(both(oslar), [Action::Undefined, Action::Ignore]);
        let cntpct = SysRegId::new(3, 3, 14, 0, 1);
        assert_eq!(both(cntpct), [Action::Counter, Action::Undefined]);
        let cisw = SysRegId::new(1, 0, 7, 14, 2);
        assert_eq!(both(cisw), [Action::Undefined, Action::SetWay]);
    }

    #[test]
    fn what_id_registers_hide_is_undefined() {
        let hidden = [
            ("PMCR_EL0", SysRegId::new(3, 3, 9, 12, 0)),
            ("PMCCNTR_EL0", SysRegId::new(3, 3, 9, 13, 0)),
            ("PMUSERENR_EL0", SysRegId::new(3, 3, 9, 14, 0)),
            ("PMINTENSET_EL1", SysRegId::new(3, 0, 9, 14, 1)),
            ("PMCCFILTR_EL0", SysRegId::new(3, 3, 14, 15, 7)),
            ("PMSIDR_EL1", SysRegId::new(3, 0, 9, 9, 7)),
            ("TRBIDR_EL1", SysRegId::new(3, 0, 9, 11, 7)),
            ("LORC_EL1", SysRegId::new(3, 0, 10, 4, 3)),
            ("ERRIDR_EL1", SysRegId::new(3, 0, 5, 3, 0)),
            ("DISR_EL1", SysRegId::new(3, 0, 12, 1, 1)),
            ("AMCR_EL0", SysRegId::new(3, 3, 13, 2, 0)),
            ("MPAM1_EL1", SysRegId::new(3, 0, 10, 5, 0)),
            ("ZCR_EL1", SysRegId::new(3, 0, 1, 2, 0)),
            ("SMCR_EL1", SysRegId::new(3, 0, 1, 2, 6)),
            ("GCR_EL1", SysRegId::new(3, 0, 1, 0, 6)),
            ("APIAKeyLo_EL1", SysRegId::new(3, 0, 2, 1, 0)),
            ("TCR2_EL1", SysRegId::new(3, 0, 2, 0, 3)),
            ("SCXTNUM_EL1", SysRegId::new(3, 0, 13, 0, 7)),
            ("TRFCR_EL1", SysRegId::new(3, 0, 1, 2, 1)),
            ("TRCIDR0", SysRegId::new(2, 1, 0, 8, 7)),
            ("BRBCR_EL1", SysRegId::new(2, 1, 9, 0, 0)),
            ("CNTPCTSS_EL0", SysRegId::new(3, 3, 14, 0, 5)),
            ("GMID_EL1", SysRegId::new(3, 1, 0, 0, 4)),
            ("DBGBVR2_EL1", SysRegId::new(2, 0, 0, 2, 4)),
            ("HCR_EL2", SysRegId::new(3, 4, 1, 1, 0)),
            ("SCTLR_EL12", SysRegId::new(3, 5, 1, 0, 0)),
            ("S3_1_C15_C2_1", SysRegId::new(3, 1, 15, 2, 1)),
            ("S3_1_C11_C0_2", SysRegId::new(3, 1, 11, 0, 2)),
            ("DC CIGSW", SysRegId::new(1, 0, 7, 14, 4)),
        ];
        for (name, reg) in hidden {
            assert_eq!(both(reg), [Action::Undefined; 2], "{name}");
        }
    }

    #[test]
    fn virtual_memory_registers_are_the_ones_named() {
        let mut seen = HashSet::new();
        for reg in all() {
            if let [Action::Vm(a), Action::Vm(b)] = both(reg) {
                assert_eq!(a, b);
                assert_eq!(name(reg), Some(a.name()));
                seen.insert(a.name());
            }
        }
        assert_eq!(seen.len(), 11);
    }

    #[test]
    fn debug_hardware_matches_its_id_register() {
        let regs = IdRegs::new(&[0; 64], View { ipa_bits: 40, gic_system_registers: true });
        let dfr0 = regs.get(5, 0);
        for (op2, count) in [(4, dfr0 >> 12), (5, dfr0 >> 12), (6, dfr0 >> 20), (7, dfr0 >> 20)] {
            for n in 0..16 {
                let there = both(SysRegId::new(2, 0, 0, n, op2)) == [Action::Value(0), Action::Ignore];
                assert_eq!(there, u64::from(n) <= count & 0xf, "register {n}, op2 {op2}");
            }
        }
    }
}
