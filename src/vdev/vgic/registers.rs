//! The register arrays that GICD, GICR and both versions have in common.
//!
//! One row for each array, one function that reads and one that writes, whatever bank it is: 1, 2 or 8 bits
//! for each interrupt, from interrupt 0 up.

use super::bank::{Bank, Bits, bit};
use super::spis::{SpiBank, Spis};
use super::{Access, Kicks, Outcome, Vgic, lr};
use crate::exit::Size;
use crate::sync::MutexGuard;
use crate::vcpu::{Lists, VcpuId};
use core::sync::atomic::Ordering;

/// An array of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Array {
    /// Group 0 or 1.
    Group,
    /// Read or set enables.
    SetEnable,
    /// Read or clear enables.
    ClearEnable,
    /// Read or set pending.
    SetPending,
    /// Read or clear pending.
    ClearPending,
    /// Read or set active.
    SetActive,
    /// Read or clear active.
    ClearActive,
    /// Priority.
    Priority,
    /// Target vCPUs.
    Targets,
    /// Level or edge.
    Config,
    /// RES0.
    Reserved,
    /// Some other registers.
    None,
}

/// Where an array lies.
struct Row {
    /// First byte of the first register.
    first: u16,
    /// Byte after the last.
    end: u16,
    /// log2 of the bits for each interrupt.
    shift: u8,
    /// The versions that have it: [`V2`], [`V3`].
    versions: u8,
    array: Array,
}

/// GICv2: all in GICD, those of interrupts 0 to 31 banked.
const V2: u8 = 1;
/// GICv3 with affinity routing: GICD for SPIs, GICR for others.
const V3: u8 = 2;
const ALL: u8 = V2 | V3;

const fn row(first: u16, end: u16, shift: u8, versions: u8, array: Array, _name: &str) -> Row {
    Row { first, end, shift, versions, array }
}

// In GICR SGI_base the same offsets serve interrupts 0 to 31 alone.
#[rustfmt::skip]
const ROWS: [Row; 12] = [
    //  first  end   bits  version  meaning              GICD_, GICR_
    row(0x080, 0x100, 0, ALL, Array::Group,        "IGROUPR"),   // RW
    row(0x100, 0x180, 0, ALL, Array::SetEnable,    "ISENABLER"), // RW
    row(0x180, 0x200, 0, ALL, Array::ClearEnable,  "ICENABLER"), // RW
    row(0x200, 0x280, 0, ALL, Array::SetPending,   "ISPENDR"),   // RW; GICv2: SGIs RO
    row(0x280, 0x300, 0, ALL, Array::ClearPending, "ICPENDR"),   // RW; GICv2: SGIs RO
    row(0x300, 0x380, 0, ALL, Array::SetActive,    "ISACTIVER"), // RW
    row(0x380, 0x400, 0, ALL, Array::ClearActive,  "ICACTIVER"), // RW
    row(0x400, 0x800, 3, ALL, Array::Priority,     "IPRIORITYR"),// RW, bytes too
    row(0x800, 0xc00, 3, V2,  Array::Targets,      "ITARGETSR"), // RW, bytes too; 0 to 31 RO
    row(0xc00, 0xd00, 1, ALL, Array::Config,       "ICFGR"),     // RW; SGIs RO
    row(0xd00, 0xd80, 0, V3,  Array::Reserved,     "IGRPMODR"),  // RAZ/WI with GICD_CTLR.DS
    row(0xe00, 0xf00, 1, ALL, Array::Reserved,     "NSACR"),     // RAZ/WI with GICD_CTLR.DS, no Security Extensions
];

/// What lies in 128 bytes of registers.
#[derive(Clone, Copy)]
struct Slot {
    array: Array,
    shift: u8,
    /// Of the offset: what remains within the array.
    mask: u16,
}

/// For each 128 bytes up to 0x1000.
type Slots = [Slot; 32];
static SLOTS_V2: Slots = slots(V2);
static SLOTS_V3: Slots = slots(V3);

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "evaluated by the compiler")]
const fn slots(version: u8) -> Slots {
    let mut slots = [Slot { array: Array::None, shift: 0, mask: 0 }; 32];
    let mut n = 0;
    while n < ROWS.len() {
        let Row { first, end, shift, versions, array } = ROWS[n];
        let mask = end - first - 1;
        // Arrays are as large as a power of two, and aligned to it.
        assert!((mask + 1).is_power_of_two() && first & mask == 0);
        let mut place = first;
        while place < end && versions & version != 0 {
            slots[place as usize >> 7] = Slot { array, shift, mask };
            place += 0x80;
        }
        n += 1;
    }
    slots
}

const DONE: Outcome = Outcome::Done(0, Kicks::NONE);

/// What an access means: the array, and the first interrupt that it is about.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) array: Array,
    /// Interrupt number, counted from 0 (SGI 0).
    pub(super) first: u32,
}

impl Place {
    /// Which bank of SPIs.
    pub(super) fn shared_bank(self) -> usize {
        (self.first as usize >> 5).wrapping_sub(1)
    }
}

/// What is at an offset of GICv3's GICD or SGI_base; [`Array::None`] if it is no array.
#[inline(always)]
pub(super) fn find(offset: u32) -> Place {
    find_in(&SLOTS_V3, offset)
}

/// What is at an offset of GICv2's GICD.
#[inline(always)]
pub(super) fn find_v2(offset: u32) -> Place {
    find_in(&SLOTS_V2, offset)
}

#[inline(always)]
fn find_in(slots: &Slots, offset: u32) -> Place {
    let slot = slots.get(offset as usize >> 7);
    let Slot { array, shift, mask } = slot.copied().unwrap_or(Slot { array: Array::None, shift: 0, mask: 0 });
    let first = (offset & u32::from(mask)).wrapping_shl(3).wrapping_shr(shift.into());
    Place { array, first }
}

/// Whether an array can be accessed by this size.
#[inline(always)]
pub(super) fn legal(array: Array, size: Size) -> bool {
    size == Size::Word || size == Size::Byte && matches!(array, Array::Priority | Array::Targets)
}

/// What a read of `array` from `lane` on gives; `pending` and `active` as the guest is to see them.
#[inline(always)]
fn read(bank: &Bank, array: Array, lane: u32, size: Size, pending: u32, active: u32) -> u32 {
    match array {
        Array::Group => bank.group,
        Array::SetEnable | Array::ClearEnable => bank.enabled,
        Array::SetPending | Array::ClearPending => pending,
        Array::SetActive | Array::ClearActive => active,
        Array::Priority if size == Size::Byte => bank.priority(lane).into(),
        Array::Priority => (0..4).rev().fold(0, |word, n| word << 8 | u32::from(bank.priority(lane | n))),
        Array::Config => spread(bank.edge >> (lane & 16)),
        Array::Targets | Array::Reserved | Array::None => 0,
    }
}

/// Each of the low 16 bits to bit 1 of a field of two.
fn spread(bits: u32) -> u32 {
    Bits(bits & 0xffff).fold(0, |word, n| word | bit(n.wrapping_mul(2) | 1))
}

/// The reverse.
fn gather(word: u32) -> u32 {
    (0..16u32).filter(|n| word & bit(n.wrapping_mul(2) | 1) != 0).fold(0, |bits, n| bits | bit(n))
}

/// A write; says which interrupts it is about.
#[inline(always)]
fn write(bank: &mut Bank, place: Place, size: Size, value: u32, priority_mask: u8) -> u32 {
    let lanes = value & bank.valid;
    match place.array {
        Array::SetEnable => bank.enabled |= lanes,
        Array::ClearEnable => bank.enabled &= !lanes,
        Array::Priority => return write_priority(bank, place.first & 31, size, value, priority_mask),
        _ => return write_rare(bank, place, value, lanes),
    }
    lanes
}

#[inline(never)]
fn write_rare(bank: &mut Bank, place: Place, value: u32, lanes: u32) -> u32 {
    match place.array {
        Array::Group => {
            let changed = bank.group ^ lanes;
            bank.group = lanes;
            return changed;
        }
        Array::SetPending => bank.set_pending(lanes),
        Array::ClearPending => bank.clear_pending(lanes),
        Array::SetActive => bank.set_active(lanes),
        Array::ClearActive => bank.clear_active(lanes),
        Array::Config => {
            let half = place.first & 16;
            let field = 0xffffu32.wrapping_shl(half) & bank.valid & !bank.fixed;
            let edge = bank.edge & !field | gather(value).wrapping_shl(half) & field;
            let changed = edge ^ bank.edge;
            bank.edge = edge;
            return changed;
        }
        _ => return 0,
    }
    lanes
}

#[inline(never)]
fn write_priority(bank: &mut Bank, lane: u32, size: Size, value: u32, mask: u8) -> u32 {
    let count = size.bytes() as usize;
    let lanes = bit(count as u32).wrapping_sub(1).wrapping_shl(lane) & bank.valid;
    // Those that do not exist, 1020 to 1023, have words of their own.
    let count = if lanes == 0 { 0 } else { count };
    let slots = bank.priority.iter_mut().skip(lane as usize).take(count);
    for (slot, value) in slots.zip(value.to_le_bytes()) {
        *slot = value & mask;
    }
    lanes
}

/// The state of those of `lanes` that `lists`, folded, hold of a bank: pending, active.
fn state_in_lists(lists: &Lists, first: u32, lanes: u32) -> (u32, u32) {
    let (mut pending, mut active) = (0, 0);
    for n in Bits(lists.used.into()) {
        let entry = lists.lr.get(n as usize & 15).copied().unwrap_or(0);
        let intid = lr::intid(entry);
        let b = bit(intid & 31) & lanes;
        if intid & !31 == first {
            pending |= if entry & lr::PENDING != 0 { b } else { 0 };
            active |= if entry & lr::ACTIVE != 0 { b } else { 0 };
        }
    }
    (pending, active)
}

impl Vgic {
    /// A read of an array of a private bank.
    #[inline(never)]
    pub(super) fn read_private(&self, access: Access, vcpu: VcpuId, place: Place, lists: &Lists) -> Outcome {
        let Some(cpu) = self.cpu(vcpu) else { return DONE };
        let mut private = cpu.private.lock();
        let own = if vcpu == access.me { u32::MAX } else { 0 };
        self.read_bank(access, lists, &mut private.bank, place, 0, own, |_| vcpu)
    }

    /// A write to an array of a private bank.
    #[inline(never)]
    pub(super) fn write_private(&self, access: Access, vcpu: VcpuId, place: Place, value: u32) -> Outcome {
        let Some(cpu) = self.cpu(vcpu) else { return DONE };
        let mut private = cpu.private.lock();
        let bank = &mut private.bank;
        let before = bank.listed | bank.wanted();
        let touched = write(bank, place, access.size, value, self.priority_mask);
        if touched & (before | bank.wanted()) | bank.release == 0 {
            return DONE;
        }
        if vcpu == access.me {
            cpu.look_later();
            return DONE;
        }
        if place.array == Array::ClearEnable && touched & bank.listed != 0 {
            self.owe(Kicks::of(vcpu));
        }
        Outcome::Done(0, self.look(cpu, vcpu))
    }

    /// A read of an array of SPIs.
    #[inline(never)]
    pub(super) fn read_shared(&self, access: Access, place: Place, lists: &Lists) -> Outcome {
        let mut spis = self.spis.lock();
        let bank = place.shared_bank();
        let Some(here) = spis.banks.get_mut(bank) else { return DONE };
        let listed = here.bank.listed;
        let own = if listed == 0 { 0 } else { here.at_home(listed, access.me.0 as u8) };
        let SpiBank { bank, home, .. } = here;
        self.read_bank(access, lists, bank, place, place.first & !31, own, |lane| {
            VcpuId(home.get(lane as usize & 31).copied().unwrap_or(0).into())
        })
    }

    /// A write to an array of SPIs.
    #[inline(never)]
    pub(super) fn write_shared(&self, access: Access, place: Place, value: u32) -> Outcome {
        if place.array != Array::SetEnable {
            return self.write_shared_rare(access, place, value);
        }
        let mut spis = self.spis.lock();
        let bank = place.shared_bank();
        let Some(here) = spis.banks.get_mut(bank) else { return DONE };
        let touched = value & here.bank.valid;
        here.bank.enabled |= touched;
        if !here.concerns(touched) {
            return DONE;
        }
        self.after_write(spis, access.me, bank, place.array, touched)
    }

    #[inline(never)]
    fn write_shared_rare(&self, access: Access, place: Place, value: u32) -> Outcome {
        let mut spis = self.spis.lock();
        let bank = place.shared_bank();
        let Some(here) = spis.banks.get_mut(bank) else { return DONE };
        if place.array == Array::SetActive {
            here.settle_homes(value);
        }
        let touched = write(&mut here.bank, place, access.size, value, self.priority_mask);
        if !here.concerns(touched) {
            return DONE;
        }
        self.after_write(spis, access.me, bank, place.array, touched)
    }

    #[inline(never)]
    fn after_write(
        &self,
        mut spis: MutexGuard<'_, Spis>,
        me: VcpuId,
        bank: usize,
        array: Array,
        touched: u32,
    ) -> Outcome {
        let listed = spis.banks.get(bank).map_or(0, |here| here.bank.listed);
        let concerned = spis.settle(&self.cpus, bank, touched);
        if array == Array::ClearEnable && touched & listed != 0 {
            self.owe(concerned.without(me));
        }
        Outcome::Done(0, super::call(&self.cpus, concerned))
    }

    /// Until these have been through `sync`, GICx_CTLR.RWP reads as one. Before they are called, or one that
    /// comes at once would have paid before it owed.
    pub(super) fn owe(&self, vcpus: Kicks) {
        self.owing.fetch_or(vcpus.0, Ordering::Relaxed);
    }

    /// A read of an array, `bank`, of which interrupt 0 is INTID `first`. `own`: those of its lanes that are in list registers of the reader, if listed.
    #[inline(always)]
    #[allow(clippy::too_many_arguments, reason = "a closure over them costs more than it says")]
    fn read_bank(
        &self,
        access: Access,
        lists: &Lists,
        bank: &mut Bank,
        place: Place,
        first: u32,
        own: u32,
        home: impl Fn(u32) -> VcpuId,
    ) -> Outcome {
        use Array::{ClearActive, ClearPending, SetActive, SetPending};
        let (mut pending, mut active) = (bank.pending(), bank.active);
        let live = matches!(place.array, SetPending | ClearPending | SetActive | ClearActive);
        if live && bank.listed | bank.answered != 0 {
            match self.read_listed(lists, bank, first, own, home) {
                Ok((p, a)) => (pending, active) = (p, a),
                Err(outcome) => return outcome,
            }
        }
        let value = read(bank, place.array, place.first & 31, access.size, pending, active);
        Outcome::Done(value.into(), Kicks::NONE)
    }

    /// Pending and active state of a bank, some of which is in list registers.
    #[cold]
    fn read_listed(
        &self,
        lists: &Lists,
        bank: &mut Bank,
        first: u32,
        own: u32,
        home: impl Fn(u32) -> VcpuId,
    ) -> Result<(u32, u32), Outcome> {
        let own = bank.listed & own;
        if own != 0 && lists.loaded {
            return Err(Outcome::Fold);
        }
        let others = bank.listed & !own;
        let unknown = others & !bank.answered;
        if let Some(lane) = Bits(unknown).next() {
            let holder = home(lane);
            bank.asked |= unknown;
            bank.odd |= unknown;
            super::call(&self.cpus, Kicks::of(holder));
            return Err(Outcome::Remote(holder));
        }
        bank.answered &= own;
        // What registers did to the reader's own since they were listed counts already.
        let (p, a) = state_in_lists(lists, first, own);
        // Of a level the line alone says whether it pends.
        let p = (p | others) & bank.moved & !bank.drop;
        let a = (a | bank.active & others) & !bank.quiet | bank.rouse;
        Ok((bank.pending() | p, bank.active & !bank.listed | a))
    }
}
