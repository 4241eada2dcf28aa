//! Every order in which CPUs can meet at a slot, tried by loom.
//!
//! A model is a handful of CPUs, wakers and vCPUs, one thread each, whose steps are the run loop's. When all have done
//! theirs, whoever has been kicked goes on until nothing moves. Then each vCPU must be in exactly one place, which its
//! slot names, and one that is not off must have seen everything that was sent to it: otherwise it would lie in
//! `enter`, or wait, for ever. `wrong` breaks the protocol's rules one by one, and each of these models must fail.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::*;
use crate::sync::modelled::AtomicBool;
use loom::thread;
use std::collections::VecDeque;
use std::sync::Arc;

mod wrong;

/// How often in one run a thread stops in the middle for another, at most; `LOOM_MAX_PREEMPTIONS` says otherwise.
const PREEMPTIONS: usize = 3;

const A: CpuId = CpuId(0);
const B: CpuId = CpuId(1);

/// Its VM is stopping.
const STOP: u32 = 1 << 31;

/// A vCPU: what it has seen of what was sent. Nobody may drop it, and nobody can copy it.
#[derive(Debug)]
struct Token {
    id: usize,
    seen: u32,
}

impl Drop for Token {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "vCPU {} was dropped", self.id);
    }
}

/// What is beside a slot: the flag of the vGIC's kind, and what is behind it.
struct Interrupts {
    attention: AtomicBool,
    pending: Mutex<u32>,
}

/// What the guest does when it is entered and nobody kicks its CPU; at the end it stays there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// WFI.
    Wait,
    /// Its turn is over.
    Yield,
    /// CPU_OFF.
    Off,
}

/// A rule to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    CallsBeforeItSetsTheFlag,
    LooksBeforeItBoards,
    DoesNotLookWhenItParks,
    LooksBeforeItTakesTheLockToPark,
    ReadsBeforeItLowersTheFlag,
    KicksNobody,
    DoesNotAskWhetherTheVmStops,
    QueuesBeforeItSaysSo,
}

struct World {
    slots: Vec<Slot<Token>>,
    beside: Vec<Interrupts>,
    /// By CPU: the next `enter`, or the present one, returns.
    kicks: Vec<AtomicBool>,
    queues: Vec<Mutex<VecDeque<Token>>>,
    stopping: AtomicBool,
    /// What each vCPU must see. Not part of what is modelled: loom runs one thread at a time.
    sent: Vec<std::sync::atomic::AtomicU32>,
    mistake: Option<Mistake>,
}

/// Tries every order of what `meet` starts in a world of so many CPUs and vCPUs.
fn model(cpus: usize, vcpus: usize, meet: impl Fn(&Arc<World>) + Sync + Send + 'static) {
    model_with(None, [cpus, vcpus], meet);
}

fn model_with(
    mistake: Option<Mistake>,
    [cpus, vcpus]: [usize; 2],
    meet: impl Fn(&Arc<World>) + Sync + Send + 'static,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound.get_or_insert(PREEMPTIONS);
    builder.check(move || {
        meet(&Arc::new(World {
            slots: (0..vcpus).map(|id| Slot::new(Token { id, seen: 0 })).collect(),
            beside: (0..vcpus)
                .map(|_| Interrupts { attention: AtomicBool::new(false), pending: Mutex::new(0) })
                .collect(),
            kicks: (0..cpus).map(|_| AtomicBool::new(false)).collect(),
            queues: (0..cpus).map(|_| Mutex::new(VecDeque::new())).collect(),
            stopping: AtomicBool::new(false),
            sent: (0..vcpus).map(|_| Default::default()).collect(),
            mistake,
        }));
    });
}

impl World {
    fn breaks(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    fn kick(&self, cpu: CpuId) {
        // A swap: loom would let `is_kicked` overlook a store that came before it.
        self.kicks[usize::from(cpu.0)].swap(true, Ordering::Release);
    }

    /// Whether `enter` returns at once.
    fn is_kicked(&self, cpu: CpuId) -> bool {
        self.kicks[usize::from(cpu.0)].swap(false, Ordering::Acquire)
    }

    fn enqueue(&self, vcpu: Token, cpu: CpuId) {
        self.queues[usize::from(cpu.0)].lock().push_back(vcpu);
        self.kick(cpu);
    }

    fn note(&self, id: usize, bits: u32) {
        self.sent[id].fetch_or(bits, Ordering::Relaxed);
    }

    // Wakers.

    fn call(&self, id: usize) {
        self.answer(self.slots[id].call());
    }

    fn answer(&self, called: Called<Token>) {
        match called {
            Called::Woken { vcpu, home } => self.enqueue(vcpu, home),
            Called::On(_) if self.breaks(Mistake::KicksNobody) => {}
            Called::On(cpu) => self.kick(cpu),
            Called::Nothing => {}
        }
    }

    /// Makes interrupts pending, as a vGIC does.
    fn interrupt(&self, id: usize, bits: u32) {
        self.note(id, bits);
        if self.breaks(Mistake::CallsBeforeItSetsTheFlag) {
            self.call(id);
        }
        *self.beside[id].pending.lock() |= bits;
        if !self.beside[id].attention.swap(true, Ordering::AcqRel) {
            if !self.breaks(Mistake::CallsBeforeItSetsTheFlag) {
                self.call(id);
            }
        }
    }

    fn post(&self, id: usize, bits: u32) {
        self.note(id, bits);
        if self.slots[id].post(bits) {
            self.call(id);
        }
    }

    /// CPU_ON by a vCPU of `cpu`; whether it is this one that starts it.
    fn start(&self, id: usize, cpu: CpuId) -> bool {
        if self.stopping.load(Ordering::Acquire) {
            return false;
        }
        let Some(vcpu) = self.slots[id].start(|_| ()) else { return false };
        let gives_up =
            !self.breaks(Mistake::DoesNotAskWhetherTheVmStops) && self.stopping.load(Ordering::Acquire);
        if gives_up {
            self.slots[id].off(vcpu);
        } else {
            self.enqueue(vcpu, cpu);
        }
        !gives_up
    }

    fn destroy(&self) {
        self.stopping.store(true, Ordering::Release);
        (0..self.slots.len()).for_each(|id| self.post(id, STOP));
    }

    // A CPU.

    /// A CPU's loop, until it lies in `enter`: with the vCPU that it gives back, or idle.
    fn run(&self, cpu: CpuId, mut vcpu: Option<Token>, acts: &[Act]) -> Option<Token> {
        let mut acts = acts.iter().copied();
        loop {
            if let Some(vcpu) = vcpu.take().or_else(|| self.pick(cpu)) {
                let resident = self.stay(cpu, vcpu, &mut acts);
                if resident.is_some() {
                    return resident;
                }
            } else if !self.is_kicked(cpu) {
                return None;
            }
        }
    }

    /// The first of its queue, or of another's.
    fn pick(&self, cpu: CpuId) -> Option<Token> {
        let own = self.queues[usize::from(cpu.0)].lock().pop_front();
        own.or_else(|| self.queues.iter().find_map(|queue| queue.lock().pop_front()))
    }

    /// The stay of a vCPU on a CPU; comes back with it if it lies in `enter`.
    fn stay(&self, cpu: CpuId, mut vcpu: Token, acts: &mut dyn Iterator<Item = Act>) -> Option<Token> {
        let slot = &self.slots[vcpu.id];
        if !self.breaks(Mistake::LooksBeforeItBoards) {
            slot.board(cpu);
        }
        loop {
            if slot.has_mail() {
                vcpu.seen |= slot.take();
                if vcpu.seen & STOP != 0 {
                    slot.off(vcpu);
                    return None;
                }
            }
            if self.beside[vcpu.id].attention.load(Ordering::Relaxed) {
                self.sync(&mut vcpu);
            }
            if self.breaks(Mistake::LooksBeforeItBoards) {
                slot.board(cpu);
            }
            if self.is_kicked(cpu) {
                continue;
            }
            vcpu = match acts.next() {
                None => return Some(vcpu),
                Some(act) => self.act(act, cpu, vcpu)?,
            };
        }
    }

    /// What the guest does; comes back with the vCPU if it stays.
    fn act(&self, act: Act, cpu: CpuId, mut vcpu: Token) -> Option<Token> {
        let id = vcpu.id;
        let slot = &self.slots[id];
        self.sync(&mut vcpu);
        match act {
            Act::Off => {
                slot.off(vcpu);
                None
            }
            Act::Yield if self.breaks(Mistake::QueuesBeforeItSaysSo) => {
                self.enqueue(vcpu, cpu);
                slot.queue();
                None
            }
            Act::Yield => {
                slot.queue();
                self.enqueue(vcpu, cpu);
                None
            }
            Act::Wait => {
                let look = || self.beside[id].attention.load(Ordering::Relaxed);
                if self.breaks(Mistake::DoesNotLookWhenItParks) {
                    slot.block(vcpu, cpu, || false).err()
                } else if self.breaks(Mistake::LooksBeforeItTakesTheLockToPark) {
                    let due = look();
                    slot.block(vcpu, cpu, || due).err()
                } else {
                    slot.block(vcpu, cpu, look).err()
                }
            }
        }
    }

    /// The vGIC's `sync` and `unload`: lowers the flag, then reads what is behind it.
    fn sync(&self, vcpu: &mut Token) {
        let Interrupts { attention, pending } = &self.beside[vcpu.id];
        if self.breaks(Mistake::ReadsBeforeItLowersTheFlag) {
            vcpu.seen |= mem::take(&mut *pending.lock());
            attention.swap(false, Ordering::AcqRel);
        } else {
            attention.swap(false, Ordering::AcqRel);
            vcpu.seen |= mem::take(&mut *pending.lock());
        }
    }

    // Before and after.

    /// A vCPU that was started and is about to come to a CPU.
    fn started(&self, id: usize) -> Token {
        self.slots[id].start(|_| ()).unwrap()
    }

    /// A vCPU that waits, at `home`.
    fn wait(&self, id: usize, home: CpuId) {
        let vcpu = self.started(id);
        self.slots[id].board(home);
        self.slots[id].block(vcpu, home, || false).unwrap();
    }

    /// Has those CPUs go on that were kicked, until all lie in `enter`; then looks who has been forgotten.
    ///
    /// `resident` is what each CPU has. The result says of each vCPU whether it is off.
    fn rest(&self, mut resident: Vec<Option<Token>>) -> Vec<bool> {
        let cpus = || (0..).map(CpuId).take(self.kicks.len());
        while let Some(cpu) = cpus().find(|cpu| self.is_kicked(*cpu)) {
            let n = usize::from(cpu.0);
            resident[n] = self.run(cpu, resident[n].take(), &[]);
        }
        assert!(self.queues.iter().all(|queue| queue.lock().is_empty()), "in a queue that nobody looks at");

        let mut on: Vec<_> = self.slots.iter().map(|_| None).collect();
        for (vcpu, cpu) in resident.into_iter().zip(cpus()) {
            if let Some(vcpu) = vcpu {
                assert!(on[vcpu.id].is_none());
                let id = vcpu.id;
                on[id] = Some((vcpu, cpu));
            }
        }
        on.into_iter().enumerate().map(|(id, on)| self.judge(id, on)).collect()
    }

    fn judge(&self, id: usize, on: Option<(Token, CpuId)>) -> bool {
        let place = mem::replace(&mut *self.slots[id].place.lock(), Place::Queued);
        let off = matches!(place, Place::Off(_));
        let vcpu = match (place, on) {
            (Place::Off(vcpu) | Place::Blocked { vcpu, .. }, None) => vcpu,
            (Place::On(named), Some((vcpu, cpu))) => {
                assert_eq!(named, cpu, "the slot names another CPU");
                vcpu
            }
            (place, on) => panic!("vCPU {id} is {place:?}, and on a CPU is {on:?}"),
        };
        assert_eq!(vcpu.id, id);
        let missed = self.sent[id].load(Ordering::Relaxed) & !vcpu.seen;
        assert!(off || missed == 0, "vCPU {id} never saw {missed:#x}");
        mem::forget(vcpu);
        off
    }
}

/// Something that another thread does.
fn meanwhile<R: 'static>(world: &Arc<World>, f: impl FnOnce(&World) -> R + 'static) -> thread::JoinHandle<R> {
    let world = Arc::clone(world);
    thread::spawn(move || f(&world))
}

// Scenes that `wrong` plays as well.

fn interrupt_against(mistake: Option<Mistake>, acts: &'static [Act]) {
    model_with(mistake, [1, 1], move |world| {
        let vcpu = world.started(0);
        let waker = meanwhile(world, |world| world.interrupt(0, 1));
        let a = world.run(A, Some(vcpu), acts);
        waker.join().unwrap();
        world.rest(vec![a]);
    });
}

fn interrupt_against_theft(mistake: Option<Mistake>) {
    model_with(mistake, [2, 1], |world| {
        let vcpu = world.started(0);
        let thief = meanwhile(world, |world| world.run(B, None, &[]));
        let waker = meanwhile(world, |world| world.interrupt(0, 1));
        let a = world.run(A, Some(vcpu), &[Act::Yield]);
        waker.join().unwrap();
        world.rest(vec![a, thief.join().unwrap()]);
    });
}

fn end_against_start_of_one_that_ends(mistake: Option<Mistake>) {
    model_with(mistake, [2, 1], |world| {
        let vcpu = world.started(0);
        let end = meanwhile(world, |world| world.destroy());
        let starter = meanwhile(world, |world| world.start(0, B));
        let a = world.run(A, Some(vcpu), &[]);
        end.join().unwrap();
        starter.join().unwrap();
        assert_eq!(world.rest(vec![a, None]), [true], "left behind");
    });
}

#[test]
fn an_interrupt_against_a_stay() {
    interrupt_against(None, &[]);
}

#[test]
fn an_interrupt_against_a_wait() {
    interrupt_against(None, &[Act::Wait]);
}

#[test]
fn a_message_against_a_wait() {
    model(1, 1, |world| {
        let vcpu = world.started(0);
        let waker = meanwhile(world, |world| world.post(0, 1));
        let a = world.run(A, Some(vcpu), &[Act::Wait, Act::Wait]);
        waker.join().unwrap();
        world.rest(vec![a]);
    });
}

#[test]
fn two_interrupts_against_a_wait() {
    model(1, 1, |world| {
        let vcpu = world.started(0);
        let wakers = [1, 2].map(|bit| meanwhile(world, move |world| world.interrupt(0, bit)));
        let a = world.run(A, Some(vcpu), &[Act::Wait]);
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
        world.rest(vec![a]);
    });
}

#[test]
fn an_interrupt_and_a_message_against_a_wait() {
    model(1, 1, |world| {
        let vcpu = world.started(0);
        let interrupt = meanwhile(world, |world| world.interrupt(0, 1));
        let post = meanwhile(world, |world| world.post(0, 2));
        let a = world.run(A, Some(vcpu), &[Act::Wait]);
        interrupt.join().unwrap();
        post.join().unwrap();
        world.rest(vec![a]);
    });
}

#[test]
fn two_messages_wake_one_that_waits_once() {
    model(1, 1, |world| {
        world.wait(0, A);
        let wakers = [1, 2].map(|bit| meanwhile(world, move |world| world.post(0, bit)));
        let a = world.run(A, None, &[]);
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
        world.rest(vec![a]);
    });
}

#[test]
fn a_timer_and_an_interrupt_wake_one_that_waits_once() {
    model(1, 1, |world| {
        world.wait(0, A);
        let waker = meanwhile(world, |world| world.interrupt(0, 1));
        world.answer(world.slots[0].call_if(|_, home| home == A));
        let a = world.run(A, None, &[Act::Wait]);
        waker.join().unwrap();
        world.rest(vec![a]);
    });
}

#[test]
fn an_interrupt_against_a_theft() {
    interrupt_against_theft(None);
}

#[test]
fn an_interrupt_against_the_theft_of_one_that_waits_next() {
    model(2, 1, |world| {
        world.enqueue(world.started(0), A);
        let thief = meanwhile(world, |world| world.run(B, None, &[Act::Wait]));
        let waker = meanwhile(world, |world| world.interrupt(0, 1));
        let a = world.run(A, None, &[Act::Yield, Act::Wait]);
        waker.join().unwrap();
        world.rest(vec![a, thief.join().unwrap()]);
    });
}

#[test]
fn of_two_starts_one_wins() {
    model(2, 1, |world| {
        let other = meanwhile(world, |world| world.start(0, B));
        let first = world.start(0, A);
        assert_ne!(first, other.join().unwrap());
        let off = world.rest(vec![None, None]);
        assert!(!off[0]);
    });
}

#[test]
fn a_start_and_an_interrupt_against_an_off() {
    model(2, 1, |world| {
        let vcpu = world.started(0);
        let starter = meanwhile(world, |world| world.start(0, B));
        let waker = meanwhile(world, |world| world.post(0, 1));
        let a = world.run(A, Some(vcpu), &[Act::Off]);
        waker.join().unwrap();
        let started = starter.join().unwrap();
        // If it comes to A again from the queue, it stays there.
        assert_eq!(world.rest(vec![a, None]), [!started]);
    });
}

#[test]
fn the_end_of_a_vm_against_what_its_vcpus_do() {
    for act in [Act::Wait, Act::Yield, Act::Off] {
        model(1, 3, move |world| {
            let vcpu = world.started(0);
            world.wait(1, A);
            // The third is off.
            let end = meanwhile(world, |world| world.destroy());
            let a = world.run(A, Some(vcpu), &[act]);
            end.join().unwrap();
            assert_eq!(world.rest(vec![a]), [true; 3]);
        });
    }
}

#[test]
fn the_end_of_a_vm_against_a_start() {
    model(1, 1, |world| {
        let end = meanwhile(world, |world| world.destroy());
        world.start(0, A);
        let a = world.run(A, None, &[]);
        end.join().unwrap();
        assert_eq!(world.rest(vec![a]), [true]);
    });
}

#[test]
fn the_end_of_a_vm_against_a_start_of_one_that_ends() {
    end_against_start_of_one_that_ends(None);
}

#[test]
fn the_end_of_a_vm_against_a_theft() {
    model(2, 2, |world| {
        let vcpu = world.started(0);
        world.enqueue(world.started(1), A);
        let end = meanwhile(world, |world| world.destroy());
        let thief = meanwhile(world, |world| world.run(B, None, &[Act::Wait]));
        let a = world.run(A, Some(vcpu), &[Act::Yield]);
        end.join().unwrap();
        assert_eq!(world.rest(vec![a, thief.join().unwrap()]), [true; 2]);
    });
}
