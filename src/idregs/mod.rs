//! ID registers as guests read them.
//!
//! Input are the registers of all CPUs that a VM may run on, reduced by [`common`] to what each of them has.
//! [`IdRegs::new`] lets through what [`table`] lists and no more, and adds what is the VM's own: its interrupt
//! controller, its address size, and debug hardware of the least size, which is emulated as idle.
//! Computed once for a VM; a read is one look into an array. MIDR, REVIDR and MPIDR are not here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

pub mod table;

use table::{AARCH32, AARCH64, Row, Sign};

/// The registers of op0 3, op1 0, CRn 0, CRm 0 to 7: index CRm x 8 + op2.
pub type Raw = [u64; 64];

/// ID_AA64DFR0_EL1: debug architecture of Armv8.0 (6), two breakpoints, two watchpoints, one of them context
/// aware: the least that exists. No PMU, no trace, no SPE, no TRBE, no BRBE.
const DFR0: u64 = 6 | 1 << 12 | 1 << 20;

/// ID_DFR0_EL1: CopDbg as DFR0 has it; no PMU (zero).
const DFR0_AARCH32: u64 = 6;

const PFR0: (u8, u8) = (4, 0);
const PFR0_GIC: u8 = 24;
const PFR0_EL0_AARCH32: u64 = 2;
const MMFR0: (u8, u8) = (7, 0);

/// What the VM itself decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Bits of its guest-physical addresses: PARange is the largest that is not above.
    pub ipa_bits: u8,
    /// The GIC's system registers can be used: a GICv3 guest.
    pub gic_system_registers: bool,
}

/// The ID registers of one VM.
#[derive(Clone, PartialEq, Eq)]
pub struct IdRegs {
    values: Raw,
}

impl IdRegs {
    /// What a VM with this `view` sees of CPUs that have `host` in common.
    pub fn new(host: &Raw, view: View) -> Self {
        let mut regs = Self { values: [0; 64] };
        for row in AARCH64 {
            regs.put(row.crm, row.op2, row.lsb, capped(row, field(host, row.crm, row.op2, row.lsb)));
        }
        if view.gic_system_registers {
            regs.put(PFR0.0, PFR0.1, PFR0_GIC, 1);
        }
        let host_range = field(host, MMFR0.0, MMFR0.1, 0);
        regs.put(MMFR0.0, MMFR0.1, 0, host_range.min(pa_range(view.ipa_bits)));
        regs.set(5, 0, DFR0);
        if regs.has_aarch32() {
            for row in AARCH32 {
                regs.set(row.crm, row.op2, get(host, row.crm, row.op2) & u64::from(row.mask));
            }
            regs.set(1, 2, DFR0_AARCH32);
        }
        regs
    }

    /// The register of op0 3, op1 0, CRn 0 and these: zero where nothing is to be seen, or nothing exists.
    #[inline]
    pub fn get(&self, crm: u8, op2: u8) -> u64 {
        get(&self.values, crm, op2)
    }

    /// EL0 may run AArch32.
    pub fn has_aarch32(&self) -> bool {
        field(&self.values, PFR0.0, PFR0.1, 0) == PFR0_EL0_AARCH32
    }

    fn set(&mut self, crm: u8, op2: u8, value: u64) {
        if let Some(slot) = self.values.get_mut(index(crm, op2)) {
            *slot = value;
        }
    }

    fn put(&mut self, crm: u8, op2: u8, lsb: u8, value: u64) {
        let mask = 0xf_u64.wrapping_shl(lsb.into());
        let other = self.get(crm, op2) & !mask;
        self.set(crm, op2, other | value.wrapping_shl(lsb.into()) & mask);
    }
}

impl core::fmt::Debug for IdRegs {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let shown = (0_u8..64).filter_map(|n| {
            let (crm, op2) = (n >> 3, n & 7);
            let value = self.get(crm, op2);
            (value != 0).then_some(((crm, op2), value))
        });
        f.debug_map().entries(shown).finish()
    }
}

#[inline]
fn index(crm: u8, op2: u8) -> usize {
    usize::from((crm & 7) << 3 | op2 & 7)
}

#[inline]
fn get(raw: &Raw, crm: u8, op2: u8) -> u64 {
    raw.get(index(crm, op2)).copied().unwrap_or(0)
}

fn field(raw: &Raw, crm: u8, op2: u8, lsb: u8) -> u64 {
    get(raw, crm, op2).wrapping_shr(lsb.into()) & 0xf
}

/// A field's place in the order of more and less: signed ones have 0xf at the bottom.
fn rank(sign: Sign, value: u64) -> u64 {
    match sign {
        Sign::Unsigned => value & 0xf,
        Sign::Signed => value.wrapping_add(8) & 0xf,
    }
}

fn lesser(sign: Sign, a: u64, b: u64) -> u64 {
    if rank(sign, a) <= rank(sign, b) { a } else { b }
}

fn capped(row: &Row, value: u64) -> u64 {
    lesser(row.sign, value, row.most.into())
}

/// ID_AA64MMFR0_EL1.PARange for addresses of at most so many bits.
fn pa_range(bits: u8) -> u64 {
    match bits {
        52.. => 6,
        48.. => 5,
        44.. => 4,
        42.. => 3,
        40.. => 2,
        36.. => 1,
        _ => 0,
    }
}

/// What two CPUs have in common: the lesser of each field. Fields that no guest sees come out as zero.
///
/// PFR0.GIC and DFR0 are the VM's own and not part of it.
pub fn common(a: &Raw, b: &Raw) -> Raw {
    let mut both = IdRegs { values: [0; 64] };
    let mut fields = |crm, op2, lsb, sign| {
        let least = lesser(sign, field(a, crm, op2, lsb), field(b, crm, op2, lsb));
        both.put(crm, op2, lsb, least);
    };
    AARCH64.iter().for_each(|row| fields(row.crm, row.op2, row.lsb, row.sign));
    fields(MMFR0.0, MMFR0.1, 0, Sign::Unsigned);
    for row in AARCH32 {
        (0..32).step_by(4).for_each(|lsb| fields(row.crm, row.op2, lsb, Sign::Unsigned));
    }
    both.values
}

#[cfg(test)]
mod tests;
