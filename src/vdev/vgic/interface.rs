//! A virtual CPU interface in software, for where the hardware has none.
//!
//! It does with [`Lists`] what the hardware does with its list registers (IHI 0069, 4.8 and 6.3), so that the
//! rest of the vGIC need not know who does it. GICv2 guests reach it by [`gicc`](super::gicc), GICv3 guests by
//! [`icc`](super::icc). What they have in common is here: which interrupt is the most urgent, whether it may
//! be taken, what becomes of it, and when the vGIC has to hear of it.
//!
//! Every access is an exit, so the common case is the measure of all: one list register, which needs neither a
//! lock nor a second look. Only a maintenance condition, what would be an interrupt to EL2 elsewhere, leads
//! to a [`sync`](Vgic::sync), and that on the spot.

use super::bank::{Bits, bit};
use super::load::read;
use super::{GicVersion, Kicks, Outcome, Vgic, lr};
use crate::vcpu::{HCR_VF, HCR_VI, Lists, VcpuId};

/// The INTID that says: nothing to take (IHI 0069, 2.2.1).
pub(super) const SPURIOUS: u32 = 1023;
/// The INTID that says: of Group 1, which is acknowledged elsewhere (IHI 0048B, 3.2.5).
pub(super) const OTHER_GROUP: u32 = 1022;
/// From here on INTIDs are special, reserved, or LPIs, of which there are none here.
const SPECIAL: u32 = 1020;

/// A set of groups: bit 0 for Group 0, bit 1 for Group 1.
pub(super) type Groups = u32;
/// Group 0 alone.
pub(super) const GROUP0: Groups = 1;
/// Group 1 alone.
pub(super) const GROUP1: Groups = 2;
/// Either.
pub(super) const EITHER: Groups = 3;

/// ICH_HCR_EL2.EOIcount.
const EOICOUNT: u64 = 31 << lr::HCR_EOICOUNT_SHIFT;

/// What the registers of a VM's CPU interfaces are like.
#[derive(Clone, Copy)]
pub(super) struct Form {
    /// Bits of a priority that make no difference to preemption: a bit of the active priority registers
    /// stands for `1 << shift` priorities.
    pub(super) shift: u32,
    /// One set of active priority registers for both groups: GICv2.
    pub(super) single: bool,
}

impl Form {
    /// `intid` as in a list register, without the source that GICv2 gives an SGI.
    #[inline(always)]
    fn bare(self, intid: u32) -> u32 {
        if self.single { intid & 0x3ff } else { intid }
    }

    /// How many active priority registers a group has.
    pub(super) fn aprs(self) -> usize {
        match self.shift {
            0 | 1 => 4,
            2 => 2,
            _ => 1,
        }
    }

    /// The bits of an active priority register that exist.
    fn apr_mask(self) -> u64 {
        if self.shift > 3 { 0xffff } else { 0xffff_ffff }
    }

    /// The least value of a binary point (ICC_BPR0_EL1; IHI 0069, 4.8.2).
    pub(super) fn least_bpr(self, group1: bool) -> u64 {
        u64::from(self.shift.wrapping_sub(u32::from(!group1)) & 7)
    }
}

#[inline(always)]
fn group(entry: u64) -> u32 {
    (entry >> 60 & 1) as u32
}

#[inline(always)]
fn priority(entry: u64) -> u32 {
    (entry >> lr::PRIORITY_SHIFT) as u32 & 0xff
}

/// Whether it is an entry of which the end is to be told (ICH_EISR_EL2).
#[inline(always)]
fn told(entry: u64) -> bool {
    entry & (lr::STATE | lr::HW | lr::EOI) == lr::EOI
}

impl Lists {
    /// The most urgent pending interrupt of a group that is on, and its list register. Among equals the first.
    #[inline(always)]
    fn highest(&self) -> Option<(u32, u64)> {
        let mut best = None;
        let mut limit = 0x100;
        for n in Bits(self.used.into()) {
            let entry = read(self, n);
            let on = (self.vmcr as u32).wrapping_shr(group(entry)) & 1 != 0;
            if entry & lr::STATE == lr::PENDING && on && priority(entry) < limit {
                limit = priority(entry);
                best = Some((n, entry));
            }
        }
        best
    }

    /// The running priority: the highest that is active, or something above 255 if nothing is.
    #[inline(always)]
    pub(super) fn running(&self, form: Form) -> u32 {
        let [[zero, ..], [one, ..]] = self.apr;
        let first = (zero | one) as u32;
        if first == 0 && form.shift < 3 {
            return self.running_beyond(form);
        }
        // Without a bit set that is 32 << 3 at least.
        first.trailing_zeros().wrapping_shl(form.shift)
    }

    #[cold]
    fn running_beyond(&self, form: Form) -> u32 {
        let [zero, one] = &self.apr;
        for (n, (zero, one)) in (0u32..).zip(zero.iter().zip(one)).skip(1) {
            let word = (zero | one) as u32;
            if word != 0 {
                return (n.wrapping_mul(32) | word.trailing_zeros()).wrapping_shl(form.shift);
            }
        }
        0x100
    }

    /// The priority of `entry` as it counts for preemption.
    #[inline(always)]
    fn group_priority(&self, entry: u64) -> u32 {
        priority(entry) & u32::from(lr::group_mask(self.vmcr, entry & lr::GROUP1 != 0))
    }

    /// Whether `entry`, the most urgent, is above the mask and what runs.
    #[inline(always)]
    fn preempts(&self, entry: u64, form: Form) -> bool {
        let mask = (self.vmcr >> lr::VMCR_VPMR_SHIFT) as u32 & 0xff;
        if priority(entry) >= mask {
            return false;
        }
        // Mostly nothing runs, and how priorities are grouped need not be worked out.
        let running = self.running(form);
        running > 0xff || self.group_priority(entry) < running
    }

    /// Works out what is signalled to the guest: [`signalled`](Self::signalled).
    #[inline(always)]
    fn signal(&mut self, form: Form) {
        self.signalled = match self.highest() {
            Some((_, entry)) if self.preempts(entry, form) => {
                let fiq = entry & lr::GROUP1 == 0 && self.vmcr & lr::VMCR_VFIQEN != 0;
                if fiq { HCR_VF } else { HCR_VI }
            }
            _ => 0,
        };
    }

    /// The interrupt to take, which becomes active; of a group not in `groups`: `other`, and it stays.
    #[inline(always)]
    fn acknowledge(&mut self, form: Form, groups: Groups, other: u32) -> u32 {
        let Some((n, entry)) = self.highest().filter(|&(_, entry)| self.preempts(entry, form)) else {
            return SPURIOUS;
        };
        if groups.wrapping_shr(group(entry)) & 1 == 0 {
            return other;
        }
        self.activate(form, n, entry);
        entry as u32
    }

    /// What list register `n` holds, pending, becomes active, and with it its priority.
    #[inline(always)]
    fn activate(&mut self, form: Form, n: u32, entry: u64) {
        let level = self.group_priority(entry).wrapping_shr(form.shift);
        let [zero, one] = &mut self.apr;
        let words = if form.single || group(entry) == 0 { zero } else { one };
        if let Some(word) = words.get_mut(level as usize >> 5 & 3) {
            *word |= u64::from(bit(level & 31));
        }
        if let Some(lr) = self.lr.get_mut(n as usize & 15) {
            *lr = entry ^ lr::STATE;
        }
    }

    /// The one list register in use, if it is one and there is nothing to be told of.
    #[inline(always)]
    fn only(&self) -> Option<u32> {
        let used = u32::from(self.used);
        (used.is_power_of_two() && self.hcr == lr::HCR_EN).then(|| used.trailing_zeros())
    }

    /// The short way through [`acknowledge`](Self::acknowledge): what is signalled is the only one listed.
    #[inline(always)]
    pub(super) fn acknowledge_only(&mut self, form: Form, groups: Groups) -> Option<u32> {
        if self.signalled == 0 {
            return None;
        }
        let n = self.only()?;
        let entry = read(self, n);
        if groups.wrapping_shr(group(entry)) & 1 == 0 {
            return None;
        }
        self.activate(form, n, entry);
        self.signalled = 0;
        Some(entry as u32)
    }

    /// The short way through [`end`](Self::end), with nothing signalled before or after it: the only one listed
    /// is active and becomes idle, and that is all. False if it is not like that, with nothing changed.
    #[inline(always)]
    pub(super) fn end_only(&mut self, intid: u32, groups: Groups) -> bool {
        let Some(n) = self.only() else { return false };
        let entry = read(self, n);
        let [[zero, ..], [one, ..]] = &mut self.apr;
        let active = *zero | *one;
        if entry & lr::STATE != lr::ACTIVE
            || entry as u32 != intid
            || groups.wrapping_shr(group(entry)) & 1 == 0
            || told(entry ^ lr::ACTIVE)
            || self.vmcr & lr::VMCR_VEOIM != 0
            || active == 0
        {
            return false;
        }
        let level = active & active.wrapping_neg();
        let word = if *zero & level != 0 { zero } else { one };
        *word ^= level;
        self.deactivate(n, entry);
        true
    }

    /// The most urgent pending interrupt, mask and what runs aside; `other` if its group is not in `groups`.
    pub(super) fn highest_pending(&self, groups: Groups, other: u32) -> u32 {
        match self.highest() {
            None => SPURIOUS,
            Some((_, entry)) if groups.wrapping_shr(group(entry)) & 1 == 0 => other,
            Some((_, entry)) => entry as u32,
        }
    }

    /// Clears the highest active priority; says whether there was one.
    #[inline(always)]
    fn drop_priority(&mut self, form: Form) -> bool {
        let [[zero, ..], [one, ..]] = &mut self.apr;
        let both = *zero | *one;
        if both == 0 {
            return form.shift < 3 && self.drop_beyond();
        }
        let level = both & both.wrapping_neg();
        let word = if *zero & level != 0 { zero } else { one };
        *word ^= level;
        true
    }

    #[cold]
    fn drop_beyond(&mut self) -> bool {
        let [zero, one] = &mut self.apr;
        let mut words = zero.iter_mut().zip(one).skip(1);
        let Some((zero, one)) = words.find(|(zero, one)| **zero | **one != 0) else { return false };
        let both = *zero | *one;
        let level = both & both.wrapping_neg();
        let word = if *zero & level != 0 { zero } else { one };
        *word ^= level;
        true
    }

    /// The list register where `intid` (with its source, for an SGI of GICv2) is active.
    #[inline(always)]
    fn find_active(&self, intid: u32) -> Option<(u32, u64)> {
        let mut entries = Bits(self.used.into()).map(|n| (n, read(self, n)));
        entries.find(|&(_, entry)| entry as u32 == intid && entry & lr::ACTIVE != 0)
    }

    /// Deactivates what list register `n` holds; returns what it holds then.
    #[inline(always)]
    fn deactivate(&mut self, n: u32, entry: u64) -> u64 {
        let entry = entry & !lr::ACTIVE;
        if let Some(lr) = self.lr.get_mut(n as usize & 15) {
            *lr = entry;
        }
        let physical = (entry >> lr::PINTID_SHIFT) as u32 & 0x1fff;
        if entry & lr::HW != 0 && physical < 32 {
            self.release |= bit(physical);
            self.hcr_dirty = true;
        }
        entry
    }

    /// End of interrupt: priority drop and, in EOImode 0, deactivation. Returns what the list register then
    /// holds, 0 if there is nothing to say of it.
    ///
    /// Left aside is what is not active at all; of another group than `groups`, it stays active.
    #[inline(always)]
    fn end(&mut self, form: Form, intid: u32, groups: Groups) -> u64 {
        if form.bare(intid) >= SPECIAL || !self.drop_priority(form) || self.vmcr & lr::VMCR_VEOIM != 0 {
            return 0;
        }
        match self.find_active(intid) {
            Some((n, entry)) if groups.wrapping_shr(group(entry)) & 1 != 0 => self.deactivate(n, entry),
            Some(_) => 0,
            None => {
                let count = self.hcr.wrapping_add(1 << lr::HCR_EOICOUNT_SHIFT) & EOICOUNT;
                self.hcr = self.hcr & !EOICOUNT | count;
                0
            }
        }
    }

    /// Whether ICH_MISR_EL2 would not be zero for one of the reasons that `hcr` asks for.
    #[cold]
    fn asks(&self) -> bool {
        let on = |bit: u64| self.hcr & bit != 0;
        let entries = || Bits(self.used.into()).map(|n| read(self, n));
        let (group0, group1) = (self.vmcr & lr::VMCR_VENG0 != 0, self.vmcr & lr::VMCR_VENG1 != 0);
        on(lr::HCR_UIE) && entries().filter(|entry| entry & lr::STATE != 0).count() < 2
            || on(lr::HCR_LRENPIE) && on(EOICOUNT)
            || on(lr::HCR_NPIE) && !entries().any(|entry| entry & lr::STATE == lr::PENDING)
            || on(lr::HCR_VGRP0EIE) && group0
            || on(lr::HCR_VGRP0DIE) && !group0
            || on(lr::HCR_VGRP1EIE) && group1
            || on(lr::HCR_VGRP1DIE) && !group1
    }

    /// The part `mask` of ICH_VMCR_EL2 becomes that of `bits`.
    pub(super) fn set_vmcr(&mut self, mask: u64, bits: u64) {
        self.vmcr = self.vmcr & !mask | bits & mask;
    }
}

/// Registers of the CPU interface that both versions have, as the guest names them.
#[derive(Clone, Copy)]
pub(super) enum Register {
    /// Priority mask.
    Pmr,
    /// Binary point of Group 0.
    Bpr0,
    /// Binary point of Group 1.
    Bpr1,
    /// Active priorities of a group.
    Apr(bool, usize),
}

impl Vgic {
    /// What the registers are like.
    #[inline(always)]
    pub(super) fn form(&self) -> Form {
        Form { shift: self.preemption_shift, single: self.version == GicVersion::V2 }
    }

    /// Works out what the emulated interface signals to the guest.
    #[inline(never)]
    pub(super) fn signal(&self, lists: &mut Lists) {
        lists.signal(self.form());
    }

    /// What every change is followed by. `entry`: what was deactivated, as it is now; else 0.
    #[inline(never)]
    pub(super) fn after(&self, me: VcpuId, lists: &mut Lists, form: Form, entry: u64) -> Kicks {
        if told(entry) || lists.hcr != lr::HCR_EN && lists.asks() {
            return self.sync(me, lists);
        }
        lists.signal(form);
        Kicks::NONE
    }

    /// A read of an interrupt acknowledge register.
    #[inline(never)]
    pub(super) fn take(&self, me: VcpuId, lists: &mut Lists, groups: Groups, other: u32) -> Outcome {
        let form = self.form();
        let intid = lists.acknowledge(form, groups, other);
        Outcome::Done(intid.into(), self.after(me, lists, form, 0))
    }

    /// A write of an end of interrupt register.
    #[inline(never)]
    pub(super) fn end(&self, me: VcpuId, lists: &mut Lists, intid: u32, groups: Groups) -> Outcome {
        let form = self.form();
        let entry = lists.end(form, intid, groups);
        Outcome::Done(0, self.after(me, lists, form, entry))
    }

    /// A write of a deactivation register. `intid` as in a list register; what is in none is the core's.
    pub(super) fn end_later(&self, me: VcpuId, lists: &mut Lists, intid: u32) -> Outcome {
        let form = self.form();
        let bare = form.bare(intid);
        if bare >= SPECIAL || lists.vmcr & lr::VMCR_VEOIM == 0 {
            return Outcome::Done(0, Kicks::NONE);
        }
        let Some((n, entry)) = lists.find_active(intid) else {
            return Outcome::Done(0, self.deactivate(me, bare.into()));
        };
        let entry = lists.deactivate(n, entry);
        Outcome::Done(0, self.after(me, lists, form, entry))
    }

    /// The running priority as the guest reads it.
    pub(super) fn running_priority(&self, lists: &Lists) -> u64 {
        lists.running(self.form()).min(0xff).into()
    }

    /// Reads a register that both versions have.
    pub(super) fn read_interface(&self, lists: &Lists, register: Register) -> u64 {
        let vmcr = lists.vmcr;
        match register {
            Register::Pmr => vmcr >> lr::VMCR_VPMR_SHIFT & 0xff,
            Register::Bpr0 => vmcr >> lr::VMCR_VBPR0_SHIFT & 7,
            Register::Bpr1 => vmcr >> lr::VMCR_VBPR1_SHIFT & 7,
            Register::Apr(group1, n) => {
                let [zero, one] = &lists.apr;
                let words = if group1 { one } else { zero };
                words.get(n).copied().unwrap_or(0)
            }
        }
    }

    /// Writes it.
    pub(super) fn write_interface(&self, lists: &mut Lists, register: Register, value: u64) {
        let form = self.form();
        match register {
            Register::Pmr => {
                let mask = value & u64::from(self.priority_mask);
                lists.set_vmcr(0xff << lr::VMCR_VPMR_SHIFT, mask << lr::VMCR_VPMR_SHIFT);
            }
            Register::Bpr0 => {
                let point = (value & 7).max(form.least_bpr(false));
                lists.set_vmcr(7 << lr::VMCR_VBPR0_SHIFT, point << lr::VMCR_VBPR0_SHIFT);
            }
            Register::Bpr1 => {
                let point = (value & 7).max(form.least_bpr(true));
                lists.set_vmcr(7 << lr::VMCR_VBPR1_SHIFT, point << lr::VMCR_VBPR1_SHIFT);
            }
            Register::Apr(group1, n) => {
                let [zero, one] = &mut lists.apr;
                let words = if group1 { one } else { zero };
                if let Some(word) = words.get_mut(n).filter(|_| n < form.aprs()) {
                    *word = value & form.apr_mask();
                }
            }
        }
    }
}
