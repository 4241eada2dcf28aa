//! The hypervisor's own timer: the end of a vCPU's slice, and whatever else is due on this CPU.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::CpuLoop;
use crate::machine::{Machine, Ticks};
use crate::sched::{Purpose, SLICE_MS};
use crate::vcpu::Vcpu;
use crate::vm::event;

impl<M: Machine> CpuLoop<'_, M> {
    /// The hypervisor's own timer fired.
    pub(super) fn timer_expired(&mut self, vcpu: Option<&Vcpu>) -> bool {
        let now = self.machine.now();
        // Its line stays high until it is set anew.
        self.armed = None;
        self.machine.arm_timer(None);
        while let Some(purpose) = self.timers.expired(now) {
            match purpose {
                Purpose::Vcpu(vm, id) => {
                    if let Some(vm) = self.world.vm(vm) {
                        if let Some(slot) = vm.slot(id) {
                            slot.post(event::TIMER);
                        }
                        self.wake(vm, id);
                    }
                }
                Purpose::Device(vm, n) => self.device_timer(vm, n),
                Purpose::Watchdog(vm) => self.watchdog(vm, vcpu),
            }
        }
        let over = self.slice_end.is_some_and(|end| now >= end);
        if over {
            self.slice_end = None;
        }
        if over && vcpu.is_some() && !self.others_wait() && self.needs_slices() {
            self.start_slice();
            return false;
        }
        self.rearm();
        over && self.others_wait()
    }

    /// Whether the vCPU on this CPU has to be interrupted now and then: for the others' sake, or for the machine's.
    pub(super) fn needs_slices(&self) -> bool {
        self.others_wait() || self.machine.forgets_levels()
    }

    pub(super) fn start_slice(&mut self) {
        let slice = self.machine.frequency().wrapping_mul(SLICE_MS).wrapping_div(1000);
        self.slice_end = Some(Ticks(self.machine.now().0.wrapping_add(slice)));
        self.rearm();
    }

    /// Sets the hypervisor's timer to whatever comes first; does nothing if that is what it is set to.
    pub(super) fn rearm(&mut self) {
        let first = match (self.slice_end, self.timers.next()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if first != self.armed {
            self.armed = first;
            self.machine.arm_timer(first);
        }
    }
}
