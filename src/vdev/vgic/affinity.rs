//! Which vCPU an affinity names, without looking at each.
//!
//! SGIs name up to sixteen PEs at once by a range of Aff0 and a bit each (IHI 0069, ICC_SGI1R_EL1); a table
//! of such ranges answers that in one step, and IROUTER too. Few VMs have more than one range.

use alloc::boxed::Box;
use alloc::vec::Vec;

/// No vCPU.
pub(super) const NOBODY: u8 = 0xff;

/// Aff3 to Aff0 of an MPIDR_EL1, side by side in 32 bits, as GICR_TYPER holds them.
pub(super) fn pack(mpidr: u64) -> u32 {
    (mpidr & 0x00ff_ffff | mpidr >> 8 & 0xff00_0000) as u32
}

/// ICC_SGI1R_EL1 with this MPIDR_EL1 alone as its target and an INTID of 0: Aff3, RS, Aff2, Aff1, TargetList.
pub(super) fn sgi_target(mpidr: u64) -> u64 {
    let field = |from: u32, to: u32| (mpidr >> from & 0xff) << to;
    let target = 1u64.wrapping_shl(mpidr as u32 & 15);
    field(32, 48) | (mpidr >> 4 & 15) << 44 | field(16, 32) | field(8, 16) | target
}

/// Sixteen neighbours: they differ in the low four bits of Aff0.
struct Range {
    key: u32,
    vcpus: [u8; 16],
}

/// All vCPUs of a VM, by affinity.
pub(super) struct Affinities(Box<[Range]>);

impl Affinities {
    /// From MPIDR_EL1 of each vCPU, in their order.
    pub(super) fn new(mpidrs: &[u64]) -> Self {
        let mut ranges: Vec<Range> = Vec::new();
        for (vcpu, &mpidr) in (0u8..).zip(mpidrs) {
            let affinity = pack(mpidr);
            let key = affinity >> 4;
            if !ranges.iter().any(|range| range.key == key) {
                ranges.push(Range { key, vcpus: [NOBODY; 16] });
            }
            let range = ranges.iter_mut().find(|range| range.key == key);
            if let Some(slot) = range.and_then(|range| range.vcpus.get_mut(affinity as usize & 15)) {
                *slot = vcpu;
            }
        }
        Self(ranges.into_boxed_slice())
    }

    /// The vCPUs of a range: an affinity without the low four bits of Aff0.
    #[inline(always)]
    pub(super) fn range(&self, key: u32) -> Option<&[u8; 16]> {
        self.0.iter().find(|range| range.key == key).map(|range| &range.vcpus)
    }

    /// The vCPU with this affinity, or [`NOBODY`].
    #[inline(always)]
    pub(super) fn vcpu(&self, affinity: u32) -> u8 {
        let range = self.range(affinity >> 4);
        range.and_then(|vcpus| vcpus.get(affinity as usize & 15)).copied().unwrap_or(NOBODY)
    }
}
