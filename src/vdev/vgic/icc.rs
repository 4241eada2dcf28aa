//! ICC_*_EL1: the CPU interface that a GICv3 guest sees, where it traps (IHI 0069, 12.2).

use super::interface::{GROUP0, GROUP1, Groups, Register, SPURIOUS};
use super::{GicVersion, Kicks, Outcome, Vgic, lr};
use crate::exit::SysRegId;
use crate::vcpu::{Lists, VcpuId};

/// An ICC register of CRn 12.
const fn crn12(crm: u32, op2: u32) -> u32 {
    SysRegId::new(3, 0, 12, crm, op2).raw()
}

const IAR1: u32 = crn12(12, 0);
const EOIR1: u32 = crn12(12, 1);
const DIR: u32 = crn12(11, 1);

/// ICC_CTLR_EL1.CBPR.
const CTLR_CBPR: u64 = 1 << 0;
/// ICC_CTLR_EL1.EOImode.
const CTLR_EOIMODE: u64 = 1 << 1;

/// The registers that are not looked at first.
#[rustfmt::skip]
#[derive(Clone, Copy)]
enum Icc {
    /// Those that are the same in both versions.
    Common(Register),
    Iar(Groups),
    Eoir(Groups),
    Hppir(Groups),
    /// Enable of the group with this bit in ICH_VMCR_EL2.
    Igrpen(u64),
    Dir,
    Rpr,
    Ctlr,
}

/// Which register it is, and whether it can be read and written.
#[rustfmt::skip]
fn find(reg: SysRegId) -> Option<(Icc, bool, bool)> {
    const PMR: u32 = SysRegId::new(3, 0, 4, 6, 0).raw();
    const IAR0: u32 = crn12(8, 0);
    const EOIR0: u32 = crn12(8, 1);
    const HPPIR0: u32 = crn12(8, 2);
    const BPR0: u32 = crn12(8, 3);
    const RPR: u32 = crn12(11, 3);
    const HPPIR1: u32 = crn12(12, 2);
    const BPR1: u32 = crn12(12, 3);
    const CTLR: u32 = crn12(12, 4);
    const IGRPEN0: u32 = crn12(12, 6);
    const IGRPEN1: u32 = crn12(12, 7);
    Some(match reg.raw() {
        //  encoding  register                             read   write
        PMR     => (Icc::Common(Register::Pmr),            true,  true),
        IAR0    => (Icc::Iar(GROUP0),                      true,  false),
        EOIR0   => (Icc::Eoir(GROUP0),                     false, true),
        HPPIR0  => (Icc::Hppir(GROUP0),                    true,  false),
        BPR0    => (Icc::Common(Register::Bpr0),           true,  true),
        DIR     => (Icc::Dir,                              false, true),
        RPR     => (Icc::Rpr,                              true,  false),
        IAR1    => (Icc::Iar(GROUP1),                      true,  false),
        EOIR1   => (Icc::Eoir(GROUP1),                     false, true),
        HPPIR1  => (Icc::Hppir(GROUP1),                    true,  false),
        BPR1    => (Icc::Common(Register::Bpr1),           true,  true),
        CTLR    => (Icc::Ctlr,                             true,  true),
        IGRPEN0 => (Icc::Igrpen(lr::VMCR_VENG0),           true,  true),
        IGRPEN1 => (Icc::Igrpen(lr::VMCR_VENG1),           true,  true),
        _       => (Icc::Common(active_priorities(reg)?),  true,  true),
    })
}

/// ICC_AP0Rn_EL1: CRm 8, op2 4 to 7; ICC_AP1Rn_EL1: CRm 9, op2 0 to 3.
fn active_priorities(reg: SysRegId) -> Option<Register> {
    match reg.fields() {
        (3, 0, 12, 8, op2 @ 4..=7) => Some(Register::Apr(false, usize::from(op2 & 3))),
        (3, 0, 12, 9, op2 @ 0..=3) => Some(Register::Apr(true, usize::from(op2))),
        _ => None,
    }
}

/// The INTID of a write: 24 bits.
#[inline(always)]
fn intid(value: u64) -> u32 {
    value as u32 & 0x00ff_ffff
}

impl Vgic {
    /// A trapped read (`write` is `None`) or write of an ICC register by `me`; `None` if it is UNDEFINED.
    ///
    /// Where hardware is the CPU interface ICC_DIR_EL1 alone gets here, after `Machine::fold` and
    /// [`sync`](Self::sync): see [`deactivate`](Self::deactivate).
    pub fn icc(&self, me: VcpuId, reg: SysRegId, write: Option<u64>, lists: &mut Lists) -> Option<Outcome> {
        // What each interrupt comes and goes by. Of hardware nothing is known to be signalled.
        match (reg.raw(), write) {
            (IAR1, None) if self.version == GicVersion::V3 => {
                if let Some(intid) = lists.acknowledge_only(self.form(), GROUP1) {
                    return Some(Outcome::Done(intid.into(), Kicks::NONE));
                }
            }
            (EOIR1, Some(value))
                if self.version == GicVersion::V3
                    && lists.emulated
                    && lists.end_only(intid(value), GROUP1) =>
            {
                return Some(Outcome::Done(0, Kicks::NONE));
            }
            _ => {}
        }
        self.icc_other(me, reg, write, lists)
    }

    #[cold]
    fn icc_of_hardware(&self, me: VcpuId, reg: SysRegId, write: Option<u64>) -> Option<Outcome> {
        let value = write.filter(|_| reg.raw() == DIR && self.version == GicVersion::V3)?;
        Some(Outcome::Done(0, self.deactivate(me, value)))
    }

    #[inline(never)]
    fn icc_other(&self, me: VcpuId, reg: SysRegId, write: Option<u64>, lists: &mut Lists) -> Option<Outcome> {
        if self.version != GicVersion::V3 || !lists.emulated {
            return self.icc_of_hardware(me, reg, write);
        }
        let (register, readable, writable) = find(reg)?;
        // Without the bits of priority that they are for, they are UNDEFINED.
        let absent = matches!(register, Icc::Common(Register::Apr(_, n)) if n >= self.form().aprs());
        if absent || !(if write.is_some() { writable } else { readable }) {
            return None;
        }
        Some(match write {
            Some(value) => self.write_icc(me, register, value, lists),
            None => self.read_icc(me, register, lists),
        })
    }

    fn read_icc(&self, me: VcpuId, register: Icc, lists: &mut Lists) -> Outcome {
        let common = lists.vmcr & lr::VMCR_VCBPR != 0;
        let value = match register {
            Icc::Iar(groups) => return self.take(me, lists, groups, SPURIOUS),
            Icc::Hppir(groups) => lists.highest_pending(groups, SPURIOUS).into(),
            Icc::Rpr => self.running_priority(lists),
            Icc::Igrpen(bit) => u64::from(lists.vmcr & bit != 0),
            Icc::Ctlr => self.icc_ctlr(lists.vmcr),
            // With one binary point for both, that of Group 1 is derived from it.
            Icc::Common(Register::Bpr1) if common => {
                self.read_interface(lists, Register::Bpr0).wrapping_add(1).min(7)
            }
            Icc::Common(register) => self.read_interface(lists, register),
            Icc::Eoir(_) | Icc::Dir => 0,
        };
        Outcome::Done(value, Kicks::NONE)
    }

    fn write_icc(&self, me: VcpuId, register: Icc, value: u64, lists: &mut Lists) -> Outcome {
        match register {
            Icc::Eoir(groups) => return self.end(me, lists, intid(value), groups),
            Icc::Dir => return self.end_later(me, lists, intid(value)),
            Icc::Igrpen(bit) => lists.set_vmcr(bit, if value & 1 != 0 { bit } else { 0 }),
            Icc::Ctlr => {
                let common = if value & CTLR_CBPR != 0 { lr::VMCR_VCBPR } else { 0 };
                let split = if value & CTLR_EOIMODE != 0 { lr::VMCR_VEOIM } else { 0 };
                lists.set_vmcr(lr::VMCR_VCBPR | lr::VMCR_VEOIM, common | split);
            }
            Icc::Common(Register::Bpr1) if lists.vmcr & lr::VMCR_VCBPR != 0 => {}
            Icc::Common(register) => self.write_interface(lists, register, value),
            Icc::Iar(_) | Icc::Hppir(_) | Icc::Rpr => {}
        }
        Outcome::Done(0, self.after(me, lists, self.form(), 0))
    }

    /// ICC_CTLR_EL1: CBPR, EOImode, PRIbits, IDbits (16 bits), SEIS (none), A3V and RSS as the distributor.
    fn icc_ctlr(&self, vmcr: u64) -> u64 {
        let typer = u64::from(self.typer);
        let common = if vmcr & lr::VMCR_VCBPR != 0 { CTLR_CBPR } else { 0 };
        let split = if vmcr & lr::VMCR_VEOIM != 0 { CTLR_EOIMODE } else { 0 };
        let bits = u64::from(self.priority_mask.leading_ones()).wrapping_sub(1) & 7;
        common | split | bits << 8 | (typer >> 24 & 1) << 15 | (typer >> 26 & 1) << 18
    }
}
