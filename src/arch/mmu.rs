//! EL2's own Stage 1: everything at its own address, W^X, guard pages, caches on.
//!
//! Built with the MMU off, so without locks or read-modify-write atomics: the tables come from a pool in
//! .bss, and TTBR0_EL2 is set here rather than by the library's `activate`, which counts users atomically.

use super::sys::op;
use crate::addr::{Address, HostPhysAddr, HostRange, PAGE_SIZE};
use aarch64_cpu::registers::{ID_AA64MMFR0_EL1, MAIR_EL2, SCTLR_EL2, TCR_EL2, TTBR0_EL2};
use aarch64_cpu::registers::{Readable, Writeable};
use aarch64_paging::Mapping;
use aarch64_paging::descriptor::{El23Attributes as Attributes, PhysicalAddress};
use aarch64_paging::paging::{Constraints, El2, MemoryRegion, PageTable, Translation};
use core::cell::UnsafeCell;
use core::ptr::NonNull;

/// Tables for a 48-bit root, and enough below it for some sixteen RAM banks and as many devices.
const TABLES: usize = 64;
/// Tables of the window: two of pages, and what leads to them.
const WINDOW_TABLES: usize = 4;

#[repr(C, align(4096))]
struct Table(UnsafeCell<[u8; 4096]>);
// SAFETY: only `Pool` hands them out, each once, on the boot CPU before any other runs.
unsafe impl Sync for Table {}

static POOL: [Table; TABLES] = [const { Table(UnsafeCell::new([0; 4096])) }; TABLES];

/// Hands out the tables of [`POOL`] in order.
struct Pool {
    used: usize,
}

impl Translation<Attributes> for Pool {
    fn allocate_table(&mut self) -> (NonNull<PageTable<Attributes>>, PhysicalAddress) {
        // Too few tables is a bug of ours, found on the first boot of a board: the panic says where.
        let table = &POOL[self.used];
        self.used += 1;
        let pointer = NonNull::from(table).cast();
        (pointer, PhysicalAddress(pointer.as_ptr() as usize))
    }

    unsafe fn deallocate_table(&mut self, _: NonNull<PageTable<Attributes>>) {}

    fn physical_to_virtual(&self, pa: PhysicalAddress) -> NonNull<PageTable<Attributes>> {
        // Everything is mapped at its own address, and a table is never at 0.
        NonNull::new(pa.0 as *mut _).unwrap_or(NonNull::dangling())
    }
}

unsafe extern "C" {
    static __image_start: u8;
    static __text_end: u8;
    static __rodata_end: u8;
    static __guard0_start: u8;
    static __guard0_end: u8;
    static __guard1_start: u8;
    static __guard1_end: u8;
    static __image_end: u8;
}

fn at(symbol: *const u8) -> HostPhysAddr {
    HostPhysAddr::at(symbol as u64)
}

/// Where the image lies, .bss and stacks included.
pub fn image() -> HostRange {
    HostRange::between(at(&raw const __image_start), at(&raw const __image_end))
}

const BASE: Attributes = Attributes::VALID.union(Attributes::ACCESSED).union(Attributes::USER_RES1);
const NORMAL: Attributes = BASE.union(Attributes::INNER_SHAREABLE);
const TEXT: Attributes = NORMAL.union(Attributes::READ_ONLY);
const CONSTANTS: Attributes = TEXT.union(Attributes::XN);
const DATA: Attributes = NORMAL.union(Attributes::XN);
const DEVICE: Attributes = BASE.union(Attributes::XN).union(Attributes::ATTRIBUTE_INDEX_1);

/// SCTLR_EL2's bits that are RES1 where no later extension uses them (Arm ARM D24.2.176, E2H = 0).
const SCTLR_RES1: u64 = 0x30c5_0830;
/// TCR_EL2's RES1 bits, 31 and 23.
const TCR_RES1: u64 = 1 << 31 | 1 << 23;

/// The registers of EL2's translation on this CPU, for the others: TTBR0, MAIR, TCR, SCTLR.
pub(super) fn registers() -> [u64; 4] {
    [TTBR0_EL2.get(), MAIR_EL2.get(), TCR_EL2.get(), SCTLR_EL2.get()]
}

/// Addresses at which single pages are mapped later on, with the MMU on: for what needs unmapped pages around it, or
/// lies outside of RAM. Nothing that was mapped there changes, so that nothing has to be broken before it is made
/// (Arm ARM D8.16.1: an entry that was invalid is in no TLB).
pub(super) mod window {
    use super::*;
    use core::sync::atomic::{AtomicU64, Ordering};

    /// Its first address: the last 512 GiB of what TTBR0_EL2 translates.
    pub(in crate::arch) const START: usize = 0xff80_0000_0000;
    /// Pages in it.
    pub(in crate::arch) const PAGES: usize = 1024;
    /// A descriptor of the next level's table.
    const TABLE: u64 = 0b11;

    /// A table of descriptors, which the MMU reads too.
    #[repr(C, align(4096))]
    struct Descriptors([AtomicU64; 512]);
    /// Level 1, level 2, and twice level 3.
    static TABLES: [Descriptors; WINDOW_TABLES] =
        [const { Descriptors([const { AtomicU64::new(0) }; 512]) }; WINDOW_TABLES];

    /// Makes the window part of the tables below `root`, while the MMU is off. Whether there was room for it.
    pub(super) fn join(root: u64) -> bool {
        let [level1, level2, low, high] = &TABLES;
        let point = |entry: &AtomicU64, to: &Descriptors| {
            entry.store(&raw const *to as u64 | TABLE, Ordering::Relaxed);
        };
        point(&level1.0[0], level2);
        point(&level2.0[0], low);
        point(&level2.0[1], high);
        // SAFETY: the root is a table of `POOL`, at its own address, and nobody else writes to it now.
        let entry = unsafe { &*((root as usize + (START >> 39 & 511) * 8) as *const AtomicU64) };
        let free = entry.load(Ordering::Relaxed) == 0;
        if free {
            point(entry, level1);
        }
        free
    }

    /// Maps one page of the window, which was not mapped, to the memory at `to`; where that is now.
    ///
    /// Not for two CPUs at once.
    pub(in crate::arch) fn map(page: usize, to: HostPhysAddr) -> Option<usize> {
        const PAGE_DESCRIPTOR: u64 = 0b11;
        let [_, _, tables @ ..] = &TABLES;
        let entry = tables.get(page / 512)?.0.get(page % 512)?;
        if entry.load(Ordering::Relaxed) != 0 {
            return None;
        }
        let page_start = to.align_down(PAGE_SIZE).raw();
        entry.store(page_start | DATA.bits() as u64 | PAGE_DESCRIPTOR, Ordering::Relaxed);
        op!("dsb ishst");
        crate::arch::isb();
        Some(START + page * PAGE_SIZE as usize)
    }
}

/// Something could not be mapped.
#[derive(Debug)]
pub(super) struct MapFailed(pub HostRange);

/// The tables while they are being built.
pub(super) struct Builder {
    mapping: Mapping<Pool, El2>,
}

impl Builder {
    /// Tables with the image in them.
    pub(super) fn new() -> Result<Self, MapFailed> {
        let mut builder = Self { mapping: Mapping::new(Pool { used: 0 }, 0, El2) };
        let between = |from: *const u8, to: *const u8| HostRange::between(at(from), at(to));
        let text = between(&raw const __image_start, &raw const __text_end);
        let constants = between(&raw const __text_end, &raw const __rodata_end);
        let data = between(&raw const __rodata_end, &raw const __guard0_start);
        let stack = between(&raw const __guard0_end, &raw const __guard1_start);
        let fault_stack = between(&raw const __guard1_end, &raw const __image_end);
        builder.map(text, TEXT)?;
        builder.map(constants, CONSTANTS)?;
        for range in [data, stack, fault_stack] {
            builder.map(range, DATA)?;
        }
        Ok(builder)
    }

    /// A bank of RAM, or a part of one, without what the image takes of it.
    pub(super) fn ram(&mut self, bank: HostRange) -> Result<(), MapFailed> {
        let image = image();
        if !bank.overlaps(&image) {
            return self.map(bank, DATA);
        }
        let below = HostRange::between(bank.start(), image.start());
        let above = HostRange::between(image.end(), bank.end());
        [below, above].into_iter().filter(|part| !part.is_empty()).try_for_each(|part| self.map(part, DATA))
    }

    /// A device's registers.
    pub(super) fn device(&mut self, range: HostRange) -> Result<(), MapFailed> {
        self.map(range.align_out(crate::addr::PAGE_SIZE), DEVICE)
    }

    fn map(&mut self, range: HostRange, attributes: Attributes) -> Result<(), MapFailed> {
        if range.is_empty() {
            return Ok(());
        }
        let region = MemoryRegion::new(range.start().raw() as usize, range.end().raw() as usize);
        self.mapping
            .map_range(&region, PhysicalAddress(region.start().0), attributes, Constraints::empty())
            .map_err(|_| MapFailed(range))
    }

    /// Turns the MMU and the caches on with these tables, for good.
    ///
    /// # Errors
    /// There is RAM where the window has to be.
    pub(super) fn enable(self) -> Result<(), MapFailed> {
        let root = self.mapping.root_address().0 as u64;
        if !window::join(root) {
            return Err(MapFailed(super::span(window::START as u64, PAGE_SIZE)));
        }
        core::mem::forget(self.mapping);
        let parange = ID_AA64MMFR0_EL1.read(ID_AA64MMFR0_EL1::PARange).min(5);
        // The tables were written with the caches off, and boot.s left no stale line over the image.
        op!("dsb sy");
        // Attribute 0 is normal memory, 1 a device.
        MAIR_EL2.write(
            MAIR_EL2::Attr0_Normal_Outer::WriteBack_NonTransient_ReadWriteAlloc
                + MAIR_EL2::Attr0_Normal_Inner::WriteBack_NonTransient_ReadWriteAlloc
                + MAIR_EL2::Attr1_Device::nonGathering_nonReordering_EarlyWriteAck,
        );
        let tcr = TCR_EL2::PS.val(parange)
            + TCR_EL2::TG0::KiB_4
            + TCR_EL2::SH0::Inner
            + TCR_EL2::ORGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable
            + TCR_EL2::IRGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable
            + TCR_EL2::T0SZ.val(64 - 48);
        TCR_EL2.set(TCR_RES1 | tcr.value);
        TTBR0_EL2.set(root);
        super::isb();
        op!("tlbi alle2");
        // So that a VM's first VMID needs no flush: firmware may have left anything behind.
        op!("tlbi alle1");
        op!("dsb nsh");
        super::isb();
        let on = SCTLR_EL2::M::Enable
            + SCTLR_EL2::C::Cacheable
            + SCTLR_EL2::I::Cacheable
            + SCTLR_EL2::SA::Enable
            + SCTLR_EL2::WXN::Enable;
        SCTLR_EL2.set(SCTLR_RES1 | on.value);
        super::isb();
        Ok(())
    }
}
