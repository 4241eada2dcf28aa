//! Priorities: order, masks, preemption in depth, the binary point, running priority, what is spurious.
#![no_std]
#![no_main]

use guests::gic::{self, SPURIOUS, cpuif, highest_pending, idle, taken};
use guests::timer::{self, VIRTUAL, micros, now, until};
use guests::{check, check_eq, op, trap};

guests::guest!("gic-priority", main);

const SPI: u32 = 40;

fn main() {
    gic::init();
    for id in (0..16).chain(SPI..SPI + 8) {
        gic::enable(id);
    }
    order();
    mask();
    spurious();
    in_depth();
    nested();
    binary_point();
    changed_while_pending();
    asleep();
}

/// Among the pending, the priority decides, whatever the kind and the order of arrival; equals in any order.
fn order() {
    for (id, priority) in [(SPI, 0x80), (3, 0x40), (SPI + 1, 0x20), (4, 0xe0), (SPI + 2, 0x60)] {
        gic::priority(id, priority);
        check_eq!(gic::priority_of(id), priority, "priority of {id}");
        gic::pend(id);
    }
    trap::on_irq(gic::record);
    trap::irqs_on();
    taken("by priority", &[SPI + 1, 3, SPI + 2, SPI, 4]);
    trap::irqs_off();
    // The same when they come in between: the most urgent last.
    for (id, priority) in [(4, 0xe0), (SPI, 0x80), (3, 0x40), (SPI + 1, 0x20)] {
        gic::pend(id);
        check!(until(1000, || highest_pending() == id), "{id} of priority {priority:#x} is not first");
    }
    gic::unpend(SPI + 1);
    check!(until(1000, || highest_pending() == 3), "after the first was taken back");
    trap::irqs_on();
    taken("what is left", &[3, SPI, 4]);
    trap::irqs_off();
    for id in (0..16).chain(SPI..SPI + 8) {
        gic::priority(id, gic::USUAL);
    }
}

/// Only what is more urgent than the mask is signalled; zero masks all.
fn mask() {
    trap::irqs_on();
    gic::priority(5, 0x80);
    gic::priority(6, 0x88);
    for (pmr, first, second) in [(0x80, false, false), (0x88, true, false), (0x90, true, true)] {
        cpuif::set_pmr(pmr);
        check_eq!(cpuif::pmr(), pmr, "priority mask");
        gic::pend(5);
        gic::pend(6);
        match (first, second) {
            (false, _) => taken("both masked", &[]),
            (true, false) => taken("the less urgent one masked", &[5]),
            (true, true) => taken("none masked", &[5, 6]),
        }
        gic::unpend(5);
        gic::unpend(6);
    }
    cpuif::set_pmr(0);
    gic::priority(5, 0);
    gic::pend(5);
    taken("mask of zero", &[]);
    check_eq!(gic::id(gic::ack()), SPURIOUS, "acknowledge with a mask of zero");
    cpuif::set_pmr(0xff);
    taken("mask lifted", &[5]);
    trap::irqs_off();
    gic::priority(5, gic::USUAL);
    gic::priority(6, gic::USUAL);
}

/// Whatever may not be signalled is not acknowledged either, and nothing changes by trying.
fn spurious() {
    check_eq!(gic::id(gic::ack()), SPURIOUS, "acknowledge of nothing");
    check_eq!(highest_pending(), SPURIOUS, "first of nothing");
    gic::end(SPURIOUS);
    check!(idle(cpuif::rpr()), "running priority {:#x} after the end of nothing", cpuif::rpr());
    cpuif::set_pmr(0xa0);
    gic::pend(SPI);
    timer::wait(micros(100));
    check_eq!(gic::id(gic::ack()), SPURIOUS, "acknowledge below the mask");
    check!(gic::pending(SPI), "a spurious acknowledge took the interrupt");
    cpuif::set_pmr(0xff);
    gic::disable(SPI);
    check_eq!(gic::id(gic::ack()), SPURIOUS, "acknowledge of a disabled one");
    gic::enable(SPI);
    cpuif::enable_group(gic::usual_group(), false);
    check_eq!(gic::id(gic::ack()), SPURIOUS, "acknowledge with the group off");
    cpuif::enable_group(gic::usual_group(), true);
    let first = gic::await_ack(SPI);
    // Active, and another of the same priority pending: it is first, yet it may not come in.
    gic::pend(SPI + 1);
    gic::priority(SPI + 1, gic::USUAL);
    check!(until(1000, || highest_pending() == SPI + 1), "first while another is active");
    check_eq!(gic::id(gic::ack()), SPURIOUS, "acknowledge at the running priority");
    gic::end(first);
    let second = gic::await_ack(SPI + 1);
    gic::end(second);
    check_eq!(gic::id(gic::ack()), SPURIOUS, "acknowledge at the end");
}

/// Eight levels of acknowledges, each more urgent, and back: the running priority follows.
fn in_depth() {
    let mut taken = [0u32; 8];
    for n in 0..8u32 {
        let (id, priority) = (SPI + n, 0xf0 - 0x10 * n);
        gic::priority(id, priority as u8);
        gic::pend(id);
        taken[n as usize] = gic::await_ack(id);
        check_eq!(cpuif::rpr(), priority, "running priority at depth {n}");
        check!(gic::active(id) && !gic::pending(id), "state of {id} when acknowledged");
        // Less urgent and equal ones wait.
        gic::priority(1, priority as u8);
        gic::pend(1);
        timer::wait(micros(20));
        check_eq!(gic::id(gic::ack()), SPURIOUS, "an equal one at depth {n}");
        gic::unpend(1);
    }
    for n in (0..8u32).rev() {
        gic::end(taken[n as usize]);
        check!(!gic::active(SPI + n), "{} is active after its end", SPI + n);
        let outer = if n == 0 { cpuif::rpr() } else { 0xf0 - 0x10 * (n - 1) };
        check_eq!(cpuif::rpr(), outer, "running priority on the way back at depth {n}");
    }
    check!(idle(cpuif::rpr()), "running priority {:#x} at the end", cpuif::rpr());
    for id in SPI..SPI + 8 {
        gic::priority(id, gic::USUAL);
    }
    gic::priority(1, gic::USUAL);
}

/// Of the interrupts from 8 on, each sends a less urgent and a more urgent one.
fn on_nested(_: &mut trap::Frame) {
    let acknowledged = gic::ack();
    let id = gic::id(acknowledged);
    if id == SPURIOUS {
        return;
    }
    gic::note(acknowledged);
    if (8..12).contains(&id) {
        if id < 11 {
            gic::pend(id - 8);
            gic::pend(id + 1);
            // ELR and SPSR are in the frame, so the more urgent one may come here.
            trap::irqs_on();
            until(1000, || gic::count() > (id - 7) as usize);
            trap::irqs_off();
        }
        gic::note(100 + id);
    }
    gic::end(acknowledged);
}

fn nested() {
    for id in 8..12u32 {
        gic::priority(id, (0xc0 - 0x20 * (id - 8)) as u8);
    }
    for id in 0..3u32 {
        gic::priority(id, (0xd0 + 8 * id) as u8);
    }
    trap::on_irq(on_nested);
    gic::pend(8);
    trap::irqs_on();
    taken("nested handlers", &[8, 9, 10, 11, 111, 110, 109, 108, 0, 1, 2]);
    trap::irqs_off();
}

/// The binary point takes bits from what preempts; they still order what is pending.
fn binary_point() {
    let group = gic::usual_group();
    let least = cpuif::bpr(group);
    trap::irqs_off();
    for (point, low, high, preempts) in
        [(least, 0x90u8, 0x80u8, true), (4, 0x90, 0x80, false), (4, 0xa0, 0x80, true), (7, 0xf0, 0x00, false)]
    {
        // What group 1 of GICv3 calls n, group 0 calls n - 1.
        let written = if group == 1 && point != least && point < 7 { point + 1 } else { point };
        cpuif::set_bpr(group, written);
        check_eq!(cpuif::bpr(group), written, "binary point");
        // 7 leaves group 0 no bit, and group 1 one: its highest.
        let high = if written == 7 && group == 1 { 0x80 } else { high };
        gic::priority(SPI, low);
        gic::priority(SPI + 1, high);
        gic::priority(SPI + 2, low);
        gic::pend(SPI);
        let outer = gic::await_ack(SPI);
        gic::pend(SPI + 2);
        gic::pend(SPI + 1);
        check!(until(1000, || highest_pending() == SPI + 1), "point {written}: not first");
        let inner = gic::ack();
        check_eq!(
            gic::id(inner),
            if preempts { SPI + 1 } else { SPURIOUS },
            "point {written}: {high:#x} over {low:#x}"
        );
        if preempts {
            gic::end(inner);
        }
        gic::end(outer);
        if !preempts {
            let acknowledged = gic::await_ack(SPI + 1);
            gic::end(acknowledged);
        }
        let acknowledged = gic::await_ack(SPI + 2);
        gic::end(acknowledged);
        check!(idle(cpuif::rpr()), "point {written}: running priority {:#x} at the end", cpuif::rpr());
    }
    cpuif::set_bpr(group, 0);
    check_eq!(cpuif::bpr(group), least, "the least binary point");
}

/// A priority that changes counts from then on, for what is pending too.
fn changed_while_pending() {
    gic::priority(SPI, 0x80);
    gic::priority(SPI + 1, 0x90);
    gic::pend(SPI);
    gic::pend(SPI + 1);
    check!(until(1000, || highest_pending() == SPI), "the more urgent one is not first");
    gic::priority(SPI + 1, 0x70);
    check!(until(1000, || highest_pending() == SPI + 1), "a new priority does not count");
    for id in [SPI + 1, SPI] {
        let acknowledged = gic::await_ack(id);
        gic::end(acknowledged);
    }
    gic::priority(SPI, gic::USUAL);
    gic::priority(SPI + 1, gic::USUAL);
}

/// WFI stays for what is masked in the controller, and ends for what is masked by PSTATE alone.
fn asleep() {
    gic::enable(VIRTUAL);
    gic::priority(VIRTUAL, 0x20);
    for what in ["masked", "disabled", "switched off by its group"] {
        let other = SPI + 5;
        match what {
            "masked" => cpuif::set_pmr(0x80),
            "disabled" => gic::disable(other),
            // Both groups are in use only here, and only where there are groups.
            _ if gic::quirks::has_groups() => gic::group(other, 1 - gic::usual_group()),
            _ => continue,
        }
        gic::pend(other);
        let due = now() + micros(20_000);
        timer::arm(due);
        let mut naps = 0u32;
        while highest_pending() != VIRTUAL && naps < 10_000_000 {
            op!("wfi");
            naps += 1;
        }
        check!(now() >= due, "{what}: woken before the timer");
        // A wake-up without cause is allowed now and then; one that never sleeps turns round far more often.
        check!(naps < 2000, "{what}: {naps} wake-ups");
        let acknowledged = gic::await_ack(VIRTUAL);
        timer::stop();
        gic::end(acknowledged);
        cpuif::set_pmr(0xff);
        gic::unpend(other);
        gic::group(other, gic::usual_group());
        gic::enable(other);
    }
    gic::pend(SPI + 5);
    check!(until(1000, || highest_pending() == SPI + 5), "a lost one");
    op!("wfi");
    let acknowledged = gic::await_ack(SPI + 5);
    gic::end(acknowledged);
    check_eq!(gic::count(), 0, "interrupts taken while PSTATE masks them");
}
