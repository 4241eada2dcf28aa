//! The architected timers: virtual (the guest's own) and physical (emulated by a hypervisor).
#![no_std]
#![no_main]

use guests::gic;
use guests::timer::{self, PHYSICAL, VIRTUAL, micros, now, until};
use guests::{check, check_eq, mrs, msr, trap};

guests::guest!("timer", main);

fn main() {
    // A machine's time begins with it, and a VM's with its first vCPU.
    let begun = now();
    check!(begun < 30 * timer::frequency(), "CNTVCT_EL0 is {begun} at the beginning");
    gic::init();
    trap::on_irq(gic::record);
    gic::enable(VIRTUAL);
    gic::enable(PHYSICAL);
    counters();
    virtual_timer();
    physical_timer();
    order();
    masked_level();
}

fn counters() {
    let a = now();
    check!(until(1000, || now() != a), "CNTVCT_EL0 stands");
    let mut last = now();
    for _ in 0..1000 {
        let next = now();
        check!(next >= last, "CNTVCT_EL0 went back from {last} to {next}");
        last = next;
    }
    // The two counters are one: each is no less than the other a moment ago.
    for _ in 0..1000 {
        let before = now();
        guests::op!("isb");
        let physical = mrs!("cntpct_el0");
        let after = now();
        check!(before <= physical && physical <= after, "CNTPCT_EL0 {physical} not in {before}..={after}");
    }
}

fn expect(what: &str, id: u32, due: u64) {
    check!(until(3000, || gic::count() > 0), "{what}: no interrupt");
    let (got, at) = gic::entry(0);
    check_eq!(got, id, "{what}: interrupt");
    check!(at >= due, "{what}: {} counts too early", due.wrapping_sub(at));
    timer::wait(micros(200));
    check_eq!(gic::count(), 1, "{what}: interrupts");
    gic::forget();
}

macro_rules! exercise {
    ($id:ident, $ctl:literal, $cval:literal, $tval:literal) => {
        gic::forget();
        trap::irqs_on();
        for n in 1..6 {
            let due = now() + micros(500 * n);
            msr!($cval, due);
            msr!($ctl, 1);
            expect("CVAL ahead", $id, due);
        }
        msr!($cval, 0);
        msr!($ctl, 1);
        expect("CVAL in the past", $id, 0);
        let due = now() + micros(1000);
        msr!($tval, micros(1000));
        msr!($ctl, 1);
        expect("TVAL", $id, due);
        msr!($tval, -1i64 as u64 & 0xffff_ffff);
        msr!($ctl, 1);
        expect("negative TVAL", $id, 0);

        // Masked in CTL: the condition shows, no interrupt comes; unmasked it does.
        msr!($cval, 0);
        msr!($ctl, 3);
        check_eq!(mrs!($ctl), 7, "CTL masked and met");
        timer::wait(micros(500));
        check_eq!(gic::count(), 0, "interrupts of a masked timer");
        msr!($ctl, 1);
        expect("unmasked", $id, 0);

        // Off: no status, no interrupt.
        msr!($ctl, 0);
        check_eq!(mrs!($ctl), 0, "CTL off");
        // Far ahead: armed, not met. Then the deadline is taken back and set again.
        msr!($cval, !0);
        msr!($ctl, 1);
        check_eq!(mrs!($ctl), 1, "CTL armed");
        timer::wait(micros(300));
        check_eq!(gic::count(), 0, "interrupts of a timer at the end of time");
        let due = now() + micros(300);
        msr!($cval, due);
        expect("moved nearer", $id, due);
        check_eq!(mrs!($cval), due, "CVAL read back");
        trap::irqs_off();
    };
}

fn virtual_timer() {
    exercise!(VIRTUAL, "cntv_ctl_el0", "cntv_cval_el0", "cntv_tval_el0");
}

fn physical_timer() {
    exercise!(PHYSICAL, "cntp_ctl_el0", "cntp_cval_el0", "cntp_tval_el0");
}

/// Both armed: they fire in the order of time.
fn order() {
    gic::forget();
    trap::irqs_on();
    let start = now();
    let (early, late) = (start + micros(3000), start + micros(6000));
    msr!("cntv_cval_el0", late);
    msr!("cntp_cval_el0", early);
    msr!("cntv_ctl_el0", 1);
    msr!("cntp_ctl_el0", 1);
    check!(until(5000, || gic::count() == 2), "{} of two interrupts", gic::count());
    // On a machine that stood still for a while both are due at once, and the lower number comes first.
    if gic::entry(0).1 < late {
        check_eq!(gic::entry(0).0, PHYSICAL, "first");
        check_eq!(gic::entry(1).0, VIRTUAL, "second");
    } else {
        check_eq!(gic::entry(0).0 + gic::entry(1).0, PHYSICAL + VIRTUAL, "both");
    }
    trap::irqs_off();
}

/// The line is a level: it goes away with its cause, and comes back while the cause lasts.
fn masked_level() {
    gic::forget();
    msr!("cntv_cval_el0", 0);
    msr!("cntv_ctl_el0", 1);
    check!(until(1000, || gic::pending(VIRTUAL)), "not pending");
    msr!("cntv_ctl_el0", 0);
    check!(until(1000, || !gic::pending(VIRTUAL)), "pending without its cause");
    msr!("cntv_ctl_el0", 1);
    for round in 0..3 {
        gic::quirks::show_timer();
        let mut id = gic::SPURIOUS;
        until(1000, || {
            id = gic::ack();
            id != gic::SPURIOUS
        });
        check_eq!(id, VIRTUAL, "round {round} with the line high");
        gic::end(id);
    }
    timer::stop();
    timer::wait(micros(200));
    // A read of the controller's registers is where a hypervisor notices, at the latest.
    let gone = until(1000, || !gic::pending(VIRTUAL) && gic::highest_pending() == gic::SPURIOUS);
    check!(gone, "still pending at the end");
}
