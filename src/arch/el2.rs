//! The one table of EL2 registers: what each CPU is set to before it does anything else.
//!
//! Reset values are UNKNOWN on real CPUs (QEMU's are kind), so nothing is left as it was. Traps are
//! denied by default: what no row grants, a guest does not have. VTTBR, VTCR, HCR, VMPIDR, CNTVOFF and
//! the list registers follow the vCPU later (`context.rs`); here they get a harmless value.

use super::sys::{read, write};

/// HCR_EL2 bits (Arm ARM D24.2.53), as guests run with them.
pub mod hcr {
    /// Stage 2 translation.
    pub const VM: u64 = 1 << 0;
    /// Set/way invalidation also cleans.
    pub const SWIO: u64 = 1 << 1;
    /// A Stage 1 walk that hits device memory faults.
    pub const PTW: u64 = 1 << 2;
    /// Physical FIQ to EL2, virtual FIQ on.
    pub const FMO: u64 = 1 << 3;
    /// Physical IRQ to EL2, virtual IRQ on.
    pub const IMO: u64 = 1 << 4;
    /// SError to EL2, virtual SError on.
    pub const AMO: u64 = 1 << 5;
    /// A virtual FIQ (VF) or IRQ (VI) is pending: what an emulated CPU interface signals.
    pub const SIGNALS: u64 = crate::vcpu::HCR_VF | crate::vcpu::HCR_VI;
    /// TLB maintenance is broadcast within the inner shareable domain.
    pub const FB: u64 = 1 << 9;
    /// Barriers reach at least the inner shareable domain.
    pub const BSU_IS: u64 = 1 << 10;
    /// WFI traps.
    pub const TWI: u64 = 1 << 13;
    /// ID registers of group 3 trap.
    pub const TID3: u64 = 1 << 18;
    /// SMC traps.
    pub const TSC: u64 = 1 << 19;
    /// IMPLEMENTATION DEFINED registers trap.
    pub const TIDCP: u64 = 1 << 20;
    /// ACTLR_EL1 traps.
    pub const TACR: u64 = 1 << 21;
    /// Set/way maintenance traps.
    pub const TSW: u64 = 1 << 22;
    /// LORegion registers trap.
    pub const TLOR: u64 = 1 << 35;
    /// RAS error record registers trap.
    pub const TERR: u64 = 1 << 36;
    /// EL1 is AArch64.
    pub const RW: u64 = 1 << 31;

    /// While no guest has run: physical interrupts go to EL2, or they would not end a WFI there (Arm ARM D1.6.1).
    pub const HOST: u64 = RW | FMO | IMO | AMO;

    /// What every vCPU starts with. TID1 and TID2 stay clear: REVIDR, AIDR, CTR and the cache geometry are the CPU's own.
    pub const GUEST: u64 = VM
        | SWIO
        | PTW
        | FMO
        | IMO
        | AMO
        | FB
        | BSU_IS
        | TWI
        | TID3
        | TSC
        | TIDCP
        | TACR
        | TSW
        | RW
        | TLOR
        | TERR;
}

/// CPTR_EL2 with E2H = 0 (Arm ARM D24.2.29): RES1 bits, and traps of trace, activity monitors, SVE, SME and FP.
pub mod cptr {
    /// Everything traps, FP too: nobody's registers are on this CPU, or somebody else's.
    pub const FP_OFF: u64 = 1 << 30 | 1 << 20 | 0x33ff | FP;
    /// The FP and SIMD registers are this vCPU's.
    pub const FP_ON: u64 = FP_OFF & !FP;
    const FP: u64 = 1 << 10;
}

/// MDCR_EL2: debug, OS lock, ROM, PMU, SPE, trace filter trapped; PMU counters all EL1's, none counting at EL2.
mod mdcr {
    pub(super) const TPMCR: u64 = 1 << 5;
    pub(super) const TPM: u64 = 1 << 6;
    pub(super) const TDA: u64 = 1 << 9;
    pub(super) const TDOSA: u64 = 1 << 10;
    pub(super) const TDRA: u64 = 1 << 11;
    pub(super) const TPMS: u64 = 1 << 14;
    pub(super) const HPMD: u64 = 1 << 17;
    pub(super) const TTRF: u64 = 1 << 19;
    pub(super) const TRAPS: u64 = TPMCR | TPM | TDA | TDOSA | TDRA | TPMS | TTRF;
}

/// One four-bit field of an ID register.
const fn field(register: u64, shift: u32) -> u64 {
    register >> shift & 0xf
}

/// What decides which optional registers exist.
struct Features {
    pfr0: u64,
    dfr0: u64,
    mmfr0: u64,
    mmfr1: u64,
}

macro_rules! table {
    ($($register:literal if $present:expr => $value:expr;)*) => {
        $(if $present { write!($register, $value); })*
    };
}

/// Sets every EL2 register of this CPU, apart from those of EL2's own translation (`mmu.rs`) and TPIDR_EL2, which has
/// the top of this CPU's stack for faults since `boot.s`.
///
/// Runs with the MMU off on the CPU that boots, and takes no lock.
pub(super) fn init_cpu() {
    let f = Features {
        pfr0: read!("ID_AA64PFR0_EL1"),
        dfr0: read!("ID_AA64DFR0_EL1"),
        mmfr0: read!("ID_AA64MMFR0_EL1"),
        mmfr1: read!("ID_AA64MMFR1_EL1"),
    };
    // E2H first, and alone: it changes the layout of CPTR_EL2 and CNTHCTL_EL2.
    write!("HCR_EL2", hcr::RW);
    super::isb();

    let pmu = !matches!(field(f.dfr0, 8), 0 | 15);
    let counters = if pmu { read!("PMCR_EL0") >> 11 & 0x1f } else { 0 };
    let pmu_v3p1 = pmu && field(f.dfr0, 8) >= 4;
    let vhe = field(f.mmfr1, 8) != 0;
    let fgt = field(f.mmfr0, 56) != 0;
    let gic_registers = field(f.pfr0, 24) != 0;
    let ras = field(f.pfr0, 28) != 0;
    let always = true;

    table! {
        "HCR_EL2"       if always => hcr::HOST;
        "VPIDR_EL2"     if always => read!("MIDR_EL1");
        "VMPIDR_EL2"    if always => read!("MPIDR_EL1");
        "VTTBR_EL2"     if always => 0;
        "VTCR_EL2"      if always => 1 << 31;
        "CPTR_EL2"      if always => cptr::FP_OFF;
        "MDCR_EL2"      if always => mdcr::TRAPS | counters | if pmu_v3p1 { mdcr::HPMD } else { 0 };
        "HSTR_EL2"      if always => 0;
        "HACR_EL2"      if always => 0;
        "ACTLR_EL2"     if always => 0;
        "AFSR0_EL2"     if always => 0;
        "AFSR1_EL2"     if always => 0;
        "SCTLR_EL1"     if always => 0x30d0_0800; // until a vCPU is resident: Stage 1 of EL1 off
        "TCR_EL1"       if always => 1 << 23 | 1 << 7; // and no walks by speculation: EPD1, EPD0
        "CNTHCTL_EL2"   if always => 0;         // CNTPCT and CNTP trap, no event stream from EL2
        "CNTHP_CTL_EL2" if always => 0;
        "CNTVOFF_EL2"   if always => 0;
        "CNTV_CTL_EL0"  if always => 0;
        "CNTP_CTL_EL0"  if always => 0;
        "PMCR_EL0"      if pmu    => 0;
        "PMCNTENCLR_EL0" if pmu   => u64::MAX >> 32;
        "PMINTENCLR_EL1" if pmu   => u64::MAX >> 32;
        "PMUSERENR_EL0" if pmu    => 0;
        "MDSCR_EL1"     if always => 0;
        "S3_4_C14_C3_1" if vhe    => 0;         // CNTHV_CTL_EL2
        "S3_4_C13_C0_1" if vhe    => 0;         // CONTEXTIDR_EL2
        "S3_4_C12_C1_1" if ras    => 0;         // VDISR_EL2
        "S3_4_C5_C2_3"  if ras    => 0;         // VSESR_EL2
        "S3_4_C1_C1_4"  if fgt    => 0;         // HFGRTR_EL2: features with inverted traps stay trapped
        "S3_4_C1_C1_5"  if fgt    => 0;         // HFGWTR_EL2
        "S3_4_C1_C1_6"  if fgt    => 0;         // HFGITR_EL2
        "S3_4_C3_C1_4"  if fgt    => 0;         // HDFGRTR_EL2
        "S3_4_C3_C1_5"  if fgt    => 0;         // HDFGWTR_EL2
        "S3_4_C1_C2_2"  if field(f.mmfr1, 40) != 0 => 0;            // HCRX_EL2
        "S3_4_C1_C2_1"  if field(f.dfr0, 40) != 0 => 0;             // TRFCR_EL2
        "S3_4_C9_C9_0"  if field(f.dfr0, 32) != 0 => 0;             // PMSCR_EL2
        "S3_4_C10_C5_0" if field(f.pfr0, 40) != 0 => 1 << 49 | 1 << 48; // MPAM2_EL2: both EL1 and EL0 accesses trap
        "S3_4_C14_C0_6" if field(f.mmfr0, 60) >= 2 => 0;            // CNTPOFF_EL2
        "ICC_SRE_EL2"   if gic_registers => 0xf;                    // system registers, no bypass, EL1 may use its own
    }
    super::isb();
    table! {
        "ICH_HCR_EL2"   if gic_registers => 0;
        "ICH_VMCR_EL2"  if gic_registers => 0;
    }
    super::isb();
}
