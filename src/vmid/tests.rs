#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may panic")]

use super::*;
use proptest::prelude::*;
use std::collections::HashMap;

fn enter(table: &mut Table, cpu: u16, vm: u16) -> (u16, bool) {
    let Entered { vmid, flush } = table.enter(CpuId(cpu), VmId(vm));
    (vmid, flush)
}

#[test]
fn hands_out_each_once_and_never_0() {
    for bits in [4, 8, 16] {
        let count = 1_u32 << bits;
        let mut table = Table::new(bits, count as usize, 1);
        for n in 1..count {
            assert_eq!(enter(&mut table, 0, n as u16), (n as u16, false));
        }
        // The one that is loaded is kept, and 0 is nobody's.
        assert_eq!(enter(&mut table, 0, 0), (1, true));
        assert_eq!(enter(&mut table, 0, (count - 1) as u16), ((count - 1) as u16, false));
        assert_eq!(enter(&mut table, 0, 1), (2, false));
    }
}

#[test]
fn the_same_vm_has_the_same_vmid_everywhere_while_its_generation_lasts() {
    let mut table = Table::new(8, 3, 4);
    assert_eq!(table.of(VmId(1)), None);
    assert_eq!(enter(&mut table, 0, 1), (1, false));
    assert_eq!(enter(&mut table, 0, 2), (2, false));
    for cpu in [3, 1, 0] {
        assert_eq!(enter(&mut table, cpu, 1), (1, false));
    }
    assert_eq!((table.of(VmId(1)), table.of(VmId(2)), table.of(VmId(0))), (Some(1), Some(2), None));
}

#[test]
fn what_others_have_loaded_keeps_its_vmid_over_the_end_of_a_generation() {
    let mut table = Table::new(4, 40, 3);
    for vm in 0..15 {
        assert_eq!(enter(&mut table, vm % 2, vm), (vm + 1, false));
    }
    // CPU 0 has VM 14, CPU 1 VM 13; CPU 2 ends the generation.
    assert_eq!(enter(&mut table, 2, 20), (1, true));
    assert_eq!((table.of(VmId(14)), table.of(VmId(13)), table.of(VmId(0))), (Some(15), Some(14), None));
    assert_eq!(enter(&mut table, 2, 14), (15, false));
    assert_eq!(enter(&mut table, 2, 0), (2, false));
    // Twelve are left of this generation less the two that are held; then the next one begins.
    for vm in 1..12 {
        assert_eq!(enter(&mut table, 2, vm), (vm + 2, false));
    }
    assert_eq!(enter(&mut table, 2, 21), (1, true));
}

#[test]
fn a_forgotten_vmid_stays_burnt_while_a_cpu_has_it_loaded() {
    let mut table = Table::new(4, 4, 2);
    assert_eq!(enter(&mut table, 0, 0), (1, false));
    table.forget(VmId(0));
    assert_eq!(table.of(VmId(0)), None);
    assert!(table.adopt(VmId(0)) && !table.adopt(VmId(4)));
    assert_eq!(enter(&mut table, 1, 0), (2, false));
    // VMs come and go in the place 1 until the generation ends.
    for vmid in 3..16 {
        assert!(table.adopt(VmId(1)));
        assert_eq!(enter(&mut table, 1, 1), (vmid, false));
    }
    table.adopt(VmId(1));
    // Neither 1, which CPU 0 has still loaded, nor 15, which CPU 1 has.
    assert_eq!(enter(&mut table, 1, 1), (2, true));
    // Once CPU 0 has loaded nothing in its place, 1 is free for the next generation.
    table.leave(CpuId(0));
    for vmid in 3..15 {
        table.adopt(VmId(1));
        assert_eq!(enter(&mut table, 1, 1), (vmid, false));
    }
    table.adopt(VmId(1));
    assert_eq!(enter(&mut table, 1, 1), (1, true));
}

#[test]
fn places_that_are_none_do_no_harm() {
    let mut table = Table::new(4, 1, 1);
    assert_eq!(enter(&mut table, 0, 9), (1, false));
    assert_eq!(enter(&mut table, 0, 9), (2, false), "nothing is known of it, so nothing is shared");
    assert_eq!(enter(&mut table, 9, 0), (3, false));
    table.forget(VmId(9));
    table.leave(CpuId(9));
    assert_eq!(table.of(VmId(9)), None);
}

#[test]
#[should_panic(expected = "more CPUs than VMIDs")]
fn as_many_cpus_as_vmids_are_refused() {
    let _ = Table::new(4, 1, 14);
    let _ = Table::new(4, 1, 15);
}

/// The TLBs of all CPUs, and the table, as the run loops use it.
struct Model {
    table: Table,
    bits: u8,
    /// Whose entries the TLBs hold under each VMID, by a name that no other VM ever has.
    tlb: HashMap<u16, u32>,
    /// What each CPU has in VTTBR_EL2: VMID and whose tables.
    cpus: Vec<Option<(u16, u32)>>,
    /// The VM in each place.
    places: Vec<Option<u32>>,
    names: u32,
    flushes: u32,
}

impl Model {
    fn new(bits: u8, vms: usize, cpus: usize) -> Self {
        let table = Table::new(bits, vms, cpus);
        let (tlb, cpus, places) = (HashMap::new(), vec![None; cpus], vec![None; vms]);
        Self { table, bits, tlb, cpus, places, names: 0, flushes: 0 }
    }

    /// A CPU's guest runs: its TLB fills under the VMID that the CPU has loaded.
    fn fill(&mut self) -> Result<(), TestCaseError> {
        for (vmid, name) in self.cpus.iter().flatten() {
            prop_assert_eq!(*self.tlb.entry(*vmid).or_insert(*name), *name, "VMID {} is two VMs'", vmid);
        }
        Ok(())
    }

    fn enter(&mut self, cpu: usize, place: usize) -> Result<(), TestCaseError> {
        let Some(name) = self.places[place] else { return Ok(()) };
        let before = self.table.of(VmId(place as u16));
        let Entered { vmid, flush } = self.table.enter(CpuId(cpu as u16), VmId(place as u16));
        prop_assert!(vmid != 0 && u32::from(vmid) < 1 << self.bits);
        prop_assert!(before.is_none_or(|before| before == vmid && !flush));
        if flush {
            self.flushes += 1;
            self.tlb.clear();
            // CPUs go on with what they have loaded, this one included until it has loaded anew.
            self.fill()?;
        }
        self.cpus[cpu] = Some((vmid, name));
        self.fill()?;
        // One VM has one VMID, wherever it is loaded: a flush by VMID reaches all of it.
        for other in self.cpus.iter().flatten().filter(|other| other.1 == name) {
            prop_assert_eq!(other.0, vmid);
        }
        prop_assert_eq!(self.table.of(VmId(place as u16)), Some(vmid));
        Ok(())
    }

    fn create(&mut self, place: usize) {
        if self.places[place].is_none() {
            assert!(self.table.adopt(VmId(place as u16)));
            self.names += 1;
            self.places[place] = Some(self.names);
        }
    }

    /// The VM goes. Its memory may go only when it is loaded nowhere, but the VMID need not wait for that.
    fn destroy(&mut self, place: usize) {
        self.places[place] = None;
        self.table.forget(VmId(place as u16));
    }

    fn leave(&mut self, cpu: usize) {
        self.cpus[cpu] = None;
        self.table.leave(CpuId(cpu as u16));
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Enter(usize, usize),
    Leave(usize),
    Create(usize),
    Destroy(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (cpu, place) = (|| 0..8_usize, || 0..40_usize);
    let step = prop_oneof![
        12 => (cpu(), place()).prop_map(|(cpu, place)| Step::Enter(cpu, place)),
        1 => cpu().prop_map(Step::Leave),
        4 => place().prop_map(Step::Create),
        2 => place().prop_map(Step::Destroy),
    ];
    prop::collection::vec(step, 1..500)
}

proptest! {
    /// VMs enter and leave CPUs, come and go. The model is the TLBs: which VM each VMID's entries belong to.
    #[test]
    fn no_vm_ever_sees_the_entries_of_another(cpus in 1..=8_usize, steps in steps()) {
        let mut model = Model::new(4, 40, cpus);
        (0..20).for_each(|place| model.create(place));
        for step in steps {
            match step {
                Step::Enter(cpu, place) => model.enter(cpu % cpus, place)?,
                Step::Leave(cpu) => model.leave(cpu % cpus),
                Step::Create(place) => model.create(place),
                Step::Destroy(place) => model.destroy(place),
            }
        }
    }
}

/// A thousand VMs one after the other in a few places, on hardware with 8-bit VMIDs: each enters twice, on
/// each of four CPUs, while a long-lived one stays on another.
#[test]
fn a_thousand_vms_over_time_on_255_vmids() {
    let mut model = Model::new(8, 6, 5);
    model.create(5);
    model.enter(4, 5).unwrap();
    for n in 0..1000 {
        let place = n % 5;
        model.destroy(place);
        model.create(place);
        for cpu in [0, 1, 2, 3, 0, 2] {
            model.enter((cpu + n) % 4, place).unwrap();
            model.enter((cpu + n) % 4, 5).unwrap();
        }
    }
    assert_eq!(model.names, 1001);
    // 1,001 VMIDs from 255 in a generation: three ends, and not more than those.
    assert_eq!(model.flushes, 3);
}

/// The same with all of them alive at once: 1,000 VMs share four CPUs.
#[test]
fn a_thousand_vms_at_a_time_on_255_vmids() {
    let mut model = Model::new(8, 1000, 4);
    (0..1000).for_each(|place| model.create(place));
    for round in 0..3 {
        for place in 0..1000 {
            model.enter((place + round) % 4, place).unwrap();
        }
    }
    assert!((10..=12).contains(&model.flushes), "{}", model.flushes);
}
