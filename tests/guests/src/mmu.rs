//! EL1's own translation: an identity map of 512 GiB in blocks of 1 GiB.

use crate::{mrs, msr, op};

const ENTRIES: usize = 512;

#[repr(C, align(4096))]
struct Table([u64; ENTRIES]);

static mut ROOT: Table = Table([0; ENTRIES]);

/// SCTLR_EL1.M, C, I.
pub const M: u64 = 1;
/// See [`M`].
pub const C: u64 = 1 << 2;
/// See [`M`].
pub const I: u64 = 1 << 12;

/// The register values that go with the table: 39 bits of address, 4 KiB granule, inner shareable.
pub const TCR: u64 = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | 2 << 32;
/// Attribute 0 is Device-nGnRE, attribute 1 Normal write-back.
pub const MAIR: u64 = 0xff04;

/// A block of the first GiB: devices.
pub const DEVICE: u64 = 1 | 1 << 10 | 2 << 8;
/// A block of memory.
pub const NORMAL: u64 = 1 | 1 << 10 | 3 << 8 | 1 << 2;

/// Builds the table; once, on the first CPU.
pub fn build() {
    let root = root() as *mut u64;
    for n in 0..ENTRIES {
        let kind = if n == 0 { DEVICE } else { NORMAL };
        // SAFETY: within the table.
        unsafe { root.add(n).write_volatile((n as u64) << 30 | kind) };
    }
    op!("dsb sy");
}

/// Where the table is.
pub fn root() -> usize {
    (&raw const ROOT) as usize
}

/// MMU and caches on, with the table of [`build`].
pub fn on() {
    msr!("mair_el1", MAIR);
    msr!("tcr_el1", TCR);
    msr!("ttbr0_el1", root() as u64);
    op!("tlbi vmalle1");
    op!("dsb sy");
    op!("isb");
    msr!("sctlr_el1", mrs!("sctlr_el1") | M | C | I);
}

/// MMU and caches off again.
pub fn off() {
    op!("dsb sy");
    msr!("sctlr_el1", mrs!("sctlr_el1") & !(M | C | I));
    op!("tlbi vmalle1");
    op!("dsb sy");
    op!("isb");
}
