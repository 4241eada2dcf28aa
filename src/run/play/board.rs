//! What the machine consists of: CPUs, their timers and interrupts, and what lives in their registers.

use super::aside;
use super::guest::{Guest, Op, Told, What};
use super::turns::{Order, Turns};
use crate::machine::{IntId, ppi};
use crate::run::world::{Desk, World};
use crate::vcpu::{CpuId, FpRegs, LiveId, MAX_LISTS, Timer, Vcpu, VcpuId, VmId};
use crate::vdev::vgic::lr;
use std::collections::BTreeMap;
use std::string::String;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::vec::Vec;

/// Ticks a second.
pub(super) const FREQUENCY: u64 = 1_000_000;
/// What the machine's counter is when the play begins: each guest's own time is less, by an offset of its VM's.
pub(super) const BEGIN: u64 = 1 << 33;
/// Where every guest begins.
pub(super) const ENTRY: u64 = 0x4020_0000;

/// No play comes near this, unless its CPUs have each other look for nothing for ever.
const LONGEST_LOG: usize = 100_000;

/// The machine, shared by the threads that play its CPUs.
pub(crate) struct Board {
    state: Mutex<State>,
    /// For each CPU, that it may be its turn.
    pub(super) wake: Vec<Condvar>,
    world: Arc<World>,
    /// The CPUs that each vCPU may run on, by VM and vCPU.
    affinities: Vec<Vec<u64>>,
}

pub(crate) struct State {
    pub(super) turns: Turns,
    pub(super) now: u64,
    pub(super) cpus: Vec<Hardware>,
    /// By VM and vCPU.
    pub(super) guests: Vec<Vec<Guest>>,
    pub(super) flags: BTreeMap<u8, u64>,
    pub(super) failed: Option<String>,
    pub(super) log: Vec<Told>,
}

/// What there is of each CPU.
#[derive(Default)]
pub(super) struct Hardware {
    /// It waits for an interrupt, or for that time.
    pub(super) waits: Option<u64>,
    pub(super) ended: bool,
    pub(super) kicked: bool,
    pub(super) deadline: Option<u64>,
    /// EL2's timer interrupt is active; the guest's is.
    hyp_active: bool,
    pub(super) timer_active: bool,
    /// Whose registers are here.
    pub(super) resident: Option<(LiveId, usize, usize)>,
    pub(super) timer: Timer,
    /// CNTVOFF_EL2.
    pub(super) cntvoff: u64,
    pub(super) lr: [u64; MAX_LISTS],
    pub(super) vmcr: u64,
    pub(super) hcr: u64,
    /// One of the EL1 registers, for all.
    pub(super) tpidr: u64,
    pub(super) fp: FpRegs,
    pub(super) fp_owner: Option<LiveId>,
}

impl Board {
    /// A board for this world, in which nothing has begun, except that `vms` say what their vCPUs do.
    pub(super) fn new(
        world: Arc<World>,
        affinities: Vec<Vec<u64>>,
        vms: Vec<Vec<Vec<Op>>>,
        order: Order,
    ) -> Self {
        let cpus = world.others(CpuId(0)).count() + 1;
        let guests = vms.into_iter().map(|vcpus| vcpus.into_iter().map(Guest::new).collect()).collect();
        let state = State {
            turns: Turns::new(order),
            now: BEGIN,
            cpus: (0..cpus).map(|_| Hardware::default()).collect(),
            guests,
            flags: BTreeMap::new(),
            failed: None,
            log: Vec::new(),
        };
        let wake = (0..cpus).map(|_| Condvar::new()).collect();
        Self { state: Mutex::new(state), wake, world, affinities }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn into_state(self) -> State {
        self.state.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Everybody waits, or runs a guest for a while: no CPU may wait that could run somebody who is in a queue.
    pub(super) fn is_idle_for_nothing(&self, state: &State) -> Option<String> {
        let idle = |cpu: &usize| state.cpus[*cpu].waits == Some(u64::MAX) && !state.cpus[*cpu].ended;
        let idle: Vec<usize> = (0..state.cpus.len()).filter(idle).collect();
        let wanted = |cpu| self.world.desk(CpuId(cpu as u16)).is_some_and(Desk::is_wanted);
        // Those in no queue and on no CPU have used up their caps.
        if idle.is_empty() || !(0..state.cpus.len()).any(wanted) {
            return None;
        }
        let vcpus = self
            .affinities
            .iter()
            .enumerate()
            .flat_map(|(vm, all)| all.iter().enumerate().map(move |(id, affinity)| (vm, id, affinity)));
        for (vm, id, affinity) in vcpus {
            let is_here = |cpu: &Hardware| cpu.resident.is_some_and(|it| (it.1, it.2) == (vm, id));
            let vm_of = aside(|| self.world.vm(VmId(vm as u16)))?;
            let slot = vm_of.slot(VcpuId(id as u16))?;
            if !state.cpus.iter().any(is_here)
                && aside(|| slot.peek(|_| ())).is_none()
                && let Some(cpu) = idle.iter().find(|cpu| affinity >> **cpu & 1 != 0)
            {
                return Some(format!("VM {vm}'s vCPU {id} is in a queue, and CPU {cpu} waits"));
            }
        }
        None
    }
}

impl State {
    pub(super) fn tell(&mut self, cpu: usize, what: What) {
        let vcpu = self.cpus[cpu].resident.map(|(_, vm, id)| (vm, id));
        assert!(self.log.len() < LONGEST_LOG, "it goes on and on");
        self.log.push(Told { at: self.now - BEGIN, cpu, vcpu, what });
    }

    /// The virtual timer's line of whoever is resident.
    pub(super) fn timer_line(&self, cpu: usize) -> bool {
        self.cpus[cpu].resident.is_some() && self.cpus[cpu].timer.fires(self.now - self.cpus[cpu].cntvoff)
    }

    /// The physical interrupt that `cpu` would take.
    pub(super) fn pending(&self, cpu: usize) -> Option<IntId> {
        let hardware = &self.cpus[cpu];
        if hardware.kicked {
            Some(IntId::KICK)
        } else if hardware.deadline.is_some_and(|at| at <= self.now) && !hardware.hyp_active {
            Some(ppi::HYP_TIMER)
        } else {
            (self.timer_line(cpu) && !hardware.timer_active).then_some(ppi::VIRTUAL_TIMER)
        }
    }

    pub(super) fn acknowledge(&mut self, cpu: usize) -> Option<IntId> {
        let id = self.pending(cpu);
        let hardware = &mut self.cpus[cpu];
        match id {
            Some(IntId::KICK) => hardware.kicked = false,
            Some(ppi::HYP_TIMER) => hardware.hyp_active = true,
            Some(_) => hardware.timer_active = true,
            None => {}
        }
        id
    }

    pub(super) fn done(&mut self, cpu: usize, id: IntId, keep_active: bool) {
        match id {
            ppi::HYP_TIMER => self.cpus[cpu].hyp_active = keep_active,
            ppi::VIRTUAL_TIMER => self.cpus[cpu].timer_active = keep_active,
            _ => {}
        }
    }

    /// Whether `cpu` could go on if it were its turn.
    pub(super) fn is_ready(&self, cpu: usize) -> bool {
        let hardware = &self.cpus[cpu];
        !hardware.ended && hardware.waits.is_none_or(|until| until <= self.now || self.pending(cpu).is_some())
    }

    /// When the next thing happens by itself, if everybody waits.
    pub(super) fn next_event(&self) -> Option<u64> {
        let events = self.cpus.iter().filter(|cpu| !cpu.ended).flat_map(|cpu| {
            let timer =
                cpu.timer.deadline(cpu.cntvoff).filter(|_| cpu.resident.is_some() && !cpu.timer_active);
            [cpu.deadline, timer, cpu.waits.filter(|until| *until != u64::MAX)]
        });
        events.flatten().min().map(|at| at.max(self.now))
    }

    /// `vcpu` gets on `cpu`, or goes on there.
    pub(super) fn load(&mut self, cpu: usize, vcpu: &mut Vcpu) {
        let me = (vcpu.live, usize::from(vcpu.vm.0), usize::from(vcpu.id.0));
        for (other, hardware) in self.cpus.iter().enumerate() {
            let there = hardware.resident.is_some_and(|(_, vm, id)| (vm, id) == (me.1, me.2));
            assert!(!there || other == cpu, "VM {}'s vCPU {} is on CPU {other} and on {cpu}", me.1, me.2);
        }
        let hardware = &mut self.cpus[cpu];
        let lists = &mut vcpu.lists;
        if hardware.resident != Some(me) {
            assert_eq!(hardware.resident, None, "nobody put it");
            assert!(!lists.loaded, "loaded elsewhere");
            hardware.resident = Some(me);
            hardware.lr = lists.lr;
            (hardware.vmcr, hardware.hcr) = (lists.vmcr, lists.hcr);
            hardware.timer_active = lists.linked_active(ppi::VIRTUAL_TIMER);
            (hardware.timer, hardware.cntvoff) = (vcpu.virtual_timer, vcpu.cntvoff);
            hardware.tpidr = vcpu.el1.get(crate::vcpu::El1::Tpidr1);
            (lists.dirty, lists.hcr_dirty) = (0, true);
        }
        if !lists.loaded {
            for n in 0..MAX_LISTS {
                if lists.dirty >> n & 1 != 0 {
                    hardware.lr[n] = lists.lr[n];
                }
            }
            lists.dirty = 0;
        }
        assert_eq!(hardware.cntvoff, vcpu.cntvoff, "its time changes while it is here");
        assert!(lists.release == 0 || lists.hcr_dirty, "would not be looked at");
        if lists.hcr_dirty {
            hardware.hcr = lists.hcr;
            hardware.timer_active &= lists.release >> ppi::VIRTUAL_TIMER.0 & 1 == 0;
            (lists.release, lists.hcr_dirty) = (0, false);
        }
        lists.loaded = true;
        for (n, (here, there)) in hardware.lr.iter().zip(&lists.lr).enumerate() {
            let used = lists.used >> n & 1 != 0;
            assert!(used || *here & lr::STATE == 0, "list register {n} is forgotten: {here:#x}, {there:#x}");
        }
        if let Guest { cpu: Some(before), .. } = &mut self.guests[me.1][me.2]
            && *before != cpu
        {
            *before = cpu;
            self.tell(cpu, What::Moved);
        }
        self.guests[me.1][me.2].cpu = Some(cpu);
    }

    pub(super) fn fold(&mut self, cpu: usize, vcpu: &mut Vcpu) {
        if !vcpu.lists.loaded {
            return;
        }
        let hardware = &self.cpus[cpu];
        assert_eq!(hardware.resident.map(|it| it.0), Some(vcpu.live), "its list registers are elsewhere");
        vcpu.lists.vmcr = hardware.vmcr;
        for n in 0..MAX_LISTS {
            if vcpu.lists.used >> n & 1 != 0 {
                vcpu.lists.lr[n] = hardware.lr[n];
            }
        }
        vcpu.lists.hcr = hardware.hcr;
        vcpu.lists.loaded = false;
    }

    pub(super) fn put(&mut self, cpu: usize, vcpu: &mut Vcpu) {
        let (vm, id) = (usize::from(vcpu.vm.0), usize::from(vcpu.id.0));
        if self.cpus[cpu].resident.map(|it| it.0) != Some(vcpu.live) {
            let elsewhere = self.cpus.iter().any(|it| it.resident.is_some_and(|it| it.0 == vcpu.live));
            assert!(!elsewhere && !vcpu.lists.loaded, "put where it is not");
            return;
        }
        self.fold(cpu, vcpu);
        self.tell(cpu, What::Put);
        let hardware = &mut self.cpus[cpu];
        vcpu.virtual_timer = hardware.timer;
        vcpu.el1.set(crate::vcpu::El1::Tpidr1, hardware.tpidr);
        if hardware.fp_owner == Some(vcpu.fp_live) {
            vcpu.fp = hardware.fp.clone();
        }
        // What is left is anybody's.
        hardware.resident = None;
        hardware.timer_active = false;
        (hardware.timer, hardware.cntvoff) = (Timer::default(), 0);
        (hardware.lr, hardware.hcr, hardware.vmcr) = ([0; MAX_LISTS], 0, 0);
        hardware.tpidr = 0xdead;
        let guest = &mut self.guests[vm][id];
        guest.twe = None;
    }

    /// The resident vCPU uses its FP registers.
    pub(super) fn use_fp(&mut self, cpu: usize, vcpu: &mut Vcpu) -> &mut u128 {
        let hardware = &mut self.cpus[cpu];
        if hardware.fp_owner != Some(vcpu.fp_live) {
            hardware.fp = vcpu.fp.clone();
            vcpu.fp_live = LiveId::fresh();
            hardware.fp_owner = Some(vcpu.fp_live);
        }
        &mut hardware.fp.v[0]
    }
}
