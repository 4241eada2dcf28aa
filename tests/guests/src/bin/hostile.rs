//! A guest that does harm where it can: `MODE ms=2000` (0: for ever). What others notice of it is judged there.
//!
//! Modes that end say `hostile: ok`. Every CPU of the guest takes part.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use guests::gic::{self, Targets, reg};
use guests::mmio::{read8, read32, read64, write8, write32, write64};
use guests::timer::{self, VIRTUAL, micros, now};
use guests::{args, check_eq, fail, fdt, mmu, mrs, msr, op, println, psci, smp, trap, uart};

guests::guest!("hostile", main);

/// Addresses where nothing is: below RAM, between devices, far beyond.
const NOTHING: [usize; 4] = [0x0b00_0000, 0x1000, 0x3f_ffff_0000, 0x1234_5000];

static END: AtomicU64 = AtomicU64::new(0);
static DEED: AtomicU32 = AtomicU32::new(0);
static DONE: AtomicU32 = AtomicU32::new(0);

type Deed = fn(&mut Dice);

/// Each is one step, over in less than a millisecond.
const DEEDS: [(&str, Deed); 13] = [
    ("nowhere", nowhere),
    ("faults", faults),
    ("console", console),
    ("interrupts", interrupts),
    ("masked", |_| ()),
    ("power", power),
    ("setway", set_way),
    ("wfe", |_| op!("wfe")),
    ("calls", calls),
    ("gic", storm),
    ("tlb", translation),
    ("registers", registers),
    ("resets", resets),
];

/// Numbers that repeat from run to run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Its vectors are nowhere either: all that can come of it is a fault in fetching the handler of a fault.
fn nowhere(_: &mut Dice) {
    msr!("vbar_el1", 0x0b00_0000);
    // SAFETY: the point of it.
    unsafe { core::arch::asm!("br {}", in(reg) NOTHING[0]) };
}

fn faults(dice: &mut Dice) {
    let at = NOTHING[dice.roll() as usize % NOTHING.len()];
    _ = match dice.roll() % 5 {
        0 => trap::attempt(|| _ = read64(at)),
        1 => trap::attempt(|| write32(at, 1)),
        2 => trap::attempt(|| {
            // SAFETY: a fetch that faults comes back by x30.
            unsafe { core::arch::asm!("blr {}", in(reg) at, out("x30") _) }
        }),
        3 => trap::attempt(|| op!("udf #0")),
        // A pair, which no syndrome describes.
        _ => trap::attempt(|| {
            // SAFETY: at worst it faults.
            unsafe { core::arch::asm!("ldp {}, {}, [{}]", out(reg) _, out(reg) _, in(reg) at) }
        }),
    };
}

/// As fast as it goes, whether there is room or not.
fn console(dice: &mut Dice) {
    for _ in 0..64 {
        uart::write(uart::reg::DR, (dice.roll() % 0x5f + 0x20) as u32);
    }
    uart::write(uart::reg::DR, 10);
    uart::write(uart::reg::IMSC, dice.roll() as u32);
}

/// One at a time: it returns to where interrupts are masked, else there would be nothing but interrupts.
fn on_irq(frame: &mut trap::Frame) {
    frame.spsr |= 1 << 7;
    let acknowledged = gic::ack();
    if gic::id(acknowledged) == VIRTUAL {
        timer::arm(0);
    }
    if gic::id(acknowledged) != gic::SPURIOUS {
        gic::end(acknowledged);
    }
}

/// SGIs to all and to itself, every SPI, and a timer that is always due.
fn interrupts(dice: &mut Dice) {
    timer::arm(0);
    let sgi = dice.roll() as u32 % 16;
    gic::send_to(sgi, Targets::Others);
    gic::send_to(sgi, Targets::Own);
    gic::send_to(sgi, Targets::Cpu(dice.roll() as usize % fdt::cpus()));
    for word in 1..4 {
        write32(gic::gicd() + reg::ISPEND + 4 * word, !0);
    }
    trap::irqs_on();
    op!("isb");
    trap::irqs_off();
}

/// The first CPU starts the others; those go off as soon as they are on.
fn power(dice: &mut Dice) {
    let cpus = fdt::cpus();
    if gic::cpu() == 0 && cpus > 1 {
        let n = 1 + dice.roll() as usize % (cpus - 1);
        smp::start(n as u64, |_| ());
        psci::info(smp::affinity(n));
    }
}

fn set_way(dice: &mut Dice) {
    let value = dice.roll() & 0xffff_fffe;
    // SAFETY: maintenance that changes no memory.
    unsafe {
        core::arch::asm!("dc cisw, {}", in(reg) value);
        core::arch::asm!("dc csw, {}", in(reg) value & 0xfff0);
    }
}

/// Every call but those that end the guest or this CPU: known and unknown functions, by HVC and SMC.
fn calls(dice: &mut Dice) {
    const KNOWN: [u64; 10] = [
        psci::VERSION,
        psci::FEATURES,
        psci::AFFINITY_INFO,
        psci::CPU_ON,
        psci::MIGRATE_INFO_TYPE,
        0x8000_0000,
        0xc500_0021,
        0xc400_0053,
        0x8600_ff01,
        0xbf00_1234,
    ];
    let function = KNOWN[dice.roll() as usize % KNOWN.len()];
    let a = [dice.roll(), dice.roll(), dice.roll()];
    // Without a hypervisor there is nobody behind the SMC.
    let smc = dice.roll() % 2 == 0;
    _ = trap::attempt(|| _ = if smc { psci::smc(function, a) } else { psci::hvc(function, a) });
}

/// Registers of the interrupt controller, whatever they do. Groups 0 and 1 may come as FIQ: all is masked.
fn storm(dice: &mut Dice) {
    let (kind, at, value) = (dice.roll(), dice.roll() as usize, dice.roll());
    let base = match kind >> 8 & 3 {
        0 | 1 => gic::gicd(),
        _ if gic::v2() => gic::gicc(),
        _ => gic::redistributor(),
    };
    let offset = at % if gic::v2() { 0x1000 } else { 0x1_0000 }
        + (kind as usize >> 10 & 1) * if gic::v2() { 0 } else { gic::SGI };
    let offset = offset % if base == gic::gicd() { 0x1_0000 } else { 0x2_0000 };
    _ = trap::attempt(|| match kind & 7 {
        0 | 1 => write32(base + (offset & !3), value as u32),
        2 => write8(base + offset, value as u8),
        3 => write64(base + (offset & !7), value),
        4 => _ = read8(base + offset),
        5 => _ = read64(base + (offset & !7)),
        _ => _ = read32(base + (offset & !3)),
    });
    if !gic::v2() && kind & 0x7000 == 0 {
        msr!("icc_pmr_el1", value & 0xff);
        msr!("icc_sgi1r_el1", value & 0xff00_ffff | (value & 1) << 40);
        msr!("icc_eoir1_el1", value & 0x3ff);
        _ = mrs!("icc_iar1_el1");
    }
}

/// Invalidations and translations for all CPUs; with pauses, since QEMU takes long for what is one instruction.
fn translation(_: &mut Dice) {
    op!("tlbi vmalle1is");
    op!("ic ialluis");
    op!("dsb ish");
    op!("isb");
    // SAFETY: asks for a translation.
    unsafe { core::arch::asm!("at s1e1r, {}", in(reg) NOTHING[2]) };
    let sctlr = mrs!("sctlr_el1");
    msr!("sctlr_el1", sctlr & !(mmu::C | mmu::I));
    msr!("sctlr_el1", sctlr);
    timer::wait(micros(50));
}

/// Whatever traps, read and written.
fn registers(dice: &mut Dice) {
    const OP: [(u32, u32, u32); 6] = [(0, 0, 2), (0, 0, 7), (0, 1, 0), (3, 14, 2), (0, 12, 12), (3, 9, 13)];
    let (op1, crn, crm) = OP[dice.roll() as usize % OP.len()];
    let field = guests::code::field(3, op1, crn, crm, dice.roll() as u32 % 8);
    // The physical timer, rather than what the guest lives by.
    let write = crn == 14 && dice.roll() % 2 == 0;
    let word = if write { guests::code::MSR } else { guests::code::MRS } | field;
    _ = trap::attempt(|| _ = guests::code::run(&[word], dice.roll()));
}

fn resets(_: &mut Dice) {
    if gic::cpu() == 0 {
        psci::hvc(psci::SYSTEM_RESET, [0; 3]);
    }
}

fn run(n: u64) {
    let (mode, deed) = DEEDS[DEED.load(SeqCst) as usize % DEEDS.len()];
    if mode == "interrupts" {
        if n != 0 {
            gic::init_cpu();
        }
        (0..16).chain([VIRTUAL]).chain(40..gic::lines().min(128)).for_each(gic::enable);
    }
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (n + 1) << 32);
    let end = END.load(SeqCst);
    while end == 0 || now() < end {
        deed(&mut dice);
    }
    DONE.fetch_add(1, SeqCst);
}

fn main() {
    let mode = args::word();
    let ms = args::number("ms", 2000);
    let Some(deed) = DEEDS.iter().position(|(name, _)| *name == mode) else {
        return fail(format_args!("there is no mode {mode:?}"));
    };
    DEED.store(deed as u32, SeqCst);
    END.store(if ms == 0 { 0 } else { now() + micros(1000 * ms) }, SeqCst);
    mmu::build();
    mmu::on();
    gic::init();
    trap::on_irq(on_irq);
    println!("hostile: {mode} on {} vcpus for {ms} ms", fdt::cpus());
    // Those that run code made at run time have one place for it.
    let alone = matches!(mode, "power" | "resets" | "registers" | "nowhere");
    let others = if alone { 1 } else { fdt::cpus() };
    for n in 1..others {
        check_eq!(smp::start(n as u64, run), 0, "CPU_ON of {n}");
    }
    run(0);
    let all = timer::until(10_000, || DONE.load(SeqCst) as usize == others);
    guests::check!(all, "{} of {others} CPUs come to an end", DONE.load(SeqCst));
    if mode == "console" {
        println!();
    }
    println!("hostile: {mode} is over");
}
