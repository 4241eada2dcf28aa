//! The other CPUs: started one and all, asked who they are, and given a job once there is one.
//!
//! The CPU that boots starts them when it has its MMU, heap and interrupt controller. Each comes by `__secondary` in
//! `boot.s`, says what it is, and sleeps until [`release`]. One that does not come is left out with a warning; should
//! it come late, it sleeps for good.
//!
//! Stacks lie in the window of `mmu.rs`, each above a page that is never mapped. Only CPUs that exist take memory.

use super::context::Resident;
use super::cpu::Cpu;
use super::fault;
use super::gic::{self, Gic, Peer};
use super::mmu::{self, window};
use super::sys::{op, read};
use super::{cache, el2, setup, smc, timer};
use crate::addr::{Address, HostPhysAddr, HostRange, PAGE_SIZE};
use crate::cpus::{self, CpuFacts, Way, stacks};
use crate::fdt::{self, Conduit, Platform};
use crate::machine::{IntId, Machine};
use crate::map::GicVersion;
use crate::memory::Memory;
use crate::problem;
use crate::problem::Problem;
use crate::sync::Mutex;
use crate::trng::Entropy;
use crate::vcpu::CpuId;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

unsafe extern "C" {
    /// `boot.s`: where they start.
    static __secondary: u8;
}

/// What `__secondary` looks for: a CPU, and the tops of its stacks.
#[repr(C)]
struct Record {
    affinity: AtomicU64,
    stack: AtomicU64,
    fault: AtomicU64,
}

/// No CPU's affinity: ends the list.
const NOBODY: u64 = u64::MAX;

/// Laid out as `__secondary` reads it.
#[repr(C)]
struct Table {
    /// TTBR0, MAIR, TCR, SCTLR.
    registers: [AtomicU64; 4],
    /// By number, those of CPUs that were tried; the CPU that boots has none.
    records: [Record; cpus::MAX],
}

const _: () = assert!(size_of::<Record>() == 24 && core::mem::offset_of!(Table, records) == 32);
const _: () = assert!(stacks::WINDOW + cpus::MAX <= window::PAGES);

/// Written by the CPU that boots, before any other starts. One record at least is nobody's.
#[unsafe(no_mangle)]
static MEZZANINE_CPUS: Table = Table {
    registers: [const { AtomicU64::new(0) }; 4],
    records: [const { Record { affinity: AtomicU64::new(0), stack: AtomicU64::new(0), fault: AtomicU64::new(0) } };
        cpus::MAX],
};

/// What a CPU needs to know before it can say who it is.
struct Machinery {
    gic: fdt::Gic,
    console_irq: Option<IntId>,
    conduit: Option<Conduit>,
    /// For a random number generator each; used up.
    seeds: Mutex<Vec<[u64; 4]>>,
}
static MACHINERY: Mutex<Option<Arc<Machinery>>> = Mutex::new(None);

/// Who has come, while somebody waits for it.
struct Roll {
    open: bool,
    here: Vec<Report>,
}
static ROLL: Mutex<Roll> = Mutex::new(Roll { open: false, here: Vec::new() });

/// A CPU that has come, or has come and is of no use.
struct Report {
    affinity: u64,
    found: Result<(CpuFacts, Peer), Problem>,
}

/// What every CPU does when there is something to do.
#[derive(Clone)]
struct Job {
    peers: Arc<[Peer]>,
    run: &'static (dyn Fn(Cpu) + Sync),
}
static JOB: Mutex<Option<Job>> = Mutex::new(None);

/// Starts all other CPUs of the tree, waits for them, and returns what each CPU is, this one first: by
/// [`CpuId`]. Stacks come out of `memory`. Who does not come is named in a warning (E0133, E0137 to E0141) and left out.
///
/// Called once, with MMU, heap and log on.
pub fn start(platform: &Platform<'_>, boot: &mut Cpu, memory: &mut Memory) -> Vec<CpuFacts> {
    let me = setup::affinity();
    let own = boot.gic.peer(me);
    let ready = prepare(platform, boot, memory);
    let mut tables = ReleasePages::default();
    let mut started = Vec::new();
    for cpu in &ready {
        match cpus::way(cpu, platform.psci).and_then(|way| set_off(platform, cpu, way, &mut tables)) {
            Ok(()) => started.push(cpu.affinity),
            Err(problem) => log::warn!("{problem}"),
        }
    }
    let mut reports = roll_call(started.len());
    let mut peers = alloc::vec![own];
    let mut all = alloc::vec![facts(&boot.gic, own)];
    for affinity in started {
        let place = reports.iter().position(|report| report.affinity == affinity);
        match place.map(|n| reports.swap_remove(n).found) {
            None => log::warn!(
                "{}",
                problem!("E0138", ("/cpus/cpu@{affinity:x}"); ("was started and did not come up; it stays off");
                    ("If it is broken, say so: status = \"fail\""))
            ),
            Some(Err(problem)) => log::warn!("{problem}"),
            Some(Ok((_, peer))) if clashes(boot, &peers, peer) => log::warn!(
                "{}",
                problem!("E0141", ("/cpus/cpu@{affinity:x}"); ("has the CPU interface of another one; it stays off");
                    ("A GICv2 has eight, and GICD_ITARGETSR0 says whose is which"))
            ),
            Some(Ok((facts, peer))) => {
                peers.push(peer);
                all.push(facts);
            }
        }
    }
    boot.peers = peers.into();
    report(&all);
    all
}

/// Bytes of memory that the stacks of so many CPUs take besides the image.
pub fn stack_bytes(cpus: usize) -> u64 {
    cpus.saturating_sub(1) as u64 * stacks::PAGES as u64 * PAGE_SIZE
}

/// Has every other CPU run `job` with itself as the argument. It sleeps for good when that returns. Called once.
pub fn release(boot: &Cpu, job: &'static (dyn Fn(Cpu) + Sync)) {
    *JOB.lock() = Some(Job { peers: boot.peers.clone(), run: job });
    boot.peers.iter().skip(1).for_each(|peer| boot.gic.kick(peer));
}

/// This CPU's stacks, if it has any of its own.
pub(super) fn own_stacks() -> [HostRange; 2] {
    let fault = read!("TPIDR_EL2");
    let mut records = MEZZANINE_CPUS.records.iter();
    let below = |top: u64, pages: usize| {
        let bytes = pages as u64 * PAGE_SIZE;
        super::span(top.saturating_sub(bytes), bytes)
    };
    match records.find(|record| record.fault.load(Ordering::Relaxed) == fault) {
        Some(record) => {
            [below(record.stack.load(Ordering::Relaxed), stacks::STACK), below(fault, stacks::FAULT)]
        }
        None => [super::span(0, 0); 2],
    }
}

/// Makes everything ready that a CPU finds when it comes; who may.
fn prepare(platform: &Platform<'_>, boot: &mut Cpu, memory: &mut Memory) -> Vec<fdt::Cpu> {
    let me = setup::affinity();
    let mut ready = Vec::new();
    for cpu in cpus::others(platform, me) {
        // One CPU is us, and one record ends the list.
        let room = ready.len() < cpus::MAX - 1;
        if let Err(problem) =
            if room { give_stacks(ready.len(), cpu.affinity, memory) } else { Err(too_many()) }
        {
            log::warn!("{problem}");
            break;
        }
        ready.push(*cpu);
    }
    for record in MEZZANINE_CPUS.records.iter().skip(ready.len()) {
        record.affinity.store(NOBODY, Ordering::Relaxed);
    }
    for (slot, value) in MEZZANINE_CPUS.registers.iter().zip(mmu::registers()) {
        slot.store(value, Ordering::Relaxed);
    }
    let seed = |_: &fdt::Cpu| Some([boot.random()?, boot.random()?, boot.random()?, boot.random()?]);
    let seeds = ready.iter().map_while(seed).collect();
    *MACHINERY.lock() = Some(Arc::new(Machinery {
        gic: platform.gic.clone(),
        console_irq: boot.console_irq,
        conduit: boot.conduit,
        seeds: Mutex::new(seeds),
    }));
    let mut roll = ROLL.lock();
    roll.open = true;
    roll.here.reserve(ready.len());
    drop(roll);
    fault::expect_others();
    // Read by CPUs whose caches are off (boot.s): out to the point of coherency.
    cache::invalidate(super::span(&raw const MEZZANINE_CPUS as u64, size_of::<Table>() as u64));
    ready
}

fn too_many() -> Problem {
    problem!("E0140", ("/cpus"); ("more than {} CPUs; the others stay off", cpus::MAX); ("Mezzanine runs on {} at most", cpus::MAX))
}

/// Stacks for the CPU with record `n`.
fn give_stacks(n: usize, affinity: u64, memory: &mut Memory) -> Result<(), Problem> {
    let bytes = stacks::PAGES as u64 * PAGE_SIZE;
    let no_room = || {
        problem!("E0140", ("/cpus/cpu@{affinity:x}"); ("no {} KiB left for its stacks; it stays off", bytes >> 10);
            ("Give the machine more RAM"))
    };
    let range = memory.take(bytes, PAGE_SIZE).ok_or_else(no_room)?;
    // What whoever had it before us left in caches must not come down on it later: it is used by another name now.
    cache::invalidate(range);
    let mut from = range.start();
    let mut map = |first: usize, pages: usize| {
        let mut top = 0;
        for page in first..first + pages {
            top = window::map(page, from)? as u64 + PAGE_SIZE;
            from = from.checked_add(PAGE_SIZE)?;
        }
        Some(top)
    };
    let stack = map(stacks::stack(n), stacks::STACK).ok_or_else(no_room)?;
    let fault = map(stacks::fault(n), stacks::FAULT).ok_or_else(no_room)?;
    let record = MEZZANINE_CPUS.records.get(n).ok_or_else(too_many)?;
    record.affinity.store(affinity, Ordering::Relaxed);
    record.stack.store(stack, Ordering::Relaxed);
    record.fault.store(fault, Ordering::Relaxed);
    Ok(())
}

/// Pages outside of RAM that EL2 maps, where spin tables lie, and where they are mapped.
#[derive(Default)]
struct ReleasePages(Vec<(HostPhysAddr, usize)>);

impl ReleasePages {
    /// Where EL2 has the word at `at`.
    fn find(&mut self, platform: &Platform<'_>, at: HostPhysAddr) -> Option<usize> {
        if platform.is_mapped(HostRange::new(at, 8)?) {
            return Some(at.raw() as usize);
        }
        let page = at.align_down(PAGE_SIZE);
        let offset = (at.raw() - page.raw()) as usize;
        if let Some((_, mapped)) = self.0.iter().find(|(known, _)| *known == page) {
            return Some(mapped + offset);
        }
        let mapped = window::map(stacks::WINDOW + self.0.len(), page)?;
        self.0.push((page, mapped));
        Some(mapped + offset)
    }
}

/// Sends a CPU on its way to `__secondary`.
fn set_off(
    platform: &Platform<'_>,
    cpu: &fdt::Cpu,
    way: Way,
    pages: &mut ReleasePages,
) -> Result<(), Problem> {
    let entry = &raw const __secondary as u64;
    match way {
        Way::Psci(conduit) => smc::cpu_on(conduit, cpu.affinity, entry).map_err(|error| {
            problem!("E0137", ("/cpus/cpu@{:x}", cpu.affinity); ("PSCI CPU_ON says {} ({})", cpus::psci_error(error), error as i32);
                ("If it may not run, say so: status = \"disabled\""))
        }),
        Way::SpinTable(at) => {
            let word = pages.find(platform, at).ok_or_else(|| {
                problem!("E0139", ("/cpus/cpu@{:x} cpu-release-addr", cpu.affinity); ("{at} cannot be mapped; it stays off");
                    ("An address of 8 aligned bytes of memory"))
            })?;
            // SAFETY: by its binding the word is there for nothing else (booting.rst); it is mapped, and aligned.
            unsafe { (word as *mut u64).write_volatile(entry) };
            // The CPU that waits for it may have its caches off; the barrier is for the event as well.
            cache::invalidate(super::span(word as u64, 8));
            op!("sev");
            Ok(())
        }
    }
}

/// Waits for so many CPUs, each its time; who came.
fn roll_call(expected: usize) -> Vec<Report> {
    let patience = timer::frequency() * cpus::PATIENCE * expected as u64;
    let end = timer::now().0.saturating_add(patience);
    loop {
        let mut roll = ROLL.lock();
        if roll.here.len() >= expected || timer::now().0 > end {
            roll.open = false;
            return core::mem::take(&mut roll.here);
        }
        drop(roll);
        super::relax();
    }
}

/// Whether one of `known` would get what is sent to `peer`.
fn clashes(boot: &Cpu, known: &[Peer], peer: Peer) -> bool {
    boot.gic.version() == GicVersion::V2 && known.iter().any(|other| other.signal == peer.signal)
}

fn facts(gic: &Gic, peer: Peer) -> CpuFacts {
    let (pa_bits, vmid16) = setup::address_sizes();
    CpuFacts {
        affinity: peer.affinity,
        midr: setup::midr(),
        ids: setup::id_registers(),
        pa_bits,
        vmid16,
        lists: gic.list_registers(),
        priority_bits: gic.priority_bits(),
        interface: match gic.version() {
            GicVersion::V2 => Some((peer.signal >> 16).trailing_zeros() as u8),
            GicVersion::V3 => None,
        },
    }
}

/// One line of what there is now: how many CPUs, and of which kinds.
fn report(all: &[CpuFacts]) {
    log::info!("cpus: {} run, MIDR{}", all.len(), Kinds(all));
}

/// Each MIDR once.
struct Kinds<'a>(&'a [CpuFacts]);

impl fmt::Display for Kinds<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, cpu) in self.0.iter().enumerate() {
            if !self.0.iter().take(n).any(|earlier| earlier.midr == cpu.midr) {
                write!(f, " {:#x}", cpu.midr)?;
            }
        }
        Ok(())
    }
}

/// From `boot.s`: another CPU, with the MMU and caches on and a stack, and nothing else as it should be.
#[unsafe(no_mangle)]
extern "C" fn mezzanine_secondary() -> ! {
    el2::init_cpu();
    let affinity = setup::affinity();
    let machinery = MACHINERY.lock().clone();
    if let Some(machinery) = machinery
        && let Some(gic) = report_in(&machinery, affinity)
    {
        let job = wait(&gic);
        if let Some(place) = job.peers.iter().position(|peer| peer.affinity == affinity) {
            let cpu = Cpu {
                id: CpuId(place as u16),
                left_listed: gic.all_lists(),
                gic,
                resident: Resident::default(),
                hcr: el2::hcr::HOST,
                console_irq: machinery.console_irq,
                conduit: machinery.conduit,
                peers: job.peers,
                entropy: entropy(&machinery, affinity),
            };
            (job.run)(cpu);
        }
    }
    fault::park()
}

/// Brings up this CPU's part of the interrupt controller and says what we are, if somebody waits for that.
fn report_in(machinery: &Machinery, affinity: u64) -> Option<Gic> {
    // SAFETY: the tree says that it is there, and `enable_mmu` mapped it before this CPU was started.
    let opened = unsafe { gic::open(&machinery.gic, affinity, false) };
    let (gic, found) = match opened {
        Ok(gic) => {
            let peer = gic.peer(affinity);
            let facts = facts(&gic, peer);
            (Some(gic), Ok((facts, peer)))
        }
        Err(problem) => (None, Err(problem)),
    };
    let mut roll = ROLL.lock();
    if !roll.open {
        return None;
    }
    roll.here.push(Report { affinity, found });
    gic
}

/// Sleeps until there is something to do.
fn wait(gic: &Gic) -> Job {
    loop {
        // A kick that comes between the look and the WFI is pending then, and ends it.
        if let Some(job) = JOB.lock().clone() {
            return job;
        }
        op!("dsb sy");
        op!("wfi");
        while let Some(id) = gic.ack() {
            gic.done(id, false);
        }
    }
}

/// This CPU's own random numbers, of a seed that no other has.
fn entropy(machinery: &Machinery, affinity: u64) -> Entropy {
    let mut entropy = Entropy::default();
    if let Some(seed) = machinery.seeds.lock().pop() {
        seed.iter().for_each(|word| entropy.seed(&word.to_le_bytes()));
    }
    setup::seed_by_cpu(&mut entropy);
    entropy.stir(affinity);
    entropy
}
