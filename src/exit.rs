//! Why a guest stopped running, decoded from the syndrome registers.
//!
//! [`decode`] is pure: `arch` reads ESR_EL2, FAR_EL2 and HPFAR_EL2 and nothing else here touches the
//! machine, so every exit of a real guest can be written down in a test.
//!
//! Sources: Arm ARM (DDI 0487) D24.2.40 ESR_EL2, D24.2.69 HPFAR_EL2.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::addr::GuestPhysAddr;

/// What ended a stay in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A load or store outside the mapped memory, with a valid instruction syndrome.
    Mmio(Mmio),
    /// A data access outside the mapped memory that the syndrome does not describe (a pair, a writeback
    /// form, an atomic, cache maintenance, a table walk), or one that broke a permission.
    DataAbort(Abort),
    /// An instruction fetch outside the mapped memory.
    InstructionAbort(Abort),
    /// A trapped MSR, MRS or system instruction.
    SysReg(SysReg),
    /// A trapped CP15 access (MRC, MCR, MRRC, MCRR) from AArch32 EL0; the PC is still at it.
    Cp15(Trap),
    /// Another trapped instruction, UNDEFINED to the guest.
    Undefined(Trap),
    /// FP or SIMD while the registers are not this vCPU's; `arch` handles it itself.
    Fp,
    /// Nothing that lasts: the guest tries again.
    Again,
    /// HVC with its immediate; the PC is already past it.
    Hvc(u16),
    /// SMC with its immediate; the PC is still at it.
    Smc(u16),
    /// WFI (or WFIT); the PC is still at it.
    Wfi(Trap),
    /// WFE (or WFET); the PC is still at it.
    Wfe(Trap),
    /// A physical interrupt.
    Irq,
    /// A system error taken to EL2 while the guest ran.
    SError,
    /// A class that no guest should be able to cause.
    Unknown(Trap),
}

/// The syndrome of a trapped instruction, for what the decoder does not take apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trap {
    /// ESR_EL2 as it was.
    pub esr: u64,
}

impl Trap {
    /// ESR_EL2.EC, the exception class.
    pub fn class(self) -> u8 {
        class(self.esr)
    }

    /// Bytes of the trapped instruction: ESR_EL2.IL.
    pub fn instruction_bytes(self) -> u64 {
        if self.esr & IL != 0 { 4 } else { 2 }
    }

    /// The condition of an AArch32 instruction, if the syndrome has one (CV set).
    pub fn condition(self) -> Option<u8> {
        (self.esr >> 24 & 1 != 0).then_some((self.esr >> 20 & 0xf) as u8)
    }
}

/// Bytes of one access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Size {
    /// 8 bits.
    Byte = 0,
    /// 16 bits.
    Half = 1,
    /// 32 bits.
    Word = 2,
    /// 64 bits.
    Double = 3,
}

impl Size {
    /// From the SAS field or a power of two.
    pub fn from_log2(log2: u64) -> Self {
        match log2 & 3 {
            0 => Self::Byte,
            1 => Self::Half,
            2 => Self::Word,
            _ => Self::Double,
        }
    }

    /// As a number of bytes.
    pub fn bytes(self) -> u64 {
        1 << self as u8
    }

    /// Ones where the value lies.
    pub fn mask(self) -> u64 {
        u64::MAX >> (64u64.wrapping_sub(8 << self as u8) as u32)
    }
}

/// A load or store of one general register that EL2 can finish for the guest.
///
/// Holds the abort, and takes it apart where asked: most exits need a few fields only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mmio {
    /// The abort behind it, should it turn out that nothing is there.
    pub abort: Abort,
}

impl Mmio {
    /// Where.
    pub fn ipa(&self) -> GuestPhysAddr {
        self.abort.ipa
    }

    /// How much: SAS.
    pub fn size(&self) -> Size {
        Size::from_log2(self.abort.esr >> 22)
    }

    /// The register loaded or stored: SRT; 31 is XZR.
    pub fn reg(&self) -> u8 {
        (self.abort.esr >> 16 & 0x1f) as u8
    }

    /// A store.
    pub fn is_write(&self) -> bool {
        self.abort.is_write()
    }

    /// The register's new content after a load that read `value`: sign extended for LDRSB, LDRSH and LDRSW
    /// (SSE), to 64 bits or to 32 (SF).
    #[inline]
    pub fn extend(&self, value: u64) -> u64 {
        // Bits above those that were read: 64 - 8 * bytes.
        let above = 64u32.wrapping_sub(8 << (self.abort.esr >> 22 & 3));
        let value = value.wrapping_shl(above);
        if self.abort.esr & SSE == 0 {
            return value.wrapping_shr(above);
        }
        let wide = (value as i64).wrapping_shr(above) as u64;
        if self.abort.esr & SF != 0 { wide } else { wide & 0xffff_ffff }
    }
}

/// A Stage 2 abort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// Where; for a table walk, the descriptor.
    pub ipa: GuestPhysAddr,
    /// The virtual address: FAR_EL2 (FnV decides whether it holds).
    pub far: u64,
    /// ESR_EL2.
    pub esr: u64,
}

impl Abort {
    /// A store, or cache maintenance that counts as one (WnR); not for a table walk or a fetch.
    pub fn is_write(self) -> bool {
        self.esr & WNR != 0
    }

    /// The abort hit a Stage 1 table walk.
    pub fn is_table_walk(self) -> bool {
        self.esr & S1PTW != 0
    }

    /// A translation fault: nothing was mapped there (as opposed to a broken permission).
    pub fn is_translation(self) -> bool {
        fault(self.esr) == Fault::Translation
    }

    /// Bytes of the instruction that aborted.
    #[inline]
    pub fn instruction_bytes(self) -> u64 {
        Trap { esr: self.esr }.instruction_bytes()
    }
}

/// A trapped system register access or system instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SysReg {
    /// Which.
    pub reg: SysRegId,
    /// The general register: 31 is XZR.
    pub rt: u8,
    /// MRS (true) or MSR and system instructions (false).
    pub read: bool,
}

/// Op0, Op1, CRn, CRm and Op2 of a system register, packed in the order of the ISS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SysRegId(u32);

impl SysRegId {
    /// The register that assemblers spell `s<op0>_<op1>_c<crn>_c<crm>_<op2>`.
    pub const fn new(op0: u32, op1: u32, crn: u32, crm: u32, op2: u32) -> Self {
        Self(op0 << 20 | op2 << 17 | op1 << 14 | crn << 10 | crm << 1)
    }

    /// The packed form: the ISS with Rt and direction cleared.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// (op0, op1, CRn, CRm, op2).
    pub const fn fields(self) -> (u8, u8, u8, u8, u8) {
        let s = self.0;
        (
            (s >> 20 & 3) as u8,
            (s >> 14 & 7) as u8,
            (s >> 10 & 15) as u8,
            (s >> 1 & 15) as u8,
            (s >> 17 & 7) as u8,
        )
    }
}

impl core::fmt::Debug for SysRegId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (op0, op1, crn, crm, op2) = self.fields();
        write!(f, "s{op0}_{op1}_c{crn}_c{crm}_{op2}")
    }
}

/// Exception classes, ESR_ELx.EC.
pub mod ec {
    /// Trapped WFI, WFE, WFIT, WFET.
    pub const WFX: u8 = 0x01;
    /// MCR or MRC of CP15 from AArch32.
    pub const CP15_32: u8 = 0x03;
    /// MCRR or MRRC of CP15 from AArch32.
    pub const CP15_64: u8 = 0x04;
    /// Trapped access to SVE, Advanced SIMD or floating point (CPTR_EL2.TFP); `arch` handles it itself.
    pub const FP: u8 = 0x07;
    /// HVC from AArch64.
    pub const HVC64: u8 = 0x16;
    /// SMC from AArch64.
    pub const SMC64: u8 = 0x17;
    /// MSR, MRS or system instruction.
    pub const SYS64: u8 = 0x18;
    /// SVE access (CPTR_EL2.TZ).
    pub const SVE: u8 = 0x19;
    /// Instruction abort from a lower level.
    pub const INSTRUCTION_ABORT_LOWER: u8 = 0x20;
    /// Data abort from a lower level.
    pub const DATA_ABORT_LOWER: u8 = 0x24;
    /// SError.
    pub const SERROR: u8 = 0x2f;
}

const IL: u64 = 1 << 25;
const ISV: u64 = 1 << 24;
const SSE: u64 = 1 << 21;
const SF: u64 = 1 << 15;
const S1PTW: u64 = 1 << 7;
const WNR: u64 = 1 << 6;

fn class(esr: u64) -> u8 {
    (esr >> 26 & 0x3f) as u8
}

#[derive(PartialEq, Eq)]
enum Fault {
    Translation,
    Permission,
    External,
    Other,
}

/// The kind of fault in DFSC or IFSC; the level is left out (Arm ARM D24.2.40, DFSC).
fn fault(esr: u64) -> Fault {
    match esr & 0x3f {
        0b00_0100..=0b00_0111 | 0b10_1011 => Fault::Translation,
        0b00_1100..=0b00_1111 => Fault::Permission,
        0b01_0000 | 0b01_0011..=0b01_0111 => Fault::External,
        _ => Fault::Other,
    }
}

/// Whether HPFAR_EL2 does not hold the address of this abort: `arch` must then walk Stage 1 itself.
///
/// It holds it for translation, access flag and address size faults, and for any fault on a Stage 1
/// table walk; not for permission faults (Arm ARM D24.2.69).
pub fn needs_walk(esr: u64) -> bool {
    matches!(class(esr), ec::INSTRUCTION_ABORT_LOWER | ec::DATA_ABORT_LOWER)
        && esr & S1PTW == 0
        && fault(esr) == Fault::Permission
}

/// Whether the syndrome is that of an [`Exit::Mmio`]: a data abort by a translation fault, described by a
/// valid instruction syndrome, and not on a table walk. One comparison, for the most frequent of all.
#[inline(always)]
pub fn is_device_access(esr: u64) -> bool {
    const EC: u64 = 0x3f << 26;
    const FAULT: u64 = 0b11_1100;
    const WANTED: u64 = (ec::DATA_ABORT_LOWER as u64) << 26 | ISV | 0b00_0100;
    esr & (EC | ISV | S1PTW | FAULT) == WANTED
}

/// Whether FAR_EL2 and HPFAR_EL2 are of use for this syndrome.
pub fn is_abort(esr: u64) -> bool {
    matches!(class(esr), ec::INSTRUCTION_ABORT_LOWER | ec::DATA_ABORT_LOWER)
}

/// Decodes a synchronous exception from a guest.
///
/// `ipa` is the page of HPFAR_EL2 (or of the walk that [`needs_walk`] asks for) with the page offset of `far`.
#[inline(always)]
pub fn decode(esr: u64, far: u64, ipa: GuestPhysAddr) -> Exit {
    match class(esr) {
        ec::DATA_ABORT_LOWER => data_abort(esr, far, ipa),
        ec::SYS64 => Exit::SysReg(SysReg {
            reg: SysRegId((esr & 0x3f_fc1e) as u32),
            rt: (esr >> 5 & 0x1f) as u8,
            read: esr & 1 != 0,
        }),
        ec::HVC64 => Exit::Hvc(esr as u16),
        ec::SMC64 => Exit::Smc(esr as u16),
        ec::WFX if esr & 1 == 0 => Exit::Wfi(Trap { esr }),
        ec::WFX => Exit::Wfe(Trap { esr }),
        ec::INSTRUCTION_ABORT_LOWER if fault(esr) == Fault::External => Exit::SError,
        ec::INSTRUCTION_ABORT_LOWER => Exit::InstructionAbort(Abort { ipa, far, esr }),
        ec::SERROR => Exit::SError,
        ec::FP => Exit::Fp,
        ec::CP15_32 | ec::CP15_64 => Exit::Cp15(Trap { esr }),
        // Unknown reason, other coprocessor accesses of AArch32 (CP14, LDC, BXJ ..), SVE, and the like:
        // whatever a CPU traps that the guest was not shown is UNDEFINED to it.
        0x00 | 0x05..=0x06 | 0x14 | 0x08..=0x0e | ec::SVE | 0x1a..=0x1d => Exit::Undefined(Trap { esr }),
        _ => Exit::Unknown(Trap { esr }),
    }
}

#[inline(always)]
fn data_abort(esr: u64, far: u64, ipa: GuestPhysAddr) -> Exit {
    let abort = Abort { ipa, far, esr };
    if fault(esr) == Fault::External {
        return Exit::SError;
    }
    // Only an access to where nothing is mapped is an access to a device. Cache maintenance (CM) never
    // has a valid syndrome, and neither has a table walk.
    if esr & ISV == 0 || !abort.is_translation() || abort.is_table_walk() {
        return Exit::DataAbort(abort);
    }
    Exit::Mmio(Mmio { abort })
}

#[cfg(test)]
mod tests {
    use super::*;

    const IPA: GuestPhysAddr = GuestPhysAddr::at(0x0900_0018);

    #[test]
    fn load_of_a_device_word() {
        // ldr w3, [x1]: EC 0x24, IL, ISV, SAS 2, SRT 3, translation fault level 2.
        let esr = 0x24 << 26 | IL | ISV | 2 << 22 | 3 << 16 | 6;
        let Exit::Mmio(mmio) = decode(esr, 0xffff_0018, IPA) else { panic!() };
        assert_eq!((mmio.size(), mmio.reg(), mmio.is_write()), (Size::Word, 3, false));
        assert_eq!(mmio.abort.far, 0xffff_0018);
    }

    #[test]
    fn pair_and_permission_faults_are_not_device_accesses() {
        let pair = 0x24 << 26 | IL | 6;
        assert!(matches!(decode(pair, 0, IPA), Exit::DataAbort(_)));
        let permission = 0x24 << 26 | IL | ISV | WNR | 0b00_1110;
        assert!(matches!(decode(permission, 0, IPA), Exit::DataAbort(a) if a.is_write()));
        assert!(needs_walk(permission) && !needs_walk(pair));
        assert!(!needs_walk(permission | S1PTW));
    }

    #[test]
    fn external_aborts_are_system_errors() {
        assert_eq!(decode(0x24 << 26 | IL | 0x10, 0, IPA), Exit::SError);
        assert_eq!(decode(0x20 << 26 | IL | 0x10, 0, IPA), Exit::SError);
    }

    #[test]
    fn system_register_fields() {
        // mrs x5, id_aa64pfr0_el1 = s3_0_c0_c4_0
        let id = SysRegId::new(3, 0, 0, 4, 0);
        let esr = 0x18 << 26 | IL | u64::from(id.raw()) | 5 << 5 | 1;
        assert_eq!(decode(esr, 0, IPA), Exit::SysReg(SysReg { reg: id, rt: 5, read: true }));
        assert_eq!(id.fields(), (3, 0, 0, 4, 0));
        assert_eq!(format!("{:?}", SysRegId::new(3, 3, 14, 2, 1)), "s3_3_c14_c2_1");
    }

    #[test]
    fn sign_extension() {
        let mmio = |size: Size, sign_extend: bool, wide: bool| {
            let esr = (size as u64) << 22 | u64::from(sign_extend) << 21 | u64::from(wide) << 15;
            Mmio { abort: Abort { ipa: IPA, far: 0, esr } }
        };
        assert_eq!(mmio(Size::Byte, false, false).extend(0xff80), 0x80);
        assert_eq!(mmio(Size::Byte, true, false).extend(0x80), 0xffff_ff80);
        assert_eq!(mmio(Size::Half, true, true).extend(0x8000), 0xffff_ffff_ffff_8000);
        assert_eq!(mmio(Size::Double, false, true).extend(u64::MAX), u64::MAX);
    }

    #[test]
    fn device_accesses_are_told_by_one_comparison() {
        for low in 0..0x40 {
            for high in [0, ISV, WNR, ISV | WNR, ISV | S1PTW, ISV | 2 << 22] {
                for class in [0x20u64, 0x24, 0x25] {
                    let esr = class << 26 | IL | high | low;
                    let decoded = matches!(decode(esr, 0, IPA), Exit::Mmio(_));
                    // The TLB-level fault of FEAT_LPA2, 0b10_1011, takes the longer way.
                    assert_eq!(is_device_access(esr), decoded && low != 0b10_1011, "{esr:#x}");
                }
            }
        }
    }

    #[test]
    fn every_class_decodes() {
        for class in 0..64u64 {
            for low in [0, 1, 0x3f, 0x1ff_ffff] {
                let _ = decode(class << 26 | low, u64::MAX, IPA);
            }
        }
        assert_eq!(Size::Double.mask(), u64::MAX);
        assert_eq!(Size::Byte.mask(), 0xff);
    }
}
