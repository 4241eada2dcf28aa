//! SYSTEM_RESET starts over with the image as it was. The harness sends `r` to the first life, `q` to the second.
#![no_std]
#![no_main]

use guests::{check_eq, println, psci, timer, uart};

guests::guest!("reset", main);

static mut LIFE: u32 = 0;

fn main() {
    // SAFETY: one CPU.
    let life = unsafe {
        let life = &raw mut LIFE;
        life.write_volatile(life.read_volatile() + 1);
        life.read_volatile()
    };
    check_eq!(life, 1, "memory of an earlier life");
    println!("reset: alive");
    let mut key = None;
    timer::until(20_000, || {
        key = uart::get();
        key.is_some()
    });
    match key {
        Some(b'r') => {
            println!("reset: going down");
            psci::hvc(psci::SYSTEM_RESET, [0; 3]);
            guests::fail(format_args!("SYSTEM_RESET came back"));
        }
        Some(b'q') => {}
        other => guests::fail(format_args!("key {other:?}")),
    }
}
