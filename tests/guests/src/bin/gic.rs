//! The interrupt controller's rules: priorities, preemption, masks, more pending than list registers.
#![no_std]
#![no_main]

use guests::gic::{self, SPURIOUS, cpuif, reg, taken};
use guests::mmio::{read32, write32};
use guests::timer::{micros, until, wait};
use guests::{check, check_eq, mrs, op, trap};

guests::guest!("gic", main);

const SPI: u32 = 40;

fn main() {
    identity();
    gic::init();
    for id in 0..16 {
        gic::enable(id);
    }
    for id in SPI..SPI + 20 {
        gic::enable(id);
    }
    delivery();
    masks();
    preemption();
    many();
    eoi_modes();
    state_bits();
    widths();
}

fn identity() {
    let pidr2 = if gic::v2() { reg::PIDR2_V2 } else { reg::PIDR2_V3 };
    check_eq!(read32(gic::gicd() + pidr2) >> 4 & 0xf, if gic::v2() { 2 } else { 3 }, "GICD_PIDR2.ArchRev");
    check!(read32(gic::gicd() + reg::TYPER) & 0x1f >= 1, "GICD_TYPER.ITLinesNumber");
    if gic::v2() {
        return;
    }
    check_eq!(read32(gic::gicr() + pidr2) >> 4 & 0xf, 3, "GICR_PIDR2.ArchRev");
    check_eq!(mrs!("icc_sre_el1") & 1, 1, "ICC_SRE_EL1.SRE");
    check!(mrs!("icc_ctlr_el1") >> 11 & 7 <= 1, "ICC_CTLR_EL1.IDbits");
    let mut at = gic::gicr();
    for _ in 1..guests::fdt::cpus() {
        check_eq!(read32(at + 8) & 0x10, 0, "GICR_TYPER.Last of a middle one");
        at += gic::GICR_STRIDE;
    }
    check_eq!(read32(at + 8) & 0x10, 0x10, "GICR_TYPER.Last");
}

fn delivery() {
    trap::on_irq(gic::record);
    trap::irqs_on();
    taken("nothing sent", &[]);
    gic::send(3, 1);
    taken("SGI to self", &[3]);
    gic::send(3, 2);
    taken("SGI to CPU 1 alone", &[]);
    gic::pend(SPI);
    taken("SPI by ISPENDR", &[SPI]);
    gic::pend(5);
    taken("SGI by its pending bit", &[5]);
    trap::irqs_off();
    gic::send(4, 1);
    gic::send(4, 1);
    gic::send(4, 1);
    trap::irqs_on();
    taken("one SGI three times", &[4]);
    trap::irqs_off();
}

fn masks() {
    trap::irqs_on();
    if gic::sgis_switch() {
        gic::disable(6);
        gic::send(6, 1);
        taken("disabled", &[]);
        gic::set(reg::ISENABLE, 6);
        taken("enabled again", &[6]);
    }
    gic::disable(SPI);
    gic::pend(SPI);
    taken("disabled SPI", &[]);
    gic::unpend(SPI);
    gic::set(reg::ISENABLE, SPI);
    taken("cleared before it was enabled", &[]);
    // Priority mask: equal is masked.
    cpuif::set_pmr(0xa0);
    gic::send(6, 1);
    taken("at the mask", &[]);
    cpuif::set_pmr(0xb0);
    taken("above the mask", &[6]);
    cpuif::set_pmr(0xff);
    cpuif::enable_group(gic::usual_group(), false);
    gic::send(6, 1);
    taken("group off at the CPU", &[]);
    cpuif::enable_group(gic::usual_group(), true);
    taken("group on at the CPU", &[6]);
    gic::distributor(false);
    gic::send(6, 1);
    gic::pend(SPI + 1);
    taken("distributor off", &[]);
    gic::distributor(true);
    until(1000, || gic::count() == 2);
    check_eq!(gic::count(), 2, "interrupts after the distributor came on");
    gic::forget();
    trap::irqs_off();
}

fn nesting(_: &mut trap::Frame) {
    let id = gic::ack();
    if id == SPURIOUS {
        return;
    }
    gic::note(id);
    if id == 8 {
        // ELR and SPSR are in the frame, so another interrupt may come here.
        check_eq!(cpuif::rpr(), 0x80, "running priority");
        gic::send(9, 1); // same: waits
        gic::send(10, 1); // more urgent: comes in
        gic::send(11, 1); // less urgent: waits
        trap::irqs_on();
        op!("isb");
        until(1000, || gic::count() >= 2);
        wait(micros(100));
        trap::irqs_off();
        gic::note(108);
    }
    gic::end(id);
}

fn preemption() {
    trap::on_irq(nesting);
    for (id, priority) in [(8, 0x80), (9, 0x80), (10, 0x40), (11, 0xc0)] {
        gic::priority(id, priority);
    }
    trap::irqs_on();
    gic::send(8, 1);
    taken("preemption", &[8, 10, 108, 9, 11]);
    trap::irqs_off();
    check!(gic::idle(cpuif::rpr()), "idle running priority {:#x}", cpuif::rpr());
    // Priorities decide among the pending, whatever their order of arrival.
    for (n, priority) in [0x90u8, 0x30, 0xe0, 0x60].into_iter().enumerate() {
        gic::priority(n as u32, priority);
        gic::send(n as u32, 1);
    }
    trap::on_irq(gic::record);
    check_eq!(gic::highest_pending(), 1, "highest pending");
    trap::irqs_on();
    taken("by priority", &[1, 3, 0, 2]);
    trap::irqs_off();
}

/// 16 SGIs and 20 SPIs at once: each is taken exactly once, in the order of priority.
fn many() {
    for id in 0..16 {
        gic::priority(id, 0xe0 - 8 * id as u8);
    }
    for id in SPI..SPI + 20 {
        gic::priority(id, 0x10 + 8 * (id - SPI) as u8);
    }
    for id in (0..16).chain(SPI..SPI + 20) {
        gic::pend(id);
    }
    trap::irqs_on();
    until(3000, || gic::count() >= 36);
    wait(micros(200));
    trap::irqs_off();
    check_eq!(gic::count(), 36, "interrupts taken of 36");
    let (mut last, mut seen) = (0, 0u64);
    for n in 0..gic::count() {
        let id = gic::entry(n).0;
        let priority = if id < 16 { 0xe0 - 8 * id } else { 0x10 + 8 * (id - SPI) };
        check!(priority >= last, "interrupt {id} of priority {priority:#x} after {last:#x}");
        last = priority;
        check!(seen >> id & 1 == 0, "interrupt {id} twice");
        seen |= 1 << id;
    }
    gic::forget();
    for id in (0..16).chain(SPI..SPI + 20) {
        gic::priority(id, 0xa0);
    }
}

fn eoi_modes() {
    trap::on_irq(gic::record);
    // EOImode 1: EOIR drops the priority, DIR deactivates; in between the interrupt is active, so it may be
    // pended again but is not signalled, while others are.
    cpuif::split_eoi(true);
    for id in [2, SPI] {
        gic::pend(id);
        check!(until(1000, || gic::highest_pending() == id), "{id} is not signalled");
        check_eq!(gic::ack(), id, "acknowledged");
        check_eq!(gic::ack(), SPURIOUS, "acknowledged again");
        gic::end(id);
        check!(gic::idle(cpuif::rpr()), "running priority {:#x} after EOIR", cpuif::rpr());
        check!(gic::active(id), "{id} is not active after EOIR");
        gic::pend(id);
        wait(micros(100));
        check_eq!(gic::highest_pending(), SPURIOUS, "signalled while active");
        gic::pend(7);
        check!(until(1000, || gic::highest_pending() == 7), "another one is held up");
        check_eq!(gic::ack(), 7, "another");
        gic::end(7);
        gic::deactivate(7);
        gic::deactivate(id);
        check!(until(1000, || gic::highest_pending() == id), "pending one is lost by DIR");
        check_eq!(gic::ack(), id, "second time");
        gic::end(id);
        gic::deactivate(id);
        check!(!gic::active(id), "{id} is active after DIR");
        check_eq!(gic::highest_pending(), SPURIOUS, "left over");
    }
    cpuif::split_eoi(false);
}

fn state_bits() {
    let id = SPI + 3;
    gic::pend(id);
    check!(gic::pending(id) && gic::bit(reg::ICPEND, id), "pending bit of {id}");
    gic::unpend(id);
    check!(!gic::pending(id), "pending bit of {id} after ICPENDR");
    check_eq!(gic::highest_pending(), SPURIOUS, "after ICPENDR");
    gic::set(reg::ISACTIVE, id);
    check!(gic::active(id), "active bit of {id}");
    gic::pend(id);
    wait(micros(100));
    check_eq!(gic::highest_pending(), SPURIOUS, "an interrupt made active is signalled");
    gic::set(reg::ICACTIVE, id);
    check!(until(1000, || gic::highest_pending() == id), "not signalled after ICACTIVER");
    check_eq!(gic::ack(), id, "acknowledged");
    check!(gic::active(id) && !gic::pending(id), "state of {id} in its handler");
    gic::end(id);
    check!(!gic::active(id), "active bit after EOIR");
    // Enable bits: zero has no effect.
    gic::disable(id);
    check!(!gic::bit(reg::ISENABLE, id), "enabled after ICENABLER");
    write32(gic::gicd() + reg::ISENABLE + 4, 0);
    write32(gic::gicd() + reg::ICENABLE + 4, 0);
    check!(!gic::bit(reg::ISENABLE, id) && gic::bit(reg::ISENABLE, id + 1), "zero written to enables");
}

fn widths() {
    use guests::mmio::{read8, read64, write8, write64};
    let at = gic::gicd() + reg::PRIORITY + 64;
    write32(at, 0x8040_2010);
    check_eq!(read32(at), 0x8040_2010, "four priorities");
    write8(at + 1, 0xf0);
    check_eq!(read32(at), 0x8040_f010, "one priority among four");
    check_eq!(read8(at + 2), 0x40, "one priority");
    let config = gic::gicd() + reg::CONFIG + 8 + 4;
    write32(config, 0xaaaa_aaaa);
    check_eq!(read32(config), 0xaaaa_aaaa, "edge triggered");
    write32(config, 0);
    check_eq!(read32(config), 0, "level triggered");
    if gic::v2() {
        return;
    }
    let router = gic::gicd() + reg::ROUTER + 64 * 8;
    write64(router, 0);
    check_eq!(read64(router), 0, "GICD_IROUTER");
    check_eq!(
        read64(gic::gicr() + 8),
        u64::from(read32(gic::gicr() + 8)) | u64::from(read32(gic::gicr() + 12)) << 32,
        "GICR_TYPER in halves"
    );
}
