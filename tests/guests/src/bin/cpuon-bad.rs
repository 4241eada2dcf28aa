//! CPU_ON and AFFINITY_INFO with arguments that make no sense: each gets its error, and nothing happens.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use guests::psci::{self, ALREADY_ON, INVALID_ADDRESS, INVALID_PARAMETERS, ON_PENDING, hvc};
use guests::timer::until;
use guests::{RAM, check, check_eq, fdt, gic, mmu, println, smp};

guests::guest!("cpuon-bad", main);

static BORN: AtomicU32 = AtomicU32::new(0);
static STAY: AtomicU32 = AtomicU32::new(1);

fn life(n: u64) {
    BORN.fetch_add(n as u32, SeqCst);
    while STAY.load(SeqCst) != 0 {
        core::hint::spin_loop();
    }
}

fn on(target: u64, entry: u64) -> u32 {
    hvc(psci::CPU_ON, [target, entry, 7]).x[0] as u32
}

fn info(target: u64, level: u64) -> u32 {
    hvc(psci::AFFINITY_INFO, [target, level, 0]).x[0] as u32
}

fn main() {
    let cpus = fdt::cpus();
    mmu::build();
    mmu::on();
    gic::version();
    no_such_cpu(cpus);
    check_eq!(on(0, psci::entry()), ALREADY_ON, "CPU_ON of itself");
    check_eq!(info(0, 0), 0, "AFFINITY_INFO of itself");
    if cpus > 1 {
        bad_entry(cpus as u64 - 1);
        twice(cpus - 1);
    }
    check_eq!(psci::hvc(psci::AFFINITY_INFO, [0, 0, 0]).x[0], 0, "AFFINITY_INFO at the end");
    println!("cpuon-bad: {cpus} vcpus");
}

/// One more than there are; each affinity field; reserved bits, such as those of a whole MPIDR.
fn no_such_cpu(cpus: usize) {
    let beyond = smp::affinity(cpus);
    for target in [beyond, 15 + cpus as u64, 0xff, 7 << 8, 1 << 16, 1 << 32, 0xff_00ff_ffff] {
        check_eq!(on(target, psci::entry()), INVALID_PARAMETERS, "CPU_ON of {target:#x}");
        check_eq!(info(target, 0), INVALID_PARAMETERS, "AFFINITY_INFO of {target:#x}");
    }
    // PSCI wants bits that are no affinity to be zero; QEMU alone looks neither at all of them nor at the level.
    if fdt::under_hypervisor() {
        for target in [1 << 31, 1 << 30, 1 << 24, 1 << 40, 1 << 63, u64::MAX] {
            check_eq!(on(target, psci::entry()), INVALID_PARAMETERS, "CPU_ON of {target:#x}");
            check_eq!(info(target, 0), INVALID_PARAMETERS, "AFFINITY_INFO of {target:#x}");
        }
        for level in [4, 5, 0xff, 1 << 31, u64::from(u32::MAX)] {
            check_eq!(info(0, level), INVALID_PARAMETERS, "AFFINITY_INFO at level {level}");
        }
        check_eq!(info(7 << 8, 1), INVALID_PARAMETERS, "AFFINITY_INFO of a cluster that is not there");
    }
}

/// Outside of RAM, and between instructions. QEMU alone does not say so.
fn bad_entry(last: u64) {
    if !fdt::under_hypervisor() {
        return;
    }
    let (target, entry, end) = (smp::affinity(last as usize), psci::entry(), (RAM + fdt::memory()) as u64);
    let outside = [0, 0x1000, 0x0800_0000, 0x0900_0000, RAM as u64 - 4, end, end + 0x1000, 1 << 40, 1 << 56];
    for entry in outside.into_iter().chain([u64::MAX & !3, entry + 1, entry + 2, entry + 3, u64::MAX]) {
        check_eq!(on(target, entry), INVALID_ADDRESS, "CPU_ON at {entry:#x}");
        check_eq!(info(target, 0), 1, "AFFINITY_INFO after CPU_ON at {entry:#x}");
    }
    // A CPU that is on matters more than where it is asked to start.
    let answer = on(0, 0);
    check!(matches!(answer, ALREADY_ON | INVALID_ADDRESS), "CPU_ON of itself at 0: {}", answer as i32);
    check_eq!(BORN.load(SeqCst), 0, "CPUs that began");
}

fn twice(last: usize) {
    let target = smp::affinity(last);
    check_eq!(smp::start(last as u64, life), 0, "CPU_ON after all the errors");
    for n in 0..20 {
        let answer = psci::cpu_on(target, last as u64);
        let born = BORN.load(SeqCst) != 0;
        let right = answer == ALREADY_ON || answer == ON_PENDING && !born;
        // QEMU alone takes one more until the first has begun.
        check!(right || !fdt::under_hypervisor() && answer == 0, "CPU_ON again, {n}: {}", answer as i32);
    }
    check!(until(10_000, || BORN.load(SeqCst) != 0), "it does not begin");
    check_eq!(psci::cpu_on(target, last as u64), ALREADY_ON, "CPU_ON while it runs");
    check_eq!(info(target, 0), 0, "AFFINITY_INFO while it runs");
    STAY.store(0, SeqCst);
    check!(until(10_000, || info(target, 0) == 1), "it does not go off");
    check_eq!(BORN.load(SeqCst) as usize, last, "it began once");
}
