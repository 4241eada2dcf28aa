//! The machine itself: the only place that touches it.
//!
//! | file | what |
//! |---|---|
//! | `boot.s`, `vectors.s`, `fp.s` | first instructions, into a guest and back, FP registers |
//! | `el2.rs` | the one table of EL2 registers |
//! | `mmu.rs`, `cache.rs` | EL2's own translation, cache maintenance |
//! | `context.rs` | what of a vCPU lives in this CPU's registers |
//! | `gic/`, `timer.rs`, `uart/`, `smc.rs` | the chips and the firmware |
//! | `smp.rs` | the other CPUs |
//! | `fault.rs` | when EL2 itself goes wrong |
//! | `cpu.rs` | `impl Machine`: all of it behind the seam |
#![allow(unsafe_code, reason = "this is where the machine is touched; each block argues for itself")]

use crate::addr::{Address, HostPhysAddr, HostRange};

mod cache;
mod context;
mod cpu;
mod el2;
mod fault;
mod gic;
mod mmu;
pub mod setup;
mod smc;
pub mod smp;
mod sys;
mod timer;
mod uart;

pub use cpu::Cpu;
pub use fault::stop_with;
pub use mmu::image;

core::arch::global_asm!(include_str!("boot.s"));
core::arch::global_asm!(include_str!("vectors.s"));
core::arch::global_asm!(include_str!("fp.s"));

/// So many bytes from an address on.
fn span(start: u64, bytes: u64) -> HostRange {
    let start = HostPhysAddr::at(start);
    HostRange::between(start, start.checked_add(bytes).unwrap_or(start))
}

/// Makes what was written to system registers hold for the instructions that follow.
#[inline]
fn isb() {
    sys::op!("isb");
}

/// A busy CPU lets another one go first.
#[inline(always)]
pub fn relax() {
    sys::op!("yield");
}
