//! Pages that come and go: for each CPU a table of its own, with a page that all share and one of its own.
//!
//! Below [`SHARED`] the translation is that of [`mmu`]. The two pages are global and in address space 0 on every
//! CPU, and CnP is 0: what one CPU's [`OWN`] maps to must never be what another finds there, even where a
//! hypervisor runs both on one physical CPU.

use crate::smp::MOST;
use crate::{mmu, msr, op};
use core::arch::asm;

/// Where the page is that all CPUs see alike.
pub const SHARED: usize = 0x40_0000_0000;
/// Where each CPU has a page of its own.
pub const OWN: usize = 0x41_0000_0000;

const PAGE: usize = 4096;
/// A table descriptor.
const TABLE: u64 = 3;
/// A page descriptor: AF, inner shareable, attribute 1 (mmu::MAIR), read and write at EL1.
const LEAF: u64 = 3 | 1 << 10 | 3 << 8 | 1 << 2;

#[repr(C, align(4096))]
struct Table([u64; 512]);

/// A CPU's level 1, and level 2 and 3 of its own page.
#[repr(C)]
struct Tree {
    root: Table,
    second: Table,
    third: Table,
}

static mut TREES: [Tree; MOST] =
    [const { Tree { root: Table([0; 512]), second: Table([0; 512]), third: Table([0; 512]) } }; MOST];
static mut SHARED_SECOND: Table = Table([0; 512]);
static mut SHARED_THIRD: Table = Table([0; 512]);
static mut FRAMES: [Table; 2 * MOST + 2] = [const { Table([0; 512]) }; 2 * MOST + 2];

fn tree(cpu: usize) -> *mut Tree {
    // SAFETY: within the array.
    unsafe { (&raw mut TREES).cast::<Tree>().add(cpu % MOST) }
}

/// Frame `which` (0 or 1) of a CPU's two, or of the two that are shared for `None`; its address.
fn frame(cpu: Option<usize>, which: usize) -> usize {
    (&raw const FRAMES) as usize + PAGE * (2 * cpu.map_or(MOST, |cpu| cpu % MOST) + which % 2)
}

fn put(table: *mut Table, index: usize, value: u64) {
    // SAFETY: our own table, an index below 512.
    unsafe { table.cast::<u64>().add(index % 512).write_volatile(value) };
    op!("dsb ishst");
    op!("isb");
}

/// Has this CPU translate by its own table. The MMU is on with [`mmu::build`]'s.
pub fn enter(cpu: usize) {
    let tree = tree(cpu);
    // SAFETY: addresses within the tree.
    let (root, second, third) =
        unsafe { (&raw mut (*tree).root, &raw mut (*tree).second, &raw mut (*tree).third) };
    // SAFETY: both are tables.
    unsafe { root.write(core::ptr::read((mmu::root() as *const Table).cast())) };
    put(root, SHARED >> 30, (&raw const SHARED_SECOND) as u64 | TABLE);
    put(&raw mut SHARED_SECOND, 0, (&raw const SHARED_THIRD) as u64 | TABLE);
    put(root, OWN >> 30, second as u64 | TABLE);
    put(second, 0, third as u64 | TABLE);
    op!("dsb sy");
    msr!("ttbr0_el1", root as u64);
    op!("tlbi vmalle1");
    op!("dsb nsh");
    op!("isb");
}

/// Maps the shared page to frame `which`, which says `value`: break, TLBI to all, make.
pub fn map_shared(which: usize, value: u64) {
    let frame = frame(None, which);
    crate::mmio::write64(frame, value);
    let third = &raw mut SHARED_THIRD;
    put(third, 0, 0);
    // SAFETY: nobody uses the page in between.
    unsafe { asm!("tlbi vaae1is, {}", "dsb ish", "isb", in(reg) SHARED >> 12) };
    put(third, 0, frame as u64 | LEAF);
}

/// Maps this CPU's own page to its frame `which`, which says `value`: break, TLBI here alone, make.
pub fn map_own(cpu: usize, which: usize, value: u64) {
    let frame = frame(Some(cpu), which);
    crate::mmio::write64(frame, value);
    // SAFETY: an address within the tree.
    let third = unsafe { &raw mut (*tree(cpu)).third };
    put(third, 0, 0);
    // SAFETY: nobody else has the page.
    unsafe { asm!("tlbi vaae1, {}", "dsb nsh", "isb", in(reg) OWN >> 12) };
    put(third, 0, frame as u64 | LEAF);
}
