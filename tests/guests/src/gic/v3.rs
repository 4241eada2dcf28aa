//! GICv3: the redistributor, and SGIs by system registers (IHI 0069).

use super::{SGI, Targets, redistributor, reg, sync};
use crate::mmio::{read32, read64, write32};
use crate::{mrs, msr, timer};

/// GICR_WAKER.
const WAKER: usize = 0x14;

pub(super) fn init_cpu() {
    let rd = redistributor();
    let affinity = read64(rd + 8) >> 32;
    let mpidr = mrs!("mpidr_el1");
    crate::check_eq!(affinity, mpidr & 0xff_ffff | mpidr >> 8 & 0xff00_0000, "GICR_TYPER affinity");
    write32(rd + WAKER, read32(rd + WAKER) & !2);
    let awake = timer::until(1000, || read32(rd + WAKER) & 4 == 0);
    crate::check!(awake, "the redistributor does not wake");
    write32(rd + SGI + reg::GROUP, !0);
    for array in [reg::ICENABLE, reg::ICPEND, reg::ICACTIVE] {
        write32(rd + SGI + array, !0);
    }
    for n in 0..8 {
        write32(rd + SGI + reg::PRIORITY + 4 * n, 0xa0a0_a0a0);
    }
    sync(0);
    msr!("icc_sre_el1", mrs!("icc_sre_el1") | 1);
    msr!("icc_ctlr_el1", 0);
    // Nothing is active: no priority may be left either, from whoever had the CPU before.
    msr!("icc_ap0r0_el1", 0);
    msr!("icc_ap1r0_el1", 0);
    msr!("icc_pmr_el1", 0xff);
    msr!("icc_bpr0_el1", 0);
    msr!("icc_bpr1_el1", 0);
    msr!("icc_igrpen0_el1", 0);
    msr!("icc_igrpen1_el1", 1);
}

/// Sends an SGI of `group`.
pub(super) fn send(group: u32, intid: u32, targets: Targets) {
    let mpidr = mrs!("mpidr_el1");
    let cluster = (mpidr >> 8 & 0xff) << 16 | (mpidr >> 16 & 0xff) << 32 | (mpidr >> 32 & 0xff) << 48;
    let whom = match targets {
        Targets::List(list) => cluster | u64::from(list),
        Targets::Cpu(cpu) => (cpu as u64 / 16) << 16 | 1 << (cpu % 16),
        Targets::Others => 1 << 40,
        Targets::Own => cluster | (mpidr >> 4 & 0xf) << 44 | 1 << (mpidr & 0xf),
    };
    let value = whom | u64::from(intid) << 24;
    if group == 0 {
        msr!("icc_sgi0r_el1", value);
    } else {
        msr!("icc_sgi1r_el1", value);
    }
}
