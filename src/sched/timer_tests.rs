//! Software timers and the heap below them, against plain lists.

use super::heap::Heap;
use super::*;
use crate::machine::Ticks;
use crate::vcpu::{VcpuId, VmId};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// Three VMs of 2, 1 and 3 vCPUs with 4 devices each.
fn timers() -> Timers {
    Timers::new([2, 1, 3], 4)
}

fn purposes() -> Vec<Purpose> {
    let vcpus = [(0, 2), (1, 1), (2, 3)];
    vcpus
        .into_iter()
        .flat_map(|(vm, vcpus)| {
            let vm = VmId(vm);
            let of_vm = (0..vcpus).map(move |n| Purpose::Vcpu(vm, VcpuId(n)));
            of_vm.chain((0..4).map(move |n| Purpose::Device(vm, n))).chain([Purpose::Watchdog(vm)])
        })
        .collect()
}

#[test]
fn a_purpose_has_one_timer() {
    let mut timers = timers();
    let wake = Purpose::Vcpu(VmId(0), VcpuId(0));
    timers.set(wake, Some(Ticks(50)));
    timers.set(wake, Some(Ticks(30)));
    timers.set(Purpose::Watchdog(VmId(0)), Some(Ticks(40)));
    assert_eq!(timers.next(), Some(Ticks(30)));
    assert_eq!(timers.expired(Ticks(29)), None);
    assert_eq!(timers.expired(Ticks(60)), Some(wake));
    assert_eq!(timers.expired(Ticks(60)), Some(Purpose::Watchdog(VmId(0))));
    assert_eq!(timers.expired(Ticks(60)), None);
    timers.set(wake, Some(Ticks(1)));
    timers.set(wake, None);
    assert_eq!(timers.next(), None);
}

#[test]
fn every_purpose_has_its_own_and_comes_back_as_itself() {
    let mut timers = timers();
    for (n, purpose) in purposes().into_iter().enumerate() {
        timers.set(purpose, Some(Ticks(n as u64)));
    }
    for (n, purpose) in purposes().into_iter().enumerate() {
        assert_eq!(timers.next(), Some(Ticks(n as u64)));
        assert_eq!(timers.expired(Ticks(u64::MAX)), Some(purpose));
    }
    assert_eq!(timers.next(), None);
}

#[test]
fn a_device_that_there_is_not_has_no_timer() {
    let mut timers = timers();
    timers.set(Purpose::Device(VmId(1), 4), Some(Ticks(1)));
    assert_eq!(timers.next(), None);
}

#[test]
fn vms_that_come_later_have_timers_like_all() {
    let mut timers = timers();
    let late = [
        Purpose::Vcpu(VmId(0), VcpuId(2)),
        Purpose::Vcpu(VmId(7), VcpuId(63)),
        Purpose::Device(VmId(9), 3),
        Purpose::Watchdog(VmId(8)),
    ];
    for (n, purpose) in (0u64..).zip(late) {
        timers.set(purpose, None);
        timers.set(purpose, Some(Ticks(90)));
        timers.set(purpose, Some(Ticks(n)));
    }
    assert_eq!(timers.count(), late.len());
    for (n, purpose) in (0u64..).zip(late) {
        assert_eq!(timers.expired(Ticks(n)), Some(purpose));
    }
    assert_eq!((timers.next(), timers.count()), (None, 0));
}

proptest! {
    /// Timers come out in order of time, each once, the latest setting only, whatever is set in between.
    #[test]
    fn timers_fire_in_order(
        ops in prop::collection::vec((any::<prop::sample::Index>(), prop::option::of(0u64..50), 0u64..20), 0..300),
    ) {
        let (mut timers, all) = (timers(), purposes());
        let mut model: BTreeMap<Purpose, u64> = BTreeMap::new();
        let mut now = 0;
        for (purpose, deadline, pause) in ops {
            let purpose = all[purpose.index(all.len())];
            let deadline = deadline.map(|after| now + after);
            timers.set(purpose, deadline.map(Ticks));
            match deadline {
                Some(at) => { model.insert(purpose, at); }
                None => { model.remove(&purpose); }
            }
            prop_assert_eq!(timers.next(), model.values().min().copied().map(Ticks));
            if pause > 10 {
                now += pause;
                let mut last = 0;
                while let Some(due) = timers.expired(Ticks(now)) {
                    let at = model.remove(&due);
                    prop_assert!(at.is_some_and(|at| at <= now && at >= last), "{due:?} of {at:?} at {now}");
                    last = at.unwrap_or(0);
                }
                prop_assert!(model.values().all(|at| *at > now));
            }
        }
    }

    /// Entries come out in order, from the middle too, and always lie where they were said to.
    #[test]
    fn the_heap_tells_where_entries_lie(ops in prop::collection::vec((0u8..4, any::<usize>(), 0u64..30), 0..200)) {
        let mut heap = Heap::new(200);
        let mut places: BTreeMap<usize, usize> = BTreeMap::new();
        let mut left: BTreeMap<usize, u64> = BTreeMap::new();
        for (n, (op, pick, key)) in ops.into_iter().enumerate() {
            let id = left.keys().copied().nth(pick % left.len().max(1));
            match (op, id) {
                (0 | 1, _) | (_, None) => {
                    heap.push(key, n, |id, at| { places.insert(*id, at); });
                    left.insert(n, key);
                }
                (2, Some(id)) => {
                    let at = places[&id];
                    let taken = heap.remove(at, |id, at| { places.insert(*id, at); });
                    prop_assert_eq!(taken, Some((left[&id], id)));
                    left.remove(&id);
                    places.remove(&id);
                }
                (_, Some(id)) => {
                    let at = places[&id];
                    heap.change(at, key, |id, at| { places.insert(*id, at); });
                    left.insert(id, key);
                }
            }
            prop_assert_eq!(heap.first(), left.values().min().copied());
            prop_assert_eq!(places.values().collect::<BTreeSet<_>>().len(), left.len());
            for (id, key) in &left {
                prop_assert_eq!(heap.key(places[id]), Some(*key));
            }
        }
    }
}
