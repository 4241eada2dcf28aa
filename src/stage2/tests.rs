#![allow(clippy::arithmetic_side_effects, reason = "a test may panic")]

use super::fake::{HeapPages, HostMemory, walk};
use super::*;
use crate::addr::{BLOCK_1G, BLOCK_2M, PAGE_SIZE};
use crate::memory::Memory;
use proptest::prelude::*;
use std::cell::RefCell;
use std::collections::BTreeMap;

const G40: Geometry = Geometry { ipa_bits: 40, pa_bits: 40, vmid16: false };

fn gpa(raw: u64) -> GuestPhysAddr {
    GuestPhysAddr::at(raw)
}
fn guest(start: u64, size: u64) -> GuestRange {
    GuestRange::new(gpa(start), size).unwrap()
}
fn host(start: u64, size: u64) -> HostRange {
    HostRange::new(HostPhysAddr::at(start), size).unwrap()
}

/// Arm ARM, Stage 2 with the 4 KiB granule: the sizes that SL0 allows for each start level, with up to 16
/// tables in a row.
#[test]
fn geometry_is_the_manuals() {
    let rows = [(32, 2, 4), (36, 1, 1), (40, 1, 2), (42, 1, 8), (44, 0, 1), (48, 0, 1)];
    for (ipa_bits, level, tables) in rows {
        let geometry = Geometry { ipa_bits, pa_bits: 48, vmid16: true };
        assert_eq!(geometry.start(), Some((level, tables)), "{ipa_bits} bits");
        // The same by arithmetic: bits that the start level resolves, 9 of them by one table.
        let resolved = u32::from(ipa_bits) - (39 - 9 * u32::from(level));
        assert_eq!(tables, 1 << resolved.saturating_sub(9));
        // One level lower would take more than 16 tables.
        assert!(resolved + 9 > 9 + 4);
    }
}

#[test]
fn geometry_refuses_what_it_does_not_have() {
    for (ipa_bits, pa_bits) in [(48, 44), (44, 40), (40, 36), (39, 40), (0, 40), (64, 48), (40, 52), (40, 41)]
    {
        let geometry = Geometry { ipa_bits, pa_bits, vmid16: true };
        assert_eq!((geometry.start(), geometry.vtcr()), (None, None), "{geometry:?}");
        assert!(Stage2::new(geometry, &mut HeapPages::new()).is_none());
    }
}

#[test]
fn vtcr_bits() {
    // RES1 | VS | PS | TG0 = 4K | SH0 = inner | ORGN0, IRGN0 = WB | SL0 | T0SZ
    let rows = [
        (32, 32, false, 0x8000_3520),
        (36, 36, false, 0x8001_355c),
        (40, 40, false, 0x8002_3558),
        (42, 42, false, 0x8003_3556),
        (44, 44, false, 0x8004_3594),
        (48, 48, true, 0x800d_3590),
        (40, 48, true, 0x800d_3558),
    ];
    for (ipa_bits, pa_bits, vmid16, vtcr) in rows {
        let geometry = Geometry { ipa_bits, pa_bits, vmid16 };
        assert_eq!(geometry.vtcr(), Some(vtcr), "{geometry:?}");
    }
}

#[test]
fn roots_are_aligned_and_vttbr_joins_the_vmid() {
    for ipa_bits in [32, 36, 40, 42, 44, 48] {
        let mut pages = HeapPages::new();
        let geometry = Geometry { ipa_bits, pa_bits: 48, vmid16: true };
        let stage2 = Stage2::new(geometry, &mut pages).unwrap();
        let (_, tables) = geometry.start().unwrap();
        assert_eq!((stage2.pages(), pages.out()), (tables, tables));
        let (root, joined) = (stage2.root(), vttbr(stage2.root(), 0xabcd));
        assert_eq!((joined >> 48, joined << 16 >> 16), (0xabcd, root));
        assert_eq!(root & (tables as u64 * PAGE_SIZE - 1 | 0xffff << 48), 0);
        stage2.destroy(&mut pages, &mut |_| {});
        assert_eq!(pages.out(), 0);
    }
}

#[test]
fn whoever_knows_the_vmid_flushes_one_vm_alone() {
    let root = 0x8_0000_2000;
    assert_eq!(Flush::All.of(root, Some(0xfe)), Flush::Vm { vttbr: 0x00fe_0008_0000_2000 });
    assert_eq!(Flush::All.of(root, None), Flush::All);
    assert_eq!(Flush::Nothing.of(root, Some(1)), Flush::Nothing);
    let geometry = |vmid16| Geometry { ipa_bits: 40, pa_bits: 40, vmid16 };
    assert_eq!([false, true].map(|wide| geometry(wide).vmid_bits()), [8, 16]);
}

#[test]
fn descriptors_are_what_the_manual_says() {
    let mut pages = HeapPages::new();
    let mut s = Stage2::new(G40, &mut pages).unwrap();
    let ram = 0x7fc; // AF, SH inner, S2AP read and write, MemAttr 0b1111, valid or'ed below
    let read_only = 0x77c | 1 << 54;
    let rows = [
        (0x4000_0000, BLOCK_1G, Rights::Ram, 1, ram | 1),
        (0x8000_0000, BLOCK_2M, Rights::Ram, 2, ram | 1),
        (0x8020_0000, PAGE_SIZE, Rights::Ram, 3, ram | 3),
        (0x8020_1000, PAGE_SIZE, Rights::ReadOnly, 3, read_only | 3),
        (0x8040_0000, BLOCK_2M, Rights::ReadOnly, 2, read_only | 1),
        (0x8060_0000, BLOCK_2M, Rights::Rom, 2, 0x77c | 1),
    ];
    for (at, size, rights, level, attributes) in rows {
        assert_eq!(s.map(gpa(at), host(at, size), rights, &mut pages), Ok(Flush::Nothing));
        let leaf = walk(s.root(), s.vtcr(), at + size - 8).unwrap();
        assert_eq!((leaf.level, leaf.to, leaf.attributes), (level, at + size - 8, attributes), "{at:#x}");
        assert_eq!(s.translate(gpa(at + 5)), Some((HostPhysAddr::at(at + 5), rights)));
    }
    // 2 root, one level 2, one level 3.
    assert_eq!((s.pages(), pages.out()), (4, 4));
    s.destroy(&mut pages, &mut |_| {});
    assert_eq!(pages.out(), 0);
}

#[test]
fn addresses_above_the_ipa_size_are_refused_not_aliased() {
    let mut pages = HeapPages::new();
    for ipa_bits in [32, 36, 40, 42, 44, 48] {
        let mut s = Stage2::new(Geometry { ipa_bits, pa_bits: 48, vmid16: false }, &mut pages).unwrap();
        let end = 1_u64 << ipa_bits;
        let mut map = |at, size| s.map(gpa(at), host(0x4000_0000, size), Rights::Ram, &mut pages);
        assert_eq!(map(end, PAGE_SIZE), Err(MapError::BadRange));
        assert_eq!(map(end - PAGE_SIZE, 2 * PAGE_SIZE), Err(MapError::BadRange));
        assert_eq!(map(u64::MAX << 12, PAGE_SIZE), Err(MapError::BadRange));
        assert_eq!(map(0, PAGE_SIZE), Ok(Flush::Nothing));
        assert_eq!(map(end - PAGE_SIZE, PAGE_SIZE), Ok(Flush::Nothing));
        let to = Some((HostPhysAddr::at(0x4000_0abc), Rights::Ram));
        assert_eq!(s.translate(gpa(0xabc)), to);
        assert_eq!(s.translate(gpa(end - PAGE_SIZE + 0xabc)), to);
        assert_eq!(s.translate(gpa(end + 0xabc)), None);
        assert_eq!(s.translate(gpa(1 << 63 | 0xabc)), None);
        s.destroy(&mut pages, &mut |_| {});
    }
    assert_eq!(pages.out(), 0);
}

#[test]
fn bad_ranges() {
    let mut pages = HeapPages::new();
    let mut s = Stage2::new(G40, &mut pages).unwrap();
    for (ipa, to) in [
        (0x800, host(0x1000, PAGE_SIZE)),
        (0x1000, host(0x800, PAGE_SIZE)),
        (0x1000, host(0x1000, 0x800)),
        (0x1000, host(0x1000, 0)),
        (0x1000, host((1 << 40) - PAGE_SIZE, 2 * PAGE_SIZE)),
    ] {
        assert_eq!(s.map(gpa(ipa), to, Rights::Ram, &mut pages), Err(MapError::BadRange));
    }
    for range in [guest(0x1000, 0), guest(0x1001, 0x1000), guest((1 << 40) - 0x1000, 0x2000)] {
        assert_eq!(s.unmap(range, &mut pages, &mut |_| panic!()), Err(MapError::BadRange));
    }
    assert_eq!(s.pages(), 2);
    s.destroy(&mut pages, &mut |_| {});
}

#[test]
fn shortage_changes_nothing() {
    // A page each of two 1 GiB entries and an odd middle: 2 level 2 tables, 2 level 3 tables.
    let mut pages = HeapPages::new();
    let mut s = Stage2::new(G40, &mut pages).unwrap();
    let (at, size) = (2 * BLOCK_1G - PAGE_SIZE, BLOCK_2M + 2 * PAGE_SIZE);
    for limit in 2..6 {
        pages.limit = limit;
        let got = s.map(gpa(at), host(at, size), Rights::Ram, &mut pages);
        assert_eq!(got, Err(MapError::NoMemory));
        assert_eq!((s.pages(), pages.out()), (2, 2));
        assert_eq!(walk(s.root(), s.vtcr(), at), None);
    }
    pages.limit = 6;
    let _ = s.map(gpa(at), host(at, size), Rights::Ram, &mut pages).unwrap();
    assert_eq!((s.pages(), pages.out()), (6, 6));
    // Splitting the 2 MiB block takes a page that is not there.
    let middle = guest(at + PAGE_SIZE + 4 * PAGE_SIZE, PAGE_SIZE);
    assert_eq!(s.unmap(middle, &mut pages, &mut |_| {}), Err(MapError::NoMemory));
    for offset in (0..size).step_by(PAGE_SIZE as usize) {
        assert_eq!(s.translate(gpa(at + offset)).unwrap().0.raw(), at + offset);
    }
    s.destroy(&mut pages, &mut |_| {});
}

/// A block of 1 GiB loses one page. At each flush the tables are what the order of break, flush, make says.
#[test]
fn split_breaks_flushes_and_makes() {
    let mut pages = HeapPages::new();
    let mut s = Stage2::new(G40, &mut pages).unwrap();
    let base = 0x4000_0000;
    let _ = s.map(gpa(base), host(base, BLOCK_1G), Rights::Ram, &mut pages).unwrap();
    let (root, vtcr) = (s.root(), s.vtcr());
    let hole = base + BLOCK_2M + 5 * PAGE_SIZE;
    // At the hole, beside it in the same 2 MiB, and far away: the level that maps each, 9 for none.
    let look = || [hole, hole - 1, base].map(|at| walk(root, vtcr, at).map_or(9, |leaf| leaf.level));
    let mut seen = Vec::new();
    s.unmap(guest(hole, PAGE_SIZE), &mut pages, &mut |flush| seen.push((flush, look()))).unwrap();
    let all = Flush::All;
    let expected = [
        (all, [9, 9, 9]), // the 1 GiB block is broken
        (Flush::Nothing, [2, 2, 2]),
        (all, [9, 9, 2]), // the 2 MiB block is
        (Flush::Nothing, [3, 3, 2]),
        (all, [9, 3, 2]), // the page is gone
    ];
    assert_eq!(seen, expected);
    assert_eq!(s.pages(), 4);
    // The rest goes: tables become empty and go back.
    s.unmap(guest(base, BLOCK_1G), &mut pages, &mut |_| {}).unwrap();
    assert_eq!((s.pages(), pages.out()), (2, 2));
    s.destroy(&mut pages, &mut |_| {});
}

/// Wraps [`HeapPages`] to write down when pages go back.
struct Watched<'a>(HeapPages, &'a RefCell<Vec<&'static str>>);

#[allow(unsafe_code, reason = "as the trait asks")]
// SAFETY: passes on what HeapPages promises.
unsafe impl TablePages for Watched<'_> {
    fn take(&mut self, count: usize) -> Option<HostPhysAddr> {
        self.0.take(count)
    }
    fn give(&mut self, pages: HostPhysAddr, count: usize) {
        self.1.borrow_mut().push("give");
        self.0.give(pages, count);
    }
}

#[test]
fn pages_go_back_after_the_flush() {
    let log = RefCell::new(Vec::new());
    let mut pages = Watched(HeapPages::new(), &log);
    let flush = &mut |_| log.borrow_mut().push("flush");
    let mut s = Stage2::new(G40, &mut pages).unwrap();
    let _ = s.map(gpa(0), host(0, PAGE_SIZE), Rights::Ram, &mut pages).unwrap();
    // Nothing there: nothing to flush.
    s.unmap(guest(PAGE_SIZE, PAGE_SIZE), &mut pages, flush).unwrap();
    assert!(log.borrow().is_empty());
    s.unmap(guest(0, BLOCK_1G), &mut pages, flush).unwrap();
    assert_eq!(log.take(), ["flush", "give", "give"]);
    s.destroy(&mut pages, flush);
    assert_eq!(log.take(), ["flush", "give"]);
}

#[test]
fn teardown_goes_in_steps() {
    let mut pages = HeapPages::new();
    let geometry = Geometry { ipa_bits: 44, pa_bits: 48, vmid16: false };
    let mut s = Stage2::new(geometry, &mut pages).unwrap();
    // One page in each of 40 GiB of two level 0 entries: 2 level 1 tables, 80 of level 2, 80 of level 3.
    for n in (0..40).chain(512..552) {
        let at = n * BLOCK_1G + 3 * PAGE_SIZE;
        let _ = s.map(gpa(at), host(at, PAGE_SIZE), Rights::Ram, &mut pages).unwrap();
    }
    assert_eq!(pages.out(), 1 + 2 + 80 + 80);
    let mut teardown = s.retire(&mut |_| {});
    let mut steps = 1;
    let mut before = pages.out();
    while !teardown.step(0, &mut pages) {
        assert!(pages.out() < before && before - pages.out() <= 8, "bounded, and goes on");
        before = pages.out();
        assert_eq!(teardown.pages(), before);
        steps += 1;
    }
    assert!(steps > 20);
    assert_eq!((pages.out(), teardown.pages()), (0, 0));
    assert!(teardown.step(0, &mut pages));
}

#[test]
fn pool_lends_zeroed_pages_and_returns_chunks() {
    let ram = HostMemory::new(1 << 20, 1 << 16);
    ram.fill(0xaa);
    let mut memory = Memory::new();
    memory.add(ram.range());
    #[allow(unsafe_code, reason = "the pool's promise")]
    // SAFETY: the only memory that it ever sees is `ram`.
    let mut pool = unsafe { PagePool::new() };
    let one = pool.with(&mut memory).take(1).unwrap();
    let eight = pool.with(&mut memory).take(8).unwrap();
    let sixteen = pool.with(&mut memory).take(16).unwrap();
    assert_eq!((pool.in_use(), pool.held()), (25, 32));
    for (at, count) in [(one, 1), (eight, 8), (sixteen, 16)] {
        assert!(at.is_aligned(count as u64 * PAGE_SIZE));
        let offset = (at.raw() - ram.range().start().raw()) as usize;
        assert!(ram.bytes(offset, count * 4096).iter().all(|b| *b == 0));
    }
    assert_eq!(pool.with(&mut memory).take(17), None);
    assert_eq!(pool.with(&mut memory).take(0), None);
    for (at, count) in [(one, 1), (sixteen, 16), (eight, 8)] {
        pool.with(&mut memory).give(at, count);
    }
    assert_eq!((pool.in_use(), pool.held(), memory.free()), (0, 0, 1 << 20));
    // All of it, and then none.
    let mut all: Vec<_> = (0..256).map(|_| pool.with(&mut memory).take(1).unwrap()).collect();
    assert_eq!(pool.with(&mut memory).take(1), None);
    all.sort();
    all.dedup();
    assert_eq!((all.len(), pool.in_use()), (256, 256));
}

/// What is mapped: start to (end, host start, rights).
type Model = BTreeMap<u64, (u64, u64, Rights)>;

fn model_unmap(model: &mut Model, range: GuestRange) {
    let (start, end) = (range.start().raw(), range.end().raw());
    let hit: Vec<_> = model.iter().filter(|(s, m)| **s < end && m.0 > start).map(|(s, m)| (*s, *m)).collect();
    for (s, (e, to, rights)) in hit {
        model.remove(&s);
        if s < start {
            model.insert(s, (start, to, rights));
        }
        if e > end {
            model.insert(end, (e, to + (end - s), rights));
        }
    }
}

fn rights() -> impl Strategy<Value = Rights> {
    prop::sample::select(vec![Rights::Ram, Rights::ReadOnly, Rights::Rom])
}

/// Ranges that meet the edges of blocks often.
fn places() -> impl Strategy<Value = (u64, u64)> {
    let unit = prop_oneof![Just(PAGE_SIZE), Just(BLOCK_2M), Just(BLOCK_1G)];
    let small = prop_oneof![Just(0_i64), -2..3_i64];
    (unit.clone(), 0_u64..4, small.clone(), unit, 1_u64..4, small).prop_map(|(a, n, da, b, m, db)| {
        let page = PAGE_SIZE as i64;
        let start = (a * n) as i64 + da * page;
        let size = (b * m) as i64 + db * page;
        (start.max(0) as u64, size.max(page) as u64)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn behaves_like_a_map_of_ranges(
        ipa_bits in prop::sample::select(vec![32_u8, 36, 40]),
        steps in prop::collection::vec((any::<bool>(), places(), places(), rights()), 1..24),
    ) {
        let mut pages = HeapPages::new();
        let mut s = Stage2::new(Geometry { ipa_bits, pa_bits: 40, vmid16: false }, &mut pages).unwrap();
        let mut model = Model::new();
        let limit = 1_u64 << ipa_bits;
        for (add, (start, size), (to, _), rights) in steps {
            let range = guest(start, size);
            // Gigabytes page by page would take the test too long.
            let to = if size < BLOCK_1G / 2 { to } else { to & !(BLOCK_2M - 1) | start & (BLOCK_2M - 1) };
            if add {
                let free = !model.iter().any(|(s, m)| *s < start + size && m.0 > start);
                let expected = match (start + size <= limit, free) {
                    (false, _) => Err(MapError::BadRange),
                    (true, false) => Err(MapError::Occupied),
                    (true, true) => Ok(Flush::Nothing),
                };
                prop_assert_eq!(s.map(gpa(start), host(to, size), rights, &mut pages), expected);
                if expected.is_ok() {
                    model.insert(start, (start + size, to, rights));
                    if free { check_blocks(&s, start, size, to); }
                }
            } else if start + size <= limit {
                s.unmap(range, &mut pages, &mut |_| {}).unwrap();
                model_unmap(&mut model, range);
            }
            prop_assert_eq!(s.pages(), pages.out());
            check(&s, &model);
        }
        s.unmap(guest(0, limit), &mut pages, &mut |_| {}).unwrap();
        let (_, root) = s.geometry().start().unwrap();
        prop_assert_eq!((s.pages(), pages.out()), (root, root), "only the root is left");
        s.destroy(&mut pages, &mut |_| {});
        prop_assert_eq!(pages.out(), 0);
    }
}

/// Both ends of every mapping, and just beyond them, as the hardware and `translate` see them.
fn check(s: &Stage2, model: &Model) {
    let at = |ipa: u64| {
        let (start, (end, to, rights)) = model.range(..=ipa).next_back()?;
        (ipa < *end).then(|| (to + (ipa - start), *rights))
    };
    for (start, (end, ..)) in model {
        let middle = start + (end - start) / 2;
        for ipa in [start.wrapping_sub(1), *start, middle, middle ^ BLOCK_2M, end - 1, *end] {
            let expected = at(ipa);
            assert_eq!(s.translate(gpa(ipa)).map(|(to, rights)| (to.raw(), rights)), expected, "{ipa:#x}");
            assert_eq!(walk(s.root(), s.vtcr(), ipa).map(|leaf| leaf.to), expected.map(|(to, _)| to));
        }
    }
}

/// The largest leaf at each place of a mapping that was just made: as large as alignment, size and the
/// start level allow.
fn check_blocks(s: &Stage2, start: u64, size: u64, to: u64) {
    let (start_level, _) = s.geometry().start().unwrap();
    let mut offset = 0;
    while offset < size {
        let (ipa, left) = (start + offset, size - offset);
        let fits = |block: u64| (ipa | (to + offset)) & (block - 1) == 0 && left >= block;
        let (level, step) = if start_level <= 1 && fits(BLOCK_1G) {
            (1, BLOCK_1G)
        } else if fits(BLOCK_2M) {
            (2, BLOCK_2M)
        } else {
            (3, left.min(BLOCK_2M - (ipa & (BLOCK_2M - 1)))) // pages up to the next place for a block
        };
        for at in [ipa, ipa + step - PAGE_SIZE] {
            assert_eq!(walk(s.root(), s.vtcr(), at).map(|leaf| leaf.level), Some(level), "{at:#x}");
        }
        offset += step;
    }
}
