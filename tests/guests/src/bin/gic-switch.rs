//! Timers of several CPUs, in each other's handlers: states that must not leak when vCPUs share a CPU.
//!
//! The virtual timer has one interrupt line for each physical CPU. While one vCPU is in its timer's handler that
//! line is active, and the next vCPU on the same CPU needs it idle, for its own timer; then the other way round.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use guests::gic::{self, SPURIOUS, highest_pending, reg};
use guests::timer::{self, VIRTUAL, micros, now, until};
use guests::{check, check_eq, fdt, mmu, op, println, smp};

guests::guest!("gic-switch", main);

const CPUS: usize = 4;
const ROUNDS: u32 = 24;
/// How often each CPU reached a meeting.
static MET: [AtomicU32; CPUS] = [const { AtomicU32::new(0) }; CPUS];
static THERE: AtomicU32 = AtomicU32::new(2);

/// Waits for all others at the same place: on a shared CPU each gets its turn meanwhile.
fn meet(what: &str) {
    let there = THERE.load(SeqCst) as usize;
    let Some(own) = MET.get(gic::cpu()) else { return };
    let turn = own.fetch_add(1, SeqCst) + 1;
    let met = until(5000, || MET.iter().take(there).all(|met| met.load(SeqCst) >= turn));
    check!(met, "CPU {} meets nobody: {what}", gic::cpu());
}

fn fired(what: &str) -> u32 {
    let cpu = gic::cpu();
    gic::quirks::show_timer();
    check!(until(3000, || highest_pending() == VIRTUAL), "CPU {cpu}: no timer interrupt, {what}");
    let acknowledged = gic::ack();
    check_eq!(gic::id(acknowledged), VIRTUAL, "CPU {cpu}: acknowledged, {what}");
    acknowledged
}

/// The line has fallen, and a read of the controller is where a hypervisor notices, at the latest.
fn silent(what: &str) {
    let gone = until(1000, || !gic::pending(VIRTUAL) && highest_pending() == SPURIOUS);
    check!(gone, "CPU {}: signalled, {what}", gic::cpu());
}

fn rounds(_: u64) {
    let cpu = gic::cpu() as u32;
    if cpu != 0 {
        gic::init_cpu();
    }
    gic::enable(VIRTUAL);
    for round in 0..ROUNDS {
        meet("start");
        all_active(round + cpu);
        all_pending(round + cpu);
        one_active(round);
        gic::cpuif::split_eoi(round % 2 == 0);
    }
    gic::cpuif::split_eoi(false);
    meet("end");
}

/// Ends an interrupt in either EOImode.
fn end(acknowledged: u32) {
    gic::end(acknowledged);
    if gic::cpuif::eoi_is_split() {
        gic::deactivate(acknowledged);
    }
}

/// All are in the handler at once; half of them let the line fall in it, half after.
fn all_active(kind: u32) {
    timer::arm(now() + micros(50));
    let acknowledged = fired("first");
    meet("all active");
    check!(gic::active(VIRTUAL), "not active after the others had their turn");
    check_eq!(gic::id(gic::ack()), SPURIOUS, "acknowledged while active");
    if kind % 2 == 0 {
        end(acknowledged);
        let again = fired("line still high");
        meet("half active");
        timer::stop();
        end(again);
    } else {
        timer::stop();
        meet("half active");
        check!(gic::active(VIRTUAL), "not active though not ended");
        end(acknowledged);
    }
    silent("line low");
    check!(!gic::active(VIRTUAL), "active at the end");
}

/// All are pending at once, masked by PSTATE, and not taken; some lines fall before they are.
fn all_pending(kind: u32) {
    timer::arm(now());
    check!(until(3000, || highest_pending() == VIRTUAL), "not pending");
    meet("all pending");
    if kind % 3 == 0 {
        timer::stop();
        silent("fell while pending");
        meet("some taken");
        return;
    }
    let acknowledged = fired("pending for long");
    meet("some taken");
    timer::stop();
    end(acknowledged);
    silent("after it was pending for long");
}

/// One is in the handler, made active by hardware or by software; the others' timers fire, some in WFI.
fn one_active(round: u32) {
    let holder = round as usize % THERE.load(SeqCst) as usize;
    if gic::cpu() == holder {
        let mut held = 0;
        if round % 2 == 0 {
            timer::arm(now());
            held = fired("holder");
        } else {
            gic::set(reg::ISACTIVE, VIRTUAL);
            timer::arm(now());
        }
        meet("held");
        meet("others fired");
        check!(gic::active(VIRTUAL), "the holder's is not active any more");
        check_eq!(gic::id(gic::ack()), SPURIOUS, "the holder's comes again");
        if round % 2 == 0 {
            timer::stop();
            end(held);
        } else {
            gic::set(reg::ICACTIVE, VIRTUAL);
            let acknowledged = fired("after software let it go");
            timer::stop();
            end(acknowledged);
        }
    } else {
        meet("held");
        for n in 0..3u64 {
            let due = now() + micros(100 * n);
            timer::arm(due);
            let mut naps = 0;
            while highest_pending() != VIRTUAL && naps < 100_000 {
                op!("wfi");
                naps += 1;
            }
            let acknowledged = fired("while another is in its handler");
            check!(now() >= due, "too early");
            timer::stop();
            end(acknowledged);
        }
        meet("others fired");
    }
    silent("at the end of a round");
}

fn main() {
    let cpus = fdt::cpus().min(CPUS);
    check!(cpus >= 2, "the tree has {cpus} CPU");
    THERE.store(cpus as u32, SeqCst);
    mmu::build();
    mmu::on();
    gic::init();
    for n in 1..cpus {
        check_eq!(smp::start(n as u64, rounds), 0, "CPU_ON of {n}");
    }
    rounds(0);
    println!("gic-switch: {cpus} CPUs, {ROUNDS} rounds");
}
