//! Device accesses of one plain instruction each, so that the syndrome describes them.

use core::arch::asm;

macro_rules! accessors {
    ($($read:ident $write:ident $type:ty, $load:literal $store:literal $form:literal;)*) => {$(
        #[doc = concat!("One ", $load, ".")]
        pub fn $read(address: usize) -> $type {
            let value: u64;
            // SAFETY: a guest may read any address: at worst it takes a fault, which the test expects.
            unsafe { asm!(concat!($load, " {0:", $form, "}, [{1}]"), out(reg) value, in(reg) address) };
            value as $type
        }

        #[doc = concat!("One ", $store, ".")]
        pub fn $write(address: usize, value: $type) {
            // SAFETY: the caller owns what lies there.
            unsafe { asm!(concat!($store, " {0:", $form, "}, [{1}]"), in(reg) u64::from(value), in(reg) address) };
        }
    )*};
}

accessors! {
    read8 write8 u8, "ldrb" "strb" "w";
    read16 write16 u16, "ldrh" "strh" "w";
    read32 write32 u32, "ldr" "str" "w";
    read64 write64 u64, "ldr" "str" "x";
}
