//! VMIDs, with generations: more VMs over time than there are VMIDs.
//!
//! TLB entries are tagged with a VMID, 8 or 16 bits. One that a VM had stays unfit for another until the
//! TLBs are flushed. So VMIDs are handed out once each, to a VM when it first enters; when they run out a new
//! *generation* begins: all TLBs are flushed once, VMs that a CPU has loaded keep their VMID, and everybody
//! else gets a new one on their next entry.
//!
//! What holds at any time:
//!
//! * No two VMs have had the same VMID loaded since the last flush of all TLBs.
//! * A VM has the same VMID on all CPUs that have it loaded: what is invalidated by VMID is invalidated for all
//!   of it.
//!
//! Pure: CPUs and VMs are numbers here, and the flush is a result.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::vcpu::{CpuId, VmId};
use alloc::boxed::Box;

/// What a CPU is to load with a VM's Stage 2.
#[must_use = "`flush` says that all TLBs must be flushed"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entered {
    /// VTTBR_EL2.VMID; never 0.
    pub vmid: u16,
    /// A generation ended: **all TLBs of all CPUs must be flushed** ([`Flush::All`](crate::stage2::Flush::All))
    /// before anybody loads anything that the table says from here on. So: before its lock is let go.
    pub flush: bool,
}

/// A VMID and the generation it is good in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Assigned {
    vmid: u16,
    /// Counted from 1.
    generation: u64,
}

impl Assigned {
    /// What a VM has before its first: good in no generation.
    const NONE: Self = Self { vmid: 0, generation: 0 };
}

/// What a CPU has in VTTBR_EL2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Loaded {
    /// Whose it is; `None` once that VM is forgotten.
    vm: Option<VmId>,
    /// Its VMID; 0 if nothing has been loaded.
    vmid: u16,
}

impl Loaded {
    const NOTHING: Self = Self { vm: None, vmid: 0 };
}

/// Which VMID every VM has, and every CPU has loaded.
#[derive(Debug)]
pub struct Table {
    vmids: Vmids,
    /// By VM.
    records: Box<[Assigned]>,
    /// By CPU.
    loaded: Box<[Loaded]>,
}

impl Table {
    /// A table for as many VMs at a time and CPUs, none of which has one loaded, and whose TLBs hold nothing
    /// of any VM. VMIDs of `bits`: 8, or 16 with FEAT_VMID16 ([`vmid_bits`](crate::stage2::Geometry::vmid_bits)).
    ///
    /// # Panics
    /// If there are about as many CPUs as VMIDs: they could all be loaded, and none be left to give.
    pub fn new(bits: u8, vms: usize, cpus: usize) -> Self {
        let vmids = Vmids::new(bits, cpus);
        assert!(cpus.saturating_add(1) <= usize::from(vmids.last), "more CPUs than VMIDs");
        Self {
            vmids,
            records: alloc::vec![Assigned::NONE; vms].into(),
            loaded: alloc::vec![Loaded::NOTHING; cpus].into(),
        }
    }

    /// CPU `cpu` is about to load VM `vm`, in place of what it has.
    ///
    /// Call it on each switch to another VM, and write VTTBR_EL2 by what it says. A CPU that stays with a VM
    /// (a vCPU that waits there with its state in the registers, another vCPU of the same VM) has what it had:
    /// a VM that is loaded anywhere keeps its VMID.
    #[inline]
    pub fn enter(&mut self, cpu: CpuId, vm: VmId) -> Entered {
        let record = self.records.get(usize::from(vm.0)).copied().unwrap_or(Assigned::NONE);
        if record.generation != self.vmids.generation {
            return self.renew(cpu, vm);
        }
        self.load(cpu, vm, record.vmid);
        Entered { vmid: record.vmid, flush: false }
    }

    /// CPU `cpu` has no VM's Stage 2 in VTTBR_EL2 any more: it has loaded something with VMID 0.
    pub fn leave(&mut self, cpu: CpuId) {
        if let Some(loaded) = self.loaded.get_mut(usize::from(cpu.0)) {
            *loaded = Loaded::NOTHING;
        }
    }

    /// The VMID under which TLBs may hold entries of `vm`; `None` if they cannot hold any, or it was forgotten.
    ///
    /// For a flush between break and make: ask **after** the break. If the VMID changes before the flush, a
    /// generation has ended, and what was broken went with it.
    pub fn of(&self, vm: VmId) -> Option<u16> {
        let record = self.records.get(usize::from(vm.0))?;
        (record.generation == self.vmids.generation).then_some(record.vmid)
    }

    /// VM `vm` is gone. Its VMID stays burnt for the generation, and longer on CPUs that have not loaded
    /// anything else since.
    pub fn forget(&mut self, vm: VmId) {
        if let Some(record) = self.records.get_mut(usize::from(vm.0)) {
            *record = Assigned::NONE;
        }
        for loaded in self.loaded.iter_mut().filter(|loaded| loaded.vm == Some(vm)) {
            loaded.vm = None;
        }
    }

    /// A new VM takes the place `vm`: it has no VMID, whoever was there before. False if there is no such place.
    pub fn adopt(&mut self, vm: VmId) -> bool {
        self.forget(vm);
        usize::from(vm.0) < self.records.len()
    }

    #[inline]
    fn load(&mut self, cpu: CpuId, vm: VmId, vmid: u16) {
        if let Some(loaded) = self.loaded.get_mut(usize::from(cpu.0)) {
            *loaded = Loaded { vm: Some(vm), vmid };
        }
    }

    /// A VM that has no VMID in this generation gets one.
    #[cold]
    fn renew(&mut self, cpu: CpuId, vm: VmId) -> Entered {
        let (vmid, flush) = match self.vmids.take() {
            Some(vmid) => (vmid, false),
            None => {
                self.begin();
                (self.vmids.take().unwrap_or(0), true)
            }
        };
        // `vm` was not among those kept: what is loaded is good in its generation, and `vm` had none that is.
        if let Some(record) = self.records.get_mut(usize::from(vm.0)) {
            *record = Assigned { vmid, generation: self.vmids.generation };
        }
        self.load(cpu, vm, vmid);
        Entered { vmid, flush }
    }

    /// Begins a new generation. What any CPU has loaded keeps its meaning: entries may come back to its TLB right
    /// after the flush. That goes for the CPU that asks, too.
    fn begin(&mut self) {
        let generation = self.vmids.begin();
        for (kept, loaded) in self.vmids.kept.iter_mut().zip(&self.loaded) {
            *kept = loaded.vmid;
            if let Some(record) = loaded.vm.and_then(|vm| self.records.get_mut(usize::from(vm.0))) {
                *record = Assigned { vmid: loaded.vmid, generation };
            }
        }
    }
}

/// All VMIDs of the machine. 0 is nobody's: it is EL2's own, for when no VM is loaded.
#[derive(Debug)]
struct Vmids {
    /// The highest that there is.
    last: u16,
    generation: u64,
    /// The last that was handed out in this generation, or passed over because it is kept.
    taken: u16,
    /// By CPU, what it had loaded when this generation began: taken from its start.
    kept: Box<[u16]>,
}

impl Vmids {
    fn new(bits: u8, cpus: usize) -> Self {
        let last = 1_u32.wrapping_shl(bits.min(16).into()).wrapping_sub(1) as u16;
        Self { last, generation: 1, taken: 0, kept: alloc::vec![0; cpus].into() }
    }

    /// The next one that nobody has had in this generation. Takes time by the number of CPUs.
    fn take(&mut self) -> Option<u16> {
        while self.taken < self.last {
            self.taken = self.taken.wrapping_add(1);
            if !self.kept.contains(&self.taken) {
                return Some(self.taken);
            }
        }
        None
    }

    /// Begins a new generation; the caller sets `kept`.
    fn begin(&mut self) -> u64 {
        self.generation = self.generation.wrapping_add(1);
        self.taken = 0;
        self.generation
    }
}

#[cfg(test)]
mod tests;
