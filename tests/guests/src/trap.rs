//! Exceptions: expected ones are recorded and stepped over, all others fail the guest.

use crate::println;
use core::sync::atomic::{AtomicUsize, Ordering};

/// What an exception saved, as `entry.s` lays it out.
#[repr(C)]
pub struct Frame {
    /// X0 to X30.
    pub x: [u64; 31],
    /// ELR_EL1.
    pub elr: u64,
    /// SPSR_EL1.
    pub spsr: u64,
    /// ESR_EL1.
    pub esr: u64,
    /// FAR_EL1.
    pub far: u64,
    spare: u64,
}

/// A synchronous exception that a test expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Fault {
    /// ESR_EL1.
    pub esr: u64,
    /// ELR_EL1.
    pub elr: u64,
    /// FAR_EL1.
    pub far: u64,
    /// SPSR_EL1.
    pub spsr: u64,
    /// Which of the sixteen vectors.
    pub vector: u64,
}

impl Fault {
    /// ESR.EC.
    pub fn class(&self) -> u64 {
        self.esr >> 26 & 0x3f
    }
    /// ESR.ISS.
    pub fn iss(&self) -> u64 {
        self.esr & 0x1ff_ffff
    }
    /// DFSC or IFSC.
    pub fn status(&self) -> u64 {
        self.esr & 0x3f
    }
    /// An UNDEFINED instruction, as the architecture reports it (EC 0).
    pub fn is_undefined(&self) -> bool {
        self.class() == ec::UNKNOWN
    }
}

/// Exception classes (Arm ARM D24.2.40).
pub mod ec {
    pub const UNKNOWN: u64 = 0;
    pub const SVC32: u64 = 0x11;
    pub const SVC64: u64 = 0x15;
    pub const SYSREG: u64 = 0x18;
    pub const FETCH_EL0: u64 = 0x20;
    pub const FETCH: u64 = 0x21;
    pub const PC_ALIGN: u64 = 0x22;
    pub const DATA_EL0: u64 = 0x24;
    pub const DATA: u64 = 0x25;
}

#[derive(Clone, Copy)]
struct Watch {
    armed: bool,
    el0: bool,
    count: u32,
    fault: Fault,
}

const CPUS: usize = crate::smp::MOST;
const QUIET: Watch =
    Watch { armed: false, el0: false, count: 0, fault: Fault { esr: 0, elr: 0, far: 0, spsr: 0, vector: 0 } };
static mut WATCHES: [Watch; CPUS] = [QUIET; CPUS];
static IRQ: AtomicUsize = AtomicUsize::new(0);
static FIQ: AtomicUsize = AtomicUsize::new(0);

fn watch() -> *mut Watch {
    let cpu = crate::mrs!("tpidr_el1") as usize % CPUS;
    // SAFETY: each CPU has its own.
    unsafe { (&raw mut WATCHES).cast::<Watch>().add(cpu) }
}

/// Runs `action`; the first synchronous exception in it, if there was one.
///
/// The instruction that faulted is stepped over; a jump to nowhere comes back to its caller (x30).
pub fn attempt(action: impl FnOnce()) -> Option<Fault> {
    let watch = watch();
    // SAFETY: this CPU's own record; the exception handler writes it, hence volatile.
    unsafe {
        watch.write_volatile(Watch { armed: true, ..QUIET });
        action();
        crate::op!("dsb sy");
        crate::op!("isb");
        let after = watch.read_volatile();
        watch.write_volatile(QUIET);
        (after.count != 0).then_some(after.fault)
    }
}

/// Runs `pc` at EL0 in the state of `spsr` until its first synchronous exception; that, and x0 at its time.
pub fn el0(pc: usize, spsr: u64, sp: usize, args: [u64; 2]) -> (Fault, u64) {
    unsafe extern "C" {
        fn el0_enter(pc: usize, spsr: u64, sp: usize, x0: u64, x1: u64) -> u64;
    }
    let watch = watch();
    // SAFETY: this CPU's own record; el0_enter comes back by the handler below.
    unsafe {
        watch.write_volatile(Watch { el0: true, ..QUIET });
        let x0 = el0_enter(pc, spsr, sp, args[0], args[1]);
        let after = watch.read_volatile();
        watch.write_volatile(QUIET);
        (after.fault, x0)
    }
}

/// Has interrupts handled by `handler`.
pub fn on_irq(handler: fn(&mut Frame)) {
    IRQ.store(handler as usize, Ordering::Relaxed);
}

/// Has fast interrupts handled by `handler`.
pub fn on_fiq(handler: fn(&mut Frame)) {
    FIQ.store(handler as usize, Ordering::Relaxed);
}

/// Unmasks fast interrupts.
pub fn fiqs_on() {
    crate::op!("msr daifclr, #1");
}

/// Masks fast interrupts.
pub fn fiqs_off() {
    crate::op!("msr daifset, #1");
}

/// Unmasks interrupts.
pub fn irqs_on() {
    crate::op!("msr daifclr, #2");
}

/// Masks interrupts.
pub fn irqs_off() {
    crate::op!("msr daifset, #2");
}

#[unsafe(no_mangle)]
extern "C" fn rust_exception(frame: &mut Frame, vector: u64) {
    let handler = match vector & 3 {
        1 => IRQ.load(Ordering::Relaxed),
        2 => FIQ.load(Ordering::Relaxed),
        _ => 0,
    };
    if handler != 0 {
        // SAFETY: stored by on_irq or on_fiq from a fn of this type.
        let handler: fn(&mut Frame) = unsafe { core::mem::transmute(handler) };
        return handler(frame);
    }
    let watch = watch();
    // SAFETY: this CPU's own record.
    let mut state = unsafe { watch.read_volatile() };
    let fault = Fault { esr: frame.esr, elr: frame.elr, far: frame.far, spsr: frame.spsr, vector };
    if vector & 3 != 0 || !(state.armed || state.el0) || state.count > 1000 {
        unexpected(&fault);
    }
    if state.count == 0 {
        state.fault = fault;
    }
    state.count += 1;
    if vector >= 8 {
        let exit: u64;
        // SAFETY: an address.
        unsafe { core::arch::asm!("adrp {0}, el0_exit", "add {0}, {0}, :lo12:el0_exit", out(reg) exit) };
        if !state.el0 {
            unexpected(&fault);
        }
        frame.elr = exit;
        frame.spsr = 0x3c5;
    } else {
        frame.elr = match fault.class() {
            ec::FETCH | ec::PC_ALIGN => frame.x[30],
            // An SVC and an HVC leave the return address past them already.
            0x15 | 0x16 => frame.elr,
            _ => frame.elr.wrapping_add(4),
        };
        // BTYPE, and IL after an illegal return: both would fault again.
        frame.spsr &= !(0b11 << 10 | 1 << 20);
    }
    // SAFETY: as above.
    unsafe { watch.write_volatile(state) };
}

fn unexpected(fault: &Fault) -> ! {
    println!(
        "{}: FAIL unexpected exception by vector {} ESR {:#x} ELR {:#x} FAR {:#x} SPSR {:#x}",
        crate::name(),
        fault.vector,
        fault.esr,
        fault.elr,
        fault.far,
        fault.spsr
    );
    println!("image at {:#x}", crate::image_start());
    crate::psci::off();
}
