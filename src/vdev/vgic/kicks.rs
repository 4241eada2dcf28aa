//! What a change means to vCPUs: who has to look, and what one raises for itself.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::MAX_VCPUS;
use super::bank::bit;
use crate::machine::IntId;
use crate::vcpu::VcpuId;
use core::ops::{BitOr, BitOrAssign};

/// vCPUs of one VM that have something new to look at: kick them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kicks(pub(super) u64);

impl Kicks {
    /// Nobody.
    pub const NONE: Self = Self(0);

    /// One vCPU.
    pub const fn of(vcpu: VcpuId) -> Self {
        if (vcpu.0 as usize) < MAX_VCPUS { Self(1u64.wrapping_shl(vcpu.0 as u32)) } else { Self(0) }
    }

    pub(super) const fn of_index(vcpu: u8) -> Self {
        Self::of(VcpuId(vcpu as u16))
    }

    /// The first `count` vCPUs.
    pub(super) fn first(count: usize) -> Self {
        Self(if count >= MAX_VCPUS { u64::MAX } else { 1u64.wrapping_shl(count as u32).wrapping_sub(1) })
    }

    /// Whether there is nobody to kick.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `vcpu` is among them.
    pub const fn contains(self, vcpu: VcpuId) -> bool {
        self.0 & Self::of(vcpu).0 != 0
    }

    /// The others: `me` looks anyway before it enters.
    pub const fn without(self, me: VcpuId) -> Self {
        Self(self.0 & !Self::of(me).0)
    }

    /// As a word, a bit for each vCPU.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Those of a word that [`bits`](Self::bits) gave.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The vCPU of lowest number.
    pub const fn first_vcpu(self) -> Option<VcpuId> {
        if self.0 == 0 { None } else { Some(VcpuId(self.0.trailing_zeros() as u16)) }
    }
}

impl BitOr for Kicks {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitOrAssign for Kicks {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}

impl Iterator for Kicks {
    type Item = VcpuId;

    fn next(&mut self) -> Option<VcpuId> {
        let vcpu = self.first_vcpu()?;
        self.0 &= self.0.wrapping_sub(1);
        Some(vcpu)
    }
}

/// Private interrupts that begin to pend at a [`Vgic::sync_raised`](super::Vgic::sync_raised).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raised {
    pub(super) lanes: u32,
    /// Those that a physical interrupt is active for.
    pub(super) linked: u32,
}

impl Raised {
    /// None.
    pub const NOTHING: Self = Self { lanes: 0, linked: 0 };

    pub(super) const fn sgi(lane: u32) -> Self {
        Self { lanes: bit(lane), linked: 0 }
    }

    /// Physical PPI `ppi` was acknowledged and left active.
    pub const fn linked(ppi: IntId) -> Self {
        let lanes = if ppi.0 < 32 { bit(ppi.0) } else { 0 };
        Self { lanes, linked: lanes }
    }
}
