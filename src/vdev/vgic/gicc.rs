//! GICC: the CPU interface that a GICv2 guest sees (IHI 0048B, 4.4 and 5.5).
//!
//! Guests of real hardware are given GICV for it, so this one behaves as GICV does: as GICC to a processor that
//! may see both groups, with one active priority register for both.

use super::interface::{EITHER, Form, GROUP0, GROUP1, Groups, OTHER_GROUP, Register, SPURIOUS};
use super::{Access, Kicks, Outcome, Vgic, lr};
use crate::exit::Size;
use crate::vcpu::Lists;
use crate::vdev::AccessError;

/// GICC_IAR.
const IAR: u32 = 0x0c;
/// GICC_EOIR.
const EOIR: u32 = 0x10;
/// GICC_DIR, in a page of its own.
const DIR: u32 = 0x1000;

/// GICC_IIDR: implementer Arm's JEP106 code, architecture version 2, product `M`.
const IIDR: u64 = 0x4d02_043b;

/// GICC_CTLR: EnableGrp0, EnableGrp1, AckCtl, FIQEn, CBPR, EOImode, each where ICH_VMCR_EL2 has it.
const CTLR: u64 =
    lr::VMCR_VENG0 | lr::VMCR_VENG1 | lr::VMCR_VACKCTL | lr::VMCR_VFIQEN | lr::VMCR_VCBPR | lr::VMCR_VEOIM;

const DONE: Outcome = Outcome::Done(0, Kicks::NONE);

/// The registers that are not looked at first.
enum Gicc {
    Ctlr,
    Common(Register),
    Iar,
    Eoir,
    Rpr,
    Hppir,
    Aiar,
    Aeoir,
    Ahppir,
    Iidr,
    Dir,
    Reserved,
}

#[rustfmt::skip]
fn find(offset: u32) -> Gicc {
    match offset {
        //  offset     register                            the manual's name
        0x00        => Gicc::Ctlr,                      // GICC_CTLR   RW
        0x04        => Gicc::Common(Register::Pmr),     // GICC_PMR    RW
        0x08        => Gicc::Common(Register::Bpr0),    // GICC_BPR    RW
        IAR         => Gicc::Iar,                       // GICC_IAR    RO
        EOIR        => Gicc::Eoir,                      // GICC_EOIR   WO
        0x14        => Gicc::Rpr,                       // GICC_RPR    RO
        0x18        => Gicc::Hppir,                     // GICC_HPPIR  RO
        0x1c        => Gicc::Common(Register::Bpr1),    // GICC_ABPR   RW
        0x20        => Gicc::Aiar,                      // GICC_AIAR   RO
        0x24        => Gicc::Aeoir,                     // GICC_AEOIR  WO
        0x28        => Gicc::Ahppir,                    // GICC_AHPPIR RO
        0xd0        => Gicc::Common(Register::Apr(false, 0)), // GICC_APRn RW
        0xd4        => Gicc::Common(Register::Apr(false, 1)),
        0xd8        => Gicc::Common(Register::Apr(false, 2)),
        0xdc        => Gicc::Common(Register::Apr(false, 3)),
        0xfc        => Gicc::Iidr,                      // GICC_IIDR   RO
        DIR         => Gicc::Dir,                       // GICC_DIR    WO
        _           => Gicc::Reserved,
    }
}

/// INTID and, for an SGI, source of a write: as in a list register.
#[inline(always)]
fn intid(value: u64) -> u32 {
    value as u32 & 0x1fff
}

/// The groups of which GICC_IAR gives interrupts.
#[inline(always)]
fn acknowledged(lists: &Lists) -> Groups {
    if lists.vmcr & lr::VMCR_VACKCTL != 0 { EITHER } else { GROUP0 }
}

impl Vgic {
    /// A load.
    #[inline(never)]
    pub(super) fn read_gicc(&self, access: Access, lists: &mut Lists) -> Outcome {
        // What each interrupt comes by. Of hardware nothing is known to be signalled.
        if (access.size, access.offset) == (Size::Word, IAR) {
            let (form, groups) = (Form { single: true, ..self.form() }, acknowledged(lists));
            if let Some(intid) = lists.acknowledge_only(form, groups) {
                return Outcome::Done(intid.into(), Kicks::NONE);
            }
        }
        self.gicc_other(access, None, lists)
    }

    /// A store.
    #[inline(never)]
    pub(super) fn write_gicc(&self, access: Access, value: u64, lists: &mut Lists) -> Outcome {
        // What it goes by.
        if (access.size, access.offset) == (Size::Word, EOIR)
            && lists.emulated
            && lists.end_only(intid(value), EITHER)
        {
            return DONE;
        }
        self.gicc_other(access, Some(value), lists)
    }

    #[inline(never)]
    fn gicc_other(&self, access: Access, write: Option<u64>, lists: &mut Lists) -> Outcome {
        match write {
            _ if access.size != Size::Word => Outcome::Refused(AccessError::BadSize),
            _ if !lists.emulated => self.gicc_of_hardware(access, write),
            Some(value) => self.write_gicc_emulated(access, value, lists),
            None => self.read_gicc_emulated(access, lists),
        }
    }

    /// Hardware has all but GICC_DIR, which it could not do for what is in no list register.
    #[cold]
    fn gicc_of_hardware(&self, access: Access, write: Option<u64>) -> Outcome {
        match (access.offset, write) {
            (DIR, Some(value)) => Outcome::Done(0, self.deactivate(access.me, value & 0x3ff)),
            _ => DONE,
        }
    }

    fn read_gicc_emulated(&self, access: Access, lists: &mut Lists) -> Outcome {
        let value = match find(access.offset) {
            Gicc::Ctlr => lists.vmcr & CTLR,
            Gicc::Common(register) => self.read_interface(lists, register),
            Gicc::Iar => return self.take(access.me, lists, acknowledged(lists), OTHER_GROUP),
            Gicc::Aiar => return self.take(access.me, lists, GROUP1, SPURIOUS),
            Gicc::Rpr => self.running_priority(lists),
            Gicc::Hppir => lists.highest_pending(acknowledged(lists), OTHER_GROUP).into(),
            Gicc::Ahppir => lists.highest_pending(GROUP1, SPURIOUS).into(),
            Gicc::Iidr => IIDR,
            Gicc::Eoir | Gicc::Aeoir | Gicc::Dir | Gicc::Reserved => 0,
        };
        Outcome::Done(value, Kicks::NONE)
    }

    fn write_gicc_emulated(&self, access: Access, value: u64, lists: &mut Lists) -> Outcome {
        let mut kicks = Kicks::NONE;
        match find(access.offset) {
            Gicc::Ctlr => {
                lists.set_vmcr(CTLR, value);
                if let Some(cpu) = self.cpu(access.me) {
                    kicks = self.heed_interface(access.me, cpu, lists);
                }
            }
            Gicc::Common(register) => self.write_interface(lists, register, value),
            // Of either group, AckCtl or not: the interrupt says which.
            Gicc::Eoir => return self.end(access.me, lists, intid(value), EITHER),
            Gicc::Aeoir => return self.end(access.me, lists, intid(value), GROUP1),
            Gicc::Dir => return self.end_later(access.me, lists, intid(value)),
            _ => return DONE,
        }
        Outcome::Done(0, kicks | self.after(access.me, lists, self.form(), 0))
    }
}
