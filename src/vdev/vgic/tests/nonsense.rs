//! Guests that do anything at all: the vGIC survives them, and is as good as new after a reset.
//!
//! Any access of any size anywhere, interrupts ended that never were, list registers and ICH_VMCR_EL2 that
//! come back with whatever in them.

use super::hardware::TIMER;
use super::ops::{self, op};
use super::port::Port;
use super::random::{Guest, Run, config, guest};
use super::vm::{Vm, vcpu};
use crate::exit::{Size, SysRegId};
use crate::machine::IntId;
use crate::vcpu::VcpuId;
use crate::vdev::vgic::{Frame, GicVersion, SgiGroup};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Op {
    Access(usize, Frame, u64, Size, Option<u64>),
    SystemRegister(usize, (u32, u32, u32), Option<u64>),
    Port(usize, Port, Option<u32>),
    Sgi(usize, bool, u64),
    Spi(u16, bool),
    Ppi(usize, u32, bool),
    Linked(usize),
    Retract(usize, u32),
    Deactivate(usize, u64),
    /// Two bits of state for each list register, EOIcount, ICH_VMCR_EL2, ICH_APxR0_EL2.
    Garbage(usize, u32, u64, u64, u32),
    Leave(usize),
    Come(usize),
}

fn frame() -> impl Strategy<Value = Frame> {
    let any = || 0..10u16;
    prop_oneof![
        4 => Just(Frame::Gicd),
        1 => any().prop_map(|n| Frame::GicrRd(VcpuId(n))),
        3 => any().prop_map(|n| Frame::GicrSgi(VcpuId(n))),
        4 => Just(Frame::Gicc),
    ]
}

fn offset() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => (0..0x400u64).prop_map(|word| word * 4),
        2 => (0..0x40u64).prop_map(|word| word * 4),
        1 => Just(0x1000u64),
        1 => 0..0x1_0000u64,
        1 => (0xc20..0x1000u64).prop_map(|double| double * 8),
    ]
}

fn port() -> impl Strategy<Value = Port> {
    let ports = [
        Port::Iar(false),
        Port::Iar(true),
        Port::Eoir(false),
        Port::Eoir(true),
        Port::Hppir(false),
        Port::Hppir(true),
        Port::Bpr(false),
        Port::Bpr(true),
        Port::Enable(false),
        Port::Enable(true),
        Port::Dir,
        Port::Pmr,
        Port::Rpr,
        Port::Ctlr,
    ];
    prop::sample::select(ports.to_vec())
}

fn value() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0..0x2000u64, (0..64u32).prop_map(|n| 1 << n), Just(u64::MAX)]
}

fn nonsense() -> impl Strategy<Value = Op> {
    let cpu = || 0..8usize;
    let size = (0..4u64).prop_map(Size::from_log2);
    let intid = prop_oneof![0..100u32, 0..2048u32];
    prop_oneof![
        20 => (cpu(), frame(), offset(), prop_oneof![3 => Just(Size::Word), 1 => size], prop::option::of(value()))
            .prop_map(|(a, b, c, d, e)| Op::Access(a, b, c, d, e)),
        3 => (cpu(), (prop::sample::select(vec![4u32, 12]), 0..16u32, 0..8u32), prop::option::of(value()))
            .prop_map(|(a, b, c)| Op::SystemRegister(a, b, c)),
        12 => (cpu(), port(), prop::option::of(intid)).prop_map(|(a, b, c)| Op::Port(a, b, c)),
        2 => (cpu(), any::<bool>(), value()).prop_map(|(a, b, c)| Op::Sgi(a, b, c)),
        4 => (prop_oneof![8 => 0..64u16, 1 => any::<u16>()], any::<bool>()).prop_map(|(a, b)| Op::Spi(a, b)),
        1 => (cpu(), 0..40u32, any::<bool>()).prop_map(|(a, b, c)| Op::Ppi(a, b, c)),
        2 => cpu().prop_map(Op::Linked),
        1 => (cpu(), 0..40u32).prop_map(|(a, b)| Op::Retract(a, b)),
        1 => (cpu(), value()).prop_map(|(a, b)| Op::Deactivate(a, b)),
        4 => (cpu(), any::<u32>(), 0..32u64, any::<u64>(), any::<u32>())
            .prop_map(|(a, b, c, d, e)| Op::Garbage(a, b, c, d, e)),
        2 => cpu().prop_map(Op::Leave),
        3 => cpu().prop_map(Op::Come),
    ]
}

fn step(vm: &mut Vm, op: &Op) {
    let vcpus = vm.cpus.len();
    match *op {
        Op::Access(n, frame, offset, size, write) if vm.cpus[n % vcpus].resident => {
            let write = write.map(|value| value & size.mask());
            vm.access(n % vcpus, frame, offset, size, write);
        }
        Op::SystemRegister(n, (crn, crm, op2), write) if vm.setup.emulated && vm.cpus[n % vcpus].resident => {
            vm.system_register(n % vcpus, SysRegId::new(3, 0, crn, crm, op2), write);
        }
        // Loads of what is only written and the reverse are UNDEFINED.
        Op::Port(n, _, _) if !vm.cpus[n % vcpus].resident => {}
        Op::Port(n, port, write) if vm.setup.emulated && vm.setup.version == GicVersion::V3 => {
            vm.system_register(n % vcpus, port.icc(), write.map(u64::from));
        }
        Op::Port(n, port, write) => match write {
            Some(value) => vm.store(n % vcpus, port, value),
            None => {
                vm.load(n % vcpus, port);
            }
        },
        Op::Sgi(n, group0, value) if vm.cpus[n % vcpus].resident => {
            let group = if group0 { SgiGroup::Group0 } else { SgiGroup::Group1 };
            let kicks = vm.vgic.sgi(vcpu(n % vcpus), group, value);
            vm.check_kicks(n % vcpus, kicks);
        }
        Op::Spi(spi, high) => vm.set_spi(spi, high),
        Op::Ppi(n, ppi, high) if ppi != TIMER => {
            let kicks = vm.vgic.set_ppi(vcpu(n), IntId(ppi), high);
            vm.check_kicks(usize::MAX, kicks);
        }
        Op::Linked(n) => {
            let n = n % vcpus;
            // It fires only while it is not active.
            if vm.cpus[n].resident && !vm.cpus[n].timer_active {
                vm.cpus[n].timer_active = true;
                let kicks = vm.vgic.raise_linked(vcpu(n), IntId(TIMER));
                vm.check_kicks(usize::MAX, kicks);
            }
        }
        Op::Retract(n, ppi) => {
            let kicks = vm.vgic.retract_linked(vcpu(n), IntId(ppi));
            vm.check_kicks(usize::MAX, kicks);
        }
        Op::Deactivate(n, value) => {
            let kicks = vm.vgic.deactivate(vcpu(n), value);
            vm.check_kicks(n, kicks);
        }
        Op::Garbage(n, states, count, vmcr, apr) => garbage(vm, n % vcpus, states, count, vmcr, apr),
        Op::Leave(n) if vm.cpus[n % vcpus].resident => vm.leave(n % vcpus),
        Op::Come(n) => vm.come(n % vcpus),
        _ => {}
    }
    vm.settle();
}

fn garbage(vm: &mut Vm, n: usize, states: u32, count: u64, vmcr: u64, apr: u32) {
    let emulated = vm.setup.emulated;
    let cpu = &mut vm.cpus[n];
    if !cpu.resident {
        return;
    }
    for slot in (0..16).filter(|slot| cpu.lists.used >> slot & 1 != 0) {
        let lr = if emulated { &mut cpu.lists.lr[slot] } else { &mut cpu.lr[slot] };
        *lr = *lr & !(3 << 62) | u64::from(states >> (2 * slot) & 3) << 62;
    }
    if emulated {
        cpu.lists.vmcr = vmcr & 0xffff_ffff;
        cpu.lists.apr[0][0] = apr.into();
        cpu.lists.apr[1][0] = (apr.rotate_left(7) & apr).into();
    } else {
        cpu.hcr = cpu.hcr & !(31 << 27) | count << 27;
        cpu.vmcr = vmcr & 0xffff_ffff;
        cpu.running = (0..8).filter(|n| apr >> n & 1 != 0).rev().map(|n| n << 5).collect();
    }
    // Whoever emulates the interface looks at an access of the guest.
    vm.look(n);
}

/// The VM from the start: lines low, everything reset, all vCPUs on their CPUs.
fn restart(vm: &mut Vm) {
    for spi in 0..64 {
        vm.set_spi(spi, false);
    }
    for n in 0..vm.cpus.len() {
        for ppi in 0..32 {
            let kicks = vm.vgic.set_ppi(vcpu(n), IntId(ppi), false);
            vm.check_kicks(usize::MAX, kicks);
        }
        vm.settle();
        if vm.cpus[n].resident {
            vm.leave(n);
        }
    }
    vm.vgic.reset();
    vm.note_called();
    for n in 0..vm.cpus.len() {
        let cpu = &mut vm.cpus[n];
        vm.vgic.reset_cpu(vcpu(n), &mut cpu.lists);
        assert!(!cpu.lists.linked_active(IntId(TIMER)));
        cpu.running.clear();
        cpu.untrusted = false;
        vm.come(n);
    }
}

fn survives(version: GicVersion, emulated: bool) {
    let streams = (
        guest(version, emulated),
        prop::collection::vec(nonsense(), 1..300),
        prop::collection::vec(op(), 0..30),
    );
    proptest!(config(32), |((guest, wild, tame) in streams)| {
        go(guest, &wild, &tame);
    });
}

fn go(guest: Guest, wild: &[Op], tame: &[ops::Op]) {
    let mut vm = Vm::with(guest.setup);
    for cpu in &mut vm.cpus {
        cpu.untrusted = true;
    }
    for op in wild {
        step(&mut vm, op);
    }
    restart(&mut vm);
    let mut run = Run::on(vm, guest);
    for op in tame {
        run.step(op);
    }
    run.drain();
}

#[test]
fn of_a_gicv3_guest_on_ich() {
    survives(GicVersion::V3, false);
}

#[test]
fn of_a_gicv3_guest_emulated() {
    survives(GicVersion::V3, true);
}

#[test]
fn of_a_gicv2_guest_on_gich() {
    survives(GicVersion::V2, false);
}

#[test]
fn of_a_gicv2_guest_emulated() {
    survives(GicVersion::V2, true);
}
