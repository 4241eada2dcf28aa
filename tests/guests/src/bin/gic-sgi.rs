//! SGIs in all forms; with more CPUs, several sources at one target at once.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering::SeqCst};
use guests::gic::{self, SPURIOUS, Targets, highest_pending, reg, taken};
use guests::mmio::{read8, read32, write8, write32};
use guests::timer::{micros, until, wait};
use guests::{check, check_eq, fdt, mmu, mrs, msr, op, println, smp, trap};

guests::guest!("gic-sgi", main);

fn main() {
    gic::init();
    for id in 0..16 {
        gic::enable(id);
    }
    to_self();
    to_nobody();
    pending_registers();
    let cpus = fdt::cpus().min(CPUS);
    if cpus > 1 {
        mmu::build();
        mmu::on();
        several(cpus);
    }
    println!("gic-sgi: {cpus} CPU");
}

/// By list, by "this one alone", with the bits that one security state ignores; each of the sixteen.
fn to_self() {
    trap::on_irq(gic::record);
    trap::irqs_on();
    for id in 0..16 {
        gic::send_to(id, Targets::List(gic::own()));
        taken("by list", &[id]);
        check_eq!(gic::source_of(0), 0, "source of {id}");
        gic::send_to(id, Targets::Own);
        taken("to this one", &[id]);
    }
    if gic::v2() {
        // NSATT says for which group an SGI is, where there are two security states; reserved bits beside it.
        write32(gic::gicd() + reg::SGIR, 1 << 15 | 2 << 24 | 7);
        taken("NSATT", &[7]);
        write32(gic::gicd() + reg::SGIR, 0xfc00_7ff0 | 2 << 24 | 7);
        taken("reserved bits", &[7]);
        // A target list beside a filter counts for nothing.
        write32(gic::gicd() + reg::SGIR, 0xfe << 16 | 2 << 24 | 8);
        taken("a list beside a filter", &[8]);
    }
    trap::irqs_off();
    // Several times is once, while it waits.
    for _ in 0..5 {
        gic::send_to(3, Targets::Own);
    }
    trap::irqs_on();
    taken("five times", &[3]);
    trap::irqs_off();
    // While it is active, one more waits for its end.
    gic::send_to(3, Targets::Own);
    let acknowledged = gic::await_ack(3);
    gic::send_to(3, Targets::Own);
    check!(gic::pending(3) && gic::active(3), "an SGI sent in its own handler");
    wait(micros(50));
    check_eq!(gic::id(gic::ack()), SPURIOUS, "an SGI in its own handler");
    gic::end(acknowledged);
    let acknowledged = gic::await_ack(3);
    gic::end(acknowledged);
    check_eq!(highest_pending(), SPURIOUS, "left over");
}

/// To all others when there are none on, to CPUs that are not there, to an empty list.
fn to_nobody() {
    trap::irqs_on();
    gic::send_to(4, Targets::Others);
    taken("to all others", &[]);
    gic::send_to(4, Targets::List(0));
    taken("to an empty list", &[]);
    if gic::v2() {
        gic::send_to(4, Targets::List(0x80));
        taken("to CPU 7", &[]);
    } else {
        gic::send_to(4, Targets::List(0x8000));
        taken("to CPU 15", &[]);
        // Other clusters by each affinity level, and a range of sixteen that is not there, where ranges are.
        let ranges = mrs!("icc_ctlr_el1") >> 18 & 1;
        for elsewhere in [7u64 << 16, 7 << 32, 7 << 48, if ranges == 0 { 7 << 16 } else { 1 << 44 }] {
            msr!("icc_sgi1r_el1", elsewhere | 4 << 24 | 1);
            taken("to another cluster", &[]);
        }
    }
    trap::irqs_off();
    check!(!gic::pending(4), "pending though it was for nobody");
}

/// Pending SGIs are seen and changed by ISPENDR and ICPENDR with GICv3, by registers with sources with GICv2.
fn pending_registers() {
    let id = 5;
    if !gic::v2() {
        gic::send_to(id, Targets::Own);
        check!(gic::pending(id), "GICR_ISPENDR0 does not show an SGI");
        gic::unpend(id);
        check!(!gic::pending(id), "GICR_ICPENDR0 does not clear an SGI");
        gic::pend(id);
        let acknowledged = gic::await_ack(id);
        gic::end(acknowledged);
        return;
    }
    let (set, clear) = (gic::gicd() + reg::SPENDSGI, gic::gicd() + reg::CPENDSGI);
    let (set, clear) = (set + id as usize, clear + id as usize);
    let own = gic::own() as u8;
    gic::send_to(id, Targets::Own);
    check!(gic::pending(id), "GICD_ISPENDR0 does not show an SGI");
    check_eq!(read8(set), own, "GICD_SPENDSGIR of an SGI that was sent");
    check_eq!(read8(clear), own, "GICD_CPENDSGIR of an SGI that was sent");
    // Bits of SGIs in the other registers are read-only.
    gic::set(reg::ICPEND, id);
    check!(gic::pending(id), "GICD_ICPENDR0 clears an SGI");
    write8(clear, own);
    check!(!gic::pending(id) && read8(set) == 0 && read8(clear) == 0, "GICD_CPENDSGIR does not clear an SGI");
    gic::set(reg::ISPEND, id);
    check!(!gic::pending(id), "GICD_ISPENDR0 sets an SGI");
    write8(set, own);
    check!(gic::pending(id) && read8(clear) == own, "GICD_SPENDSGIR does not set an SGI");
    write8(set, 0);
    write8(clear, 0);
    check!(gic::pending(id), "zeros change an SGI's pending state");
    let acknowledged = gic::await_ack(id);
    check_eq!(gic::source(acknowledged), 0, "source of an SGI that GICD_SPENDSGIR set");
    gic::end(acknowledged);
    check_eq!(read8(set), 0, "GICD_SPENDSGIR after the acknowledge");
    // A word has four SGIs.
    let word = gic::gicd() + reg::SPENDSGI + 8;
    write32(word, u32::from(own) << 24 | u32::from(own) << 8);
    check_eq!(read32(word), u32::from(own) << 24 | u32::from(own) << 8, "four SGIs by a word");
    write32(gic::gicd() + reg::CPENDSGI + 8, u32::from(own) << 24);
    check_eq!(read32(word), u32::from(own) << 8, "one of four cleared by a word");
    let acknowledged = gic::await_ack(9);
    gic::end(acknowledged);
    check_eq!(read32(word), 0, "at the end");
    // As if from all: each source that there is comes on its own.
    write8(set, 0xff);
    let sources = u32::from(read8(set));
    check!(sources & 1 == 1, "GICD_SPENDSGIR takes no source: {sources:#x}");
    each_source_once(id, sources, "set by software");
    // The source that is cleared does not come.
    write8(set, 0xff);
    write8(clear, !own);
    each_source_once(id, u32::from(own), "all but one cleared by software");
}

/// Acknowledges and ends SGI `id` until nothing comes: once from each of `sources`.
fn each_source_once(id: u32, sources: u32, what: &str) {
    let mut seen = 0u32;
    until(1000, || {
        let acknowledged = gic::ack();
        if gic::id(acknowledged) == id {
            let source = 1 << gic::source(acknowledged);
            check!(seen & source == 0, "{what}: SGI {id} twice from the sources {source:#x}");
            seen |= source;
            gic::end(acknowledged);
        }
        seen == sources
    });
    wait(micros(50));
    check_eq!(seen, sources, "{what}: sources of SGI {id}");
    check_eq!(gic::id(gic::ack()), SPURIOUS, "{what}: one more");
}

const CPUS: usize = 4;
/// What a CPU shall do: an SGI and its form, as [`order`] packs them; 0 when it was done.
static ORDERS: [AtomicU32; CPUS] = [const { AtomicU32::new(0) }; CPUS];
/// The CPUs that are there, as bits.
static ALIVE: AtomicU32 = AtomicU32::new(0);
/// What each of the other CPUs took: the SGI + 1, its source, how many of them; by SGI.
static TAKEN: [[AtomicU32; 16]; CPUS] = [const { [const { AtomicU32::new(0) }; 16] }; CPUS];

const TO_FIRST: u32 = 1 << 8;
const TO_OTHERS: u32 = 2 << 8;
const TO_SELF: u32 = 3 << 8;
const OFF: u32 = 4 << 8;

fn second(_: u64) {
    let cpu = gic::cpu();
    gic::init_cpu();
    for id in 0..16 {
        gic::enable(id);
    }
    ALIVE.fetch_or(1 << cpu, SeqCst);
    loop {
        // Its own interrupts, by hand.
        let acknowledged = gic::ack();
        let id = gic::id(acknowledged);
        if id < 16 {
            let count = 1 + (gic::source(acknowledged) << 8);
            if let Some(cell) = TAKEN.get(cpu).and_then(|cells| cells.get(id as usize)) {
                cell.fetch_add(count, SeqCst);
            }
            gic::end(acknowledged);
        }
        let Some(slot) = ORDERS.get(cpu) else { return };
        let order = slot.load(SeqCst);
        let targets = match order & 0xf00 {
            TO_FIRST => Targets::List(1),
            TO_OTHERS => Targets::Others,
            TO_SELF => Targets::Own,
            OFF => break,
            _ => continue,
        };
        gic::send_to(order & 15, targets);
        op!("dsb sy");
        slot.store(0, SeqCst);
    }
    ALIVE.fetch_and(!(1 << cpu), SeqCst);
}

/// Has a CPU do something, and waits until it did.
fn order(cpu: usize, what: u32) {
    let Some(slot) = ORDERS.get(cpu) else { return };
    slot.store(what, SeqCst);
    if what != OFF {
        check!(until(5000, || slot.load(SeqCst) == 0), "CPU {cpu} does not do {what:#x}");
    }
}

/// Waits until CPU `cpu` took SGI `id` once, from `source`, and forgets it.
fn took(cpu: usize, id: usize, source: u32, what: &str) {
    let Some(cell) = TAKEN.get(cpu).and_then(|cells| cells.get(id)) else { return };
    until(2000, || cell.load(SeqCst) != 0);
    wait(micros(50));
    let source = if gic::v2() { source } else { 0 };
    check_eq!(cell.swap(0, SeqCst), 1 + (source << 8), "{what}: CPU {cpu}, count and source");
}

fn several(cpus: usize) {
    for n in 1..cpus {
        check_eq!(smp::start(n as u64, second), 0, "CPU_ON of {n}");
    }
    let all = (1u32 << cpus) - 1;
    check!(until(5000, || ALIVE.load(SeqCst) == all & !1), "CPUs {:#x} of {all:#x}", ALIVE.load(SeqCst));
    for round in 0..20 {
        same_from_all(cpus, round);
    }
    different_from_all(cpus);
    forms(cpus);
    one_source_cleared();
    (1..cpus).for_each(|cpu| order(cpu, OFF));
    check!(until(5000, || ALIVE.load(SeqCst) == 0), "a CPU does not go off");
}

/// The same SGI from every CPU, this one too, before the first is taken: with GICv2 one from each source, with
/// GICv3 one.
fn same_from_all(cpus: usize, round: u32) {
    let id = round % 16;
    (1..cpus).for_each(|cpu| order(cpu, TO_FIRST | id));
    gic::send_to(id, Targets::Own);
    let sources = if gic::v2() { (1 << cpus) - 1 } else { 1 };
    if gic::v2() {
        let shown = read8(gic::gicd() + reg::SPENDSGI + id as usize);
        check_eq!(u32::from(shown), sources, "GICD_SPENDSGIR with all sources pending");
    }
    each_source_once(id, sources, "the same from all");
}

/// Different SGIs from different CPUs, by priority and each from its own source.
fn different_from_all(cpus: usize) {
    trap::on_irq(gic::record);
    for cpu in 1..cpus {
        gic::priority(cpu as u32, (0x80 - 0x10 * cpu) as u8);
        order(cpu, TO_FIRST | cpu as u32);
    }
    let want = [3, 2, 1];
    trap::irqs_on();
    until(2000, || gic::count() >= cpus - 1);
    wait(micros(50));
    trap::irqs_off();
    for n in 0..gic::count().min(3) {
        let source = if gic::v2() { gic::entry(n).0 } else { 0 };
        check_eq!(gic::source_of(n), source, "source of SGI {}", gic::entry(n).0);
    }
    taken("different from all", &want[4 - cpus..]);
    (1..cpus as u32).for_each(|id| gic::priority(id, gic::USUAL));
}

/// All but the sender, the sender alone, a list.
fn forms(cpus: usize) {
    gic::send_to(6, Targets::Others);
    (1..cpus).for_each(|cpu| took(cpu, 6, 0, "from the first to all others"));
    check_eq!(gic::id(gic::ack()), SPURIOUS, "it came to its sender too");
    gic::send_to(7, Targets::List(0b11));
    took(1, 7, 0, "from the first to two");
    let acknowledged = gic::await_ack(7);
    check_eq!(gic::source(acknowledged), 0, "source of an SGI to two");
    gic::end(acknowledged);
    order(1, TO_OTHERS | 8);
    let acknowledged = gic::await_ack(8);
    check_eq!(gic::source(acknowledged), u32::from(gic::v2()), "source of an SGI to all but the second");
    gic::end(acknowledged);
    (2..cpus).for_each(|cpu| took(cpu, 8, 1, "from the second to all others"));
    order(1, TO_SELF | 9);
    took(1, 9, 1, "from the second to itself");
    wait(micros(50));
    for (cpu, cells) in TAKEN.iter().enumerate() {
        let more = cells.iter().any(|cell| cell.load(SeqCst) != 0);
        check!(!more, "CPU {cpu} took more than it was sent");
    }
    check_eq!(gic::id(gic::ack()), SPURIOUS, "the first took more than it was sent");
}

/// Two sources pending, one is active: the other waits; then one is cleared by its source.
fn one_source_cleared() {
    if !gic::v2() {
        return;
    }
    let id = 10;
    order(1, TO_FIRST | id);
    gic::send_to(id, Targets::Own);
    let first = gic::await_ack(id);
    check!(gic::active(id) && gic::pending(id), "active from one source and pending from the other");
    wait(micros(50));
    check_eq!(gic::id(gic::ack()), SPURIOUS, "the other source at the same priority");
    gic::end(first);
    let second = gic::await_ack(id);
    check_eq!(gic::source(first) + gic::source(second), 1, "both sources");
    gic::end(second);
    order(1, TO_FIRST | id);
    gic::send_to(id, Targets::Own);
    write8(gic::gicd() + reg::CPENDSGI + id as usize, 1);
    let left = gic::await_ack(id);
    check_eq!(gic::source(left), 1, "the source that was not cleared");
    gic::end(left);
    check_eq!(gic::id(gic::ack()), SPURIOUS, "the source that was cleared");
}
