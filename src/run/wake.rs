//! Having vCPUs look, wherever they are.
//!
//! Who wants something of a vCPU sets its flag first (the vGIC's attention, or an event) and calls its slot second;
//! [`slot`](crate::slot) argues why nothing is lost.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::CpuLoop;
use super::world::Ready;
use crate::machine::Machine;
use crate::sched::Arrival;
use crate::slot::Called;
use crate::vcpu::{CpuId, Vcpu, VcpuId};
use crate::vdev::vgic::Kicks;
use crate::vm::Vm;
use alloc::boxed::Box;
use alloc::sync::Arc;

/// How many vCPUs are called in one stay at EL2 while a guest runs here.
const AT_ONCE: u32 = 16;

impl<M: Machine> CpuLoop<'_, M> {
    /// Wakes the vCPUs that have something new; `me` is running here and looks for itself.
    #[inline(always)]
    pub(super) fn kick(&mut self, vm: &Arc<Vm>, me: Option<VcpuId>, kicks: Kicks) {
        if !kicks.is_empty() {
            let others = me.map_or(kicks, |me| kicks.without(me));
            if !others.is_empty() {
                self.wake_all(vm, others);
            }
        }
    }

    #[inline(never)]
    pub(super) fn wake_all(&mut self, vm: &Arc<Vm>, kicks: Kicks) {
        if kicks.bits().count_ones() > AT_ONCE {
            return self.wake_many(vm, kicks);
        }
        kicks.for_each(|id| self.wake(vm, id));
    }

    /// Wakes some, and owes it to the others: whoever is entered next is interrupted soon, so that no stay at EL2 is
    /// long. They have something to look at already, and find it by themselves if they come to run before.
    #[cold]
    fn wake_many(&mut self, vm: &Arc<Vm>, mut kicks: Kicks) {
        // Of another VM, or of this one by somebody else's hand.
        while self.owed.is_some() {
            self.pay();
        }
        for id in kicks.by_ref().take(AT_ONCE as usize) {
            self.wake(vm, id);
        }
        self.owed = Some((vm.id, kicks));
        self.pause();
        self.rearm();
    }

    /// Goes on with what is owed.
    #[cold]
    pub(super) fn pay(&mut self) {
        let Some((vm, mut kicks)) = self.owed.take() else { return };
        let Some(vm) = self.world.vm(vm) else { return };
        for id in kicks.by_ref().take(AT_ONCE as usize) {
            self.wake(&vm, id);
        }
        if !kicks.is_empty() {
            self.owed = Some((vm.id, kicks));
            self.pause();
        }
    }

    /// Has a vCPU look: takes it out of its slot if it waits there, kicks its CPU if it runs on another.
    pub(super) fn wake(&mut self, vm: &Arc<Vm>, id: VcpuId) {
        if let Some(slot) = vm.slot(id) {
            self.called(vm, slot.call());
        }
    }

    pub(super) fn called(&mut self, vm: &Arc<Vm>, called: Called<Box<Vcpu>>) {
        match called {
            Called::On(cpu) if cpu != self.id => self.machine.kick(cpu),
            Called::Woken { vcpu, home } => {
                self.admit(Ready { vcpu, vm: vm.clone() }, home, Arrival::Woken);
            }
            // What is on this CPU, or in a queue, looks before it enters.
            Called::On(_) | Called::Nothing => {}
        }
    }

    /// Puts a runnable vCPU into the queue of the CPU where it is to run, and has that look.
    pub(super) fn admit(&mut self, ready: Ready, home: CpuId, arrival: Arrival) {
        let cpu = self.world.place(ready.vcpu.affinity, home);
        self.admit_to(cpu, ready, arrival);
    }

    /// The same for a CPU that has been chosen.
    pub(super) fn admit_to(&mut self, cpu: CpuId, ready: Ready, arrival: Arrival) {
        let allowed = ready.vcpu.affinity;
        let Some(desk) = self.world.desk(cpu) else { return };
        let mut queue = desk.queue();
        let look = queue.push(ready, arrival, self.machine.now());
        if look && cpu != self.id {
            drop(queue);
            desk.ask();
            return self.machine.kick(cpu);
        }
        if look {
            // Who runs here may have to stop for it, at once or soon.
            self.look_at(&queue);
        }
        drop(queue);
        if look {
            self.rearm();
        }
        // It waits its turn. Who became idle since it was placed may have looked before it was there.
        if let Some(idler) = self.world.idler(allowed, cpu) {
            self.machine.kick(idler);
        }
    }
}
