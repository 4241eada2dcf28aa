//! Mezzanine: a type-1 hypervisor for 64-bit Arm, and the map of its house.
//!
//! A trap is a function return: [`machine::Machine::enter`] runs a guest and comes back with an
//! [`exit::Exit`]. Everything in this library is plain data and logic that runs in `cargo test` on any
//! host; only `arch` (present for `target_os = "none"` alone) touches the machine, behind the trait
//! [`machine::Machine`].
//!
//! # Principles
//!
//! * What a guest does wrong is a value, never a panic, an unbounded loop or an unchecked index.
//! * Time and effects are arguments and results.
//! * No global "current vCPU": the loop owns its [`vcpu::Vcpu`] by `&mut`. EL2 never takes an interrupt.
//! * Traps are denied by default: a register that nothing lists is UNDEFINED to the guest.
//!
//! # The map, in reading order; each module may use those above it
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod addr; //     guest- and host-physical addresses, ranges
pub mod board; //    what a device tree cannot say
pub mod config; //   how guests arrive
pub mod console; //  one serial line for everybody
pub mod create; //   makes a VM of its configuration
pub mod exit; //     why a guest stopped: Exit, and its decode
pub mod fdt; //      reads the machine's tree, writes a guest's
pub mod guest; //    image formats
pub mod idregs; //   ID registers as guests read them
pub mod inject; //   exceptions that EL2 gives a guest
pub mod machine; //  the seam: trait Machine
pub mod map; //      the guest's machine: where everything lies
pub mod memory; //   which host memory is free, by ranges
pub mod problem; //  what is wrong with a configuration, in words
pub mod psci; //     power state coordination
pub mod ram; //      checked copies into and out of guest RAM
pub mod regs; //     x0..x30, PC, PSTATE
pub mod run;
pub mod sched; //    who runs next
pub mod smccc; //    SMC calling convention: who answers what
pub mod stage2; //   Stage 2 tables
pub mod sysreg; //   trapped MSR and MRS
pub mod trng; //     the firmware's random numbers
pub mod vcpu; //     a virtual CPU
pub mod vdev; //     devices as guests see them
pub mod vm; //       a VM and what it owns //      each CPU's loop
pub mod vmid; //     VMIDs, with generations

#[cfg(target_os = "none")]
pub mod arch; //     the machine itself
