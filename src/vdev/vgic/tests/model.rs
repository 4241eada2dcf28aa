//! The interrupt controller as the specification tells it: a list of interrupts and no list registers.

use crate::vdev::vgic::lr;

/// One interrupt (IHI 0069, 4.1).
#[derive(Clone, Debug, Default)]
pub(super) struct Interrupt {
    pub(super) intid: u32,
    /// The vCPU that it belongs to, or is routed to; nobody.
    pub(super) target: Option<usize>,
    pub(super) enabled: bool,
    pub(super) group1: bool,
    pub(super) priority: u8,
    pub(super) edge: bool,
    pub(super) latch: bool,
    pub(super) line: bool,
    pub(super) active: bool,
    /// A physical interrupt is active for it.
    pub(super) linked: bool,
}

impl Interrupt {
    pub(super) fn pending(&self) -> bool {
        self.latch || self.line && !self.edge
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
}

/// What a vCPU acknowledged and did not end yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub(super) intid: u32,
    pub(super) group_priority: u8,
}

/// All interrupts of a VM.
pub(super) struct Model {
    pub(super) private: Vec<Vec<Interrupt>>,
    pub(super) spis: Vec<Interrupt>,
    pub(super) groups: u32,
    pub(super) running: Vec<Vec<Running>>,
    /// EOImode 1: ended, not deactivated.
    pub(super) dropped: Vec<Vec<u32>>,
}

impl Model {
    pub(super) fn new(vcpus: usize, spis: u32) -> Self {
        let interrupt =
            |intid, target| Interrupt { intid, target: Some(target), edge: intid < 16, ..Default::default() };
        Self {
            private: (0..vcpus).map(|n| (0..32).map(|i| interrupt(i, n)).collect()).collect(),
            spis: (32..32 + spis).map(|i| interrupt(i, 0)).collect(),
            groups: 0,
            running: vec![Vec::new(); vcpus],
            dropped: vec![Vec::new(); vcpus],
        }
    }

    /// Interrupt `intid` as vCPU `n` sees it.
    pub(super) fn get(&mut self, n: usize, intid: u32) -> &mut Interrupt {
        if intid < 32 { &mut self.private[n][intid as usize] } else { &mut self.spis[intid as usize - 32] }
    }

    /// The interrupts that may be signalled to vCPU `n`, given its CPU interface.
    pub(super) fn candidates(&self, n: usize, vmcr: u64) -> Vec<&Interrupt> {
        let running = self.running[n].last().map_or(0xff, |r| r.group_priority);
        let ready = |i: &&Interrupt| {
            i.pending()
                && i.enabled
                && !i.active
                && i.target == Some(n)
                && self.groups & (1 << u32::from(i.group1)) != 0
                && vmcr & (1 << u32::from(i.group1)) != 0
        };
        let ready: Vec<_> = self.private[n].iter().chain(&self.spis).filter(ready).collect();
        // The most urgent one is compared with the mask and what runs; others of its priority do as well.
        let Some(best) = ready.iter().map(|i| i.priority).min() else { return Vec::new() };
        let passes = |i: &&Interrupt| {
            i.priority == best
                && i.priority < (vmcr >> 24) as u8
                && i.priority & lr::group_mask(vmcr, i.group1) < running
        };
        ready.into_iter().filter(passes).collect()
    }

    pub(super) fn acknowledge(&mut self, n: usize, intid: u32, vmcr: u64) {
        let interrupt = self.get(n, intid);
        interrupt.latch = false;
        interrupt.active = true;
        let group_priority = interrupt.priority & lr::group_mask(vmcr, interrupt.group1);
        self.running[n].push(Running { intid, group_priority });
    }

    /// ICC_EOIR_EL1 for what was acknowledged last.
    pub(super) fn end(&mut self, n: usize, vmcr: u64) -> Option<u32> {
        let Running { intid, .. } = self.running[n].pop()?;
        if vmcr & lr::VMCR_VEOIM == 0 {
            self.get(n, intid).deactivate();
        } else {
            self.dropped[n].push(intid);
        }
        Some(intid)
    }

    /// Whether somebody still has to end this one.
    pub(super) fn in_service(&self, n: Option<usize>, intid: u32) -> bool {
        let here =
            |n: usize| self.running[n].iter().any(|r| r.intid == intid) || self.dropped[n].contains(&intid);
        n.map_or_else(|| (0..self.running.len()).any(here), here)
    }
}
