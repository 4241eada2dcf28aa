//! A guest's serial port: the one device that is busy while a kernel boots, so it has a way of its own.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::exits::{set_line, stored};
use super::report::ROWS_AT_ONCE;
use super::world::Place;
use super::{CpuLoop, Next};
use crate::addr::Address;
use crate::console::{Front, Patience, Screen};
use crate::exit::{Mmio, Size};
use crate::machine::{Machine, Ticks};
use crate::map;
use crate::sched::Purpose;
use crate::vcpu::Vcpu;
use crate::vdev::pl011::{Pl011, Register};
use crate::vdev::{Access, AccessError, MmioDevice};
use crate::vm::Vm;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

/// How long own lines wait for a guest's line to end, in milliseconds.
const PATIENCE_MS: u64 = 20;

/// How long what comes in pieces waits between them, in milliseconds.
const SOON_MS: u64 = 1;

impl<M: Machine> Front<Place> for CpuLoop<'_, M> {
    fn put(&mut self, bytes: &[u8]) -> usize {
        self.machine.console_put(bytes)
    }
    fn get(&mut self) -> Option<u8> {
        self.machine.console_get()
    }
    fn want_room(&mut self, on: bool) {
        self.machine.console_want_room(on);
    }
    fn listen(&mut self, on: bool) {
        self.machine.console_listen(on);
    }
    fn level(&mut self, place: &Place, high: bool) {
        if let Some(vm) = place {
            let kicks = set_line(vm, &vm.uart_line, high);
            self.kick(vm, None, kicks);
        }
    }
    fn takes_typing(&mut self) -> bool {
        self.shell_takes()
    }
    fn typed(&mut self, byte: u8) {
        let _ = self.typed.push(byte);
    }
    fn shell_shown(&mut self, from: Screen) {
        self.shell_shown = Some(from);
    }
    fn press_power_key(&mut self, place: &Place) {
        if let Some(vm) = place {
            CpuLoop::press_power_key(self, vm);
        }
    }
}

/// The machine once no guest runs any more: what [`Console::flush`](crate::console::Console::flush) needs.
pub struct LastWords<'m, M>(pub &'m mut M);

impl<M: Machine> Front<Place> for LastWords<'_, M> {
    fn put(&mut self, bytes: &[u8]) -> usize {
        self.0.console_put(bytes)
    }
    fn get(&mut self) -> Option<u8> {
        None
    }
    fn want_room(&mut self, _: bool) {}
    fn listen(&mut self, _: bool) {}
    fn level(&mut self, _: &Place, _: bool) {}
    fn press_power_key(&mut self, _: &Place) {}
}

impl<'w, M: Machine> CpuLoop<'w, M> {
    /// A load or store: what the port puts out goes on to the line, what was typed comes in.
    #[inline(never)]
    pub(super) fn serial(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, mmio: Mmio) -> Next {
        if vm.without_uart {
            return self.on_bus(vm, vcpu, mmio);
        }
        let offset = mmio.ipa().raw().wrapping_sub(map::UART.start().raw());
        let console = &self.world.console;
        let screen = Screen(vm.id.0);
        // To the end: whoever sees a later level passes it on later.
        let mut uart = vm.uart.lock();
        let result = if mmio.is_write() {
            let value = stored(vcpu, &mmio);
            let byte = value as u8;
            // The right to write is this lock, as long as this screen is shown.
            if offset == Register::Dr.offset()
                && mmio.size() != Size::Double
                && console.is_quiet(screen)
                && uart.pass(byte, |byte| self.machine.console_put(&[byte]) == 1)
            {
                console.passed(byte);
                vm.spoke.store(true, Ordering::Relaxed);
                Ok(0)
            } else {
                self.port_written(vm, &mut uart, access(offset, &mmio), value)
            }
        } else {
            let result = uart.read(access(offset, &mmio));
            if console.is_deaf() {
                console.accessed(self, &self.world.vms(), screen, &mut uart);
            }
            result
        };
        let kicks = set_line(vm, &vm.uart_line, uart.irq());
        drop(uart);
        self.kick(vm, Some(vcpu.id), kicks);
        // Reserved offsets read as zero and ignore writes.
        let result =
            result.or_else(|error| if error == AccessError::NoRegister { Ok(0) } else { Err(error) });
        self.finish(vm, vcpu, mmio, result)
    }

    /// A store that is not a byte on its way to an idle line.
    #[inline(never)]
    fn port_written(
        &mut self,
        vm: &Arc<Vm>,
        uart: &mut Pl011,
        at: Access,
        value: u64,
    ) -> Result<u64, AccessError> {
        let result = uart.write(at, value).map(|()| 0);
        if uart.has_output() {
            vm.spoke.store(true, Ordering::Relaxed);
            self.world.console.accessed(self, &self.world.vms(), Screen(vm.id.0), uart);
        }
        result
    }

    /// The line interrupted: somebody typed, or it takes bytes again.
    pub(super) fn console_interrupt(&mut self) {
        self.world.console.interrupt(self, &self.world.vms());
        self.serve_shell();
    }

    /// Moves what waits: own lines and the shown screen out.
    pub(super) fn refresh_console(&mut self) {
        self.world.console.refresh(self, &self.world.vms(), Patience::LineEnd);
        self.limit_patience();
        self.serve_shell();
    }

    /// Own lines wait for the end of the guest's, but not for ever: it may be a prompt.
    fn limit_patience(&mut self) {
        if self.report.is_none() && self.world.console.log_waits() {
            self.timers.set(Purpose::Console, Some(self.after_ms(self.machine.now(), PATIENCE_MS)));
            self.rearm();
        }
    }

    /// Has the console's timer fire soon. Not at once: what is pending as a guest is entered is taken before its first
    /// instruction, so that it would be one stay.
    pub(super) fn console_soon(&mut self) {
        self.timers.set(Purpose::Console, Some(self.after_ms(self.machine.now(), SOON_MS)));
        self.rearm();
    }

    /// The console's timer fired.
    pub(super) fn console_due(&mut self) {
        if self.report.is_none() {
            self.world.console.refresh(self, &self.world.vms(), Patience::Pause);
            self.serve_shell();
            return self.shell_on();
        }
        self.report_on(ROWS_AT_ONCE);
        if self.report.is_none() {
            self.refresh_console();
        }
    }

    /// A VM has stopped: its last output, then another screen.
    pub(super) fn console_stopped(&mut self, vm: &Arc<Vm>) {
        self.world.console.stopped(self, &self.world.vms(), usize::from(vm.id.0));
        self.limit_patience();
    }
}

/// A PL011 knows no time.
#[inline(always)]
fn access(offset: u64, mmio: &Mmio) -> Access {
    Access { offset, size: mmio.size(), now: Ticks(0) }
}
