//! The machine's own serial port: early output, then the console.
//!
//! Output before the caches are on takes no lock and keeps no state: the port's address is a plain word.

mod pl011;

use crate::addr::{Address, HostPhysAddr};
use crate::fdt::{Uart, UartKind};
use core::sync::atomic::{AtomicUsize, Ordering};

/// Where the port's registers are, 0 while there is none. Plain loads and stores only: they work with the MMU off.
static BASE: AtomicUsize = AtomicUsize::new(0);

/// Makes `uart` the console, if there is a driver for it.
///
/// # Safety
/// The address is that port's, and stays mapped as device memory once the MMU is on.
pub(super) unsafe fn open(uart: &Uart<'_>) -> bool {
    let known = uart.kind == UartKind::Pl011;
    if known {
        // SAFETY: the caller says so.
        unsafe { open_pl011(uart.range.start()) };
    }
    known
}

/// Makes the PL011 at `base` the console.
///
/// # Safety
/// As for [`open`].
pub(super) unsafe fn open_pl011(base: HostPhysAddr) {
    BASE.store(base.raw() as usize, Ordering::Relaxed);
}

fn port() -> Option<pl011::Port> {
    let base = BASE.load(Ordering::Relaxed);
    // SAFETY: `open`'s caller vouched for the address.
    (base != 0).then(|| unsafe { pl011::Port::new(base) })
}

/// Writes and waits until the port has taken everything. Only for boot, panics and the end.
pub(super) fn put_all(bytes: &[u8]) {
    if let Some(port) = port() {
        for &byte in bytes {
            while !port.put(byte) {
                core::hint::spin_loop();
            }
        }
    }
}

/// Waits until the last byte has left.
pub(super) fn drain() {
    if let Some(port) = port() {
        while port.busy() {
            core::hint::spin_loop();
        }
    }
}

/// Writes what the port takes without waiting; how many bytes that were.
pub(super) fn put(bytes: &[u8]) -> usize {
    super::fault::give_way();
    port().map_or(bytes.len(), |port| bytes.iter().take_while(|&&byte| port.put(byte)).count())
}

/// A byte that arrived.
pub(super) fn get() -> Option<u8> {
    port()?.get()
}

/// Takes the port over from the firmware: receiver on, interrupts on arrival.
pub(super) fn start() {
    if let Some(port) = port() {
        port.start();
    }
}

/// Whether to interrupt on arrival.
pub(super) fn listen(on: bool) {
    if let Some(port) = port() {
        port.listen(on);
    }
}

/// Whether to interrupt when there is room again.
pub(super) fn want_room(on: bool) {
    if let Some(port) = port() {
        port.want_room(on);
    }
}
