//! A second CPU.

use crate::{mmu, psci};
use core::sync::atomic::{AtomicUsize, Ordering};

static MAIN: AtomicUsize = AtomicUsize::new(0);

/// Starts CPU `n` of the first cluster in `main`, with the MMU on; what CPU_ON said.
///
/// The caller has its own MMU on, or cleans the caches.
pub fn start(n: u64, main: fn(u64)) -> u32 {
    MAIN.store(main as usize, Ordering::Release);
    crate::op!("dsb sy");
    psci::cpu_on(n, n)
}

#[unsafe(no_mangle)]
extern "C" fn rust_secondary(n: u64) -> ! {
    mmu::on();
    // SAFETY: stored by `start` from a fn of this type.
    let main: fn(u64) = unsafe { core::mem::transmute(MAIN.load(Ordering::Acquire)) };
    main(n);
    psci::hvc(psci::CPU_OFF, [0; 3]);
    crate::fail(format_args!("CPU_OFF came back"));
    loop {
        crate::op!("wfi");
    }
}
