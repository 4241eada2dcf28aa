//! What all CPUs share: the VMs, a desk for each CPU, and who is idle.
//!
//! A [`Desk`] is where others reach a CPU: its run queue, and a flag that says that it should look there. Nobody
//! holds two queues' locks at once.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::Counts;
use super::shell::Shell;
use crate::console::{self, Console};
use crate::machine::Ticks;
use crate::sched::{Account, Arrival, RunQueue, Runnable};
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

/// A vCPU that can run, and its VM, which so lives as long as it.
pub(super) struct Ready {
    pub(super) vcpu: Box<Vcpu>,
    pub(super) vm: Arc<Vm>,
}

impl Runnable for Ready {
    #[inline(always)]
    fn account(&mut self) -> &mut Account {
        &mut self.vcpu.account
    }

    #[inline]
    fn may_run_on(&self, cpu: CpuId) -> bool {
        self.vcpu.affinity & bit(cpu) != 0
    }
}

/// A place in the machine's list of VMs: the present life of the one that has it.
pub type Place = Option<Arc<Vm>>;

/// Where one CPU is reached by others.
pub(super) struct Desk {
    queue: Mutex<RunQueue<Ready>>,
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
    queue: MutexGuard<'d, RunQueue<Ready>>,
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
    type Target = RunQueue<Ready>;
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
    /// By place. Replaced as a whole, so that whoever looks through all of them holds no lock.
    vms: Mutex<Arc<[Place]>>,
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
    /// Whoever sits at the log's screen.
    pub(super) shell: Mutex<Shell>,
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
        let places: Arc<[Place]> = vms.into_iter().map(Some).collect();
        Self {
            shared,
            running: AtomicUsize::new(places.len()),
            console: Console::new(console::log(), &places),
            vms: Mutex::new(places),
            desks: (0..cpus).map(desk).collect(),
            idle: AtomicU64::new(0),
            loops: AtomicUsize::new(cpus),
            counts: Mutex::new(None),
            shell: Mutex::new(Shell::new()),
            vmids: Mutex::new(vmids),
        }
    }

    /// The present life of the VM at a place.
    #[inline]
    pub fn vm(&self, id: VmId) -> Option<Arc<Vm>> {
        self.vms.lock().get(usize::from(id.0)).cloned().flatten()
    }

    /// All places, in order, as they are now.
    pub fn vms(&self) -> Arc<[Place]> {
        self.vms.lock().clone()
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
    pub fn failed(&self) -> Option<(Arc<Vm>, Reason)> {
        let vms = self.vms();
        let mut all = vms.iter().flatten();
        all.find_map(|vm| Some((vm.clone(), vm.stopped().filter(|reason| !reason.is_clean())?)))
    }

    /// Has the first vCPU of a VM begin at `entry`, before any CPU's loop runs.
    pub fn start(&self, vm: &Arc<Vm>, entry: u64, x0: u64, now: Ticks) {
        let Some(vcpu) = vm.power_on(crate::vcpu::VcpuId(0), entry, x0) else { return };
        vm.clock.go(now);
        let spread = usize::from(vm.id.0).checked_rem(self.desks.len()).unwrap_or(0);
        if let Some(desk) = self.desk(self.place(vcpu.affinity, CpuId(spread as u16))) {
            desk.queue().push(Ready { vcpu, vm: vm.clone() }, Arrival::Started, now);
        }
    }

    /// The desk of a CPU whose loop begins, long before a guest runs.
    #[allow(clippy::indexing_slicing, reason = "a loop without a desk is a bug of ours")]
    pub(super) fn own_desk(&self, cpu: CpuId) -> &Desk {
        &self.desks[usize::from(cpu.0)]
    }

    /// How many CPUs there are.
    pub(super) fn cpus(&self) -> usize {
        self.desks.len()
    }

    /// How many vCPUs a CPU has, and how many of them wait for it.
    pub(super) fn busy(&self, cpu: u16) -> Option<(usize, usize)> {
        let desk = self.desk(CpuId(cpu))?;
        Some((desk.load.load(Ordering::Relaxed), desk.waiting.load(Ordering::Relaxed)))
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
    /// anybody is, else there unless it is much busier than another one.
    #[inline]
    pub(super) fn place(&self, allowed: u64, home: CpuId) -> CpuId {
        let at_home = if allowed & bit(home) != 0 { self.load(home) } else { usize::MAX };
        self.place_beside(allowed, home, at_home)
    }

    /// The same with `at_home` others at home.
    #[inline(always)]
    pub(super) fn place_beside(&self, allowed: u64, home: CpuId, at_home: usize) -> CpuId {
        match self.idler(allowed, home) {
            Some(idle) => idle,
            None if at_home <= 1 => home,
            None => self.least_loaded(allowed, home, at_home),
        }
    }

    /// How many run or wait on a CPU.
    fn load(&self, cpu: CpuId) -> usize {
        self.desk(cpu).map_or(usize::MAX, |desk| desk.load.load(Ordering::Relaxed))
    }

    #[cold]
    fn least_loaded(&self, allowed: u64, home: CpuId, at_home: usize) -> CpuId {
        let cpus = self.others(home).map(|(cpu, _)| cpu).filter(|cpu| allowed & bit(*cpu) != 0);
        // A few, as this is part of every wake-up on a machine without an idle CPU; others look for work themselves.
        let least = cpus.take(LOOKED_AT).map(|cpu| (self.load(cpu), cpu)).min_by_key(|(load, _)| *load);
        match least {
            Some((load, cpu)) if load.saturating_add(1) < at_home => cpu,
            _ => home,
        }
    }
}
