//! One of the CPUs, as its loop sees it.

use super::board::{Board, FREQUENCY};
use super::guest::{Step, What};
use crate::addr::HostRange;
use crate::exit::Exit;
use crate::machine::{IntId, Machine, Ticks, ppi};
use crate::stage2::Flush;
use crate::vcpu::{CpuId, El1, Vcpu};
use std::sync::Arc;

pub(super) struct Cpu {
    board: Arc<Board>,
    id: usize,
}

impl Cpu {
    pub(super) fn new(board: Arc<Board>, id: usize) -> Self {
        Self { board, id }
    }
}

impl Machine for Cpu {
    fn enter(&mut self, vcpu: &mut Vcpu) -> Exit {
        // Between the loop's last look and the guest's first instruction.
        self.board.point(self.id);
        self.board.state().load(self.id, vcpu);
        loop {
            let mut state = self.board.state();
            if state.pending(self.id).is_some() {
                return Exit::Irq;
            }
            let step = state.step(self.id, vcpu);
            let now = state.now;
            drop(state);
            match step {
                Step::Exit(exit) => return exit,
                Step::Again => self.board.point(self.id),
                Step::Run(ticks) => {
                    self.board.wait(self.id, now + ticks);
                    self.board.state().ran(vcpu, now);
                }
            }
        }
    }
    fn put(&mut self, vcpu: &mut Vcpu) -> bool {
        self.board.state().put(self.id, vcpu);
        self.board.point(self.id);
        let (vm, id) = (usize::from(vcpu.vm.0), usize::from(vcpu.id.0));
        std::mem::take(&mut self.board.state().guests[vm][id].system_error)
    }
    fn fold(&mut self, vcpu: &mut Vcpu) {
        self.board.state().fold(self.id, vcpu);
    }
    fn sync_timer(&mut self, vcpu: &mut Vcpu) {
        vcpu.virtual_timer = self.board.state().cpus[self.id].timer;
    }
    fn timer_line(&mut self, vcpu: &Vcpu) -> bool {
        let state = self.board.state();
        state.cpus[self.id].resident.is_some_and(|it| it.0 == vcpu.live) && state.timer_line(self.id)
    }
    fn el1(&mut self, vcpu: &Vcpu, reg: El1) -> u64 {
        vcpu.el1.get(reg)
    }
    fn set_el1(&mut self, vcpu: &mut Vcpu, reg: El1, value: u64) {
        vcpu.el1.set(reg, value);
    }
    fn now(&self) -> Ticks {
        Ticks(self.board.state().now)
    }
    fn frequency(&self) -> u64 {
        FREQUENCY
    }
    fn arm_timer(&mut self, deadline: Option<Ticks>) {
        let mut state = self.board.state();
        state.cpus[self.id].deadline = deadline.map(|at| at.0);
        state.tell(self.id, What::Armed(deadline.map(|at| at.0)));
    }
    fn irq_ack(&mut self) -> Option<IntId> {
        self.board.point(self.id);
        self.board.state().acknowledge(self.id)
    }
    fn irq_done(&mut self, id: IntId, keep_active: bool) {
        self.board.state().done(self.id, id, keep_active);
    }
    fn idle(&mut self, waiting: Option<&mut Vcpu>) {
        if let Some(vcpu) = waiting {
            let mut state = self.board.state();
            let here = state.cpus[self.id].resident.map(|it| it.0);
            assert!(here == Some(vcpu.live) || vcpu.lists.release == 0, "who waits is here");
            state.cpus[self.id].timer_active &= vcpu.lists.release >> ppi::VIRTUAL_TIMER.0 & 1 == 0;
            vcpu.lists.release = 0;
        }
        self.board.state().tell(self.id, What::Idle);
        self.board.wait(self.id, u64::MAX);
    }
    fn kick(&mut self, cpu: CpuId) {
        self.board.point(self.id);
        let mut state = self.board.state();
        state.cpus[usize::from(cpu.0)].kicked = true;
        state.tell(self.id, What::Kicked(cpu.0));
        drop(state);
        self.board.point(self.id);
    }
    fn flush(&mut self, _: Flush) {}
    fn publish(&mut self, _: HostRange) {}
    fn scrub(&mut self, _: HostRange) {}
    fn console_put(&mut self, bytes: &[u8]) -> usize {
        bytes.len()
    }
    fn console_get(&mut self) -> Option<u8> {
        None
    }
    fn console_want_room(&mut self, _: bool) {}
    fn console_listen(&mut self, _: bool) {}
    fn console_irq(&self) -> Option<IntId> {
        None
    }
    fn random(&mut self) -> Option<u64> {
        None
    }
}
