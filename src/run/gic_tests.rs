//! Scripted guests and their interrupt controller: what the loop adds to what the vGIC knows.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may fail")]

use super::fake::{Fake, Step};
use super::tests::{Gic, hvc, mmio, run_with, step};
use crate::exit::{Exit, SysReg, SysRegId};
use crate::machine::{Ticks, ppi};
use crate::map::GicVersion;
use crate::vcpu::Vcpu;
use crate::vm::Reason;
use std::vec::Vec;

const GICV2: Gic = Gic { version: GicVersion::V2, emulated: true };
const GICV3: Gic = Gic { version: GicVersion::V3, emulated: false };

fn machine(steps: Vec<Step>) -> Fake {
    Fake { steps: steps.into(), room: usize::MAX, ..Fake::default() }
}

#[test]
fn a_gicv2_guest_has_no_registers_of_a_gicv3() {
    // ICC_SGI1R_EL1, ICC_IAR1_EL1, ICC_PMR_EL1, ICC_SRE_EL1: each leads to the guest's own handler.
    for (crn, crm, op2, read) in [(12, 11, 5, false), (12, 12, 0, true), (4, 6, 0, true), (12, 12, 5, true)] {
        let steps = vec![
            step(move |_, vcpu| {
                vcpu.regs.set_x(5, 1 << 16 | 1);
                Exit::SysReg(SysReg { reg: SysRegId::new(3, 0, crn, crm, op2), rt: 5, read })
            }),
            step(|_, vcpu| {
                assert_eq!(vcpu.regs.pc, 0x200, "synchronous, from EL1h");
                hvc(vcpu, 0x8400_0008, [0; 3])
            }),
        ];
        let (_, vms) = run_with(machine(steps), &[1], GICV2);
        assert_eq!(vms[0].stopped(), Some(Reason::PoweredOff));
    }
}

#[test]
fn the_timers_line_shows_in_what_is_pending() {
    const TIMER: u64 = 1 << ppi::VIRTUAL_TIMER.0;
    for (gic, ispendr) in [(GICV2, 0x0800_0200), (GICV3, 0x080b_0200)] {
        for high in [true, false] {
            let steps = vec![
                step(move |machine: &mut Fake, _| {
                    machine.timer_high = high;
                    mmio(ispendr, false)
                }),
                step(move |_, vcpu| {
                    assert_eq!(vcpu.regs.x(5) & TIMER != 0, high);
                    hvc(vcpu, 0x8400_0008, [0; 3])
                }),
            ];
            run_with(machine(steps), &[1], gic);
        }
    }
}

#[test]
fn a_lone_vcpu_has_slices_where_levels_are_forgotten() {
    let slice = |at| Some(Ticks(at));
    for forgets in [true, false] {
        let steps = vec![
            step(move |machine: &mut Fake, _| {
                // Ten milliseconds of this machine, against the ten seconds of the watchdog.
                assert_eq!(machine.deadline, slice(if forgets { 10_000 } else { 10_000_000 }));
                machine.now = 10_000;
                machine.pending.push_back(ppi::HYP_TIMER);
                Exit::Irq
            }),
            step(move |machine: &mut Fake, vcpu| {
                assert_eq!(machine.deadline, slice(if forgets { 20_000 } else { 10_000_000 }));
                hvc(vcpu, 0x8400_0008, [0; 3])
            }),
        ];
        let (machine, _) = run_with(Fake { forgets_levels: forgets, ..machine(steps) }, &[1], GICV3);
        assert_eq!(machine.puts, 1, "it stays where it is until it ends");
    }
}

#[test]
fn an_sgi_of_a_gicv2_guest_to_itself_is_there_at_the_next_entry() {
    const GICD: u64 = 0x0800_0000;
    for emulated in [false, true] {
        let store = |offset: u64, value: u64| {
            step(move |_, vcpu: &mut Vcpu| {
                vcpu.lists.vmcr |= 0xf8 << 24 | 1;
                vcpu.regs.set_x(5, value);
                mmio(GICD + offset, true)
            })
        };
        let seen = std::rc::Rc::new(std::cell::Cell::new(0));
        let sees = seen.clone();
        let steps = vec![
            store(0, 1),
            store(0x100, 1 << 3),
            store(0xf00, 1 << 16 | 3),
            step(move |_, vcpu| {
                assert_eq!((vcpu.lists.used, vcpu.lists.lr[0] & (3 << 62 | 0x1fff)), (1, 1 << 62 | 3));
                assert_eq!(vcpu.lists.signalled != 0, emulated);
                assert_eq!(vcpu.regs.pc, 0x4020_000c, "past all three stores");
                sees.set(1);
                hvc(vcpu, 0x8400_0008, [0; 3])
            }),
        ];
        run_with(machine(steps), &[1], Gic { version: GicVersion::V2, emulated });
        assert_eq!(seen.get(), 1);
    }
}

/// The timer fires, masked; the guest sets it anew and waits in a call, alone on its CPU: it fires again.
#[test]
fn a_timer_set_anew_wakes_a_lone_vcpu() {
    const TIMER: u64 = 1 << ppi::VIRTUAL_TIMER.0;
    const CPU_SUSPEND: u64 = 0xc400_0001;
    for gic in [GICV2, GICV3, Gic { emulated: false, ..GICV2 }, Gic { emulated: true, ..GICV3 }] {
        let private = if gic.version == GicVersion::V2 { 0x0800_0000 } else { 0x080b_0000 };
        let store = |ipa: u64, value: u64| {
            step(move |_, vcpu: &mut Vcpu| {
                vcpu.regs.set_x(5, value);
                mmio(ipa, true)
            })
        };
        let steps = vec![
            store(0x0800_0000, 3),
            store(private + 0x80, TIMER),
            store(private + 0x100, TIMER),
            step(|machine: &mut Fake, vcpu| {
                vcpu.lists.vmcr |= 0xf8 << 24 | 3;
                machine.timer_high = true;
                machine.pending.push_back(ppi::VIRTUAL_TIMER);
                Exit::Irq
            }),
            step(|machine: &mut Fake, vcpu| {
                assert!(machine.timer_active);
                (machine.timer_high, machine.timer_due) = (false, Some(machine.now + 1000));
                hvc(vcpu, CPU_SUSPEND, [0; 3])
            }),
            step(|machine: &mut Fake, vcpu| {
                assert!(machine.timer_due.is_none() && machine.timer_high && machine.timer_active);
                hvc(vcpu, 0x8400_0008, [0; 3])
            }),
        ];
        let (machine, _) = run_with(machine(steps), &[1], gic);
        assert_eq!(machine.idles, 1, "it waited");
    }
}
