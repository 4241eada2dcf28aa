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
//! # The map, in reading order
//!
//! Each module uses only those above it, with two exceptions: [`config`] has its checks lay out the images that
//! [`guest`] knows, and [`guest`] takes its orders in `config`'s words; and [`vcpu`] carries what [`sched`] keeps of it,
//! in [`machine`]'s ticks. Tests may look further down.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

// Words: of these, only `map` and `exit` use another (`addr`).
pub mod addr; //     guest- and host-physical addresses, ranges
pub mod map; //      the guest's machine: where everything lies
pub mod problem; //  what is wrong with a configuration, in words
pub mod regs; //     x0..x30, PC, PSTATE
pub mod json; //     JSON on one line, written and read
pub mod sync; //     the lock that CPUs share
pub mod exit; //     why a guest stopped: Exit, and its decode

// The seam.
pub mod memory; //   which host memory is free, by ranges
pub mod stage2; //   Stage 2 tables; what must be flushed after a change
pub mod vcpu; //     a virtual CPU
pub mod slot; //     its fixed place: where it is, and what others want of it
pub mod sched; //    which of them runs next on a CPU, and for how long
pub mod machine; //  the seam: trait Machine

// What guests call, read, touch and suffer.
pub mod psci; //     power state coordination
pub mod trng; //     the firmware's random numbers
pub mod smccc; //    SMC calling convention: who answers what
pub mod idregs; //   ID registers as guests read them
pub mod sysreg; //   trapped MSR and MRS
pub mod inject; //   exceptions that EL2 gives a guest
pub mod vdev; //     devices as guests see them

// What the machine is, and how guests arrive.
pub mod fdt; //      reads the machine's tree, writes a guest's
pub mod board; //    what a device tree cannot say
pub mod cpus; //     its CPUs: how each is started, what they have in common
pub mod config; //   VMs as somebody wants them, and the checks
pub mod guest; //    image formats, and where images go

// VMs, and the loop that runs them.
pub mod ram; //      checked copies into and out of guest RAM
pub mod pvtime; //   stolen time, where guests read it
pub mod clock; //    a VM's own time
pub mod vm; //       a VM and what it owns
pub mod vmid; //     VMIDs, with generations
pub mod create; //   makes a VM of its configuration
pub mod console; //  one serial line for everybody
pub mod shell; //    the language in which VMs are led, and its line
pub mod run; //      each CPU's loop: pick, enter, handle(exit)

#[cfg(target_os = "none")]
pub mod arch; //     the machine itself: uses what it likes
