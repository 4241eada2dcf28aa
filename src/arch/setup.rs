//! The steps of boot that touch the machine, for `main.rs` to put in order.

use super::context::Resident;
use super::gic;
use super::sys::read;
use super::{cpu::Cpu, el2, fault, mmu, timer, uart};
use crate::addr::{Address, HostPhysAddr, HostRange, PAGE_SIZE};
use crate::board::Board;
use crate::console;
use crate::create::VgicHost;
use crate::fdt::{self, Gic, Platform};
use crate::problem;
use crate::problem::Problem;
use crate::sync::Mutex;
use crate::trng::Entropy;
use crate::vcpu::CpuId;
use core::fmt;

unsafe extern "C" {
    static __vectors: u8;
}

/// `[mz  seconds.micros]` by the system counter, which starts with the machine.
pub struct Stamp;

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ticks, hz) = (timer::now().0, timer::frequency());
        console::stamp(f, ticks / hz, ticks % hz * 1_000_000 / hz)
    }
}

/// Keeps the lines of several CPUs apart.
static LINE: Mutex<()> = Mutex::new(());

/// Writes to the console and waits until it is out: for boot, when nobody else wants the CPU.
pub fn print(text: &str) {
    // Alone, and perhaps without caches, a CPU takes no lock.
    let _line = fault::others_run().then(|| LINE.lock());
    uart::put_all(text.as_bytes());
}

/// Step: vectors that say what went wrong, then every other EL2 register.
pub fn init_cpu() {
    super::sys::write!("VBAR_EL2", &raw const __vectors as u64);
    super::isb();
    el2::init_cpu();
}

/// Step: finds the device tree. `x0` is what the loader passed; an ELF loader passes 0 and leaves the tree
/// at the start of RAM, 2 MiB below the image.
///
/// # Safety
/// Called once, by the boot CPU with the MMU off: nobody else has a reference to the tree's memory.
pub unsafe fn tree(x0: u64) -> Option<&'static mut [u8]> {
    /// Enough of a header to know the size.
    const HEADER: usize = 40;
    let at = if x0 != 0 { x0 } else { super::image().start().raw().checked_sub(2 << 20)? };
    if at & 7 != 0 {
        return None;
    }
    // SAFETY: the loader said that a tree is there; only its header is looked at before the magic is known.
    let header = unsafe { core::slice::from_raw_parts(at as *const u8, HEADER) };
    let size = fdt::total_size(header)?;
    // SAFETY: a tree of this size is there, and by the contract nobody else has a reference to it.
    Some(unsafe { core::slice::from_raw_parts_mut(at as *mut u8, size) })
}

/// Step: what was written to the tree with the caches off must not be shadowed by stale lines later.
pub fn forget_lines(tree: &[u8]) {
    let range = tree.as_ptr_range();
    super::cache::invalidate(HostRange::between(
        HostPhysAddr::at(range.start as u64),
        HostPhysAddr::at(range.end as u64),
    ));
}

/// Step: the console, if the tree names a port that we drive; and how to reach the firmware.
pub fn open_console(platform: &Platform<'_>) -> bool {
    fault::set_conduit(platform.psci.map(|psci| psci.conduit));
    // SAFETY: the tree gives the port's address, and `enable_mmu` maps it as device memory.
    platform.uart.as_ref().is_some_and(|uart| unsafe { uart::open(uart) })
}

/// Instead of [`open_console`], where the tree is of no use: what the board is known to have.
pub fn open_fallback(board: Option<&Board>) {
    let Some(board) = board else { return };
    fault::set_conduit(board.conduit);
    if let Some(base) = board.early_pl011 {
        // SAFETY: the board's table gives the port's address, and the MMU stays off: nothing starts now.
        unsafe { uart::open_pl011(base) };
    }
}

/// Turns the machine off through the firmware, at whatever exception level we are.
pub fn give_up() -> ! {
    fault::off()
}

/// Step: our own translation: RAM, devices, the image with W^X.
///
/// # Errors
/// E0131: the machine's memory does not fit the tables.
pub fn enable_mmu(platform: &Platform<'_>) -> Result<(), Problem> {
    let failed = |mmu::MapFailed(range): mmu::MapFailed| problem!("E0131", ("memory {range}"); ("EL2 cannot map it"); ("RAM and devices lie below 2^48 and do not overlap"));
    let mut tables = mmu::Builder::new().map_err(failed)?;
    for bank in &platform.ram {
        // What the firmware marked no-map stays out: not even speculation may touch it.
        let holes = platform.reserved.iter().filter(|hole| hole.no_map).map(|hole| hole.range);
        for part in without(*bank, holes) {
            tables.ram(part).map_err(failed)?;
        }
    }
    for device in devices(platform) {
        tables.device(device).map_err(failed)?;
    }
    tables.enable().map_err(failed)
}

/// The parts of `bank` outside of `holes`, some empty; the fixed size is that of the tree's reserved ranges.
fn without(bank: HostRange, holes: impl Iterator<Item = HostRange>) -> heapless::Vec<HostRange, 65> {
    let mut parts = heapless::Vec::new();
    let _ = parts.push(bank);
    for hole in holes {
        let hole = hole.align_out(crate::addr::PAGE_SIZE);
        // What is left above a hole goes to the end, where the same hole does not find it.
        for n in 0..parts.len() {
            let Some(part) = parts.get_mut(n).filter(|part| hole.overlaps(part)) else { continue };
            let above = HostRange::between(hole.end(), part.end());
            *part = HostRange::between(part.start(), hole.start());
            if !above.is_empty() {
                let _ = parts.push(above);
            }
        }
    }
    parts
}

/// The device registers that EL2 uses.
fn devices(platform: &Platform<'_>) -> impl Iterator<Item = HostRange> {
    let mut ranges: heapless::Vec<HostRange, 16> = heapless::Vec::new();
    let mut add = |range: HostRange| {
        let _ = ranges.push(range);
    };
    if let Some(uart) = &platform.uart {
        add(uart.range);
    }
    platform.rtc.into_iter().for_each(&mut add);
    match &platform.gic {
        Gic::V3 { dist, redistributors, .. } => {
            add(*dist);
            redistributors.iter().copied().for_each(&mut add);
        }
        // GICV is for guests.
        Gic::V2 { dist, cpu, hyp, .. } => {
            [Some(*dist), Some(*cpu), *hyp].into_iter().flatten().for_each(&mut add);
        }
        Gic::None => {}
    }
    ranges.into_iter()
}

/// Step: this CPU's interrupt controller, timers and console interrupt.
///
/// # Errors
/// E0132, E0133: the machine has no interrupt controller that we drive, or it has nothing for this CPU.
pub fn cpu(platform: &Platform<'_>) -> Result<Cpu, Problem> {
    let affinity = affinity();
    // SAFETY: the tree says that it is there, and `enable_mmu` mapped it.
    let gic = unsafe { gic::open(&platform.gic, affinity, true) }?;
    let console_irq = platform.uart.as_ref().and_then(|uart| uart.interrupt);
    if let Some(irq) = console_irq {
        gic.enable_spi(irq, &gic.peer(affinity));
    }
    uart::start();
    let mut entropy = Entropy::default();
    seed_by_cpu(&mut entropy);
    if !platform.rng_seed.is_empty() {
        entropy.seed(platform.rng_seed);
        entropy.seed(&platform.kaslr_seed.unwrap_or(0).to_le_bytes());
        entropy.seed(&timer::now().0.to_le_bytes());
    }
    let peers = alloc::vec![gic.peer(affinity)].into();
    Ok(Cpu {
        id: CpuId(0),
        left_listed: gic.all_lists(),
        gic,
        resident: Resident::default(),
        hcr: el2::hcr::HOST,
        console_irq,
        conduit: platform.psci.map(|psci| psci.conduit),
        peers,
        entropy,
    })
}

/// Takes in what the CPU's own random number generator gives, where it has one.
pub(super) fn seed_by_cpu(entropy: &mut Entropy) {
    for _ in 0..4 {
        if let Some(random) = rndr() {
            entropy.seed(&random.to_le_bytes());
        }
    }
}

/// 64 bits of the CPU's own random number generator, where it has one (FEAT_RNG) and that delivers.
fn rndr() -> Option<u64> {
    if read!("ID_AA64ISAR0_EL1") >> 60 == 0 {
        return None;
    }
    let (value, failed): (u64, u64);
    // SAFETY: RNDR (S3_3_C2_C4_0) exists as just checked, and touches no memory; it sets Z when it failed.
    unsafe {
        core::arch::asm!("mrs {}, S3_3_C2_C4_0", "cset {}, eq", out(reg) value, out(reg) failed, options(nomem, nostack));
    }
    (failed == 0).then_some(value)
}

impl Cpu {
    /// What there is for guests' interrupt controllers.
    pub fn vgic_host(&self, platform: &Platform<'_>, emulated: bool) -> VgicHost {
        VgicHost {
            version: self.gic.version(),
            lists: self.gic.list_registers(),
            priority_bits: self.gic.priority_bits(),
            // A page that is a guest's is nobody else's: where the tree is not sure, interfaces are emulated.
            gicv: match &platform.gic {
                Gic::V2 { dist, cpu, hyp, vcpu } => vcpu.filter(|gicv| {
                    let others = [Some(*dist), Some(*cpu), *hyp].into_iter().flatten();
                    let fits = gicv.start().raw().is_multiple_of(PAGE_SIZE) && gicv.size() >= PAGE_SIZE;
                    fits && !others.chain(platform.ram.iter().copied()).any(|other| other.overlaps(gicv))
                }),
                Gic::V3 { .. } | Gic::None => None,
            }
            .map(|gicv| gicv.start()),
            emulated,
        }
    }
}

/// What every guest's HCR_EL2 starts with.
pub fn guest_hcr() -> u64 {
    el2::hcr::GUEST
}

/// Affinity fields of this CPU's MPIDR_EL1.
pub(super) fn affinity() -> u64 {
    read!("MPIDR_EL1") & 0xff_00ff_ffff
}

/// MIDR_EL1 of this CPU.
pub fn midr() -> u64 {
    read!("MIDR_EL1")
}

/// The counter now.
pub fn now() -> crate::machine::Ticks {
    timer::now()
}

/// Ticks of the counter in a second.
pub fn frequency() -> u64 {
    timer::frequency()
}

/// Seconds since 1970 by the machine's PL031, or 0 without one.
pub fn wall_clock(platform: &Platform<'_>) -> u64 {
    // SAFETY: the tree says that a PL031 is there, and `enable_mmu` mapped it; RTCDR is its first register.
    platform.rtc.map_or(0, |rtc| u64::from(unsafe { (rtc.start().raw() as *const u32).read_volatile() }))
}

/// A piece of memory as bytes: a boot module, which stays reserved.
///
/// # Safety
/// The range is RAM that EL2 maps, and nobody writes to it any more.
pub unsafe fn bytes(range: HostRange) -> &'static [u8] {
    // SAFETY: the caller says so.
    unsafe { core::slice::from_raw_parts(range.start().raw() as *const u8, range.size() as usize) }
}

macro_rules! id_group {
    ($array:ident; $($crm:literal)*) => { $(
        id_group!(@row $array, $crm, 0 1 2 3 4 5 6 7);
    )* };
    (@row $array:ident, $crm:literal, $($op2:literal)*) => { $(
        $array[$crm * 8 + $op2] = read!(concat!("S3_0_C0_C", $crm, "_", $op2));
    )* };
}

/// The ID registers of this CPU: op0 = 3, op1 = 0, CRn = 0, by CRm * 8 + op2.
pub fn id_registers() -> [u64; 64] {
    let mut ids = [0; 64];
    // CRm 0 holds MIDR and its kin: not for this table, and not all allocated. The others at least read as zero.
    id_group!(ids; 1 2 3 4 5 6 7);
    ids
}

/// EL2 features that matter here, in a few words.
pub struct Features;

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mmfr0, mmfr1, mmfr2) =
            (read!("ID_AA64MMFR0_EL1"), read!("ID_AA64MMFR1_EL1"), read!("S3_0_C0_C7_2"));
        let bits = [32, 36, 40, 42, 44, 48, 52][(mmfr0 & 0xf).min(6) as usize];
        write!(f, "{bits}-bit addresses, VMID{}", if mmfr1 >> 4 & 0xf >= 2 { 16 } else { 8 })?;
        for (present, name) in [
            (mmfr1 >> 8 & 0xf != 0, "VHE"),
            (mmfr2 >> 40 & 0xf != 0, "FWB"),
            (mmfr0 >> 56 & 0xf != 0, "FGT"),
            (mmfr0 >> 60 & 0xf != 0, "ECV"),
        ] {
            if present {
                write!(f, " {name}")?;
            }
        }
        Ok(())
    }
}

/// Bits of a physical address, at most 48, and whether VMIDs have 16 bits.
pub fn address_sizes() -> (u8, bool) {
    let bits = [32, 36, 40, 42, 44, 48][(read!("ID_AA64MMFR0_EL1") & 0xf).min(5) as usize];
    (bits, read!("ID_AA64MMFR1_EL1") >> 4 & 0xf >= 2)
}
