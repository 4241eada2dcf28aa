//! The interrupt controller's driver: one interface over GICv2 and GICv3.
//!
//! Which of the two there is, and where, the device tree says, as to any guest. Written from IHI 0048B
//! (GICv2) and IHI 0069 (GICv3) for a controller of one security state. A GICv2 may be a real one without
//! the Security Extensions or GICV in the place of GICC: they differ in little, and [`quirks`] names it.
//!
//! Interrupts are of the group that a kernel uses for them: group 0 with GICv2, where both groups come as
//! IRQ unless FIQEn is set, and group 1 with GICv3, where group 0 comes as FIQ. [`cpuif`] has the registers
//! of both groups.

pub mod cpuif;
mod log;
pub mod quirks;
mod v2;
mod v3;

pub use log::{count, entry, forget, note, record, source_of, taken};

use crate::mmio::{read8, read32, write8, write32, write64};
use crate::{fdt, mrs, op, timer};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Bytes of each redistributor: RD and SGI frames.
pub const GICR_STRIDE: usize = 0x2_0000;
/// The SGI frame in it.
pub const SGI: usize = 0x1_0000;
/// What an acknowledge says when there is nothing.
pub const SPURIOUS: u32 = 1023;
/// What GICv2's IAR and HPPIR say when the first interrupt is of group 1 and AckCtl is 0.
pub const OTHER_GROUP: u32 = 1022;
/// What [`enable`] gives an interrupt.
pub const USUAL: u8 = 0xa0;

/// Registers of the distributor, by offset; arrays by the offset of their first word.
pub mod reg {
    pub const CTLR: usize = 0x000;
    pub const TYPER: usize = 0x004;
    pub const IIDR: usize = 0x008;
    pub const GROUP: usize = 0x080;
    pub const ISENABLE: usize = 0x100;
    pub const ICENABLE: usize = 0x180;
    pub const ISPEND: usize = 0x200;
    pub const ICPEND: usize = 0x280;
    pub const ISACTIVE: usize = 0x300;
    pub const ICACTIVE: usize = 0x380;
    pub const PRIORITY: usize = 0x400;
    /// GICv2 alone.
    pub const TARGETS: usize = 0x800;
    pub const CONFIG: usize = 0xc00;
    /// GICv2 alone.
    pub const SGIR: usize = 0xf00;
    /// GICv2 alone.
    pub const CPENDSGI: usize = 0xf10;
    /// GICv2 alone.
    pub const SPENDSGI: usize = 0xf20;
    /// GICv3 alone.
    pub const ROUTER: usize = 0x6000;
    /// GICD_PIDR2, GICv2 (GIC-400); GICv3 has it at 0xffe8.
    pub const PIDR2_V2: usize = 0xfe8;
    /// GICD_PIDR2 and GICR_PIDR2, GICv3.
    pub const PIDR2_V3: usize = 0xffe8;
}

/// The architecture's versions that guests know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// Distributor and CPU interface are memory.
    V2,
    /// Redistributors, and the CPU interface is system registers.
    V3,
}

/// 2 or 3; 0 until it was looked up.
static VERSION: AtomicU32 = AtomicU32::new(0);
static GICD: AtomicUsize = AtomicUsize::new(0);
/// GICC or the first GICR.
static SECOND: AtomicUsize = AtomicUsize::new(0);

/// The version, as the tree's interrupt controller has it in `compatible`.
pub fn version() -> Version {
    if VERSION.load(Ordering::Relaxed) == 0 {
        look_up();
    }
    if VERSION.load(Ordering::Relaxed) == 2 { Version::V2 } else { Version::V3 }
}

/// Whether it is a GICv2.
pub fn v2() -> bool {
    version() == Version::V2
}

/// The distributor.
pub fn gicd() -> usize {
    version();
    GICD.load(Ordering::Relaxed)
}

/// The CPU interface of GICv2.
pub fn gicc() -> usize {
    version();
    SECOND.load(Ordering::Relaxed)
}

/// The first redistributor of GICv3.
pub fn gicr() -> usize {
    version();
    SECOND.load(Ordering::Relaxed)
}

/// This CPU's redistributor.
pub fn redistributor() -> usize {
    gicr() + GICR_STRIDE * cpu()
}

fn look_up() {
    const KNOWN: [(&[u8], u32); 3] = [(b"arm,gic-v3", 3), (b"arm,cortex-a15-gic", 2), (b"arm,gic-400", 2)];
    let mut found = 0;
    let mut name = [0u8; 64];
    let mut len = 0;
    let Some(tree) = fdt::tree() else { return crate::fail(format_args!("no tree, so no controller")) };
    tree.walk(|p| {
        let Some(node) = p.path.last().filter(|_| p.path.len() == 2 && p.name == "compatible") else {
            return;
        };
        let known = p.value.split(|b| *b == 0).find_map(|word| KNOWN.iter().find(|known| known.0 == word));
        if let (Some(known), Some(room)) = (known, name.get_mut(..node.len())) {
            room.copy_from_slice(node.as_bytes());
            (found, len) = (known.1, node.len());
        }
    });
    let node = core::str::from_utf8(&name[..len]).unwrap_or("?");
    let reg = tree.find(&["", node], "reg").unwrap_or(&[]);
    let at = |n: usize| reg.get(16 * n..16 * n + 8).map_or(0, fdt::number) as usize;
    crate::check!(found != 0, "the tree has no GICv2 and no GICv3");
    GICD.store(at(0), Ordering::Relaxed);
    SECOND.store(at(1), Ordering::Relaxed);
    VERSION.store(if found == 0 { 3 } else { found }, Ordering::Relaxed);
}

/// This CPU's number, as the library counts.
pub fn cpu() -> usize {
    mrs!("tpidr_el1") as usize
}

/// The bit of this CPU in lists of targets.
pub fn own() -> u16 {
    1 << cpu()
}

/// What GICD_TYPER makes of its line count: interrupts that are there, 1020 at most.
pub fn lines() -> u32 {
    ((read32(gicd() + reg::TYPER) & 0x1f) * 32 + 32).min(1020)
}

/// Where the register arrays of `intid` are.
pub fn frame(intid: u32) -> usize {
    if intid < 32 && !v2() { redistributor() + SGI } else { gicd() }
}

/// The word of `intid` in an array of bits.
pub fn word(array: usize, intid: u32) -> usize {
    frame(intid) + array + intid as usize / 32 * 4
}

/// Reads the bit of `intid` in a register array.
pub fn bit(array: usize, intid: u32) -> bool {
    read32(word(array, intid)) >> (intid % 32) & 1 != 0
}

/// Writes a one to the bit of `intid` in a set or clear register.
pub fn set(array: usize, intid: u32) {
    write32(word(array, intid), 1 << (intid % 32));
    sync(intid);
}

/// Waits until the write has its effect.
pub fn sync(intid: u32) {
    op!("dsb sy");
    if v2() {
        return;
    }
    let control = if intid < 32 { redistributor() } else { gicd() };
    let pending = if intid < 32 { 1 << 3 } else { 1 << 31 };
    let done = timer::until(1000, || read32(control) & pending == 0);
    crate::check!(done, "register write stays pending for interrupt {intid}");
}

/// Sets the priority of `intid`.
pub fn priority(intid: u32, priority: u8) {
    write8(frame(intid) + reg::PRIORITY + intid as usize, priority);
}

/// The priority of `intid`, as it reads back.
pub fn priority_of(intid: u32) -> u8 {
    read8(frame(intid) + reg::PRIORITY + intid as usize)
}

/// Puts `intid` into a group.
pub fn group(intid: u32, group: u32) {
    let at = word(reg::GROUP, intid);
    let bit = 1 << (intid % 32);
    write32(at, if group == 0 { read32(at) & !bit } else { read32(at) | bit });
    sync(intid);
}

/// The group that interrupts are in after [`init`].
pub fn usual_group() -> u32 {
    if v2() { 0 } else { 1 }
}

/// Enables `intid` with priority [`USUAL`], edge or level as it was, routed to this CPU.
pub fn enable(intid: u32) {
    priority(intid, USUAL);
    if intid >= 32 {
        route(intid, cpu());
    }
    set(reg::ISENABLE, intid);
}

/// Disables `intid`.
pub fn disable(intid: u32) {
    set(reg::ICENABLE, intid);
}

/// Sends SPI `intid` to one CPU.
pub fn route(intid: u32, cpu: usize) {
    if v2() {
        write8(gicd() + reg::TARGETS + intid as usize, 1 << cpu);
    } else {
        write64(gicd() + reg::ROUTER + intid as usize * 8, crate::smp::affinity(cpu));
    }
    sync(intid);
}

/// Makes `intid` edge-triggered, or level-sensitive.
pub fn edge(intid: u32, edge: bool) {
    let at = frame(intid) + reg::CONFIG + intid as usize / 16 * 4;
    let bit = 2 << (intid % 16 * 2);
    write32(at, if edge { read32(at) | bit } else { read32(at) & !bit });
    sync(intid);
}

/// Makes `intid` pending: an SGI as if this CPU had sent it to itself.
pub fn pend(intid: u32) {
    if intid < 16 && v2() {
        write8(gicd() + reg::SPENDSGI + intid as usize, own() as u8);
        sync(intid);
    } else {
        set(reg::ISPEND, intid);
    }
}

/// Makes `intid` not pending: an SGI from every source.
pub fn unpend(intid: u32) {
    if intid < 16 && v2() {
        write8(gicd() + reg::CPENDSGI + intid as usize, 0xff);
        sync(intid);
    } else {
        set(reg::ICPEND, intid);
    }
}

/// Whether `intid` is pending.
pub fn pending(intid: u32) -> bool {
    bit(reg::ISPEND, intid)
}

/// Whether `intid` is active.
pub fn active(intid: u32) -> bool {
    bit(reg::ISACTIVE, intid)
}

/// Whether SGIs can be disabled: with GICv2 that is the implementation's choice.
pub fn sgis_switch() -> bool {
    let was = read32(gicd() + reg::ISENABLE);
    if !v2() {
        return true;
    }
    write32(gicd() + reg::ICENABLE, 1);
    let switched = read32(gicd() + reg::ISENABLE) & 1 == 0;
    write32(gicd() + reg::ISENABLE, was & 1);
    switched
}

/// Distributor, once, and this CPU's part: everything disabled, not pending, not active, one group.
pub fn init() {
    let gicd = gicd();
    let lines = lines().div_ceil(32) as usize;
    distributor(false);
    for n in 1..lines {
        write32(gicd + reg::GROUP + 4 * n, if v2() { 0 } else { !0 });
        for array in [reg::ICENABLE, reg::ICPEND, reg::ICACTIVE] {
            write32(gicd + array + 4 * n, !0);
        }
    }
    distributor(true);
    init_cpu();
}

/// Turns the distributor's groups on or off, both; GICv3 keeps ARE.
pub fn distributor(on: bool) {
    let groups = if on { 3 } else { 0 };
    write32(gicd() + reg::CTLR, if v2() { groups } else { 0x10 | groups });
    sync(32);
}

/// The CPU's own interrupts and its CPU interface.
pub fn init_cpu() {
    if v2() { v2::init_cpu() } else { v3::init_cpu() }
}

/// Acknowledges: what the register said, with GICv2's source CPU. [`id`] and [`source`] take it apart.
pub fn ack() -> u32 {
    cpuif::iar(usual_group())
}

/// The interrupt that an acknowledge names.
pub fn id(acknowledged: u32) -> u32 {
    if v2() { acknowledged & 0x3ff } else { acknowledged & 0xff_ffff }
}

/// The CPU that sent it, if it is an SGI of GICv2; else 0.
pub fn source(acknowledged: u32) -> u32 {
    if v2() { acknowledged >> 10 & 7 } else { 0 }
}

/// Ends an interrupt, as acknowledged: drops its priority and, in EOImode 0, deactivates it.
pub fn end(acknowledged: u32) {
    cpuif::eoir(usual_group(), acknowledged);
}

/// Deactivates an interrupt, as acknowledged, in EOImode 1.
pub fn deactivate(acknowledged: u32) {
    cpuif::dir(acknowledged);
}

/// Sends SGI `intid` to those of the first sixteen CPUs of this cluster (GICv2: first eight) that `targets` names.
pub fn send(intid: u32, targets: u16) {
    send_to(intid, Targets::List(targets));
}

/// Whom an SGI is for.
#[derive(Clone, Copy, Debug)]
pub enum Targets {
    /// By the CPUs' bits.
    List(u16),
    /// One, by its number, in whichever cluster it is.
    Cpu(usize),
    /// All but this one.
    Others,
    /// This one alone.
    Own,
}

/// Sends SGI `intid`.
pub fn send_to(intid: u32, targets: Targets) {
    op!("dsb sy");
    if v2() {
        v2::send(intid, targets);
    } else {
        v3::send(usual_group(), intid, targets);
    }
}

/// Waits until `intid` is the most urgent pending interrupt, and acknowledges it: as [`ack`].
pub fn await_ack(intid: u32) -> u32 {
    timer::until(1000, || highest_pending() == intid);
    let acknowledged = ack();
    crate::check_eq!(id(acknowledged), intid, "acknowledged");
    acknowledged
}

/// Whether an RPR value says that nothing is active: the unimplemented bits may be zero.
pub fn idle(running: u32) -> bool {
    matches!(running & 0xff, 0xf0 | 0xf8 | 0xff)
}

/// The most urgent pending interrupt.
pub fn highest_pending() -> u32 {
    op!("isb");
    id(cpuif::hppir(usual_group()))
}
