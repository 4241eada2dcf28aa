//! What the property tests found, the smallest case of each.

use super::hardware::{Vm, vcpu};
use super::port::Port;
use super::vm::Setup;
use crate::exit::Size;
use crate::vdev::vgic::{Frame, GicVersion};

const GICD: Frame = Frame::Gicd;

/// SPIs 0 and 1 of one vCPU, Groups 0 and 1, of priority 0xa0, and SPI 2 of Group 0 and 0xf0: edges, all enabled.
fn of_both_groups(emulated: bool) -> Vm {
    let mut vm = Vm::with(Setup { version: GicVersion::V3, emulated, vcpus: 1, lists: 1, priority_bits: 5 });
    vm.write(0, GICD, 0, 3);
    vm.write(0, GICD, 0x84, 2);
    vm.write(0, GICD, 0xc08, 0x2a);
    vm.write(0, GICD, 0x420, 0xf0_a0a0);
    vm.write(0, GICD, 0x104, 7);
    vm.store(0, Port::Pmr, 0xff);
    vm.store(0, Port::Enable(false), 1);
    vm.store(0, Port::Enable(true), 1);
    vm
}

fn edge(vm: &mut Vm, spi: u16) {
    vm.set_spi(spi, true);
    vm.set_spi(spi, false);
}

/// Whoever preempts by its binary point ends first, whatever the priorities say: with one list register the
/// first of two ends was taken for that of the interrupt with the lower INTID.
#[test]
fn what_preempted_by_group_priority_ends_first() {
    for emulated in [false, true] {
        let mut vm = of_both_groups(emulated);
        // Priority 0xa0 is group priority 0x80 for Group 1, and 0xa0 for Group 0.
        vm.store(0, Port::Bpr(true), 6);
        edge(&mut vm, 0);
        assert_eq!(vm.load(0, Port::Iar(false)), 32);
        edge(&mut vm, 1);
        assert_eq!((vm.load(0, Port::Iar(true)), vm.load(0, Port::Rpr)), (33, 0x80));
        // Takes the list register, so that both are outside.
        edge(&mut vm, 2);
        vm.store(0, Port::Eoir(true), 33);
        assert_eq!(vm.read(0, GICD, 0x304), 1, "the one of Group 0 is still active");
        vm.store(0, Port::Eoir(false), 32);
        assert_eq!(vm.read(0, GICD, 0x304), 0);
    }
}

/// The mask is compared with the priority of what is most urgent: one with a better group priority that is masked
/// hid another from WFI.
#[test]
fn a_masked_interrupt_hides_no_other_from_wfi() {
    for emulated in [false, true] {
        let mut vm = of_both_groups(emulated);
        // With no bits of group priority, everything of Group 0 has group priority 0.
        vm.store(0, Port::Bpr(false), 7);
        vm.store(0, Port::Pmr, 0x80);
        vm.access(0, GICD, 0x421, Size::Byte, Some(0x40));
        edge(&mut vm, 0);
        vm.cpus[0].fold();
        assert!(!vm.vgic.signals(vcpu(0), &vm.cpus[0].lists));
        vm.cpus[0].enter();
        edge(&mut vm, 1);
        vm.cpus[0].fold();
        assert!(vm.vgic.signals(vcpu(0), &vm.cpus[0].lists));
        vm.cpus[0].enter();
        assert_eq!(vm.load(0, Port::Iar(true)), 33);
    }
}

fn gicv2(emulated: bool, vcpus: usize) -> Vm {
    let mut vm = Vm::with(Setup { version: GicVersion::V2, emulated, vcpus, lists: 1, priority_bits: 5 });
    vm.write(0, GICD, 0, 3);
    for n in 0..vcpus {
        vm.write(n, GICD, 0x100, 0xffff);
        vm.store(n, Port::Pmr, 0xff);
        vm.store(n, Port::Ctlr, 1);
    }
    vm
}

/// The short way for one SGI did not say that it is signalled.
#[test]
fn an_sgi_of_gicv2_is_signalled_at_once() {
    let mut vm = gicv2(true, 2);
    vm.write(0, GICD, 0xf00, 1 << 16);
    assert_eq!(vm.cpus[0].lists.signalled, 1 << 7);
    assert_eq!(vm.load(0, Port::Iar(false)), 0);
}

/// A vCPU whose own sync turned an SPI its way was told to look again.
#[test]
fn a_vcpu_that_turns_its_interface_on_looks_once() {
    for emulated in [false, true] {
        let mut vm = gicv2(emulated, 2);
        vm.store(0, Port::Ctlr, 0);
        vm.look(0);
        vm.write(1, GICD, 0x820, 3);
        vm.write(1, GICD, 0x104, 1);
        vm.store(1, Port::Ctlr, 0);
        vm.look(1);
        vm.set_spi(0, true);
        vm.store(0, Port::Ctlr, 1);
        // Asserts that nobody has to look when all is done.
        vm.look(0);
        assert_eq!((vm.load(0, Port::Iar(false)), vm.load(1, Port::Iar(false))), (32, 1023));
    }
}

/// What was pending again while active began to pend in its list register at its end, and so hid that others, more
/// urgent, waited outside.
#[test]
fn what_pends_again_at_its_end_is_not_ahead_of_who_waits() {
    for emulated in [false, true] {
        let setup = Setup { version: GicVersion::V3, emulated, vcpus: 1, lists: 2, priority_bits: 5 };
        let mut vm = Vm::with(setup);
        vm.write(0, GICD, 0, 1);
        vm.write(0, GICD, 0x420, 0x40_20a0);
        vm.write(0, GICD, 0x104, 7);
        vm.write(0, GICD, 0xc08, 0x2a);
        vm.store(0, Port::Pmr, 0xff);
        vm.store(0, Port::Enable(false), 1);
        edge(&mut vm, 0);
        assert_eq!(vm.load(0, Port::Iar(false)), 32);
        (0..3).for_each(|spi| edge(&mut vm, spi));
        vm.store(0, Port::Eoir(false), 32);
        for intid in [33, 34, 32] {
            assert_eq!(vm.load(0, Port::Iar(false)), intid);
            vm.store(0, Port::Eoir(false), intid);
        }
        assert_eq!(vm.load(0, Port::Iar(false)), 1023);
    }
}

/// A timer that fired while it was pending by hand, and whose pending state another vCPU cleared: it is let go.
#[test]
fn a_timer_that_fired_while_listed_and_was_cleared_is_let_go() {
    use crate::machine::ppi;
    use crate::vdev::vgic::Raised;
    let mut vm = Vm::linux(2, 4);
    let sgi = Frame::GicrSgi(vcpu(0));
    let timer = 1 << ppi::VIRTUAL_TIMER.0;
    vm.write(0, sgi, 0x100, timer);
    vm.write(0, sgi, 0x200, timer);
    let _ = vm.vgic.raise_linked(vcpu(0), ppi::VIRTUAL_TIMER);
    // Before vCPU 0 looks.
    let write = Some(u64::from(timer));
    let _ = vm.vgic.access(vcpu(1), sgi, 0x280, Size::Word, write, &mut vm.cpus[1].lists);
    vm.cpus[0].fold();
    let _ = vm.vgic.sync_raised(vcpu(0), &mut vm.cpus[0].lists, Raised::NOTHING);
    let lists = &vm.cpus[0].lists;
    assert!(lists.release & timer != 0 || !lists.linked_active(ppi::VIRTUAL_TIMER), "active for nobody");
    assert_eq!(lists.parked & timer, 0);
}

/// An SPI for whoever is awake goes to another vCPU when its own is switched off.
#[test]
fn what_any_vcpu_can_take_follows_those_that_are_on() {
    let mut vm = Vm::linux(2, 4);
    for n in 0..2 {
        vm.write(0, Frame::GicrRd(vcpu(n)), 0x14, 0);
    }
    // SPI 1 for any, which is vCPU 1 by turns.
    vm.access(0, GICD, 0x6000 + 8 * 33, Size::Double, Some(1 << 31));
    vm.write(0, GICD, 0x104, 2);
    vm.leave(1);
    let kicks = vm.vgic.switched_off(vcpu(1));
    vm.check_kicks(usize::MAX, kicks);
    vm.settle();
    vm.set_spi(1, true);
    assert_eq!(vm.take(0), Some(33));
}
