//! One rule of the architecture each.

use super::hardware::{TIMER, Vm, vcpu};
use crate::exit::Size;
use crate::machine::IntId;
use crate::vcpu::{Lists, VcpuId};
use crate::vdev::vgic::{Frame, GicVersion, Kicks, Outcome, SgiGroup, Vgic, VgicConfig, lr};

const GICD: Frame = Frame::Gicd;
const SGI_BASE: Frame = Frame::GicrSgi(VcpuId(0));

/// SPI 0 enabled for vCPU 0.
fn with_spi(lists: u8) -> Vm {
    let mut vm = Vm::linux(2, lists);
    vm.write(0, GICD, 0x104, 1);
    vm
}

pub(super) fn with_timer(lists: u8) -> Vm {
    let mut vm = Vm::linux(2, lists);
    vm.write(0, SGI_BASE, 0x100, 1 << TIMER);
    vm
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
