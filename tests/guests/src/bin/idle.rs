//! WFI and WFE: they wait, and wake for every interrupt that they should.
#![no_std]
#![no_main]

use guests::timer::{self, PHYSICAL, VIRTUAL, micros, now};
use guests::{check, check_eq, gic, mrs, msr, op, trap};

guests::guest!("idle", main);

fn main() {
    gic::init();
    trap::on_irq(gic::record);
    gic::enable(VIRTUAL);
    gic::enable(PHYSICAL);
    gic::enable(1);
    for n in 1..=5 {
        virtual_masked(n);
        physical_masked(n);
        unmasked(n);
    }
    pending_before();
    events();
}

/// Waits until something wakes us that is `id`: WFI may return without reason.
fn sleep_until(id: u32) {
    let mut naps = 0;
    while gic::highest_pending() != id && naps < 100_000 {
        op!("wfi");
        naps += 1;
    }
    check_eq!(gic::highest_pending(), id, "what ended the wait");
}

/// PSTATE.I set: WFI wakes all the same, nothing is taken.
fn virtual_masked(n: u64) {
    let due = now() + micros(1000 * n);
    timer::arm(due);
    sleep_until(VIRTUAL);
    check!(now() >= due, "woken before the virtual timer");
    check_eq!(gic::ack(), VIRTUAL, "acknowledged");
    timer::stop();
    gic::end(VIRTUAL);
    check_eq!(gic::count(), 0, "interrupts taken while masked");
}

fn physical_masked(n: u64) {
    let due = now() + micros(700 * n);
    msr!("cntp_cval_el0", due);
    msr!("cntp_ctl_el0", 1);
    sleep_until(PHYSICAL);
    check!(now() >= due, "woken before the physical timer");
    check_eq!(gic::ack(), PHYSICAL, "acknowledged");
    msr!("cntp_ctl_el0", 0);
    gic::end(PHYSICAL);
}

fn unmasked(n: u64) {
    gic::forget();
    let due = now() + micros(500 * n);
    timer::arm(due);
    while gic::count() == 0 {
        // As an idle loop does it: masked, so that no interrupt slips in between test and WFI.
        op!("wfi");
        trap::irqs_on();
        op!("isb");
        trap::irqs_off();
    }
    check_eq!(gic::entry(0).0, VIRTUAL, "interrupt");
    check!(gic::entry(0).1 >= due, "too early");
    gic::forget();
}

/// WFI with something pending returns at once, else this would never end.
fn pending_before() {
    gic::send(1, 1);
    for _ in 0..1000 {
        op!("wfi");
    }
    check_eq!(gic::ack(), 1, "acknowledged");
    gic::end(1);
}

fn events() {
    for _ in 0..1000 {
        op!("sev");
        op!("wfe");
        op!("sevl");
        op!("wfe");
    }
    // An event stream from the timer ends a WFE too, and so does an interrupt.
    msr!("cntkctl_el1", 1 << 2 | 8 << 4 | mrs!("cntkctl_el1"));
    for _ in 0..10 {
        op!("wfe");
    }
    msr!("cntkctl_el1", 0);
    timer::arm(now() + micros(1000));
    while gic::highest_pending() != VIRTUAL {
        op!("wfe");
    }
    timer::stop();
}
