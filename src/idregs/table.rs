//! What guests may know of the CPU: one row for each field of an ID register that is shown.
//!
//! A field without a row reads as zero, which in each case means "not there" or the least that the
//! architecture allows. A feature gets a row when everything it needs is switched or needs no switching:
//! EL1's basic registers, FP and SIMD are, and nothing else. The last column says why. Arm ARM D24.2.

use Sign::{Signed, Unsigned};

/// How a field counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// From 0, nothing, up.
    Unsigned,
    /// 0xf is below 0, and means that the thing itself is missing.
    Signed,
}

/// A field of four bits that guests see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// CRm of the register; op0 is 3, op1 and CRn are 0.
    pub crm: u8,
    /// Its op2.
    pub op2: u8,
    /// Lowest bit of the field.
    pub lsb: u8,
    /// How it counts.
    pub sign: Sign,
    /// The most that is shown.
    pub most: u8,
    /// The manual's name of register and field.
    pub name: &'static str,
}

const fn row(crm: u8, op2: u8, lsb: u8, sign: Sign, most: u8, name: &'static str) -> Row {
    Row { crm, op2, lsb, sign, most, name }
}

/// The AArch64 registers. PFR0.GIC, MMFR0.PARange and all of DFR0 come from the VM instead.
pub const AARCH64: &[Row] = &[
    // CRm op2 lsb sign  most  register and field                why it is safe
    row(4, 0, 0, Unsigned, 2, "ID_AA64PFR0_EL1.EL0"), //         AArch32 at EL0 needs no more state
    row(4, 0, 4, Unsigned, 1, "ID_AA64PFR0_EL1.EL1"), //         HCR_EL2.RW is set: AArch64 only
    row(4, 0, 16, Signed, 1, "ID_AA64PFR0_EL1.FP"),   //           switched
    row(4, 0, 20, Signed, 1, "ID_AA64PFR0_EL1.AdvSIMD"), //      switched
    row(4, 0, 48, Unsigned, 1, "ID_AA64PFR0_EL1.DIT"), //        PSTATE
    row(4, 0, 56, Unsigned, 1, "ID_AA64PFR0_EL1.CSV2"), //       2 has SCXTNUM_EL1, which is not switched
    row(4, 0, 60, Unsigned, 1, "ID_AA64PFR0_EL1.CSV3"), //       a property
    row(4, 1, 0, Unsigned, 1, "ID_AA64PFR1_EL1.BT"),  //          PSTATE.BTYPE
    row(4, 1, 4, Unsigned, 2, "ID_AA64PFR1_EL1.SSBS"), //        PSTATE
    row(6, 0, 4, Unsigned, 2, "ID_AA64ISAR0_EL1.AES"), //        instructions
    row(6, 0, 8, Unsigned, 1, "ID_AA64ISAR0_EL1.SHA1"),
    row(6, 0, 12, Unsigned, 2, "ID_AA64ISAR0_EL1.SHA2"),
    row(6, 0, 16, Unsigned, 1, "ID_AA64ISAR0_EL1.CRC32"),
    row(6, 0, 20, Unsigned, 2, "ID_AA64ISAR0_EL1.Atomic"), //    3 is LSE128
    row(6, 0, 28, Unsigned, 1, "ID_AA64ISAR0_EL1.RDM"),
    row(6, 0, 32, Unsigned, 1, "ID_AA64ISAR0_EL1.SHA3"),
    row(6, 0, 36, Unsigned, 1, "ID_AA64ISAR0_EL1.SM3"),
    row(6, 0, 40, Unsigned, 1, "ID_AA64ISAR0_EL1.SM4"),
    row(6, 0, 44, Unsigned, 1, "ID_AA64ISAR0_EL1.DP"),
    row(6, 0, 48, Unsigned, 1, "ID_AA64ISAR0_EL1.FHM"),
    row(6, 0, 52, Unsigned, 2, "ID_AA64ISAR0_EL1.TS"),
    row(6, 0, 56, Unsigned, 2, "ID_AA64ISAR0_EL1.TLB"), //       limited to the VMID
    row(6, 0, 60, Unsigned, 1, "ID_AA64ISAR0_EL1.RNDR"),
    row(6, 1, 0, Unsigned, 2, "ID_AA64ISAR1_EL1.DPB"),
    row(6, 1, 12, Unsigned, 1, "ID_AA64ISAR1_EL1.JSCVT"), //     APA, API, GPA, GPI: keys are not switched
    row(6, 1, 16, Unsigned, 1, "ID_AA64ISAR1_EL1.FCMA"),
    row(6, 1, 20, Unsigned, 2, "ID_AA64ISAR1_EL1.LRCPC"),
    row(6, 1, 32, Unsigned, 1, "ID_AA64ISAR1_EL1.FRINTTS"),
    row(6, 1, 36, Unsigned, 1, "ID_AA64ISAR1_EL1.SB"),
    row(6, 1, 40, Unsigned, 1, "ID_AA64ISAR1_EL1.SPECRES"), //   limited to the VMID
    row(6, 1, 44, Unsigned, 1, "ID_AA64ISAR1_EL1.BF16"),
    row(6, 1, 48, Unsigned, 1, "ID_AA64ISAR1_EL1.DGH"),
    row(6, 1, 52, Unsigned, 1, "ID_AA64ISAR1_EL1.I8MM"), //      XS, LS64: HCRX_EL2 keeps them off
    row(6, 2, 4, Unsigned, 1, "ID_AA64ISAR2_EL1.RPRES"), //      FPCR; WFxT hidden: WFIT would have to keep its time
    row(6, 2, 20, Unsigned, 1, "ID_AA64ISAR2_EL1.BC"), //        GPA3, APA3: keys; MOPS: HCRX_EL2 keeps it off
    row(6, 2, 28, Unsigned, 1, "ID_AA64ISAR2_EL1.CLRBHB"),
    row(6, 2, 48, Unsigned, 1, "ID_AA64ISAR2_EL1.RPRFM"),
    row(6, 2, 52, Unsigned, 1, "ID_AA64ISAR2_EL1.CSSC"),
    row(7, 0, 4, Unsigned, 2, "ID_AA64MMFR0_EL1.ASIDBits"), //   TTBR and TCR are switched
    row(7, 0, 8, Unsigned, 1, "ID_AA64MMFR0_EL1.BigEnd"),   //     SCTLR_EL1
    row(7, 0, 16, Unsigned, 1, "ID_AA64MMFR0_EL1.BigEndEL0"),
    row(7, 0, 20, Unsigned, 1, "ID_AA64MMFR0_EL1.TGran16"), //   2 is LPA2: addresses wider than any IPA here
    row(7, 0, 24, Signed, 0, "ID_AA64MMFR0_EL1.TGran64"),
    row(7, 0, 28, Signed, 0, "ID_AA64MMFR0_EL1.TGran4"), //      1 is LPA2
    row(7, 1, 0, Unsigned, 2, "ID_AA64MMFR1_EL1.HAFDBS"), //     works under Stage 2: guest RAM is writable
    row(7, 1, 12, Unsigned, 2, "ID_AA64MMFR1_EL1.HPDS"), //      TCR_EL1
    row(7, 1, 20, Unsigned, 3, "ID_AA64MMFR1_EL1.PAN"),  //       PSTATE, SCTLR_EL1
    row(7, 1, 36, Unsigned, 2, "ID_AA64MMFR1_EL1.ETS"),  //       a property
    row(7, 1, 44, Unsigned, 1, "ID_AA64MMFR1_EL1.AFP"),  //       FPCR
    row(7, 1, 48, Unsigned, 1, "ID_AA64MMFR1_EL1.nTLBPA"), //    a property
    row(7, 1, 60, Unsigned, 1, "ID_AA64MMFR1_EL1.ECBHB"), //     a property; LO hidden, registers UNDEFINED
    row(7, 2, 0, Unsigned, 1, "ID_AA64MMFR2_EL1.CnP"),   //        TTBR
    row(7, 2, 4, Unsigned, 1, "ID_AA64MMFR2_EL1.UAO"),   //        PSTATE
    row(7, 2, 8, Unsigned, 1, "ID_AA64MMFR2_EL1.LSM"),   //        SCTLR_EL1
    row(7, 2, 16, Unsigned, 1, "ID_AA64MMFR2_EL1.VARange"), //   Stage 1's input, not its output
    row(7, 2, 20, Unsigned, 1, "ID_AA64MMFR2_EL1.CCIDX"), //     format of the CCSIDR_EL1 that guests read
    row(7, 2, 28, Unsigned, 1, "ID_AA64MMFR2_EL1.ST"),   //        TCR_EL1
    row(7, 2, 32, Unsigned, 1, "ID_AA64MMFR2_EL1.AT"),
    row(7, 2, 36, Unsigned, 1, "ID_AA64MMFR2_EL1.IDS"), //       EL0's reads go to EL1 without EL2
    row(7, 2, 48, Unsigned, 1, "ID_AA64MMFR2_EL1.TTL"), //       TLBI by EL1
    row(7, 2, 52, Unsigned, 2, "ID_AA64MMFR2_EL1.BBM"), //       of Stage 1
    row(7, 2, 60, Unsigned, 1, "ID_AA64MMFR2_EL1.E0PD"), //      TCR_EL1
];

/// An AArch32 register: the bits that guests see of it where EL0 has AArch32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row32 {
    /// CRm of the register.
    pub crm: u8,
    /// Its op2.
    pub op2: u8,
    /// Ones where the CPU's own value is shown, in whole fields of four bits.
    pub mask: u32,
    /// The manual's name.
    pub name: &'static str,
}

const fn row32(crm: u8, op2: u8, mask: u32, name: &'static str) -> Row32 {
    Row32 { crm, op2, mask, name }
}

/// The AArch32 registers. What is not EL0's business alone is hidden where AArch64 hides it.
pub const AARCH32: &[Row32] = &[
    row32(1, 0, 0x0f0f_ffff, "ID_PFR0_EL1"), //   RAS, AMU hidden
    row32(1, 1, 0x000f_000f, "ID_PFR1_EL1"), //   ProgMod, GenTimer; no EL3, EL2, and the GIC is AArch64's
    row32(1, 4, 0xffff_ffff, "ID_MMFR0_EL1"),
    row32(1, 5, 0xffff_ffff, "ID_MMFR1_EL1"),
    row32(1, 6, 0xffff_ffff, "ID_MMFR2_EL1"),
    row32(1, 7, 0xffff_ffff, "ID_MMFR3_EL1"),
    row32(2, 0, 0xffff_ffff, "ID_ISAR0_EL1"),
    row32(2, 1, 0xffff_ffff, "ID_ISAR1_EL1"),
    row32(2, 2, 0xffff_ffff, "ID_ISAR2_EL1"),
    row32(2, 3, 0xffff_ffff, "ID_ISAR3_EL1"),
    row32(2, 4, 0xffff_ffff, "ID_ISAR4_EL1"),
    row32(2, 5, 0xffff_ffff, "ID_ISAR5_EL1"),
    row32(2, 6, 0x0fff_f0f0, "ID_MMFR4_EL1"), //  SpecSEI, XNX, EVT hidden
    row32(2, 7, 0xffff_ffff, "ID_ISAR6_EL1"),
    row32(3, 0, 0xffff_ffff, "MVFR0_EL1"),
    row32(3, 1, 0xffff_ffff, "MVFR1_EL1"),
    row32(3, 2, 0xffff_ffff, "MVFR2_EL1"),
    row32(3, 4, 0x0000_00ff, "ID_PFR2_EL1"), //   RAS_frac hidden
    row32(3, 6, 0x0000_00ff, "ID_MMFR5_EL1"),
];
