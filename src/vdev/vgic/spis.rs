//! The shared peripheral interrupts of a VM, and which vCPU each of them is waiting for.
//!
//! Each vCPU has a queue of its own, a bit for each SPI that ought to be in one of its list registers, so
//! that an entry never looks at another's. An SPI is in at most one queue: its `home`'s.

use super::affinity::NOBODY;
use super::bank::{Bank, Bits, bit};
use super::{Cpu, Kicks};
use alloc::boxed::Box;
use alloc::vec;
use core::sync::atomic::Ordering;

/// The most banks of 32 SPIs: INTID 32 to 1019.
pub(super) const MAX_BANKS: usize = 31;

/// 32 SPIs.
#[derive(Clone)]
pub(super) struct SpiBank {
    /// Their state.
    pub(super) bank: Bank,
    /// Those that are in the queue of `home`.
    queued: u32,
    /// Where each is listed, active or queued; of no meaning for others.
    pub(super) home: [u8; 32],
    /// Where each goes when it becomes pending: from IROUTER or ITARGETSR.
    target: [u8; 32],
    /// Aff3 to Aff0 of IROUTER; or ITARGETSR.
    route: [u32; 32],
    /// IROUTER.Interrupt_Routing_Mode: any vCPU will do; or several bits in ITARGETSR: any of those.
    any: u32,
}

impl SpiBank {
    fn new(valid: u32) -> Self {
        Self {
            bank: Bank::new(valid, 0),
            queued: 0,
            home: [NOBODY; 32],
            target: [NOBODY; 32],
            route: [0; 32],
            any: 0,
        }
    }

    /// The vCPU that has `lane` listed, active or queued.
    #[inline(always)]
    pub(super) fn home(&self, lane: u32) -> u8 {
        self.home.get(lane as usize & 31).copied().unwrap_or(NOBODY)
    }

    /// The vCPU that is to get `lane`.
    #[inline(always)]
    pub(super) fn target(&self, lane: u32) -> u8 {
        self.target.get(lane as usize & 31).copied().unwrap_or(NOBODY)
    }

    fn set_home(&mut self, lane: u32, vcpu: u8) {
        if let Some(home) = self.home.get_mut(lane as usize & 31) {
            *home = vcpu;
        }
    }

    /// Whether a change of `lanes` can matter to anybody: false if all of them are idle.
    #[inline(always)]
    pub(super) fn concerns(&self, lanes: u32) -> bool {
        let bank = &self.bank;
        (bank.latch | bank.line | bank.active | bank.listed | self.queued) & lanes != 0
    }

    /// Whether `lane` is in a list register of `vcpu`.
    #[inline(always)]
    pub(super) fn holds(&self, lane: u32, vcpu: u8) -> bool {
        self.bank.listed & bit(lane) != 0 && self.home(lane) == vcpu
    }

    /// Those of `lanes` whose home is `vcpu`.
    pub(super) fn at_home(&self, lanes: u32, vcpu: u8) -> u32 {
        Bits(lanes).filter(|&lane| self.home(lane) == vcpu).fold(0, |set, lane| set | bit(lane))
    }

    /// Before ISACTIVER: what is idle becomes active where it would have been delivered.
    pub(super) fn settle_homes(&mut self, lanes: u32) {
        for lane in Bits(lanes & !self.bank.active & !self.bank.listed & !self.queued) {
            self.set_home(lane, self.target(lane));
        }
    }

    /// ITARGETSR of `lane`: a GICv2 guest has it where others have IROUTER.
    pub(super) fn targets(&self, lane: u32) -> u8 {
        self.route.get(lane as usize & 31).copied().unwrap_or(0) as u8
    }

    /// ITARGETSR as written; of several targets, `chosen` is the one that gets it.
    pub(super) fn set_targets(&mut self, lane: u32, targets: u8, chosen: u8) {
        self.set_route(lane, targets.into(), targets.count_ones() > 1, chosen);
    }

    /// Of several targets another one gets it now.
    pub(super) fn set_target(&mut self, lane: u32, chosen: u8) {
        if let Some(to) = self.target.get_mut(lane as usize & 31) {
            *to = chosen;
        }
    }

    /// Those with several targets, or with IROUTER.Interrupt_Routing_Mode.
    pub(super) fn any(&self) -> u32 {
        self.any
    }

    /// IROUTER as read.
    pub(super) fn route(&self, lane: u32) -> u64 {
        let affinity = u64::from(self.route.get(lane as usize & 31).copied().unwrap_or(0));
        let any = u64::from(self.any >> (lane & 31) & 1);
        affinity & 0x00ff_ffff | any << 31 | affinity >> 24 << 32
    }

    /// IROUTER as written; `target` is the vCPU that it means.
    pub(super) fn set_route(&mut self, lane: u32, affinity: u32, any: bool, target: u8) {
        let n = lane as usize & 31;
        if let (Some(route), Some(to)) = (self.route.get_mut(n), self.target.get_mut(n)) {
            *route = affinity;
            *to = target;
        }
        self.any = if any { self.any | bit(lane) } else { self.any & !bit(lane) };
    }
}

/// All SPIs of a VM.
pub(super) struct Spis {
    pub(super) banks: Box<[SpiBank]>,
    queues: Box<[[u32; MAX_BANKS]]>,
}

impl Spis {
    /// `count` SPIs, all of them to vCPU 0 or wherever affinity 0 is.
    pub(super) fn new(count: usize, vcpus: usize) -> Self {
        let banks = count.div_ceil(32).min(MAX_BANKS);
        let mut spis = Self {
            banks: vec![SpiBank::new(u32::MAX); banks].into_boxed_slice(),
            queues: vec![[0; MAX_BANKS]; vcpus].into_boxed_slice(),
        };
        // INTIDs 1020 to 1023 are special.
        if let Some(last) = spis.banks.get_mut(MAX_BANKS.wrapping_sub(1)) {
            last.bank.valid = 0x0fff_ffff;
        }
        spis
    }

    /// Back to the state after reset, all of them to `target`; lines stay.
    pub(super) fn reset(&mut self, target: u8) {
        for spis in &mut self.banks {
            let mut bank = spis.bank.clone();
            bank.reset();
            *spis = SpiBank { bank, target: [target; 32], ..SpiBank::new(0) };
        }
        self.queues.fill([0; MAX_BANKS]);
    }

    /// What `vcpu` has queued in `bank`.
    #[inline(always)]
    pub(super) fn queue(&self, vcpu: u8, bank: usize) -> u32 {
        self.queues.get(usize::from(vcpu)).and_then(|queue| queue.get(bank)).copied().unwrap_or(0)
    }

    /// Puts `lane` into or takes it out of the queue of `vcpu`.
    #[inline(always)]
    fn set_queued(&mut self, cpus: &[Cpu], vcpu: u8, bank: usize, lane: u32, queued: bool) {
        let queue = self.queues.get_mut(usize::from(vcpu)).and_then(|queue| queue.get_mut(bank));
        if let (Some(word), Some(cpu)) = (queue, cpus.get(usize::from(vcpu))) {
            *word = if queued { *word | bit(lane) } else { *word & !bit(lane) };
            let summary = cpu.spi_banks.load(Ordering::Relaxed);
            let here = bit(bank as u32);
            let summary = if *word != 0 { summary | here } else { summary & !here };
            // Written under the lock of the SPIs only, so this loses nothing.
            cpu.spi_banks.store(summary, Ordering::Release);
        }
    }

    /// Brings the queues in line with what happened to `touched`, and calls those who have to look.
    pub(super) fn refresh(&mut self, cpus: &[Cpu], bank: usize, touched: u32) -> Kicks {
        let concerned = self.settle(cpus, bank, touched);
        super::call(cpus, concerned)
    }

    /// The same, but says who has to look and calls nobody.
    #[inline(always)]
    pub(super) fn settle(&mut self, cpus: &[Cpu], bank: usize, touched: u32) -> Kicks {
        let Some(spis) = self.banks.get(bank) else { return Kicks::NONE };
        let busy = (spis.bank.listed | spis.queued | spis.bank.wanted()) & touched;
        if busy == 0 { Kicks::NONE } else { self.requeue(cpus, bank, busy) }
    }

    /// The same for interrupts that may be in a queue or a list register.
    pub(super) fn requeue(&mut self, cpus: &[Cpu], bank: usize, busy: u32) -> Kicks {
        let mut kicks = Kicks::NONE;
        for lane in Bits(busy) {
            let b = bit(lane);
            let Some(spis) = self.banks.get_mut(bank) else { break };
            let was = spis.queued & b != 0;
            let is = spis.bank.wanted() & b != 0;
            let old = spis.home(lane);
            if is && spis.bank.active & b == 0 {
                spis.set_home(lane, spis.target(lane));
            }
            let home = spis.home(lane);
            spis.queued = if is { spis.queued | b } else { spis.queued & !b };
            if is || spis.bank.listed & b != 0 {
                kicks |= Kicks::of_index(home);
            }
            if was && (!is || home != old) {
                self.set_queued(cpus, old, bank, lane, false);
            }
            if is && (!was || home != old) {
                self.set_queued(cpus, home, bank, lane, true);
            }
        }
        kicks
    }
}
