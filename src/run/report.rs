//! What people read when a VM stops, or stays silent.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::CpuLoop;
use crate::addr::Address;
use crate::machine::Machine;
use crate::sched::Purpose;
use crate::vcpu::{Vcpu, VmId};
use crate::vm::{Reason, Vm};
use core::fmt;
use core::sync::atomic::Ordering;

/// How long a guest may be silent before somebody says where it is.
const SILENCE_SECONDS: u64 = 10;

/// The device or memory nearest to where a vCPU stands.
struct Nearest<'a>(&'a Vm, u64);

impl fmt::Display for Nearest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::addr::GuestPhysAddr;
        let at = GuestPhysAddr::at(self.1);
        if self.0.ram.range().contains(at) {
            write!(f, "in RAM {}", self.0.ram.range())
        } else if let Some(region) = self.0.nearest(at) {
            write!(f, "nearest device {} {}, RAM {}", region.name, region.range, self.0.ram.range())
        } else {
            write!(f, "RAM {}", self.0.ram.range())
        }
    }
}

/// Four registers, each after a space: `core::fmt` would take several times as long.
struct Row([u64; 4]);

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [b' '; 4 * 17];
        for (value, digits) in self.0.iter().zip(text.chunks_exact_mut(17)) {
            let mut rest = *value;
            for digit in digits.iter_mut().skip(1).rev() {
                let nibble = (rest & 15) as u8;
                *digit = nibble.wrapping_add(if nibble < 10 { b'0' } else { b'a' - 10 });
                rest >>= 4;
            }
        }
        f.write_str(core::str::from_utf8(&text).unwrap_or_default())
    }
}

impl<'w, M: Machine> CpuLoop<'w, M> {
    /// Stops a VM and says so.
    #[cold]
    pub(super) fn stop(&mut self, vm: &Vm, vcpu: &mut Vcpu, reason: Reason) {
        if vm.stop(reason.clone()) {
            self.stopped(vm, Some(vcpu), &reason);
        }
    }

    /// A VM has just stopped: tells people, and whoever waits for the last of them.
    #[cold]
    pub(super) fn stopped(&mut self, vm: &Vm, vcpu: Option<&Vcpu>, reason: &Reason) {
        match vcpu {
            Some(vcpu) if !reason.is_clean() => {
                let regs = &vcpu.regs;
                log::error!("vm {}: stopped, vCPU {}: {}", vm.name, vcpu.id.0, reason.as_str());
                log::error!("  pc {:#x} pstate {:#x}, {}", regs.pc, regs.pstate, Nearest(vm, regs.pc));
                if let Reason::FaultLoop { ipa } = reason {
                    log::error!("  ipa {ipa}, {}", Nearest(vm, ipa.raw()));
                }
                if let Reason::Unexpected { esr } = reason {
                    log::error!("  ESR_EL2 {esr:#x}");
                }
                for n in (0..31u8).step_by(4) {
                    log::error!("  x{n:<2}{}", Row([0, 1, 2, 3].map(|next| regs.x(n.wrapping_add(next)))));
                }
            }
            _ => log::info!("vm {}: {}", vm.name, reason.as_str()),
        }
        // Its screen, and these lines, wait for nobody else to write.
        self.console_stopped(vm);
    }

    /// A VM's last vCPU is off. Once there is no other VM, every CPU's loop ends.
    #[cold]
    pub(super) fn ended(&mut self) {
        if self.world.ended() {
            let others = self.world.others(self.id).map(|(cpu, _)| cpu);
            others.for_each(|cpu| self.machine.kick(cpu));
        }
    }

    /// Sees to it that a VM's silence is noticed.
    pub(super) fn watch(&mut self, vm: VmId) {
        let at = self.after_ms(self.machine.now(), SILENCE_SECONDS.wrapping_mul(1000));
        self.timers.set(Purpose::Watchdog(vm), Some(at));
    }

    /// Ten seconds have passed: a VM that has said nothing yet is reported, and watched on.
    #[cold]
    pub(super) fn watchdog(&mut self, vm: VmId, running: Option<&Vcpu>) {
        let Some(vm) = self.world.vm(vm) else { return };
        if vm.without_uart || vm.spoke.load(Ordering::Relaxed) || vm.is_stopping() {
            return;
        }
        match running.filter(|vcpu| vcpu.vm == vm.id) {
            Some(vcpu) => log::warn!(
                "vm {}: nothing on its console for {SILENCE_SECONDS} s; vCPU {} at pc {:#x}, {}",
                vm.name,
                vcpu.id.0,
                vcpu.regs.pc,
                Nearest(vm, vcpu.regs.pc)
            ),
            None => {
                let waits = vm.slots().find_map(|(id, slot)| Some((id, slot.peek(|vcpu| vcpu.regs.pc)?)));
                match waits {
                    Some((id, pc)) => log::warn!(
                        "vm {}: nothing on its console for {SILENCE_SECONDS} s; vCPU {} waits at pc {pc:#x}",
                        vm.name,
                        id.0
                    ),
                    None => {
                        log::warn!(
                            "vm {}: nothing on its console for {SILENCE_SECONDS} s; it waits to run",
                            vm.name
                        );
                    }
                }
            }
        }
        self.watch(vm.id);
        self.refresh_console();
    }
}
