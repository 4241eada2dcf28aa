//! EOImode 0 and 1: what an end does alone, what it leaves to a deactivation, and in which order they may come.
#![no_std]
#![no_main]

use guests::gic::{self, SPURIOUS, cpuif, highest_pending, reg};
use guests::timer::{self, VIRTUAL, micros, until, wait};
use guests::{check, check_eq, trap};

guests::guest!("gic-eoimode", main);

const SPI: u32 = 40;
/// A PPI that no device of `virt` uses.
const PPI: u32 = 21;

fn main() {
    gic::init();
    for id in (0..16).chain([PPI, VIRTUAL]).chain(SPI..SPI + 8) {
        gic::enable(id);
    }
    check!(!cpuif::eoi_is_split(), "EOImode is 1 after it was set to 0");
    cpuif::split_eoi(true);
    check!(cpuif::eoi_is_split(), "EOImode is 0 after it was set to 1");
    for id in [2, PPI, SPI] {
        one(id);
    }
    nested();
    any_order();
    level();
    software();
    in_handlers();
    cpuif::split_eoi(false);
    check!(!cpuif::eoi_is_split(), "EOImode is 1 at the end");
    together();
}

fn signalled(id: u32) -> bool {
    gic::quirks::show_timer();
    until(1000, || highest_pending() == id)
}

fn quiet(what: &str) {
    wait(micros(50));
    check_eq!(highest_pending(), SPURIOUS, "{what}");
}

/// The end drops the priority: others come, this one does not until it is deactivated.
fn one(id: u32) {
    gic::pend(id);
    let first = gic::await_ack(id);
    check_eq!(cpuif::rpr(), u32::from(gic::USUAL), "running priority");
    gic::end(first);
    check!(gic::idle(cpuif::rpr()), "running priority {:#x} after the end", cpuif::rpr());
    check!(gic::active(id), "{id} is not active between end and deactivation");
    gic::pend(id);
    quiet("signalled between end and deactivation");
    check_eq!(gic::id(gic::ack()), SPURIOUS, "acknowledged between end and deactivation");
    // One of the same priority, and a less urgent one, do come.
    for other in [SPI + 1, SPI + 2] {
        gic::priority(SPI + 2, 0xe0);
        gic::pend(other);
        check!(signalled(other), "{other} is held up by {id}, whose priority is dropped");
        let acknowledged = gic::await_ack(other);
        gic::end(acknowledged);
        gic::deactivate(acknowledged);
        check!(!gic::active(other), "{other} is active after its deactivation");
    }
    gic::deactivate(first);
    check!(!gic::active(id) && gic::pending(id), "{id} after its deactivation");
    check!(signalled(id), "{id} is lost by its deactivation");
    let second = gic::await_ack(id);
    gic::end(second);
    gic::deactivate(second);
    check!(!gic::active(id) && !gic::pending(id), "{id} is not idle");
    quiet("at the end");
}

/// Priorities are dropped from the innermost out; deactivations may come in any order, after all of them.
fn nested() {
    let mut taken = [0u32; 6];
    for n in 0..6u32 {
        gic::priority(SPI + n, (0xe0 - 0x20 * n) as u8);
        gic::pend(SPI + n);
        taken[n as usize] = gic::await_ack(SPI + n);
        check_eq!(cpuif::rpr(), 0xe0 - 0x20 * n, "running priority at depth {n}");
    }
    for n in (0..6u32).rev() {
        gic::end(taken[n as usize]);
        check!(n == 0 || cpuif::rpr() == 0x100 - 0x20 * n, "running priority back at depth {n}");
        check!(gic::active(SPI + n), "{} is not active after its end", SPI + n);
    }
    check!(gic::idle(cpuif::rpr()), "running priority {:#x} after six ends", cpuif::rpr());
    for n in [3, 0, 5, 1, 4, 2] {
        check!(gic::active(SPI + n), "{} is not active before its deactivation", SPI + n);
        gic::deactivate(taken[n as usize]);
        check!(!gic::active(SPI + n), "{} is active after its deactivation", SPI + n);
    }
    for n in 0..6 {
        gic::priority(SPI + n, gic::USUAL);
    }
    quiet("after six deactivations");
}

/// Eight that are ended and not deactivated, more than there are list registers, are pended again: each comes
/// when it is deactivated, and no other.
fn any_order() {
    let mut taken = [0u32; 8];
    for n in 0..8u32 {
        gic::pend(SPI + n);
        taken[n as usize] = gic::await_ack(SPI + n);
        gic::end(taken[n as usize]);
    }
    for n in 0..8u32 {
        check!(gic::active(SPI + n), "{} of eight is not active", SPI + n);
        gic::pend(SPI + n);
    }
    quiet("eight pending ones that are active");
    for n in [5, 2, 7, 0, 6, 1, 4, 3] {
        gic::deactivate(taken[n as usize]);
        check!(signalled(SPI + n), "{} is not signalled after its deactivation", SPI + n);
        let again = gic::await_ack(SPI + n);
        gic::end(again);
        quiet("another of the eight came");
        gic::deactivate(again);
    }
    for n in 0..8 {
        check!(!gic::active(SPI + n) && !gic::pending(SPI + n), "{} is not idle", SPI + n);
    }
}

/// A line that stays high comes again at the deactivation, not at the end.
fn level() {
    timer::arm(0);
    for round in 0..3 {
        let acknowledged = gic::await_ack(VIRTUAL);
        gic::end(acknowledged);
        quiet("a level between end and deactivation");
        check!(
            gic::active(VIRTUAL) && gic::pending(VIRTUAL),
            "round {round}: state of the timer's interrupt"
        );
        gic::deactivate(acknowledged);
        check!(signalled(VIRTUAL), "round {round}: the level does not come again");
    }
    let acknowledged = gic::await_ack(VIRTUAL);
    gic::end(acknowledged);
    timer::stop();
    gic::deactivate(acknowledged);
    wait(micros(50));
    check!(until(1000, || highest_pending() == SPURIOUS), "a level that fell");
}

/// What software made active, a deactivation ends; and software can do what a deactivation does.
fn software() {
    for id in [PPI, SPI] {
        gic::set(reg::ISACTIVE, id);
        gic::pend(id);
        quiet("made active by software");
        gic::deactivate(id);
        check!(!gic::active(id), "{id} is active after a deactivation");
        check!(signalled(id), "{id} does not come after a deactivation");
        let acknowledged = gic::await_ack(id);
        gic::end(acknowledged);
        gic::pend(id);
        quiet("before software deactivates");
        gic::set(reg::ICACTIVE, id);
        check!(signalled(id), "{id} does not come after ICACTIVER");
        let acknowledged = gic::await_ack(id);
        gic::end(acknowledged);
        gic::deactivate(acknowledged);
        quiet("idle");
    }
    // The end of nothing, and of what is not there.
    gic::end(SPURIOUS);
    gic::deactivate(SPURIOUS);
    check!(gic::idle(cpuif::rpr()), "running priority {:#x}", cpuif::rpr());
}

/// The first handler of SPI ends without deactivation; the second interrupt deactivates both.
fn handler(_: &mut trap::Frame) {
    let acknowledged = gic::ack();
    let id = gic::id(acknowledged);
    if id == SPURIOUS {
        return;
    }
    gic::note(acknowledged);
    gic::end(acknowledged);
    if id == SPI {
        gic::pend(SPI);
        return;
    }
    gic::deactivate(acknowledged);
    if id == SPI + 1 {
        gic::deactivate(SPI);
    }
}

fn in_handlers() {
    trap::on_irq(handler);
    trap::irqs_on();
    gic::pend(SPI);
    gic::taken("pended again by its handler", &[SPI]);
    gic::pend(3);
    gic::taken("another", &[3]);
    gic::pend(SPI + 1);
    gic::taken("deactivated by another's handler", &[SPI + 1, SPI]);
    gic::unpend(SPI);
    gic::deactivate(SPI);
    trap::irqs_off();
    quiet("after the handlers");
    check!(!gic::active(SPI) && !gic::pending(SPI), "{SPI} is not idle");
}

/// EOImode 0: one write does both.
fn together() {
    for id in [2, PPI, SPI] {
        gic::pend(id);
        let acknowledged = gic::await_ack(id);
        gic::end(acknowledged);
        check!(!gic::active(id), "{id} is active after its end in EOImode 0");
        check!(gic::idle(cpuif::rpr()), "running priority {:#x} in EOImode 0", cpuif::rpr());
        gic::pend(id);
        check!(signalled(id), "{id} does not come a second time");
        let acknowledged = gic::await_ack(id);
        gic::end(acknowledged);
    }
    // Ended in EOImode 1, deactivated by software after the mode was changed back.
    cpuif::split_eoi(true);
    gic::pend(SPI);
    let acknowledged = gic::await_ack(SPI);
    gic::end(acknowledged);
    cpuif::split_eoi(false);
    check!(gic::active(SPI), "the mode's change deactivated it");
    gic::set(reg::ICACTIVE, SPI);
    check!(!gic::active(SPI), "it cannot be deactivated after the mode's change");
}
