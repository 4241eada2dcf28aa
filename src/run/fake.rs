//! A machine whose guest is a script: the seam's other side, for tests.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may fail")]

use crate::addr::HostRange;
use crate::exit::Exit;
use crate::machine::{IntId, Machine, Ticks, ppi};
use crate::stage2::Flush;
use crate::vcpu::{CpuId, El1, LiveId, Vcpu};
use std::collections::VecDeque;
use std::vec::Vec;

/// What happens at one entry: something that the test looks at or does, and the exit that follows.
pub(super) type Step = Box<dyn FnMut(&mut Fake, &mut Vcpu) -> Exit>;

/// A machine whose guest is a script. Time passes only while it waits, up to the next event.
#[derive(Default)]
pub(super) struct Fake {
    pub(super) steps: VecDeque<Step>,
    pub(super) now: u64,
    pub(super) deadline: Option<Ticks>,
    pub(super) pending: VecDeque<IntId>,
    pub(super) done: Vec<(IntId, bool)>,
    pub(super) resident: Option<LiveId>,
    pub(super) output: Vec<u8>,
    /// Bytes that the line takes before it is full.
    pub(super) room: usize,
    pub(super) typed: VecDeque<u8>,
    pub(super) idles: usize,
    pub(super) puts: usize,
    pub(super) published: Vec<HostRange>,
    pub(super) timer_high: bool,
    /// When the virtual timer of whoever is resident fires, while the machine waits.
    pub(super) timer_due: Option<u64>,
    pub(super) forgets_levels: bool,
    /// The virtual timer's PPI is active in this CPU's redistributor.
    pub(super) timer_active: bool,
    /// What the next vCPU that leaves did ends in a system error.
    pub(super) system_error: bool,
}

impl Machine for Fake {
    fn enter(&mut self, vcpu: &mut Vcpu) -> Exit {
        if self.resident.replace(vcpu.live) != Some(vcpu.live) {
            self.timer_active = vcpu.lists.linked_active(ppi::VIRTUAL_TIMER);
            vcpu.lists.release = 0;
        }
        assert!(vcpu.lists.release == 0 || vcpu.lists.hcr_dirty, "would not be looked at");
        self.timer_active &= vcpu.lists.release & 1 << ppi::VIRTUAL_TIMER.0 == 0;
        vcpu.lists.release = 0;
        vcpu.lists.dirty = 0;
        vcpu.lists.hcr_dirty = false;
        vcpu.lists.loaded = !vcpu.lists.emulated;
        match self.steps.pop_front() {
            Some(mut step) => step(self, vcpu),
            // A script that is over powers off.
            None => super::tests::hvc(vcpu, 0x8400_0008, [0; 3]),
        }
    }
    fn put(&mut self, vcpu: &mut Vcpu) -> bool {
        if self.resident == Some(vcpu.live) {
            self.resident = None;
            self.timer_active = false;
            self.puts += 1;
            vcpu.lists.loaded = false;
        }
        std::mem::take(&mut self.system_error)
    }
    fn fold(&mut self, vcpu: &mut Vcpu) {
        vcpu.lists.loaded = false;
    }
    fn sync_timer(&mut self, _: &mut Vcpu) {}
    fn timer_line(&mut self, _: &Vcpu) -> bool {
        self.timer_high
    }
    fn el1(&mut self, vcpu: &Vcpu, reg: El1) -> u64 {
        vcpu.el1.get(reg)
    }
    fn set_el1(&mut self, vcpu: &mut Vcpu, reg: El1, value: u64) {
        vcpu.el1.set(reg, value);
    }
    fn now(&self) -> Ticks {
        Ticks(self.now)
    }
    fn frequency(&self) -> u64 {
        1_000_000
    }
    fn arm_timer(&mut self, deadline: Option<Ticks>) {
        self.deadline = deadline;
    }
    fn irq_ack(&mut self) -> Option<IntId> {
        let id = self.pending.pop_front();
        if id == Some(ppi::VIRTUAL_TIMER) {
            assert!(!self.timer_active, "what is active does not fire");
            self.timer_active = true;
        }
        id
    }
    fn irq_done(&mut self, id: IntId, keep_active: bool) {
        self.timer_active &= id != ppi::VIRTUAL_TIMER || keep_active;
        self.done.push((id, keep_active));
    }
    fn idle(&mut self, waiting: Option<&mut Vcpu>) {
        if let Some(vcpu) = waiting {
            assert_eq!(self.resident, Some(vcpu.live), "who waits is here");
            self.timer_active &= vcpu.lists.release & 1 << ppi::VIRTUAL_TIMER.0 == 0;
            vcpu.lists.release = 0;
        }
        self.idles += 1;
        if let Some(at) = self.timer_due.take_if(|_| self.pending.is_empty()) {
            assert!(!self.timer_active, "what is active does not fire");
            self.now = self.now.max(at);
            self.timer_high = true;
            self.pending.push_back(ppi::VIRTUAL_TIMER);
        }
        assert!(self.idles < 100, "the loop waits for nothing");
        if self.pending.is_empty()
            && let Some(at) = self.deadline
        {
            self.now = self.now.max(at.0);
            self.pending.push_back(ppi::HYP_TIMER);
        }
    }
    fn kick(&mut self, _: CpuId) {}
    fn flush(&mut self, _: Flush) {}
    fn publish(&mut self, range: HostRange) {
        self.published.push(range);
    }
    fn scrub(&mut self, _: HostRange) {}
    fn console_put(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        self.output.extend(&bytes[..taken]);
        taken
    }
    fn console_get(&mut self) -> Option<u8> {
        self.typed.pop_front()
    }
    fn console_want_room(&mut self, _: bool) {}
    fn console_listen(&mut self, _: bool) {}
    fn console_irq(&self) -> Option<IntId> {
        Some(IntId::spi(1))
    }
    fn forgets_levels(&self) -> bool {
        self.forgets_levels
    }
    fn random(&mut self) -> Option<u64> {
        Some(4)
    }
}
