//! The CPU interface in software: one rule of the architecture each, on list registers written by hand.
//!
//! What both versions have is tried with both. How it works together with the core is in `emulated`.

use super::guest::{BOTH, BPR0, BPR1, CTLR, EOIR0, EOIR1, Guest, HPPIR0, HPPIR1, IAR0, IAR1, ME, PMR};
use crate::machine::ppi;
use crate::vcpu::Lists;
use crate::vdev::vgic::{GicVersion, lr};

const VF: u64 = 1 << 6;
const VI: u64 = 1 << 7;

fn each(test: impl Fn(Guest)) {
    BOTH.into_iter().for_each(|version| test(Guest::new(version)));
}

#[test]
fn the_most_urgent_is_taken_and_others_preempt_by_priority_alone() {
    each(|mut guest| {
        guest.pend(2, 40, 0x80);
        guest.pend(0, 41, 0xa0);
        assert_eq!((guest.take(), guest.running_priority()), (Some(40), 0x80));
        assert_eq!((guest.state(2), guest.state(0)), (lr::ACTIVE, lr::PENDING));
        assert!(!guest.signals() && guest.take().is_none());
        guest.pend(1, 42, 0x80);
        assert!(!guest.signals() && guest.take().is_none(), "its like does not preempt");
        guest.pend(3, 43, 0x78);
        assert!(guest.signals());
        assert_eq!((guest.take(), guest.running_priority()), (Some(43), 0x78));
        guest.end(43);
        assert_eq!((guest.state(3), guest.running_priority(), guest.signals()), (0, 0x80, false));
        guest.end(40);
        assert!(guest.signals());
        assert_eq!((guest.running_priority(), guest.take()), (0xff, Some(42)));
        guest.end(42);
        assert_eq!(guest.take(), Some(41));
        guest.end(41);
        assert_eq!((guest.running_priority(), guest.take(), guest.lists.apr), (0xff, None, [[0; 4]; 2]));
    });
}

#[test]
fn an_end_drops_the_highest_priority_whatever_it_names() {
    each(|mut guest| {
        for (n, priority) in [(0, 0x80), (1, 0x40)] {
            guest.pend(n, 40 + n as u64, priority);
            assert!(guest.take().is_some());
        }
        guest.end(40);
        assert_eq!((guest.running_priority(), guest.state(0), guest.state(1)), (0x80, 0, lr::ACTIVE));
        guest.end(41);
        assert_eq!((guest.running_priority(), guest.state(1)), (0xff, 0));
    });
}

#[test]
fn of_several_active_priorities_the_highest_is_dropped() {
    each(|mut guest| {
        for priority in [0x80, 0x40] {
            guest.set_modes(false, true);
            guest.pend(0, 40, priority);
            assert_eq!(guest.take(), Some(40));
            guest.dir(40);
        }
        guest.set_modes(false, false);
        guest.pend(0, 41, 0x20);
        assert_eq!(guest.take(), Some(41));
        for running in [0x40, 0x80, 0xff] {
            guest.end(41);
            assert_eq!(guest.running_priority(), running);
        }
    });
}

#[test]
fn a_maintenance_condition_is_seen_to_at_once() {
    each(|mut guest| {
        let mut told = |asked: u64, entries: &[u64], vmcr: u64| {
            guest.lists = Lists { hcr: lr::HCR_EN | asked, vmcr, emulated: true, ..Lists::default() };
            entries.iter().enumerate().for_each(|(n, &entry)| guest.list(n, entry));
            guest.set_mask(0xff);
            // The core does not know these entries.
            guest.lists.used == 0 && guest.lists.hcr == lr::HCR_EN
        };
        let (pending, active, both) = (lr::PENDING, lr::ACTIVE, lr::STATE);
        let zero = lr::HCR_VGRP0EIE | lr::HCR_VGRP1EIE;
        let groups = zero | lr::HCR_VGRP0DIE | lr::HCR_VGRP1DIE;
        for (asked, entries, vmcr, expected) in [
            (0, [0, 0], 0, false),
            (lr::HCR_TDIR, [0, 0], 0, false),
            (lr::HCR_UIE, [pending, 0], 0, true),
            (lr::HCR_UIE, [pending, active], 0, false),
            (lr::HCR_NPIE, [both, active], 0, true),
            (lr::HCR_NPIE, [both, pending], 0, false),
            (lr::HCR_LRENPIE, [active, pending], 0, false),
            (lr::HCR_LRENPIE | 1 << 27, [active, pending], 0, true),
            (lr::HCR_LRENPIE | 1 << 31, [active, pending], 0, true),
            (1 << 27, [active, pending], 0, false),
            (zero, [active, pending], 0, false),
            (groups, [active, pending], 0, true),
            (lr::HCR_VGRP0EIE | lr::HCR_VGRP1DIE, [active, pending], 1, true),
            (lr::HCR_VGRP0EIE | lr::HCR_VGRP1DIE, [active, pending], 2, false),
            (lr::HCR_VGRP1EIE | lr::HCR_VGRP0DIE, [active, pending], 1, false),
            (lr::HCR_VGRP1EIE, [active, pending], 3, true),
            (lr::HCR_VGRP0DIE, [active, pending], 2, true),
        ] {
            let entries: Vec<u64> = (40..).zip(entries).map(|(n, state)| state | n).collect();
            assert_eq!(told(asked, &entries, vmcr), expected, "{asked:#x} {vmcr:#x} {entries:x?}");
        }
    });
}

#[test]
fn what_is_pending_and_active_is_not_taken_before_its_end() {
    each(|mut guest| {
        guest.pend(0, 40, 0x80);
        assert_eq!(guest.take(), Some(40));
        guest.lists.lr[0] |= lr::PENDING;
        guest.vgic.signal(&mut guest.lists);
        guest.set_mask(0xff);
        assert!(!guest.signals() && guest.read(HPPIR1) == 1023);
        guest.end(40);
        assert!(guest.signals());
        assert_eq!(guest.take(), Some(40));
    });
}

#[test]
fn binary_points_make_groups_of_priorities() {
    each(|mut guest| {
        // Bits 7 to 5 alone make one interrupt preempt another.
        guest.write(BPR1, 5);
        guest.pend(0, 40, 0x98);
        assert_eq!((guest.take(), guest.running_priority()), (Some(40), 0x80));
        guest.pend(1, 41, 0x80);
        assert!(!guest.signals());
        // With one binary point for both it is that of Group 0: bits 7 to 3.
        guest.set_modes(true, false);
        assert!(!guest.signals(), "0x80 is what runs");
        guest.write(BPR1, 3);
        guest.pend(2, 42, 0x78);
        assert_eq!(guest.take(), Some(42));
        guest.end(42);
        guest.set_modes(false, false);
        guest.end(40);
        assert_eq!(guest.take(), Some(41));
    });
}

#[test]
fn group_0_has_a_binary_point_of_its_own() {
    each(|mut guest| {
        guest.write(BPR0, 6);
        for (n, priority) in [(0, 0xf0), (1, 0x80)] {
            guest.list(n, lr::PENDING | priority << lr::PRIORITY_SHIFT | (40 + n as u64));
        }
        assert_eq!((guest.read(IAR0), guest.running_priority()), (41, 0x80));
        guest.list(2, lr::PENDING | 42);
        assert_eq!((guest.read(IAR0), guest.running_priority()), (42, 0));
        guest.write(EOIR0, 42);
        guest.write(EOIR0, 41);
        assert_eq!((guest.lists.lr[1] & lr::STATE, guest.read(IAR0)), (0, 40));
        assert_eq!(guest.running_priority(), 0x80);
    });
}

#[test]
fn binary_points_have_a_least_value() {
    for (bits, least) in [(4, 3), (5, 2), (6, 1), (7, 0), (8, 0)] {
        for version in BOTH {
            let mut guest = Guest::of(version, 4, bits);
            assert_eq!((guest.read(BPR0), guest.read(BPR1)), (least, least + 1), "after reset, {bits} bits");
            for value in 0..8 {
                guest.write(BPR0, value | 8);
                guest.write(BPR1, value | 8);
                let wanted = (value.max(least), value.max(least + 1));
                assert_eq!((guest.read(BPR0), guest.read(BPR1)), wanted);
            }
        }
    }
}

#[test]
fn with_one_binary_point_that_of_group_1_is_derived() {
    let mut guest = Guest::new(GicVersion::V3);
    guest.write(BPR1, 5);
    guest.set_modes(true, false);
    for (point, seen) in [(2, 3), (6, 7), (7, 7)] {
        guest.write(BPR0, point);
        guest.write(BPR1, 4);
        assert_eq!(guest.read(BPR1), seen);
    }
    guest.set_modes(false, false);
    assert_eq!(guest.read(BPR1), 5, "writes had no effect");
    let mut guest = Guest::new(GicVersion::V2);
    guest.set_modes(true, false);
    guest.write(BPR1, 5);
    assert_eq!((guest.read(BPR0), guest.read(BPR1)), (2, 5), "GICC_ABPR is always itself");
}

#[test]
fn the_mask_has_the_bits_that_priorities_have() {
    for bits in 4..=8 {
        for version in BOTH {
            let mut guest = Guest::of(version, 4, bits);
            for mask in 0..=0xff {
                guest.set_mask(mask);
                assert_eq!(guest.read(PMR), mask & (0xff << (8 - bits)) & 0xff);
            }
            for priority in (0..0x100).step_by(1 << (8 - bits)) {
                guest.pend(0, 40, priority);
                for mask in [priority, priority + (1 << (8 - bits))].map(|mask| mask.min(0xff)) {
                    guest.set_mask(mask);
                    assert_eq!(guest.signals(), priority < guest.read(PMR), "{priority:#x} {mask:#x}");
                    assert_eq!(guest.read(HPPIR1), 40, "is pending, mask or not");
                }
            }
        }
    }
}

#[test]
fn groups_that_are_off_pend_for_nobody() {
    each(|mut guest| {
        guest.pend(0, 40, 0x80);
        guest.list(1, lr::PENDING | 0x90 << lr::PRIORITY_SHIFT | 41);
        guest.set_groups(true, false);
        assert_eq!((guest.read(HPPIR0), guest.read(IAR0)), (41, 41));
        guest.write(EOIR0, 41);
        assert!(!guest.signals() && guest.take().is_none() && guest.read(HPPIR1) == 1023);
        guest.set_groups(false, true);
        assert_eq!(guest.take(), Some(40));
    });
}

#[test]
fn a_register_of_gicv3_is_for_its_group_alone() {
    let mut guest = Guest::new(GicVersion::V3);
    let group0 = lr::PENDING | 0x40 << lr::PRIORITY_SHIFT | 40;
    guest.list(0, group0);
    assert_eq!((guest.read(IAR1), guest.read(IAR0)), (1023, 40));
    guest.write(EOIR1, 40);
    assert_eq!(guest.state(0), lr::ACTIVE, "as below, with nothing else listed");
    guest.list(0, group0);
    guest.pend(1, 41, 0x80);
    assert_eq!((guest.read(IAR1), guest.read(HPPIR1), guest.read(HPPIR0)), (1023, 1023, 40));
    assert_eq!(guest.read(IAR0), 40);
    // An end by the wrong one drops the priority and no more.
    guest.write(EOIR1, 40);
    assert_eq!((guest.state(0), guest.running_priority()), (lr::ACTIVE, 0xff));
    assert_eq!((guest.read(HPPIR0), guest.read(IAR0), guest.read(HPPIR1)), (1023, 1023, 41));
    assert_eq!(guest.read(IAR1), 41);
    assert_eq!(guest.lists.apr, [[0; 4], [1 << (0x80 >> 3), 0, 0, 0]]);
}

#[test]
fn gicc_iar_acknowledges_group_1_if_ackctl_says_so() {
    let mut guest = Guest::new(GicVersion::V2);
    guest.write(CTLR, 3);
    guest.pend(0, 40, 0x80);
    assert_eq!((guest.read(IAR0), guest.read(HPPIR0), guest.read(HPPIR1)), (1022, 1022, 40));
    guest.set_mask(0x80);
    assert_eq!((guest.read(IAR0), guest.read(HPPIR0)), (1023, 1022), "masked");
    guest.set_mask(0xff);
    assert_eq!((guest.state(0), guest.running_priority()), (lr::PENDING, 0xff));
    assert_eq!(guest.read(IAR1), 40);
    // GICC_EOIR ends it all the same.
    guest.write(EOIR0, 40);
    assert_eq!((guest.state(0), guest.running_priority()), (0, 0xff));
    guest.list(1, lr::PENDING | 41);
    assert_eq!((guest.read(IAR1), guest.read(HPPIR1), guest.read(HPPIR0)), (1023, 1023, 41));
    assert_eq!(guest.read(IAR0), 41);
    guest.write(EOIR1, 41);
    assert_eq!((guest.state(1), guest.running_priority()), (lr::ACTIVE, 0xff), "not GICC_AEOIR's");
    guest.write(CTLR, 7);
    guest.pend(0, 42, 0x80);
    assert_eq!(guest.read(HPPIR0), 42);
    assert_eq!(guest.read(IAR0), 42);
    assert_eq!(guest.lists.apr, [[1 << (0x80 >> 3), 0, 0, 0], [0; 4]], "one register for both groups");
}

#[test]
fn an_sgi_of_gicv2_is_ended_with_its_source() {
    let mut guest = Guest::new(GicVersion::V2);
    guest.pend(0, 5 << 10 | 3, 0x80);
    assert_eq!(guest.read(HPPIR1), 5 << 10 | 3);
    assert_eq!(guest.take(), Some(5 << 10 | 3));
    guest.end(4 << 10 | 3);
    assert_eq!((guest.state(0), guest.lists.hcr >> 27), (lr::ACTIVE, 1));
    guest.pend(1, 40, 0x80);
    assert_eq!(guest.take(), Some(40));
    guest.end(!0x1fff | 5 << 10 | 3);
    assert_eq!(guest.state(0), 0);
}

#[test]
fn group_0_is_signalled_as_fiq() {
    let entry = lr::PENDING | 40;
    let mut guest = Guest::new(GicVersion::V3);
    guest.list(0, entry);
    assert_eq!(guest.lists.signalled, VF);
    guest.list(0, entry | lr::GROUP1);
    assert_eq!(guest.lists.signalled, VI);
    let mut guest = Guest::new(GicVersion::V2);
    guest.list(0, entry);
    assert_eq!(guest.lists.signalled, VI, "unless FIQEn is set");
    guest.write(CTLR, 1 << 3 | 3);
    assert_eq!((guest.read(CTLR), guest.lists.signalled), (1 << 3 | 3, VF));
    guest.list(0, entry | lr::GROUP1);
    assert_eq!(guest.lists.signalled, VI);
}

#[test]
fn the_end_is_in_two_steps_in_eoimode_1() {
    each(|mut guest| {
        guest.pend(0, 40, 0x80);
        assert_eq!(guest.take(), Some(40));
        guest.dir(40);
        assert_eq!(guest.state(0), lr::ACTIVE, "not in EOImode 0");
        guest.set_modes(false, true);
        guest.end(40);
        assert_eq!((guest.state(0), guest.running_priority()), (lr::ACTIVE, 0xff));
        guest.pend(1, 41, 0x80);
        assert_eq!(guest.take(), Some(41));
        guest.dir(40);
        assert_eq!((guest.state(0), guest.state(1), guest.running_priority()), (0, lr::ACTIVE, 0x80));
        assert!(!guest.vgic.attention(ME));
        guest.dir(45);
        assert!(guest.vgic.attention(ME), "the core was asked");
        assert_eq!(guest.lists.hcr, lr::HCR_EN, "nothing is counted");
    });
}

#[test]
fn an_end_without_a_list_register_is_counted() {
    each(|mut guest| {
        for n in 1..=33 {
            guest.pend(0, 40, 0x80);
            assert_eq!(guest.take(), Some(40));
            guest.lists.used = 0;
            guest.end(40);
            assert_eq!(guest.lists.hcr, lr::HCR_EN | n % 32 << 27);
        }
        let before = guest.lists.clone();
        guest.end(40);
        assert_eq!(guest.lists, before, "nothing is active");
        guest.pend(1, 41, 0x80);
        assert_eq!(guest.take(), Some(41));
        let before = guest.lists.clone();
        for special in 1020..1024 {
            guest.end(special);
        }
        assert_eq!(guest.lists, before, "no interrupts");
        guest.set_modes(false, true);
        guest.end(44);
        assert_eq!(guest.lists.hcr, before.hcr, "not in EOImode 1");
    });
}

#[test]
fn the_physical_interrupt_is_let_go_with_a_hardware_entry() {
    each(|mut guest| {
        let physical = u64::from(ppi::VIRTUAL_TIMER.0);
        let entry = lr::PENDING | lr::HW | lr::GROUP1 | physical << lr::PINTID_SHIFT | 27;
        for split in [false, true] {
            guest.set_modes(false, split);
            guest.list(0, entry);
            assert_eq!(guest.take(), Some(27));
            (guest.lists.release, guest.lists.hcr_dirty) = (0, false);
            if split {
                guest.end(27);
                assert_eq!((guest.lists.release, guest.lists.hcr_dirty), (0, false));
                guest.dir(27);
            } else {
                guest.end(27);
            }
            assert_eq!((guest.lists.release, guest.lists.hcr_dirty), (1 << physical, true));
        }
    });
}
