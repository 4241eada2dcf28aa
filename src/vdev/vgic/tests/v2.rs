//! One rule of GICv2's distributor each (IHI 0048B, chapters 3 and 4).

use super::hardware::{Vm, vcpu};
use super::vm::Setup;
use crate::addr::GuestPhysAddr;
use crate::exit::Size;
use crate::vcpu::{Lists, VcpuId};
use crate::vdev::AccessError;
use crate::vdev::vgic::{Frame, GicVersion, Kicks, Outcome, Vgic, VgicConfig, lr};

pub(super) const GICD: Frame = Frame::Gicd;
pub(super) const SPENDSGIR: u64 = 0xf20;

/// As after reset.
pub(super) fn fresh(vcpus: usize, lists: u8) -> Vm {
    Vm::with(Setup { version: GicVersion::V2, emulated: false, vcpus, lists, priority_bits: 5 })
}

/// What a kernel sets up: all in Group 0, the group on, SGIs enabled, priority mask open.
pub(super) fn running(vcpus: usize, lists: u8) -> Vm {
    let mut vm = fresh(vcpus, lists);
    vm.write(0, GICD, 0, 1);
    for n in 0..vcpus {
        vm.write(n, GICD, 0x100, 0xffff);
        for offset in (0x400..0x420).step_by(4) {
            vm.write(n, GICD, offset, 0xa0a0_a0a0);
        }
        switch(&mut vm, n, true);
    }
    for offset in (0x420..0x460).step_by(4) {
        vm.write(0, GICD, offset, 0xa0a0_a0a0);
    }
    vm
}

/// Turns the CPU interface of a vCPU on or off, and lets the vGIC see it.
fn switch(vm: &mut Vm, n: usize, on: bool) {
    vm.cpus[n].vmcr = vm.cpus[n].vmcr & !1 & !(0xff << 24) | u64::from(on) | 0xf0 << 24;
    vm.leave(n);
    vm.come(n);
}

/// SPI 0 enabled, for these vCPUs.
fn with_spi(vcpus: usize, targets: u64) -> Vm {
    let mut vm = running(vcpus, 4);
    byte(&mut vm, 0, 0x820, targets);
    vm.write(0, GICD, 0x104, 1);
    vm
}

pub(super) fn byte(vm: &mut Vm, n: usize, offset: u64, value: u64) {
    let outcome = vm.access(n, GICD, offset, Size::Byte, Some(value));
    assert!(matches!(outcome, Outcome::Done(0, _)), "{offset:#x}: {outcome:?}");
}

pub(super) fn read_byte(vm: &mut Vm, n: usize, offset: u64) -> u64 {
    match vm.access(n, GICD, offset, Size::Byte, None) {
        Outcome::Done(value, _) => value,
        other => panic!("{offset:#x}: {other:?}"),
    }
}

/// `n` sends SGI `intid` to a list of targets.
pub(super) fn send(vm: &mut Vm, n: usize, intid: u32, targets: u32) {
    vm.write(n, GICD, 0xf00, targets << 16 | intid);
}

/// GICC_IAR of an SGI.
pub(super) fn sgi(intid: u32, source: u32) -> Option<u32> {
    Some(source << 10 | intid)
}

#[test]
fn frames_lie_as_in_virt() {
    let vm = fresh(2, 4);
    let frame = |ipa| vm.vgic.frame(GuestPhysAddr::at(ipa));
    assert_eq!(frame(0x0800_0f00), Some((GICD, 0xf00)));
    assert_eq!(frame(0x0801_1000), Some((Frame::Gicc, 0x1000)));
    assert_eq!(frame(0x080a_0000), None);
}

#[test]
fn identification_is_that_of_a_gicv2() {
    for vcpus in 1..=8 {
        let mut vm = fresh(vcpus, 4);
        assert_eq!(vm.read(0, GICD, 4), 2 | (vcpus as u32 - 1) << 5);
    }
    let mut vm = fresh(2, 4);
    assert_eq!(vm.read(1, GICD, 8), 0x4d00_043b);
    assert_eq!(vm.read(0, GICD, 0xfe8) >> 4 & 15, 2);
    let ids: Vec<u32> = (0xfd0..0x1000).step_by(4).map(|offset| vm.read(0, GICD, offset)).collect();
    assert_eq!(ids, [4, 0, 0, 0, 0x90, 0xb4, 0x2b, 0, 0x0d, 0xf0, 0x05, 0xb1]);
    vm.write(0, GICD, 4, 0);
    vm.write(0, GICD, 0xfe8, 0);
    assert_eq!((vm.read(0, GICD, 4), vm.read(0, GICD, 0xfe8)), (2 | 1 << 5, 0x2b), "read-only");
}

#[test]
fn there_are_eight_vcpus_at_most() {
    let mpidrs = (0..9).collect();
    let config =
        VgicConfig { version: GicVersion::V2, mpidrs, spis: 32, lists: 4, priority_bits: 5, emulated: false };
    let vgic = Vgic::new(config);
    let mut lists = Lists::default();
    let mut access = |me, offset, write| vgic.access(VcpuId(me), GICD, offset, Size::Word, write, &mut lists);
    assert_eq!(access(0, 4, None), Outcome::Done(1 | 7 << 5, Kicks::NONE));
    // A ninth, if somebody has one, finds nothing and does no harm.
    for offset in (0..0x1000).step_by(4) {
        access(8, offset, Some(!0));
        access(8, offset, None);
    }
    for n in 0..8 {
        vgic.sync(VcpuId(n), &mut Lists::default());
    }
    let mut send = || vgic.access(VcpuId(0), GICD, 0xf00, Size::Word, Some(0xff_0000), &mut lists);
    assert!(matches!(send(), Outcome::Done(0, kicks) if kicks.count() == 8));
    assert_eq!(send(), Outcome::Done(0, Kicks::NONE), "each is called once");
}

#[test]
fn sizes_are_checked_and_reserved_is_zero() {
    let mut vm = fresh(2, 4);
    for (offset, size) in [
        (0, Size::Byte),
        (0, Size::Double),
        (4, Size::Half),
        (0x100, Size::Byte),
        (0x104, Size::Half),
        (0x108, Size::Double),
        (0x420, Size::Half),
        (0x420, Size::Double),
        (0x422, Size::Word),
        (0x820, Size::Half),
        (0x820, Size::Double),
        (0xc08, Size::Byte),
        (0xf00, Size::Byte),
        (0xf00, Size::Half),
        (0xf10, Size::Half),
        (0xf20, Size::Double),
        (0xfe8, Size::Byte),
        (0x2000, Size::Double),
    ] {
        for write in [None, Some(!0)] {
            let outcome = vm.access(0, GICD, offset, size, write);
            assert_eq!(outcome, Outcome::Refused(AccessError::BadSize), "{offset:#x} {size:?}");
        }
    }
    // NSACR, what is implementation defined, GICD_SGIR, past the last interrupt, where others have IROUTER.
    for offset in
        [0xc, 0x10, 0x40, 0xd00, 0xd04, 0xe00, 0xe04, 0xefc, 0xf00, 0xf04, 0xf30, 0xfcc, 0x10c, 0x460]
            .into_iter()
            .chain([0x860, 0xbfc, 0xc18, 0x1000, 0x6100, 0xffe8])
    {
        vm.write(0, GICD, offset, !0);
        assert_eq!(vm.read(0, GICD, offset), 0, "{offset:#x}");
    }
}

#[test]
fn the_control_register_has_two_groups() {
    let mut vm = fresh(1, 4);
    assert_eq!(vm.read(0, GICD, 0), 0);
    vm.write(0, GICD, 0, !0);
    assert_eq!(vm.read(0, GICD, 0), 3);
}

#[test]
fn private_interrupts_are_the_readers_own() {
    let mut vm = fresh(2, 4);
    for (set, mask) in [(0x80, !0u32), (0x100, !0), (0x200, !0xffff), (0x300, !0), (0x400, 0xf8f8_f8f8)] {
        vm.write(1, GICD, set, 0x5a5a_5a5a);
        assert_eq!(vm.read(0, GICD, set), 0, "{set:#x}");
        assert_eq!(vm.read(1, GICD, set), 0x5a5a_5a5a & mask, "{set:#x}");
    }
    for clear in [0x180, 0x280, 0x380] {
        vm.write(0, GICD, clear, !0);
        assert_ne!(vm.read(1, GICD, clear), 0, "not the other's");
        vm.write(1, GICD, clear, !0);
        assert_eq!(vm.read(1, GICD, clear), 0, "{clear:#x}");
    }
    byte(&mut vm, 0, 0x41d, 0x23);
    assert_eq!((read_byte(&mut vm, 0, 0x41d), read_byte(&mut vm, 1, 0x41d)), (0x20, 0));
    vm.write(0, GICD, 0xc00, 0);
    assert_eq!(vm.read(0, GICD, 0xc00), 0xaaaa_aaaa, "SGIs are edge-triggered");
    vm.write(0, GICD, 0xc04, !0);
    assert_eq!((vm.read(0, GICD, 0xc04), vm.read(1, GICD, 0xc04)), (0xaaaa_aaaa, 0));
}

#[test]
fn shared_registers_hold_what_is_written() {
    let mut vm = fresh(2, 4);
    vm.write(0, GICD, 0x84, 0xff);
    vm.write(1, GICD, 0x104, 0xf0);
    vm.write(0, GICD, 0x184, 0x30);
    assert_eq!((vm.read(1, GICD, 0x84), vm.read(0, GICD, 0x104)), (0xff, 0xc0));
    vm.write(0, GICD, 0xc0c, !0);
    assert_eq!(vm.read(1, GICD, 0xc0c), 0xaaaa_aaaa);
    byte(&mut vm, 1, 0x423, 0xff);
    assert_eq!(vm.read(0, GICD, 0x420), 0xf800_0000, "five bits of priority");
}

#[test]
fn targets_are_bytes_of_those_that_exist() {
    let mut vm = fresh(3, 4);
    assert_eq!(vm.read(0, GICD, 0x820), 0);
    vm.write(0, GICD, 0x820, 0xff01_02f4);
    assert_eq!(vm.read(1, GICD, 0x820), 0x0701_0204);
    byte(&mut vm, 2, 0x821, 0x0e);
    assert_eq!((vm.read(0, GICD, 0x820), read_byte(&mut vm, 0, 0x821)), (0x0701_0604, 6));
    for n in 0..3 {
        vm.write(n, GICD, 0x800, !0);
        byte(&mut vm, n, 0x81f, 0xff);
        assert_eq!(vm.read(n, GICD, 0x800), 0x0101_0101 << n, "who reads it");
        assert_eq!((vm.read(n, GICD, 0x81c), read_byte(&mut vm, n, 0x81d)), (0x0101_0101 << n, 1 << n));
    }
}

#[test]
fn a_uniprocessor_has_no_targets() {
    let mut vm = running(1, 4);
    for offset in [0x800, 0x81c, 0x820, 0x85c] {
        vm.write(0, GICD, offset, !0);
        assert_eq!(vm.read(0, GICD, offset), 0);
        vm.write(0, GICD, offset, 0);
    }
    vm.write(0, GICD, 0x104, 1);
    vm.set_spi(0, true);
    assert_eq!(vm.take(0), Some(32));
}

#[test]
fn with_no_target_it_pends_until_it_has_one() {
    let mut vm = with_spi(2, 0);
    vm.set_spi(0, true);
    assert_eq!((vm.take(0), vm.take(1), vm.read(0, GICD, 0x204)), (None, None, 1));
    byte(&mut vm, 0, 0x820, 0xfc);
    assert_eq!((vm.take(0), vm.take(1)), (None, None), "none of those exists");
    byte(&mut vm, 0, 0x820, 2);
    byte(&mut vm, 0, 0x820, 1);
    assert_eq!((vm.take(1), vm.take(0)), (None, Some(32)), "it went where it was sent last");
    byte(&mut vm, 0, 0x820, 2);
    assert_eq!(vm.take(1), None, "active at the other");
    vm.end(0, 32);
    assert_eq!((vm.take(0), vm.take(1)), (None, Some(32)));
}

#[test]
fn of_several_targets_one_handles_it() {
    let mut vm = with_spi(4, 0b1110);
    vm.write(0, GICD, 0xc08, 2);
    let mut handled = 0;
    for _ in 0..3 {
        vm.set_spi(0, true);
        vm.set_spi(0, false);
        let takers: Vec<_> = (0..4).filter(|&n| vm.take(n).is_some()).collect();
        assert_eq!(takers.len(), 1);
        assert!((1..4).contains(&takers[0]));
        handled += takers.len();
        vm.end(takers[0], 32);
    }
    assert_eq!(handled, 3);
}

#[test]
fn a_target_that_is_off_swallows_nothing() {
    let mut vm = with_spi(3, 0b111);
    vm.set_spi(0, true);
    assert!(vm.cpus[0].signalled().is_some());
    switch(&mut vm, 0, false);
    assert_eq!((vm.take(0), vm.take(1)), (None, Some(32)));
    vm.end(1, 32);
    assert!(vm.cpus[1].signalled().is_some());
    // Its interface is still on when it is switched off.
    vm.leave(1);
    let kicks = vm.vgic.switched_off(vcpu(1));
    assert_eq!(kicks, Kicks::of(vcpu(2)));
    vm.settle();
    assert_eq!(vm.take(2), Some(32));
    vm.end(2, 32);
    switch(&mut vm, 2, false);
    assert_eq!(vm.vgic.switched_off(vcpu(1)), Kicks::NONE, "known");
    // Nobody is on: the first that comes gets it.
    vm.cpus[2].vmcr |= 1;
    vm.cpus[2].fold();
    let signals = vm.vgic.signals(vcpu(2), &vm.cpus[2].lists);
    assert!(!signals && vm.vgic.attention(vcpu(2)), "not yet, but it has to look");
    vm.look(2);
    vm.settle();
    assert_eq!(vm.take(2), Some(32));
}

#[test]
fn an_spi_of_a_running_vcpu_is_asked_for() {
    let mut vm = with_spi(2, 1);
    vm.set_spi(0, true);
    assert_eq!(vm.cpus[0].acknowledge(), Some(32));
    let ask = |vm: &mut Vm| vm.vgic.access(vcpu(1), GICD, 0x304, Size::Word, None, &mut vm.cpus[1].lists);
    assert_eq!(ask(&mut vm), Outcome::Remote(vcpu(0)));
    vm.look(0);
    assert_eq!(ask(&mut vm), Outcome::Done(1, Kicks::NONE));
}

#[test]
fn groups_gate_at_the_distributor() {
    let mut vm = with_spi(2, 1);
    vm.write(0, GICD, 0x84, 1);
    vm.cpus[0].vmcr |= 2;
    vm.set_spi(0, true);
    send(&mut vm, 1, 0, 1);
    assert_eq!(vm.take(0), sgi(0, 1), "Group 0");
    vm.end(0, sgi(0, 1).unwrap());
    assert_eq!(vm.take(0), None);
    vm.write(0, GICD, 0, 2);
    send(&mut vm, 1, 0, 1);
    assert_eq!(vm.take(0), Some(32), "Group 1");
    vm.end(0, 32);
    vm.set_spi(0, false);
    assert_eq!((vm.take(0), vm.read(0, GICD, 0x200)), (None, 1));
    vm.write(0, GICD, 0x80, 1);
    assert_eq!(vm.take(0), sgi(0, 1), "banked, and changed while it pends");
}

#[test]
fn a_reset_forgets_all_but_lines() {
    let mut vm = with_spi(2, 3);
    vm.set_spi(0, true);
    send(&mut vm, 0, 3, 3);
    send(&mut vm, 1, 3, 3);
    assert!(vm.take(0).is_some());
    (0..2).for_each(|n| vm.cpus[n].put());
    vm.vgic.reset();
    vm.note_called();
    for n in 0..2 {
        vm.vgic.reset_cpu(vcpu(n), &mut vm.cpus[n].lists);
        vm.come(n);
        assert_eq!((vm.cpus[n].lists.used, vm.cpus[n].vmcr & lr::VMCR_VFIQEN), (0, 0));
        for offset in [0, 0x100, 0x200, 0x300, 0x400, SPENDSGIR, 0x104, 0x820] {
            assert_eq!(vm.read(n, GICD, offset), 0, "{offset:#x}");
        }
    }
    assert_eq!(vm.read(0, GICD, 0x204), 1, "the line is still high");
    vm.write(0, GICD, 0, 1);
    vm.write(0, GICD, 0x104, 1);
    vm.write(0, GICD, 0x100, 8);
    (0..2).for_each(|n| switch(&mut vm, n, true));
    assert_eq!((vm.take(0), vm.take(1)), (None, None), "and nobody is its target");
    send(&mut vm, 1, 3, 1);
    assert_eq!(vm.take(0), sgi(3, 1));
}
