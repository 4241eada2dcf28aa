//! One table of a device's registers: offset, access and the manual's name in a row.
//!
//! The table is what a reader compares with the manual and what the decoder is made of, so the two cannot
//! drift apart. Which bits a register has is the device's own business: it masks what is written.

/// Who may do what with a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Writes are ignored.
    Ro,
    /// Reads as zero.
    Wo,
    /// Both.
    Rw,
}

/// Makes `enum Register` out of rows `offset, access, Variant = "MANUAL NAME";`.
///
/// `Register::at(offset)` finds a register by its first byte, `offset`, `permission` and `name` say what
/// the row says, and `Register::ALL` lists the rows in order.
#[macro_export]
macro_rules! device_registers {
    ($($offset:literal, $permission:ident, $variant:ident = $name:literal;)*) => {
        #[doc = "The registers, by the manual's names."]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "the manual's names, each given as text by `name`")]
        pub enum Register { $($variant),* }

        impl Register {
            /// All of them, in the order of their offsets.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The register whose first byte is at `offset`.
            #[inline]
            pub const fn at(offset: u64) -> Option<Self> {
                match offset { $($offset => Some(Self::$variant),)* _ => None }
            }

            /// Bytes from the device's first.
            pub const fn offset(self) -> u64 {
                match self { $(Self::$variant => $offset),* }
            }

            /// Who may do what.
            pub const fn permission(self) -> $crate::vdev::registers::Permission {
                match self { $(Self::$variant => $crate::vdev::registers::Permission::$permission),* }
            }

            /// The manual's name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}
