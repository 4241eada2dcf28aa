//! Which CPUs each vCPU may run on: dedicated ones get one each, all others share what is left.
//!
//! Dedicated vCPUs are matched with CPUs as guests with chairs: whoever finds none free among those of its affinity
//! asks who sits there to move (augmenting paths). So they are refused only if there is no way at all to seat them,
//! and the same configuration always gives the same places.

use super::VmConfig;
use super::cpus::{CpuList, MAX_CPUS, first};
use crate::map::MAX_VCPUS;
use crate::problem;
use crate::problem::Problem;
use alloc::vec;
use alloc::vec::Vec;

/// The CPUs, a bit each, that every vCPU of every VM may run on, on a machine with so many CPUs.
///
/// A dedicated vCPU has one, and nobody else has that one: the first that is free in its affinity, but CPU 0, which
/// serves the console, and CPUs that other VMs ask for come last.
///
/// # Errors
/// E0333 and E0335 for an affinity that does not fit machine or VM, E0339 for a dedicated vCPU that finds no CPU,
/// E0340 for another that is left none.
pub fn place(vms: &[VmConfig<'_>], cpus: u16) -> Result<Vec<Vec<u64>>, Problem> {
    for vm in vms {
        affinity(vm, cpus)?;
    }
    let seats = Seats::of(vms, cpus)?;
    let free = first(cpus) & !seats.taken();
    let mut places: Vec<Vec<u64>> = vms
        .iter()
        .map(|vm| match vm.dedicated {
            true => vec![0; usize::from(vcpus(vm))],
            false => (0..vcpus(vm)).map(|vcpu| wanted(vm, vcpu) & free).collect(),
        })
        .collect();
    for (cpu, seat) in seats.held() {
        let place = places.get_mut(seat.vm).and_then(|vm| vm.get_mut(usize::from(seat.vcpu)));
        place.into_iter().for_each(|place| *place = bit(cpu));
    }
    Ok(places)
}

/// Checks a VM's affinity by itself: E0333 and E0335.
pub(super) fn affinity(vm: &VmConfig<'_>, cpus: u16) -> Result<(), Problem> {
    let count = vm.affinity.len();
    if count != 0 && count != usize::from(vm.vcpus) {
        return Err(
            problem!("E0335", ("{} affinity", vm.place); ("lists for {count} of {} vCPUs", vm.vcpus);
            ("Give one list for all of them, or one for each")),
        );
    }
    let all = first(cpus);
    match (0..).zip(&vm.affinity).find(|(_, mask)| **mask & !all != 0) {
        Some((vcpu, mask)) => {
            let vcpu: u16 = vcpu;
            Err(problem!("E0333", ("{} affinity", vm.place);
                ("vCPU {vcpu} is to run on {}, and the machine has no CPU {}", CpuList(*mask), CpuList(mask & !all));
                ("Use CPUs of {}", CpuList(all))))
        }
        None => Ok(()),
    }
}

/// Checks that every vCPU has a CPU, dedicated ones to themselves: E0339 and E0340. Their affinities are right.
pub(super) fn check(vms: &[VmConfig<'_>], cpus: u16) -> Result<(), Problem> {
    Seats::of(vms, cpus).map(|_| ())
}

/// vCPUs of a VM, as many as there can be.
fn vcpus(vm: &VmConfig<'_>) -> u16 {
    vm.vcpus.min(MAX_VCPUS)
}

/// The CPUs that a vCPU may have as far as its VM goes.
fn wanted(vm: &VmConfig<'_>, vcpu: u16) -> u64 {
    // Nobody said a word of those without a bit.
    vm.affinity.get(usize::from(vcpu)).copied().filter(|mask| *mask != 0).unwrap_or(u64::MAX)
}

fn bit(cpu: u16) -> u64 {
    1u64.checked_shl(cpu.into()).unwrap_or_default()
}

/// CPUs of a mask, lowest first.
fn each(mask: u64) -> impl Iterator<Item = u16> {
    (0..MAX_CPUS).filter(move |cpu| mask & bit(*cpu) != 0)
}

/// All vCPUs of VMs that are dedicated, or that are not.
fn all(vms: &[VmConfig<'_>], dedicated: bool) -> impl Iterator<Item = Seat> {
    let some = vms.iter().enumerate().filter(move |(_, vm)| vm.dedicated == dedicated);
    some.flat_map(|(n, vm)| (0..vcpus(vm)).map(move |vcpu| Seat { vm: n, vcpu, wanted: wanted(vm, vcpu) }))
}

/// A vCPU and the CPUs that it may have.
#[derive(Clone, Copy)]
struct Seat {
    vm: usize,
    vcpu: u16,
    wanted: u64,
}

/// CPUs with the dedicated vCPU that each is for.
struct Seats([Option<Seat>; MAX_CPUS as usize]);

impl Seats {
    fn of(vms: &[VmConfig<'_>], cpus: u16) -> Result<Self, Problem> {
        let mut seats = Self([None; MAX_CPUS as usize]);
        let machine = first(cpus);
        // What others ask for: a CPU that is the only one for somebody cannot be given away.
        let (mut asked, mut only) = (0, 0);
        for mask in all(vms, false).map(|other| other.wanted & machine).filter(|mask| *mask != machine) {
            asked |= mask;
            only |= if mask.is_power_of_two() { mask } else { 0 };
        }
        let may = machine & !only;
        for seat in all(vms, true) {
            let seated = [may & !asked & !1, may & !1, may].into_iter().any(|some| seats.seat(seat, some));
            if !seated {
                return Err(seats.no_seat(vms, seat, machine));
            }
        }
        let taken = seats.taken();
        match all(vms, false).find(|other| other.wanted & machine & !taken == 0) {
            Some(other) => Err(seats.nothing_left(vms, other, machine)),
            None => Ok(seats),
        }
    }

    fn held(&self) -> impl Iterator<Item = (u16, Seat)> {
        (0..).zip(&self.0).filter_map(|(cpu, seat)| Some((cpu, (*seat)?)))
    }

    fn taken(&self) -> u64 {
        self.held().fold(0, |sum, (cpu, _)| sum | bit(cpu))
    }

    /// Seats one more on a CPU of `may`; others may have to move there.
    fn seat(&mut self, seat: Seat, may: u64) -> bool {
        // Who asks for which CPU, in the order of asking: the newcomer, then whoever sits where it would.
        let mut asking = vec![(seat, MAX_CPUS)];
        let mut asked_by = [0usize; MAX_CPUS as usize];
        let mut asked = 0;
        let mut next = 0usize;
        while let Some((who, _)) = asking.get(next).copied() {
            for cpu in each(who.wanted & may & !asked) {
                asked |= bit(cpu);
                if let Some(by) = asked_by.get_mut(usize::from(cpu)) {
                    *by = next;
                }
                match self.0.get(usize::from(cpu)).copied().flatten() {
                    Some(holder) => asking.push((holder, cpu)),
                    None => {
                        self.shift(&asking, &asked_by, cpu);
                        return true;
                    }
                }
            }
            next = next.saturating_add(1);
        }
        false
    }

    /// Has everybody on the way to `free` move on by one.
    fn shift(&mut self, asking: &[(Seat, u16)], asked_by: &[usize], mut free: u16) {
        // The newcomer has no CPU yet, and ends it.
        while let Some(place) = self.0.get_mut(usize::from(free))
            && let Some((who, old)) = asked_by.get(usize::from(free)).and_then(|by| asking.get(*by))
        {
            *place = Some(*who);
            free = *old;
        }
    }

    fn no_seat(&self, vms: &[VmConfig<'_>], seat: Seat, machine: u64) -> Problem {
        let (mask, count) = (seat.wanted & machine, all(vms, true).count());
        // Whoever is in its way on the first of them: one that sits there, or else one that has no other.
        let cpu = mask.trailing_zeros() as u16;
        let holder = self.held().find(|(at, _)| *at == cpu).map(|(_, seat)| seat);
        let owner = holder.or_else(|| all(vms, false).find(|other| other.wanted & machine == bit(cpu)));
        let (owner, other) = match owner {
            Some(owner) => (name(vms, owner), owner.vcpu),
            None => ("", 0),
        };
        problem!("E0339", ("{} dedicated", place_of(vms, seat));
            ("vCPU {} finds no CPU for itself among CPUs {}: CPU {cpu} is for vCPU {other} of {owner}", seat.vcpu, CpuList(mask));
            ("Give it others of CPUs {}, or dedicate fewer vCPUs than {count}", CpuList(machine)))
    }

    fn nothing_left(&self, vms: &[VmConfig<'_>], other: Seat, machine: u64) -> Problem {
        let mask = other.wanted & machine;
        let owner =
            self.held().find(|(cpu, _)| mask & bit(*cpu) != 0).map_or("", |(_, seat)| name(vms, seat));
        problem!("E0340", ("{} affinity", place_of(vms, other));
            ("no CPU is left for vCPU {}: CPUs {} are all for dedicated vCPUs, such as {owner}'s", other.vcpu, CpuList(mask));
            ("Dedicate fewer of CPUs {}, or widen its affinity: it needs one that nobody has to itself", CpuList(machine)))
    }
}

fn name<'v>(vms: &'v [VmConfig<'_>], seat: Seat) -> &'v str {
    vms.get(seat.vm).map_or("", |vm| &vm.name)
}

fn place_of<'v>(vms: &'v [VmConfig<'_>], seat: Seat) -> &'v str {
    vms.get(seat.vm).map_or("", |vm| &vm.place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::{String, ToString};
    use std::vec::Vec;

    fn vm(name: &str, vcpus: u16, dedicated: bool, affinity: &[u64]) -> VmConfig<'static> {
        VmConfig { vcpus, dedicated, affinity: affinity.to_vec(), ..VmConfig::named(name) }
    }

    fn said(vms: &[VmConfig<'_>], cpus: u16) -> String {
        place(vms, cpus).unwrap_err().to_string()
    }

    #[test]
    fn everybody_has_all_cpus_where_nobody_says_otherwise() {
        assert_eq!(place(&[], 4), Ok(vec![]));
        assert_eq!(
            place(&[vm("a", 2, false, &[]), vm("b", 1, false, &[0b10])], 4),
            Ok(vec![vec![15, 15], vec![2]])
        );
        assert_eq!(place(&[vm("a", 2, false, &[0, 4])], 3), Ok(vec![vec![7, 4]]));
        assert_eq!(place(&[vm("a", 1, false, &[])], 64), Ok(vec![vec![u64::MAX]]));
    }

    #[test]
    fn dedicated_vcpus_have_one_each_and_nobody_else_has_it() {
        let [a, b] = [vm("a", 2, true, &[]), vm("b", 2, false, &[])];
        assert_eq!(place(&[b.clone(), a.clone()], 4), Ok(vec![vec![0b1001; 2], vec![2, 4]]));
        // Alone it may have all.
        assert_eq!(place(&[a], 2), Ok(vec![vec![2, 1]]));
        // What others ask for comes last, and CPU 0 after that.
        let picky = vm("c", 1, false, &[0b0110]);
        assert_eq!(place(&[vm("a", 1, true, &[]), picky.clone()], 4), Ok(vec![vec![8], vec![6]]));
        assert_eq!(place(&[vm("a", 1, true, &[0b0011]), picky.clone()], 4), Ok(vec![vec![2], vec![4]]));
        assert_eq!(place(&[vm("a", 1, true, &[1]), picky], 4), Ok(vec![vec![1], vec![6]]));
        // The only CPU of somebody is not given away.
        let tied = vm("c", 1, false, &[2]);
        assert_eq!(place(&[vm("a", 1, true, &[0b11]), tied], 2), Ok(vec![vec![1], vec![2]]));
    }

    #[test]
    fn who_sits_in_the_way_moves() {
        let chain = [
            vm("a", 1, true, &[0b0110]),
            vm("b", 1, true, &[0b1100]),
            vm("c", 1, true, &[0b0010]),
            vm("d", 1, true, &[0b0100]),
        ];
        assert_eq!(place(&chain, 4).unwrap_err().code, "E0339");
        assert_eq!(place(&chain[..3], 4), Ok(vec![vec![4], vec![8], vec![2]]));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_is_there() {
        assert_eq!(
            said(&[vm("a", 1, true, &[2]), vm("b", 1, true, &[2])], 4),
            "E0339 vm.b dedicated: vCPU 0 finds no CPU for itself among CPUs 1: CPU 1 is for vCPU 0 of a. \
             Give it others of CPUs 0-3, or dedicate fewer vCPUs than 2."
        );
        assert_eq!(
            said(&[vm("a", 3, true, &[]), vm("b", 2, false, &[])], 3),
            "E0340 vm.b affinity: no CPU is left for vCPU 0: CPUs 0-2 are all for dedicated vCPUs, such as a's. \
             Dedicate fewer of CPUs 0-2, or widen its affinity: it needs one that nobody has to itself."
        );
        assert_eq!(
            said(&[vm("a", 1, true, &[4]), vm("b", 1, false, &[4])], 4),
            "E0339 vm.a dedicated: vCPU 0 finds no CPU for itself among CPUs 2: CPU 2 is for vCPU 0 of b. \
             Give it others of CPUs 0-3, or dedicate fewer vCPUs than 1."
        );
        assert_eq!(place(&[vm("a", 5, true, &[])], 4).unwrap_err().code, "E0339");
        assert_eq!(
            said(&[vm("a", 2, false, &[1, 0b11_0010])], 4),
            "E0333 vm.a affinity: vCPU 1 is to run on 1,4-5, and the machine has no CPU 4-5. Use CPUs of 0-3."
        );
        assert_eq!(
            said(&[vm("a", 2, false, &[1])], 4),
            "E0335 vm.a affinity: lists for 1 of 2 vCPUs. Give one list for all of them, or one for each."
        );
    }

    fn some_vms() -> impl Strategy<Value = (u16, Vec<VmConfig<'static>>)> {
        (1u16..=9).prop_flat_map(|cpus| {
            let all = first(cpus);
            let mask = prop_oneof![Just(0), (1..=all), (0..cpus).prop_map(bit)];
            let one = (any::<bool>(), proptest::collection::vec(mask, 1..4), any::<bool>()).prop_map(
                |(dedicated, masks, any)| {
                    vm("x", masks.len() as u16, dedicated, if any { &[] } else { &masks })
                },
            );
            (Just(cpus), proptest::collection::vec(one, 0..5))
        })
    }

    /// Whether there is any way at all to seat dedicated vCPUs, by trying all.
    fn can_seat(seats: &[u64], taken: u64) -> bool {
        let Some((wanted, rest)) = seats.split_first() else { return true };
        each(wanted & !taken).any(|cpu| can_seat(rest, taken | bit(cpu)))
    }

    proptest! {
        #[test]
        fn nobody_is_left_out_and_nothing_overlaps((cpus, vms) in some_vms()) {
            let machine = first(cpus);
            let places = match place(&vms, cpus) {
                Ok(places) => places,
                Err(problem) => {
                    // Refused without other VMs means that there is no way at all.
                    if vms.iter().all(|vm| vm.dedicated) {
                        let seats: Vec<u64> = all(&vms, true).map(|seat| seat.wanted & machine).collect();
                        prop_assert!(!can_seat(&seats, 0), "{}", problem);
                    }
                    prop_assert!(vms.iter().any(|vm| vm.dedicated), "{}", problem);
                    return Ok(());
                }
            };
            let mut dedicated = 0u64;
            for (vm, places) in vms.iter().zip(&places) {
                prop_assert_eq!(places.len(), usize::from(vm.vcpus));
                for (vcpu, place) in (0..).zip(places) {
                    prop_assert_ne!(*place, 0);
                    prop_assert_eq!(place & !(wanted(vm, vcpu) & machine), 0, "within its affinity");
                    if vm.dedicated {
                        prop_assert_eq!(place.count_ones(), 1);
                        prop_assert_eq!(dedicated & place, 0, "one CPU for two");
                        dedicated |= place;
                    }
                }
            }
            for (vm, places) in vms.iter().zip(&places).filter(|(vm, _)| !vm.dedicated) {
                for (vcpu, place) in (0..).zip(places) {
                    prop_assert_eq!(*place, wanted(vm, vcpu) & machine & !dedicated, "all of the rest");
                }
            }
            prop_assert_eq!(place(&vms, cpus).unwrap(), places);
        }
    }
}
