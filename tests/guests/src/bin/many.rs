//! As many CPUs as there are: all on, an SGI to each by its affinity and to all others, all off but one.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use guests::gic::{self, Targets};
use guests::watch::{self, ALL, report, sleep, spin};
use guests::{check, check_eq, fdt, mmu, mrs, println, psci, smp, trap};

guests::guest!("many", main);

const ONE: u32 = 1;
const OTHERS: u32 = 2;
const CHAIN: u32 = 3;
const LEAVE: u32 = 4;

static HERE: AtomicU32 = AtomicU32::new(0);
static SUM: AtomicU64 = AtomicU64::new(0);
static ANSWERS: AtomicU32 = AtomicU32::new(0);
/// The CPU that the chain has reached.
static REACHED: AtomicU32 = AtomicU32::new(0);
static LEAVING: [AtomicU32; smp::MOST] = [const { AtomicU32::new(0) }; smp::MOST];

fn on_irq(_: &mut trap::Frame) {
    let acknowledged = gic::ack();
    let (id, me) = (gic::id(acknowledged), gic::cpu());
    match id {
        gic::SPURIOUS => return,
        guests::timer::PHYSICAL => watch::ticked(),
        // The first CPU is woken by the answers.
        ONE | OTHERS if me != 0 => answer(me, id),
        CHAIN if me != 0 => {
            REACHED.store(me as u32, SeqCst);
            gic::send_to(CHAIN, Targets::Cpu((me + 1) % fdt::cpus()));
        }
        LEAVE => LEAVING[me].store(1, SeqCst),
        ONE | CHAIN | watch::KICK => {}
        _ => report(format_args!("interrupt {id}")),
    }
    if let Some(count) = watch::own().sgis.get(id as usize) {
        count.fetch_add(1, SeqCst);
    }
    gic::end(acknowledged);
}

fn answer(me: usize, id: u32) {
    SUM.fetch_add(me as u64 * u64::from(id), SeqCst);
    ANSWERS.fetch_add(1, SeqCst);
    watch::step();
    gic::send_to(ONE, Targets::Cpu(0));
}

fn ready() {
    (ONE..=LEAVE).for_each(gic::enable);
    watch::enable();
    trap::irqs_on();
}

fn life(n: u64) {
    gic::init_cpu();
    let affinity = mrs!("mpidr_el1") & 0xff_00ff_ffff;
    check_eq!(affinity, smp::affinity(n as usize), "MPIDR_EL1 of CPU {n}");
    ready();
    HERE.fetch_add(1, SeqCst);
    sleep(&"its leave", 0, || LEAVING[n as usize].load(SeqCst) != 0);
    trap::irqs_off();
}

fn main() {
    let cpus = fdt::cpus();
    check!(cpus <= smp::MOST, "{cpus} CPUs, more than this guest has stacks for");
    mmu::build();
    mmu::on();
    gic::init();
    trap::on_irq(on_irq);
    ready();
    watch::keep();
    for n in 1..cpus {
        check_eq!(smp::start(n as u64, life), 0, "CPU_ON of {n}");
    }
    spin(&"all to be on", ALL, || HERE.load(SeqCst) as usize == cpus - 1);
    let numbers = (cpus * (cpus - 1) / 2) as u64;

    for n in 1..cpus {
        gic::send_to(ONE, Targets::Cpu(n));
        sleep(&"the answer to an SGI by affinity", n, || ANSWERS.load(SeqCst) as usize == n);
    }
    check_eq!(SUM.load(SeqCst), numbers, "sum of answers, one by one");

    gic::send_to(OTHERS, Targets::Others);
    sleep(&"answers to an SGI to all others", ALL, || ANSWERS.load(SeqCst) as usize == 2 * (cpus - 1));
    check_eq!(SUM.load(SeqCst), 3 * numbers, "sum of answers, from all");

    if cpus > 1 {
        gic::send_to(CHAIN, Targets::Cpu(1));
        sleep(&"the chain", cpus - 1, || watch::own().sgis[CHAIN as usize].load(SeqCst) == 1);
        check_eq!(REACHED.load(SeqCst) as usize, cpus - 1, "the chain's end");
    }

    for n in 1..cpus {
        check_eq!(psci::info(smp::affinity(n)), 0, "AFFINITY_INFO of {n} before it leaves");
        gic::send_to(LEAVE, Targets::Cpu(n));
        spin(&"CPU_OFF", n, || psci::info(smp::affinity(n)) == 1);
    }
    println!("many: {cpus} vcpus, sum {}", SUM.load(SeqCst));
}
