//! Random guests and devices: what the guest sees is what the model says, whatever face and backend.
//!
//! Nothing lost, nothing doubled, nothing out of order of priority, every register reads as it should, and the
//! physical interrupt of a linked one is active exactly while it is pending or active.

use super::arrays::{Array, Place};
use super::hardware::{TIMER, Vm, vcpu};
use super::model::Model;
use super::ops::{SPIS, Shape, To, op};
use super::port::Port;
use super::views::View;
use super::vm::Setup;
use crate::exit::Size;
use crate::vdev::vgic::{Frame, GicVersion, Outcome, SgiGroup, lr};
use proptest::prelude::*;
use std::rc::Rc;

/// How a guest is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Guest {
    pub(super) setup: Setup,
    pub(super) eoimode: bool,
    /// It has never more interrupts than 16 list registers hold.
    pub(super) sparse: bool,
}

pub(super) struct Run {
    pub(super) vm: Vm,
    pub(super) model: Model,
    pub(super) guest: Guest,
    /// A timer interrupt made pending by the guest: the physical one is let go when all is over, not before.
    pub(super) by_hand: Vec<bool>,
    /// What each vCPU knows, if they lag.
    pub(super) views: Vec<View>,
}

/// Whether an answer of IAR or HPPIR is an interrupt.
pub(super) fn is_interrupt(id: u32) -> bool {
    id & 0x3ff < 1020
}

impl Run {
    /// A guest that has set its controller up: all groups on, nothing masked, SGIs enabled.
    pub(super) fn new(guest: Guest) -> Self {
        Self::on(Vm::with(guest.setup), guest)
    }

    /// The same on a controller as after reset.
    pub(super) fn on(vm: Vm, guest: Guest) -> Self {
        let Setup { version, vcpus, priority_bits, .. } = guest.setup;
        let mut run = Self {
            vm,
            model: Model::new(version, vcpus, 64, priority_bits),
            guest,
            by_hand: vec![false; vcpus],
            views: Vec::new(),
        };
        if run.model.is_v2() && vcpus > 1 {
            // As after reset: nowhere.
            run.model.spis.iter_mut().for_each(|i| i.targets = 0);
        }
        run.check(0);
        run.groups(0, 3);
        for n in 0..vcpus {
            if version == GicVersion::V3 {
                run.vm.write(n, Frame::GicrRd(vcpu(n)), 0x14, 0);
            }
            run.set_up_interface(n);
        }
        let group1 = version == GicVersion::V3;
        for n in 0..vcpus {
            run.store(n, n, Place::of(Array::SetEnable, 0, false), 0xffff);
            run.set_up(n, n, 0..32, group1);
        }
        run.set_up(0, 0, 32..96, group1);
        run
    }

    /// Nothing masked, all groups on.
    pub(super) fn set_up_interface(&mut self, n: usize) {
        self.pmr(n, 0xff);
        self.ctlr(n, false, true, true);
        self.enable(n, true, true);
    }

    /// A new life of vCPU `n`.
    pub(super) fn renew(&mut self, n: usize) {
        self.model.renew(n);
    }

    fn set_up(&mut self, me: usize, owner: usize, intids: std::ops::Range<u32>, group1: bool) {
        for intid in intids.step_by(4) {
            self.store(me, owner, Place::of(Array::Priority, intid, false), 0xa0a0_a0a0);
            self.store(me, owner, Place::of(Array::Targets, intid, false), 0x0101_0101);
            if group1 && intid % 32 == 0 {
                self.store(me, owner, Place::of(Array::Group, intid, false), !0);
            }
        }
    }

    pub(super) fn is_on(&self, n: usize) -> bool {
        self.vm.cpus[n].resident
    }

    /// Whose private interrupts `me` reaches: with GICv2 its own alone.
    pub(super) fn owner(&self, me: usize, owner: usize) -> usize {
        if self.model.is_v2() { me } else { owner % self.guest.setup.vcpus }
    }

    pub(super) fn store(&mut self, me: usize, owner: usize, place: Place, value: u32) {
        let owner = self.owner(me, owner);
        self.refresh();
        let version = self.guest.setup.version;
        // What a guest that breaks the rules of EOI would see differ between implementations is left out, and
        // a timer that is active by hand, as no physical interrupt goes with it.
        let breakable = self.guest.sparse && self.guest.setup.lists == 16;
        let views = &self.views;
        // Of one that is taken before the write is known of, it would come while it is in service.
        let in_service =
            |model: &Model, intid| model.in_service(owner, intid) || Self::may_be_taken(views, owner, intid);
        let keep = |model: &Model, intid: u32| match place.array {
            Array::Group => in_service(model, intid),
            Array::Priority | Array::ClearActive => !breakable && in_service(model, intid),
            // By whom an SGI of GICv2 was sent that becomes active so, the manual does not say, and its end names that.
            Array::SetActive if model.is_v2() && intid < 16 && in_service(model, intid) => true,
            Array::SetActive | Array::Config => intid == TIMER,
            _ => false,
        };
        let value = self.model.store(owner, place, value, keep);
        self.note(Rc::new(move |model: &mut Model| {
            model.store(owner, place, value, |_, _| false);
        }));
        if place.array == Array::SetPending && place.first == 0 && value >> TIMER & 1 != 0 {
            self.by_hand[owner] = true;
        }
        let (frame, offset) = place.at(version, owner);
        let size = if place.byte { Size::Byte } else { Size::Word };
        let outcome = self.vm.access(me, frame, offset, size, Some(value.into()));
        assert!(matches!(outcome, Outcome::Done(0, _)), "{place:?}: {outcome:?}");
    }

    pub(super) fn load(&mut self, me: usize, owner: usize, place: Place) {
        let owner = self.owner(me, owner);
        self.refresh();
        let before = self.model.load(owner, place);
        let (frame, offset) = place.at(self.guest.setup.version, owner);
        let size = if place.byte { Size::Byte } else { Size::Word };
        let outcome = self.vm.access(me, frame, offset, size, None);
        let Outcome::Done(value, _) = outcome else { panic!("{place:?}: {outcome:?}") };
        // Asked for it, a vCPU looks, and its timer may fire again.
        self.refresh();
        let wanted = [before, self.model.load(owner, place)];
        assert!(wanted.contains(&(value as u32)), "vCPU {me}: {place:?} of {owner}: {value:#x}, {wanted:x?}");
    }

    pub(super) fn groups(&mut self, me: usize, groups: u32) {
        self.change(move |model| model.groups = groups);
        self.vm.write(me, Frame::Gicd, 0, groups);
    }

    pub(super) fn pmr(&mut self, n: usize, value: u8) {
        self.model.cpus[n].pmr = value & self.model.priority_mask();
        self.vm.store(n, Port::Pmr, value.into());
        assert_eq!(self.vm.load(n, Port::Pmr), self.model.cpus[n].pmr.into(), "PMR");
    }

    pub(super) fn bpr(&mut self, n: usize, group1: bool, value: u8) {
        let lowest = 7u8.saturating_sub(self.guest.setup.priority_bits) + u8::from(group1);
        let v2 = self.model.is_v2();
        let cpu = &mut self.model.cpus[n];
        let shared = group1 && cpu.cbpr;
        if !shared {
            cpu.bpr[usize::from(group1)] = (value & 7).max(lowest);
        } else if v2 {
            // Whether the register is still there then, the manual does not say.
            return;
        }
        let wanted = if shared { (cpu.bpr[0] + 1).min(7) } else { cpu.bpr[usize::from(group1)] };
        self.vm.store(n, Port::Bpr(group1), value.into());
        assert_eq!(self.vm.load(n, Port::Bpr(group1)), wanted.into(), "BPR of group 1: {group1}");
    }

    pub(super) fn ctlr(&mut self, n: usize, cbpr: bool, ack_ctl: bool, fiq_en: bool) {
        let eoimode = self.guest.eoimode;
        let v2 = self.model.is_v2();
        let cpu = &mut self.model.cpus[n];
        (cpu.cbpr, cpu.ack_ctl, cpu.fiq_en, cpu.eoimode) = (cbpr, ack_ctl, fiq_en || !v2, eoimode);
        self.write_ctlr(n);
    }

    pub(super) fn enable(&mut self, n: usize, group0: bool, group1: bool) {
        self.model.cpus[n].enabled = [group0, group1];
        if self.model.is_v2() {
            return self.write_ctlr(n);
        }
        for (group, on) in [(false, group0), (true, group1)] {
            self.vm.store(n, Port::Enable(group), on.into());
            assert_eq!(self.vm.load(n, Port::Enable(group)), on.into());
        }
    }

    fn write_ctlr(&mut self, n: usize) {
        let cpu = &self.model.cpus[n];
        let bits = |fields: &[(bool, u32)]| fields.iter().fold(0, |w, &(on, n)| w | u32::from(on) << n);
        let (value, mask) = if self.model.is_v2() {
            let groups = [(cpu.enabled[0], 0), (cpu.enabled[1], 1), (cpu.ack_ctl, 2), (cpu.fiq_en, 3)];
            (bits(&groups) | bits(&[(cpu.cbpr, 4), (cpu.eoimode, 9)]), !0)
        } else {
            (bits(&[(cpu.cbpr, 0), (cpu.eoimode, 1)]), 3)
        };
        self.vm.store(n, Port::Ctlr, value);
        assert_eq!(self.vm.load(n, Port::Ctlr) & mask, value, "CTLR");
    }

    pub(super) fn sgi(&mut self, me: usize, intid: u32, to: To, group0: bool) {
        let vcpus = self.guest.setup.vcpus;
        let reached: Vec<usize> = match to {
            To::List(list) => (0..vcpus).filter(|n| list >> n & 1 != 0).collect(),
            To::Others => (0..vcpus).filter(|&n| n != me).collect(),
            To::Itself => vec![me],
        };
        if self.model.is_v2() {
            self.change(move |model| reached.iter().for_each(|&n| model.get(n, intid).sources |= 1 << me));
            let (filter, list) = match to {
                To::List(list) => (0, list),
                To::Others => (1, 0xff),
                To::Itself => (2, 0xff),
            };
            // NSATT is reserved without Security Extensions.
            let value = filter << 24 | list << 16 | u32::from(group0) << 15 | intid;
            return self.vm.write(me, Frame::Gicd, 0xf00, value);
        }
        self.change(move |model| {
            for &n in &reached {
                let sgi = model.get(n, intid);
                sgi.latch |= !(group0 && sgi.group1);
            }
        });
        let value = u64::from(intid) << 24
            | match to {
                To::List(list) => u64::from(list),
                To::Others => 1 << 40,
                To::Itself => 1 << me,
            };
        let group = if group0 { SgiGroup::Group0 } else { SgiGroup::Group1 };
        match self.vm.vgic.own_sgi(vcpu(me), value).filter(|_| !group0) {
            Some(raised) => self.vm.look_raised(me, raised),
            None => {
                let kicks = self.vm.vgic.sgi(vcpu(me), group, value);
                self.vm.check_kicks(me, kicks);
                self.vm.enter(me);
            }
        }
        self.vm.settle();
    }

    /// IAR of one group; what came of it.
    pub(super) fn iar(&mut self, n: usize, group1: bool) -> u32 {
        self.refresh();
        let allowed = self.view(n).answers(n, group1, true);
        let id = self.vm.load(n, Port::Iar(group1));
        assert!(allowed.contains(&id), "vCPU {n} took {id:#x} (group 1: {group1}), not one of {allowed:x?}");
        if is_interrupt(id) {
            self.act(n, id & 0x3ff, true, |model| model.acknowledge(n, id));
        }
        self.refresh();
        id
    }

    /// Takes an interrupt of whatever group.
    pub(super) fn take(&mut self, n: usize, group1: bool) -> bool {
        // Who looks between the two reads may find that there is none any more.
        let lags = self.vm.vgic.attention(vcpu(n));
        let signals = self.view(n).signals(n);
        let taken = is_interrupt(self.iar(n, group1)) || is_interrupt(self.iar(n, !group1));
        assert!(taken || lags || signals.contains(&None), "vCPU {n} took nothing and should have");
        taken
    }

    pub(super) fn end(&mut self, n: usize, by_group0: bool) -> bool {
        let Some(&running) = self.model.cpus[n].running.last() else { return false };
        let listed = self.has_active(n, running.id) || self.guest.eoimode;
        // With AckCtl, GICC_EOIR ends either group.
        let cpu = &self.model.cpus[n];
        let group1 = running.group1 && !(by_group0 && self.model.is_v2() && cpu.ack_ctl);
        self.vm.store(n, Port::Eoir(group1), running.id);
        self.act(n, running.id & 0x3ff, listed, |model| model.end(n));
        true
    }

    pub(super) fn deactivate(&mut self, n: usize, which: usize) -> bool {
        if which >= self.model.cpus[n].dropped.len() {
            return false;
        }
        let id = self.model.cpus[n].dropped.remove(which);
        // A write that traps comes after those of others.
        let hardware = !self.guest.setup.emulated;
        let traps = hardware && (self.model.is_v2() || self.vm.cpus[n].hcr & lr::HCR_TDIR != 0);
        let listed = !traps && self.has_active(n, id);
        self.vm.store(n, Port::Dir, id);
        self.act(n, id & 0x3ff, listed, |model| model.get(n, id & 0x3ff).deactivate());
        true
    }

    pub(super) fn route(&mut self, me: usize, spi: usize, to: Option<u8>, halves: bool) {
        if self.model.is_v2() {
            return;
        }
        let vcpus = self.guest.setup.vcpus;
        let targets = match to {
            Some(n) if usize::from(n) < vcpus => 1 << n,
            Some(_) => 0,
            None => self.model.everybody(),
        };
        self.change(move |model| model.get(me, SPIS[spi]).targets = targets);
        let value = to.map_or(1 << 31, u64::from);
        let offset = 0x6000 + 8 * u64::from(SPIS[spi]);
        if halves {
            self.vm.write(me, Frame::Gicd, offset + 4, 0);
            self.vm.write(me, Frame::Gicd, offset, value as u32);
            assert_eq!(u64::from(self.vm.read(me, Frame::Gicd, offset)), value);
        } else {
            self.vm.access(me, Frame::Gicd, offset, Size::Double, Some(value));
        }
        let read = self.vm.access(me, Frame::Gicd, offset, Size::Double, None);
        assert!(matches!(read, Outcome::Done(read, _) if read == value), "IROUTER: {read:?}");
    }

    /// What a store stores, so that it is about one interrupt only if it is to be.
    pub(super) fn value(&mut self, owner: usize, place: Place, intid: u32, shape: Shape) -> u32 {
        let bit = 1 << (intid % 32);
        match (shape, place.array) {
            // A few levels only, or hardly anything would nest or be alike.
            (Shape::Any(value) | Shape::One(value), Array::Priority) if value & 1 != 0 => value & 0xe0e0_e0e0,
            (Shape::Any(value), _) if !self.guest.sparse => value,
            (Shape::One(value) | Shape::Any(value), Array::Targets) => value,
            (Shape::One(value) | Shape::Any(value), Array::SetSources | Array::ClearSources) => value,
            (Shape::One(value) | Shape::Any(value), Array::Priority) => value,
            (Shape::One(value), Array::Group) if value & 3 == 0 => self.model.load(owner, place) ^ bit,
            (_, Array::Group) => self.model.load(owner, place) | bit,
            (_, Array::Config) => self.model.load(owner, place) ^ 3 << (intid % 16 * 2),
            _ => bit,
        }
    }
}

/// How many guests to try: PROPTEST_CASES, or enough for every day.
pub(super) fn config(every_day: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig {
        cases: cases.unwrap_or(every_day),
        failure_persistence: None,
        max_shrink_iters: 4000,
        ..Default::default()
    }
}

pub(super) fn guest(version: GicVersion, emulated: bool) -> impl Strategy<Value = Guest> {
    let bits = if version == GicVersion::V2 && !emulated { vec![5u8] } else { vec![5, 5, 5, 4, 7, 8] };
    let lists = prop::sample::select(vec![1u8, 2, 4, 16]);
    (1..=8usize, lists, prop::sample::select(bits), any::<bool>(), any::<bool>()).prop_map(
        move |(vcpus, lists, priority_bits, eoimode, sparse)| Guest {
            setup: Setup { version, emulated, vcpus, lists, priority_bits },
            eoimode,
            sparse,
        },
    )
}

fn what_guests_see_is_what_the_model_says(version: GicVersion, emulated: bool) {
    let streams = (guest(version, emulated), prop::collection::vec(op(), 1..400));
    proptest!(config(48), |((guest, ops) in streams)| {
        let mut run = Run::new(guest);
        for op in &ops {
            run.step(op);
        }
        run.drain();
    });
}

#[test]
fn gicv3_on_ich() {
    what_guests_see_is_what_the_model_says(GicVersion::V3, false);
}

#[test]
fn gicv3_emulated() {
    what_guests_see_is_what_the_model_says(GicVersion::V3, true);
}

#[test]
fn gicv2_on_gich() {
    what_guests_see_is_what_the_model_says(GicVersion::V2, false);
}

#[test]
fn gicv2_emulated() {
    what_guests_see_is_what_the_model_says(GicVersion::V2, true);
}
