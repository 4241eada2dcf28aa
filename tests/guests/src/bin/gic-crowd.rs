//! More at once than any hardware holds: pending, nested and ended ones, each once and in order.
#![no_std]
#![no_main]

use guests::gic::{self, SPURIOUS, cpuif, highest_pending};
use guests::timer::{self, VIRTUAL, micros, until, wait};
use guests::{check, check_eq, trap};

guests::guest!("gic-crowd", main);

/// SPIs that nobody else uses.
const SPI: u32 = 36;
const SPIS: u32 = 28;
/// All together: SGIs, the timer, SPIs.
const ALL: usize = 16 + 1 + SPIS as usize;

fn everyone() -> impl Iterator<Item = u32> {
    (0..16).chain([VIRTUAL]).chain(SPI..SPI + SPIS)
}

/// Priorities that mix the kinds: 32 levels, in steps of eight, so that five bits tell them apart.
fn mixed(id: u32) -> u8 {
    (id.wrapping_mul(13) % 31 * 8) as u8
}

fn main() {
    gic::init();
    for id in everyone() {
        gic::enable(id);
    }
    for round in 0..3 {
        at_once(round);
    }
    trickle();
    urgent_last();
    deep();
    ended();
    repeated();
}

/// Everything becomes pending while nothing may come; then all come, each once, by priority.
fn at_once(round: u32) {
    for id in everyone() {
        gic::priority(id, mixed(id + round));
    }
    // From both ends, so that the order of arrival is not that of the numbers.
    for n in 0..SPIS {
        gic::pend(if n % 2 == 0 { SPI + n } else { SPI + SPIS - n });
        if n < 16 {
            gic::pend(15 - n);
        }
    }
    timer::arm(0);
    trap::on_irq(gic::record);
    trap::irqs_on();
    until(5000, || gic::count() >= ALL);
    wait(micros(200));
    trap::irqs_off();
    check_eq!(gic::count(), ALL, "round {round}: interrupts taken");
    let (mut last, mut seen) = (0, 0u128);
    for n in 0..gic::count() {
        let id = gic::entry(n).0;
        let priority = mixed(id + round);
        check!(priority >= last, "round {round}: {id} of priority {priority:#x} after {last:#x}");
        last = priority;
        check!(seen >> (id % 128) & 1 == 0, "round {round}: {id} twice");
        seen |= 1 << (id % 128);
    }
    for id in everyone() {
        check!(seen >> (id % 128) & 1 != 0, "round {round}: {id} is lost");
        check!(!gic::pending(id) && !gic::active(id), "round {round}: {id} is not idle");
    }
    gic::forget();
    check_eq!(highest_pending(), SPURIOUS, "round {round}: left over");
}

/// All pending, taken by hand; after each end the controller must show the most urgent of the rest.
fn trickle() {
    for id in SPI..SPI + SPIS {
        gic::priority(id, mixed(id));
        gic::pend(id);
    }
    let mut left = ((1u64 << SPIS) - 1) << (SPI - 32);
    for _ in 0..SPIS {
        let best = (SPI..SPI + SPIS).filter(|id| left >> (id - 32) & 1 != 0).map(mixed).min().unwrap_or(0);
        let first = gic::highest_pending();
        check_eq!(mixed(first), best, "priority of the first of the rest ({first})");
        let acknowledged = gic::ack();
        let id = gic::id(acknowledged);
        check_eq!(mixed(id), best, "priority of what is acknowledged ({id})");
        check_eq!(cpuif::rpr(), u32::from(best), "running priority");
        check!(left >> (id.wrapping_sub(32) & 63) & 1 != 0, "{id} again");
        left &= !(1 << (id.wrapping_sub(32) & 63));
        gic::end(acknowledged);
    }
    check_eq!(gic::id(gic::ack()), SPURIOUS, "one more");
}

/// With all slots taken by the less urgent, the last to arrive is the first to come; and the masks reach the rest.
fn urgent_last() {
    for id in SPI..SPI + 12 {
        gic::priority(id, 0xc0);
        gic::pend(id);
    }
    gic::priority(SPI + 20, 0x40);
    gic::pend(SPI + 20);
    check!(until(1000, || highest_pending() == SPI + 20), "the urgent one is not first");
    let inner = gic::await_ack(SPI + 20);
    gic::pend(SPI + 20);
    gic::end(inner);
    check!(until(1000, || highest_pending() == SPI + 20), "the urgent one is not first the second time");
    gic::disable(SPI + 20);
    let next = gic::ack();
    check_eq!(mixed_range(next), 1, "what is acknowledged once the first is disabled");
    gic::pend(gic::id(next));
    gic::set(gic::reg::ISENABLE, SPI + 20);
    let inner = gic::await_ack(SPI + 20);
    check_eq!(cpuif::rpr(), 0x40, "running priority of the urgent one");
    gic::end(inner);
    check_eq!(cpuif::rpr(), 0xc0, "running priority of the one that it interrupted");
    gic::end(next);
    let mut taken = 0;
    while taken < 100 {
        let acknowledged = gic::ack();
        if gic::id(acknowledged) == SPURIOUS {
            break;
        }
        taken += 1;
        gic::end(acknowledged);
    }
    check_eq!(taken, 12, "the rest");
}

/// One if the interrupt is of the twelve.
fn mixed_range(acknowledged: u32) -> u32 {
    u32::from((SPI..SPI + 12).contains(&gic::id(acknowledged)))
}

/// Fourteen handlers deep, with more pending at every level; then out again.
fn deep() {
    const DEPTH: u32 = 14;
    let mut taken = [0u32; DEPTH as usize];
    for n in 0..DEPTH {
        let priority = 0xe8 - 0x10 * n;
        // Less urgent ones that stay pending through it all.
        gic::priority(n, 0xf0);
        gic::pend(n);
        gic::priority(SPI + n, priority as u8);
        gic::pend(SPI + n);
        taken[n as usize] = gic::await_ack(SPI + n);
        check_eq!(cpuif::rpr(), priority, "running priority at depth {n}");
    }
    for n in 0..DEPTH {
        check!(gic::active(SPI + n), "{} is not active in the depth", SPI + n);
        check!(gic::pending(n), "{n} is not pending in the depth");
    }
    for n in (0..DEPTH).rev() {
        gic::end(taken[n as usize]);
        check!(!gic::active(SPI + n), "{} is active after its end", SPI + n);
        check!(n == 0 || cpuif::rpr() == 0xf8 - 0x10 * n, "running priority on the way out at depth {n}");
        check!(n == 0 || gic::active(SPI + n - 1), "{} is not active any more", SPI + n - 1);
        if n > 0 {
            check_eq!(gic::id(gic::ack()), SPURIOUS, "a less urgent one at depth {n}");
        }
    }
    trap::irqs_on();
    until(2000, || gic::count() >= DEPTH as usize);
    wait(micros(100));
    trap::irqs_off();
    check_eq!(gic::count(), DEPTH as usize, "the less urgent ones");
    gic::forget();
}

/// EOImode 1: twenty are active and ended, with their priorities dropped, and twenty more are pending; those
/// come by priority, and then the twenty are deactivated in an order of its own.
fn ended() {
    const MANY: u32 = 20;
    cpuif::split_eoi(true);
    let mut taken = [0u32; MANY as usize];
    for n in 0..MANY {
        gic::priority(SPI + n, gic::USUAL);
        gic::pend(SPI + n);
        taken[n as usize] = gic::await_ack(SPI + n);
        gic::end(taken[n as usize]);
    }
    for id in 0..16 {
        gic::priority(id, mixed(id));
        gic::pend(id);
    }
    let mut last = 0;
    for _ in 0..16 {
        let acknowledged = gic::ack();
        let id = gic::id(acknowledged);
        check!(id < 16 && mixed(id) >= last, "{id} among twenty active ones");
        last = mixed(id);
        gic::end(acknowledged);
        gic::deactivate(acknowledged);
    }
    check_eq!(gic::id(gic::ack()), SPURIOUS, "a seventeenth");
    for n in 0..MANY {
        check!(gic::active(SPI + n), "{} of twenty is not active", SPI + n);
    }
    for n in 0..MANY {
        let n = n * 7 % MANY;
        gic::deactivate(taken[n as usize]);
        check!(!gic::active(SPI + n), "{} of twenty is active after its deactivation", SPI + n);
        gic::pend(SPI + n);
        let acknowledged = gic::await_ack(SPI + n);
        gic::end(acknowledged);
        gic::deactivate(acknowledged);
    }
    for n in 0..MANY {
        check!(!gic::active(SPI + n) && !gic::pending(SPI + n), "{} of twenty is not idle", SPI + n);
    }
    cpuif::split_eoi(false);
}

/// How often the handler below pends everything again.
static LEFT: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);

/// Pends itself again, in its own handler, until it has come four times.
fn again(_: &mut trap::Frame) {
    use core::sync::atomic::Ordering::Relaxed;
    let acknowledged = gic::ack();
    if gic::id(acknowledged) == SPURIOUS {
        return;
    }
    gic::note(acknowledged);
    let left = LEFT.load(Relaxed);
    if left > 0 {
        LEFT.store(left - 1, Relaxed);
        gic::pend(gic::id(acknowledged));
    }
    gic::end(acknowledged);
}

/// Twenty that pend themselves again in their handlers: a hundred interrupts, none lost.
fn repeated() {
    LEFT.store(80, core::sync::atomic::Ordering::Relaxed);
    trap::on_irq(again);
    for id in SPI..SPI + 20 {
        gic::priority(id, mixed(id));
        gic::pend(id);
    }
    trap::irqs_on();
    until(5000, || gic::count() >= 100);
    wait(micros(200));
    trap::irqs_off();
    check_eq!(gic::count(), 100, "interrupts that pend themselves again");
    for id in SPI..SPI + 20 {
        check!(!gic::pending(id) && !gic::active(id), "{id} is not idle at the end");
    }
    gic::forget();
}
