//! What all CPUs share: the VMs, a desk for each CPU, and who is idle.
//!
//! A [`Desk`] is where others reach a CPU: its run queue, and a flag that says that it should look there. Nobody
//! holds two queues' locks at once.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::Counts;
use crate::console::{self, Console};
use crate::machine::Ticks;
use crate::sched::{Arrival, RunQueue};
use crate::sync::{Mutex, MutexGuard};
use crate::vcpu::{CpuId, Vcpu, VmId};
use crate::vm::{Reason, Vm};
use crate::vmid;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Among how many CPUs the one with the least to do is looked for.
const LOOKED_AT: usize = 8;

/// The bit of a CPU in a set of them.
#[inline(always)]
pub(super) fn bit(cpu: CpuId) -> u64 {
    1u64.wrapping_shl(cpu.0.into())
}

/// Where one CPU is reached by others.
pub(super) struct Desk {
    queue: Mutex<RunQueue<Box<Vcpu>>>,
    /// vCPUs that wait in the queue, for whoever looks without the lock.
    waiting: AtomicUsize,
    /// Those, and the one that runs.
    load: AtomicUsize,
    /// Something has changed in the queue that this CPU should look at; its kick follows.
    look: AtomicBool,
}

/// A desk's queue, locked; what others see of it is brought up to date when this goes.
pub(super) struct Queue<'d> {
    desk: &'d Desk,
    queue: MutexGuard<'d, RunQueue<Box<Vcpu>>>,
}

impl Drop for Queue<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        let waiting = self.queue.waiting();
        // In order with the set of idle CPUs: `set_idle` says why.
        self.desk.waiting.store(waiting, Ordering::SeqCst);
        let load = waiting.wrapping_add(usize::from(self.queue.is_running()));
        self.desk.load.store(load, Ordering::Relaxed);
    }
}

impl core::ops::Deref for Queue<'_> {
    type Target = RunQueue<Box<Vcpu>>;
    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        &self.queue
    }
}

impl core::ops::DerefMut for Queue<'_> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.queue
    }
}

impl Desk {
    #[inline(always)]
    pub(super) fn queue(&self) -> Queue<'_> {
        Queue { desk: self, queue: self.queue.lock() }
    }

    /// Whether anybody waits for this CPU.
    #[inline(always)]
    pub(super) fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) != 0
    }

    /// Has this CPU look at its queue once it is kicked.
    pub(super) fn ask(&self) {
        self.look.store(true, Ordering::Release);
    }

    /// Whether it has been asked to, since it last looked.
    #[inline(always)]
    pub(super) fn is_asked(&self) -> bool {
        self.look.load(Ordering::Acquire) && self.look.swap(false, Ordering::AcqRel)
    }
}

/// What all CPUs share.
pub struct World {
    vms: Vec<Arc<Vm>>,
    desks: Box<[Desk]>,
    /// CPUs that wait for something to run, or are about to look for it a last time.
    idle: AtomicU64,
    /// CPUs that are not one vCPU's alone.
    shared: u64,
    /// VMs of which a vCPU is on.
    running: AtomicUsize,
    /// Loops that have not ended.
    loops: AtomicUsize,
    /// The line that all VMs and Mezzanine's own log share.
    pub console: Console,
    /// Exits by reason, of all CPUs whose loops have ended, where somebody asked for them.
    counts: Mutex<Option<Counts>>,
    /// Who has which VMID, on which CPU.
    pub(super) vmids: Mutex<vmid::Table>,
}

impl World {
    /// A world of these VMs on `cpus` CPUs, with no vCPU running yet. `frequency`: of the counter, in Hz.
    pub fn new(vms: Vec<Arc<Vm>>, cpus: usize, frequency: u64, vmids: vmid::Table) -> Self {
        let vcpus = vms.iter().map(|vm| vm.slots().count()).sum();
        let cpus = cpus.clamp(1, crate::cpus::MAX);
        let desk = |n: usize| Desk {
            queue: Mutex::new(RunQueue::new(CpuId(n as u16), vcpus, frequency)),
            waiting: AtomicUsize::new(0),
            load: AtomicUsize::new(0),
            look: AtomicBool::new(false),
        };
        let slots = vms.iter().flat_map(|vm| vm.slots());
        let shares =
            slots.filter_map(|(_, slot)| slot.peek(|vcpu| if vcpu.dedicated { 0 } else { vcpu.affinity }));
        let shared = shares.fold(0, |all, cpus| all | cpus);
        Self {
            shared,
            running: AtomicUsize::new(vms.len()),
            console: Console::new(console::log(), &vms),
            vms,
            desks: (0..cpus).map(desk).collect(),
            idle: AtomicU64::new(0),
            loops: AtomicUsize::new(cpus),
            counts: Mutex::new(None),
            vmids: Mutex::new(vmids),
        }
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

    /// Whether any VM still runs.
    #[inline(always)]
    pub(super) fn is_running(&self) -> bool {
        self.running.load(Ordering::Acquire) != 0
    }

    /// Whether loops have not ended yet: those of other CPUs, once this one's has.
    pub fn others_run(&self) -> bool {
        self.loops.load(Ordering::Acquire) != 0
    }

    /// A loop ends, with what it counted.
    pub(super) fn leave(&self, counted: Option<Counts>) {
        if let Some(counted) = counted {
            let mut counts = self.counts.lock();
            *counts = Some(match counts.take() {
                Some(before) => before.and(counted),
                None => counted,
            });
        }
        self.loops.fetch_sub(1, Ordering::AcqRel);
    }

    /// What was counted on all CPUs.
    pub fn take_counts(&self) -> Option<Counts> {
        self.counts.lock().take()
    }

    /// A VM's last vCPU is off; true if it was the last VM.
    pub(super) fn ended(&self) -> bool {
        self.running.fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// The first VM that did not end as its guest wanted, and why.
    pub fn failed(&self) -> Option<(&Arc<Vm>, Reason)> {
        self.vms.iter().find_map(|vm| Some((vm, vm.stopped().filter(|reason| !reason.is_clean())?)))
    }

    /// Has the first vCPU of a VM begin at `entry`, before any CPU's loop runs.
    pub fn start(&self, vm: &Vm, entry: u64, x0: u64, now: Ticks) {
        let Some(vcpu) = vm.power_on(crate::vcpu::VcpuId(0), entry, x0) else { return };
        vm.clock.go(now);
        let spread = usize::from(vm.id.0).checked_rem(self.desks.len()).unwrap_or(0);
        if let Some(desk) = self.desk(self.place(vcpu.affinity, CpuId(spread as u16), 0)) {
            desk.queue().push(vcpu, Arrival::Started, now);
        }
    }

    /// The desk of a CPU whose loop begins, long before a guest runs.
    #[allow(clippy::indexing_slicing, reason = "a loop without a desk is a bug of ours")]
    pub(super) fn own_desk(&self, cpu: CpuId) -> &Desk {
        &self.desks[usize::from(cpu.0)]
    }

    #[inline(always)]
    pub(super) fn desk(&self, cpu: CpuId) -> Option<&Desk> {
        self.desks.get(usize::from(cpu.0))
    }

    /// All CPUs but `me`, the next one first.
    pub(super) fn others(&self, me: CpuId) -> impl Iterator<Item = (CpuId, &Desk)> {
        let count = self.desks.len() as u16;
        let next = move |n: u16| me.0.wrapping_add(n).checked_rem(count).map(CpuId);
        (1..count).filter_map(next).filter_map(|cpu| Some((cpu, self.desk(cpu)?)))
    }

    /// Says that `cpu` is about to look for something to run a last time, or no longer.
    #[inline(always)]
    pub(super) fn set_idle(&self, cpu: CpuId, idle: bool) {
        // Whoever puts something into a queue after this sees it, and kicks; what was put there before is seen by
        // the look that follows.
        if idle {
            self.idle.fetch_or(bit(cpu), Ordering::SeqCst);
        } else {
            self.idle.fetch_and(!bit(cpu), Ordering::SeqCst);
        }
    }

    /// A CPU among `allowed` that is idle, from `near` on.
    #[inline(always)]
    pub(super) fn idler(&self, allowed: u64, near: CpuId) -> Option<CpuId> {
        let idle = self.idle.load(Ordering::SeqCst) & allowed;
        if idle == 0 {
            return None;
        }
        let from = u32::from(near.0) & 63;
        Some(CpuId((idle.rotate_right(from).trailing_zeros().wrapping_add(from) & 63) as u16))
    }

    /// A CPU that is idle and may take what waits for `me`.
    pub(super) fn helper(&self, me: CpuId) -> Option<CpuId> {
        self.idler(self.shared, me)
    }

    /// Where a vCPU that may run on `allowed` and was last on `home` is to run: there if it is idle, else where
    /// anybody is, else there unless it is much busier than another one. `own`: 1 if it runs there now.
    #[inline]
    pub(super) fn place(&self, allowed: u64, home: CpuId, own: usize) -> CpuId {
        self.idler(allowed, home).unwrap_or_else(|| self.least_loaded(allowed, home, own))
    }

    fn least_loaded(&self, allowed: u64, home: CpuId, own: usize) -> CpuId {
        let load = |cpu: CpuId| self.desk(cpu).map_or(usize::MAX, |desk| desk.load.load(Ordering::Relaxed));
        let at_home = if allowed & bit(home) != 0 { load(home).wrapping_sub(own) } else { usize::MAX };
        if at_home <= 1 {
            return home;
        }
        let cpus = self.others(home).map(|(cpu, _)| cpu).filter(|cpu| allowed & bit(*cpu) != 0);
        // A few, as this is part of every wake-up on a machine without an idle CPU; others look for work themselves.
        let least = cpus.take(LOOKED_AT).map(|cpu| (load(cpu), cpu)).min_by_key(|(load, _)| *load);
        match least {
            Some((load, cpu)) if load.saturating_add(1) < at_home => cpu,
            _ => home,
        }
    }
}
