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

/// `CRm op2 lsb sign most "name";` a row. A macro, so that the columns stay columns.
macro_rules! fields {
    ($($crm:literal $op2:literal $lsb:literal $sign:ident $most:literal $name:literal;)*) => {
        &[$(Row { crm: $crm, op2: $op2, lsb: $lsb, sign: $sign, most: $most, name: $name }),*]
    };
}

/// The AArch64 registers. PFR0.GIC, MMFR0.PARange and all of DFR0 come from the VM instead.
pub const AARCH64: &[Row] = fields! {
    // CRm, op2, lsb, sign, most, register and field     why it is safe
    4 0  0 Unsigned 2 "ID_AA64PFR0_EL1.EL0";            // AArch32 at EL0 needs no more state
    4 0  4 Unsigned 1 "ID_AA64PFR0_EL1.EL1";            // HCR_EL2.RW is set: AArch64 only
    4 0 16 Signed   1 "ID_AA64PFR0_EL1.FP";             // switched
    4 0 20 Signed   1 "ID_AA64PFR0_EL1.AdvSIMD";        // switched
    4 0 48 Unsigned 1 "ID_AA64PFR0_EL1.DIT";            // PSTATE
    4 0 56 Unsigned 1 "ID_AA64PFR0_EL1.CSV2";           // 2 has SCXTNUM_EL1, which is not switched
    4 0 60 Unsigned 1 "ID_AA64PFR0_EL1.CSV3";           // a property
    4 1  0 Unsigned 1 "ID_AA64PFR1_EL1.BT";             // PSTATE.BTYPE
    4 1  4 Unsigned 2 "ID_AA64PFR1_EL1.SSBS";           // PSTATE
    6 0  4 Unsigned 2 "ID_AA64ISAR0_EL1.AES";           // instructions
    6 0  8 Unsigned 1 "ID_AA64ISAR0_EL1.SHA1";
    6 0 12 Unsigned 2 "ID_AA64ISAR0_EL1.SHA2";
    6 0 16 Unsigned 1 "ID_AA64ISAR0_EL1.CRC32";
    6 0 20 Unsigned 2 "ID_AA64ISAR0_EL1.Atomic";        // 3 is LSE128
    6 0 28 Unsigned 1 "ID_AA64ISAR0_EL1.RDM";
    6 0 32 Unsigned 1 "ID_AA64ISAR0_EL1.SHA3";
    6 0 36 Unsigned 1 "ID_AA64ISAR0_EL1.SM3";
    6 0 40 Unsigned 1 "ID_AA64ISAR0_EL1.SM4";
    6 0 44 Unsigned 1 "ID_AA64ISAR0_EL1.DP";
    6 0 48 Unsigned 1 "ID_AA64ISAR0_EL1.FHM";
    6 0 52 Unsigned 2 "ID_AA64ISAR0_EL1.TS";
    6 0 56 Unsigned 2 "ID_AA64ISAR0_EL1.TLB";           // limited to the VMID
    6 0 60 Unsigned 1 "ID_AA64ISAR0_EL1.RNDR";
    6 1  0 Unsigned 2 "ID_AA64ISAR1_EL1.DPB";
    6 1 12 Unsigned 1 "ID_AA64ISAR1_EL1.JSCVT";         // APA, API, GPA, GPI: keys are not switched
    6 1 16 Unsigned 1 "ID_AA64ISAR1_EL1.FCMA";
    6 1 20 Unsigned 2 "ID_AA64ISAR1_EL1.LRCPC";
    6 1 32 Unsigned 1 "ID_AA64ISAR1_EL1.FRINTTS";
    6 1 36 Unsigned 1 "ID_AA64ISAR1_EL1.SB";
    6 1 40 Unsigned 1 "ID_AA64ISAR1_EL1.SPECRES";       // limited to the VMID
    6 1 44 Unsigned 1 "ID_AA64ISAR1_EL1.BF16";
    6 1 48 Unsigned 1 "ID_AA64ISAR1_EL1.DGH";
    6 1 52 Unsigned 1 "ID_AA64ISAR1_EL1.I8MM";          // XS, LS64: HCRX_EL2 keeps them off
    6 2  4 Unsigned 1 "ID_AA64ISAR2_EL1.RPRES";         // FPCR; WFxT hidden: WFIT would have to keep its time
    6 2 20 Unsigned 1 "ID_AA64ISAR2_EL1.BC";            // GPA3, APA3: keys; MOPS: HCRX_EL2 keeps it off
    6 2 28 Unsigned 1 "ID_AA64ISAR2_EL1.CLRBHB";
    6 2 48 Unsigned 1 "ID_AA64ISAR2_EL1.RPRFM";
    6 2 52 Unsigned 1 "ID_AA64ISAR2_EL1.CSSC";
    7 0  4 Unsigned 2 "ID_AA64MMFR0_EL1.ASIDBits";      // TTBR and TCR are switched
    7 0 20 Unsigned 1 "ID_AA64MMFR0_EL1.TGran16";       // 2 is LPA2: addresses wider than any IPA here
    7 0 24 Signed   0 "ID_AA64MMFR0_EL1.TGran64";
    7 0 28 Signed   0 "ID_AA64MMFR0_EL1.TGran4";        // 1 is LPA2
    7 1  0 Unsigned 2 "ID_AA64MMFR1_EL1.HAFDBS";        // works under Stage 2: guest RAM is writable
    7 1 12 Unsigned 2 "ID_AA64MMFR1_EL1.HPDS";          // TCR_EL1
    7 1 20 Unsigned 3 "ID_AA64MMFR1_EL1.PAN";           // PSTATE, SCTLR_EL1
    7 1 36 Unsigned 2 "ID_AA64MMFR1_EL1.ETS";           // a property
    7 1 44 Unsigned 1 "ID_AA64MMFR1_EL1.AFP";           // FPCR
    7 1 48 Unsigned 1 "ID_AA64MMFR1_EL1.nTLBPA";        // a property
    7 1 60 Unsigned 1 "ID_AA64MMFR1_EL1.ECBHB";         // a property; LO hidden, registers UNDEFINED
    7 2  0 Unsigned 1 "ID_AA64MMFR2_EL1.CnP";           // TTBR
    7 2  4 Unsigned 1 "ID_AA64MMFR2_EL1.UAO";           // PSTATE
    7 2  8 Unsigned 1 "ID_AA64MMFR2_EL1.LSM";           // SCTLR_EL1
    7 2 16 Unsigned 1 "ID_AA64MMFR2_EL1.VARange";       // Stage 1's input, not its output
    7 2 20 Unsigned 1 "ID_AA64MMFR2_EL1.CCIDX";         // format of the CCSIDR_EL1 that guests read
    7 2 28 Unsigned 1 "ID_AA64MMFR2_EL1.ST";            // TCR_EL1
    7 2 32 Unsigned 1 "ID_AA64MMFR2_EL1.AT";
    7 2 36 Unsigned 1 "ID_AA64MMFR2_EL1.IDS";           // EL0's reads go to EL1 without EL2
    7 2 48 Unsigned 1 "ID_AA64MMFR2_EL1.TTL";           // TLBI by EL1
    7 2 52 Unsigned 2 "ID_AA64MMFR2_EL1.BBM";           // of Stage 1
    7 2 60 Unsigned 1 "ID_AA64MMFR2_EL1.E0PD";          // TCR_EL1
};

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

/// `CRm op2 mask "name";` a row.
macro_rules! words {
    ($($crm:literal $op2:literal $mask:literal $name:literal;)*) => {
        &[$(Row32 { crm: $crm, op2: $op2, mask: $mask, name: $name }),*]
    };
}

/// The AArch32 registers. What is not EL0's business alone is hidden where AArch64 hides it.
pub const AARCH32: &[Row32] = words! {
    1 0 0x0f0f_ffff "ID_PFR0_EL1";  // RAS, AMU hidden
    1 1 0x000f_000f "ID_PFR1_EL1";  // ProgMod, GenTimer; no EL3, EL2, and the GIC is AArch64's
    1 4 0xffff_ffff "ID_MMFR0_EL1";
    1 5 0xffff_ffff "ID_MMFR1_EL1";
    1 6 0xffff_ffff "ID_MMFR2_EL1";
    1 7 0xffff_ffff "ID_MMFR3_EL1";
    2 0 0xffff_ffff "ID_ISAR0_EL1";
    2 1 0xffff_ffff "ID_ISAR1_EL1";
    2 2 0xffff_ffff "ID_ISAR2_EL1";
    2 3 0xffff_ffff "ID_ISAR3_EL1";
    2 4 0xffff_ffff "ID_ISAR4_EL1";
    2 5 0xffff_ffff "ID_ISAR5_EL1";
    2 6 0x0fff_f0f0 "ID_MMFR4_EL1"; // SpecSEI, XNX, EVT hidden
    2 7 0xffff_ffff "ID_ISAR6_EL1";
    3 0 0xffff_ffff "MVFR0_EL1";
    3 1 0xffff_ffff "MVFR1_EL1";
    3 2 0xffff_ffff "MVFR2_EL1";
    3 4 0x0000_00ff "ID_PFR2_EL1";  // RAS_frac hidden
    3 6 0x0000_00ff "ID_MMFR5_EL1";
};
