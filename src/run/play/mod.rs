//! Several CPUs as a play: real loops over CPUs that are made up, in an order that the test chooses.
//!
//! Each CPU's [`CpuLoop`] runs in a thread of its own, but only one of them at a time: it has the *turn*. It may pass it
//! on before it takes any lock, before it enters a guest, and wherever it asks the machine for something that others
//! see; it must where it waits. Whose turn it is then is up to a seed, or to [`Order::Listed`], by which
//! [`every_order`] goes through all orders with few enough changes. So a run can be had again, and none depends on the
//! machine that runs it.
//!
//! Time is one number. It passes as guests run and, when nobody has anything to do, up to whatever comes next.
//!
//! | file | what |
//! |---|---|
//! | `turns.rs` | whose turn it is |
//! | `board.rs` | what a machine consists of: CPUs, their timers and interrupts, what lives in their registers |
//! | `cpu.rs` | `impl Machine` |
//! | `guest.rs` | what a vCPU does: a list of steps, and an interrupt handler |

mod board;
mod cpu;
mod guest;
mod turns;

pub(super) use self::board::Board;
pub(super) use self::guest::{Op, Told, What};
pub(super) use self::turns::{Order, every_order};

use super::tests::{Gic, vm_of};
use super::{CpuLoop, World};
use crate::exit::Size;
use crate::machine::Ticks;
use crate::map::GicVersion;
use crate::vcpu::{CpuId, Vcpu, VcpuId};
use crate::vdev::vgic::Frame;
use crate::vm::Vm;
use crate::vmid::Table;
use std::cell::RefCell;
use std::ops::Range;
use std::panic::{self, AssertUnwindSafe};
use std::string::String;
use std::sync::Arc;
use std::thread;
use std::vec;
use std::vec::Vec;

std::thread_local! {
    /// The board, and which of its CPUs this thread plays.
    static PLAYS: RefCell<Option<(Arc<Board>, usize)>> = const { RefCell::new(None) };
}

fn played(f: impl FnOnce(&Board, usize)) -> bool {
    let plays = PLAYS.with(|plays| plays.borrow().clone());
    plays.map(|(board, cpu)| f(&board, cpu)).is_some()
}

/// Looks at what is behind locks that nobody has, for the play itself.
fn aside<R>(look: impl FnOnce() -> R) -> R {
    let plays = PLAYS.take();
    let result = look();
    PLAYS.set(plays);
    result
}

/// This thread is about to take a lock: another CPU may go on before.
pub(crate) fn before_lock() {
    played(Board::point);
}

/// This thread wants a lock that another one has.
pub(crate) fn lock_taken() {
    if !played(Board::give_up) {
        thread::yield_now();
    }
}

/// A machine, and what runs on it.
pub(super) struct Play {
    pub(super) cpus: usize,
    /// For each VM, what its vCPUs do.
    pub(super) vms: Vec<Vec<Vec<Op>>>,
    /// Those that are on from the beginning besides each VM's first.
    pub(super) all_on: bool,
    /// Changes a vCPU before it starts.
    pub(super) with: fn(&mut Vcpu),
    pub(super) order: Order,
    /// When [`every_order`] tries other orders.
    pub(super) within: Range<u64>,
}

impl Play {
    pub(super) fn new(cpus: usize, vms: Vec<Vec<Vec<Op>>>) -> Self {
        Self { cpus, vms, all_on: true, with: |_| {}, order: Order::Seeded(1), within: 0..u64::MAX }
    }

    pub(super) fn within(self, within: Range<u64>) -> Self {
        Self { within, ..self }
    }

    pub(super) fn with(self, with: fn(&mut Vcpu)) -> Self {
        Self { with, ..self }
    }

    pub(super) fn seed(self, seed: u64) -> Self {
        Self { order: Order::Seeded(seed), ..self }
    }

    pub(super) fn one_on(self) -> Self {
        Self { all_on: false, ..self }
    }

    /// Runs it until all loops have ended.
    pub(super) fn run(self) -> Played {
        let gic = Gic { version: GicVersion::V3, emulated: false };
        let mut affinities = vec![Vec::new(); self.vms.len()];
        let made = self.vms.iter().zip(&mut affinities).enumerate().map(|(id, (vcpus, affinities))| {
            vm_of(id as u16, vcpus.len() as u16, gic, |vcpu| {
                (self.with)(vcpu);
                affinities.push(vcpu.affinity);
            })
        });
        let (vms, memory): (Vec<_>, Vec<_>) = made.unzip();
        let vmids = Table::new(8, vms.len(), self.cpus);
        let world = Arc::new(World::new(vms.clone(), self.cpus, board::FREQUENCY, vmids));
        let now = Ticks(board::BEGIN);
        for (n, vm) in (1..).zip(&vms) {
            set_up(vm);
            // As if some had begun before others.
            vm.clock.go(Ticks(now.0 / 2 * n / (n + 1)));
            world.start(vm, board::ENTRY, 0, now);
            if self.all_on {
                for n in 1..vm.slots().count() {
                    let vcpu = vm.power_on(VcpuId(n as u16), board::ENTRY, 0).unwrap();
                    let cpu = CpuId(vcpu.affinity.trailing_zeros() as u16);
                    world.desk(cpu).unwrap().queue().push(
                        crate::run::world::Ready { vcpu, vm: vm.clone() },
                        crate::sched::Arrival::Started,
                        now,
                    );
                }
            }
        }
        let board = Arc::new(Board::new(world.clone(), affinities, self.vms, self.order));
        thread::scope(|scope| {
            for cpu in 0..self.cpus {
                let (board, world) = (board.clone(), &*world);
                scope.spawn(move || {
                    PLAYS.with(|plays| *plays.borrow_mut() = Some((board.clone(), cpu)));
                    let result = panic::catch_unwind(AssertUnwindSafe(|| {
                        board.begin(cpu);
                        CpuLoop::new(cpu::Cpu::new(board.clone(), cpu), world, CpuId(cpu as u16)).run();
                    }));
                    PLAYS.with(|plays| *plays.borrow_mut() = None);
                    board.end(cpu, result.err().map(|what| said(&*what)));
                });
            }
        });
        drop(memory);
        let state = Arc::into_inner(board).map(Board::into_state);
        let state = state.unwrap_or_else(|| panic!("a thread still has it"));
        Played { vms, state }
    }
}

fn said(what: &(dyn std::any::Any + Send)) -> String {
    let text = what.downcast_ref::<String>().cloned();
    text.or_else(|| what.downcast_ref::<&str>().map(|text| (*text).into())).unwrap_or_else(|| "?".into())
}

/// What every guest would do first: all groups on, all private interrupts in Group 1 and enabled.
fn set_up(vm: &Vm) {
    let mut lists = crate::vcpu::Lists::default();
    let mut store = |frame, offset, value| {
        let _ = vm.vgic.access(VcpuId(0), frame, offset, Size::Word, Some(value), &mut lists);
    };
    store(Frame::Gicd, 0, 3);
    for (id, _) in vm.slots() {
        store(Frame::GicrSgi(id), 0x80, 0xffff_ffff);
        store(Frame::GicrSgi(id), 0x100, 0xffff_ffff);
    }
}

/// How it went.
pub(super) struct Played {
    pub(super) vms: Vec<Arc<Vm>>,
    state: board::State,
}

impl Played {
    /// What went wrong, if anything did.
    pub(super) fn failure(&self) -> Option<&str> {
        self.state.failed.as_deref()
    }

    /// The same, for tests of one order. All loops have ended, and every vCPU is off.
    pub(super) fn sound(self) -> Self {
        if let Some(failure) = self.failure() {
            panic!("{failure}\n{}", self.story());
        }
        for vm in &self.vms {
            assert!(vm.slots().all(|(_, slot)| slot.is_off()), "a vCPU of {} is not off", vm.name);
            assert!(vm.stopped().is_some());
        }
        self
    }

    /// The last of what happened.
    pub(super) fn story(&self) -> String {
        let log = &self.state.log;
        let last = log.iter().skip(log.len().saturating_sub(60));
        last.map(|told| format!("{told:?}\n")).collect()
    }

    pub(super) fn log(&self) -> &[Told] {
        &self.state.log
    }

    /// What calls of a vCPU returned, in order.
    pub(super) fn results(&self, vm: usize, vcpu: usize) -> &[u64] {
        &self.state.guests[vm][vcpu].results
    }

    /// How long a vCPU ran, in ticks.
    pub(super) fn ran(&self, vm: usize, vcpu: usize) -> u64 {
        self.state.guests[vm][vcpu].ran
    }

    /// How often a vCPU was turned on.
    pub(super) fn lives(&self, vm: usize, vcpu: usize) -> usize {
        self.state.guests[vm][vcpu].lives
    }

    /// How long it took, in ticks.
    pub(super) fn now(&self) -> u64 {
        self.state.now - board::BEGIN
    }

    pub(super) fn choices(&self) -> &[(u8, u8)] {
        &self.state.turns.made
    }
}
