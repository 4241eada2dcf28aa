//! The CPU interface in software and the one that tests run the vGIC on are written apart: they agree.
//!
//! The same list registers, the same ICH_VMCR_EL2, the same accesses; after each, the same of everything. Where
//! the simulated hardware raises a maintenance interrupt, the software has synced, which empties list registers
//! that the core never wrote; both are then dealt new ones.

use super::guest::{BPR0, BPR1, Guest, ME};
use super::hardware::{Cpu, TIMER, Vm};
use crate::vdev::vgic::{GicVersion, lr};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    /// New list registers, and what ICH_HCR_EL2 asks to be told.
    Deal(Vec<u64>, u64),
    /// One more interrupt.
    List(usize, u64),
    Take,
    /// Of an active list register, by turns, or of something in none.
    End(usize, bool),
    Deactivate(usize, bool),
    Mask(u64),
    Points(u64, u64),
    Groups(bool, bool),
    Modes(bool, bool),
}

/// Pending mostly, active, or both; some with a physical interrupt, some of which the end is told.
fn entry() -> impl Strategy<Value = u64> {
    let state = prop_oneof![6 => Just(1u64), 2 => Just(2), 1 => Just(3), 1 => Just(0)];
    (state, 0u64..4, any::<bool>(), 0u64..32).prop_map(|(state, end, group1, priority)| {
        let end = match (end, state) {
            (0, 1 | 2) => lr::HW | u64::from(TIMER) << lr::PINTID_SHIFT,
            (1, 1..) => lr::EOI,
            _ => 0,
        };
        state << 62 | end | u64::from(group1) << 60 | priority << 51
    })
}

fn hcr() -> impl Strategy<Value = u64> {
    prop_oneof![2 => Just(1u64), 1 => (0u64..0x40).prop_map(|bits| 1 | bits << 2)]
}

fn op() -> impl Strategy<Value = Op> {
    let point = || 0u64..8;
    prop_oneof![
        1 => (prop::collection::vec(entry(), 16), hcr()).prop_map(|(e, h)| Op::Deal(e, h)),
        6 => (0usize..16, entry()).prop_map(|(n, e)| Op::List(n, e)),
        8 => Just(Op::Take),
        6 => (0usize..16, prop::bool::weighted(0.9)).prop_map(|(n, a)| Op::End(n, a)),
        4 => (0usize..16, prop::bool::weighted(0.9)).prop_map(|(n, a)| Op::Deactivate(n, a)),
        2 => (0u64..0x100).prop_map(Op::Mask),
        1 => (point(), point()).prop_map(|(a, b)| Op::Points(a, b)),
        2 => (prop::bool::weighted(0.8), prop::bool::weighted(0.8)).prop_map(|(a, b)| Op::Groups(a, b)),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(a, b)| Op::Modes(a, b)),
    ]
}

struct Pair {
    guest: Guest,
    hardware: Cpu,
    version: GicVersion,
    lists: usize,
}

impl Pair {
    fn new(version: GicVersion, lists: u8) -> Self {
        let mut guest = Guest::of(version, lists, 5);
        let mut hardware = Vm::new(1, lists).cpus.remove(0);
        guest.lists.hcr = lr::HCR_EN;
        (hardware.lr, hardware.hcr) = ([0; 16], lr::HCR_EN);
        Self { guest, hardware, version, lists: lists.into() }
    }

    /// The INTID of list register `n`: of GICv2 an SGI, with its source, now and then.
    fn intid(&self, n: usize) -> u64 {
        let n = n as u64;
        match self.version {
            GicVersion::V2 if n.is_multiple_of(3) => n % 8 << 10 | n,
            _ => 40 + n,
        }
    }

    fn list(&mut self, n: usize, entry: u64) {
        let n = n % self.lists;
        // One whose end would have been told already.
        let free = self.hardware.lr[n] & lr::STATE == 0;
        if free {
            let entry = if entry & lr::STATE == 0 { 0 } else { entry | self.intid(n) };
            self.hardware.lr[n] = entry;
            self.guest.list(n, entry);
        }
    }

    /// New list registers, and nothing is asked for that is so already.
    fn deal(&mut self, entries: &[u64], hcr: u64) {
        self.hardware.lr = [0; 16];
        self.guest.lists.lr = [0; 16];
        self.guest.lists.used = 0;
        entries.iter().enumerate().take(self.lists).for_each(|(n, &entry)| self.list(n, entry));
        self.ask(hcr);
    }

    fn ask(&mut self, hcr: u64) {
        self.hardware.vmcr = self.guest.lists.vmcr;
        self.hardware.hcr = hcr;
        if self.hardware.maintenance() {
            self.hardware.hcr = lr::HCR_EN;
        }
        self.guest.lists.hcr = self.hardware.hcr;
        self.guest.lists.release = 0;
        assert!(!self.hardware.maintenance());
    }

    fn step(&mut self, op: &Op) {
        self.hardware.timer_active = true;
        self.guest.lists.release = 0;
        match *op {
            Op::Deal(ref entries, hcr) => self.deal(entries, hcr),
            Op::List(n, entry) => {
                self.list(n, entry);
                self.ask(self.hardware.hcr);
            }
            Op::Take => {
                let expected = self.hardware.acknowledge().map(u64::from);
                assert_eq!(self.guest.take(), expected);
            }
            // What would be ignored is for another test.
            Op::End(n, active) if !self.hardware.running.is_empty() => {
                let (intid, group1) = self.of(self.pick(n, active));
                self.hardware.end(intid as u32);
                self.guest.end_of(intid, group1);
            }
            Op::Deactivate(n, active) if self.hardware.vmcr & lr::VMCR_VEOIM != 0 => {
                let n = self.pick(n, active);
                let (intid, _) = self.of(n);
                let active = self.hardware.lr.get(n).is_some_and(|entry| entry & lr::ACTIVE != 0);
                if active {
                    assert!(self.hardware.dir(intid as u32));
                }
                self.guest.dir(intid);
                assert_eq!(self.guest.vgic.attention(ME), !active);
                self.guest.vgic.cpus[0].attention.store(false, std::sync::atomic::Ordering::Relaxed);
            }
            Op::Mask(mask) => self.configure(|guest| guest.set_mask(mask)),
            Op::Points(zero, one) => self.configure(|guest| {
                guest.write(BPR0, zero);
                guest.write(BPR1, one);
            }),
            Op::Groups(zero, one) => self.configure(|guest| guest.set_groups(zero, one)),
            Op::Modes(common, split) => self.configure(|guest| guest.set_modes(common, split)),
            _ => {}
        }
        self.compare();
    }

    /// A list register, of those that are active if there are any; or one that there is not.
    fn pick(&self, turn: usize, active: bool) -> usize {
        let is_active = |n: &usize| self.hardware.lr[*n] & lr::ACTIVE != 0;
        let actives: Vec<usize> = (0..self.lists).filter(is_active).collect();
        if active && !actives.is_empty() { actives[turn % actives.len()] } else { 16 - turn }
    }

    /// INTID and group of what list register `n` holds, or an INTID that none does.
    fn of(&self, n: usize) -> (u64, bool) {
        let entry = self.hardware.lr.get(n).filter(|_| n < self.lists).copied().unwrap_or(0);
        (self.intid(n), entry & lr::STATE == 0 || entry & lr::GROUP1 != 0)
    }

    /// A write of the guest's that has its effect on the hardware by ICH_VMCR_EL2 alone, step by step: a group
    /// that goes off and comes on may have been told.
    fn configure(&mut self, write: impl Fn(&mut Guest)) {
        self.guest.lists.hcr = lr::HCR_EN;
        write(&mut self.guest);
        self.hardware.vmcr = self.guest.lists.vmcr;
        self.guest.lists.hcr = self.hardware.hcr;
        // The same once more: now it may be told of, and changes nothing.
        write(&mut self.guest);
    }

    fn compare(&mut self) {
        assert_eq!(self.guest.running_priority(), u64::from(self.hardware.running_priority()));
        let physical = self.guest.lists.release;
        assert_eq!(physical, if self.hardware.timer_active { 0 } else { 1 << TIMER });
        if self.hardware.maintenance() {
            assert_eq!((self.guest.lists.used, self.guest.lists.hcr), (0, lr::HCR_EN), "did not sync");
            let entries: Vec<u64> = self.hardware.lr.iter().map(|entry| entry >> 32 << 32).collect();
            return self.deal(&entries, lr::HCR_EN);
        }
        let listed =
            (0..16).map(|n| if self.guest.lists.used & 1 << n != 0 { self.guest.lists.lr[n] } else { 0 });
        assert_eq!(listed.collect::<Vec<_>>(), self.hardware.lr);
        assert_eq!(self.guest.lists.hcr, self.hardware.hcr);
        if self.hardware.hcr >> 27 == 31 {
            self.ask(lr::HCR_EN);
        }
        let fiq =
            |n: usize| self.hardware.lr[n] & lr::GROUP1 == 0 && self.hardware.vmcr & lr::VMCR_VFIQEN != 0;
        let signalled = self.hardware.signalled().map_or(0, |n| if fiq(n) { 1 << 6 } else { 1 << 7 });
        assert_eq!(self.guest.lists.signalled, signalled);
    }
}

proptest! {
    #![proptest_config(super::random::config(96))]

    #[test]
    fn software_and_simulated_hardware_agree(
        version in prop::sample::select(vec![GicVersion::V2, GicVersion::V3]),
        lists in prop::sample::select(vec![1u8, 2, 4, 16]),
        ops in prop::collection::vec(op(), 1..200),
    ) {
        let mut pair = Pair::new(version, lists);
        for op in &ops {
            pair.step(op);
        }
    }
}
