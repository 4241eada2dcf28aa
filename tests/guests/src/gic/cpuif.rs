//! The CPU interface's registers, by group, over both versions.
//!
//! GICv2 has one set (GICC_IAR and its like), which serves group 0 and, with AckCtl, both groups; its aliases
//! (GICC_AIAR) serve group 1. GICv3 has a set for each group. Here `group` picks the set: what it means is as
//! the version has it.

use super::v2 as mmio_face;
use super::v2::{gicc_reg, read, write};
use super::{id, v2};
use crate::{mrs, msr, op};

pub use mmio_face::gicc_reg as offset;

/// One register of GICv2's CPU interface, by [`offset`].
pub fn raw(offset: usize) -> u32 {
    read(offset)
}

/// Sets one.
pub fn set_raw(offset: usize, value: u32) {
    write(offset, value);
}

macro_rules! by_group {
    ($group:ident, $offsets:expr, $zero:literal, $one:literal) => {{
        if v2() {
            read($offsets[($group & 1) as usize])
        } else if $group == 0 {
            mrs!($zero) as u32
        } else {
            mrs!($one) as u32
        }
    }};
    ($group:ident, $offsets:expr, $zero:literal, $one:literal, $value:expr) => {{
        if v2() {
            write($offsets[($group & 1) as usize], $value)
        } else if $group == 0 {
            msr!($zero, u64::from($value))
        } else {
            msr!($one, u64::from($value))
        }
    }};
}

/// Acknowledges an interrupt of `group`.
pub fn iar(group: u32) -> u32 {
    let acknowledged = by_group!(group, [gicc_reg::IAR, gicc_reg::AIAR], "icc_iar0_el1", "icc_iar1_el1");
    op!("dsb sy");
    acknowledged
}

/// Ends an interrupt of `group`.
pub fn eoir(group: u32, acknowledged: u32) {
    by_group!(group, [gicc_reg::EOIR, gicc_reg::AEOIR], "icc_eoir0_el1", "icc_eoir1_el1", acknowledged);
}

/// The first pending interrupt of `group`.
pub fn hppir(group: u32) -> u32 {
    by_group!(group, [gicc_reg::HPPIR, gicc_reg::AHPPIR], "icc_hppir0_el1", "icc_hppir1_el1")
}

/// The binary point of `group`.
pub fn bpr(group: u32) -> u32 {
    by_group!(group, [gicc_reg::BPR, gicc_reg::ABPR], "icc_bpr0_el1", "icc_bpr1_el1")
}

/// Sets the binary point of `group`.
pub fn set_bpr(group: u32, point: u32) {
    by_group!(group, [gicc_reg::BPR, gicc_reg::ABPR], "icc_bpr0_el1", "icc_bpr1_el1", point);
}

/// Deactivates an interrupt, as acknowledged.
pub fn dir(acknowledged: u32) {
    if v2() { write(gicc_reg::DIR, acknowledged) } else { msr!("icc_dir_el1", u64::from(id(acknowledged))) }
}

/// The priority mask.
pub fn pmr() -> u32 {
    if v2() { read(gicc_reg::PMR) } else { mrs!("icc_pmr_el1") as u32 }
}

/// Sets the priority mask: only more urgent interrupts are signalled.
pub fn set_pmr(priority: u32) {
    if v2() { write(gicc_reg::PMR, priority) } else { msr!("icc_pmr_el1", u64::from(priority)) }
}

/// The running priority; 0xff when nothing is active.
pub fn rpr() -> u32 {
    if v2() { read(gicc_reg::RPR) } else { mrs!("icc_rpr_el1") as u32 }
}

/// Lets a group's interrupts through, or not.
pub fn enable_group(group: u32, on: bool) {
    if v2() {
        let control = read(gicc_reg::CTLR) & !(1 << group);
        write(gicc_reg::CTLR, control | u32::from(on) << group);
    } else if group == 0 {
        msr!("icc_igrpen0_el1", u64::from(on));
    } else {
        msr!("icc_igrpen1_el1", u64::from(on));
    }
}

fn control(v2_bit: u32, v3_bit: u32, on: bool) {
    let (bit, was) =
        if v2() { (v2_bit, read(gicc_reg::CTLR)) } else { (v3_bit, mrs!("icc_ctlr_el1") as u32) };
    let value = was & !(1 << bit) | u32::from(on) << bit;
    if v2() { write(gicc_reg::CTLR, value) } else { msr!("icc_ctlr_el1", u64::from(value)) }
}

/// EOImode 1: the end drops the priority alone, and [`dir`] deactivates.
pub fn split_eoi(on: bool) {
    control(9, 1, on);
}

/// Whether EOImode is 1.
pub fn eoi_is_split() -> bool {
    if v2() { read(gicc_reg::CTLR) >> 9 & 1 != 0 } else { mrs!("icc_ctlr_el1") >> 1 & 1 != 0 }
}

/// CBPR: group 1 takes the binary point of group 0.
pub fn common_bpr(on: bool) {
    control(4, 0, on);
}

/// AckCtl of GICv2: IAR and HPPIR show group 1 too.
pub fn ack_control(on: bool) {
    let was = read(gicc_reg::CTLR);
    write(gicc_reg::CTLR, was & !4 | u32::from(on) << 2);
}

/// FIQEn of GICv2: group 0 comes as FIQ.
pub fn fiq(on: bool) {
    let was = read(gicc_reg::CTLR);
    write(gicc_reg::CTLR, was & !8 | u32::from(on) << 3);
}
