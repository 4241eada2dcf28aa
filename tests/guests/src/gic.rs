//! A GICv3 driver of the few things that tests use (IHI 0069).

use crate::mmio::{read32, read64, write8, write32, write64};
use crate::{mrs, msr, op, timer};

/// The distributor.
pub const GICD: usize = 0x0800_0000;
/// The first redistributor.
pub const GICR: usize = 0x080a_0000;
/// Bytes of each redistributor: RD and SGI frames.
pub const GICR_STRIDE: usize = 0x2_0000;
/// The SGI frame in it.
pub const SGI: usize = 0x1_0000;
/// What ICC_IAR1 says when there is nothing.
pub const SPURIOUS: u32 = 1023;

/// Register arrays with one bit for each interrupt, by offset.
pub mod reg {
    pub const GROUP: usize = 0x080;
    pub const ISENABLE: usize = 0x100;
    pub const ICENABLE: usize = 0x180;
    pub const ISPEND: usize = 0x200;
    pub const ICPEND: usize = 0x280;
    pub const ISACTIVE: usize = 0x300;
    pub const ICACTIVE: usize = 0x380;
    pub const PRIORITY: usize = 0x400;
    pub const CONFIG: usize = 0xc00;
    pub const ROUTER: usize = 0x6000;
}

/// This CPU's number, as the library counts.
pub fn cpu() -> usize {
    mrs!("tpidr_el1") as usize
}

fn frame(intid: u32) -> usize {
    if intid < 32 { GICR + GICR_STRIDE * cpu() + SGI } else { GICD }
}

/// Reads the bit of `intid` in a register array.
pub fn bit(array: usize, intid: u32) -> bool {
    read32(frame(intid) + array + intid as usize / 32 * 4) >> (intid % 32) & 1 != 0
}

/// Writes a one to the bit of `intid` in a set or clear register.
pub fn set(array: usize, intid: u32) {
    write32(frame(intid) + array + intid as usize / 32 * 4, 1 << (intid % 32));
    sync(intid);
}

/// Waits until the write has its effect.
pub fn sync(intid: u32) {
    let control = if intid < 32 { GICR + GICR_STRIDE * cpu() } else { GICD };
    let pending = if intid < 32 { 1 << 3 } else { 1 << 31 };
    let done = timer::until(1000, || read32(control) & pending == 0);
    crate::check!(done, "register write stays pending for interrupt {intid}");
}

/// Priority of `intid`.
pub fn priority(intid: u32, priority: u8) {
    write8(frame(intid) + reg::PRIORITY + intid as usize, priority);
}

/// Enables `intid` with priority 0xa0, edge or level as it was, routed to the first CPU.
pub fn enable(intid: u32) {
    priority(intid, 0xa0);
    if intid >= 32 {
        write64(GICD + reg::ROUTER + intid as usize * 8, mrs!("mpidr_el1") & 0xff_00ff_ffff);
    }
    set(reg::ISENABLE, intid);
}

/// Disables `intid`.
pub fn disable(intid: u32) {
    set(reg::ICENABLE, intid);
}

/// Distributor, once; all SPIs in group 1.
pub fn init() {
    let lines = (read32(GICD + 4) & 0x1f) as usize + 1;
    write32(GICD, 0);
    for n in 1..lines {
        write32(GICD + reg::GROUP + 4 * n, !0);
        write32(GICD + reg::ICENABLE + 4 * n, !0);
    }
    write32(GICD, 0x13);
    init_cpu();
}

/// Redistributor and CPU interface of this CPU.
pub fn init_cpu() {
    let rd = GICR + GICR_STRIDE * cpu();
    let affinity = read64(rd + 8) >> 32;
    let mpidr = mrs!("mpidr_el1");
    crate::check_eq!(affinity, mpidr & 0xff_ffff | mpidr >> 8 & 0xff00_0000, "GICR_TYPER affinity");
    write32(rd + 0x14, read32(rd + 0x14) & !2);
    let awake = timer::until(1000, || read32(rd + 0x14) & 4 == 0);
    crate::check!(awake, "the redistributor does not wake");
    write32(rd + SGI + reg::GROUP, !0);
    write32(rd + SGI + reg::ICENABLE, !0);
    write32(rd + SGI + reg::ICPEND, !0);
    for n in 0..8 {
        write32(rd + SGI + reg::PRIORITY + 4 * n, 0xa0a0_a0a0);
    }
    sync(0);
    msr!("icc_sre_el1", mrs!("icc_sre_el1") | 1);
    msr!("icc_ctlr_el1", 0);
    msr!("icc_pmr_el1", 0xff);
    msr!("icc_bpr1_el1", 0);
    msr!("icc_igrpen1_el1", 1);
}

/// Acknowledges.
pub fn ack() -> u32 {
    let id = mrs!("icc_iar1_el1") as u32;
    op!("dsb sy");
    id
}

/// Ends an interrupt: drops its priority and, in EOImode 0, deactivates it.
pub fn end(intid: u32) {
    msr!("icc_eoir1_el1", u64::from(intid));
}

/// Deactivates an interrupt, in EOImode 1.
pub fn deactivate(intid: u32) {
    msr!("icc_dir_el1", u64::from(intid));
}

/// Sends SGI `intid` to those of the first sixteen CPUs of this cluster that `targets` names.
pub fn send(intid: u32, targets: u16) {
    op!("dsb sy");
    msr!("icc_sgi1r_el1", u64::from(intid) << 24 | u64::from(targets));
}

/// The most urgent pending interrupt.
pub fn highest_pending() -> u32 {
    op!("isb");
    mrs!("icc_hppir1_el1") as u32
}

/// What [`record`] saw: interrupts in order, with the counter's value.
pub struct Log {
    len: usize,
    ids: [u32; LOG],
    times: [u64; LOG],
}

const LOG: usize = 64;
static mut SEEN: Log = Log { len: 0, ids: [0; LOG], times: [0; LOG] };

fn seen() -> *mut Log {
    &raw mut SEEN
}

/// An interrupt handler that notes each interrupt, turns off the timer or UART that raised it, and ends it.
pub fn record(_: &mut crate::trap::Frame) {
    let id = ack();
    if id == SPURIOUS {
        return;
    }
    note(id);
    match id {
        timer::VIRTUAL => msr!("cntv_ctl_el0", 0),
        timer::PHYSICAL => msr!("cntp_ctl_el0", 0),
        crate::uart::INTID => crate::uart::write(crate::uart::reg::IMSC, 0),
        _ => {}
    }
    end(id);
}

/// Notes an interrupt.
pub fn note(id: u32) {
    // SAFETY: volatile, and only the first CPU takes part.
    unsafe {
        let log = seen();
        let n = (&raw const (*log).len).read_volatile();
        if n < LOG {
            (&raw mut (*log).ids[n]).write_volatile(id);
            (&raw mut (*log).times[n]).write_volatile(timer::now());
            (&raw mut (*log).len).write_volatile(n + 1);
        }
    }
}

/// Empties the log.
pub fn forget() {
    // SAFETY: as in `note`.
    unsafe { (&raw mut (*seen()).len).write_volatile(0) };
}

/// How many interrupts the log has.
pub fn count() -> usize {
    // SAFETY: as in `note`.
    unsafe { (&raw const (*seen()).len).read_volatile() }
}

/// Interrupt `n` of the log and its time.
pub fn entry(n: usize) -> (u32, u64) {
    // SAFETY: as in `note`; n is checked.
    unsafe {
        let n = n.min(LOG - 1);
        ((&raw const (*seen()).ids[n]).read_volatile(), (&raw const (*seen()).times[n]).read_volatile())
    }
}
