//! What GICv2 makes of SGIs: each has a source (IHI 0048B, 4.3.13 to 4.3.15 and 4.4.4).

use super::hardware::{TIMER, Vm, vcpu};
use super::v2::{GICD, SPENDSGIR, byte, fresh, read_byte, running, send, sgi};
use crate::exit::Size;
use crate::machine::IntId;
use crate::vdev::vgic::{Kicks, Outcome, Raised, SgiGroup, lr};

const CPENDSGIR: u64 = 0xf10;

#[test]
fn whether_an_sgi_pends_is_for_other_registers_to_change() {
    let mut vm = fresh(2, 4);
    vm.write(0, GICD, 0x200, !0);
    assert_eq!(vm.read(0, GICD, 0x200), 0xffff_0000);
    send(&mut vm, 1, 3, 1);
    vm.write(0, GICD, 0x280, !0);
    assert_eq!((vm.read(0, GICD, 0x200), vm.read(0, GICD, 0x280)), (8, 8));
    byte(&mut vm, 0, CPENDSGIR + 3, 2);
    assert_eq!(vm.read(0, GICD, 0x200), 0);
}

#[test]
fn sgis_go_where_the_filter_says() {
    let mut vm = running(4, 4);
    let takers = |vm: &mut Vm, value: u32| {
        vm.write(1, GICD, 0xf00, value);
        let takers: Vec<_> = (0..4).filter(|&n| vm.take(n) == sgi(value & 15, 1)).collect();
        takers.iter().for_each(|&n| vm.end(n, 1 << 10 | value & 15));
        takers
    };
    assert_eq!(takers(&mut vm, 0b0101 << 16 | 3), [0, 2]);
    assert_eq!(takers(&mut vm, 0xff << 16 | 15), [0, 1, 2, 3], "those that do not exist are ignored");
    assert_eq!(takers(&mut vm, 0xf0 << 16), []);
    assert_eq!(takers(&mut vm, 1 << 24 | 0b0010 << 16 | 5), [0, 2, 3], "all others");
    assert_eq!(takers(&mut vm, 2 << 24 | 0b0101 << 16 | 6), [1], "the sender alone");
    assert_eq!(takers(&mut vm, 3 << 24 | 0xff << 16 | 7), [], "reserved");
    assert_eq!(takers(&mut vm, 1 << 15 | 1 << 16 | 8), [0], "NSATT is for the Security Extensions");
}

#[test]
fn the_registers_of_gicv3_send_nothing() {
    let mut vm = running(2, 4);
    for value in [1, 2, 3, 1 << 40] {
        for n in 0..2 {
            assert_eq!(vm.vgic.own_sgi(vcpu(n), value), None);
            let kicks = vm.vgic.sgi(vcpu(n), SgiGroup::Group1, value);
            vm.check_kicks(n, kicks);
            vm.settle();
            assert_eq!((vm.take(n), vm.read(n, GICD, 0x200)), (None, 0));
        }
    }
}

#[test]
fn the_same_sgi_from_two_is_two_interrupts() {
    for lists in [1, 4] {
        let mut vm = running(4, lists);
        for n in [3, 1, 3, 2] {
            send(&mut vm, n, 5, 1);
        }
        assert_eq!(vm.read(0, GICD, SPENDSGIR + 4), 0b1110 << 8);
        assert_eq!(vm.take(0), sgi(5, 1), "the lowest first");
        assert_eq!(read_byte(&mut vm, 0, CPENDSGIR + 5), 0b1100);
        assert_eq!((vm.read(0, GICD, 0x200), vm.read(0, GICD, 0x300)), (1 << 5, 1 << 5));
        assert_eq!(vm.take(0), None, "not while one is active");
        send(&mut vm, 1, 5, 1);
        assert_eq!(read_byte(&mut vm, 0, CPENDSGIR + 5), 0b1110);
        for (before, source) in [(1, 1), (1, 2), (2, 3)] {
            vm.end(0, sgi(5, before).unwrap());
            assert_eq!(vm.take(0), sgi(5, source));
        }
        vm.end(0, sgi(5, 3).unwrap());
        assert_eq!((vm.take(0), vm.read(0, GICD, 0x200), vm.read(0, GICD, 0x300)), (None, 0, 0));
        assert_eq!(vm.cpus[0].hcr, lr::HCR_EN);
    }
}

#[test]
fn an_sgi_from_one_needs_no_more_than_its_end() {
    let mut vm = running(2, 4);
    for _ in 0..3 {
        send(&mut vm, 1, 2, 1);
        assert_eq!(vm.cpus[0].lr[0] & lr::EOI, 0, "nobody needs to hear of it");
        assert_eq!(vm.cpus[0].lists.used, 1);
        assert_eq!(vm.take(0), sgi(2, 1));
        vm.end(0, sgi(2, 1).unwrap());
        // What comes in between finds nothing left of it.
        vm.write(0, GICD, 0x100, 1 << TIMER);
        vm.set_timer(0, true);
        assert_eq!(vm.take(0), Some(TIMER));
        vm.cpus[0].timer_line = false;
        vm.end(0, TIMER);
        assert_eq!(vm.read(0, GICD, SPENDSGIR), 0);
    }
}

#[test]
fn one_that_is_disabled_waits_and_is_in_nobodys_way() {
    let mut vm = running(2, 4);
    vm.write(0, GICD, 0x180, 1 << 4);
    vm.write(0, GICD, 0x100, 1 << TIMER);
    send(&mut vm, 0, 4, 1);
    send(&mut vm, 1, 4, 1);
    for _ in 0..2 {
        vm.set_timer(0, true);
        assert_eq!(vm.take(0), Some(TIMER));
        vm.cpus[0].timer_line = false;
        vm.end(0, TIMER);
        assert_eq!((vm.take(0), vm.read(0, GICD, SPENDSGIR + 4)), (None, 3));
    }
    vm.write(0, GICD, 0x100, 1 << 4);
    vm.write(0, GICD, 0x180, 1 << 4);
    assert_eq!((vm.take(0), vm.read(0, GICD, SPENDSGIR + 4)), (None, 3), "what was listed is back");
    vm.write(0, GICD, 0x100, 1 << 4);
    for source in 0..2 {
        assert_eq!(vm.take(0), sgi(4, source));
        vm.end(0, sgi(4, source).unwrap());
    }
}

#[test]
fn pending_is_cleared_for_each_source() {
    let mut vm = running(4, 4);
    for n in 0..4 {
        send(&mut vm, n, 9, 2);
    }
    byte(&mut vm, 0, CPENDSGIR + 9, 0xff);
    assert_eq!(read_byte(&mut vm, 1, CPENDSGIR + 9), 0b1111, "not the other's");
    // Source 0 is in a list register, the others are not.
    byte(&mut vm, 1, CPENDSGIR + 9, 0b0101);
    assert_eq!((read_byte(&mut vm, 1, CPENDSGIR + 9), vm.read(1, GICD, 0x200)), (0b1010, 1 << 9));
    assert_eq!(vm.take(1), sgi(9, 1));
    vm.write(1, GICD, CPENDSGIR + 8, 0xff << 8);
    assert_eq!((vm.read(1, GICD, SPENDSGIR + 8), vm.read(1, GICD, 0x300)), (0, 1 << 9), "still active");
    vm.end(1, sgi(9, 1).unwrap());
    assert_eq!(vm.take(1), None);
    // Cleared and sent again before the vCPU looks, it pends.
    send(&mut vm, 2, 9, 2);
    let write = |vm: &mut Vm, offset, value| {
        vm.vgic.access(vcpu(1), GICD, offset, Size::Byte, Some(value), &mut vm.cpus[1].lists)
    };
    write(&mut vm, CPENDSGIR + 9, 4);
    write(&mut vm, SPENDSGIR + 9, 4);
    vm.settle();
    assert_eq!(vm.take(1), sgi(9, 2));
}

#[test]
fn pending_is_set_for_each_source() {
    let mut vm = running(3, 4);
    vm.write(1, GICD, SPENDSGIR + 4, 0x0200_fc80);
    assert_eq!(vm.read(1, GICD, SPENDSGIR + 4), 0x0200_0400, "of vCPUs that exist");
    assert_eq!((vm.read(1, GICD, 0x200), vm.read(0, GICD, 0x200)), (1 << 5 | 1 << 7, 0));
    byte(&mut vm, 1, SPENDSGIR + 15, 1);
    byte(&mut vm, 0, SPENDSGIR + 2, 0b111);
    for (intid, source) in [(5, 2), (7, 1), (15, 0)] {
        assert_eq!(vm.take(1), sgi(intid, source));
        vm.end(1, sgi(intid, source).unwrap());
    }
    assert_eq!(vm.take(1), None);
    // All at once.
    for source in 0..3 {
        assert_eq!(vm.take(0), sgi(2, source));
        vm.end(0, sgi(2, source).unwrap());
    }
    assert_eq!((vm.take(0), vm.read(0, GICD, SPENDSGIR)), (None, 0));
}

#[test]
fn what_list_registers_hold_is_read_after_a_fold() {
    let mut vm = running(2, 4);
    send(&mut vm, 1, 6, 1);
    for (offset, size) in [(0x200, Size::Word), (SPENDSGIR + 6, Size::Byte), (CPENDSGIR + 4, Size::Word)] {
        let lists = &mut vm.cpus[0].lists;
        assert_eq!(vm.vgic.access(vcpu(0), GICD, offset, size, None, lists), Outcome::Fold);
    }
    assert_eq!(vm.read(0, GICD, 0x200), 1 << 6);
    assert_eq!(vm.cpus[0].acknowledge(), sgi(6, 1));
    assert_eq!((read_byte(&mut vm, 0, SPENDSGIR + 6), vm.read(0, GICD, 0x300)), (0, 1 << 6));
}

#[test]
fn a_source_stays_with_what_is_active() {
    let mut vm = running(3, 2);
    send(&mut vm, 2, 1, 1);
    assert_eq!(vm.take(0), sgi(1, 2));
    send(&mut vm, 1, 1, 1);
    vm.leave(0);
    assert_eq!(vm.cpus[0].lists.lr, [0; 16]);
    vm.come(0);
    assert_eq!(read_byte(&mut vm, 0, SPENDSGIR + 1), 2);
    vm.end(0, sgi(1, 2).unwrap());
    assert_eq!(vm.read(0, GICD, 0x300), 0, "the end found it");
    assert_eq!(vm.take(0), sgi(1, 1));
}

#[test]
fn what_was_made_active_by_hand_is_from_oneself() {
    let mut vm = running(2, 4);
    vm.write(1, GICD, 0x300, 1 << 3);
    let entry = vm.cpus[1].lr[0];
    assert_eq!((lr::intid(entry), lr::source(entry), entry & lr::STATE), (3, 1, lr::ACTIVE));
    send(&mut vm, 0, 3, 2);
    assert_eq!(vm.take(1), None);
    vm.write(1, GICD, 0x380, 1 << 3);
    assert_eq!(vm.take(1), sgi(3, 0));
}

#[test]
fn more_than_fits_comes_by_priority_and_source() {
    for lists in [1, 2, 4] {
        let mut vm = running(3, lists);
        byte(&mut vm, 0, 0x407, 0x40);
        byte(&mut vm, 0, 0x820, 1);
        byte(&mut vm, 0, 0x420, 0x80);
        vm.write(0, GICD, 0x104, 1);
        let all = [1u32, 7, 2];
        for n in [2, 0, 1] {
            for intid in all {
                send(&mut vm, n, intid, 1);
            }
        }
        vm.set_spi(0, true);
        let mut taken = Vec::new();
        while let Some(value) = vm.take(0) {
            taken.push(value);
            vm.set_spi(0, value != 32);
            vm.end(0, value);
            assert!(taken.len() < 11);
            if value == 32 {
                break;
            }
        }
        let sevens: Vec<_> = (0..3).filter_map(|source| sgi(7, source)).collect();
        assert_eq!(taken, [sevens, vec![32]].concat());
        for _ in 0..6 {
            let value = vm.take(0).unwrap();
            vm.end(0, value);
            taken.push(value);
        }
        taken.sort_unstable();
        taken.dedup();
        assert_eq!((taken.len(), vm.take(0)), (10, None), "each once");
    }
}

#[test]
fn one_list_register_nests_and_replays() {
    let mut vm = running(3, 1);
    byte(&mut vm, 0, 0x402, 0x40);
    byte(&mut vm, 0, 0x403, 0x20);
    for (n, intid) in [(1, 1), (2, 2), (1, 3)] {
        send(&mut vm, n, intid, 1);
        assert_eq!(vm.take(0), sgi(intid, n as u32));
    }
    // Ended while none of them is in the list register, or all but one.
    send(&mut vm, 0, 1, 1);
    assert_eq!(vm.read(0, GICD, 0x300), 0b1110);
    for (n, intid) in [(1, 3), (2, 2), (1, 1)] {
        vm.end(0, sgi(intid, n).unwrap());
        assert_eq!(vm.read(0, GICD, 0x300), (1 << intid) - 2);
    }
    assert_eq!(vm.take(0), sgi(1, 0));
}

#[test]
fn deactivation_by_register_ignores_the_source() {
    let mut vm = running(2, 4);
    vm.cpus[0].vmcr |= lr::VMCR_VEOIM;
    send(&mut vm, 1, 8, 1);
    assert_eq!(vm.take(0), sgi(8, 1));
    vm.end(0, sgi(8, 1).unwrap());
    assert_eq!(vm.read(0, GICD, 0x300), 1 << 8);
    let kicks = vm.vgic.deactivate(vcpu(0), 1 << 10 | 8);
    assert_eq!(kicks, Kicks::NONE);
    assert!(vm.vgic.attention(vcpu(0)));
    vm.settle();
    assert_eq!(vm.read(0, GICD, 0x300), 0);
    for special in [1020, 1023, 0x1fff, u64::MAX] {
        vm.vgic.deactivate(vcpu(0), special);
        vm.settle();
    }
}

#[test]
fn wfi_ends_for_an_sgi_that_would_be_signalled() {
    let mut vm = running(2, 1);
    let signals = |vm: &mut Vm| {
        vm.cpus[0].fold();
        let signals = vm.vgic.signals(vcpu(0), &vm.cpus[0].lists);
        vm.cpus[0].enter();
        signals
    };
    assert!(!signals(&mut vm));
    send(&mut vm, 1, 8, 1);
    assert!(signals(&mut vm));
    assert_eq!(vm.take(0), sgi(8, 1));
    send(&mut vm, 0, 8, 1);
    assert!(!signals(&mut vm), "one of its kind is active");
    vm.end(0, sgi(8, 1).unwrap());
    assert!(signals(&mut vm));
}

#[test]
fn the_guest_learns_of_its_timer() {
    let mut vm = running(2, 4);
    vm.write(0, GICD, 0x100, 1 << TIMER);
    send(&mut vm, 1, 0, 1);
    vm.cpus[0].timer_line = true;
    vm.cpus[0].timer_active = true;
    vm.look_raised(0, Raised::linked(IntId(TIMER)));
    vm.settle();
    let taken = [vm.take(0), {
        vm.end(0, sgi(0, 1).unwrap());
        vm.take(0)
    }];
    assert_eq!(taken, [sgi(0, 1), Some(TIMER)]);
    vm.cpus[0].timer_line = false;
    vm.end(0, TIMER);
    assert!(!vm.cpus[0].timer_active);
}

#[test]
fn an_sgi_to_oneself_is_told_by_its_word() {
    let mut vm = running(4, 4);
    let mut own = |n: usize, size, value| {
        let lists = &mut vm.cpus[n].lists;
        let outcome = vm.vgic.access(vcpu(n), GICD, 0xf00, size, Some(value), lists);
        matches!(outcome, Outcome::OwnSgi(sgi) if u64::from(sgi) == value & 15)
    };
    for n in 0..4 {
        assert!(own(n, Size::Word, 1 << (16 + n) | 7) && own(n, Size::Word, 1 << (16 + n)));
        // To others, to more, to the sender as the filter says, from the Non-secure state.
        for value in [2 << (16 + n), 3 << (16 + n), 0, 2 << 24, 1 << 24, 1 << (16 + n) | 1 << 15] {
            assert!(!own(n, Size::Word, value), "{n} {value:#x}");
        }
        assert!(!own(n, Size::Byte, 1 << (16 + n) & 0xff));
    }
}

#[test]
fn an_sgi_to_oneself_waits_its_turn() {
    let mut vm = running(4, 4);
    // While others' are listed, from the sender too, and after them.
    for senders in [[2, 1, 2], [1, 2, 2], [2, 3, 2]] {
        senders.iter().for_each(|&n| send(&mut vm, n, 5, 1 << 2));
        let (mut pending, first) = (read_byte(&mut vm, 2, SPENDSGIR + 5), vm.cpus[2].lists.used);
        assert_eq!((pending, first), (senders.iter().fold(0, |bits, n| bits | 1 << n), 1));
        while pending != 0 {
            let source = pending.trailing_zeros();
            assert_eq!(vm.take(2), sgi(5, source));
            vm.end(2, sgi(5, source).unwrap());
            pending &= pending - 1;
        }
        assert_eq!((vm.take(2), vm.cpus[2].hcr), (None, lr::HCR_EN));
    }
    // Two of its own that differ, and one that is not enabled.
    vm.write(2, GICD, 0x180, 1 << 6);
    [3, 6, 7].iter().for_each(|&n| send(&mut vm, 2, n, 1 << 2));
    assert_eq!(vm.read(2, GICD, 0x200), 0b1100_1000);
    for n in [3, 7] {
        assert_eq!(vm.take(2), sgi(n, 2));
        vm.end(2, sgi(n, 2).unwrap());
    }
    assert_eq!((vm.take(2), read_byte(&mut vm, 2, SPENDSGIR + 6)), (None, 1 << 2));
}
