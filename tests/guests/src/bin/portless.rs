//! No serial port in the tree, nor where it would be; it cannot say so, and asks for a reset if all is well.
#![no_std]
#![no_main]

use guests::trap::{attempt, ec};
use guests::{fdt, mmio, psci};

/// Where `virt` has its PL011.
const PORT: usize = 0x0900_0000;
/// A synchronous external abort, not on a table walk.
const EXTERNAL: u64 = 0x10;

/// In place of what `guests::guest!` declares, which would set the port up first.
#[unsafe(no_mangle)]
extern "C" fn rust_start() -> ! {
    let told = fdt::tree().is_none_or(|tree| {
        let in_tree = |path: &[&str], name| tree.find(path, name).is_some();
        in_tree(&["", "pl011"], "reg")
            || in_tree(&["", "chosen"], "stdout-path")
            || in_tree(&["", "aliases"], "serial0")
            || !in_tree(&["", "pl031"], "reg")
    });
    let there = [PORT, PORT + 0x18, PORT + 0xffc].into_iter().any(|at| {
        let aborts = |fault: guests::trap::Fault| fault.class() == ec::DATA && fault.status() == EXTERNAL;
        !attempt(|| _ = mmio::read32(at)).is_some_and(aborts)
            || !attempt(|| mmio::write32(at, 0)).is_some_and(aborts)
    });
    if !told && !there {
        psci::hvc(psci::SYSTEM_RESET, [0; 3]);
    }
    psci::off();
}
