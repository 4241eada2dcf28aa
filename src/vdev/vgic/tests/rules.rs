//! One rule of the architecture each.

use super::hardware::{TIMER, Vm, vcpu};
use crate::addr::GuestPhysAddr;
use crate::exit::Size;
use crate::machine::IntId;
use crate::vcpu::{Lists, VcpuId};
use crate::vdev::AccessError;
use crate::vdev::vgic::{Frame, GicVersion, Kicks, Outcome, SgiGroup, Vgic, VgicConfig, lr};

const GICD: Frame = Frame::Gicd;
const SGI_BASE: Frame = Frame::GicrSgi(VcpuId(0));
const RD_BASE: Frame = Frame::GicrRd(VcpuId(0));

/// SPI 0 enabled for vCPU 0.
fn with_spi(lists: u8) -> Vm {
    let mut vm = Vm::linux(2, lists);
    vm.write(0, GICD, 0x104, 1);
    vm
}

fn with_timer(lists: u8) -> Vm {
    let mut vm = Vm::linux(2, lists);
    vm.write(0, SGI_BASE, 0x100, 1 << TIMER);
    vm
}

#[test]
fn frames_lie_as_in_virt() {
    let vm = Vm::new(2, 4);
    let frame = |ipa| vm.vgic.frame(GuestPhysAddr::at(ipa));
    assert_eq!(frame(0x07ff_ffff), None);
    assert_eq!(frame(0x0800_0004), Some((GICD, 4)));
    assert_eq!(frame(0x0801_0000), None);
    assert_eq!(frame(0x080a_0008), Some((RD_BASE, 8)));
    assert_eq!(frame(0x080b_0100), Some((SGI_BASE, 0x100)));
    assert_eq!(frame(0x080d_ffff), Some((Frame::GicrSgi(VcpuId(1)), 0xffff)));
    assert_eq!(frame(0x080e_0000), None);
}

#[test]
fn identification_is_that_of_a_gicv3() {
    let mut vm = Vm::new(2, 4);
    assert_eq!(vm.read(0, GICD, 0xffe8) >> 4 & 15, 3);
    assert_eq!(vm.read(0, Frame::GicrRd(VcpuId(1)), 0xffe8) >> 4 & 15, 3);
    assert_eq!(vm.read(0, GICD, 4), 2 | 9 << 19);
    assert_eq!(vm.read(0, GICD, 0), 0x50);
    assert_eq!(vm.access(0, RD_BASE, 8, Size::Double, None), Outcome::Done(0, Kicks::NONE));
    let last = vm.access(0, Frame::GicrRd(VcpuId(1)), 8, Size::Double, None);
    assert_eq!(last, Outcome::Done(1 << 32 | 1 << 8 | 1 << 4, Kicks::NONE));
    assert_eq!(vm.read(0, Frame::GicrRd(VcpuId(1)), 0xc), 1);
    assert_eq!(vm.read(0, RD_BASE, 0x14), 6);
    vm.write(0, RD_BASE, 0x14, 0);
    assert_eq!(vm.read(0, RD_BASE, 0x14), 0);
}

#[test]
fn sizes_are_checked_and_reserved_is_zero() {
    let mut vm = Vm::new(1, 4);
    let refused = Outcome::Refused(AccessError::BadSize);
    for (frame, offset, size) in [
        (GICD, 0, Size::Byte),
        (GICD, 0, Size::Double),
        (GICD, 0x104, Size::Half),
        (GICD, 0x104, Size::Byte),
        (GICD, 0x108, Size::Double),
        (GICD, 0x420, Size::Half),
        (GICD, 0x422, Size::Word),
        (GICD, 0x6100, Size::Byte),
        (GICD, 0xffe8, Size::Byte),
        (RD_BASE, 0, Size::Double),
        (RD_BASE, 8, Size::Half),
        (SGI_BASE, 0x100, Size::Byte),
    ] {
        assert_eq!(vm.access(0, frame, offset, size, None), refused, "{frame:?} {offset:#x} {size:?}");
    }
    for (frame, offset) in
        [(GICD, 0x40), (GICD, 0xd04), (GICD, 0xe00), (GICD, 0x840), (GICD, 0xf00), (GICD, 0x1080)]
    {
        vm.write(0, frame, offset, !0);
        assert_eq!(vm.read(0, frame, offset), 0, "{offset:#x}");
    }
    // Interrupts 0 to 31 are not the distributor's, and those past the last do not exist.
    for offset in [0x80, 0x100, 0x200, 0x300, 0x400, 0xc00, 0x10c, 0x460] {
        vm.write(0, GICD, offset, !0);
        assert_eq!(vm.read(0, GICD, offset), 0, "{offset:#x}");
    }
    assert_eq!(vm.access(0, RD_BASE, 0x70, Size::Double, Some(!0)), Outcome::Done(0, Kicks::NONE));
    assert_eq!(vm.read(0, SGI_BASE, 0x104), 0);
}

#[test]
fn registers_hold_what_is_written() {
    let mut vm = Vm::new(1, 4);
    vm.write(0, GICD, 0x104, 0xf0);
    vm.write(0, GICD, 0x184, 0x30);
    assert_eq!((vm.read(0, GICD, 0x104), vm.read(0, GICD, 0x184)), (0xc0, 0xc0));
    vm.write(0, GICD, 0x420, 0x1234_56ff);
    assert_eq!(vm.read(0, GICD, 0x420), 0x1030_50f8, "five bits of priority");
    assert_eq!(vm.access(0, GICD, 0x423, Size::Byte, None), Outcome::Done(0x10, Kicks::NONE));
    vm.access(0, GICD, 0x421, Size::Byte, Some(0xa0));
    assert_eq!(vm.read(0, GICD, 0x420), 0x1030_a0f8);
    vm.write(0, GICD, 0xc0c, 0xc000_0003);
    assert_eq!(vm.read(0, GICD, 0xc0c), 0x8000_0002, "bit 0 of a field is RES0");
    assert_eq!(vm.read(0, GICD, 0xc08), 0);
    vm.write(0, SGI_BASE, 0xc00, 0);
    assert_eq!(vm.read(0, SGI_BASE, 0xc00), 0xaaaa_aaaa, "SGIs are edge-triggered");
    vm.write(0, GICD, 0x304, 6);
    assert_eq!(vm.read(0, GICD, 0x384), 6);
    vm.write(0, GICD, 0x384, 2);
    assert_eq!(vm.read(0, GICD, 0x304), 4);
}

#[test]
fn irouter_is_whole_or_in_halves() {
    let mut vm = Vm::new(2, 4);
    vm.access(0, GICD, 0x6108, Size::Double, Some(0x12_8034_5678));
    assert_eq!(vm.access(0, GICD, 0x6108, Size::Double, None), Outcome::Done(0x12_8034_5678, Kicks::NONE));
    vm.write(0, GICD, 0x610c, 0);
    vm.write(0, GICD, 0x6108, 1);
    assert_eq!(vm.access(0, GICD, 0x6108, Size::Double, None), Outcome::Done(1, Kicks::NONE));
    assert_eq!(vm.access(0, GICD, 0x7fd8, Size::Double, Some(1)), Outcome::Done(0, Kicks::NONE));
}

#[test]
fn the_last_interrupt_is_1019() {
    let config = VgicConfig {
        version: GicVersion::V3,
        mpidrs: vec![0],
        spis: 988,
        lists: 4,
        priority_bits: 5,
        emulated: false,
    };
    let vgic = Vgic::new(config);
    let mut lists = Lists::default();
    let mut access = |offset, write| vgic.access(VcpuId(0), GICD, offset, Size::Word, write, &mut lists);
    access(0x17c, Some(!0));
    assert_eq!(access(0x17c, None), Outcome::Done(0x0fff_ffff, Kicks::NONE));
    access(0x7f8, Some(!0));
    assert_eq!(access(0x7f8, None), Outcome::Done(0xf8f8_f8f8, Kicks::NONE));
    access(0x7fc, Some(!0));
    assert_eq!(access(0x7fc, None), Outcome::Done(0, Kicks::NONE), "priorities of 1020 to 1023");
    assert_eq!(access(4, None), Outcome::Done(31 | 9 << 19, Kicks::NONE));
    assert!(vgic.set_spi(988, true).is_empty() && vgic.set_spi(5000, true).is_empty());
}

#[test]
fn a_level_interrupt_comes_again_while_its_line_is_high() {
    let mut vm = with_spi(4);
    vm.set_spi(0, true);
    assert_eq!(vm.take(0), Some(32));
    assert_eq!(vm.take(0), None);
    vm.end(0, 32);
    assert_eq!(vm.take(0), Some(32));
    vm.set_spi(0, false);
    assert_eq!(vm.cpus[0].lr[0] & lr::EOI, 0, "no need to hear of its end");
    vm.end(0, 32);
    assert_eq!(vm.take(0), None);
}

#[test]
fn so_does_a_private_one() {
    let mut vm = Vm::linux(1, 4);
    vm.write(0, SGI_BASE, 0x100, 1 << 30);
    let line = |vm: &mut Vm, high| {
        vm.vgic.set_ppi(vcpu(0), IntId(30), high);
        vm.settle();
    };
    for _ in 0..2 {
        line(&mut vm, true);
        for _ in 0..3 {
            assert_eq!(vm.take(0), Some(30));
            vm.end(0, 30);
        }
        line(&mut vm, false);
        assert_eq!(vm.take(0), None);
    }
}

#[test]
fn what_ended_outside_of_list_registers_counts_when_the_vcpu_leaves() {
    let mut vm = Vm::linux(1, 1);
    vm.write(0, GICD, 0xc08, !0);
    vm.write(0, GICD, 0x104, 3);
    vm.write(0, GICD, 0x420, 0x40a0);
    vm.set_spi(0, true);
    assert_eq!(vm.take(0), Some(32));
    vm.set_spi(1, true);
    assert_eq!(vm.take(0), Some(33));
    vm.cpus[0].end(33);
    vm.cpus[0].end(32);
    vm.leave(0);
    vm.come(0);
    assert_eq!(vm.read(0, GICD, 0x304), 0);
}

#[test]
fn a_level_interrupt_goes_away_with_its_line() {
    let mut vm = with_spi(4);
    vm.set_spi(0, true);
    assert!(vm.cpus[0].signalled().is_some());
    vm.set_spi(0, false);
    assert_eq!(vm.take(0), None);
    assert_eq!(vm.cpus[0].lists.used, 0);
}

#[test]
fn an_edge_while_active_is_delivered_after_the_end() {
    let mut vm = with_spi(4);
    vm.write(0, GICD, 0xc08, 2);
    vm.set_spi(0, true);
    vm.set_spi(0, false);
    assert_eq!(vm.take(0), Some(32));
    for _ in 0..3 {
        vm.set_spi(0, true);
        vm.set_spi(0, false);
    }
    assert_eq!(vm.cpus[0].lr[0] & lr::STATE, lr::STATE);
    vm.end(0, 32);
    assert_eq!(vm.take(0), Some(32));
    vm.end(0, 32);
    assert_eq!(vm.take(0), None, "several edges are one interrupt");
}

#[test]
fn disabling_takes_it_out_and_enabling_brings_it_back() {
    let mut vm = with_spi(4);
    vm.set_spi(0, true);
    vm.write(0, GICD, 0x184, 1);
    assert_eq!(vm.take(0), None);
    assert_eq!(vm.read(0, GICD, 0x204), 1, "still pending");
    vm.write(0, GICD, 0x104, 1);
    assert_eq!(vm.take(0), Some(32));
}

#[test]
fn disabling_from_another_vcpu_is_over_when_rwp_says_so() {
    let mut vm = with_spi(4);
    vm.set_spi(0, true);
    let lists = &mut vm.cpus[1].lists;
    let outcome = vm.vgic.access(vcpu(1), GICD, 0x184, Size::Word, Some(1), lists);
    assert_eq!(outcome, Outcome::Done(0, Kicks::of(vcpu(0))));
    let outcome = vm.vgic.access(vcpu(1), GICD, 0, Size::Word, None, lists);
    assert_eq!(outcome, Outcome::Done(1 << 31 | 0x53, Kicks::NONE));
    vm.look(0);
    assert_eq!(vm.read(1, GICD, 0), 0x53);
    assert_eq!(vm.take(0), None);
}

#[test]
fn nobody_waits_for_a_vcpu_with_empty_list_registers() {
    let mut vm = Vm::linux(2, 4);
    vm.leave(1);
    vm.write(0, GICD, 0, 0);
    assert_eq!(vm.read(0, GICD, 0), 0x50);
}

#[test]
fn groups_gate_at_the_distributor() {
    let mut vm = with_spi(4);
    vm.set_spi(0, true);
    vm.write(0, GICD, 0, 1);
    assert_eq!(vm.take(0), None);
    vm.write(0, GICD, 0, 2);
    assert_eq!(vm.take(0), Some(32));
}

#[test]
fn pending_follows_its_route() {
    let mut vm = with_spi(4);
    vm.set_spi(0, true);
    vm.access(0, GICD, 0x6100, Size::Double, Some(1));
    assert_eq!(vm.take(0), None);
    assert_eq!(vm.take(1), Some(32));
    vm.access(0, GICD, 0x6100, Size::Double, Some(7));
    vm.end(1, 32);
    assert_eq!((vm.take(0), vm.take(1)), (None, None), "nobody has that affinity");
    vm.access(0, GICD, 0x6100, Size::Double, Some(1 << 31));
    assert_eq!((vm.take(0), vm.take(1)), (Some(32), None), "any will do: by turns");
}

#[test]
fn sgis_go_where_they_are_sent() {
    let mut vm = Vm::linux(18, 4);
    let send = |vm: &mut Vm, value| {
        let kicks = vm.vgic.sgi(vcpu(0), SgiGroup::Group1, value);
        vm.check_kicks(0, kicks);
        vm.settle();
        kicks.map(|v| v.0).collect::<Vec<_>>()
    };
    assert_eq!(send(&mut vm, 3 << 24 | 0b101), [0, 2]);
    assert_eq!((vm.take(0), vm.take(1), vm.take(2)), (Some(3), None, Some(3)));
    assert_eq!(send(&mut vm, 4 << 24 | 1 << 16 | 0b110), [17]);
    assert_eq!(send(&mut vm, 1 << 40 | 5 << 24).len(), 17);
    assert_eq!(vm.take(0), None);
    for nobody in [2 << 16 | 1, 1 << 32 | 1, 1 << 48 | 1, 1 << 44 | 1] {
        assert_eq!(send(&mut vm, nobody), [] as [u16; 0]);
    }
    let kicks = vm.vgic.sgi(vcpu(0), SgiGroup::Group0, 1);
    assert!(kicks.is_empty(), "all are in Group 1");
}

#[test]
fn an_sgi_to_its_sender_alone_is_told_from_others() {
    let mpidrs = vec![1 << 31, 1 << 31 | 0x12, 1 << 31 | 3 << 32 | 0x02_0121];
    let config =
        VgicConfig { version: GicVersion::V3, mpidrs, spis: 32, lists: 4, priority_bits: 5, emulated: false };
    let vgic = Vgic::new(config);
    for n in 0..3 {
        vgic.sync(vcpu(n), &mut Lists::default());
    }
    let own = [1, 1 << 44 | 1 << 2, 3 << 48 | 2 << 44 | 2 << 32 | 1 << 16 | 1 << 1];
    for (n, &value) in own.iter().enumerate() {
        for (m, me) in (0..own.len()).map(|m| (m, vcpu(m))) {
            assert_eq!(vgic.own_sgi(me, value | 9 << 24).is_some(), m == n);
        }
        // What is told so is what the general way finds too.
        assert_eq!(vgic.sgi(vcpu(0), SgiGroup::Group1, value), Kicks::of(vcpu(n)));
        for more in [1 << 40, 1 << 9, 1 << 45] {
            assert_eq!(vgic.own_sgi(vcpu(n), value ^ more), None, "not to itself alone");
        }
    }
    assert_ne!(vgic.own_sgi(vcpu(0), 1), vgic.own_sgi(vcpu(0), 1 << 24 | 1));
}

#[test]
fn the_guest_ends_the_physical_interrupt_too() {
    let mut vm = with_timer(4);
    vm.set_timer(0, true);
    assert_eq!(vm.take(0), Some(TIMER));
    vm.cpus[0].timer_line = false;
    vm.end(0, TIMER);
    assert!(!vm.cpus[0].timer_active);
    for _ in 0..3 {
        vm.set_timer(0, true);
        assert_eq!(vm.take(0), Some(TIMER));
        assert!(vm.cpus[0].timer_active);
        vm.end(0, TIMER);
        assert!(vm.cpus[0].timer_active, "and comes again");
    }
}

#[test]
fn a_linked_interrupt_waits_until_it_can_be_delivered() {
    let mut vm = Vm::linux(2, 4);
    vm.set_timer(0, true);
    assert!(vm.cpus[0].timer_active && vm.cpus[0].lists.linked_active(IntId(TIMER)));
    assert_eq!(vm.take(0), None);
    vm.leave(0);
    assert!(vm.cpus[0].lists.linked_active(IntId(TIMER)));
    vm.come(0);
    assert!(vm.cpus[0].timer_active);
    vm.write(0, SGI_BASE, 0x100, 1 << TIMER);
    assert_eq!(vm.take(0), Some(TIMER));
    vm.leave(0);
    assert!(vm.cpus[0].lists.linked_active(IntId(TIMER)));
    vm.come(0);
    vm.cpus[0].timer_line = false;
    vm.end(0, TIMER);
    assert!(!vm.cpus[0].timer_active);
    vm.leave(0);
    assert!(!vm.cpus[0].lists.linked_active(IntId(TIMER)));
}

#[test]
fn ended_by_register_a_linked_interrupt_is_let_go() {
    let mut vm = with_timer(4);
    vm.set_timer(0, true);
    assert_eq!(vm.take(0), Some(TIMER));
    vm.cpus[0].timer_line = false;
    vm.write(0, SGI_BASE, 0x380, 1 << TIMER);
    assert!(!vm.cpus[0].timer_active);
    vm.cpus[0].running.clear();
    vm.set_timer(0, true);
    vm.cpus[0].timer_line = false;
    vm.write(0, SGI_BASE, 0x280, 1 << TIMER);
    assert!(!vm.cpus[0].timer_active && vm.take(0).is_none());
    vm.set_timer(0, true);
    assert!(!vm.vgic.retract_linked(vcpu(0), IntId(TIMER)).is_empty());
    vm.cpus[0].timer_line = false;
    vm.settle();
    assert!(!vm.cpus[0].timer_active && vm.take(0).is_none());
}

#[test]
fn a_linked_interrupt_set_pending_while_active_is_never_both_in_hardware() {
    let mut vm = with_timer(4);
    vm.set_timer(0, true);
    assert_eq!(vm.take(0), Some(TIMER));
    vm.write(0, SGI_BASE, 0x200, 1 << TIMER);
    assert_eq!(vm.read(0, SGI_BASE, 0x200), 1 << TIMER);
    vm.cpus[0].timer_line = false;
    vm.end(0, TIMER);
    assert_eq!(vm.take(0), Some(TIMER), "the one that the guest asked for");
    vm.end(0, TIMER);
    assert!(!vm.cpus[0].timer_active);
}

#[test]
fn one_list_register_nests_and_replays() {
    let mut vm = Vm::linux(1, 1);
    vm.write(0, GICD, 0x104, 7);
    vm.write(0, GICD, 0x420, 0x0020_40a0);
    vm.set_spi(0, true);
    assert_eq!(vm.take(0), Some(32));
    vm.set_spi(1, true);
    assert_eq!(vm.take(0), Some(33));
    vm.set_spi(2, true);
    assert_eq!(vm.take(0), Some(34));
    assert_eq!(vm.read(0, GICD, 0x304), 7);
    for n in [2, 1, 0] {
        vm.set_spi(n, false);
        vm.end(0, 32 + u32::from(n));
        assert_eq!(vm.read(0, GICD, 0x304), (1 << n) - 1);
    }
    assert_eq!(vm.cpus[0].hcr, lr::HCR_EN);
}

#[test]
fn more_than_fits_comes_by_priority() {
    for lists in [1, 4, 16] {
        let mut vm = Vm::linux(1, lists);
        vm.write(0, GICD, 0xc08, !0);
        vm.write(0, GICD, 0xc0c, !0);
        for n in 0..32u16 {
            vm.access(0, GICD, 0x420 + u64::from(n), Size::Byte, Some(u64::from(n * 5 % 29) << 3));
            vm.set_spi(n, true);
        }
        vm.write(0, GICD, 0x104, !0);
        let mut last = 0;
        for _ in 0..32 - 1 {
            let intid = vm.take(0).unwrap();
            let priority = (intid - 32) * 5 % 29;
            assert!(priority >= last, "{lists} list registers: {intid}");
            last = priority;
            vm.end(0, intid);
            if last == 28 {
                break;
            }
        }
    }
}

#[test]
fn eoimode_1_with_more_active_than_fits_traps_dir() {
    let mut vm = Vm::linux(1, 1);
    vm.cpus[0].vmcr |= lr::VMCR_VEOIM;
    vm.write(0, GICD, 0xc08, !0);
    vm.write(0, GICD, 0x104, 3);
    for n in [0, 1] {
        vm.set_spi(n, true);
        assert_eq!(vm.take(0), Some(32 + u32::from(n)));
        vm.end(0, 32 + u32::from(n));
    }
    assert_eq!(vm.read(0, GICD, 0x304), 3);
    // What is counted while deactivations trap are priority drops, and end nothing.
    assert!(vm.cpus[0].hcr & lr::HCR_TDIR != 0);
    vm.cpus[0].hcr |= 2 << lr::HCR_EOICOUNT_SHIFT;
    vm.look(0);
    assert_eq!(vm.read(0, GICD, 0x304), 3);
    assert!(!vm.cpus[0].dir(33));
    assert_eq!(vm.vgic.deactivate(vcpu(0), 33), Kicks::NONE);
    assert!(vm.vgic.attention(vcpu(0)));
    vm.settle();
    assert_eq!(vm.read(0, GICD, 0x304), 1);
    assert!(vm.cpus[0].dir(32));
    vm.settle();
    assert_eq!(vm.read(0, GICD, 0x304), 0);
}

#[test]
fn the_state_of_a_running_vcpu_is_asked_for() {
    let mut vm = with_spi(4);
    vm.set_spi(0, true);
    assert_eq!(vm.cpus[0].acknowledge(), Some(32));
    let lists = &mut vm.cpus[1].lists;
    let ask = |vgic: &Vgic, lists: &mut Lists| vgic.access(vcpu(1), GICD, 0x304, Size::Word, None, lists);
    assert_eq!(ask(&vm.vgic, lists), Outcome::Remote(vcpu(0)));
    assert_eq!(ask(&vm.vgic, lists), Outcome::Remote(vcpu(0)), "no answer yet");
    vm.look(0);
    assert_eq!(ask(&vm.vgic, &mut vm.cpus[1].lists), Outcome::Done(1, Kicks::NONE));
    // Its own it finds after a fold.
    let own = |vm: &mut Vm| vm.vgic.access(vcpu(0), GICD, 0x304, Size::Word, None, &mut vm.cpus[0].lists);
    assert_eq!(own(&mut vm), Outcome::Fold);
    vm.cpus[0].fold();
    assert_eq!(own(&mut vm), Outcome::Done(1, Kicks::NONE));
}

#[test]
fn wfi_ends_for_what_would_be_signalled() {
    let mut vm = with_spi(4);
    let signals = |vm: &mut Vm| {
        vm.cpus[0].fold();
        let signals = vm.vgic.signals(vcpu(0), &vm.cpus[0].lists);
        vm.cpus[0].enter();
        signals
    };
    assert!(!signals(&mut vm));
    vm.set_spi(0, true);
    assert!(signals(&mut vm));
    vm.cpus[0].vmcr ^= 2;
    assert!(!signals(&mut vm), "group off in the CPU interface");
    vm.cpus[0].vmcr ^= 2 | (0xf0 ^ 0xa0) << 24;
    assert!(!signals(&mut vm), "masked by ICC_PMR_EL1");
    vm.cpus[0].vmcr ^= (0xf0 ^ 0xa0) << 24;
    assert_eq!(vm.take(0), Some(32));
    vm.vgic.sgi(vcpu(0), SgiGroup::Group1, 1);
    vm.settle();
    assert!(!signals(&mut vm), "cannot preempt its like");
    vm.access(0, SGI_BASE, 0x400, Size::Byte, Some(0x80));
    assert!(signals(&mut vm));
}

#[test]
fn a_reset_forgets_all_but_lines() {
    let mut vm = with_timer(4);
    vm.write(0, GICD, 0x104, 1);
    vm.set_spi(0, true);
    vm.set_timer(0, true);
    vm.cpus[0].put();
    vm.cpus[1].put();
    vm.vgic.reset();
    vm.note_called();
    for n in 0..2 {
        vm.vgic.reset_cpu(vcpu(n), &mut vm.cpus[n].lists);
        assert!(!vm.cpus[n].lists.linked_active(IntId(TIMER)));
        vm.cpus[n].timer_line = false;
        vm.come(n);
    }
    assert_eq!(vm.cpus[0].lists.used, 0);
    assert_eq!((vm.read(0, GICD, 0x104), vm.read(0, GICD, 0)), (0, 0x50));
    assert_eq!(vm.read(0, GICD, 0x204), 1, "the line is still high");
    assert_eq!(vm.read(0, SGI_BASE, 0x200), 0);
}
