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
#[cfg(not(all(test, not(loom))))]
pub type Mutex<T> = spin::mutex::SpinMutex<T, Relax>;
#[cfg(all(test, not(loom)))]
pub use self::played::Mutex;
/// What [`Mutex::lock`] gives.
pub type MutexGuard<'a, T> = spin::mutex::SpinMutexGuard<'a, T, Relax>;

/// What [`slot`](crate::slot) is made of: these types, or those by which loom tries every order of events.
///
/// Only that protocol is checked so; everything else has the types above and core's.
#[cfg(not(all(test, loom)))]
pub mod modelled {
    pub use super::Mutex;
    pub use core::sync::atomic::{AtomicBool, AtomicU32};
}

/// What [`slot`](crate::slot) is made of, as loom has it; works only inside `loom::model`.
#[cfg(all(test, loom))]
pub mod modelled {
    use loom::sync::MutexGuard;
    pub use loom::sync::atomic::{AtomicBool, AtomicU32};

    /// loom's, with the face of [`super::Mutex`].
    #[derive(Debug)]
    pub struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        /// An unlocked one.
        pub fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        /// Waits for it.
        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
        }
    }
}

/// In tests, who plays several CPUs lets another one go on wherever one takes a lock.
#[cfg(all(test, not(loom)))]
mod played {
    use super::{MutexGuard, Relax};
    use crate::run::play;

    #[derive(Debug, Default)]
    pub struct Mutex<T: ?Sized>(spin::mutex::SpinMutex<T, Relax>);

    impl<T> Mutex<T> {
        pub const fn new(value: T) -> Self {
            Self(spin::mutex::SpinMutex::new(value))
        }
    }

    impl<T: ?Sized> Mutex<T> {
        pub fn lock(&self) -> MutexGuard<'_, T> {
            play::before_lock();
            loop {
                match self.0.try_lock() {
                    Some(guard) => return guard,
                    None => play::lock_taken(),
                }
            }
        }

        pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock()
        }
    }
}
