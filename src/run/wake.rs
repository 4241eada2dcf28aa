//! Having vCPUs look, wherever they are.
//!
//! Who wants something of a vCPU sets its flag first (the vGIC's attention, or an event) and calls its slot second;
//! [`slot`](crate::slot) argues why nothing is lost.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::CpuLoop;
use crate::machine::Machine;
use crate::sched::Arrival;
use crate::slot::Called;
use crate::vcpu::{CpuId, Vcpu, VcpuId};
use crate::vdev::vgic::Kicks;
use crate::vm::{Vm, event};
use alloc::boxed::Box;
use core::sync::atomic::Ordering;

/// How many vCPUs are called in one stay at EL2 while a guest runs here.
const AT_ONCE: u32 = 16;

impl<M: Machine> CpuLoop<'_, M> {
    /// Wakes the vCPUs that have something new; `me` is running here and looks for itself.
    #[inline(always)]
    pub(super) fn kick(&mut self, vm: &Vm, me: Option<VcpuId>, kicks: Kicks) {
        if !kicks.is_empty() {
            let others = me.map_or(kicks, |me| kicks.without(me));
            if !others.is_empty() {
                self.wake_all(vm, others);
            }
        }
    }

    #[inline(never)]
    pub(super) fn wake_all(&mut self, vm: &Vm, kicks: Kicks) {
        if kicks.bits().count_ones() > AT_ONCE {
            return self.wake_many(vm, kicks);
        }
        kicks.for_each(|id| self.wake(vm, id));
    }

    /// Wakes some, and has the vCPU that is here wake the others before its next entry, so that no stay at EL2 is long.
    #[cold]
    fn wake_many(&mut self, vm: &Vm, mut kicks: Kicks) {
        for id in kicks.by_ref().take(AT_ONCE as usize) {
            self.wake(vm, id);
        }
        match self.here {
            Some((here, slot)) if here == vm.id && !kicks.is_empty() => {
                vm.uncalled.fetch_or(kicks.bits(), Ordering::AcqRel);
                slot.post(event::CALL);
            }
            // Nobody who could go on with it.
            _ => kicks.for_each(|id| self.wake(vm, id)),
        }
    }

    /// Goes on with what [`wake_many`](Self::wake_many) left.
    #[cold]
    pub(super) fn wake_rest(&mut self, vm: &Vm) {
        let kicks = Kicks::from_bits(vm.uncalled.swap(0, Ordering::AcqRel));
        self.wake_all(vm, kicks);
    }

    /// The vCPU that is here leaves: those that it was to call cannot wait for its return.
    #[inline(always)]
    pub(super) fn wake_rest_now(&mut self, vm: &Vm) {
        if vm.uncalled.load(Ordering::Relaxed) != 0 {
            let kicks = Kicks::from_bits(vm.uncalled.swap(0, Ordering::AcqRel));
            kicks.for_each(|id| self.wake(vm, id));
        }
    }

    /// Has a vCPU look: takes it out of its slot if it waits there, kicks its CPU if it runs on another.
    pub(super) fn wake(&mut self, vm: &Vm, id: VcpuId) {
        if let Some(slot) = vm.slot(id) {
            self.called(slot.call());
        }
    }

    pub(super) fn called(&mut self, called: Called<Box<Vcpu>>) {
        match called {
            Called::On(cpu) if cpu != self.id => self.machine.kick(cpu),
            Called::Woken { vcpu, home } => self.admit(vcpu, home, Arrival::Woken),
            // What is on this CPU, or in a queue, looks before it enters.
            Called::On(_) | Called::Nothing => {}
        }
    }

    /// Puts a runnable vCPU into the queue of the CPU where it is to run, and has that look.
    pub(super) fn admit(&mut self, vcpu: Box<Vcpu>, home: CpuId, arrival: Arrival) {
        let cpu = self.world.place(vcpu.affinity, home, 0);
        self.admit_to(cpu, vcpu, arrival);
    }

    /// The same for a CPU that has been chosen.
    pub(super) fn admit_to(&mut self, cpu: CpuId, vcpu: Box<Vcpu>, arrival: Arrival) {
        let allowed = vcpu.affinity;
        let Some(desk) = self.world.desk(cpu) else { return };
        let look = desk.queue().push(vcpu, arrival, self.machine.now());
        if look && cpu != self.id {
            desk.ask();
            return self.machine.kick(cpu);
        }
        if look && let Some((_, slot)) = self.here {
            slot.post(event::LOOK);
        }
        // It waits its turn. Who became idle since it was placed may have looked before it was there.
        if let Some(idler) = self.world.idler(allowed, cpu) {
            self.machine.kick(idler);
        }
    }
}
