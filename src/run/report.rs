//! What people read when a VM stops, or stays silent.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::CpuLoop;
use crate::addr::Address;
use crate::machine::Machine;
use crate::regs::GuestRegs;
use crate::sched::Purpose;
use crate::vcpu::{Vcpu, VmId};
use crate::vm::{Reason, Vm};
use alloc::sync::Arc;
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

/// A row of registers, from this one on: ten of these are a report, and `core::fmt` would take several times as long.
pub(super) struct Row<'a>(pub(super) &'a GuestRegs, pub(super) u8);

/// Registers of a row, and the last of all.
pub(super) const ROW: u8 = 4;
const LAST: u8 = 30;

/// What is still to be said of a VM that has stopped.
pub(super) struct Report {
    vm: VmId,
    regs: GuestRegs,
    /// The first register that has not been told.
    next: u8,
}

/// Rows that are said in one stay at EL2.
pub(super) const ROWS_AT_ONCE: usize = 2;

impl fmt::Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(regs, first) = *self;
        let mut text = *b"  x00 0123456789abcdef 0123456789abcdef 0123456789abcdef 0123456789abcdef";
        let digit = |n: u8| n.wrapping_add(b'0');
        if let Some(number) = text.get_mut(3..5) {
            let number_of =
                if first < 10 { [digit(first), b' '] } else { [digit(first / 10), digit(first % 10)] };
            number.copy_from_slice(&number_of);
        }
        let places = text.get_mut(5..).unwrap_or_default().chunks_exact_mut(17);
        for (n, place) in (first..).zip(places) {
            if let Some(digits) = place.get_mut(1..) {
                digits.copy_from_slice(&hex(regs.x(n)));
            }
        }
        f.write_str(core::str::from_utf8(&text).unwrap_or_default())
    }
}

/// The digits of a number, all sixteen.
fn hex(value: u64) -> [u8; 16] {
    let half = |value: u64| {
        // One half of a byte each in a byte of its own.
        let mut digits = value & 0xffff_ffff;
        digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
        digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
        digits = (digits | digits << 4) & 0x0f0f_0f0f_0f0f_0f0f;
        // What is above 9 is a letter. No byte carries into the next.
        let letters = digits.wrapping_add(0x0606_0606_0606_0606) >> 4 & 0x0101_0101_0101_0101;
        let letters = letters.wrapping_mul(u64::from(b'a' - b'0' - 10));
        digits.wrapping_add(0x3030_3030_3030_3030).wrapping_add(letters)
    };
    (u128::from(half(value >> 32)) << 64 | u128::from(half(value))).to_be_bytes()
}

impl<'w, M: Machine> CpuLoop<'w, M> {
    /// Stops a VM and says so.
    #[cold]
    pub(super) fn stop(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, reason: Reason) {
        if vm.stop(reason.clone()) {
            self.stopped(vm, Some(vcpu), &reason);
        }
    }

    /// A VM has just stopped: tells people, and whoever waits for the last of them.
    #[cold]
    pub(super) fn stopped(&mut self, vm: &Arc<Vm>, vcpu: Option<&Vcpu>, reason: &Reason) {
        // What another one's report lacks comes before.
        self.report_on(usize::MAX);
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
                // The rest follows, a few lines in each stay at EL2; the screen stays until then.
                self.world.console.stopping(&self.world.vms(), usize::from(vm.id.0));
                self.report = Some(Report { vm: vm.id, regs: regs.clone(), next: 0 });
                self.console_soon();
            }
            _ => {
                log::info!("vm {}: {}", vm.name, reason.as_str());
                // Its screen, and this line, wait for nobody else to write.
                self.console_stopped(vm);
            }
        }
    }

    /// Says more of what there is to say of a VM that has stopped, at most so many rows.
    #[cold]
    pub(super) fn report_on(&mut self, rows: usize) {
        let Some(report) = &mut self.report else { return };
        for _ in 0..rows {
            if report.next > LAST {
                break;
            }
            log::error!("{}", Row(&report.regs, report.next));
            report.next = report.next.saturating_add(ROW);
        }
        if report.next <= LAST {
            self.console_soon();
        } else if let Some(report) = self.report.take()
            && let Some(vm) = self.world.vm(report.vm)
        {
            self.console_stopped(&vm);
        }
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
        self.watch_in(vm, SILENCE_SECONDS);
    }

    /// Looks after a VM in so many seconds.
    pub(super) fn watch_in(&mut self, vm: VmId, seconds: u64) {
        let at = self.after_ms(self.machine.now(), seconds.wrapping_mul(1000));
        self.timers.set(Purpose::Watchdog(vm), Some(at));
        self.rearm();
    }

    /// Ten seconds have passed: a VM that has said nothing yet is reported, and watched on.
    #[cold]
    pub(super) fn watchdog(&mut self, vm: VmId, running: Option<&Vcpu>) {
        let Some(vm) = self.world.vm(vm) else { return };
        let by = vm.asked.load(Ordering::Relaxed);
        if by != 0 && by <= self.machine.now().0 && !vm.is_stopping() {
            vm.asked.store(0, Ordering::Relaxed);
            self.watch(vm.id);
            log::warn!(
                "vm {0}: it has not reacted to its power key; `vm stop {0}` stops it by force",
                vm.name
            );
            return self.refresh_console();
        }
        if vm.without_uart || vm.spoke.load(Ordering::Relaxed) || vm.is_stopping() {
            return;
        }
        match running.filter(|vcpu| vcpu.vm == vm.id) {
            Some(vcpu) => log::warn!(
                "vm {}: nothing on its console for {SILENCE_SECONDS} s; vCPU {} at pc {:#x}, {}",
                vm.name,
                vcpu.id.0,
                vcpu.regs.pc,
                Nearest(&vm, vcpu.regs.pc)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_as_the_formatter_would_have_them() {
        let mut regs = GuestRegs::default();
        for n in 0..31 {
            regs.set_x(n, 0x0123_4567_89ab_cdef_u64.rotate_left(u32::from(n) * 4) ^ u64::from(n) << 60);
        }
        for n in (0..31).step_by(ROW.into()) {
            let [a, b, c, d] = [0, 1, 2, 3].map(|next| regs.x(n + next));
            assert_eq!(
                std::format!("{}", Row(&regs, n)),
                std::format!("  x{n:<2} {a:016x} {b:016x} {c:016x} {d:016x}")
            );
        }
        assert_eq!((hex(0), hex(u64::MAX)), (*b"0000000000000000", *b"ffffffffffffffff"));
    }
}
