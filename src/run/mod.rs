//! Each CPU's loop: pick a vCPU, enter it, handle its exit.
//!
//! The loop owns the vCPU that it runs as an ordinary local. A vCPU that waits in WFI stays *resident*
//! (its registers stay in this CPU) until another one is to run here: then it is put and parked.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | the loop, interrupts, blocking and waking |
//! | `exits.rs` | `handle(exit) -> Next` |
//! | `calls.rs` | what PSCI and the other calls do |
//! | `slices.rs` | when the vCPU on this CPU is interrupted for others' sake |
//! | `serial.rs` | a guest's serial port and the line behind it |
//! | `counts.rs` | exits by reason, for whoever asked for them |
//! | `report.rs` | what people read when a VM stops or stays silent |
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod calls;
mod counts;
mod exits;
mod report;
mod serial;
mod slices;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod gic_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod timer_tests;

pub use self::counts::Counts;
pub use self::serial::LastWords;
use crate::console::{self, Console};
use crate::machine::{IntId, Machine, Ticks, ppi};
use crate::sched::{Purpose, RunQueue, Timers};
use crate::sync::Mutex;
use crate::vcpu::{CpuId, Power, Vcpu, VcpuId, VmId};
use crate::vdev::vgic::{Kicks, Raised};
use crate::vm::{Reason, Vm, event};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

/// What the loop does after an exit. Small enough for two registers: an exception for the guest has been
/// delivered by the handler itself ([`inject::deliver`](crate::inject::deliver) computes it).
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// Enter again.
    Resume,
    /// Let others run first; the PC decides whether the instruction is tried again.
    Yield,
    /// Wait for an interrupt.
    Block,
    /// The vCPU went off.
    Off,
    /// The VM ends.
    Stop(Reason),
}

/// What all CPUs share.
pub struct World {
    vms: Vec<Arc<Vm>>,
    queues: Vec<Mutex<RunQueue<Box<Vcpu>>>>,
    /// VMs that have not stopped.
    running: AtomicUsize,
    /// The line that all VMs and Mezzanine's own log share.
    pub console: Console,
}

impl World {
    /// A world of these VMs on `cpus` CPUs, with no vCPU running yet.
    pub fn new(vms: Vec<Arc<Vm>>, cpus: usize) -> Self {
        let vcpus = vms.iter().map(|vm| vm.slots().count()).sum();
        let running = AtomicUsize::new(vms.len());
        let queues = (0..cpus).map(|_| Mutex::new(RunQueue::new(vcpus))).collect();
        let console = Console::new(console::log(), &vms);
        Self { vms, queues, running, console }
    }

    /// A VM by its place.
    #[inline]
    pub fn vm(&self, id: VmId) -> Option<&Arc<Vm>> {
        self.vms.get(usize::from(id.0))
    }

    /// All VMs, in order.
    pub fn vms(&self) -> &[Arc<Vm>] {
        &self.vms
    }

    /// The first VM that did not end as its guest wanted, and why.
    pub fn failed(&self) -> Option<(&Arc<Vm>, Reason)> {
        self.vms.iter().find_map(|vm| Some((vm, vm.stopped().filter(|reason| !reason.is_clean())?)))
    }

    /// Starts the first vCPU of a VM at `entry`, on `cpu`.
    pub fn start(&self, vm: &Vm, entry: u64, x0: u64, cpu: CpuId) {
        if let Some(vcpu) = vm.power_on(VcpuId(0), entry, x0) {
            self.enqueue(vcpu, cpu);
        }
    }

    fn enqueue(&self, vcpu: Box<Vcpu>, cpu: CpuId) {
        if let Some(queue) = self.queues.get(usize::from(cpu.0)) {
            queue.lock().push(vcpu);
        }
    }
}

/// One CPU's loop.
pub struct CpuLoop<'w, M> {
    machine: M,
    world: &'w World,
    id: CpuId,
    timers: Timers,
    /// When the running vCPU's slice ends, while somebody else waits.
    slice_end: Option<Ticks>,
    /// What the hypervisor's timer is set to.
    armed: Option<Ticks>,
    /// Exits by reason, where somebody asked for them.
    counts: Option<Counts>,
}

/// How a vCPU's stay on this CPU ended.
enum Stint {
    Yielded,
    Blocked,
    Off,
}

impl<'w, M: Machine> CpuLoop<'w, M> {
    /// The loop of CPU `id`.
    pub fn new(machine: M, world: &'w World, id: CpuId) -> Self {
        Self { machine, world, id, timers: Timers::default(), slice_end: None, armed: None, counts: None }
    }

    /// Has exits counted by their reason.
    pub fn count_exits(&mut self) {
        self.counts = Some(Counts::new(self.world.vms().len()));
    }

    /// What was counted.
    pub fn take_counts(&mut self) -> Option<Counts> {
        self.counts.take()
    }

    /// Runs guests until every VM has stopped.
    pub fn run(&mut self) {
        for vm in self.world.vms() {
            self.watch(vm.id);
        }
        while self.world.running.load(Ordering::Acquire) != 0 {
            match self.next_runnable() {
                Some(vcpu) => self.host(vcpu),
                None => self.idle(),
            }
        }
    }

    /// The machine, once no guest runs any more.
    pub fn into_machine(self) -> M {
        self.machine
    }

    fn next_runnable(&mut self) -> Option<Box<Vcpu>> {
        self.world.queues.get(usize::from(self.id.0))?.lock().pop()
    }

    fn others_wait(&self) -> bool {
        self.world.queues.get(usize::from(self.id.0)).is_some_and(|queue| !queue.lock().is_empty())
    }

    /// Has the vCPU on this CPU until it must give it up: runs it, and waits with it while nobody else wants to run.
    fn host(&mut self, mut vcpu: Box<Vcpu>) {
        let Some(vm) = self.world.vm(vcpu.vm) else { return };
        loop {
            self.slice_end = None;
            if self.needs_slices() {
                self.start_slice();
            } else {
                self.rearm();
            }
            let stint = match self.counts {
                None => self.stint(vm, &mut vcpu),
                Some(_) => self.counted_stint(vm, &mut vcpu),
            };
            match stint {
                Stint::Yielded if !self.others_wait() => continue,
                Stint::Blocked if self.wait(vm, &mut vcpu) => continue,
                Stint::Yielded => {
                    self.put(vm, &mut vcpu);
                    self.world.enqueue(vcpu, self.id);
                }
                Stint::Blocked => self.park_blocked(vm, vcpu),
                Stint::Off => {
                    self.put(vm, &mut vcpu);
                    self.kick(vm, None, vm.vgic.switched_off(vcpu.id));
                    vcpu.power = Power::Off;
                    if vm.park(vcpu) && vm.stop(Reason::AllOff) {
                        self.stopped(vm, None, &Reason::AllOff);
                    }
                }
            }
            return;
        }
    }

    /// Takes everything of the vCPU off this CPU.
    fn put(&mut self, vm: &Vm, vcpu: &mut Vcpu) {
        self.machine.put(vcpu);
        let kicks = vm.vgic.unload(vcpu.id, &mut vcpu.lists);
        self.kick(vm, Some(vcpu.id), kicks);
    }

    /// Puts a waiting vCPU aside, with a software timer in place of its own.
    fn park_blocked(&mut self, vm: &Vm, mut vcpu: Box<Vcpu>) {
        self.put(vm, &mut vcpu);
        let id = vcpu.id;
        self.timers.set(Purpose::Vcpu(vm.id, id), vcpu.next_deadline().map(Ticks));
        self.rearm();
        vcpu.power = Power::Blocked;
        vm.park(vcpu);
        // Whoever left a message before the vCPU was there to be taken did not wake it.
        if vm.vgic.attention(id) || vm.slot(id).is_some_and(|slot| slot.has_mail()) {
            self.wake(vm, id);
        }
    }

    /// Has a vCPU that was suspended begin anew.
    #[inline(always)]
    fn begin(&mut self, vm: &Vm, vcpu: &mut Vcpu) {
        if let Some((entry, x0)) = vcpu.resume_at.take() {
            self.put(vm, vcpu);
            vm.renew(vcpu, entry, x0);
        }
    }

    /// Enters the vCPU again and again until it blocks, yields or goes off.
    fn stint(&mut self, vm: &'w Arc<Vm>, vcpu: &mut Vcpu) -> Stint {
        let Some(slot) = vm.slot(vcpu.id) else { return Stint::Off };
        self.begin(vm, vcpu);
        let attention = vm.vgic.attention_flag(vcpu.id);
        loop {
            if slot.has_mail() && self.read_mail(vm, vcpu, slot.take()) {
                return Stint::Off;
            }
            if attention.load(Ordering::Acquire) {
                self.sync(vm, vcpu);
            }
            let exit = self.machine.enter(vcpu);
            let next = self.handle(vm, vcpu, exit);
            if next == Next::Resume {
                continue;
            }
            match next {
                Next::Resume => {}
                Next::Yield => return Stint::Yielded,
                Next::Block => return Stint::Blocked,
                Next::Off => return Stint::Off,
                Next::Stop(reason) => self.stop(vm, vcpu, reason),
            }
        }
    }

    /// [`stint`](Self::stint) that counts. A copy, since a loop that only might count is slower even when it does
    /// not: it has to put each exit together.
    #[cold]
    #[inline(never)]
    fn counted_stint(&mut self, vm: &'w Arc<Vm>, vcpu: &mut Vcpu) -> Stint {
        let Some(slot) = vm.slot(vcpu.id) else { return Stint::Off };
        self.begin(vm, vcpu);
        loop {
            if slot.has_mail() && self.read_mail(vm, vcpu, slot.take()) {
                return Stint::Off;
            }
            if vm.vgic.attention(vcpu.id) {
                self.sync(vm, vcpu);
            }
            let exit = self.machine.enter(vcpu);
            if let Some(counts) = &mut self.counts {
                counts.count(vm, vcpu, &exit);
            }
            match self.handle_rare(vm, vcpu, exit) {
                Next::Resume => {}
                Next::Yield => return Stint::Yielded,
                Next::Block => return Stint::Blocked,
                Next::Off => return Stint::Off,
                Next::Stop(reason) => self.stop(vm, vcpu, reason),
            }
        }
    }

    /// Handles messages; true if the vCPU is to be given up.
    #[cold]
    fn read_mail(&mut self, vm: &Vm, vcpu: &mut Vcpu, mail: u32) -> bool {
        if mail & event::TIMER != 0 {
            self.physical_timer_changed(vm, vcpu);
        }
        if mail & event::FOLD != 0 {
            self.sync(vm, vcpu);
        }
        mail & event::STOP != 0
    }

    /// Takes back what the guest did with its list registers, and fills them anew.
    #[inline(always)]
    pub(super) fn sync(&mut self, vm: &Vm, vcpu: &mut Vcpu) {
        self.sync_raised(vm, vcpu, Raised::NOTHING);
    }

    /// The same, once something has been raised for `vcpu`.
    #[inline(never)]
    pub(super) fn sync_raised(&mut self, vm: &Vm, vcpu: &mut Vcpu, raised: Raised) {
        self.machine.fold(vcpu);
        let others = vm.vgic.sync_raised(vcpu.id, &mut vcpu.lists, raised);
        if !others.is_empty() {
            self.wake_all(vm, others);
        }
    }

    /// The same with an SGI that a GICv2 guest's vCPU sent to itself.
    #[inline(never)]
    fn sync_sgi(&mut self, vm: &Vm, vcpu: &mut Vcpu, sgi: u32) {
        self.machine.fold(vcpu);
        let others = vm.vgic.sync_sgi(vcpu.id, &mut vcpu.lists, sgi);
        if !others.is_empty() {
            self.wake_all(vm, others);
        }
    }

    /// Waits for something to run with the blocked `vcpu` still resident; false if another vCPU is to run here.
    fn wait(&mut self, vm: &Vm, vcpu: &mut Vcpu) -> bool {
        loop {
            if self.world.running.load(Ordering::Acquire) == 0 || self.others_wait() {
                return false;
            }
            let mail = vm.slot(vcpu.id).map_or(0, |slot| slot.take());
            if mail != 0 {
                if mail & event::STOP != 0 {
                    // Left for the stint to find.
                    if let Some(slot) = vm.slot(vcpu.id) {
                        slot.post(event::STOP);
                    }
                    return true;
                }
                self.read_mail(vm, vcpu, mail);
            }
            if vm.vgic.attention(vcpu.id) {
                self.sync(vm, vcpu);
                if vm.vgic.signals(vcpu.id, &vcpu.lists) {
                    return true;
                }
            }
            self.idle_with(Some(vcpu));
        }
    }

    /// Waits with nobody resident.
    fn idle(&mut self) {
        self.idle_with(None);
    }

    fn idle_with(&mut self, mut vcpu: Option<&mut Vcpu>) {
        self.slice_end = None;
        self.rearm();
        self.machine.idle(vcpu.as_deref_mut());
        if let Some(id) = self.machine.irq_ack() {
            self.interrupt(id, vcpu);
        }
    }

    /// The running vCPU was left for a physical interrupt; true if its slice is over.
    ///
    /// Takes one: if there are more, the next entry ends at once.
    #[inline(always)]
    fn interrupted(&mut self, vm: &Vm, vcpu: &mut Vcpu) -> bool {
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
    fn interrupt(&mut self, id: IntId, vcpu: Option<&mut Vcpu>) -> bool {
        match id {
            ppi::VIRTUAL_TIMER => {
                let deliver = vcpu.is_some_and(|vcpu| self.virtual_timer(vcpu, id));
                self.machine.irq_done(id, deliver);
            }
            ppi::HYP_TIMER => {
                self.machine.irq_done(id, false);
                return self.timer_expired(vcpu.as_deref());
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

    /// Wakes the vCPUs that have something new; `me` is running here and looks for itself.
    #[inline(always)]
    fn kick(&mut self, vm: &Vm, me: Option<VcpuId>, kicks: Kicks) {
        if !kicks.is_empty() {
            let others = me.map_or(kicks, |me| kicks.without(me));
            if !others.is_empty() {
                self.wake_all(vm, others);
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn wake_all(&mut self, vm: &Vm, kicks: Kicks) {
        kicks.for_each(|id| self.wake(vm, id));
    }

    /// Has a vCPU look at its mailbox: takes it out of its parking slot if it waits there.
    fn wake(&mut self, vm: &Vm, id: VcpuId) {
        if let Some(vcpu) = vm.take_blocked(id) {
            // Its virtual timer is the hardware's again once it runs; the emulated one is still this timer's.
            let due = vcpu.physical_timer.due().map(|at| Ticks(at.wrapping_add(vcpu.cntvoff)));
            self.timers.set(Purpose::Vcpu(vm.id, id), due);
            self.admit(vcpu);
        }
    }

    /// Puts a vCPU into this CPU's queue; whoever runs here now has a slice from here on.
    fn admit(&mut self, vcpu: Box<Vcpu>) {
        self.world.enqueue(vcpu, self.id);
        if self.slice_end.is_none() {
            self.start_slice();
        }
    }
}
