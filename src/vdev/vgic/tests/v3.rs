//! The registers of a GICv3 guest: where they lie, what they keep, and what is refused.

use super::hardware::Vm;
use crate::addr::GuestPhysAddr;
use crate::exit::Size;
use crate::vcpu::{Lists, VcpuId};
use crate::vdev::AccessError;
use crate::vdev::vgic::{Frame, GicVersion, Kicks, Outcome, Vgic, VgicConfig};

const GICD: Frame = Frame::Gicd;
const SGI_BASE: Frame = Frame::GicrSgi(VcpuId(0));
const RD_BASE: Frame = Frame::GicrRd(VcpuId(0));

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
