//! Stolen time: found as Linux finds it, read, and neither written nor run.
#![no_std]
#![no_main]

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};
use guests::psci::{NOT_SUPPORTED, hvc, smc};
use guests::trap::{attempt, ec};
use guests::{check, check_eq, fdt, mmio, mmu, println, smp};

guests::guest!("pvtime", main);

const ARCH_FEATURES: u64 = 0x8000_0001;
const PV_TIME_FEATURES: u64 = 0xc500_0020;
const PV_TIME_ST: u64 = 0xc500_0021;

/// Where `virt` has the records; 64 bytes a vCPU.
const RECORDS: usize = 0x090a_0000;
/// What is at 0, as ordinary memory.
const ALIAS: usize = 511 << 30;
/// A synchronous external abort, not on a table walk.
const EXTERNAL: u64 = 0x10;
/// ESR_EL1: the abort is a write's.
const WNR: u64 = 1 << 6;

fn ask(function: u64, argument: u64) -> u64 {
    let [by_hvc, by_smc] = [hvc, smc].map(|by| by(function, [argument, 0, 0]));
    check!(by_hvc == by_smc, "{function:#x} by HVC {by_hvc:x?}, by SMC {by_smc:x?}");
    check!(by_hvc.kept, "{function:#x} changed x4 to x17");
    by_hvc.x[0]
}

fn main() {
    // The order in which Linux asks.
    check_eq!(ask(ARCH_FEATURES, PV_TIME_FEATURES), 0, "ARCH_FEATURES of PV_TIME_FEATURES");
    check_eq!(ask(PV_TIME_FEATURES, PV_TIME_ST), 0, "PV_TIME_FEATURES of PV_TIME_ST");
    check_eq!(ask(PV_TIME_FEATURES, PV_TIME_FEATURES), 0, "PV_TIME_FEATURES of itself");
    for other in [0, 0x8400_0000, 0xc500_0022, 0x8500_0021] {
        check_eq!(ask(PV_TIME_FEATURES, other) as u32, NOT_SUPPORTED, "PV_TIME_FEATURES of {other:#x}");
    }
    for none in [0x8500_0020, 0x8500_0021, 0xc500_0022] {
        check_eq!(ask(none, PV_TIME_ST) as u32, NOT_SUPPORTED, "{none:#x}");
    }
    let at = ask(PV_TIME_ST, 0) as usize;
    check_eq!(at, RECORDS, "the record of the first vCPU");
    check!(at < guests::RAM || at >= guests::RAM + fdt::memory(), "it lies in /memory");
    record(at, "MMU off");
    refused(at, "MMU off");
    mmu::build();
    // The records again as ordinary memory, which is how Linux maps them.
    mmio::write64(mmu::root() + 8 * (ALIAS >> 30), mmu::NORMAL);
    guests::op!("dsb sy");
    mmu::on();
    record(ALIAS + at, "MMU on");
    refused(ALIAS + at, "MMU on");
    // What is behind the page is nobody's.
    let beyond = attempt(|| _ = mmio::read64(at + 0x1000)).unwrap_or_default();
    check_eq!(beyond.status(), EXTERNAL, "DFSC behind the records");
    others();
    let stolen = mmio::read64(ALIAS + at + 8);
    println!("pvtime: {stolen} ns stolen, {} vCPU(s)", fdt::cpus());
}

/// Revision, attributes, and a time that does not go backwards.
fn record(at: usize, when: &str) {
    check_eq!(mmio::read32(at), 0, "revision with {when}");
    check_eq!(mmio::read32(at + 4), 0, "attributes with {when}");
    for offset in (16..64).step_by(8) {
        check_eq!(mmio::read64(at + offset), 0, "reserved bytes at {offset} with {when}");
    }
    let mut last = mmio::read64(at + 8);
    for _ in 0..1000 {
        let now = mmio::read64(at + 8);
        check!(now >= last, "stolen time goes back from {last} to {now} with {when}");
        last = now;
    }
    // No guest has been starved for an hour yet: a record that nobody keeps would say anything.
    check!(last < 3_600_000_000_000, "{last} ns stolen with {when}");
}

/// Stores of every size, and a jump: each an external abort, and nothing has changed.
fn refused(at: usize, when: &str) {
    let before = mmio::read64(at);
    for (what, store) in [
        ("a byte", (|at| mmio::write8(at, 0x5a)) as fn(usize)),
        ("four bytes", |at| mmio::write32(at, 0x55)),
        ("eight bytes", |at| mmio::write64(at, 0x55)),
        // No syndrome says what this one stores.
        // SAFETY: a store where none is allowed; the abort is stepped over.
        ("a pair", |at| unsafe { asm!("stp {0}, {0}, [{1}]", in(reg) 0x55_u64, in(reg) at) }),
    ] {
        for at in [at, at + 8, at + 0xff0] {
            let fault = attempt(|| store(at)).unwrap_or_default();
            check_eq!(fault.class(), ec::DATA, "class after a store of {what} at {at:#x} with {when}");
            check_eq!(fault.status(), EXTERNAL, "DFSC after a store of {what} at {at:#x} with {when}");
            check_eq!(fault.esr & WNR, WNR, "WnR after a store of {what} at {at:#x} with {when}");
            check_eq!(fault.far as usize, at, "FAR after a store of {what} with {when}");
        }
    }
    check_eq!(mmio::read64(at), before, "revision and attributes after all stores with {when}");
    // SAFETY: comes back by x30, by the handler.
    let fault = attempt(|| unsafe { asm!("blr {}", in(reg) at, clobber_abi("C")) }).unwrap_or_default();
    check_eq!(fault.class(), ec::FETCH, "class after a jump to the record with {when}");
    check_eq!(fault.status(), EXTERNAL, "IFSC after a jump to the record with {when}");
    check_eq!(fault.far as usize, at, "FAR after a jump to the record with {when}");
}

static FOUND: AtomicU64 = AtomicU64::new(0);

/// Each vCPU is told its own.
fn others() {
    for n in 1..fdt::cpus() as u64 {
        FOUND.store(0, Ordering::Release);
        check_eq!(smp::start(n, |_| FOUND.store(ask(PV_TIME_ST, 0), Ordering::Release)), 0, "CPU_ON of {n}");
        while FOUND.load(Ordering::Acquire) == 0 {
            guests::op!("yield");
        }
        let at = FOUND.load(Ordering::Acquire) as usize;
        check_eq!(at, RECORDS + 64 * n as usize, "the record of vCPU {n}");
        record(ALIAS + at, "MMU on, of another vCPU");
    }
}
