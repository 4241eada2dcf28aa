//! System registers by name.

/// Reads a system register.
#[macro_export]
macro_rules! mrs {
    ($reg:literal) => {{
        let value: u64;
        // SAFETY: reading a register; one that does not exist faults, which the test expects.
        unsafe { core::arch::asm!(concat!("mrs {}, ", $reg), out(reg) value) };
        value
    }};
}

/// Writes a system register and synchronises.
#[macro_export]
macro_rules! msr {
    ($reg:literal, $value:expr) => {{
        let value: u64 = $value;
        // SAFETY: the guest owns its registers.
        unsafe { core::arch::asm!(concat!("msr ", $reg, ", {}"), "isb", in(reg) value) };
    }};
}

/// Runs one instruction without operands.
#[macro_export]
macro_rules! op {
    ($text:literal) => {{
        // SAFETY: the test says what it does.
        #[allow(unused_unsafe)]
        unsafe {
            core::arch::asm!($text)
        }
    }};
}
