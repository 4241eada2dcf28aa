//! All that CPUs do to each other, again and again, checked; with `rounds=N`.
//!
//! A round: a token passed around by SGIs; SGIs to the next CPU and to all others, each acknowledged; timers; a
//! page that is remapped under everybody's eyes; a counter behind a spin lock; half of the CPUs off and on again, twice, while the
//! rest goes on. Between and during it all each checks its FP registers, its EL1 registers and a page of its own.
#![no_std]
#![no_main]

use core::arch::asm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use guests::gic::{self, Targets};
use guests::timer::{self, VIRTUAL, micros, now};
use guests::watch::{self, ALL, cell, report, sleep, spin};
use guests::{args, check_eq, fdt, mmu, msr, op, pages, println, psci, smp, state, trap};

guests::guest!("smpstress", main);

const MOST: usize = smp::MOST;
/// How often a CPU goes off in a round.
const LIVES: u32 = 2;
/// Laps of the token.
const LAPS: u32 = 2;
/// How often each CPU takes the lock in a round.
const TURNS: u64 = 50;

mod sgi {
    pub const TOKEN: u32 = 0;
    pub const NEXT: u32 = 1;
    pub const ANSWER: u32 = 2;
    pub const MAIL: u32 = 3;
    pub const RECEIPT: u32 = 4;
    pub const MEET: u32 = 5;
    pub const REMAPPED: u32 = 6;
    pub const NOISE: u32 = 7;
}

const fn zeros<const N: usize>() -> [AtomicU32; N] {
    [const { AtomicU32::new(0) }; N]
}

static CPUS: AtomicU32 = AtomicU32::new(1);
static ROUNDS: AtomicU32 = AtomicU32::new(0);
static ARRIVED: AtomicU32 = AtomicU32::new(0);
static MEETING: AtomicU32 = AtomicU32::new(0);
/// The hop at which the token is.
static TOKEN: AtomicU32 = AtomicU32::new(0);
/// What the CPU before has sent, and the one after has answered.
static NEXT: [AtomicU32; MOST] = zeros();
static ANSWERS: [AtomicU32; MOST] = zeros();
/// Mail by receiver and sender: the round + 1; what the receiver has seen of it; receipts by sender.
static MAIL: [[AtomicU32; MOST]; MOST] = [const { zeros() }; MOST];
static SEEN: [[AtomicU32; MOST]; MOST] = [const { zeros() }; MOST];
static RECEIPTS: [AtomicU32; MOST] = zeros();
/// When each CPU's virtual timer is due, and its period, or 0.
static DUE: [AtomicU64; MOST] = [const { AtomicU64::new(0) }; MOST];
static PERIOD: [AtomicU64; MOST] = [const { AtomicU64::new(0) }; MOST];
/// Readers of the shared page that have seen its first frame; the round in which it was remapped, + 1.
static READERS: AtomicU32 = AtomicU32::new(0);
static REMAPPED: AtomicU32 = AtomicU32::new(0);
static LOCK: AtomicU32 = AtomicU32::new(0);
/// What the lock protects.
static COUNTER: AtomicU64 = AtomicU64::new(0);
static ATOMIC: AtomicU64 = AtomicU64::new(0);
/// How often each CPU still has to go off in this round.
static AGAIN: [AtomicU32; MOST] = zeros();
/// How often each CPU was started.
static LIVED: [AtomicU32; MOST] = [const { AtomicU32::new(1) }; MOST];
/// The last CPU to arrive at the end says so.
static OVER: AtomicU32 = AtomicU32::new(0);

fn cpus() -> usize {
    CPUS.load(SeqCst) as usize
}

fn on_irq(_: &mut trap::Frame) {
    let acknowledged = gic::ack();
    op!("dsb sy");
    let (id, me) = (gic::id(acknowledged), gic::cpu());
    let own = watch::own();
    match id {
        gic::SPURIOUS => {
            own.spurious.fetch_add(1, SeqCst);
            return;
        }
        timer::PHYSICAL => watch::ticked(),
        VIRTUAL => on_timer(me),
        watch::KICK => {}
        0..8 => {
            own.sgis[id as usize].fetch_add(1, SeqCst);
            on_sgi(id, gic::source(acknowledged) as usize, me);
        }
        _ => report(format_args!("interrupt {id} comes from nowhere")),
    }
    gic::end(acknowledged);
}

fn on_timer(me: usize) {
    let (due, at) = (DUE[me].load(SeqCst), now());
    if at < due {
        report(format_args!("the timer is {} counts early", due - at));
    }
    watch::own().timers.fetch_add(1, SeqCst);
    match PERIOD[me].load(SeqCst) {
        0 => timer::stop(),
        period => arm(me, at + period),
    }
}

fn arm(me: usize, due: u64) {
    DUE[me].store(due, SeqCst);
    timer::arm(due);
}

fn on_sgi(id: u32, source: usize, me: usize) {
    let cpus = cpus();
    let (before, after) = ((me + cpus - 1) % cpus, (me + 1) % cpus);
    let from = match id {
        sgi::TOKEN | sgi::NEXT => before,
        sgi::ANSWER => after,
        _ => source,
    };
    if gic::v2() && source != from {
        report(format_args!("SGI {id} comes from vCPU {source}, not {from}"));
    }
    match id {
        sgi::NEXT => {
            // The answer tells how far this CPU has seen the other's count.
            ANSWERS[before].store(NEXT[me].load(SeqCst), SeqCst);
            gic::send_to(sgi::ANSWER, Targets::Cpu(before));
        }
        sgi::MAIL => mail(me),
        _ => {}
    }
}

/// Looks for mail that is new, and sends its receipt; the last receipt's by an SGI.
fn mail(me: usize) {
    for sender in 0..cpus() {
        let (letter, seen) = (MAIL[me][sender].load(SeqCst), &SEEN[me][sender]);
        if seen.swap(letter, SeqCst) != letter && RECEIPTS[sender].fetch_add(1, SeqCst) + 2 == cpus() as u32 {
            gic::send_to(sgi::RECEIPT, Targets::Cpu(sender));
        }
    }
}

/// All that nobody else may have touched.
fn check(when: &str) {
    let me = gic::cpu();
    let seed = seed(me);
    let wrong = state::differ_fp(seed);
    if wrong != 0 {
        report(format_args!("{wrong} FP registers are not what they were, {when}"));
    }
    if let Some((name, value)) = state::differ_el1(seed) {
        report(format_args!("{name} is {value:#x}, {when}"));
    }
    let page = guests::mmio::read64(pages::OWN);
    if page != seed {
        report(format_args!("its own page says {page:#x}, not {seed:#x}, {when}"));
    }
    watch::step();
}

fn seed(cpu: usize) -> u64 {
    let round = u64::from(cell(cpu).round.load(SeqCst));
    (cpu as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ round.wrapping_mul(0x0001_0000_01b3_0001)
}

/// Waits for everybody: the last to come wakes the others. Some spin for a while first.
fn meet(what: &'static &'static str) {
    let meeting = MEETING.load(SeqCst);
    if ARRIVED.fetch_add(1, SeqCst) + 1 == CPUS.load(SeqCst) {
        ARRIVED.store(0, SeqCst);
        MEETING.store(meeting + 1, SeqCst);
        gic::send_to(sgi::MEET, Targets::Others);
        watch::step();
    } else {
        let turns = if (gic::cpu() as u32 + meeting) % 3 == 0 { 200 } else { 0 };
        watch::wait(what, ALL, turns, || MEETING.load(SeqCst) != meeting);
    }
    check(what);
}

fn token(me: usize, round: u32) {
    let cpus = cpus() as u32;
    for lap in 0..LAPS {
        let hop = (round * LAPS + lap) * cpus + me as u32;
        sleep(&"the token", (me + cpus as usize - 1) % cpus as usize, || TOKEN.load(SeqCst) == hop);
        check("with the token");
        TOKEN.store(hop + 1, SeqCst);
        gic::send_to(sgi::TOKEN, Targets::Cpu((me + 1) % cpus as usize));
    }
    meet(&"the end of the ring");
}

fn next(me: usize, round: u32) {
    let after = (me + 1) % cpus();
    for n in 1..=3 {
        let letter = round * 3 + n;
        NEXT[after].store(letter, SeqCst);
        gic::send_to(sgi::NEXT, Targets::Cpu(after));
        let turns = if me % 2 == 0 { 50 } else { 0 };
        watch::wait(&"the answer to an SGI", after, turns, || ANSWERS[me].load(SeqCst) == letter);
        check("after an answer");
    }
    meet(&"the end of the answers");
}

fn to_all(me: usize, round: u32) {
    if cpus() > 1 {
        RECEIPTS[me].store(0, SeqCst);
        (0..cpus()).filter(|to| *to != me).for_each(|to| MAIL[to][me].store(round + 1, SeqCst));
        gic::send_to(sgi::MAIL, Targets::Others);
        sleep(&"receipts from all others", ALL, || RECEIPTS[me].load(SeqCst) + 1 == CPUS.load(SeqCst));
    }
    meet(&"the end of the mail");
}

fn timers(me: usize, round: u32) {
    let own = watch::own();
    for n in 0..3u64 {
        let taken = own.timers.load(SeqCst);
        trap::irqs_off();
        arm(me, now() + micros(100 + (me as u64 * 37 + u64::from(round) * 211 + n * 911) % 2000));
        trap::irqs_on();
        sleep(&"its timer", me, || own.timers.load(SeqCst) != taken);
        check("after the timer");
    }
    meet(&"the end of the timers");
}

fn shared_page(me: usize, round: u32) {
    let owner = round as usize % cpus();
    let value = |which: u64| u64::from(round) << 8 | which;
    if me == owner {
        READERS.store(0, SeqCst);
        pages::map_shared(0, value(1));
    }
    meet(&"the shared page");
    let says = |which: u64, when: &str| {
        let got = guests::mmio::read64(pages::SHARED);
        if got != value(which) {
            report(format_args!("the shared page says {got:#x}, not {:#x}, {when}", value(which)));
        }
    };
    says(1, "before it is remapped");
    if me == owner {
        sleep(&"readers of the shared page", ALL, || READERS.load(SeqCst) + 1 == CPUS.load(SeqCst));
        pages::map_shared(1, value(2));
        REMAPPED.store(round + 1, SeqCst);
        gic::send_to(sgi::REMAPPED, Targets::Others);
    } else {
        if READERS.fetch_add(1, SeqCst) + 2 == CPUS.load(SeqCst) {
            gic::send_to(sgi::REMAPPED, Targets::Cpu(owner));
        }
        let turns = if me % 2 == 0 { 2000 } else { 0 };
        watch::wait(&"the remapping", owner, turns, || REMAPPED.load(SeqCst) == round + 1);
    }
    says(2, "after it was remapped");
    meet(&"the end of the shared page");
    says(2, "later");
}

/// Adds one to what the lock protects, by exclusives.
fn locked_add() {
    // SAFETY: our own word.
    unsafe {
        asm!("2: ldaxr {t:w}, [{lock}]", "cbnz {t:w}, 3f", "stxr {t:w}, {one:w}, [{lock}]", "cbz {t:w}, 4f",
            "3: yield", "b 2b", "4:",
            t = out(reg) _, one = in(reg) 1, lock = in(reg) LOCK.as_ptr());
    }
    let counter = COUNTER.as_ptr();
    // SAFETY: under the lock, hence neither the load nor the store is atomic.
    unsafe { counter.write_volatile(counter.read_volatile() + 1) };
    // SAFETY: our own word.
    unsafe { asm!("stlr wzr, [{}]", in(reg) LOCK.as_ptr()) };
    ATOMIC.fetch_add(1, SeqCst);
}

/// Takes the lock again and again, interrupted by a timer; some with interrupts masked.
fn counting(me: usize) {
    let period = micros(500) * cpus() as u64;
    PERIOD[me].store(period, SeqCst);
    arm(me, now() + micros(20 + me as u64 % 64));
    for turn in 0..TURNS {
        if turn % 8 == 0 {
            trap::irqs_off();
        }
        locked_add();
        trap::irqs_on();
        check("while it counts");
    }
    trap::irqs_off();
    PERIOD[me].store(0, SeqCst);
    timer::stop();
    trap::irqs_on();
}

/// Who starts the others again, in turns.
fn keeper(round: u32) -> usize {
    round as usize % cpus().min(2)
}

fn goes_off(cpu: usize, round: u32) -> bool {
    cpu != keeper(round) && (cpu + round as usize / 2) % 2 == 0
}

/// Starts those again that go off, while the others count, and are sent SGIs.
fn restart(round: u32) {
    for _ in 0..LIVES {
        for cpu in (0..cpus()).filter(|cpu| goes_off(*cpu, round)) {
            let (target, lives) = (smp::affinity(cpu), &cell(cpu).lives);
            // QEMU alone says that it is off until it begins, though it was started.
            spin(&"CPU_OFF", cpu, || {
                lives.load(SeqCst) == LIVED[cpu].load(SeqCst) && psci::info(target) == 1
            });
            let lived = LIVED[cpu].fetch_add(1, SeqCst);
            gic::send_to(sgi::NOISE, Targets::Others);
            gic::send_to(sgi::NOISE, Targets::Cpu(cpu));
            let status = smp::start(cpu as u64, life);
            if status != 0 {
                report(format_args!("CPU_ON of vCPU {cpu}, which is off: {}", status as i32));
            }
            let off = psci::info(target) == 1;
            if off && lives.load(SeqCst) == lived && fdt::under_hypervisor() {
                report(format_args!("AFFINITY_INFO of vCPU {cpu}, which has been started: off"));
            }
            check("after CPU_ON");
        }
    }
}

fn phases(me: usize, round: u32) {
    if me == keeper(round) {
        watch::keep();
    }
    meet(&"the start of a round");
    token(me, round);
    next(me, round);
    to_all(me, round);
    timers(me, round);
    shared_page(me, round);
    counting(me);
    meet(&"the end of the count");
    let sum = u64::from(round + 1) * TURNS * cpus() as u64;
    for (counter, what) in [(&COUNTER, "locked"), (&ATOMIC, "atomic")] {
        let count = counter.load(SeqCst);
        if count != sum + busy_turns(round) {
            report(format_args!("the {what} counter is {count}, not {}", sum + busy_turns(round)));
        }
    }
    meet(&"the check of the counters");
}

/// What those who stayed on while others went off have added to the counters before `round`.
fn busy_turns(round: u32) -> u64 {
    let stay =
        |round| (0..cpus()).filter(|cpu| *cpu != keeper(round) && !goes_off(*cpu, round)).count() as u64;
    (0..round).map(|round| stay(round) * TURNS).sum()
}

/// From its first instruction to CPU_OFF: a CPU goes on in the round in which it went off.
fn life(n: u64) {
    let me = n as usize;
    let own = cell(me);
    pages::enter(me);
    if own.lives.fetch_add(1, SeqCst) != 0 || me != 0 {
        gic::init_cpu();
    }
    (0..8).chain([VIRTUAL]).for_each(gic::enable);
    watch::enable();
    msr!("cpacr_el1", 3 << 20);
    let again = AGAIN[me].load(SeqCst);
    if again > 1 {
        AGAIN[me].store(again - 1, SeqCst);
        return watch::step();
    }
    own_values(me);
    trap::irqs_on();
    let mut resumed = again == 1;
    AGAIN[me].store(0, SeqCst);
    loop {
        let round = own.round.load(SeqCst);
        if round == ROUNDS.load(SeqCst) {
            break;
        }
        if !resumed {
            phases(me, round);
            if goes_off(me, round) {
                AGAIN[me].store(LIVES, SeqCst);
                trap::irqs_off();
                return watch::step();
            }
            if me == keeper(round) { restart(round) } else { counting(me) }
        }
        resumed = false;
        meet(&"all to be on again");
        own.round.store(round + 1, SeqCst);
        own_values(me);
    }
    trap::irqs_off();
    if OVER.fetch_add(1, SeqCst) + 1 == CPUS.load(SeqCst) {
        over();
    }
    // The last one ends it for all.
    loop {
        op!("wfi");
    }
}

/// Values of its own for this round.
fn own_values(me: usize) {
    let seed = seed(me);
    state::fill_fp(seed);
    state::fill_el1(seed);
    pages::map_own(me, cell(me).round.load(SeqCst) as usize, seed);
}

fn over() -> ! {
    let sum = |of: fn(&watch::Cell) -> u32| (0..cpus()).map(|n| of(cell(n))).sum::<u32>();
    println!(
        "smpstress: {} vcpus {} rounds; {} SGIs, {} timer interrupts, {} lives, {} spurious",
        cpus(),
        ROUNDS.load(SeqCst),
        sum(|cell| cell.sgis.iter().map(|sgi| sgi.load(SeqCst)).sum()),
        sum(|cell| cell.timers.load(SeqCst)),
        sum(|cell| cell.lives.load(SeqCst)),
        sum(|cell| cell.spurious.load(SeqCst)),
    );
    guests::finish()
}

fn main() {
    CPUS.store(fdt::cpus().min(MOST) as u32, SeqCst);
    ROUNDS.store(args::number("rounds", 10) as u32, SeqCst);
    mmu::build();
    mmu::on();
    gic::init();
    trap::on_irq(on_irq);
    for cpu in 1..cpus() {
        check_eq!(smp::start(cpu as u64, life), 0, "CPU_ON of {cpu}");
    }
    life(0);
    // It will be back as any other.
    smp::off();
}
