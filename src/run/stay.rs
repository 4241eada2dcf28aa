//! A vCPU's stay on this CPU: how it begins, when it is over, and where the vCPU goes then.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::world::Queue;
use super::{CpuLoop, Stint};
use crate::machine::{Machine, Ticks};
use crate::sched::{Arrival, Purpose};
use crate::slot::Called;
use crate::stage2::{Flush, vttbr};
use crate::vcpu::{HCR_TWE, Vcpu, VcpuId};
use crate::vm::{Reason, Vm, event};
use crate::vmid::Entered;
use alloc::boxed::Box;
use alloc::sync::Arc;

/// How a wait with a resident vCPU ended.
enum Waited {
    /// It has something to do.
    Woken,
    /// This one is to run here instead.
    Displaced(Box<Vcpu>),
    /// No VM runs any more.
    Over,
}

impl<'w, M: Machine> CpuLoop<'w, M> {
    /// Something to run: of this CPU's own queue, or of another's.
    ///
    /// Without anything there, this CPU counts as idle and has looked once more since, so that it may wait.
    pub(super) fn find_work(&mut self) -> Option<Box<Vcpu>> {
        if self.desk.is_wanted()
            && let Some(vcpu) = self.pick()
        {
            return Some(vcpu);
        }
        self.world.set_idle(self.id, true);
        let found = self.pick();
        if found.is_some() {
            self.world.set_idle(self.id, false);
        }
        found
    }

    /// The best of this CPU's queue; without any, one that waits elsewhere and may run here.
    fn pick(&mut self) -> Option<Box<Vcpu>> {
        let now = self.machine.now();
        let picked = self.pop(&mut self.desk.queue(), now);
        if picked.is_some() {
            return picked;
        }
        let stolen = self
            .world
            .others(self.id)
            .filter(|(_, desk)| desk.is_wanted())
            .find_map(|(_, desk)| desk.queue().steal(self.id))?;
        let mut queue = self.desk.queue();
        queue.push(stolen, Arrival::Moved, now);
        self.pop(&mut queue, now)
    }

    /// Takes the best out of this CPU's queue, and notes how long it may run.
    #[inline(always)]
    fn pop(&mut self, queue: &mut Queue<'_>, now: Ticks) -> Option<Box<Vcpu>> {
        if self.release.is_some() || queue.next_release().is_some() {
            queue.release(now);
        }
        let picked = queue.pop(now);
        self.look_at(queue);
        picked
    }

    /// Notes how long who runs may run, and what else there is to be done for this queue.
    #[inline(always)]
    fn look_at(&mut self, queue: &Queue<'_>) {
        self.slice_end = queue.slice_end();
        self.wanted = queue.waiting() != 0;
        self.release = queue.next_release();
    }

    /// Has the vCPU on this CPU until it must give it up: runs it, and waits with it while nobody else wants to run.
    /// Returns who takes its place, if that is known.
    pub(super) fn host(&mut self, mut vcpu: Box<Vcpu>) -> Option<Box<Vcpu>> {
        let vm = self.world.vm(vcpu.vm)?;
        let slot = vm.slot(vcpu.id)?;
        slot.board(self.id);
        self.here = Some((vm.id, slot));
        self.arrive(vm, &mut vcpu);
        let next = loop {
            let stint = match self.counts {
                None => self.stint(vm, &mut vcpu),
                Some(_) => self.counted_stint(vm, &mut vcpu),
            };
            match stint {
                Stint::Yielded if self.stays(&mut vcpu) => continue,
                Stint::Yielded => break self.give_way(vm, vcpu),
                Stint::Blocked => {
                    self.desk.queue().leave(&mut vcpu.account, self.machine.now());
                    match self.wait(vm, &mut vcpu) {
                        Waited::Woken => {
                            if self.desk.queue().resume(&mut vcpu.account, self.machine.now()) {
                                self.new_slice(&mut vcpu);
                                continue;
                            }
                            self.here = None;
                            self.put(vm, &mut vcpu);
                            self.requeue(vm, vcpu, Arrival::Woken);
                        }
                        Waited::Displaced(other) => {
                            self.park(vm, vcpu);
                            // It may have come back into this queue at once.
                            self.look_at(&self.desk.queue());
                            break Some(other);
                        }
                        Waited::Over => {}
                    }
                }
                Stint::Off => self.switch_off(vm, vcpu),
            }
            break None;
        };
        self.here = None;
        next
    }

    /// A vCPU gets on this CPU.
    fn arrive(&mut self, vm: &Vm, vcpu: &mut Vcpu) {
        // Somebody else may be idle, and this CPU has more than it can do.
        if self.wanted {
            self.share();
        }
        {
            let mut vmids = self.world.vmids.lock();
            let Entered { vmid, flush } = vmids.enter(self.id, vm.id);
            if flush {
                // Before another CPU learns what it may load from here on.
                self.machine.flush(Flush::All);
            }
            vcpu.vttbr = vttbr(vm.stage2_root, vmid);
        }
        if vm.is_stopping() {
            // It may have been started by one that had not heard of it.
            if let Some(slot) = vm.slot(vcpu.id) {
                slot.post(event::STOP);
            }
        }
        vm.stolen.set_ticks(vcpu.id, vcpu.account.stolen());
        // What it has listed is as it left it, or nothing; and its emulated timer is watched by nobody.
        if vcpu.lists.owed || vm.vgic.attention(vcpu.id) {
            vcpu.lists.owed = false;
            self.sync(vm, vcpu);
        }
        self.forget_timer(vm, vcpu);
        if vcpu.physical_timer.due().is_some() {
            self.physical_timer_changed(vm, vcpu);
        }
        self.set_slice(vcpu);
    }

    /// Has an idle CPU look for something to run.
    #[cold]
    pub(super) fn share(&mut self) {
        if let Some(idler) = self.world.helper(self.id) {
            self.machine.kick(idler);
        }
    }

    /// The running vCPU gets a new slice, if it needs one.
    fn new_slice(&mut self, vcpu: &mut Vcpu) {
        self.look_at(&self.desk.queue());
        self.set_slice(vcpu);
    }

    /// Has the slice that was noted hold for the running vCPU.
    fn set_slice(&mut self, vcpu: &mut Vcpu) {
        // What spins in WFE while others wait gives way.
        vcpu.hcr = if self.wanted { vcpu.hcr | HCR_TWE } else { vcpu.hcr & !HCR_TWE };
        if self.slice_end.is_none() && self.machine.forgets_levels() {
            self.slice_end = Some(self.after_ms(self.machine.now(), FORGETFUL_MS));
        }
        self.rearm();
    }

    pub(super) fn after_ms(&self, now: Ticks, ms: u64) -> Ticks {
        let ticks = self.machine.frequency().wrapping_mul(ms).wrapping_div(1000);
        Ticks(now.0.wrapping_add(ticks))
    }

    /// Whether the running vCPU has to let another one run here now; if not, its slice is as long as it should be.
    pub(super) fn is_over(&mut self, vcpu: &mut Vcpu) -> bool {
        let now = self.machine.now();
        let over = {
            let mut queue = self.desk.queue();
            queue.release(now);
            self.look_at(&queue);
            queue.should_preempt(now)
        };
        if !over {
            self.set_slice(vcpu);
        }
        over
    }

    /// Whether a vCPU that gives way may go on at once, as nobody takes its place.
    fn stays(&mut self, vcpu: &mut Vcpu) -> bool {
        !self.desk.is_wanted() && !self.is_over(vcpu)
    }

    /// The vCPU goes back into a queue: this CPU's, for the next to come out of it, or another's that has less to do.
    fn give_way(&mut self, vm: &'w Vm, mut vcpu: Box<Vcpu>) -> Option<Box<Vcpu>> {
        self.here = None;
        self.put(vm, &mut vcpu);
        self.forget_timer(vm, &mut vcpu);
        if let Some(slot) = vm.slot(vcpu.id) {
            slot.queue();
        }
        let now = self.machine.now();
        let cpu = self.world.place(vcpu.affinity, self.id, 1);
        let mut queue = self.desk.queue();
        let arrival = if queue.should_preempt(now) { Arrival::Expired } else { Arrival::Yielded };
        queue.leave(&mut vcpu.account, now);
        if cpu == self.id {
            queue.push(vcpu, arrival, now);
            return self.pop(&mut queue, now);
        }
        drop(queue);
        self.admit_to(cpu, vcpu, arrival);
        None
    }

    /// Puts a vCPU that was put off this CPU into a queue.
    fn requeue(&mut self, vm: &Vm, mut vcpu: Box<Vcpu>, arrival: Arrival) {
        // Its timers are looked at once it runs again.
        self.forget_timer(vm, &mut vcpu);
        if let Some(slot) = vm.slot(vcpu.id) {
            slot.queue();
        }
        self.admit(vcpu, self.id, arrival);
    }

    /// Nobody watches its timers here any more.
    #[inline(always)]
    fn forget_timer(&mut self, vm: &Vm, vcpu: &mut Vcpu) {
        if vcpu.timed {
            self.timers.set(Purpose::Vcpu(vm.id, vcpu.id), None);
            vcpu.timed = false;
        }
    }

    /// Has its timers watched here, in place of its own.
    pub(super) fn watch_timer(&mut self, vm: &Vm, vcpu: &mut Vcpu, deadline: Option<Ticks>) {
        if vcpu.timed || deadline.is_some() {
            self.timers.set(Purpose::Vcpu(vm.id, vcpu.id), deadline);
            vcpu.timed = true;
        }
    }

    /// Takes everything of the vCPU off this CPU. A system error that it leaves behind ends its VM.
    ///
    /// What it has listed stays listed: for a vCPU that is queued, and looks at its flags before it runs again.
    fn put(&mut self, vm: &Vm, vcpu: &mut Vcpu) {
        if self.machine.put(vcpu) {
            self.stop(vm, vcpu, Reason::SystemError);
        }
    }

    /// The same for one that nobody knows when to run again: others need not ask it what it has listed.
    pub(super) fn put_aside(&mut self, vm: &Vm, vcpu: &mut Vcpu) {
        self.put(vm, vcpu);
        let kicks = vm.vgic.unload(vcpu.id, &mut vcpu.lists);
        self.kick(vm, Some(vcpu.id), kicks);
    }

    /// Puts a waiting vCPU aside, with a software timer in place of its own.
    fn park(&mut self, vm: &'w Vm, mut vcpu: Box<Vcpu>) {
        self.here = None;
        self.put_aside(vm, &mut vcpu);
        let id = vcpu.id;
        let Some(slot) = vm.slot(id) else { return };
        let deadline = vcpu.next_deadline(vm.vgic.pending_private(id)).map(Ticks);
        self.watch_timer(vm, &mut vcpu, deadline);
        self.rearm();
        // What is listed no more is looked at by the same rules.
        let signals = vm.vgic.signals(id, &vcpu.lists);
        let parked = if signals { Err(vcpu) } else { slot.block(vcpu, self.id, || vm.vgic.attention(id)) };
        if let Err(vcpu) = parked {
            self.requeue(vm, vcpu, Arrival::Woken);
        }
    }

    /// A vCPU is off: by its own wish, or as its VM stops. Then it has the next one do the same.
    fn switch_off(&mut self, vm: &'w Arc<Vm>, mut vcpu: Box<Vcpu>) {
        self.here = None;
        self.put_aside(vm, &mut vcpu);
        self.desk.queue().leave(&mut vcpu.account, self.machine.now());
        self.forget_timer(vm, &mut vcpu);
        let id = vcpu.id;
        if !self.is_off(vm, vcpu) && vm.is_stopping() {
            self.pass_on(vm, id);
        }
    }

    /// A vCPU that nothing of is on a CPU is off from here on; true if it was the last.
    fn is_off(&mut self, vm: &Vm, vcpu: Box<Vcpu>) -> bool {
        self.kick(vm, None, vm.vgic.switched_off(vcpu.id));
        let last = vm.power_off(vcpu);
        if last {
            if vm.stop(Reason::AllOff) {
                self.stopped(vm, None, &Reason::AllOff);
            }
            self.ended();
        }
        last
    }

    /// Has the others of a VM that stops do the same: those that wait are off at once, the first that can run is called,
    /// and goes on with this. So nobody has to call all.
    fn pass_on(&mut self, vm: &Vm, from: VcpuId) {
        for (n, (_, slot)) in vm.slots_after(from).filter(|(_, slot)| !slot.is_off()).enumerate() {
            if n & 15 == 15 {
                self.breathe();
            }
            slot.post(event::STOP);
            match slot.call() {
                Called::Woken { vcpu, .. } => {
                    if self.is_off(vm, vcpu) {
                        return;
                    }
                }
                Called::On(cpu) if cpu != self.id => return self.machine.kick(cpu),
                // In a queue: it looks once it gets a CPU.
                Called::On(_) | Called::Nothing => return,
            }
        }
    }

    /// In the middle of what takes long, with nobody resident: takes an interrupt, if one is pending.
    fn breathe(&mut self) {
        self.armed = Some(Ticks(0));
        self.machine.arm_timer(self.armed);
        self.machine.idle(None);
        if let Some(id) = self.machine.irq_ack() {
            self.interrupt(id, None);
        }
    }

    /// Waits for something to run with the blocked `vcpu` still resident.
    fn wait(&mut self, vm: &'w Arc<Vm>, vcpu: &mut Vcpu) -> Waited {
        // Whether it blocks has just been found out.
        let mut stirred = false;
        loop {
            let mail = vm.slot(vcpu.id).map_or(0, |slot| slot.take());
            if mail & event::STOP != 0 {
                // Left for the stint to find.
                if let Some(slot) = vm.slot(vcpu.id) {
                    slot.post(event::STOP);
                }
                return Waited::Woken;
            }
            if mail != 0 {
                self.read_mail(vm, vcpu, mail);
            }
            let attention = vm.vgic.attention(vcpu.id);
            if attention {
                self.sync(vm, vcpu);
            }
            // What came for it may have been taken in by a message or an interrupt as well.
            if (attention || mail != 0 || stirred) && vm.vgic.signals(vcpu.id, &vcpu.lists) {
                return Waited::Woken;
            }
            if let Some(other) = self.find_work() {
                return Waited::Displaced(other);
            }
            if !self.world.is_running() {
                return Waited::Over;
            }
            self.idle(Some(vcpu));
            stirred = true;
        }
    }

    /// Waits for an interrupt: with nobody to run, since [`find_work`](Self::find_work) found nobody.
    pub(super) fn idle(&mut self, mut vcpu: Option<&mut Vcpu>) {
        self.slice_end = None;
        self.rearm();
        self.machine.idle(vcpu.as_deref_mut());
        self.world.set_idle(self.id, false);
        if let Some(id) = self.machine.irq_ack() {
            self.interrupt(id, vcpu);
        }
    }
}

/// How often a GIC that forgets levels is touched.
const FORGETFUL_MS: u64 = 10;
