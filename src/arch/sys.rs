//! Reading and writing system registers by name, where `aarch64-cpu` has no entry or no speed.
//!
//! Names that assemblers for Armv8.0 do not know are spelled `S3_4_C1_C2_3`. Writes are not ordered
//! with memory accesses: what needs that uses the barriers of [`super::cache`] or `isb` explicitly.

/// Reads a system register.
macro_rules! read {
    ($name:expr) => {{
        let value: u64;
        // SAFETY: MRS touches no memory; which registers exist is checked by the caller against the ID registers.
        unsafe {
            core::arch::asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack, preserves_flags));
        }
        value
    }};
}

/// Writes a system register.
macro_rules! write {
    ($name:expr, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: MSR touches no memory itself. What the register governs (traps, the guest's state, the
        // interrupt interface) is this module tree's to govern; EL2's own translation is changed in mmu.rs alone,
        // which argues for itself.
        unsafe {
            core::arch::asm!(concat!("msr ", $name, ", {}"), in(reg) value, options(nostack, preserves_flags));
        }
    }};
}

/// A barrier or another instruction without operands.
macro_rules! op {
    ($text:literal) => {
        // SAFETY: a barrier, hint or TLB/cache operation: none changes what memory holds for this CPU's own view.
        unsafe { core::arch::asm!($text, options(nostack, preserves_flags)) }
    };
}

pub(super) use {op, read, write};
