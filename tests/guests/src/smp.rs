//! Other CPUs.

use crate::{mmu, psci};
use core::sync::atomic::{AtomicUsize, Ordering};

static MAIN: AtomicUsize = AtomicUsize::new(0);

/// The most CPUs that there are stacks for.
pub const MOST: usize = 64;

/// The affinity fields of CPU `n`'s MPIDR, as `virt` numbers its CPUs.
pub fn affinity(n: usize) -> u64 {
    let cluster = if crate::gic::v2() { 8 } else { 16 };
    (n % cluster | n / cluster << 8) as u64
}

/// Starts CPU `n` in `main`, with the MMU on; what CPU_ON said.
///
/// The caller has its own MMU on, or cleans the caches.
pub fn start(n: u64, main: fn(u64)) -> u32 {
    MAIN.store(main as usize, Ordering::Release);
    crate::op!("dsb sy");
    psci::cpu_on(affinity(n as usize), n)
}

#[unsafe(no_mangle)]
extern "C" fn rust_secondary(n: u64) -> ! {
    mmu::on();
    // SAFETY: stored by `start` from a fn of this type.
    let main: fn(u64) = unsafe { core::mem::transmute(MAIN.load(Ordering::Acquire)) };
    main(n);
    off()
}

/// This CPU goes off.
pub fn off() -> ! {
    psci::hvc(psci::CPU_OFF, [0; 3]);
    crate::fail(format_args!("CPU_OFF came back"));
    loop {
        crate::op!("wfi");
    }
}
