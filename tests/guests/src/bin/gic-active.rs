//! Pending and active states set and cleared by software, on idle interrupts and in the middle of a handler.
#![no_std]
#![no_main]

use guests::gic::{self, SPURIOUS, cpuif, highest_pending, reg, taken};
use guests::mmio::{read32, write32};
use guests::timer::{micros, until, wait};
use guests::{check, check_eq, trap};

guests::guest!("gic-active", main);

const SPI: u32 = 40;
/// A PPI that no device of `virt` uses.
const PPI: u32 = 21;
const SGI: u32 = 5;

fn main() {
    gic::init();
    for id in [SGI, PPI, SPI, SPI + 1, SPI + 2] {
        gic::enable(id);
    }
    // Edge, so that a level of a line cannot interfere.
    gic::edge(SPI, true);
    gic::edge(SPI + 1, true);
    for id in [PPI, SPI] {
        pending_bits(id);
        active_bits(id);
        in_a_handler(id);
    }
    if !gic::v2() {
        pending_bits(SGI);
    }
    active_bits(SGI);
    in_a_handler(SGI);
    no_priority();
    off_and_on();
    words();
}

fn signalled(id: u32) -> bool {
    until(1000, || highest_pending() == id)
}

fn quiet(what: &str) {
    wait(micros(50));
    check_eq!(highest_pending(), SPURIOUS, "{what}");
}

fn finish(id: u32) {
    let acknowledged = gic::await_ack(id);
    gic::end(acknowledged);
    check!(!gic::pending(id) && !gic::active(id), "{id} is not idle after its end");
}

fn pending_bits(id: u32) {
    check!(!gic::pending(id) && !gic::active(id), "{id} is not idle at first");
    gic::set(reg::ISPEND, id);
    check!(gic::pending(id) && gic::bit(reg::ICPEND, id), "pending bits of {id}");
    check!(!gic::active(id), "{id} is active when it is made pending");
    check!(signalled(id), "{id} is not signalled");
    gic::set(reg::ICPEND, id);
    check!(!gic::pending(id) && !gic::bit(reg::ICPEND, id), "pending bits of {id} after ICPENDR");
    quiet("signalled after ICPENDR");
    // Twice is once.
    gic::set(reg::ISPEND, id);
    gic::set(reg::ISPEND, id);
    finish(id);
    quiet("pended twice, comes twice");
    // A clear of what is not pending, and a set of what is, change nothing.
    gic::set(reg::ICPEND, id);
    check!(!gic::pending(id) && !gic::active(id), "{id} after a clear of nothing");
}

fn active_bits(id: u32) {
    gic::set(reg::ISACTIVE, id);
    check!(gic::active(id) && gic::bit(reg::ICACTIVE, id), "active bits of {id}");
    check!(!gic::pending(id), "{id} is pending when it is made active");
    check!(gic::idle(cpuif::rpr()), "running priority {:#x} by ISACTIVER", cpuif::rpr());
    gic::pend(id);
    check!(gic::pending(id) && gic::active(id), "active and pending: {id}");
    quiet("signalled while made active");
    check_eq!(gic::id(gic::ack()), SPURIOUS, "acknowledged while made active");
    gic::set(reg::ICACTIVE, id);
    check!(!gic::active(id) && gic::pending(id), "{id} after ICACTIVER");
    check!(signalled(id), "{id} is not signalled after ICACTIVER");
    finish(id);
    // Made active, pended and taken back: nothing is left.
    gic::set(reg::ISACTIVE, id);
    gic::pend(id);
    gic::unpend(id);
    gic::set(reg::ICACTIVE, id);
    check!(!gic::active(id) && !gic::pending(id), "{id} is not idle");
    quiet("signalled after all was taken back");
}

fn in_a_handler(id: u32) {
    gic::pend(id);
    let acknowledged = gic::await_ack(id);
    check!(gic::active(id) && !gic::pending(id), "state of {id} in its handler");
    // Pended again: it waits for the end.
    gic::pend(id);
    check!(gic::active(id) && gic::pending(id), "{id}, pended in its handler");
    quiet("signalled in its own handler");
    gic::end(acknowledged);
    check!(!gic::active(id), "{id} is active after its end");
    finish(id);
    // Pended in the handler and taken back.
    gic::pend(id);
    let acknowledged = gic::await_ack(id);
    gic::pend(id);
    gic::unpend(id);
    check!(gic::active(id) && !gic::pending(id), "{id}, taken back in its handler");
    gic::end(acknowledged);
    quiet("signalled though it was taken back");
    // Deactivated by software in the handler: the running priority stays until the end.
    gic::pend(id);
    let acknowledged = gic::await_ack(id);
    gic::set(reg::ICACTIVE, id);
    check!(!gic::active(id), "{id} is active after ICACTIVER in its handler");
    check_eq!(cpuif::rpr(), u32::from(gic::USUAL), "running priority after ICACTIVER");
    gic::end(acknowledged);
    check!(gic::idle(cpuif::rpr()), "running priority {:#x} after the end", cpuif::rpr());
    check!(!gic::active(id) && !gic::pending(id), "{id} is not idle at the end");
    quiet("signalled at the end");
}

/// An interrupt that software made active holds up nobody but itself.
fn no_priority() {
    gic::priority(SPI, 0x10);
    gic::set(reg::ISACTIVE, SPI);
    for id in [SGI, PPI, SPI + 1] {
        gic::pend(id);
        check!(signalled(id), "{id} is held up by one that software made active");
        finish(id);
    }
    check!(gic::active(SPI), "it is not active any more");
    gic::set(reg::ICACTIVE, SPI);
    gic::priority(SPI, gic::USUAL);
}

/// Disabled while pending it stays pending; disabled while active it ends as ever.
fn off_and_on() {
    trap::on_irq(gic::record);
    trap::irqs_on();
    for id in [PPI, SPI] {
        gic::disable(id);
        check!(!gic::bit(reg::ISENABLE, id) && !gic::bit(reg::ICENABLE, id), "enable bits of {id}, off");
        gic::pend(id);
        check!(gic::pending(id), "a disabled one does not become pending");
        taken("disabled", &[]);
        gic::set(reg::ISENABLE, id);
        check!(gic::bit(reg::ISENABLE, id) && gic::bit(reg::ICENABLE, id), "enable bits of {id}, on");
        taken("enabled", &[id]);
        trap::irqs_off();
        gic::pend(id);
        check!(signalled(id), "{id} is not signalled");
        gic::disable(id);
        quiet("signalled after it was disabled");
        gic::set(reg::ISENABLE, id);
        let acknowledged = gic::await_ack(id);
        gic::disable(id);
        gic::pend(id);
        gic::end(acknowledged);
        check!(!gic::active(id) && gic::pending(id), "{id} when it ends disabled");
        quiet("signalled while disabled");
        gic::set(reg::ISENABLE, id);
        finish(id);
        trap::irqs_on();
    }
    // With the distributor off nothing comes, and nothing is lost.
    gic::distributor(false);
    gic::pend(SPI);
    gic::pend(PPI);
    taken("distributor off", &[]);
    check!(gic::pending(SPI) && gic::pending(PPI), "lost while the distributor is off");
    gic::priority(PPI, 0x80);
    trap::irqs_off();
    gic::distributor(true);
    check!(signalled(PPI), "not signalled after the distributor came on");
    trap::irqs_on();
    taken("distributor on", &[PPI, SPI]);
    trap::irqs_off();
    gic::priority(PPI, gic::USUAL);
}

/// A word of zeros changes nothing, a word with several bits changes those.
fn words() {
    let three = 0b111 << (SPI % 32);
    for (set, clear) in
        [(reg::ISENABLE, reg::ICENABLE), (reg::ISPEND, reg::ICPEND), (reg::ISACTIVE, reg::ICACTIVE)]
    {
        let (set, clear) = (gic::word(set, SPI), gic::word(clear, SPI));
        write32(clear, !0);
        gic::sync(SPI);
        check_eq!(read32(set), 0, "after a clear of the word at {clear:#x}");
        write32(set, three);
        write32(set, 0);
        write32(clear, 0);
        gic::sync(SPI);
        check_eq!(read32(set), three, "set by a word at {set:#x}");
        check_eq!(read32(clear), three, "the other register's view at {clear:#x}");
        write32(clear, 0b010 << (SPI % 32));
        gic::sync(SPI);
        check_eq!(read32(set), 0b101 << (SPI % 32), "one cleared by a word at {clear:#x}");
        write32(clear, three);
        gic::sync(SPI);
        check_eq!(read32(set), 0, "all cleared by a word at {clear:#x}");
    }
    quiet("signalled after all that");
}
