//! The runner's own arithmetic and formats, without QEMU; and that no stay at EL2 is too long, with it.

// The bench's own files, without the part that runs.
#![allow(dead_code)]

#[path = "../common/backends.rs"]
mod backends;
#[path = "../common/deeds.rs"]
mod deeds;
mod beside;
mod boot;
mod bundle;
mod counts;
mod figure;
mod micro;
mod names;
mod qemu;
mod report;
mod scale;
mod stays;

use crate::bundle::{mark_program, newc};
use crate::counts::{Counters, Counts, Histogram, Summary};
use crate::figure::{Bound, thousands};
use crate::names::nice;
use crate::report::replaced;

fn histogram(json: &str) -> Histogram {
    serde_json::from_str(json).unwrap_or_default()
}

#[test]
fn a_summary_is_of_values_not_of_bins() {
    let of = |json| histogram(json).summary().map(|s| [s.n, s.min, s.median, s.max]);
    assert_eq!(of("[]"), None);
    assert_eq!(of("[[7,1]]"), Some([1, 7, 7, 7]));
    assert_eq!(of("[[9,1],[1,1],[5,1]]"), Some([3, 1, 5, 9]));
    assert_eq!(of("[[9,4],[1,1],[5,1]]"), Some([6, 1, 9, 9]));
    // Of an even number, the lower of the middle two.
    assert_eq!(of("[[1,2],[3,2]]"), Some([4, 1, 1, 3]));
    let mut both = histogram("[[2,2]]");
    both.merge(&histogram("[[4,1],[2,1]]"));
    assert_eq!(both.summary(), Some(Summary { n: 4, min: 2, median: 2, max: 4 }));
    assert_eq!(both.sum(), 10);
}

#[test]
fn exits_are_chosen_by_row_and_beginning() {
    let counts: Counts = serde_json::from_str(
        r#"{"vcpus":[{"total":{"el0":1,"el1":2,"el2":3,"el3":0,"exits":4}}],"overflow":false,"marks":[],"rows":[],
            "exits":[{"row":1,"reason":"HVC #0 0x84000000","cost":[[10,3]]},{"row":1,"reason":"IRQ","stay":90,"cost":[[90,1]]},
                     {"row":2,"reason":"HVC #0 0x84000000","cost":[[11,5]]}]}"#,
    )
    .unwrap();
    assert_eq!(counts.costs(1, "HVC #0").n(), 3);
    assert_eq!(counts.costs(2, "HVC").sum(), 55);
    assert_eq!(counts.costs(3, "").n(), 0);
    let named = |name: &str| (name.to_owned(), &counts);
    let stays = stays::longest([named("one"), named("two")].into_iter());
    // Reasons without a stay are parts of others; of equal ones the first run counts.
    let of = |stay: &stays::Stay| (stay.reason.clone(), stay.longest, stay.run.clone());
    assert_eq!(stays.iter().map(of).collect::<Vec<_>>(), [("IRQ".into(), 90, "one".into())]);
    assert!(stays[0].bound().held());
    let total = counts.vcpu().unwrap().total;
    assert_eq!((total.guest(), total.all()), (3, 6));
    assert_eq!(total.since(&Counters { el1: 1, exits: 4, ..Counters::default() }).el1, 1);
    assert!(counts.mark(0).is_err());
}

#[test]
fn a_switch_with_floating_point_is_two_things_together() {
    let of = |json| histogram(json).summary().unwrap();
    let both = of("[[900,3],[910,1]]").and(&of("[[118,7]]"));
    assert_eq!(both, Summary { n: 4, min: 1018, median: 1018, max: 1028 });
}

#[test]
fn stays_are_told_by_kind() {
    for (reason, kind) in [
        ("IRQ", "IRQ"),
        ("write 0x8420000", "GICR write"),
        ("read 0x12345000, no syndrome", "read where no device is"),
        ("write 0x3fffff0000", "write where no device is"),
        ("instruction abort 0xb000000", "instruction abort"),
        ("MRS S3_0_C0_C0_5", "MRS of another register"),
        ("MSR S3_0_C12_C11_5", "MSR ICC_SGI1R_EL1"),
        ("HVC #0 0x84000008", "HVC SYSTEM_OFF"),
        ("SMC #0 0x3c3c3c3c", "SMC of another function"),
    ] {
        assert_eq!(stays::kind(reason), kind);
    }
}

/// Starts machines, for a dozen seconds; needs the plugin, which `make test` builds.
#[test]
fn no_stay_at_el2_is_longer_than_promised() {
    if std::process::Command::new("qemu-system-aarch64").arg("--version").output().is_err() {
        return eprintln!("skipped: there is no qemu-system-aarch64 here");
    }
    let crowds = stays::CROWDS.iter().map(|crowd| (crowd.name(), crowd.run("cortex-a72").unwrap()));
    let besides = deeds::DEEDS.map(|deed| (deed.to_owned(), beside::run("cortex-a72", deed).unwrap().counts));
    let runs: Vec<_> = crowds.chain(besides).collect();
    let stays = stays::longest(runs.iter().map(|(name, counts)| (name.clone(), counts)));
    assert!(!stays.is_empty());
    let long: Vec<_> = stays.iter().filter(|stay| !stay.bound().held()).collect();
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn what_the_victim_says_is_understood() {
    let end = "latency: 100 timers, late max 4321 us, mean 17 us, over the limit 0, missed 0\r\n";
    let line = |n: u64| format!("latency: line {n:06} of 000100, late 5 us\r\n");
    let all: String = (1..=100).map(line).collect();
    let seen = beside::noticed(&(all.clone() + end)).unwrap();
    assert_eq!(seen, beside::Noticed { max: 4321, mean: 17, lines: 100 });
    let late = "latency: li\r\n[mz     0.1] vm attacker: stopped\r\n[mz     0.1]   pc 0x0\r\nne 000008 of";
    let split = all.replace("latency: line 000008 of", late);
    assert_eq!(beside::noticed(&(split + end)).map(|seen| seen.lines), Some(100));
    // What is lost, or comes twice, ends the row of lines that are as they should be.
    let torn = all.replace(&line(7), "latency: li");
    assert_eq!(beside::noticed(&(torn + end)).map(|seen| seen.lines), Some(6));
    assert_eq!(beside::noticed(&(line(1) + &line(1) + &line(2) + end)).map(|seen| seen.lines), Some(2));
    assert_eq!(beside::noticed(&all), None);
}

#[test]
fn a_bound_is_held_over_or_broken() {
    let at = |value| Bound::new("x", value, 100.0);
    assert!(at(100.0).held() && !at(100.0).broken());
    assert!(!at(104.0).held() && !at(104.0).broken());
    assert_eq!(at(104.0).verdict(), "over by 4.0 %");
    assert!(at(106.0).broken());
    assert_eq!([0, 12, 123, 1234, 1_234_567].map(thousands), ["0", "12", "123", "1,234", "1,234,567"]);
}

#[test]
fn reasons_have_the_manuals_names() {
    for (reason, name) in [
        ("read 0x9000000", "PL011 read"),
        ("write 0x80a0000, no syndrome", "GICR write, no syndrome"),
        ("write 0x8000000", "GICD write"),
        ("read 0x90000000", "read 0x90000000"),
        ("MRS S3_0_C0_C4_0", "MRS ID registers"),
        ("MRS S3_0_C0_C0_5", "MRS S3_0_C0_C0_5"),
        ("MSR S3_0_C12_C11_5", "MSR ICC_SGI1R_EL1"),
        ("HVC #0 0x84000008", "HVC SYSTEM_OFF"),
        ("HVC #0 0x4b000000", "HVC #0 0x4b000000"),
        ("IRQ", "IRQ"),
    ] {
        assert_eq!(nice(reason), name);
    }
}

#[test]
fn the_tables_of_a_page_are_replaced_and_nothing_else() {
    let page = "a\n<!-- tables of `make bench` begin -->\nold\n<!-- tables of `make bench` end -->\nz\n";
    let new = replaced(page, "new").unwrap();
    assert!(
        new.starts_with("a\n<!--")
            && new.ends_with("-->\nz\n")
            && new.contains("\nnew\n")
            && !new.contains("old")
    );
    assert_eq!(replaced(&new, "new").as_deref(), Some(new.as_str()));
    assert_eq!(replaced("no markers", "new"), None);
}

#[test]
fn the_memory_line_is_understood() {
    let line = "[mz 0.001234] memory: EL2 uses 2048 KiB and 128 KiB a VM; 445 MiB free\r\n";
    assert_eq!(boot::memory(line), Some((2048 * 1024, 128 * 1024)));
    assert_eq!(boot::memory("memory: EL2 uses lots"), None);
}

#[test]
fn the_marking_program_is_what_the_kernel_loads() {
    let elf = mark_program();
    let long = |at: usize| u64::from_le_bytes(elf[at..at + 8].try_into().unwrap());
    assert_eq!(&elf[..7], b"\x7fELF\x02\x01\x01");
    assert_eq!((elf[16], elf[18], elf[54], elf[56]), (2, 183, 56, 1));
    // Entry, program header at 64: offset, address, sizes.
    assert_eq!((long(24), long(32)), (0x40_0078, 64));
    assert_eq!((long(72), long(80), long(96)), (0, 0x40_0000, elf.len() as u64));
    assert_eq!(elf.len(), 120 + 7 * 4);
}

#[test]
fn the_archive_is_newc() {
    let mut archive = Vec::new();
    newc(&mut archive, "bin/mark", 0o100_755, b"12345");
    newc(&mut archive, "TRAILER!!!", 0, &[]);
    // Mezzanine's reader takes it for a bundle: it finds the file, the end, and no tree.
    let problem = mezzanine::config::bundle::read(&archive).unwrap_err();
    assert!(problem.to_string().contains("among its 1 files (the first is bin/mark)"), "{problem}");
    assert!(archive.windows(9).any(|w| w == b"\x0012345\0\0\0"));
    assert!(archive.len().is_multiple_of(4));
}
