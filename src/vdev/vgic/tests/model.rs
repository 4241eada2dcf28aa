//! The interrupt controller as the specification tells it: a list of interrupts and no list registers.
//!
//! From IHI 0048B (GICv2) and IHI 0069 (GICv3) alone. Where the architecture leaves a choice, [`Model::answers`]
//! has all that it allows.

use super::hardware::{OTHER_GROUP, SPURIOUS};
use crate::vdev::vgic::GicVersion;

/// One interrupt (IHI 0069, 4.1).
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupt {
    pub(super) intid: u32,
    /// The vCPUs that it may go to, a bit each.
    pub(super) targets: u64,
    pub(super) enabled: bool,
    pub(super) group1: bool,
    pub(super) priority: u8,
    pub(super) edge: bool,
    pub(super) latch: bool,
    /// SGIs of GICv2 that are pending, a bit for each source CPU; then `latch` is of no meaning.
    pub(super) sources: u8,
    pub(super) line: bool,
    pub(super) active: bool,
    /// A physical interrupt is active for it.
    pub(super) linked: bool,
}

impl Interrupt {
    pub(super) fn pending(&self) -> bool {
        self.latch || self.sources != 0 || self.line && !self.edge
    }

    pub(super) fn set_line(&mut self, high: bool) {
        self.latch |= self.edge && high && !self.line;
        self.line = high;
    }

    pub(super) fn clear_pending(&mut self) {
        self.latch = false;
        self.linked &= self.active;
    }

    pub(super) fn deactivate(&mut self) {
        if self.active {
            self.active = false;
            self.linked = false;
        }
    }

    /// What IAR may give for it: INTID and, for SGIs of GICv2, source CPU.
    fn ids(&self) -> Vec<u32> {
        if self.sources == 0 {
            return vec![self.intid];
        }
        (0..8).filter(|n| self.sources >> n & 1 != 0).map(|n| self.intid | n << 10).collect()
    }
}

/// What a vCPU acknowledged and did not end yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    /// What IAR gave.
    pub(super) id: u32,
    pub(super) group1: bool,
    group_priority: u8,
}

/// A vCPU's CPU interface.
#[derive(Clone, Debug, Default)]
pub(super) struct Interface {
    pub(super) pmr: u8,
    /// Binary points of Group 0 and Group 1.
    pub(super) bpr: [u8; 2],
    pub(super) enabled: [bool; 2],
    pub(super) cbpr: bool,
    pub(super) ack_ctl: bool,
    /// GICC_CTLR.FIQEn; as if always set with GICv3.
    pub(super) fiq_en: bool,
    pub(super) eoimode: bool,
    pub(super) running: Vec<Running>,
    /// EOImode 1: ended, not deactivated. What IAR gave.
    pub(super) dropped: Vec<u32>,
}

impl Interface {
    /// The bits of a priority that decide about preemption (IHI 0069, 4.8.2; IHI 0048B, 3.3.3).
    fn group_priority(&self, priority: u8, group1: bool) -> u8 {
        let subpriority_bits =
            if group1 && !self.cbpr { u32::from(self.bpr[1]) } else { u32::from(self.bpr[0]) + 1 };
        (u32::from(priority) >> subpriority_bits << subpriority_bits) as u8
    }

    pub(super) fn running_priority(&self) -> u8 {
        self.running.last().map_or(0xff, |running| running.group_priority)
    }
}

/// All interrupts of a VM.
#[derive(Clone)]
pub(super) struct Model {
    version: GicVersion,
    priority_mask: u8,
    /// The lowest binary points.
    lowest: [u8; 2],
    pub(super) private: Vec<Vec<Interrupt>>,
    pub(super) spis: Vec<Interrupt>,
    /// GICD_CTLR.EnableGrp0 and EnableGrp1.
    pub(super) groups: u32,
    pub(super) cpus: Vec<Interface>,
}

/// What could be the most urgent pending interrupt of a vCPU.
struct Urgent<'a> {
    any_of: Vec<&'a Interrupt>,
    /// Or none: all of them may go elsewhere.
    or_none: bool,
}

impl Model {
    pub(super) fn new(version: GicVersion, vcpus: usize, spis: u32, priority_bits: u8) -> Self {
        let interrupt =
            |intid, n: usize| Interrupt { intid, targets: 1u64 << n, edge: intid < 16, ..Default::default() };
        // The lowest binary points leave no more subpriority bits than there have to be (IHI 0069, 4.8.2).
        let lowest = 7u8.saturating_sub(priority_bits);
        let lowest = [lowest, lowest + 1];
        let interface = Interface { bpr: lowest, ..Default::default() };
        Self {
            version,
            priority_mask: (0xff00u32 >> priority_bits) as u8,
            lowest,
            private: (0..vcpus).map(|n| (0..32).map(|i| interrupt(i, n)).collect()).collect(),
            spis: (32..32 + spis).map(|i| interrupt(i, 0)).collect(),
            groups: 0,
            cpus: vec![interface; vcpus],
        }
    }

    /// The CPU interface of vCPU `n` as after reset.
    pub(super) fn renew(&mut self, n: usize) {
        let [zero, one] = self.lowest;
        self.cpus[n] = Interface { bpr: [zero, one], ..Default::default() };
    }

    pub(super) fn is_v2(&self) -> bool {
        self.version == GicVersion::V2
    }

    /// The bits of a priority that exist.
    pub(super) fn priority_mask(&self) -> u8 {
        self.priority_mask
    }

    /// Interrupt `intid` as vCPU `n` sees it, if there is one.
    pub(super) fn find(&mut self, n: usize, intid: u32) -> Option<&mut Interrupt> {
        if intid < 32 {
            self.private[n].get_mut(intid as usize)
        } else {
            self.spis.get_mut(intid as usize - 32)
        }
    }

    /// The same, of those that exist.
    pub(super) fn get(&mut self, n: usize, intid: u32) -> &mut Interrupt {
        self.find(n, intid).unwrap()
    }

    /// The vCPUs that exist, a bit each.
    pub(super) fn everybody(&self) -> u64 {
        (1 << self.cpus.len()) - 1
    }

    fn most_urgent(&self, n: usize) -> Urgent<'_> {
        let interface = &self.cpus[n];
        let ready = |i: &&Interrupt| {
            let group = usize::from(i.group1);
            i.pending()
                && i.enabled
                && !i.active
                && i.targets >> n & 1 != 0
                && self.groups >> group & 1 != 0
                && interface.enabled[group]
        };
        let ready: Vec<_> = self.private[n].iter().chain(&self.spis).filter(ready).collect();
        let here_only = |i: &&&Interrupt| i.targets & self.everybody() == 1 << n;
        let best = ready.iter().filter(here_only).map(|i| i.priority).min();
        let any_of = ready.into_iter().filter(|i| best.is_none_or(|best| i.priority <= best)).collect();
        Urgent { any_of, or_none: best.is_none() }
    }

    /// Whether the interface of vCPU `n` signals `interrupt`, given that it is the most urgent one.
    fn passes(&self, n: usize, interrupt: &Interrupt) -> bool {
        let interface = &self.cpus[n];
        interrupt.priority < interface.pmr
            && interface.group_priority(interrupt.priority, interrupt.group1) < interface.running_priority()
    }

    /// What may be signalled to vCPU `n`: whether of Group 1; `None` for nothing.
    pub(super) fn signals(&self, n: usize) -> Vec<Option<bool>> {
        let urgent = self.most_urgent(n);
        let each = urgent.any_of.iter().map(|i| self.passes(n, i).then_some(i.group1));
        each.chain(urgent.or_none.then_some(None)).collect()
    }

    /// All that IAR may give vCPU `n` (with `signalled`), or HPPIR. `group1`: the register for Group 1.
    pub(super) fn answers(&self, n: usize, group1: bool, signalled: bool) -> Vec<u32> {
        let urgent = self.most_urgent(n);
        let mut answers = Vec::new();
        for interrupt in &urgent.any_of {
            let v2 = self.version == GicVersion::V2;
            if signalled && !self.passes(n, interrupt) {
                answers.push(SPURIOUS);
            } else if v2 && !group1 && interrupt.group1 && !self.cpus[n].ack_ctl {
                answers.push(OTHER_GROUP);
            } else if interrupt.group1 == group1 || v2 && !group1 {
                answers.extend(interrupt.ids());
            } else {
                answers.push(SPURIOUS);
            }
        }
        answers.extend(urgent.or_none.then_some(SPURIOUS));
        answers
    }

    /// IAR gave `id`.
    pub(super) fn acknowledge(&mut self, n: usize, id: u32) {
        let interrupt = self.get(n, id & 0x3ff);
        interrupt.latch = false;
        interrupt.sources &= !(1u32 << (id >> 10)) as u8;
        interrupt.active = true;
        let (priority, group1) = (interrupt.priority, interrupt.group1);
        let group_priority = self.cpus[n].group_priority(priority, group1);
        self.cpus[n].running.push(Running { id, group1, group_priority });
    }

    /// EOIR for what was acknowledged last.
    pub(super) fn end(&mut self, n: usize) -> Option<Running> {
        let running = self.cpus[n].running.pop()?;
        if self.cpus[n].eoimode {
            self.cpus[n].dropped.push(running.id);
        } else {
            self.get(n, running.id & 0x3ff).deactivate();
        }
        Some(running)
    }

    /// Whether what runs on vCPU `n` has another priority now than when it was acknowledged: whether that counts
    /// is IMPLEMENTATION DEFINED (IHI 0048B, 4.3.11).
    pub(super) fn reprioritized(&mut self, n: usize) -> bool {
        let cpu = self.cpus[n].clone();
        cpu.running.iter().any(|running| {
            let interrupt = self.get(n, running.id & 0x3ff);
            cpu.group_priority(interrupt.priority, interrupt.group1) != running.group_priority
        })
    }

    /// Whether somebody still has to end this one.
    pub(super) fn in_service(&self, owner: usize, intid: u32) -> bool {
        let here = |n: usize| {
            let cpu = &self.cpus[n];
            let running = cpu.running.iter().map(|running| running.id);
            running.chain(cpu.dropped.iter().copied()).any(|id| id & 0x3ff == intid)
        };
        if intid < 32 { here(owner) } else { (0..self.cpus.len()).any(here) }
    }
}
