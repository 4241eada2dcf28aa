//! The GICv3 face: distributor and redistributors (IHI 0069, 12.8 to 12.11).
//!
//! One security state (GICD_CTLR.DS is RAO/WI) and affinity routing always on; no LPIs, no message-based
//! SPIs, no extended ranges. What is not in a table below is RAZ/WI.

use super::registers::{self, Array, Place};
use super::{Access, Frame, Kicks, Outcome, Vgic, affinity};
use crate::exit::Size;
use crate::vcpu::{Lists, VcpuId};
use crate::vdev::AccessError;
use core::sync::atomic::Ordering;

/// GICD_CTLR.EnableGrp0 and EnableGrp1.
const CTLR_GROUPS: u32 = 3;
/// GICD_CTLR.ARE and DS, both RAO/WI.
const CTLR_FIXED: u32 = 1 << 4 | 1 << 6;
/// GICD_CTLR.RWP.
const CTLR_RWP: u32 = 1 << 31;
/// GICR_CTLR.RWP.
const GICR_CTLR_RWP: u64 = 1 << 3;
/// GICR_WAKER.ProcessorSleep.
const WAKER_PROCESSOR_SLEEP: u64 = 1 << 1;
/// GICR_WAKER.ChildrenAsleep.
const WAKER_CHILDREN_ASLEEP: u64 = 1 << 2;
/// GICD_IIDR and GICR_IIDR: implementer Arm's JEP106 code, product `M`.
pub(super) const IIDR: u32 = 0x4d00_043b;

/// GICx_PIDR4..7, 0..3, CIDR0..3 from 0xffd0: those of Arm's own GICv3.
const fn ids(part: u32) -> [u32; 12] {
    [0x44, 0, 0, 0, part, 0xb4, 0x3b, 0, 0x0d, 0xf0, 0x05, 0xb1]
}
const GICD_IDS: [u32; 12] = ids(0x92);
const GICR_IDS: [u32; 12] = ids(0x93);

/// GICD_TYPER.
pub(super) fn typer(spi_banks: usize, mpidrs: &[u64]) -> u32 {
    let a3v = mpidrs.iter().any(|&mpidr| affinity::pack(mpidr) >> 24 != 0);
    let rss = mpidrs.iter().any(|&mpidr| mpidr & 0xff > 15);
    // ITLinesNumber, IDbits - 1, A3V, RSS.
    spi_banks as u32 & 31 | 9 << 19 | u32::from(a3v) << 24 | u32::from(rss) << 26
}

/// GICR_TYPER of vCPU `n`: affinity, processor number, Last.
pub(super) fn gicr_typer(n: usize, last: bool, mpidr: u64) -> u64 {
    u64::from(affinity::pack(mpidr)) << 32 | (n as u64) << 8 | u64::from(last) << 4
}

/// The registers of GICD and GICR that are no arrays.
#[derive(Clone, Copy)]
enum Register {
    GicdCtlr,
    GicdTyper,
    GicrCtlr,
    GicrTyper,
    Iidr,
    Waker,
    Ids,
    Reserved,
}

/// What is at `offset` of the distributor.
#[rustfmt::skip]
#[inline(always)]
fn gicd_register(offset: u32) -> (Register, Size) {
    match offset {
        //  offset          register             width          the manual's name
        0x0000           => (Register::GicdCtlr,  Size::Word),   // GICD_CTLR       RW
        0x0004           => (Register::GicdTyper, Size::Word),   // GICD_TYPER      RO
        0x0008           => (Register::Iidr,      Size::Word),   // GICD_IIDR       RO
        0x000c..=0x0010  => (Register::Reserved,  Size::Word),   // GICD_TYPER2, GICD_STATUSR: not implemented
        0xffd0..=0xffff  => (Register::Ids,       Size::Word),   // GICD_PIDRn, GICD_CIDRn RO
        _                => (Register::Reserved,  Size::Double),
    }
}

/// What is at `offset` of RD_base.
#[rustfmt::skip]
#[inline(always)]
fn gicr_register(offset: u32) -> (Register, Size) {
    match offset {
        //  offset          register             width          the manual's name
        0x0000           => (Register::GicrCtlr,  Size::Word),   // GICR_CTLR       RW
        0x0004           => (Register::Iidr,      Size::Word),   // GICR_IIDR       RO
        0x0008 | 0x000c  => (Register::GicrTyper, Size::Double), // GICR_TYPER      RO
        0x0010           => (Register::Reserved,  Size::Word),   // GICR_STATUSR: not implemented
        0x0014           => (Register::Waker,     Size::Word),   // GICR_WAKER      RW
        0xffd0..=0xffff  => (Register::Ids,       Size::Word),   // GICR_PIDRn, GICR_CIDRn RO
        _                => (Register::Reserved,  Size::Double), // LPI registers and what is reserved
    }
}

/// Whether an access of `size` suits a register of `width`: words always; 64 bits where it has them.
#[inline(always)]
fn legal(register: Register, width: Size, size: Size) -> bool {
    size == Size::Word || size == width || matches!((register, width), (Register::Reserved, Size::Double))
}

const DONE: Outcome = Outcome::Done(0, Kicks::NONE);
const BAD_SIZE: Outcome = Outcome::Refused(AccessError::BadSize);

fn done(value: u64) -> Outcome {
    Outcome::Done(value, Kicks::NONE)
}

/// GICD_IROUTER32 to GICD_IROUTER1019 and what is reserved after them.
const IROUTER: core::ops::Range<u32> = 0x6100..0x8000;

fn id(ids: &[u32; 12], offset: u32) -> Outcome {
    done(ids.get((offset as usize).wrapping_sub(0xffd0) >> 2).copied().unwrap_or(0).into())
}

/// What an access to SGI_base is about; `None` if it is RAZ/WI.
#[inline(always)]
fn private_place(access: Access) -> Result<Option<Place>, AccessError> {
    let place = registers::find(access.offset);
    match place.array {
        Array::None if access.size == Size::Word || access.size == Size::Double => Ok(None),
        array if !registers::legal(array, access.size) => Err(AccessError::BadSize),
        Array::Reserved => Ok(None),
        _ => Ok(Some(place).filter(|place| place.first < 32)),
    }
}

/// What an access to the distributor is about.
enum Gicd {
    /// Something of SPIs.
    Shared(Place),
    Register(Register),
    Irouter,
    Nothing,
    BadSize,
}

#[inline(always)]
fn gicd_place(access: Access) -> Gicd {
    let place = registers::find(access.offset);
    if place.array != Array::None {
        // Interrupts 0 to 31 are the redistributors', not the distributor's.
        return match place.array {
            array if !registers::legal(array, access.size) => Gicd::BadSize,
            Array::Reserved => Gicd::Nothing,
            _ if place.first < 32 => Gicd::Nothing,
            _ => Gicd::Shared(place),
        };
    }
    if IROUTER.contains(&access.offset) {
        return Gicd::Irouter;
    }
    let (register, width) = gicd_register(access.offset);
    if legal(register, width, access.size) { Gicd::Register(register) } else { Gicd::BadSize }
}

impl Vgic {
    /// A load.
    #[inline(never)]
    pub(super) fn read_v3(&self, access: Access, frame: Frame, lists: &Lists) -> Outcome {
        match frame {
            Frame::Gicd | Frame::Gicc => self.read_gicd(access, lists),
            Frame::GicrRd(vcpu) => self.read_gicr(access, vcpu),
            Frame::GicrSgi(vcpu) => match private_place(access) {
                Ok(Some(place)) => self.read_private(access, vcpu, place, lists),
                Ok(None) => DONE,
                Err(error) => Outcome::Refused(error),
            },
        }
    }

    /// A store.
    #[inline(never)]
    pub(super) fn write_v3(&self, access: Access, frame: Frame, value: u64) -> Outcome {
        match frame {
            Frame::Gicd | Frame::Gicc => self.write_gicd(access, value),
            Frame::GicrRd(vcpu) => self.write_gicr(access, vcpu, value),
            Frame::GicrSgi(vcpu) => match private_place(access) {
                Ok(Some(place)) => self.write_private(access, vcpu, place, value as u32),
                Ok(None) => DONE,
                Err(error) => Outcome::Refused(error),
            },
        }
    }

    #[inline(always)]
    fn read_gicd(&self, access: Access, lists: &Lists) -> Outcome {
        match gicd_place(access) {
            Gicd::Register(Register::GicdTyper) => done(self.typer.into()),
            Gicd::Register(Register::GicdCtlr) => {
                let rwp = if self.owing.load(Ordering::Relaxed) != 0 { CTLR_RWP } else { 0 };
                done((self.groups.load(Ordering::Relaxed) | CTLR_FIXED | rwp).into())
            }
            Gicd::Register(Register::Iidr) => done(IIDR.into()),
            Gicd::Register(Register::Ids) => id(&GICD_IDS, access.offset),
            Gicd::Register(_) | Gicd::Nothing => DONE,
            Gicd::Shared(place) => self.read_shared(access, place, lists),
            Gicd::Irouter => self.irouter(access, None),
            Gicd::BadSize => BAD_SIZE,
        }
    }

    #[inline(always)]
    fn write_gicd(&self, access: Access, value: u64) -> Outcome {
        match gicd_place(access) {
            Gicd::Shared(place) => self.write_shared(access, place, value as u32),
            Gicd::Irouter => self.irouter(access, Some(value)),
            Gicd::Register(Register::GicdCtlr) => self.set_groups(access.me, value as u32 & CTLR_GROUPS),
            Gicd::Register(_) | Gicd::Nothing => DONE,
            Gicd::BadSize => BAD_SIZE,
        }
    }

    /// The group enables of GICD_CTLR: every vCPU has to look.
    pub(super) fn set_groups(&self, me: VcpuId, groups: u32) -> Outcome {
        let before = self.groups.swap(groups, Ordering::AcqRel);
        if before == groups {
            return DONE;
        }
        let all = Kicks::first(self.cpus.len());
        if before & !groups != 0 {
            for vcpu in all.without(me).filter(|&vcpu| self.is_loaded(vcpu)) {
                self.owe(Kicks::of(vcpu));
            }
        }
        Outcome::Done(0, super::call(&self.cpus, all))
    }

    /// GICD_IROUTERn: 64 bits, or either half.
    #[inline(never)]
    fn irouter(&self, access: Access, write: Option<u64>) -> Outcome {
        if !matches!(access.size, Size::Word | Size::Double) {
            return BAD_SIZE;
        }
        let intid = (access.offset as usize).wrapping_sub(0x6000) >> 3;
        let (bank, lane) = ((intid >> 5).wrapping_sub(1), intid as u32 & 31);
        let shift = if access.offset & 4 != 0 { 32 } else { 0 };
        let mut spis = self.spis.lock();
        let Some(here) = spis.banks.get_mut(bank).filter(|here| here.bank.valid >> lane & 1 != 0) else {
            return DONE;
        };
        let old = here.route(lane);
        let Some(write) = write else {
            return done(old.wrapping_shr(shift) & access.size.mask());
        };
        let mask = access.size.mask().wrapping_shl(shift);
        let new = old & !mask | write.wrapping_shl(shift) & mask;
        let any = new >> 31 & 1 != 0;
        let affinity = affinity::pack(new);
        let target = if any { self.any_vcpu(intid as u32) } else { self.affinities.vcpu(affinity) };
        here.set_route(lane, affinity, any, target);
        Outcome::Done(0, spis.refresh(&self.cpus, bank, super::bit(lane)))
    }

    /// For an interrupt that any vCPU may take (1 of N): one that is awake, by turns. Chosen anew when one falls
    /// asleep or wakes.
    pub(super) fn any_vcpu(&self, intid: u32) -> u8 {
        let turn = intid.checked_rem(self.cpus.len() as u32).unwrap_or(0);
        let awake = self.awake.load(Ordering::Relaxed);
        let from_turn = awake & u64::MAX.wrapping_shl(turn);
        match (from_turn, awake) {
            (0, 0) => turn as u8,
            (0, awake) => awake.trailing_zeros() as u8,
            (from_turn, _) => from_turn.trailing_zeros() as u8,
        }
    }

    #[inline(always)]
    fn read_gicr(&self, access: Access, vcpu: VcpuId) -> Outcome {
        let (register, width) = gicr_register(access.offset);
        if !legal(register, width, access.size) {
            return BAD_SIZE;
        }
        let Some(cpu) = self.cpu(vcpu) else { return DONE };
        match register {
            Register::GicrCtlr => {
                let owing = self.owing.load(Ordering::Relaxed) & Kicks::of(vcpu).0 != 0;
                done(if owing { GICR_CTLR_RWP } else { 0 })
            }
            Register::GicrTyper => {
                let shift = if access.offset & 4 != 0 { 32 } else { 0 };
                done(cpu.typer.wrapping_shr(shift) & access.size.mask())
            }
            Register::Iidr => done(IIDR.into()),
            Register::Waker => {
                let asleep = cpu.asleep.load(Ordering::Relaxed);
                done(if asleep { WAKER_PROCESSOR_SLEEP | WAKER_CHILDREN_ASLEEP } else { 0 })
            }
            Register::Ids => id(&GICR_IDS, access.offset),
            _ => DONE,
        }
    }

    #[inline(always)]
    fn write_gicr(&self, access: Access, vcpu: VcpuId, value: u64) -> Outcome {
        let (register, width) = gicr_register(access.offset);
        if !legal(register, width, access.size) {
            return BAD_SIZE;
        }
        if let (Register::Waker, Some(cpu)) = (register, self.cpu(vcpu)) {
            return Outcome::Done(0, self.set_asleep(vcpu, cpu, value & WAKER_PROCESSOR_SLEEP != 0));
        }
        DONE
    }
}
