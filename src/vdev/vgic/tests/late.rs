//! A resident vCPU that was kicked and has not looked yet, while others write registers and devices go on.
//!
//! That a change takes effect in finite time is all that the architecture asks for. Until a late vCPU has looked, its
//! guest does nothing with its CPU interface; what registers say has to be right at any time.

use super::arrays::{Array, Place};
use super::ops::{Op, Shape};
use super::random::Run;

impl Run {
    /// vCPU `n` does not look for so many steps.
    pub(super) fn lag(&mut self, n: usize, steps: u8) {
        if self.is_on(n) && self.vm.late[n] == 0 {
            self.vm.late[n] = steps;
        }
    }

    /// The next one after `n` that runs and is not late.
    fn other(&self, n: usize) -> Option<usize> {
        let vcpus = self.guest.setup.vcpus;
        let others = (1..vcpus).map(|k| (n + k) % vcpus);
        others.into_iter().find(|&n| self.is_on(n) && self.vm.late[n] == 0)
    }

    /// Who accesses registers: mostly another, instead of a late vCPU, which is late no more if it does.
    pub(super) fn outside(&mut self, n: usize) -> Option<usize> {
        if self.vm.late[n] == 0 {
            return Some(n);
        }
        if self.vm.late[n] % 4 != 0 {
            return self.other(n);
        }
        self.vm.late[n] = 0;
        Some(n)
    }

    /// Whether vCPU `n` does something inside; it is late no more if it does.
    pub(super) fn inside(&mut self, n: usize, op: &Op) -> bool {
        if self.vm.late[n] == 0 || matches!(op, Op::Leave(_)) {
            return true;
        }
        if self.vm.late[n] % 4 != 0 {
            return false;
        }
        self.vm.catch_up(n);
        true
    }

    /// Another vCPU writes `arrays` for something that vCPU `n`, late, has in a list register.
    pub(super) fn behind(&mut self, n: usize, steps: u8, which: usize, arrays: &[Array], value: u32) {
        let held = self.held(n);
        let Some(other) = self.other(n).filter(|_| self.is_on(n) && !held.is_empty()) else { return };
        let intid = held[which % held.len()];
        self.lag(n, steps);
        for &array in arrays {
            let place = Place::of(array, intid, false);
            let owner = if self.model.is_v2() { other } else { n };
            let value = self.value(owner, place, intid, Shape::One(value));
            self.store(other, owner, place, value);
        }
    }

    /// What vCPU `n` has listed.
    fn held(&self, n: usize) -> Vec<u32> {
        let lists = &self.vm.cpus[n].lists;
        (0..16).filter(|k| lists.used >> k & 1 != 0).map(|k| lists.lr[k] as u32 & 0x3ff).collect()
    }

    /// Notes which SPIs late vCPUs have.
    pub(super) fn mark_astray(&mut self) {
        let late = (0..self.guest.setup.vcpus).filter(|&n| self.vm.late[n] != 0);
        self.model.astray = late.flat_map(|n| self.held(n)).filter(|&intid| intid >= 32).collect();
    }

    /// A step is over.
    pub(super) fn wait(&mut self) {
        for n in 0..self.guest.setup.vcpus {
            if self.vm.late[n] == 1 {
                self.vm.catch_up(n);
            }
            self.vm.late[n] = self.vm.late[n].saturating_sub(1);
        }
    }
}
