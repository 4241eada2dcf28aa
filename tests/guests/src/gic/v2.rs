//! GICv2: the CPU interface in memory, and SGIs by GICD_SGIR (IHI 0048B).

use super::{Targets, gicc, gicd, reg};
use crate::mmio::{read8, read32, write32};
use crate::op;

/// Registers of GICC and, but for their reset values, of GICV, by offset.
pub mod gicc_reg {
    pub const CTLR: usize = 0x00;
    pub const PMR: usize = 0x04;
    pub const BPR: usize = 0x08;
    pub const IAR: usize = 0x0c;
    pub const EOIR: usize = 0x10;
    pub const RPR: usize = 0x14;
    pub const HPPIR: usize = 0x18;
    pub const ABPR: usize = 0x1c;
    pub const AIAR: usize = 0x20;
    pub const AEOIR: usize = 0x24;
    pub const AHPPIR: usize = 0x28;
    pub const APR: usize = 0xd0;
    pub const NSAPR: usize = 0xe0;
    pub const IIDR: usize = 0xfc;
    pub const DIR: usize = 0x1000;
}

/// One register of the CPU interface.
pub fn read(offset: usize) -> u32 {
    read32(gicc() + offset)
}

/// Sets one; its effect on the CPU's interrupt line is there afterwards.
pub fn write(offset: usize, value: u32) {
    write32(gicc() + offset, value);
    op!("dsb sy");
    op!("isb");
}

pub(super) fn init_cpu() {
    let gicd = gicd();
    let own = read8(gicd + reg::TARGETS);
    // A controller of one CPU may read as zero here.
    crate::check!(own == 0 || u16::from(own) == super::own(), "GICD_ITARGETSR0 {own:#x}");
    write32(gicd + reg::GROUP, 0);
    write32(gicd + reg::ICENABLE, !0);
    write32(gicd + reg::ICPEND, !0);
    write32(gicd + reg::ICACTIVE, !0);
    for n in 0..4 {
        write32(gicd + reg::CPENDSGI + 4 * n, !0);
    }
    for n in 0..8 {
        write32(gicd + reg::PRIORITY + 4 * n, 0xa0a0_a0a0);
    }
    // Nothing is active: no priority may be left either, from whoever had the CPU before.
    write(gicc_reg::CTLR, 0);
    for n in 0..4 {
        write(gicc_reg::APR + 4 * n, 0);
        write(gicc_reg::NSAPR + 4 * n, 0);
    }
    write(gicc_reg::PMR, 0xff);
    write(gicc_reg::BPR, 0);
    write(gicc_reg::CTLR, 1);
}

pub(super) fn send(intid: u32, targets: Targets) {
    let filter = match targets {
        Targets::List(list) => u32::from(list & 0xff) << 16,
        Targets::Cpu(cpu) => 1 << (16 + cpu % 8),
        Targets::Others => 1 << 24,
        Targets::Own => 2 << 24,
    };
    write32(gicd() + reg::SGIR, filter | intid);
    op!("dsb sy");
}
