//! The lock that CPUs share.
//!
//! Held for a few dozen instructions, never across `enter`, in the order that [`vm`](crate::vm) names. Nobody waits
//! with it for another CPU's *loop*.

/// What a CPU does while another one has the lock: an emulator runs that one meanwhile, and a core with several
/// threads gives it room.
#[derive(Debug)]
pub struct Relax;

impl spin::RelaxStrategy for Relax {
    #[inline(always)]
    fn relax() {
        #[cfg(target_os = "none")]
        crate::arch::relax();
        #[cfg(not(target_os = "none"))]
        core::hint::spin_loop();
    }
}

/// Mutual exclusion between CPUs.
pub type Mutex<T> = spin::mutex::SpinMutex<T, Relax>;
/// What [`Mutex::lock`] gives.
pub type MutexGuard<'a, T> = spin::mutex::SpinMutexGuard<'a, T, Relax>;
