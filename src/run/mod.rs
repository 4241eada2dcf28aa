//! Each CPU's loop: pick a vCPU, enter it, handle its exit.
//!
//! The loop owns the vCPU that it runs as an ordinary local. A vCPU that waits in WFI stays *resident*
//! (its registers stay in this CPU) until another one is to run here: then it is put and parked.
//!
//! | file | what |
//! |---|---|
//! | `mod.rs` | the loop: entering, and what comes before an entry |
//! | `world.rs` | what all CPUs share: VMs, a desk for each CPU |
//! | `stay.rs` | a vCPU's stay on this CPU: when it ends, and where it goes |
//! | `wake.rs` | having vCPUs look, wherever they are |
//! | `interrupts.rs` | the machine's interrupts |
//! | `exits.rs` | `handle(exit) -> Next` |
//! | `calls.rs` | what PSCI and the other calls do |
//! | `power.rs` | the power key |
//! | `serial.rs` | a guest's serial port and the line behind it |
//! | `shell.rs`, `shell/` | the shell: what is typed at the log's screen |
//! | `counts.rs` | exits by reason, for whoever asked for them |
//! | `report.rs` | what people read when a VM stops or stays silent |
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod calls;
mod counts;
mod exits;
mod interrupts;
mod power;
mod report;
mod serial;
mod shell;
mod stay;
mod wake;
mod world;
#[cfg(test)]
mod clock_tests;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod gic_tests;
#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may fail")]
mod hunt_tests;
#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may fail")]
pub(crate) mod play;
#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may fail")]
mod share_tests;
#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may fail")]
mod smp_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod timer_tests;

pub use self::counts::Counts;
pub use self::serial::LastWords;
pub use self::world::World;

use self::world::Desk;
use crate::console::{KEYS, Screen};
use crate::machine::{Machine, Ticks};
use crate::sched::Timers;
use crate::vcpu::{CpuId, Vcpu, VmId};
use crate::vdev::vgic::{Kicks, Raised};
use crate::vm::{Reason, Vm, event};
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

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

/// One CPU's loop.
pub struct CpuLoop<'w, M> {
    machine: M,
    world: &'w World,
    id: CpuId,
    desk: &'w Desk,
    timers: Timers,
    /// When the running vCPU's slice ends, while somebody else waits, or its cap.
    slice_end: Ticks,
    /// Somebody else waits for this CPU, as it was when the slice began.
    wanted: bool,
    /// vCPUs of a VM that are still to be woken, a few at a time.
    owed: Option<(VmId, Kicks)>,
    /// What is done a few at a time goes on from here, once guests have had a moment.
    paused: Ticks,
    /// When the first vCPU whose cap is used up may run again.
    release: Ticks,
    /// What the hypervisor's timer is set to.
    armed: Ticks,
    /// Exits by reason, where somebody asked for them.
    counts: Option<Counts>,
    /// What is still to be said of a VM that has stopped.
    report: Option<report::Report>,
    /// Keys for the shell that the console has just read.
    typed: heapless::Vec<u8, KEYS>,
    /// The shell's screen has just been shown, in place of that one.
    shell_shown: Option<Screen>,
}

/// Devices of a VM that may have deadlines are among the first so many on its bus.
const DEVICES: u16 = 4;

/// How a vCPU's stint ended.
enum Stint {
    Yielded,
    Blocked,
    Off,
}

impl<'w, M: Machine> CpuLoop<'w, M> {
    /// The loop of CPU `id`, one of those that the world was made for.
    pub fn new(machine: M, world: &'w World, id: CpuId) -> Self {
        let desk = world.own_desk(id);
        Self {
            timers: Timers::new(
                world.vms().iter().map(|vm| vm.as_ref().map_or(0, |vm| vm.slots().count())),
                DEVICES,
            ),
            machine,
            world,
            id,
            desk,
            slice_end: Ticks::NEVER,
            wanted: false,
            owed: None,
            paused: Ticks::NEVER,
            release: Ticks::NEVER,
            armed: Ticks::NEVER,
            counts: None,
            report: None,
            typed: heapless::Vec::new(),
            shell_shown: None,
        }
    }

    /// Has exits counted by their reason.
    pub fn count_exits(&mut self) {
        self.counts = Some(Counts::new(self.world.vms().len()));
    }

    /// Sees to it that silent VMs are noticed: on one CPU.
    pub fn watch_all(&mut self) {
        self.world.vms().iter().flatten().for_each(|vm| self.watch(vm.id));
    }

    /// Runs guests until every VM has stopped.
    pub fn run(&mut self) {
        let mut next = None;
        while self.world.is_running() {
            match next.take().or_else(|| self.find_work()) {
                Some(ready) => next = self.host(ready),
                None => self.idle(None),
            }
        }
        self.report_on(usize::MAX);
        self.world.leave(self.counts.take());
    }

    /// The machine, once no guest runs any more.
    pub fn into_machine(self) -> M {
        self.machine
    }

    /// Has a vCPU that was suspended begin anew.
    #[inline(always)]
    fn begin(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu) {
        if let Some((entry, x0)) = vcpu.resume_at.take() {
            self.put_aside(vm, vcpu);
            vm.renew(vcpu, entry, x0);
        }
    }

    /// Enters the vCPU again and again until it blocks, yields or goes off.
    fn stint(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu) -> Stint {
        let Some(slot) = vm.slot(vcpu.id) else { return Stint::Off };
        self.begin(vm, vcpu);
        let attention = vm.vgic.attention_flag(vcpu.id);
        loop {
            if slot.has_mail()
                && let Some(end) = self.read_mail(vm, vcpu, slot.take())
            {
                return end;
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
    fn counted_stint(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu) -> Stint {
        let Some(slot) = vm.slot(vcpu.id) else { return Stint::Off };
        self.begin(vm, vcpu);
        loop {
            if slot.has_mail()
                && let Some(end) = self.read_mail(vm, vcpu, slot.take())
            {
                return end;
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

    /// Handles messages; how the stint ends by it, if it does.
    #[cold]
    fn read_mail(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, mail: u32) -> Option<Stint> {
        if mail & event::TIMER != 0 {
            self.physical_timer_changed(vm, vcpu);
        }
        if mail & event::FOLD != 0 {
            self.sync(vm, vcpu);
        }
        (mail & event::STOP != 0).then_some(Stint::Off)
    }

    /// Takes back what the guest did with its list registers, and fills them anew.
    #[inline(always)]
    pub(super) fn sync(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu) {
        self.sync_raised(vm, vcpu, Raised::NOTHING);
    }

    /// The same, once something has been raised for `vcpu`.
    #[inline(never)]
    pub(super) fn sync_raised(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, raised: Raised) {
        self.machine.fold(vcpu);
        let others = vm.vgic.sync_raised(vcpu.id, &mut vcpu.lists, raised);
        if !others.is_empty() {
            self.wake_all(vm, others);
        }
    }

    /// The same with an SGI that a GICv2 guest's vCPU sent to itself.
    #[inline(never)]
    fn sync_sgi(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, sgi: u32) {
        self.machine.fold(vcpu);
        let others = vm.vgic.sync_sgi(vcpu.id, &mut vcpu.lists, sgi);
        if !others.is_empty() {
            self.wake_all(vm, others);
        }
    }
}
