//! Groups 0 and 1: which signal each is, who acknowledges which, enables, binary points, preemption across.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use guests::gic::{self, OTHER_GROUP, SPURIOUS, cpuif, quirks, reg};
use guests::timer::{micros, until, wait};
use guests::{check, check_eq, mrs, msr, println, trap};

guests::guest!("gic-groups", main);

const SPI: u32 = 40;
/// SPIs of group 0 and group 1.
const ZERO: u32 = SPI;
const ONE: u32 = SPI + 1;

fn main() {
    gic::init();
    for id in (0..4).chain(SPI..SPI + 4) {
        gic::enable(id);
    }
    if !quirks::has_groups() {
        println!("gic-groups: the distributor has none");
        return;
    }
    group_bits();
    for id in SPI..SPI + 4 {
        gic::group(id, (id - SPI) & 1);
    }
    cpuif::enable_group(0, true);
    cpuif::enable_group(1, true);
    signals();
    acknowledge();
    enables();
    across();
    binary_points();
    sgis();
}

/// Group bits are read and written, of SPIs and of this CPU's own interrupts, and leave others alone.
fn group_bits() {
    for id in [1, 21, SPI, SPI + 3] {
        let other = gic::bit(reg::GROUP, id + 1);
        for group in [0, 1, 0] {
            gic::group(id, group);
            check_eq!(u32::from(gic::bit(reg::GROUP, id)), group, "group of {id}");
            check!(gic::bit(reg::GROUP, id + 1) == other, "{} changed with {id}", id + 1);
        }
        gic::group(id, gic::usual_group());
    }
}

/// What came as IRQ and as FIQ since it was last looked at.
static IRQS: AtomicU32 = AtomicU32::new(0);
static FIQS: AtomicU32 = AtomicU32::new(0);

/// The register that acknowledges a group: with AckCtl, GICv2 has one for both.
fn ack(group: u32) -> u32 {
    cpuif::iar(if gic::v2() { 0 } else { group })
}

fn end(group: u32, acknowledged: u32) {
    cpuif::eoir(if gic::v2() { 0 } else { group }, acknowledged);
}

fn on_irq(_: &mut trap::Frame) {
    // With GICv2 either group may be it.
    let acknowledged = ack(1);
    let id = gic::id(acknowledged);
    if id < 1020 {
        IRQS.store(IRQS.load(Relaxed) + (1 << (id % 32)), Relaxed);
        end(1, acknowledged);
    }
}

fn on_fiq(_: &mut trap::Frame) {
    let acknowledged = ack(0);
    let id = gic::id(acknowledged);
    if id < 1020 {
        FIQS.store(FIQS.load(Relaxed) + (1 << (id % 32)), Relaxed);
        end(0, acknowledged);
    }
}

/// Pends an interrupt of each group; what came as IRQ and as FIQ.
fn both() -> (u32, u32) {
    IRQS.store(0, Relaxed);
    FIQS.store(0, Relaxed);
    trap::irqs_on();
    trap::fiqs_on();
    gic::pend(ONE);
    gic::pend(ZERO);
    until(500, || (IRQS.load(Relaxed) | FIQS.load(Relaxed)).count_ones() == 2);
    wait(micros(50));
    trap::fiqs_off();
    trap::irqs_off();
    (IRQS.load(Relaxed), FIQS.load(Relaxed))
}

/// GICv3's group 0 is FIQ, its group 1 IRQ; with GICv2 both are IRQ, unless FIQEn makes group 0 FIQ.
fn signals() {
    let (zero, one) = (1 << (ZERO % 32), 1 << (ONE % 32));
    trap::on_irq(on_irq);
    trap::on_fiq(on_fiq);
    if gic::v2() {
        cpuif::ack_control(true);
        check_eq!(both().0, zero | one, "IRQs of both groups");
        cpuif::fiq(true);
    }
    check_eq!(both().0, one, "IRQs of group 1");
    check_eq!(both().1, zero, "FIQs of group 0");
    // PSTATE.F alone holds back group 0.
    FIQS.store(0, Relaxed);
    trap::irqs_on();
    gic::pend(ZERO);
    wait(micros(100));
    check_eq!(FIQS.load(Relaxed), 0, "FIQs while PSTATE masks them");
    trap::fiqs_on();
    check!(until(1000, || FIQS.load(Relaxed) == zero), "no FIQ after it was unmasked");
    trap::fiqs_off();
    trap::irqs_off();
    if gic::v2() {
        cpuif::fiq(false);
        cpuif::ack_control(false);
    }
}

/// Waits until an interrupt is pending.
fn pend(id: u32) {
    gic::pend(id);
    check!(until(1000, || gic::pending(id)), "{id} is not pending");
}

/// Each group's registers show their own group; what they say when the first is of the other.
fn acknowledge() {
    pend(ONE);
    if gic::v2() {
        check_eq!(cpuif::hppir(0), OTHER_GROUP, "GICC_HPPIR with group 1 pending");
        check_eq!(cpuif::iar(0), OTHER_GROUP, "GICC_IAR with group 1 pending");
        check!(gic::pending(ONE) && !gic::active(ONE), "1022 took the interrupt");
        cpuif::ack_control(true);
        check_eq!(cpuif::hppir(0), ONE, "GICC_HPPIR with AckCtl");
        check_eq!(cpuif::iar(0), ONE, "GICC_IAR with AckCtl");
        check!(gic::active(ONE), "not active after GICC_IAR with AckCtl");
        cpuif::eoir(0, ONE);
        check!(!gic::active(ONE), "active after GICC_EOIR with AckCtl");
        cpuif::ack_control(false);
    } else {
        check_eq!(cpuif::hppir(0), SPURIOUS, "ICC_HPPIR0_EL1 with group 1 pending");
        check_eq!(cpuif::iar(0), SPURIOUS, "ICC_IAR0_EL1 with group 1 pending");
    }
    if quirks::qemu_cpu_interface() {
        println!("gic-groups: QEMU's CPU interface has no aliased registers");
        return;
    }
    if gic::v2() {
        pend(ONE);
    }
    check_eq!(cpuif::hppir(1), ONE, "group 1's first");
    check_eq!(cpuif::iar(1), ONE, "group 1's acknowledge");
    check!(gic::active(ONE), "not active after group 1's acknowledge");
    check_eq!(cpuif::iar(1), SPURIOUS, "group 1's acknowledge with nothing left");
    cpuif::eoir(1, ONE);
    check!(!gic::active(ONE) && gic::idle(cpuif::rpr()), "after group 1's end");
    pend(ZERO);
    check_eq!(cpuif::hppir(1), SPURIOUS, "group 1's first with group 0 pending");
    check_eq!(cpuif::iar(1), SPURIOUS, "group 1's acknowledge with group 0 pending");
    check!(gic::pending(ZERO), "group 1's acknowledge took group 0's interrupt");
    check_eq!(cpuif::hppir(0), ZERO, "group 0's first");
    check_eq!(cpuif::iar(0), ZERO, "group 0's acknowledge");
    cpuif::eoir(0, ZERO);
    check!(!gic::active(ZERO) && gic::idle(cpuif::rpr()), "after group 0's end");
    check_eq!(cpuif::iar(0), SPURIOUS, "group 0's acknowledge with nothing left");
}

/// Off at the CPU interface or at the distributor, a group waits and the other comes.
fn enables() {
    if gic::v2() {
        cpuif::ack_control(true);
    }
    for (group, id, other) in [(0, ZERO, ONE), (1, ONE, ZERO)] {
        for at in ["CPU interface", "distributor"] {
            let on = |on: bool| {
                if at == "distributor" {
                    distributor(group, on);
                } else {
                    cpuif::enable_group(group, on);
                }
            };
            on(false);
            pend(other);
            check!(until(1000, || ack_is(1 - group, other)), "group {group} off at the {at}: the other's");
            end(1 - group, other);
            pend(id);
            wait(micros(50));
            check_eq!(mrs!("isr_el1") & 0xc0, 0, "group {group} off at the {at}: signalled");
            if !quirks::qemu_cpu_interface() {
                check_eq!(ack(group), SPURIOUS, "group {group} off at the {at}: its own acknowledge");
            }
            check!(gic::pending(id), "group {group} off at the {at}: lost");
            on(true);
            check!(until(1000, || ack_is(group, id)), "group {group} on at the {at}");
            end(group, id);
        }
    }
    if gic::v2() {
        cpuif::ack_control(false);
    }
}

fn ack_is(group: u32, id: u32) -> bool {
    ack(group) == id
}

/// The distributor's enable of one group.
fn distributor(group: u32, on: bool) {
    use guests::mmio::{read32, write32};
    let control = read32(gic::gicd()) & 0x13 & !(1 << group);
    write32(gic::gicd(), control | u32::from(on) << group);
    gic::sync(32);
    check_eq!(read32(gic::gicd()) >> group & 1, u32::from(on), "GICD_CTLR.EnableGrp{group}");
}

/// Each group preempts the other by priority, and the ends come in order.
fn across() {
    if gic::v2() {
        cpuif::ack_control(true);
    }
    for (outer, inner) in [(0, 1), (1, 0)] {
        let (a, b) = (ZERO + outer, ZERO + inner);
        gic::priority(a, 0xc0);
        gic::priority(b, 0x40);
        pend(a);
        check!(until(1000, || ack_is(outer, a)), "the outer one, of group {outer}");
        check_eq!(cpuif::rpr(), 0xc0, "running priority, outer");
        pend(b);
        check!(until(1000, || ack_is(inner, b)), "the inner one, of group {inner}");
        check_eq!(cpuif::rpr(), 0x40, "running priority, inner");
        // Less urgent than the inner one, of either group: neither comes.
        gic::priority(SPI + 2 + outer, 0x80);
        pend(SPI + 2 + outer);
        wait(micros(50));
        check!(ack(outer) >= 1020, "one of group {outer} within the inner one");
        gic::unpend(SPI + 2 + outer);
        end(inner, b);
        check_eq!(cpuif::rpr(), 0xc0, "running priority after the inner end");
        end(outer, a);
        check!(gic::idle(cpuif::rpr()), "running priority after the outer end");
        check!(!gic::active(a) && !gic::active(b), "active after both ends");
    }
    for id in SPI..SPI + 4 {
        gic::priority(id, gic::USUAL);
    }
    if gic::v2() {
        cpuif::ack_control(false);
    }
}

/// Each group has a binary point, group 1's least is one more; with CBPR group 1 takes group 0's.
fn binary_points() {
    cpuif::set_bpr(0, 0);
    cpuif::set_bpr(1, 0);
    let (zero, one) = (cpuif::bpr(0), cpuif::bpr(1));
    check!(one > zero || quirks::qemu_cpu_interface(), "least binary points {zero} and {one}");
    cpuif::set_bpr(0, 5);
    cpuif::set_bpr(1, 6);
    check_eq!(cpuif::bpr(0), 5, "group 0's binary point");
    check_eq!(cpuif::bpr(1), 6, "group 1's binary point");
    cpuif::set_bpr(1, 7);
    check_eq!(cpuif::bpr(0), 5, "group 0's binary point after group 1's");
    cpuif::set_bpr(1, 0);
    if gic::v2() {
        cpuif::ack_control(true);
    }
    // 0x80 and 0xa0 differ in bit 5: group 0's point of 5 does not see it, group 1's least does.
    for (common, id, group, preempts) in
        [(false, ZERO, 0, false), (false, ONE, 1, true), (true, ONE, 1, false), (true, ZERO, 0, false)]
    {
        cpuif::common_bpr(common);
        gic::priority(id, 0xa0);
        gic::priority(id + 2, 0x80);
        pend(id);
        check!(until(1000, || ack_is(group, id)), "first of group {group}");
        pend(id + 2);
        wait(micros(50));
        let inner = ack(group);
        check_eq!(u32::from(inner < 1020), u32::from(preempts), "preemption in group {group}, CBPR {common}");
        if preempts {
            end(group, inner);
        }
        end(group, id);
        if !preempts {
            check!(until(1000, || ack_is(group, id + 2)), "second of group {group}");
            end(group, id + 2);
        }
    }
    cpuif::common_bpr(false);
    cpuif::set_bpr(0, 0);
    if gic::v2() {
        cpuif::ack_control(false);
    }
    for id in SPI..SPI + 4 {
        gic::priority(id, gic::USUAL);
    }
}

/// SGIs: GICv3 has a register for each group. Group 0's reaches group 0 alone; group 1's reaches group 1, and
/// with one security state group 0 as well on some controllers (not on QEMU's). GICv2 has one for both.
fn sgis() {
    gic::group(1, 0);
    gic::group(2, 1);
    if gic::v2() {
        cpuif::ack_control(true);
        for id in [1, 2] {
            gic::send_to(id, gic::Targets::Own);
            check!(until(1000, || ack_is(0, id)), "SGI {id}");
            end(0, id);
        }
        cpuif::ack_control(false);
        return;
    }
    let own = 1 << (mrs!("mpidr_el1") & 0xf);
    for (id, group) in [(1u64, 0), (2, 1)] {
        let value = id << 24 | own;
        for sent in [0, 1] {
            if sent == 0 {
                msr!("icc_sgi0r_el1", value);
            } else {
                msr!("icc_sgi1r_el1", value);
            }
            wait(micros(50));
            let pending = gic::pending(id as u32);
            check!(
                sent > group || pending == (sent == group),
                "SGI {id} of group {group}, sent for {sent}: pending is {pending}"
            );
            gic::unpend(id as u32);
        }
        if group == 0 {
            msr!("icc_sgi0r_el1", value);
        } else {
            msr!("icc_sgi1r_el1", value);
        }
        check!(until(1000, || ack_is(group, id as u32)), "SGI {id} of group {group}");
        end(group, id as u32);
    }
}
