//! A guest's serial port: the one device that is busy while a kernel boots, so it has a way of its own.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::exits::stored;
use super::{CpuLoop, Next};
use crate::addr::Address;
use crate::exit::Mmio;
use crate::machine::{Machine, Ticks};
use crate::map;
use crate::vcpu::Vcpu;
use crate::vdev::{Access, AccessError, MmioDevice};
use crate::vm::Vm;
use alloc::sync::Arc;
use core::sync::atomic::Ordering;

impl<'w, M: Machine> CpuLoop<'w, M> {
    /// A load or store: what the port puts out goes on to the line, what was typed comes in.
    #[inline(never)]
    pub(super) fn serial(&mut self, vm: &'w Arc<Vm>, vcpu: &mut Vcpu, mmio: Mmio) -> Next {
        if vm.without_uart {
            return self.on_bus(vm, vcpu, mmio);
        }
        let offset = mmio.ipa().raw().wrapping_sub(map::UART.start().raw());
        // A PL011 knows no time.
        let at = Access { offset, size: mmio.size(), now: Ticks(0) };
        let (result, level) = {
            let mut uart = vm.uart.lock();
            let result = if mmio.is_write() {
                let result = uart.write(at, stored(vcpu, &mmio)).map(|()| 0);
                if uart.has_output() {
                    vm.spoke.store(true, Ordering::Relaxed);
                    if self.world.is_shown(vm) {
                        self.console.pump(&mut self.machine, &mut uart);
                    }
                }
                result
            } else {
                uart.read(at)
            };
            if self.console.has_input() && self.world.is_shown(vm) {
                self.console.type_in(&mut self.machine, &mut uart);
            }
            (result, uart.irq())
        };
        let kicks = super::exits::set_line(vm, &vm.uart_line, level);
        self.kick(vm, Some(vcpu.id), kicks);
        // Reserved offsets read as zero and ignore writes.
        let result =
            result.or_else(|error| if error == AccessError::NoRegister { Ok(0) } else { Err(error) });
        self.finish(vm, vcpu, mmio, result)
    }

    /// The line interrupted: somebody typed, or it takes bytes again.
    pub(super) fn console_interrupt(&mut self) {
        self.console.receive(&mut self.machine);
        self.refresh_console();
    }

    /// Moves what waits: own lines and the shown screen out, typed bytes in.
    pub(super) fn refresh_console(&mut self) {
        if let Some(shown) = self.world.shown() {
            let level = {
                let mut uart = shown.uart.lock();
                self.console.pump(&mut self.machine, &mut uart);
                self.console.type_in(&mut self.machine, &mut uart);
                uart.irq()
            };
            let kicks = super::exits::set_line(shown, &shown.uart_line, level);
            self.kick(shown, None, kicks);
        }
    }
}
