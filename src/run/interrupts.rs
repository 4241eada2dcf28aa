//! The machine's interrupts: timers, kicks, the serial line.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::CpuLoop;
use crate::machine::{IntId, Machine, Ticks, ppi};
use crate::sched::Purpose;
use crate::slot::Called;
use crate::vcpu::{Vcpu, VcpuId, VmId};
use crate::vdev::vgic::Raised;
use crate::vm::{Vm, event};

/// How many timers are served in one stay at EL2.
const AT_ONCE: usize = 16;
/// How long guests run between two parts of what takes long, in microseconds.
const MOMENT_US: u64 = 5;

impl<'w, M: Machine> CpuLoop<'w, M> {
    /// The running vCPU was left for a physical interrupt; true if its slice is over.
    ///
    /// Takes one: if there are more, the next entry ends at once.
    #[inline(always)]
    pub(super) fn interrupted(&mut self, vm: &Vm, vcpu: &mut Vcpu) -> bool {
        match self.machine.irq_ack() {
            Some(id @ ppi::VIRTUAL_TIMER) => {
                self.machine.irq_done(id, true);
                self.sync_raised(vm, vcpu, Raised::linked(id));
                false
            }
            Some(id) => self.interrupt(id, Some(vcpu)),
            None => false,
        }
    }

    /// Handles an acknowledged interrupt; true if the running vCPU's slice is over.
    #[inline(never)]
    pub(super) fn interrupt(&mut self, id: IntId, vcpu: Option<&mut Vcpu>) -> bool {
        match id {
            IntId::KICK => {
                self.machine.irq_done(id, false);
                // Whatever else the kick is for, the vCPU looks before it enters.
                return self.desk.is_asked() && vcpu.is_some_and(|vcpu| self.is_over(vcpu));
            }
            ppi::VIRTUAL_TIMER => {
                let deliver = vcpu.is_some_and(|vcpu| self.virtual_timer(vcpu, id));
                self.machine.irq_done(id, deliver);
            }
            ppi::HYP_TIMER => {
                self.machine.irq_done(id, false);
                return self.timer_expired(vcpu);
            }
            ppi::MAINTENANCE => {
                // The vGIC asked to hear of this moment: list registers ran low, or an end of interrupt had none.
                self.machine.irq_done(id, false);
                if let Some(vcpu) = vcpu
                    && let Some(vm) = self.world.vm(vcpu.vm)
                {
                    self.sync(vm, vcpu);
                }
            }
            _ => {
                if Some(id) == self.machine.console_irq() {
                    self.console_interrupt();
                }
                self.machine.irq_done(id, false);
            }
        }
        false
    }

    /// The resident vCPU's virtual timer fired: it is the guest's to end.
    fn virtual_timer(&mut self, vcpu: &Vcpu, id: IntId) -> bool {
        let Some(vm) = self.world.vm(vcpu.vm) else { return false };
        let kicks = vm.vgic.raise_linked(vcpu.id, id);
        self.kick(vm, Some(vcpu.id), kicks);
        true
    }

    /// The hypervisor's own timer fired: the end of a slice, or whatever else is due on this CPU.
    fn timer_expired(&mut self, vcpu: Option<&mut Vcpu>) -> bool {
        let now = self.machine.now();
        // Its line stays high until it is set anew.
        self.armed = None;
        self.machine.arm_timer(None);
        self.paused = None;
        if self.owed.is_some() {
            self.pay();
        }
        for served in 0.. {
            if served == AT_ONCE {
                self.pause();
                break;
            }
            let Some(purpose) = self.timers.expired(now) else { break };
            match purpose {
                Purpose::Vcpu(vm, id) => self.vcpu_timer(vm, id, now),
                Purpose::Device(vm, n) => self.device_timer(vm, n),
                Purpose::Watchdog(vm) => {
                    self.watchdog(vm, vcpu.as_deref());
                    self.pause();
                    break;
                }
                Purpose::Console => self.console_due(),
            }
        }
        let due = |at: Option<Ticks>| at.is_some_and(|at| now >= at);
        match vcpu {
            Some(_) if due(self.slice_end) && self.desk.is_wanted() => true,
            Some(vcpu) if due(self.slice_end) || due(self.release) => self.is_over(vcpu),
            _ => {
                self.rearm();
                false
            }
        }
    }

    /// A timer of a vCPU that is here, or was parked here: others' are older than what they wait for now.
    fn vcpu_timer(&mut self, vm: VmId, id: VcpuId, now: Ticks) {
        let Some(slot) = self.world.vm(vm).and_then(|vm| vm.slot(id)) else { return };
        let me = self.id;
        let is_due = |vcpu: &alloc::boxed::Box<Vcpu>, home| {
            home == me && vcpu.next_deadline(0).is_some_and(|at| at <= now.0)
        };
        match slot.call_if(is_due) {
            // Its emulated timer is due.
            Called::On(cpu) if cpu == me => {
                slot.post(event::TIMER);
            }
            Called::On(_) => {}
            other => self.called(other),
        }
    }

    /// There is more to be done than fits into one stay at EL2: the rest waits until guests have had a moment.
    pub(super) fn pause(&mut self) {
        let moment = self.machine.frequency().wrapping_div(1_000_000).wrapping_mul(MOMENT_US);
        self.paused = Some(Ticks(self.machine.now().0.wrapping_add(moment)));
    }

    /// Sets the hypervisor's timer to whatever comes first; does nothing if that is what it is set to.
    pub(super) fn rearm(&mut self) {
        let mut timers = self.timers.next();
        if self.paused.is_some() {
            // Nothing of that is late if a guest has a moment first.
            timers = if self.owed.is_some() { self.paused } else { timers.max(self.paused) };
        }
        let first = earlier(earlier(self.slice_end, timers), self.release);
        if first != self.armed {
            self.armed = first;
            self.machine.arm_timer(first);
        }
    }
}

/// The first of two times that may never come.
#[inline(always)]
fn earlier(a: Option<Ticks>, b: Option<Ticks>) -> Option<Ticks> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
