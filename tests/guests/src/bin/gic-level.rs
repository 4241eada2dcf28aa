//! Levels and edges: lines that stay high, software's pending bit beside them, interrupts configured as edges.
#![no_std]
#![no_main]

use guests::gic::{self, SPURIOUS, highest_pending, quirks, reg, taken};
use guests::mmio::{read32, write32};
use guests::timer::{self, VIRTUAL, micros, now, until, wait};
use guests::{check, check_eq, msr, trap, uart};

guests::guest!("gic-level", main);

/// PL031, an alarm clock whose line software moves: a match in the past raises it, ICR lowers it.
const RTC: usize = 0x0901_0000;
const RTC_DR: usize = RTC;
const RTC_MR: usize = RTC + 0x04;
const RTC_IMSC: usize = RTC + 0x10;
const RTC_RIS: usize = RTC + 0x14;
const RTC_ICR: usize = RTC + 0x1c;
const RTC_SPI: u32 = 34;
/// PL011's transmit interrupt.
const TX: u32 = 1 << 5;

fn main() {
    gic::init();
    for id in [VIRTUAL, RTC_SPI, uart::INTID] {
        gic::enable(id);
    }
    timer_line();
    software_beside_the_timer();
    masked_timer_wait();
    transmitter();
    clock_line();
    clock_edge();
}

fn signalled(id: u32) -> bool {
    quirks::show_timer();
    until(1000, || highest_pending() == id)
}

/// Nothing is signalled; a read of the controller is where a hypervisor notices that a line fell, at the latest.
fn quiet(what: &str) {
    wait(micros(50));
    let gone = until(1000, || {
        let pending = read32(gic::word(reg::ISPEND, VIRTUAL)) | read32(gic::word(reg::ISPEND, RTC_SPI));
        pending != !0 && highest_pending() == SPURIOUS
    });
    check!(gone, "{what}: {} is signalled", highest_pending());
}

/// The line is high as long as the condition holds: each end brings the interrupt again.
fn timer_line() {
    timer::arm(0);
    for round in 0..5 {
        check!(signalled(VIRTUAL), "round {round}: not signalled while the line is high");
        check!(gic::pending(VIRTUAL), "round {round}: not pending while the line is high");
        let acknowledged = gic::await_ack(VIRTUAL);
        check!(gic::active(VIRTUAL), "round {round}: not active");
        // The level is still there: active and pending.
        check!(gic::pending(VIRTUAL), "round {round}: the line's level does not show while active");
        check_eq!(gic::id(gic::ack()), SPURIOUS, "round {round}: acknowledged while active");
        gic::end(acknowledged);
    }
    // The condition ends before the interrupt is taken, in the handler, and after it.
    timer::stop();
    quiet("the line fell before the acknowledge");
    check!(!gic::pending(VIRTUAL), "pending without its line");
    timer::arm(0);
    let acknowledged = gic::await_ack(VIRTUAL);
    timer::stop();
    until(1000, || !gic::pending(VIRTUAL));
    check!(gic::active(VIRTUAL) && !gic::pending(VIRTUAL), "the line fell in the handler");
    gic::end(acknowledged);
    quiet("the line fell in the handler");
    timer::arm(0);
    let acknowledged = gic::await_ack(VIRTUAL);
    gic::end(acknowledged);
    timer::stop();
    quiet("the line fell after the end");
    // It fell and rose again in the handler.
    timer::arm(0);
    let acknowledged = gic::await_ack(VIRTUAL);
    timer::stop();
    timer::arm(0);
    gic::end(acknowledged);
    check!(signalled(VIRTUAL), "not signalled though the line rose again");
    timer::stop();
    quiet("the line fell at last");
    check!(!gic::pending(VIRTUAL) && !gic::active(VIRTUAL), "not idle at the end");
}

/// Software's pending bit holds beside the line, and cannot take the line's level away.
fn software_beside_the_timer() {
    timer::arm(0);
    check!(signalled(VIRTUAL), "not signalled");
    gic::unpend(VIRTUAL);
    check!(until(1000, || gic::pending(VIRTUAL)), "ICPENDR took the line's level away");
    check!(signalled(VIRTUAL), "not signalled after ICPENDR while the line is high");
    gic::pend(VIRTUAL);
    timer::stop();
    // The line is low, but ISPENDR latched.
    check!(signalled(VIRTUAL), "software's pending bit went with the line");
    let acknowledged = gic::await_ack(VIRTUAL);
    check!(!gic::pending(VIRTUAL), "software's pending bit is there after the acknowledge");
    gic::end(acknowledged);
    quiet("software's pending bit came twice");
    // Without any line, on an idle one.
    gic::pend(VIRTUAL);
    check!(signalled(VIRTUAL), "not signalled by software alone");
    gic::unpend(VIRTUAL);
    quiet("taken back by software");
    // Made active by software while the line is high.
    gic::set(reg::ISACTIVE, VIRTUAL);
    timer::arm(0);
    wait(micros(50));
    check_eq!(highest_pending(), SPURIOUS, "signalled while software holds it active");
    gic::set(reg::ICACTIVE, VIRTUAL);
    check!(signalled(VIRTUAL), "not signalled after ICACTIVER while the line is high");
    // Taken, and deactivated by software while the line is high: it comes when the priority is dropped.
    let acknowledged = gic::await_ack(VIRTUAL);
    gic::set(reg::ICACTIVE, VIRTUAL);
    check_eq!(gic::id(gic::ack()), SPURIOUS, "acknowledged at its own running priority");
    gic::end(acknowledged);
    check!(signalled(VIRTUAL), "not signalled again after the end");
    timer::stop();
    quiet("at the end");
}

/// Disabled while its line is high: pending, not signalled; it is there when it is enabled.
fn masked_timer_wait() {
    gic::disable(VIRTUAL);
    timer::arm(now() + micros(500));
    check!(until(2000, || gic::pending(VIRTUAL)), "a disabled one does not become pending");
    check_eq!(highest_pending(), SPURIOUS, "a disabled one is signalled");
    gic::set(reg::ISENABLE, VIRTUAL);
    check!(signalled(VIRTUAL), "not signalled when it is enabled");
    gic::disable(VIRTUAL);
    timer::stop();
    gic::set(reg::ISENABLE, VIRTUAL);
    quiet("the line fell while it was disabled");
    // Taken by handlers: one for each time that the condition holds, however soon.
    trap::on_irq(gic::record);
    trap::irqs_on();
    for _ in 0..20 {
        msr!("cntv_cval_el0", 0);
        msr!("cntv_ctl_el0", 1);
        taken("timer", &[VIRTUAL]);
    }
    trap::irqs_off();
}

/// The UART's transmit interrupt: on while it is unmasked and not cleared.
fn transmitter() {
    uart::write(uart::reg::IMSC, 0);
    uart::write(uart::reg::ICR, 0x7ff);
    uart::put(b'.');
    uart::put(b'\n');
    check!(until(2000, || uart::read(uart::reg::RIS) & TX != 0), "RIS has no transmit interrupt");
    quiet("masked in the UART");
    uart::write(uart::reg::IMSC, TX);
    for round in 0..3 {
        check!(signalled(uart::INTID), "round {round}: not signalled");
        let acknowledged = gic::await_ack(uart::INTID);
        gic::end(acknowledged);
    }
    uart::write(uart::reg::ICR, TX);
    quiet("cleared in the UART");
    check!(!gic::pending(uart::INTID), "pending after it was cleared in the UART");
    uart::write(uart::reg::IMSC, 0);
}

fn ring() {
    write32(RTC_MR, read32(RTC_DR));
    check!(until(5000, || read32(RTC_RIS) == 1), "the alarm does not go off");
}

fn hush() {
    write32(RTC_ICR, 1);
    check_eq!(read32(RTC_RIS), 0, "RTCRIS after RTCICR");
}

/// An SPI that is a level.
fn clock_line() {
    hush();
    write32(RTC_IMSC, 1);
    ring();
    for round in 0..3 {
        check!(signalled(RTC_SPI), "round {round}: not signalled while the line is high");
        let acknowledged = gic::await_ack(RTC_SPI);
        check!(gic::pending(RTC_SPI), "round {round}: the level does not show while active");
        gic::end(acknowledged);
    }
    gic::unpend(RTC_SPI);
    check!(signalled(RTC_SPI), "ICPENDR took the level of an SPI away");
    let acknowledged = gic::await_ack(RTC_SPI);
    hush();
    gic::end(acknowledged);
    quiet("cleared in the handler");
    // Masked at the device the line falls too.
    ring();
    check!(signalled(RTC_SPI), "not signalled the second time");
    write32(RTC_IMSC, 0);
    quiet("masked at the device");
    write32(RTC_IMSC, 1);
    check!(signalled(RTC_SPI), "not signalled when unmasked at the device");
    hush();
    quiet("at the end");
}

/// The same SPI as an edge: once for each rise, however long the line stays high.
fn clock_edge() {
    gic::disable(RTC_SPI);
    gic::edge(RTC_SPI, true);
    let config = gic::frame(RTC_SPI) + reg::CONFIG + 8;
    check_eq!(read32(config) >> (RTC_SPI % 16 * 2) & 2, 2, "configured as an edge");
    gic::unpend(RTC_SPI);
    gic::enable(RTC_SPI);
    quiet("an edge before the line rose");
    ring();
    let acknowledged = gic::await_ack(RTC_SPI);
    check!(!gic::pending(RTC_SPI), "an edge is pending after it was acknowledged");
    gic::end(acknowledged);
    quiet("an edge came twice while the line stayed high");
    hush();
    quiet("a falling edge");
    // It rises again in the handler: that is kept.
    ring();
    let acknowledged = gic::await_ack(RTC_SPI);
    hush();
    ring();
    check!(gic::active(RTC_SPI) && gic::pending(RTC_SPI), "an edge in the handler is lost");
    hush();
    check!(gic::pending(RTC_SPI), "an edge's pending state fell with the line");
    gic::end(acknowledged);
    let acknowledged = gic::await_ack(RTC_SPI);
    gic::end(acknowledged);
    // ICPENDR does take an edge back, line high or not.
    ring();
    check!(signalled(RTC_SPI), "the third edge");
    gic::unpend(RTC_SPI);
    quiet("an edge taken back");
    check!(!gic::pending(RTC_SPI), "pending after an edge was taken back");
    hush();
    write32(RTC_IMSC, 0);
    gic::disable(RTC_SPI);
    gic::edge(RTC_SPI, false);
}
