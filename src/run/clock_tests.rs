//! Scripted guests whose time is not the machine's: counters, timers, and what a VM misses while it stands still.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may fail")]

use super::fake::{Fake, Step};
use super::tests::{Gic, hvc, run_with, step, vm_of, wfi};
use super::{CpuLoop, World};
use crate::exit::{Exit, SysReg, SysRegId, Trap};
use crate::machine::{Ticks, ppi};
use crate::map::GicVersion;
use crate::vcpu::{CpuId, Timer, Vcpu, timer_ctl};
use crate::vm::Vm;
use crate::vmid::Table;
use std::sync::Arc;
use std::vec::Vec;

/// What the machine's counter is when the VMs begin.
const BEGIN: u64 = 1 << 40;
const V3: Gic = Gic { version: GicVersion::V3, emulated: false };
const CNTPCT: SysRegId = SysRegId::new(3, 3, 14, 0, 1);
const CNTP_TVAL: SysRegId = SysRegId::new(3, 3, 14, 2, 0);
const CNTP_CTL: SysRegId = SysRegId::new(3, 3, 14, 2, 1);
const CNTP_CVAL: SysRegId = SysRegId::new(3, 3, 14, 2, 2);

fn read(reg: SysRegId) -> Exit {
    Exit::SysReg(SysReg { reg, rt: 5, read: true })
}

fn write(vcpu: &mut Vcpu, reg: SysRegId, value: u64) -> Exit {
    vcpu.regs.set_x(5, value);
    Exit::SysReg(SysReg { reg, rt: 5, read: false })
}

/// MCR, MRC, MCRR or MRRC from AArch32, R5 or R6:R5, that takes part in CRm 2 or 14 of the timers.
fn cp15(crm: u64, op: u64, read: bool) -> Exit {
    let (class, op) = if crm == 14 { (4_u64, op << 16 | 6 << 10) } else { (3, op << 17 | 14 << 10) };
    Exit::Cp15(Trap {
        esr: class << 26 | 1 << 25 | 1 << 24 | 0xe << 20 | op | 5 << 5 | crm << 1 | u64::from(read),
    })
}

fn play(vms: &[u16], steps: Vec<Step>) {
    run_with(Fake { steps: steps.into(), now: BEGIN, room: usize::MAX, ..Fake::default() }, vms, V3);
}

/// The virtual timer fires at `cval`, in the guest's time.
fn alarm(cval: u64) -> Timer {
    Timer { ctl: timer_ctl::ENABLE, cval }
}

#[test]
fn the_counter_begins_at_zero() {
    let steps = vec![
        step(|_, vcpu| {
            assert_eq!(vcpu.cntvoff, BEGIN);
            read(CNTPCT)
        }),
        step(|machine, vcpu| {
            assert_eq!(vcpu.regs.x(5), 0);
            machine.now += 77;
            read(CNTPCT)
        }),
        step(|machine, vcpu| {
            assert_eq!(vcpu.regs.x(5), 77);
            machine.now += 5 << 32;
            cp15(14, 0, true)
        }),
        step(|_, vcpu| {
            assert_eq!((vcpu.regs.x(5), vcpu.regs.x(6)), (77, 5));
            Exit::Again
        }),
    ];
    play(&[1], steps);
}

#[test]
fn the_physical_timer_is_in_the_guests_time() {
    let fires = |machine: &mut Fake, after: u64| {
        assert_eq!(machine.deadline, Some(Ticks(BEGIN + after)));
        machine.now = BEGIN + after - 1;
    };
    let steps = vec![
        step(|machine, vcpu| {
            machine.now += 100;
            write(vcpu, CNTP_TVAL, 1000)
        }),
        step(|_, _| read(CNTP_CVAL)),
        step(|_, vcpu| {
            assert_eq!(vcpu.regs.x(5), 1100);
            write(vcpu, CNTP_CTL, 1)
        }),
        step(move |machine, _| {
            fires(machine, 1100);
            read(CNTP_CTL)
        }),
        step(|machine, vcpu| {
            assert_eq!(vcpu.regs.x(5), 1, "one tick to go");
            machine.now += 1;
            read(CNTP_CTL)
        }),
        step(|_, vcpu| {
            assert_eq!(vcpu.regs.x(5), 5, "its condition is met");
            write(vcpu, CNTP_CVAL, 4000)
        }),
        step(move |machine, _| {
            fires(machine, 4000);
            read(CNTP_TVAL)
        }),
        // The same from AArch32: CNTP_TVAL, and CNTP_CVAL in two registers.
        step(|_, vcpu| {
            assert_eq!(vcpu.regs.x(5), 1);
            cp15(2, 0, true)
        }),
        step(|_, vcpu| {
            assert_eq!(vcpu.regs.x(5), 1);
            vcpu.regs.set_x(5, 9);
            vcpu.regs.set_x(6, 2);
            cp15(14, 2, false)
        }),
        step(|_, _| read(CNTP_CVAL)),
        step(|_, vcpu| {
            assert_eq!(vcpu.regs.x(5), (2 << 32) + 9);
            Exit::Again
        }),
    ];
    play(&[1], steps);
}

/// While somebody else runs, a software timer stands for that of the one that waits.
#[test]
fn who_waits_is_woken_in_its_own_time() {
    let steps = vec![
        step(|machine, vcpu| {
            machine.now += 10;
            vcpu.virtual_timer = alarm(1000);
            wfi()
        }),
        step(|machine, vcpu| {
            assert_eq!((vcpu.vm.0, machine.deadline), (1, Some(Ticks(BEGIN + 1000))));
            vcpu.virtual_timer = alarm(2000);
            wfi()
        }),
        step(|machine, vcpu| {
            assert_eq!((vcpu.vm.0, machine.now), (0, BEGIN + 1000));
            Exit::Again
        }),
    ];
    play(&[1, 1], steps);
}

type Other = fn(&Vm, &mut Fake, &mut Vcpu) -> Exit;

/// Two vCPUs on one CPU, of two VMs or of one. The first one's virtual timer is to fire at 1000, and it waits; the
/// second one plays `others`, who are given the first one's VM. Then comes `after`.
fn while_it_waits(one_vm: bool, others: &[Other], after: Vec<Step>) {
    let vcpus: &[u16] = if one_vm { &[2] } else { &[1, 1] };
    let (vms, memory): (Vec<_>, Vec<_>) =
        (0..).zip(vcpus).map(|(id, count)| vm_of(id, *count, V3, |_| {})).unzip();
    let mut steps = vec![step(|_, vcpu| {
        vcpu.virtual_timer = alarm(1000);
        wfi()
    })];
    if one_vm {
        steps.insert(0, step(|_, vcpu| hvc(vcpu, 0xc400_0003, [1, 0x4020_0000, 0])));
    }
    for f in others.iter().copied() {
        let waiting: Arc<Vm> = vms[0].clone();
        steps.push(step(move |machine, vcpu| {
            assert!((vcpu.vm.0, vcpu.id.0) != (0, 0), "the first one waits");
            f(&waiting, machine, vcpu)
        }));
    }
    steps.extend(after);
    let world = World::new(vms.clone(), 1, 1_000_000, Table::new(8, vms.len(), 1));
    vms.iter().for_each(|vm| world.start(vm, 0x4020_0000, 0, Ticks(BEGIN)));
    let fake = Fake { steps: steps.into(), now: BEGIN, room: usize::MAX, ..Fake::default() };
    let mut cpu = CpuLoop::new(fake, &world, CpuId(0));
    cpu.run();
    assert!(cpu.into_machine().steps.is_empty(), "the script was not played to its end");
    drop(memory);
}

/// EL2's own timer interrupts whoever runs.
fn expire(machine: &mut Fake) -> Exit {
    machine.now = machine.deadline.unwrap().0;
    machine.pending.push_back(ppi::HYP_TIMER);
    Exit::Irq
}

/// The first one stands still for so many ticks.
fn stand(vm: &Vm, machine: &mut Fake, ticks: u64) {
    vm.clock.stop(Ticks(machine.now));
    machine.now += ticks;
    vm.clock.go(Ticks(machine.now));
}

#[test]
fn a_pause_puts_off_what_it_waits_for() {
    let others: [Other; 3] = [
        |vm, machine, _| {
            assert_eq!(machine.deadline, Some(Ticks(BEGIN + 1000)));
            stand(vm, machine, 500);
            expire(machine)
        },
        |vm, machine, _| {
            assert_eq!(machine.deadline, Some(Ticks(BEGIN + 1500)), "set anew, and nobody woken");
            stand(vm, machine, 30_000);
            machine.pending.push_back(ppi::HYP_TIMER);
            Exit::Irq
        },
        |_, machine, _| {
            assert_eq!(machine.deadline, Some(Ticks(BEGIN + 31_500)));
            expire(machine)
        },
    ];
    let after = vec![step(|machine, vcpu| {
        assert_eq!((vcpu.vm.0, vcpu.cntvoff), (0, BEGIN + 30_500));
        assert_eq!(machine.now - vcpu.cntvoff, 1000, "not a tick early, and none late");
        Exit::Again
    })];
    while_it_waits(false, &others, after);
}

#[test]
fn nothing_is_due_while_it_stands() {
    let others: [Other; 2] = [
        |vm, machine, _| {
            vm.clock.stop(Ticks(machine.now));
            expire(machine)
        },
        |_, machine, _| {
            assert_eq!(machine.deadline, None);
            Exit::Again
        },
    ];
    // The second one ends the VM for both.
    while_it_waits(true, &others, Vec::new());
}
