//! Interrupts that a physical one is active for: the virtual timer.

use super::hardware::{TIMER, Vm, vcpu};
use crate::machine::IntId;
use crate::vcpu::VcpuId;
use crate::vdev::vgic::Frame;

const SGI_BASE: Frame = Frame::GicrSgi(VcpuId(0));

use super::rules::with_timer;
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
