//! The CPU interface in software together with the core: no maintenance interrupt, no fold, nothing lost.

use super::guest::{BOTH, Guest, ME};
use crate::exit::Size;
use crate::machine::{IntId, ppi};
use crate::vcpu::{Lists, VcpuId};
use crate::vdev::vgic::{Frame, GicVersion, Kicks, Outcome, Raised, lr};
use std::sync::atomic::Ordering;

const TIMER: IntId = ppi::VIRTUAL_TIMER;

/// Everything enabled, of Group 1, priority 0xa0; SPIs edge-triggered but those of bank 1.
fn each(test: impl Fn(Guest, u8)) {
    for version in BOTH {
        for lists in [1, 4, 16] {
            let mut guest = Guest::of(version, lists, 5);
            guest.vgic.groups.store(3, Ordering::Relaxed);
            {
                let mut private = guest.vgic.cpus[0].private.lock();
                (private.bank.group, private.bank.enabled) = (!0, !0);
                private.bank.priority = [0xa0; 32];
                let mut spis = guest.vgic.spis.lock();
                spis.reset(0);
                for spi in &mut spis.banks {
                    (spi.bank.group, spi.bank.enabled) = (!0, !0);
                    spi.bank.priority = [0xa0; 32];
                }
                spis.banks[0].bank.edge = !0;
            }
            guest.enter();
            test(guest, lists);
        }
    }
}

impl Guest {
    /// What the run loop does before an entry.
    /// Gets on a CPU.
    fn come(&mut self) {
        self.vgic.sync(ME, &mut self.lists);
        self.enter();
    }

    fn enter(&mut self) {
        if self.vgic.attention(ME) {
            self.vgic.sync(ME, &mut self.lists);
        }
        assert!(!self.lists.loaded);
        let before = self.lists.signalled;
        self.vgic.signal(&mut self.lists);
        assert_eq!(self.lists.signalled, before, "not up to date");
    }

    fn spi(&mut self, intid: u64, level: bool) {
        self.vgic.set_spi((intid - 32) as u16, level);
        self.enter();
    }

    fn edge(&mut self, intid: u64) {
        self.spi(intid, true);
        self.spi(intid, false);
    }

    fn set_priority(&mut self, intid: u64, priority: u8) {
        self.vgic.spis.lock().banks[0].bank.priority[intid as usize - 32] = priority;
    }

    /// Nothing pends, nothing is active, and the core has nothing to do.
    fn idle(&mut self) {
        assert_eq!((self.take(), self.running_priority()), (None, 0xff));
        assert_eq!((self.lists.hcr, self.lists.apr), (lr::HCR_EN, [[0; 4]; 2]));
        assert!(!self.vgic.attention(ME) && !self.vgic.signals(ME, &self.lists));
        let active = |bank: &crate::vdev::vgic::Bank| bank.active & !bank.listed;
        assert_eq!(active(&self.vgic.cpus[0].private.lock().bank), 0);
        self.vgic.sync(ME, &mut self.lists);
        assert_eq!(self.lists.used, 0);
        assert_eq!(self.vgic.spis.lock().banks[0].bank.active, 0);
    }
}

#[test]
fn what_is_raised_at_an_exit_is_signalled_at_once() {
    each(|mut guest, lists| {
        // By the short way, then by the general one.
        for lanes in [1 << 20, 1 << 22] {
            guest.vgic.sync_raised(ME, &mut guest.lists, Raised { lanes, linked: 0 });
            assert_eq!(guest.lists.signalled, 1 << 7);
            if lists == 1 {
                break;
            }
        }
        while let Some(intid) = guest.take() {
            guest.enter();
            assert_eq!(guest.lists.signalled, 0);
            guest.end(intid);
            guest.enter();
        }
        guest.idle();
    });
}

#[test]
fn a_vcpu_that_leaves_is_signalled_nothing_and_finds_all_again() {
    each(|mut guest, _| {
        guest.edge(40);
        assert_eq!(guest.lists.signalled, 1 << 7);
        guest.vgic.unload(ME, &mut guest.lists);
        assert_eq!((guest.lists.signalled, guest.lists.used), (0, 0));
        guest.come();
        assert_eq!(guest.lists.signalled, 1 << 7);
        assert_eq!(guest.take(), Some(40));
        guest.vgic.unload(ME, &mut guest.lists);
        guest.come();
        assert_eq!(guest.lists.signalled, 0, "what runs is remembered");
        guest.end(40);
        guest.enter();
        guest.idle();
        guest.edge(41);
        guest.vgic.reset_cpu(ME, &mut guest.lists);
        assert!(guest.lists.emulated && guest.lists.signalled == 0);
        guest.enter();
        assert_eq!(guest.take(), None, "masked after a reset");
        guest.set_groups(true, true);
        guest.set_mask(0xff);
        assert_eq!(guest.take(), Some(41));
    });
}

#[test]
fn a_level_comes_again_with_the_very_end() {
    each(|mut guest, _| {
        guest.spi(64, true);
        for _ in 0..3 {
            assert_eq!(guest.take(), Some(64));
            assert_eq!(guest.take(), None);
            guest.end(64);
            assert!(guest.lists.signalled != 0 && !guest.vgic.attention(ME), "the end itself looks");
        }
        guest.spi(64, false);
        guest.idle();
    });
}

#[test]
fn more_than_fits_comes_by_priority() {
    each(|mut guest, _| {
        for intid in 32..60 {
            guest.set_priority(intid, ((intid * 5 % 29) << 3) as u8);
        }
        (32..60).for_each(|intid| guest.edge(intid));
        let mut last = 0;
        for _ in 32..60 {
            let intid = guest.take().unwrap();
            assert!(!guest.vgic.attention(ME));
            assert!(intid * 5 % 29 >= last);
            last = intid * 5 % 29;
            guest.end(intid);
            assert!(!guest.vgic.attention(ME));
        }
        guest.idle();
    });
}

#[test]
fn nesting_goes_deeper_than_list_registers() {
    each(|mut guest, _| {
        let priority = |n: u64| 0xe8 - 8 * n;
        for n in 0..20 {
            guest.set_priority(32 + n, priority(n) as u8);
            guest.edge(32 + n);
            assert_eq!((guest.take(), guest.running_priority()), (Some(32 + n), priority(n)));
            guest.enter();
        }
        for n in (0..20).rev() {
            assert_eq!(guest.running_priority(), priority(n));
            guest.end(32 + n);
            assert!(guest.take().is_none());
        }
        guest.idle();
    });
}

#[test]
fn what_is_active_outside_is_deactivated_by_dir() {
    each(|mut guest, _| {
        guest.set_modes(false, true);
        for intid in 32..52 {
            guest.edge(intid);
            assert_eq!(guest.take(), Some(intid));
            guest.enter();
            guest.end(intid);
            guest.enter();
        }
        for intid in (32..52).step_by(2).chain((33..52).step_by(2)) {
            guest.dir(intid);
            guest.enter();
        }
        guest.idle();
    });
}

#[test]
fn a_group_that_comes_on_changes_what_is_urgent() {
    each(|mut guest, _| {
        guest.set_groups(false, true);
        for n in 0..20 {
            guest.set_priority(32 + n, 0x40);
            guest.edge(32 + n);
        }
        {
            let mut spis = guest.vgic.spis.lock();
            spis.banks[0].bank.group &= !(1 << 25);
            spis.banks[0].bank.priority[25] = 0x20;
        }
        guest.edge(57);
        assert_eq!(guest.take(), Some(32));
        guest.end(32);
        guest.set_groups(true, true);
        assert_eq!(guest.take(), Some(57));
        guest.end_of(57, false);
        guest.set_groups(true, false);
        assert_eq!((guest.lists.signalled, guest.take()), (0, None));
        guest.set_groups(false, true);
        for intid in 33..52 {
            assert_eq!(guest.take(), Some(intid));
            guest.end(intid);
        }
        guest.idle();
    });
}

#[test]
fn an_interface_that_is_turned_off_leaves_shared_interrupts_to_others() {
    let mut guest = Guest::of(GicVersion::V2, 4, 5);
    let other = VcpuId(1);
    let mut theirs = Lists::default();
    guest.vgic.reset_cpu(other, &mut theirs);
    let mut access = |guest: &mut Guest, frame, offset, size, value| {
        let lists = if frame == Frame::Gicc { &mut theirs } else { &mut guest.lists };
        guest.vgic.access(other, frame, offset, size, Some(value), lists)
    };
    access(&mut guest, Frame::Gicd, 0, Size::Word, 3);
    access(&mut guest, Frame::Gicd, 0x104, Size::Word, 1);
    access(&mut guest, Frame::Gicd, 0x820, Size::Byte, 3);
    access(&mut guest, Frame::Gicc, 0, Size::Word, 3);
    guest.vgic.sync(other, &mut Lists { vmcr: 3, ..Lists::default() });
    guest.vgic.set_spi(0, true);
    guest.enter();
    assert!(guest.lists.signalled != 0 && guest.lists.lr[0] as u32 == 32, "the first of those that are on");
    guest.vgic.set_spi(0, false);
    guest.enter();
    guest.set_groups(false, false);
    assert_eq!(guest.vgic.set_spi(0, true), Kicks::of(other));
    guest.set_groups(true, true);
    assert!(guest.vgic.attention(ME), "it comes back");
    let outcome = access(&mut guest, Frame::Gicc, 0, Size::Word, 0);
    assert_eq!(outcome, Outcome::Done(0, Kicks::NONE), "nothing was the other's");
}

#[test]
fn a_linked_timer_may_fire_again_after_its_end() {
    each(|mut guest, _| {
        for _ in 0..3 {
            guest.vgic.sync_raised(ME, &mut guest.lists, Raised::linked(TIMER));
            assert!(guest.lists.linked_active(TIMER));
            assert_eq!(guest.take(), Some(TIMER.0.into()));
            assert!(guest.lists.linked_active(TIMER));
            guest.lists.hcr_dirty = false;
            guest.end(TIMER.0.into());
            assert_eq!((guest.lists.release, guest.lists.hcr_dirty), (1 << TIMER.0, true));
            assert!(!guest.lists.linked_active(TIMER));
            // The machine deactivates it.
            (guest.lists.release, guest.lists.hcr_dirty) = (0, false);
            guest.enter();
        }
        guest.idle();
        assert_eq!((guest.lists.release, guest.lists.hcr_dirty), (0, false), "not twice");
        // Or it leaves its CPU, where the machine has deactivated it by then.
        guest.vgic.sync_raised(ME, &mut guest.lists, Raised::linked(TIMER));
        assert_eq!(guest.take(), Some(TIMER.0.into()));
        guest.end(TIMER.0.into());
        guest.vgic.sync(ME, &mut guest.lists);
        assert_eq!(guest.lists.release, 1 << TIMER.0);
        guest.vgic.unload(ME, &mut guest.lists);
        assert_eq!(guest.lists.release, 0);
    });
}
