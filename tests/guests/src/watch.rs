//! Waiting for other CPUs, so that whoever waits in vain can say for what.
//!
//! Time alone decides nothing, since the host may be slow: a wait is in vain when [`STILL`] times in a row, two
//! seconds of guest time apart, no CPU at all has got any further. Then the first that notices prints what each CPU
//! waits for, with the state of its interrupts, and powers off.
//!
//! Those that wait in WFI get no tick, since it would wake them where an interrupt was lost, and nobody would know.
//! One of them, the watchman, does; CPUs take turns at it, so that each one's wake-ups are tested.

use crate::smp::MOST;
use crate::timer::{PHYSICAL, micros, now};
use crate::{gic, mrs, msr, op, println, psci, smp, trap};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering::SeqCst};

/// Ticks without any progress after which a wait is in vain.
const STILL: u32 = 5;
/// Between ticks, in microseconds.
const TICK: u64 = 2_000_000;
/// The SGI that a report sends to all, to see who only missed a wake-up.
pub const KICK: u32 = 15;
/// Nobody in particular.
pub const ALL: usize = usize::MAX;

/// What is known of a CPU: written by it, read by who reports.
#[repr(align(64))]
pub struct Cell {
    what: AtomicPtr<&'static str>,
    of: AtomicU64,
    since: AtomicU64,
    asleep: AtomicBool,
    wakes: AtomicU32,
    /// Its progress: waits that ended, and what else it counts.
    pub steps: AtomicU32,
    /// Where it is, in the guest's own count.
    pub round: AtomicU32,
    /// SGIs taken, by number.
    pub sgis: [AtomicU32; 8],
    /// Virtual timer interrupts taken.
    pub timers: AtomicU32,
    /// Acknowledges that gave nothing.
    pub spurious: AtomicU32,
    /// How often it was started.
    pub lives: AtomicU32,
}

impl Cell {
    const fn new() -> Self {
        Self {
            what: AtomicPtr::new(core::ptr::null_mut()),
            of: AtomicU64::new(0),
            since: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            wakes: AtomicU32::new(0),
            steps: AtomicU32::new(0),
            round: AtomicU32::new(0),
            sgis: [const { AtomicU32::new(0) }; 8],
            timers: AtomicU32::new(0),
            spurious: AtomicU32::new(0),
            lives: AtomicU32::new(0),
        }
    }
}

static CELLS: [Cell; MOST] = [const { Cell::new() }; MOST];
static WATCHMAN: AtomicU32 = AtomicU32::new(0);
static TICKED: AtomicBool = AtomicBool::new(false);
static REPORTED: AtomicBool = AtomicBool::new(false);

/// What is known of CPU `n`.
pub fn cell(n: usize) -> &'static Cell {
    &CELLS[n % MOST]
}

/// What is known of this CPU.
pub fn own() -> &'static Cell {
    cell(gic::cpu())
}

/// This CPU got something done.
pub fn step() {
    own().steps.fetch_add(1, SeqCst);
}

/// This CPU is the watchman from here on. [`PHYSICAL`] is enabled on each, and [`ticked`] handles it.
pub fn keep() {
    WATCHMAN.store(gic::cpu() as u32, SeqCst);
}

/// The handler's part of a tick.
pub fn ticked() {
    msr!("cntp_ctl_el0", 0);
    TICKED.store(true, SeqCst);
}

/// How long nothing has happened.
struct Patience {
    progress: u32,
    still: u32,
    next: u64,
}

impl Patience {
    fn new() -> Self {
        Self { progress: progress(), still: 0, next: now() + micros(TICK) }
    }

    fn tick(&mut self, what: &str, of: usize) {
        let progress = progress();
        self.still = if progress == self.progress { self.still + 1 } else { 0 };
        self.progress = progress;
        self.next = now() + micros(TICK);
        if self.still >= STILL {
            report(format_args!("waits in vain for {what}, {}", Whom(of)));
        }
    }
}

fn progress() -> u32 {
    CELLS.iter().fold(0, |sum, cell| sum.wrapping_add(cell.steps.load(SeqCst)))
}

fn begin(what: &'static &'static str, of: usize) {
    let cell = own();
    cell.of.store(of as u64, SeqCst);
    cell.since.store(now(), SeqCst);
    cell.what.store((&raw const *what).cast_mut(), SeqCst);
}

fn end() {
    own().what.store(core::ptr::null_mut(), SeqCst);
    step();
}

/// Sleeps in WFI until `done`, which an interrupt's handler or an SGI's sender brings about. Interrupts are on.
pub fn sleep(what: &'static &'static str, of: usize, mut done: impl FnMut() -> bool) {
    begin(what, of);
    let cell = own();
    let mut patience = Patience::new();
    let mut armed = false;
    loop {
        // Masked from the look until the WFI, which wakes all the same.
        trap::irqs_off();
        if done() {
            break;
        }
        let watchman = WATCHMAN.load(SeqCst) as usize == gic::cpu();
        if watchman && (!armed || TICKED.swap(false, SeqCst)) {
            if armed {
                patience.tick(what, of);
            }
            armed = true;
            msr!("cntp_cval_el0", patience.next);
            msr!("cntp_ctl_el0", 1);
        }
        cell.asleep.store(true, SeqCst);
        op!("dsb sy");
        op!("wfi");
        cell.asleep.store(false, SeqCst);
        cell.wakes.fetch_add(1, SeqCst);
        trap::irqs_on();
        op!("isb");
    }
    if armed {
        msr!("cntp_ctl_el0", 0);
    }
    trap::irqs_on();
    end();
}

/// Spins until `done`. Interrupts are on.
pub fn spin(what: &'static &'static str, of: usize, mut done: impl FnMut() -> bool) {
    begin(what, of);
    let mut patience = Patience::new();
    while !done() {
        core::hint::spin_loop();
        if now() > patience.next {
            patience.tick(what, of);
        }
    }
    end();
}

/// Spins for a moment, then sleeps, as locks of real kernels do.
pub fn wait(what: &'static &'static str, of: usize, turns: u32, mut done: impl FnMut() -> bool) {
    for _ in 0..turns {
        if done() {
            return step();
        }
        core::hint::spin_loop();
    }
    sleep(what, of, done);
}

struct Whom(usize);

impl core::fmt::Display for Whom {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.0 == ALL { f.write_str("of anybody") } else { write!(f, "of vCPU {}", self.0) }
    }
}

/// Fails the guest: what this CPU says, then what each is at, and powers off. Only the first gets to it.
pub fn report(why: core::fmt::Arguments<'_>) -> ! {
    trap::irqs_off();
    if REPORTED.swap(true, SeqCst) {
        loop {
            op!("wfi");
        }
    }
    let cpus = crate::fdt::cpus();
    let me = gic::cpu();
    crate::fail(format_args!("vCPU {me} in round {}: {why}", own().round.load(SeqCst)));
    let steps = |n: usize| cell(n).steps.load(SeqCst);
    let mut before = [0; MOST];
    for n in 0..cpus {
        before[n % MOST] = steps(n);
        line(n);
    }
    // Who goes on now was only not woken.
    gic::send_to(KICK, gic::Targets::Others);
    crate::timer::wait(micros(2_000_000));
    for n in 0..cpus {
        if steps(n) != before[n % MOST] {
            println!(
                "  vCPU {n} goes on after an SGI to all: {} steps",
                steps(n).wrapping_sub(before[n % MOST])
            );
        }
    }
    println!("  the end, after SGI {KICK} to all");
    crate::finish()
}

fn line(n: usize) {
    let cell = cell(n);
    let state = ["on", "off", "on its way"].get(psci::info(smp::affinity(n)) as usize).unwrap_or(&"?");
    let at = cell.what.load(SeqCst);
    // SAFETY: only `begin` stores there, a reference that lives for ever.
    let what = if at.is_null() { "nothing" } else { unsafe { *at } };
    let since = now().wrapping_sub(cell.since.load(SeqCst)) / (micros(1000).max(1));
    crate::print!(
        "  vCPU {n}: {state}, round {}, {}, {} steps, {} wakes, {} lives; for {since} ms at {what} {}; SGIs",
        cell.round.load(SeqCst),
        if cell.asleep.load(SeqCst) { "in WFI" } else { "running" },
        cell.steps.load(SeqCst),
        cell.wakes.load(SeqCst),
        cell.lives.load(SeqCst),
        Whom(cell.of.load(SeqCst) as usize),
    );
    for sgi in &cell.sgis {
        crate::print!(" {}", sgi.load(SeqCst));
    }
    crate::print!(", timer {}, spurious {}", cell.timers.load(SeqCst), cell.spurious.load(SeqCst));
    if !gic::v2() {
        let own = gic::gicr() + gic::GICR_STRIDE * n + gic::SGI;
        let read = |array: usize| crate::mmio::read32(own + array);
        crate::print!(
            "; enabled {:#x} pending {:#x} active {:#x}",
            read(gic::reg::ISENABLE),
            read(gic::reg::ISPEND),
            read(gic::reg::ISACTIVE)
        );
    }
    if n == gic::cpu() {
        crate::print!(
            "; CNTV_CTL {:#x} CNTP_CTL {:#x}, signalled {}",
            mrs!("cntv_ctl_el0"),
            mrs!("cntp_ctl_el0"),
            gic::highest_pending()
        );
    }
    println!();
}

/// Enables what [`sleep`] and [`report`] need on this CPU.
pub fn enable() {
    gic::enable(PHYSICAL);
    gic::enable(KICK);
}
