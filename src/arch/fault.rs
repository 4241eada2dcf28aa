//! When EL2 itself goes wrong: what was it, where, and how we came there.
//!
//! Works with whatever is left: no heap, no lock, output straight to the port. Addresses inside the image
//! are printed as `image+0x..`, which `mezz symbolize` turns into names and lines.

use super::{smc, sys, uart};
use crate::fdt::Conduit;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// How to turn the machine off: 0 unknown, 1 SMC, 2 HVC. Plain loads and stores only.
static CONDUIT: AtomicU8 = AtomicU8::new(0);

/// Remembers the conduit for [`stop_with`].
pub(super) fn set_conduit(conduit: Option<Conduit>) {
    let code = match conduit {
        None => 0,
        Some(Conduit::Smc) => 1,
        Some(Conduit::Hvc) => 2,
    };
    CONDUIT.store(code, Ordering::Relaxed);
}

/// The port, without the console's locks.
struct Raw;

impl Write for Raw {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        uart::put_all(s.as_bytes());
        Ok(())
    }
}

/// Other CPUs run, or soon will.
static OTHERS: AtomicBool = AtomicBool::new(false);
/// The top of the fault stack of the CPU that writes its report, 1 for the only one, 0 while none does.
static REPORTER: AtomicU64 = AtomicU64::new(0);

/// From here on, other CPUs may go wrong too. Called with the caches on.
pub(super) fn expect_others() {
    OTHERS.store(true, Ordering::Relaxed);
}

/// Takes the right to write a report: the first CPU that goes wrong has it, another one stays where it is.
fn claim() {
    // While there is no other CPU the caches may be off, where nothing but plain loads and stores works.
    let others = OTHERS.load(Ordering::Relaxed);
    let me = if others { sys::read!("TPIDR_EL2") } else { 1 };
    let before = if others {
        REPORTER.compare_exchange(0, me, Ordering::AcqRel, Ordering::Acquire).unwrap_or_else(|taken| taken)
    } else {
        let before = REPORTER.load(Ordering::Relaxed);
        REPORTER.store(me, Ordering::Relaxed);
        before
    };
    if before == me {
        // The report itself went wrong: there is nothing left to say it with.
        off();
    }
    if before != 0 {
        park();
    }
}

/// Before anything is written to the port: who writes a report has it alone.
#[inline(always)]
pub(super) fn give_way() {
    if REPORTER.load(Ordering::Relaxed) != 0 {
        give_way_now();
    }
}

#[cold]
fn give_way_now() {
    if OTHERS.load(Ordering::Relaxed) && REPORTER.load(Ordering::Relaxed) != sys::read!("TPIDR_EL2") {
        park();
    }
}

/// Does nothing for good.
pub(super) fn park() -> ! {
    loop {
        sys::op!("wfi");
    }
}

/// Prints a last message with a backtrace, and turns the machine off.
pub fn stop_with(message: fmt::Arguments<'_>) -> ! {
    claim();
    let _ = writeln!(Raw, "\r\n{} panic: {message}\r", super::setup::Stamp);
    let _ = writeln!(Raw, "    on CPU {:#x}\r", super::setup::affinity());
    backtrace(frame_pointer());
    off()
}

/// Turns the machine off for good.
pub(super) fn off() -> ! {
    uart::drain();
    smc::off(match CONDUIT.load(Ordering::Relaxed) {
        1 => Some(Conduit::Smc),
        2 => Some(Conduit::Hvc),
        _ => None,
    });
    park()
}

fn frame_pointer() -> u64 {
    let fp: u64;
    // SAFETY: reads a register.
    unsafe { core::arch::asm!("mov {}, x29", out(reg) fp, options(nomem, nostack, preserves_flags)) };
    fp
}

/// An address, as an offset if it lies in the image.
struct Place(u64);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use crate::addr::{Address, HostPhysAddr};
        let image = super::image();
        if image.contains(HostPhysAddr::at(self.0)) {
            write!(f, "image+{:#x}", self.0.wrapping_sub(image.start().raw()))
        } else {
            write!(f, "{:#x}", self.0)
        }
    }
}

/// Follows the chain of frame records while it climbs and stays inside the stacks: the image's, or those of this CPU.
fn backtrace(mut fp: u64) {
    use crate::addr::HostPhysAddr;
    let image = super::image();
    let [stack, fault] = if OTHERS.load(Ordering::Relaxed) { super::smp::own_stacks() } else { [image; 2] };
    let inside = |at: u64| [image, stack, fault].iter().any(|range| range.contains(HostPhysAddr::at(at)));
    for _ in 0..32 {
        if fp & 7 != 0 || !inside(fp) || !inside(fp.wrapping_add(15)) {
            break;
        }
        // SAFETY: inside a stack or the image and aligned: mapped unless it is a guard page, which no frame lies in.
        let [next, back] = unsafe { *(fp as *const [u64; 2]) };
        if back == 0 {
            break;
        }
        // The call is the instruction before the one that is returned to.
        let _ = writeln!(Raw, "    at {}\r", Place(back.wrapping_sub(4)));
        if next <= fp {
            break;
        }
        fp = next;
    }
}

/// ESR_EL2.EC in words, for what EL2 can take from itself.
fn class(esr: u64) -> &'static str {
    match esr >> 26 & 0x3f {
        0x00 => "unknown reason",
        0x07 => "FP or SIMD instruction",
        0x0e => "illegal execution state",
        0x15..=0x17 => "SVC, HVC or SMC",
        0x18 => "trapped system register",
        0x21 => "instruction abort",
        0x22 => "PC alignment fault",
        0x25 => "data abort",
        0x26 => "SP alignment fault",
        0x2f => "SError",
        0x3c => "BRK",
        _ => "another exception",
    }
}

/// DFSC or IFSC in words; nothing for what is no abort.
fn status(esr: u64) -> &'static str {
    if !matches!(esr >> 26 & 0x3f, 0x21 | 0x25) {
        return "no abort";
    }
    match esr & 0x3c {
        0x00 => "address size fault",
        0x04 => "translation fault",
        0x08 => "access flag fault",
        0x0c => "permission fault",
        0x10 => "external abort",
        0x20 => "alignment fault",
        _ => "other fault",
    }
}

/// From `vectors.s`: an exception that EL2 caused. `regs`: x0..x30, pc, pstate, sp.
#[unsafe(no_mangle)]
extern "C" fn mezzanine_own_exception(vector: u64, regs: &[u64; 34]) -> ! {
    claim();
    let (esr, far) = (sys::read!("ESR_EL2"), sys::read!("FAR_EL2"));
    let kind = ["synchronous exception", "IRQ", "FIQ", "SError"][(vector & 3) as usize];
    let mut out = Raw;
    let _ = writeln!(out, "\r\n{} panic: {kind} taken at EL2: {}\r", super::setup::Stamp, class(esr));
    let _ = writeln!(out, "    on CPU {:#x}\r", super::setup::affinity());
    let _ = writeln!(
        out,
        "  esr {esr:#x} ({}) far {far:#x} pc {} pstate {:#x} sp {:#x}\r",
        status(esr),
        Place(regs[31]),
        regs[32],
        regs[33]
    );
    for (n, row) in regs[..31].chunks(4).enumerate() {
        let _ = write!(out, "  x{:<2}", n * 4);
        for value in row {
            let _ = write!(out, " {value:016x}");
        }
        let _ = writeln!(out, "\r");
    }
    let _ = writeln!(out, "    at {}\r", Place(regs[31]));
    let _ = writeln!(out, "    at {}\r", Place(regs[30].wrapping_sub(4)));
    backtrace(regs[29]);
    off()
}
