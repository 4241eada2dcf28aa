#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

use super::*;
use crate::addr::PAGE_SIZE;
use proptest::prelude::*;

fn range(start: u64, size: u64) -> HostRange {
    HostRange::new(HostPhysAddr::at(start), size).unwrap()
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

#[test]
fn banks_merge_and_reservations_cut() {
    let mut memory = Memory::new();
    memory.add(range(0x8000_0000, GIB));
    memory.add(range(0x4000_0000, GIB));
    assert_eq!(memory.ranges(), [range(0x4000_0000, 2 * GIB)]);
    memory.add(range(0x2000_0000, 0x3000_0000)); // overlaps what is there
    memory.reserve(range(0x4000_0000, 0x8_0000));
    memory.reserve(range(0x1000_0000, 0x1000_0010)); // more than there is
    memory.reserve(range(0x5000_0000, 0));
    assert_eq!(memory.ranges(), [range(0x2000_0010, 0x1fff_fff0), range(0x4008_0000, 2 * GIB - 0x8_0000)]);
    memory.reserve(range(0, u64::MAX));
    assert_eq!((memory.free(), memory.largest(1)), (0, None));
}

#[test]
fn what_was_set_aside_is_there_for_whoever_asks_for_it() {
    let mut memory = Memory::new();
    memory.add(range(GIB, GIB));
    let (first, second) = (range(GIB, 4 * MIB), range(GIB + 8 * MIB, MIB));
    assert!(memory.keep(first) && memory.keep(second));
    assert!(!memory.keep(first) && !memory.keep(range(2 * GIB - MIB, 2 * MIB)), "not free");
    assert_eq!(memory.free(), GIB - 5 * MIB);
    assert_eq!(memory.take_at(first), None, "not for others");
    assert_eq!((memory.take_kept(first), memory.take_kept(first)), (Some(first), None));
    memory.give_kept(first);
    assert_eq!((memory.take_kept(first), memory.take_kept(second)), (Some(first), Some(second)));
}

#[test]
fn small_pieces_leave_large_blocks_whole() {
    let mut memory = Memory::new();
    memory.add(range(GIB, 3 * GIB));
    memory.add(range(8 * GIB - MIB, GIB + MIB + PAGE_SIZE));
    // What belongs to no block goes first: the odd MiB, then the odd page after the block.
    assert_eq!(memory.take(MIB, PAGE_SIZE), Some(range(8 * GIB - MIB, MIB)));
    assert_eq!(memory.take(PAGE_SIZE, PAGE_SIZE), Some(range(9 * GIB, PAGE_SIZE)));
    assert_eq!(memory.take(2 * MIB, 2 * MIB), Some(range(8 * GIB, 2 * MIB))); // no other way: best fit
    assert_eq!(memory.take(GIB, GIB), Some(range(GIB, GIB)));
    // Out of the range that is not whole any more, not out of one that is.
    assert_eq!(memory.take(4 * MIB, 2 * MIB), Some(range(8 * GIB + 2 * MIB, 4 * MIB)));
    assert_eq!(memory.take(2 * GIB, GIB), Some(range(2 * GIB, 2 * GIB)));
}

#[test]
fn low_memory_for_devices_that_reach_no_further() {
    let mut memory = Memory::new();
    memory.add(range(0x3000_0000, 0x3000_0000));
    let limit = HostPhysAddr::at(0x4000_0000);
    assert_eq!(memory.take_below(0x1000_0000, MIB, limit), Some(range(0x3000_0000, 0x1000_0000)));
    assert_eq!(memory.take_below(PAGE_SIZE, PAGE_SIZE, limit), None);
    assert_eq!(memory.free(), 0x2000_0000);
}

#[test]
fn pieces_are_few_aligned_and_all_or_nothing() {
    let mut memory = Memory::new();
    memory.add(range(0x10_0000, 255 * MIB)); // 1 MiB to 256 MiB
    memory.add(range(GIB + MIB, GIB));
    let before = memory.ranges().to_vec();
    assert_eq!(memory.take_pieces(GIB + 256 * MIB, 2 * MIB), None);
    assert_eq!(memory.ranges(), before);
    assert_eq!(memory.take_pieces(3 * MIB, 2 * MIB), None);
    assert_eq!(memory.take_pieces(0, 2 * MIB), None);
    let pieces = memory.take_pieces(GIB + 200 * MIB, 2 * MIB).unwrap();
    assert_eq!(pieces, [range(GIB + 2 * MIB, GIB - 2 * MIB), range(2 * MIB, 202 * MIB)]);
    // From a 1 GiB block on where there is one, and so that the other stays whole.
    let mut memory = Memory::new();
    memory.add(range(GIB - 512 * MIB, 3 * GIB));
    assert_eq!(memory.take_pieces(GIB + 2 * MIB, 2 * MIB), Some(vec![range(2 * GIB, GIB + 2 * MIB)]));
}

#[test]
fn giving_twice_is_an_error() {
    let mut memory = Memory::new();
    memory.add(range(0, 0x10_000));
    let taken = memory.take_at(range(0x4000, 0x4000)).unwrap();
    assert_eq!(memory.take_at(range(0x7000, 0x2000)), None);
    assert_eq!(memory.give(taken), Ok(()));
    assert_eq!(memory.give(taken), Err(AlreadyFree(taken)));
    assert_eq!(memory.ranges(), [range(0, 0x10_000)]);
}

#[test]
fn nonsense_is_refused() {
    let mut memory = Memory::new();
    memory.add(range(0, u64::MAX));
    assert_eq!(memory.take(0, 1), None);
    assert_eq!(memory.take(1, 0), None);
    assert_eq!(memory.take(1, 3), None);
    assert_eq!(memory.take(u64::MAX, 1 << 63), Some(range(0, u64::MAX)));
    assert_eq!(memory.take(1, 1), None);
}

const UNITS: usize = 256;

#[derive(Clone, Debug)]
enum Step {
    Add(usize, usize),
    Reserve(usize, usize),
    Take(usize, u32),
    TakeAt(usize, usize),
    Pieces(usize),
    Give(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let part = || (0..UNITS, 1..48_usize);
    let step = prop_oneof![
        part().prop_map(|(at, n)| Step::Add(at, n)),
        part().prop_map(|(at, n)| Step::Reserve(at, n)),
        (1..20_usize, 0..5_u32).prop_map(|(n, align)| Step::Take(n, align)),
        part().prop_map(|(at, n)| Step::TakeAt(at, n)),
        (1..60_usize).prop_map(Step::Pieces),
        (0..64_usize).prop_map(Step::Give),
        (0..64_usize).prop_map(Step::Give),
    ];
    prop::collection::vec(step, 1..60)
}

proptest! {
    #[test]
    fn behaves_like_a_bitmap(steps in steps()) {
        // A unit is a quarter of a 2 MiB block, so that blocks matter.
        let unit = BLOCK_2M / 4;
        let units = |at: usize, n: usize| range(at as u64 * unit, n.min(UNITS - at) as u64 * unit);
        let bits = |r: HostRange| (r.start().raw() / unit) as usize..(r.end().raw() / unit) as usize;
        let mut memory = Memory::new();
        let mut free = [false; UNITS];
        let mut held = Vec::<HostRange>::new();
        for step in steps {
            match step {
                // Only what nobody holds: a bank is added once.
                Step::Add(at, n) => {
                    let r = units(at, n);
                    if !held.iter().any(|h| h.overlaps(&r)) {
                        memory.add(r);
                        free[bits(r)].fill(true);
                    }
                }
                Step::Reserve(at, n) => {
                    memory.reserve(units(at, n));
                    free[bits(units(at, n))].fill(false);
                }
                Step::Take(n, align) => {
                    let possible = (0..=UNITS - n)
                        .step_by(1 << align)
                        .any(|at| free[at..at + n].iter().all(|b| *b));
                    let got = memory.take(n as u64 * unit, unit << align);
                    prop_assert_eq!(got.is_some(), possible);
                    if let Some(got) = got {
                        prop_assert!(got.size() == n as u64 * unit && got.start().is_aligned(unit << align));
                        prop_assert!(free[bits(got)].iter().all(|b| *b));
                        free[bits(got)].fill(false);
                        held.push(got);
                    }
                }
                Step::TakeAt(at, n) => {
                    let r = units(at, n);
                    let possible = free[bits(r)].iter().all(|b| *b);
                    prop_assert_eq!(memory.take_at(r), possible.then_some(r));
                    if possible {
                        free[bits(r)].fill(false);
                        held.push(r);
                    }
                }
                Step::Pieces(n) => {
                    let possible = free.iter().filter(|b| **b).count() >= n;
                    let got = memory.take_pieces(n as u64 * unit, unit);
                    prop_assert_eq!(got.is_some(), possible);
                    for piece in got.into_iter().flatten() {
                        prop_assert!(free[bits(piece)].iter().all(|b| *b));
                        free[bits(piece)].fill(false);
                        held.push(piece);
                    }
                }
                Step::Give(n) => {
                    if held.is_empty() { continue }
                    let r = held.swap_remove(n % held.len());
                    // What was reserved or added anew meanwhile stays consistent: it is not free.
                    prop_assert_eq!(memory.give(r), Ok(()));
                    free[bits(r)].fill(true);
                }
            }
            let count = free.iter().filter(|b| **b).count() as u64;
            prop_assert_eq!(memory.free(), count * unit);
            for pair in memory.ranges().windows(2) {
                prop_assert!(pair[0].end() < pair[1].start(), "sorted and merged");
            }
            for r in memory.ranges() {
                prop_assert!(!r.is_empty() && free[bits(*r)].iter().all(|b| *b));
            }
        }
    }
}
