//! What the micro guests share: entry, console, traps, GIC, timer, PSCI.
//!
//! A guest is a `main` that checks one behaviour and returns. Its transcript ends with `NAME: ok`, or has
//! `NAME: FAIL why` lines, and it powers the machine off by PSCI. Each also runs without a hypervisor, on
//! QEMU's `virt` at EL1, which is the reference for what a guest should see.
//!
//! Written for EL1 with GICv2 or GICv3, as the tree says. The MMU is off at the start of `main`, as the boot protocol has it; guests
//! that use atomics or second CPUs turn it on by [`mmu::on`].
#![no_std]

pub mod args;
pub mod code;
pub mod fdt;
pub mod gic;
pub mod mmio;
pub mod mmu;
pub mod pages;
pub mod psci;
pub mod samples;
pub mod smp;
pub mod state;
pub mod sysreg;
pub mod timer;
pub mod trap;
pub mod uart;
pub mod watch;

use core::sync::atomic::{AtomicU32, Ordering};

core::arch::global_asm!(include_str!("entry.s"));

/// The registers at entry, as `entry.s` saves them.
#[repr(C)]
pub struct Boot {
    /// X0 to X30; X29 is not saved.
    pub x: [u64; 31],
    /// SP_EL1.
    pub sp: u64,
    /// VBAR_EL1.
    pub vbar: u64,
    /// TPIDR_EL1.
    pub tpidr: u64,
    /// DAIF.
    pub daif: u64,
}

// In .data: it is written before .bss is zeroed.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".data")]
static mut BOOT: Boot = Boot { x: [0; 31], sp: 0, vbar: 0, tpidr: 0, daif: 0 };

/// The registers at entry.
pub fn boot() -> &'static Boot {
    // SAFETY: written once, by entry.s, before any Rust.
    unsafe { &*(&raw const BOOT) }
}

/// Where the image was loaded.
pub fn image_start() -> usize {
    let address: usize;
    // SAFETY: an address.
    unsafe { core::arch::asm!("adrp {0}, _start", "add {0}, {0}, :lo12:_start", out(reg) address) };
    address
}

/// The end of the image, with its stacks.
pub fn image_end() -> usize {
    let address: usize;
    // SAFETY: an address.
    unsafe { core::arch::asm!("adrp {0}, __image_end", "add {0}, {0}, :lo12:__image_end", out(reg) address) };
    address
}

/// Guest RAM begins here.
pub const RAM: usize = 0x4000_0000;

static mut NAME: &str = "?";
static FAILURES: AtomicU32 = AtomicU32::new(0);

/// The guest's name.
pub fn name() -> &'static str {
    // SAFETY: written once, before anything reads it.
    unsafe { *(&raw const NAME) }
}

/// Runs a guest: called by [`guest!`].
pub fn start(name: &'static str, main: fn()) -> ! {
    // SAFETY: one CPU runs yet.
    unsafe { *(&raw mut NAME) = name };
    uart::init();
    main();
    finish();
}

/// Says how it went and powers off.
///
/// With `strict` among its arguments a guest that failed crashes instead, which the hypervisor tells: its own lines may
/// be on a screen that nobody sees.
pub fn finish() -> ! {
    if FAILURES.load(Ordering::Relaxed) == 0 {
        println!("{}: ok", name());
    } else if args::line().split_whitespace().any(|word| word == "strict") {
        msr!("vbar_el1", 0x0b00_0000);
        op!("udf #0");
    }
    psci::off();
}

/// Reports a failure; only the first dozen are printed.
pub fn fail(why: core::fmt::Arguments<'_>) {
    // Plain load and store: exclusives need the MMU on.
    let n = FAILURES.load(Ordering::Relaxed) + 1;
    FAILURES.store(n, Ordering::Relaxed);
    if n <= 12 {
        println!("{}: FAIL {}", name(), why);
    }
}

/// How many checks have failed.
pub fn failures() -> u32 {
    FAILURES.load(Ordering::Relaxed)
}

/// Declares a guest: its name and main function.
#[macro_export]
macro_rules! guest {
    ($name:literal, $main:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn rust_start() -> ! {
            $crate::start($name, $main)
        }
    };
}

/// Reports a failure unless the condition holds.
#[macro_export]
macro_rules! check {
    ($condition:expr, $($why:tt)+) => {
        if !$condition {
            $crate::fail(format_args!($($why)+));
        }
    };
}

/// Reports a failure unless both are equal.
#[macro_export]
macro_rules! check_eq {
    ($got:expr, $want:expr, $($what:tt)+) => {{
        let (got, want) = ($got, $want);
        if got != want {
            $crate::fail(format_args!("{}: got {:#x}, expected {:#x}", format_args!($($what)+), got, want));
        }
    }};
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    println!("{}: FAIL panic: {}", name(), info);
    psci::off();
}
