//! A VM's power key: how people ask a guest to shut down.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::CpuLoop;
use super::exits::set_line;
use crate::machine::Machine;
use crate::map;
use crate::sched::Purpose;
use crate::vdev::MmioDevice;
use crate::vdev::vgic::Kicks;
use crate::vm::Vm;
use alloc::sync::Arc;

impl<M: Machine> CpuLoop<'_, M> {
    /// Presses the power key of `vm`, from whichever CPU; its release is a software timer of this one.
    ///
    /// Nothing happens in a VM that has stopped, and a guest without a driver for the key does not notice.
    #[cold]
    pub fn press_power_key(&mut self, vm: &Arc<Vm>) {
        let Some((region, _)) = vm.bus.find(map::PL061.start()) else { return };
        let (kicks, deadline) = {
            let mut key = vm.power_key.lock();
            key.press(self.machine.now());
            let kicks = region.line.as_ref().map_or(Kicks::NONE, |line| set_line(vm, line, key.irq()));
            (kicks, key.deadline())
        };
        self.kick(vm, None, kicks);
        self.timers.set(Purpose::Device(vm.id, region.index), deadline);
        self.rearm();
    }
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may fail")]
mod tests {
    use super::super::World;
    use super::super::fake::{Fake, Step};
    use super::super::tests::{Gic, mmio, step, vm_of, wfi};
    use super::*;
    use crate::addr::Address;
    use crate::exit::{Exit, Size, SysReg, SysRegId};
    use crate::machine::Ticks;
    use crate::map::GicVersion;
    use crate::vcpu::CpuId;
    use crate::vdev::Access;
    use crate::vdev::pl061::{POWER_KEY, Register};
    use crate::vm::Reason;
    use crate::vmid::Table;
    use std::cell::Cell;
    use std::rc::Rc;

    const GICD: u64 = 0x0800_0000;
    const KEY: u64 = 1 << POWER_KEY;
    const INTID: u64 = 32 + 7;
    /// 100 ms of the fake's counter.
    const HOLD: u64 = 100_000;

    fn register(register: Register) -> u64 {
        map::PL061.start().raw() + if register == Register::Data { KEY << 2 } else { register.offset() }
    }

    fn store(ipa: u64, value: u64) -> Step {
        step(move |_, vcpu| {
            vcpu.regs.set_x(5, value);
            mmio(ipa, true)
        })
    }

    /// ICC register (CRm, op2) of CRn, stored or loaded.
    fn icc((crn, crm, op2): (u32, u32, u32), write: Option<u64>) -> Step {
        step(move |_, vcpu| {
            vcpu.regs.set_x(5, write.unwrap_or(0));
            Exit::SysReg(SysReg { reg: SysRegId::new(3, 0, crn, crm, op2), rt: 5, read: write.is_none() })
        })
    }

    /// The guest acknowledges the interrupt at `time`, reads the line, clears the edge and ends the interrupt.
    fn handled(time: u64, line: u64) -> [Step; 5] {
        [
            icc((12, 12, 0), None),
            step(move |machine, vcpu| {
                assert_eq!((vcpu.regs.x(5), machine.now), (INTID, time), "acknowledged");
                mmio(register(Register::Data), false)
            }),
            step(move |_, vcpu| {
                assert_eq!(vcpu.regs.x(5), line, "the line");
                vcpu.regs.set_x(5, KEY);
                mmio(register(Register::Ic), true)
            }),
            icc((12, 12, 1), Some(INTID)),
            step(|_, _| Exit::Again),
        ]
    }

    /// Runs a VM whose key is pressed before its guest looks; it has a driver already if `ready`.
    fn pressed(ready: bool, steps: Vec<Step>) {
        let gic = Gic { version: GicVersion::V3, emulated: true };
        let (vm, memory) = vm_of(0, 1, gic, |_| {});
        let mut script = vec![
            store(GICD, 2),
            store(GICD + 0x84, 0xffff_ffff),
            store(GICD + 0x104, 1 << (INTID - 32)),
            icc((4, 6, 0), Some(0xff)),
            icc((12, 12, 7), Some(1)),
        ];
        script.extend(steps);
        let done = Rc::new(Cell::new(false));
        let last = done.clone();
        script.push(step(move |_, vcpu| {
            last.set(true);
            super::super::tests::hvc(vcpu, 0x8400_0008, [0; 3])
        }));
        if ready {
            for register in [Register::Ibe, Register::Ie] {
                let at = Access { offset: register.offset(), size: Size::Word, now: Ticks(0) };
                vm.power_key.lock().write(at, KEY).unwrap();
            }
        }
        let world = World::new(vec![vm.clone()], 1, 1_000_000, Table::new(8, 1, 1));
        world.start(&vm, 0x4020_0000, 0x4000_0000, Ticks(0));
        let fake = Fake { steps: script.into(), room: usize::MAX, ..Fake::default() };
        let mut cpu = CpuLoop::new(fake, &world, CpuId(0));
        cpu.press_power_key(&vm);
        assert!(vm.power_key.lock().is_pressed());
        cpu.run();
        drop(memory);
        assert!(done.get(), "the script was not played to its end");
        assert_eq!(vm.stopped(), Some(Reason::PoweredOff));
    }

    #[test]
    fn the_guest_sees_the_key_go_down_and_up() {
        let mut steps: Vec<Step> = Vec::new();
        steps.extend(handled(0, KEY));
        // Nothing is pending: it waits until the key comes up.
        steps.push(step(|_, _| wfi()));
        steps.extend(handled(HOLD, 0));
        pressed(true, steps);
    }

    #[test]
    fn a_guest_that_comes_late_has_missed_it() {
        pressed(
            false,
            vec![
                store(register(Register::Iev), KEY),
                store(register(Register::Ie), KEY),
                // The key goes up, and this guest looks for a press.
                step(|machine, _| {
                    machine.now = HOLD;
                    mmio(register(Register::Data), false)
                }),
                step(|_, vcpu| {
                    assert_eq!(vcpu.regs.x(5), 0, "the line");
                    mmio(register(Register::Ris), false)
                }),
                step(|_, vcpu| {
                    assert_eq!(vcpu.regs.x(5), 0, "nothing was seen");
                    Exit::Again
                }),
            ],
        );
    }
}
