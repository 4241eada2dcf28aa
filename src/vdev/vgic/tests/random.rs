//! Random guests and devices: what the guest sees is what the model says, with any number of list registers.
//!
//! Nothing lost, nothing doubled, nothing out of order of priority, and the physical interrupt of a linked
//! one active exactly while it is pending or active.

use super::hardware::{TIMER, Vm, vcpu};
use super::model::Model;
use crate::exit::Size;
use crate::machine::IntId;
use crate::vdev::vgic::{Frame, SgiGroup, lr};
use proptest::prelude::*;

const VCPUS: usize = 3;
const SPIS: [u32; 6] = [32, 33, 37, 63, 64, 80];
const PRIVATE: [u32; 5] = [0, 1, 15, 20, TIMER];

#[derive(Clone, Copy, Debug)]
enum Bits {
    Group(bool),
    Enable(bool),
    Pend(bool),
    Activate(bool),
}

#[derive(Clone, Debug)]
enum Op {
    /// By whom, of which interrupt (and whose, if private).
    Write(usize, usize, usize, Bits),
    Priority(usize, usize, usize, u8),
    Edge(usize, usize, bool),
    Route(usize, usize, u64),
    Groups(usize, u32),
    Spi(usize, bool),
    Ppi(usize, bool),
    Timer(usize, bool),
    Sgi(usize, u32, u32),
    Take(usize),
    End(usize),
    Deactivate(usize, usize),
    Mask(usize, u8),
    Group(usize, bool, bool),
    Leave(usize),
    Come(usize),
    Check(usize),
    Wfi(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let cpu = || 0..VCPUS;
    let which = || 0..SPIS.len() + PRIVATE.len();
    let bits = prop_oneof![
        1 => any::<bool>().prop_map(Bits::Group),
        3 => prop::bool::weighted(0.7).prop_map(Bits::Enable),
        3 => prop::bool::weighted(0.7).prop_map(Bits::Pend),
        1 => any::<bool>().prop_map(Bits::Activate),
    ];
    prop_oneof![
        6 => (cpu(), cpu(), which(), bits).prop_map(|(a, b, c, d)| Op::Write(a, b, c, d)),
        2 => (cpu(), cpu(), which(), 0u8..8).prop_map(|(a, b, c, d)| Op::Priority(a, b, c, d << 5)),
        1 => (cpu(), which(), any::<bool>()).prop_map(|(a, b, c)| Op::Edge(a, b, c)),
        2 => (cpu(), 0..SPIS.len(), 0u64..4).prop_map(|(a, b, c)| Op::Route(a, b, c)),
        1 => (cpu(), prop_oneof![3 => Just(3u32), 1 => 0u32..4]).prop_map(|(a, b)| Op::Groups(a, b)),
        6 => (0..SPIS.len(), any::<bool>()).prop_map(|(a, b)| Op::Spi(a, b)),
        1 => (cpu(), any::<bool>()).prop_map(|(a, b)| Op::Ppi(a, b)),
        4 => (cpu(), any::<bool>()).prop_map(|(a, b)| Op::Timer(a, b)),
        3 => (cpu(), 0u32..2, 0u32..8).prop_map(|(a, b, c)| Op::Sgi(a, b, c)),
        8 => cpu().prop_map(Op::Take),
        7 => cpu().prop_map(Op::End),
        4 => (cpu(), 0..4usize).prop_map(|(a, b)| Op::Deactivate(a, b)),
        1 => (cpu(), prop_oneof![3 => Just(7u8), 1 => 0..8u8]).prop_map(|(a, b)| Op::Mask(a, b << 5)),
        1 => (cpu(), prop::bool::weighted(0.7), prop::bool::weighted(0.8)).prop_map(|(a, b, c)| Op::Group(a, b, c)),
        1 => cpu().prop_map(Op::Leave),
        2 => cpu().prop_map(Op::Come),
        1 => cpu().prop_map(Op::Check),
        2 => cpu().prop_map(Op::Wfi),
    ]
}

struct Run {
    vm: Vm,
    model: Model,
    lists: u8,
    eoimode: bool,
    /// A timer interrupt made pending by the guest: the physical one is let go when all is over, not before.
    by_hand: [bool; VCPUS],
}

impl Run {
    fn new(lists: u8, eoimode: bool) -> Self {
        let mut vm = Vm::linux(VCPUS, lists);
        let mut model = Model::new(VCPUS, 64);
        model.groups = 3;
        for n in 0..VCPUS {
            vm.cpus[n].vmcr |= if eoimode { lr::VMCR_VEOIM | 1 } else { 1 };
            for i in &mut model.private[n] {
                (i.group1, i.priority, i.enabled) = (true, 0xa0, i.intid < 16);
            }
        }
        for i in &mut model.spis {
            (i.group1, i.priority) = (true, 0xa0);
        }
        Self { vm, model, lists, eoimode, by_hand: [false; VCPUS] }
    }

    fn intid(index: usize) -> u32 {
        SPIS.iter().chain(&PRIVATE).copied().nth(index).unwrap()
    }

    /// Frame and number within it.
    fn place(owner: usize, intid: u32) -> (Frame, u64) {
        (if intid < 32 { Frame::GicrSgi(vcpu(owner)) } else { Frame::Gicd }, u64::from(intid))
    }

    /// What a guest that breaks the rules of EOI would see differ between implementations is left out.
    fn breaks_rules(&self, owner: usize, intid: u32) -> bool {
        let owner = (intid < 32).then_some(owner);
        self.lists < 16 && self.model.in_service(owner, intid)
    }

    fn step(&mut self, op: &Op) {
        let on = |run: &Self, n: usize| run.vm.cpus[n].resident;
        match *op {
            Op::Write(me, owner, index, bits) if on(self, me) => {
                self.write(me, owner, Self::intid(index), bits)
            }
            Op::Priority(me, owner, index, priority) if on(self, me) => {
                let intid = Self::intid(index);
                if self.breaks_rules(owner, intid) {
                    return;
                }
                let (frame, n) = Self::place(owner, intid);
                self.model.get(owner, intid).priority = priority;
                self.vm.access(me, frame, 0x400 + n, Size::Byte, Some(priority.into()));
            }
            Op::Edge(me, index, edge) if on(self, me) => {
                let intid = Self::intid(index);
                if intid < 16 || intid == TIMER {
                    return;
                }
                let (frame, n) = Self::place(me, intid);
                self.model.get(me, intid).edge = edge;
                let offset = 0xc00 + n / 16 * 4;
                let field = 2 << (n % 16 * 2);
                let old = self.vm.read(me, frame, offset);
                self.vm.write(me, frame, offset, if edge { old | field } else { old & !field });
            }
            Op::Route(me, index, affinity) if on(self, me) => {
                let intid = SPIS[index];
                self.model.get(me, intid).target = (affinity < VCPUS as u64).then_some(affinity as usize);
                self.vm.access(me, Frame::Gicd, 0x6000 + 8 * u64::from(intid), Size::Double, Some(affinity));
            }
            Op::Groups(me, groups) if on(self, me) => {
                self.model.groups = groups;
                self.vm.write(me, Frame::Gicd, 0, groups);
            }
            Op::Spi(index, high) => {
                self.model.get(0, SPIS[index]).set_line(high);
                self.vm.set_spi((SPIS[index] - 32) as u16, high);
            }
            Op::Ppi(n, high) => {
                self.model.get(n, 20).set_line(high);
                let kicks = self.vm.vgic.set_ppi(vcpu(n), IntId(20), high);
                self.vm.check_kicks(usize::MAX, kicks);
                self.vm.settle();
            }
            Op::Timer(n, high) => self.vm.set_timer(n, high),
            Op::Sgi(me, intid, targets) if on(self, me) => {
                for n in (0..VCPUS).filter(|n| targets & 1 << n != 0) {
                    self.model.get(n, intid).latch = true;
                }
                let value = u64::from(intid) << 24 | u64::from(targets);
                match self.vm.vgic.own_sgi(vcpu(me), value) {
                    Some(raised) => {
                        assert_eq!(targets, 1 << me);
                        self.vm.look_raised(me, raised);
                    }
                    None => {
                        let kicks = self.vm.vgic.sgi(vcpu(me), SgiGroup::Group1, value);
                        self.vm.check_kicks(me, kicks);
                    }
                }
                self.vm.settle();
            }
            Op::Take(n) if on(self, n) => self.take(n),
            Op::End(n) if on(self, n) => {
                if let Some(intid) = self.model.end(n, self.vm.cpus[n].vmcr) {
                    self.vm.end(n, intid);
                }
            }
            Op::Deactivate(n, which) if on(self, n) && which < self.model.dropped[n].len() => {
                let intid = self.model.dropped[n].remove(which);
                self.model.get(n, intid).deactivate();
                if !self.vm.cpus[n].dir(intid) {
                    let kicks = self.vm.vgic.deactivate(vcpu(n), intid.into());
                    self.vm.check_kicks(n, kicks);
                }
                self.vm.settle();
            }
            Op::Mask(n, mask) if on(self, n) => {
                let cpu = &mut self.vm.cpus[n];
                cpu.vmcr = cpu.vmcr & 0xffff_ffff & !(0xff << 24) | u64::from(mask) << 24;
            }
            Op::Group(n, g0, g1) if on(self, n) => {
                let cpu = &mut self.vm.cpus[n];
                cpu.vmcr = cpu.vmcr & !3 | u64::from(g0) | u64::from(g1) << 1;
                self.vm.settle();
            }
            Op::Leave(n) if on(self, n) => self.vm.leave(n),
            Op::Come(n) => self.vm.come(n),
            Op::Check(me) if on(self, me) => self.check(me),
            Op::Wfi(n) if on(self, n) => {
                self.vm.cpus[n].fold();
                let signals = self.vm.vgic.signals(vcpu(n), &self.vm.cpus[n].lists);
                self.vm.cpus[n].enter();
                let expected = !self.model.candidates(n, self.vm.cpus[n].vmcr).is_empty();
                // In EOImode 1 it may wake too often; and as after a change of group or priority of what runs.
                assert!(signals || !expected, "vCPU {n} sleeps and should not");
                if self.model.running[n].is_empty() && !self.eoimode {
                    assert_eq!(signals, expected, "vCPU {n}");
                }
            }
            _ => {}
        }
        for n in std::mem::take(&mut self.vm.raised) {
            let timer = self.model.get(n, TIMER);
            assert!(!timer.linked || self.by_hand[n], "fired while active");
            (timer.linked, timer.latch) = (true, true);
        }
        for n in 0..VCPUS {
            let timer = &mut self.model.private[n][TIMER as usize];
            let linked = timer.linked;
            self.by_hand[n] &= timer.active || timer.latch;
            let cpu = &self.vm.cpus[n];
            // A vCPU that is not resident looks before it is.
            if self.by_hand[n] || self.vm.vgic.attention(vcpu(n)) {
                continue;
            }
            let active = if cpu.resident { cpu.timer_active } else { cpu.lists.linked_active(IntId(TIMER)) };
            assert_eq!(active, linked, "physical state of vCPU {n}'s timer");
        }
    }

    fn write(&mut self, me: usize, owner: usize, intid: u32, bits: Bits) {
        let (frame, n) = Self::place(owner, intid);
        let stray = self.breaks_rules(owner, intid);
        let interrupt = self.model.get(owner, intid);
        let offset = match bits {
            Bits::Group(on) => {
                interrupt.group1 = on;
                let offset = 0x80 + n / 32 * 4;
                let old = self.vm.read(me, frame, offset);
                let new = if on { old | 1 << (n % 32) } else { old & !(1 << (n % 32)) };
                self.vm.write(me, frame, offset, new);
                return;
            }
            Bits::Enable(on) => {
                interrupt.enabled = on;
                if on { 0x100 } else { 0x180 }
            }
            Bits::Pend(true) => {
                self.by_hand[owner] |= intid == TIMER;
                interrupt.latch = true;
                0x200
            }
            Bits::Pend(false) => {
                interrupt.clear_pending();
                0x280
            }
            Bits::Activate(true) => {
                // A timer made active by hand has no physical interrupt to go with it.
                if intid == TIMER {
                    return;
                }
                interrupt.active = true;
                0x300
            }
            Bits::Activate(false) => {
                if stray {
                    return;
                }
                interrupt.deactivate();
                0x380
            }
        };
        self.vm.write(me, frame, offset + n / 32 * 4, 1 << (n % 32));
    }

    fn take(&mut self, n: usize) {
        let vmcr = self.vm.cpus[n].vmcr;
        let candidates = self.model.candidates(n, vmcr);
        let expected: Vec<u32> = candidates.iter().map(|i| i.intid).collect();
        match self.vm.cpus[n].acknowledge() {
            Some(intid) => {
                assert!(expected.contains(&intid), "vCPU {n} took {intid}, not one of {expected:?}");
                self.model.acknowledge(n, intid, vmcr);
            }
            None => assert!(expected.is_empty(), "vCPU {n} took none of {expected:?}"),
        }
        self.vm.settle();
    }

    /// All that registers say.
    fn check(&mut self, me: usize) {
        for word in 1..3u64 {
            let offset = word * 4;
            let base = word as usize * 32 - 32;
            self.compare(me, Frame::Gicd, offset, |m| &m.spis[base..base + 32]);
        }
        for n in 0..VCPUS {
            self.compare(me, Frame::GicrSgi(vcpu(n)), 0, move |m| &m.private[n]);
        }
    }

    fn compare(
        &mut self,
        me: usize,
        frame: Frame,
        offset: u64,
        of: impl Fn(&Model) -> &[super::model::Interrupt],
    ) {
        let word = |run: &Self, what: fn(&super::model::Interrupt) -> bool| {
            of(&run.model).iter().enumerate().fold(0u32, |word, (n, i)| word | u32::from(what(i)) << n)
        };
        let got =
            [0x80, 0x100, 0x200, 0x280, 0x300, 0x380].map(|base| self.vm.read(me, frame, base + offset));
        let (pending, active) = (word(self, |i| i.pending()), word(self, |i| i.active));
        let wanted = [word(self, |i| i.group1), word(self, |i| i.enabled), pending, pending, active, active];
        assert_eq!(got.map(|w| format!("{w:#x}")), wanted.map(|w| format!("{w:#x}")), "{frame:?}");
    }

    /// Lets everybody finish: everything that can be delivered is, and in the end nothing is left.
    fn drain(&mut self) {
        for n in 0..VCPUS {
            self.step(&Op::Come(n));
            self.step(&Op::Timer(n, false));
            self.step(&Op::Ppi(n, false));
        }
        for index in 0..SPIS.len() {
            self.step(&Op::Spi(index, false));
        }
        for _ in 0..40 {
            for n in 0..VCPUS {
                self.step(&Op::Take(n));
                self.step(&Op::End(n));
                self.step(&Op::Deactivate(n, 0));
            }
        }
        for n in 0..VCPUS {
            self.check(n);
        }
    }
}

/// How many guests to try: PROPTEST_CASES, or enough for every day.
pub(super) fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(96)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, max_shrink_iters: 4000, ..Default::default() })]

    #[test]
    fn what_guests_see_is_what_the_model_says(
        lists in prop::sample::select(vec![1u8, 2, 4, 16]),
        eoimode: bool,
        ops in prop::collection::vec(op(), 1..400),
    ) {
        let mut run = Run::new(lists, eoimode);
        for op in &ops {
            run.step(op);
        }
        run.drain();
    }
}
