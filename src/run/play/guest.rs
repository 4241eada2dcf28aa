//! What a vCPU does: a list of steps, and a handler for its interrupts.

use super::board::{ENTRY, State};
use crate::exit::{Exit, SysReg, SysRegId, Trap};
use crate::machine::ppi;
use crate::run::tests::{hvc, mmio, wfi};
use crate::vcpu::{HCR_TWE, LiveId, Timer, Vcpu, timer_ctl};
use crate::vdev::vgic::lr;
use std::collections::VecDeque;
use std::vec::Vec;

/// No interrupt may wait longer for its handler than this for each vCPU there is, in ticks: [`SLICE_MS`] of the board's.
///
/// [`SLICE_MS`]: crate::sched::SLICE_MS
const LONGEST: u64 = crate::sched::SLICE_MS * 1000;
/// What finished vCPUs tell each other with.
const FINISHED: u8 = 15;

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Computes for so many ticks.
    Spin(u64),
    /// Waits for an interrupt; whatever comes ends it.
    Wfi,
    /// WFE: goes on at once if nothing traps it, after ten ticks.
    Wfe,
    /// Waits by WFI until that interrupt has been handled so often.
    Await(u8, u32),
    /// Sends SGI `.1` to a vCPU of the same VM.
    Sgi(usize, u8),
    /// Sets its virtual, or its emulated physical timer, for so many ticks from now, and has it interrupt.
    Virtual(u64),
    Physical(u64),
    /// Sets it and waits by WFI until it has interrupted.
    SleepVirtual(u64),
    SleepPhysical(u64),
    /// Adds one to a number in its FP registers, which has to be what it was.
    Fp,
    /// Reads which interrupts are active for a vCPU. While it is tried again, others have time to answer, or none.
    Active(usize),
    ActiveAtOnce(usize),
    /// CPU_OFF; what follows is done by its next life.
    Off,
    /// CPU_ON.
    On(usize),
    /// SYSTEM_OFF, SYSTEM_RESET.
    SystemOff,
    Reset,
    /// An exit that stops its VM.
    Wrong,
    /// What it did ends in a system error, which shows when it leaves its CPU.
    Breaks,
    /// Masks and unmasks interrupts.
    Mask(bool),
    /// Raises a flag, and computes until one is raised.
    Raise(u8),
    Until(u8),
    /// Notes how long each VM's first vCPU ran, as results.
    Note,
    /// Turns on whoever is off, until all of its VM are finished and have handled what they were sent.
    Gather,
    /// Waits for nothing but the end.
    Finished,
}

/// What happened, when, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// Ticks since the play began.
    pub(crate) at: u64,
    pub(crate) cpu: usize,
    /// Who was resident.
    pub(crate) vcpu: Option<(usize, usize)>,
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Did(Op),
    Handled(u8),
    Idle,
    Put,
    Moved,
    Kicked(u16),
    Armed(Option<u64>),
    /// HCR_EL2.TWE changed.
    Twe(bool),
}

pub(super) enum Step {
    Exit(Exit),
    Run(u64),
    Again,
}

/// A handler at work: on an interrupt, and whether it has done what that was for.
#[derive(Clone, Copy)]
struct Handler(u8, bool);

pub(super) struct Guest {
    ops: VecDeque<Op>,
    live: Option<LiveId>,
    on: bool,
    masked: bool,
    handler: Option<Handler>,
    handled: [u32; 32],
    /// Since when an interrupt has to come.
    sent: [Option<u64>; 32],
    /// A call or a load is under way: its result is in that register; tried again if the PC is still that.
    asked: Option<(u8, Option<(u64, Op)>)>,
    pub(super) results: Vec<u64>,
    pub(super) ran: u64,
    pub(super) lives: usize,
    pub(super) cpu: Option<usize>,
    pub(super) twe: Option<bool>,
    pub(super) system_error: bool,
    marker: u64,
    fp: u128,
    finished: bool,
    gathered: u32,
}

impl Guest {
    pub(super) fn new(ops: Vec<Op>) -> Self {
        Self {
            ops: ops.into(),
            live: None,
            on: false,
            masked: false,
            handler: None,
            handled: [0; 32],
            sent: [None; 32],
            asked: None,
            results: Vec::new(),
            ran: 0,
            lives: 0,
            cpu: None,
            twe: None,
            system_error: false,
            marker: 0,
            fp: 0,
            finished: false,
            gathered: 0,
        }
    }
}

fn sysreg_write(vcpu: &mut Vcpu, reg: SysRegId, value: u64) -> Exit {
    vcpu.regs.set_x(5, value);
    Exit::SysReg(SysReg { reg, rt: 5, read: false })
}

impl State {
    /// What the vCPU that is on `cpu` does next, with no physical interrupt pending.
    pub(super) fn step(&mut self, cpu: usize, vcpu: &mut Vcpu) -> Step {
        let (vm, me) = (usize::from(vcpu.vm.0), usize::from(vcpu.id.0));
        self.now += 1;
        self.look_around(cpu, vcpu, vm, me);
        if let Some(step) = self.handle(cpu, vcpu, vm, me) {
            return step;
        }
        let guest = &mut self.guests[vm][me];
        let Some(op) = guest.ops.pop_front() else {
            guest.ops.push_back(Op::Off);
            return Step::Again;
        };
        self.tell(cpu, What::Did(op.clone()));
        self.perform(cpu, vcpu, (vm, me), op)
    }

    /// What is true whenever a vCPU is about to do something.
    fn look_around(&mut self, cpu: usize, vcpu: &mut Vcpu, vm: usize, me: usize) {
        let hardware = &mut self.cpus[cpu];
        let guest = &mut self.guests[vm][me];
        if guest.live != Some(vcpu.live) {
            assert!(!guest.on && vcpu.regs.pc == ENTRY, "a new life, in the middle of one");
            (guest.live, guest.on, guest.masked, guest.handler) = (Some(vcpu.live), true, false, None);
            (guest.marker, guest.fp, guest.asked) = (0, 0, None);
            guest.lives += 1;
            assert_eq!(hardware.timer, Timer::default());
            hardware.vmcr = 0xf8 << lr::VMCR_VPMR_SHIFT | lr::VMCR_VENG1;
        }
        assert!(guest.on, "it is off");
        assert_eq!(hardware.tpidr, guest.marker, "another's EL1 registers, or old ones");
        guest.marker += 1;
        hardware.tpidr = guest.marker;
        if let Some((reg, again)) = guest.asked.take() {
            match again {
                Some((pc, op)) if pc == vcpu.regs.pc => {
                    let waits = matches!(op, Op::Active(_));
                    guest.ops.push_front(op);
                    if waits {
                        guest.ops.push_front(Op::Spin(5));
                    }
                }
                _ => guest.results.push(vcpu.regs.x(reg)),
            }
        }
        let twe = vcpu.hcr & HCR_TWE != 0;
        if guest.twe.replace(twe) != Some(twe) {
            self.tell(cpu, What::Twe(twe));
        }
    }

    /// The handler of interrupts.
    fn handle(&mut self, cpu: usize, vcpu: &mut Vcpu, vm: usize, me: usize) -> Option<Step> {
        const CNTP_CTL: SysRegId = SysRegId::new(3, 3, 14, 2, 1);
        let guest = &self.guests[vm][me];
        let hardware = &mut self.cpus[cpu];
        let Some(Handler(id, ready)) = guest.handler else {
            let presented = hardware.hcr & lr::HCR_EN != 0 && !guest.masked;
            let pending = hardware.lr.iter_mut().find(|entry| **entry & lr::STATE == lr::PENDING);
            let entry = pending.filter(|_| presented)?;
            *entry ^= lr::STATE;
            let id = lr::intid(*entry) as u8;
            self.took(cpu, vm, me, id);
            return Some(Step::Again);
        };
        if !ready {
            self.guests[vm][me].handler = Some(Handler(id, true));
            if u32::from(id) == ppi::PHYSICAL_TIMER.0 {
                return Some(Step::Exit(sysreg_write(vcpu, CNTP_CTL, 0)));
            }
            if u32::from(id) == ppi::VIRTUAL_TIMER.0 {
                hardware.timer.ctl = 0;
            }
        }
        let active = |entry: &&mut u64| lr::intid(**entry) == id.into() && **entry & lr::ACTIVE != 0;
        let entry = hardware.lr.iter_mut().find(active);
        let entry = entry.unwrap_or_else(|| panic!("interrupt {id} is active nowhere"));
        *entry &= !lr::ACTIVE;
        if *entry & lr::HW != 0 {
            hardware.timer_active = false;
        }
        self.guests[vm][me].handler = None;
        Some(Step::Again)
    }

    /// An interrupt was acknowledged.
    fn took(&mut self, cpu: usize, vm: usize, me: usize, id: u8) {
        let most = LONGEST * self.guests.iter().map(Vec::len).sum::<usize>() as u64;
        let (now, guest) = (self.now, &mut self.guests[vm][me]);
        guest.handler = Some(Handler(id, false));
        guest.handled[usize::from(id)] += 1;
        if let Some(sent) = guest.sent[usize::from(id)].take() {
            assert!(now >= sent, "interrupt {id} of VM {vm}'s vCPU {me} came at {now}, not at {sent}");
            assert!(now - sent <= most, "interrupt {id} took {} ticks to VM {vm}'s vCPU {me}", now - sent);
        }
        self.tell(cpu, What::Handled(id));
    }

    /// A vCPU ran from `since` until now.
    pub(super) fn ran(&mut self, vcpu: &Vcpu, since: u64) {
        let ticks = self.now - since;
        let guest = &mut self.guests[usize::from(vcpu.vm.0)][usize::from(vcpu.id.0)];
        guest.ran += ticks;
        if let Some(Op::Spin(left)) = guest.ops.front_mut() {
            *left = left.saturating_sub(ticks);
        }
    }

    fn perform(&mut self, cpu: usize, vcpu: &mut Vcpu, (vm, me): (usize, usize), op: Op) -> Step {
        const WFE: Trap = Trap { esr: 1 << 26 | 1 << 25 | 1 };
        let now = self.now;
        let guest = &mut self.guests[vm][me];
        match op {
            Op::Spin(0) => return Step::Again,
            Op::Spin(left) => {
                guest.ops.push_front(op);
                return Step::Run(left);
            }
            Op::Wfi => return Step::Exit(wfi()),
            Op::Wfe if vcpu.hcr & HCR_TWE != 0 => return Step::Exit(Exit::Wfe(WFE)),
            Op::Wfe => return Step::Run(10),
            Op::Await(id, times) => {
                if guest.handled[usize::from(id)] >= times {
                    return Step::Again;
                }
                guest.ops.push_front(op);
                return Step::Exit(wfi());
            }
            Op::Sgi(to, id) => return self.send(vcpu, (vm, to), id),
            Op::Virtual(ticks) => {
                guest.sent[ppi::VIRTUAL_TIMER.0 as usize] = Some(now + ticks);
                let cval = now + ticks - vcpu.cntvoff;
                self.cpus[cpu].timer = Timer { ctl: timer_ctl::ENABLE, cval };
            }
            Op::SleepVirtual(ticks) => {
                let id = ppi::VIRTUAL_TIMER.0 as u8;
                guest.ops.push_front(Op::Await(id, guest.handled[usize::from(id)] + 1));
                guest.ops.push_front(Op::Virtual(ticks));
            }
            Op::Physical(ticks) => {
                guest.sent[ppi::PHYSICAL_TIMER.0 as usize] = Some(now + ticks);
                // CNTP_CVAL was written without an exit: the one for CNTP_CTL is enough.
                vcpu.physical_timer = Timer { ctl: 0, cval: now + ticks - vcpu.cntvoff };
                return Step::Exit(sysreg_write(vcpu, SysRegId::new(3, 3, 14, 2, 1), 1));
            }
            Op::SleepPhysical(ticks) => {
                let id = ppi::PHYSICAL_TIMER.0 as u8;
                guest.ops.push_front(Op::Await(id, guest.handled[usize::from(id)] + 1));
                guest.ops.push_front(Op::Physical(ticks));
            }
            Op::Fp => {
                let expected = guest.fp;
                guest.fp += 1;
                let fp = self.use_fp(cpu, vcpu);
                assert_eq!(*fp, expected, "another's FP registers, or old ones");
                *fp += 1;
            }
            Op::Active(of) | Op::ActiveAtOnce(of) => {
                guest.asked = Some((5, Some((vcpu.regs.pc, op))));
                return Step::Exit(mmio(0x080b_0300 + of as u64 * 0x2_0000, false));
            }
            Op::On(of) => {
                guest.asked = Some((0, None));
                return Step::Exit(hvc(vcpu, 0xc400_0003, [of as u64, ENTRY, 0]));
            }
            Op::Off => {
                (guest.on, guest.sent) = (false, [None; 32]);
                return Step::Exit(hvc(vcpu, 0x8400_0002, [0; 3]));
            }
            Op::SystemOff => return Step::Exit(hvc(vcpu, 0x8400_0008, [0; 3])),
            Op::Reset => return Step::Exit(hvc(vcpu, 0x8400_0009, [0; 3])),
            Op::Wrong => return Step::Exit(Exit::Unknown(Trap { esr: 0x3f << 26 })),
            Op::Breaks => guest.system_error = true,
            Op::Mask(masked) => guest.masked = masked,
            Op::Raise(flag) => {
                self.flags.insert(flag, now);
            }
            Op::Until(flag) => {
                if !self.flags.contains_key(&flag) {
                    guest.ops.push_front(op);
                    return Step::Run(20);
                }
            }
            Op::Finished => {
                guest.finished = true;
                guest.ops.push_front(Op::Await(0, u32::MAX));
                if me != 0 {
                    guest.ops.push_front(Op::Sgi(0, FINISHED));
                }
            }
            Op::Note => {
                let ran: Vec<u64> = self.guests.iter().map(|vcpus| vcpus[0].ran).collect();
                self.guests[vm][me].results.extend(ran);
            }
            Op::Gather => self.gather(vm),
        }
        Step::Again
    }

    fn send(&mut self, vcpu: &mut Vcpu, (vm, to): (usize, usize), id: u8) -> Step {
        const ICC_SGI1R: SysRegId = SysRegId::new(3, 0, 12, 11, 5);
        let (now, target) = (self.now, &mut self.guests[vm][to]);
        if target.on {
            target.sent[usize::from(id)].get_or_insert(now);
        }
        Step::Exit(sysreg_write(vcpu, ICC_SGI1R, u64::from(id) << 24 | 1 << to))
    }

    /// The first vCPU's last part: see [`Op::Gather`].
    fn gather(&mut self, vm: usize) {
        let now = self.now;
        let waited = |guest: &Guest| guest.sent.iter().flatten().any(|at| *at <= now);
        let all = self.guests[vm].iter().skip(1).all(|guest| guest.finished && !waited(guest));
        let off = self.guests[vm].iter().skip(1).position(|guest| !guest.on && !guest.finished);
        let guest = &mut self.guests[vm][0];
        guest.gathered += 1;
        assert!(guest.gathered < 2000, "VM {vm}: {off:?} is not on, or something was lost");
        if all {
            return;
        }
        guest.ops.push_front(Op::Gather);
        guest.ops.push_front(Op::SleepVirtual(100));
        if let Some(n) = off {
            guest.ops.push_front(Op::On(n + 1));
        }
    }
}
