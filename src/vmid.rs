//! VMIDs, with generations: more VMs over time than there are VMIDs.
//!
//! TLB entries are tagged with a VMID, 8 or 16 bits. One that a VM had stays unfit for another until the
//! TLBs are flushed. So VMIDs are handed out once each; when they run out a new *generation* begins: all
//! TLBs are flushed once, VMs that are in use keep their VMID, and everybody else gets a new one when next
//! asked for.
//!
//! Pure: who is in use is an argument, and the flush is a result.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use alloc::vec::Vec;

/// A VMID and the generation it is good in. Every VM keeps the last that it got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Assigned {
    /// VTTBR_EL2.VMID; never 0 once assigned.
    pub vmid: u16,
    /// Counted from 1.
    pub generation: u64,
}

impl Assigned {
    /// What a VM has before its first: good in no generation.
    pub const NONE: Self = Self { vmid: 0, generation: 0 };
}

/// All VMIDs of the machine. 0 is nobody's: it is EL2's own, for when no VM is loaded.
#[derive(Debug)]
pub struct Vmids {
    count: usize,
    generation: u64,
    used: Used,
    /// What VMs that were in use had when this generation began.
    kept: Vec<Assigned>,
}

/// The VMIDs that may be in a TLB in this generation.
#[derive(Debug)]
struct Used {
    bits: Vec<u64>,
    /// No word below has a clear bit.
    first: usize,
}

impl Vmids {
    /// VMIDs of `bits`: 8, or 16 with FEAT_VMID16.
    pub fn new(bits: u8) -> Self {
        let count = 1_usize.wrapping_shl(bits.min(16).into());
        Self { count, generation: 1, used: Used::new(count, &[]), kept: Vec::new() }
    }

    /// The VMID for a VM that has `current`: the same while its generation lasts, else a new one.
    ///
    /// `in_use` is what all VMs have that run anywhere, or that simply may not lose their VMID: each VM's
    /// one record as it is now, not a CPU's copy of it. It is looked at only when a generation ends. The
    /// flag says that one did: **all TLBs of all CPUs must be flushed** before a VMID that was not in use
    /// is loaded anywhere.
    ///
    /// `None` if those in use hold every VMID; nothing has changed then.
    #[must_use = "the flag says that all TLBs must be flushed"]
    pub fn assign(&mut self, current: Assigned, in_use: &[Assigned]) -> Option<(Assigned, bool)> {
        if current.generation == self.generation {
            return Some((current, false));
        }
        if let Some(vmid) = self.kept_or_new(current) {
            return Some((Assigned { vmid, generation: self.generation }, false));
        }
        let next = Used::new(self.count, in_use);
        if next.is_full() && !in_use.contains(&current) {
            return None;
        }
        self.generation = self.generation.wrapping_add(1);
        self.used = next;
        self.kept.clear();
        self.kept.extend(in_use.iter().filter(|held| held.vmid != 0));
        let vmid = self.kept_or_new(current)?;
        Some((Assigned { vmid, generation: self.generation }, true))
    }

    fn kept_or_new(&mut self, current: Assigned) -> Option<u16> {
        if self.kept.contains(&current) { Some(current.vmid) } else { self.used.take() }
    }
}

impl Used {
    /// Of `count` VMIDs, those that are `held`, and 0.
    fn new(count: usize, held: &[Assigned]) -> Self {
        let mut used = Self { bits: alloc::vec![0; count.div_ceil(64)], first: 0 };
        let beyond = count..used.bits.len().saturating_mul(64);
        beyond.for_each(|vmid| used.mark(vmid));
        used.mark(0);
        held.iter().for_each(|held| used.mark(held.vmid.into()));
        used
    }

    fn mark(&mut self, vmid: usize) {
        if let Some(word) = self.bits.get_mut(vmid / 64) {
            *word |= 1 << (vmid % 64);
        }
    }

    fn is_full(&self) -> bool {
        self.bits.iter().all(|word| *word == u64::MAX)
    }

    /// The lowest that is not used; it is from now on.
    fn take(&mut self) -> Option<u16> {
        let full = self.bits.get(self.first..)?.iter().take_while(|word| **word == u64::MAX).count();
        self.first = self.first.saturating_add(full);
        let word = self.bits.get(self.first)?.trailing_ones() as usize;
        let vmid = self.first.saturating_mul(64).saturating_add(word);
        self.mark(vmid);
        u16::try_from(vmid).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn hands_out_each_once_and_never_0() {
        for bits in [4, 8, 16] {
            let mut vmids = Vmids::new(bits);
            for n in 1..1_u64 << bits {
                let (got, renewed) = vmids.assign(Assigned::NONE, &[]).unwrap();
                assert_eq!((u64::from(got.vmid), got.generation, renewed), (n, 1, false));
            }
            let (got, renewed) = vmids.assign(Assigned::NONE, &[]).unwrap();
            assert_eq!((got.vmid, got.generation, renewed), (1, 2, true));
        }
    }

    #[test]
    fn nothing_changes_when_all_are_held() {
        let mut vmids = Vmids::new(4);
        let held: Vec<_> = (1..16).map(|_| vmids.assign(Assigned::NONE, &[]).unwrap().0).collect();
        assert_eq!(vmids.assign(Assigned::NONE, &held), None);
        assert_eq!(vmids.assign(held[3], &held), Some((held[3], false)));
        let (got, renewed) = vmids.assign(Assigned::NONE, &held[1..]).unwrap();
        assert!(renewed);
        assert_eq!(got.vmid, held[0].vmid);
        // A VM that has none yet is no reason to hand out 0.
        let mut fresh = Vmids::new(4);
        for _ in 0..16 {
            assert_ne!(fresh.assign(Assigned::NONE, &[Assigned::NONE]).unwrap().0.vmid, 0);
        }
        // Another one that was in use keeps its own, without a further flush.
        let (kept, renewed) = vmids.assign(held[5], &[]).unwrap();
        assert_eq!((kept.vmid, kept.generation, renewed), (held[5].vmid, 2, false));
    }

    proptest! {
        /// VMs enter and leave four CPUs. The model is the TLBs: which VM each VMID's entries belong to.
        #[test]
        fn no_vm_ever_sees_the_entries_of_another(
            steps in prop::collection::vec((0_usize..4, prop::option::of(0_usize..40)), 1..400),
        ) {
            let mut vmids = Vmids::new(4);
            let mut records = [Assigned::NONE; 40];
            let mut on_cpu = [None::<usize>; 4];
            let mut loaded = [0_u16; 4];
            let mut tlb = HashMap::<u16, usize>::new();
            for (cpu, vm) in steps {
                on_cpu[cpu] = None;
                let Some(vm) = vm else { continue };
                let in_use: Vec<_> = on_cpu.iter().flatten().map(|&vm| records[vm]).collect();
                let (got, renewed) = vmids.assign(records[vm], &in_use).unwrap();
                records[vm] = got;
                if renewed {
                    tlb.clear();
                    // CPUs go on running and fill their TLBs again under the VMID that they have loaded.
                    for other in 0..4 {
                        if let Some(running) = on_cpu[other] {
                            tlb.insert(loaded[other], running);
                        }
                    }
                }
                prop_assert!(got.vmid != 0 && got.vmid < 16);
                prop_assert_eq!(*tlb.entry(got.vmid).or_insert(vm), vm);
                on_cpu[cpu] = Some(vm);
                loaded[cpu] = got.vmid;
                // One VM has one VMID, wherever it runs: a flush by VMID reaches all of it.
                for other in 0..4 {
                    prop_assert!(on_cpu[other] != Some(vm) || loaded[other] == got.vmid);
                }
            }
        }
    }
}
