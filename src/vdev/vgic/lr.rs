//! Bits of the list registers and what goes with them (IHI 0069, 12.4: ICH_LRn_EL2, ICH_HCR_EL2, ICH_VMCR_EL2).

use super::bank::{Bits, bit};
use crate::machine::IntId;
use crate::vcpu::Lists;

/// ICH_LRn_EL2.State: pending.
pub const PENDING: u64 = 1 << 62;
/// ICH_LRn_EL2.State: active; together with [`PENDING`]: both.
pub const ACTIVE: u64 = 1 << 63;
/// ICH_LRn_EL2.State.
pub const STATE: u64 = PENDING | ACTIVE;
/// ICH_LRn_EL2.HW: deactivation also deactivates the physical interrupt pINTID.
pub const HW: u64 = 1 << 61;
/// ICH_LRn_EL2.Group: Group 1.
pub const GROUP1: u64 = 1 << 60;
/// ICH_LRn_EL2.vINTID: the source of a GICv2 guest's SGI, three bits from here, over the INTID's ten.
pub const SOURCE_SHIFT: u32 = 10;
/// ICH_LRn_EL2.Priority, eight bits from here.
pub const PRIORITY_SHIFT: u32 = 48;
/// ICH_LRn_EL2.pINTID, thirteen bits from here, with [`HW`].
pub const PINTID_SHIFT: u32 = 32;
/// ICH_LRn_EL2.EOI, without [`HW`]: deactivation raises a maintenance interrupt.
pub const EOI: u64 = 1 << 41;

/// ICH_HCR_EL2.En.
pub const HCR_EN: u64 = 1 << 0;
/// ICH_HCR_EL2.UIE: maintenance interrupt when at most one list register is in use.
pub const HCR_UIE: u64 = 1 << 1;
/// ICH_HCR_EL2.LRENPIE: maintenance interrupt when EOIcount is not zero.
pub const HCR_LRENPIE: u64 = 1 << 2;
/// ICH_HCR_EL2.NPIE: maintenance interrupt when no list register is pending.
pub const HCR_NPIE: u64 = 1 << 3;
/// ICH_HCR_EL2.VGrp0EIE: maintenance interrupt when the guest enables Group 0. The next three bits: VGrp0DIE, VGrp1EIE, VGrp1DIE.
pub const HCR_VGRP0EIE: u64 = 1 << 4;
/// ICH_HCR_EL2.VGrp0DIE.
pub const HCR_VGRP0DIE: u64 = 1 << 5;
/// ICH_HCR_EL2.VGrp1EIE.
pub const HCR_VGRP1EIE: u64 = 1 << 6;
/// ICH_HCR_EL2.VGrp1DIE.
pub const HCR_VGRP1DIE: u64 = 1 << 7;
/// ICH_HCR_EL2.TC, TALL0, TALL1: every register of the CPU interface traps, where it is emulated.
pub const HCR_TRAPS: u64 = 1 << 10 | 1 << 11 | 1 << 12;
/// ICH_HCR_EL2.TDIR: writes of ICC_DIR_EL1 trap.
pub const HCR_TDIR: u64 = 1 << 14;
/// ICH_HCR_EL2.EOIcount, five bits from here.
pub const HCR_EOICOUNT_SHIFT: u32 = 27;

/// ICH_VMCR_EL2.VENG0.
pub const VMCR_VENG0: u64 = 1 << 0;
/// ICH_VMCR_EL2.VENG1.
pub const VMCR_VENG1: u64 = 1 << 1;
/// ICH_VMCR_EL2.VAckCtl: GICC_IAR of a GICv2 guest acknowledges Group 1 too.
pub const VMCR_VACKCTL: u64 = 1 << 2;
/// ICH_VMCR_EL2.VFIQEn: Group 0 is signalled as FIQ; RES1 for a GICv3 guest.
pub const VMCR_VFIQEN: u64 = 1 << 3;
/// ICH_VMCR_EL2.VCBPR: Group 1 uses the binary point of Group 0.
pub const VMCR_VCBPR: u64 = 1 << 4;
/// ICH_VMCR_EL2.VEOIM: EOImode 1, deactivation by ICC_DIR_EL1.
pub const VMCR_VEOIM: u64 = 1 << 9;
/// ICH_VMCR_EL2.VBPR1, three bits from here.
pub const VMCR_VBPR1_SHIFT: u32 = 18;
/// ICH_VMCR_EL2.VBPR0, three bits from here.
pub const VMCR_VBPR0_SHIFT: u32 = 21;
/// ICH_VMCR_EL2.VPMR, eight bits from here.
pub const VMCR_VPMR_SHIFT: u32 = 24;

/// The INTID of an entry. There are no LPIs, so that ten bits hold it.
#[inline(always)]
pub const fn intid(entry: u64) -> u32 {
    entry as u32 & 0x3ff
}

/// The source CPU of an entry that is an SGI of a GICv2 guest.
#[inline(always)]
pub const fn source(entry: u64) -> u8 {
    (entry >> SOURCE_SHIFT) as u8 & 7
}

/// The priority mask of group priorities (IHI 0069, 4.8.2), Group 0 or 1.
pub(super) fn group_mask(vmcr: u64, group1: bool) -> u8 {
    let bpr0 = vmcr >> VMCR_VBPR0_SHIFT & 7;
    let bpr1 = vmcr >> VMCR_VBPR1_SHIFT & 7;
    let shift = if group1 && vmcr & VMCR_VCBPR == 0 { bpr1 } else { bpr0.wrapping_add(1) };
    0xffu32.wrapping_shl(shift as u32) as u8
}

impl Lists {
    /// Whether the physical interrupt of a linked PPI has to be active while this vCPU is on a CPU: it is
    /// pending or active in a hardware entry, or waits in the vGIC. Valid after a fold.
    pub fn linked_active(&self, ppi: IntId) -> bool {
        let entry = |n| self.lr.get(n as usize & 15).copied().unwrap_or(0);
        let stands_for = |entry: u64| {
            entry & HW != 0 && entry & STATE != 0 && (entry >> PINTID_SHIFT) as u32 & 0x1fff == ppi.0
        };
        let parked = ppi.0 < 32 && self.parked & bit(ppi.0) != 0;
        parked || Bits(self.used.into()).any(|n| stands_for(entry(n)))
    }
}
