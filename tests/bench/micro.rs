//! The micro benchmark: what one exit costs, by kind.

use std::time::Duration;

use crate::counts::{Counts, Summary};
use crate::qemu::{Outcome, Run, target, text};
use crate::{bundle, figure::Bound};

/// How a row's figure is taken from what happened between its opening and closing.
#[derive(Clone, Copy)]
enum Take {
    /// The cost of the exits whose reason begins so; others, such as an interrupt of the UART, are not part of it.
    Exit(&'static str),
    /// All instructions at EL2.
    Everything,
}

/// One row: what the guest does (tests/guests/src/bin/bench.rs has the same numbers), and what others need for it.
pub(crate) struct Row {
    number: u32,
    pub(crate) name: &'static str,
    take: Take,
    /// The least number of samples that makes it count.
    samples: u64,
    bound: Option<u64>,
    /// KVM with VHE, KVM without, Xen, Bao, hvisor.
    pub(crate) peers: [&'static str; 5],
}

const TIMES: u64 = 256;
const NOBODY: [&str; 5] = ["-"; 5];
const GIC: [&str; 5] = ["2,166", "2,440", "613 / 682", "258 / 412", "321 / 307 (passed through)"];
const UART: [&str; 5] = ["6,903", "6,263", "-", "not emulated", "not emulated"];

const fn row(number: u32, name: &'static str, take: Take, bound: u64, peers: [&'static str; 5]) -> Row {
    Row { number, name, take, samples: TIMES, bound: Some(bound), peers }
}

const fn report(number: u32, name: &'static str, take: Take) -> Row {
    Row { number, name, take, samples: TIMES, bound: None, peers: NOBODY }
}

/// All rows, in the order of the table.
pub(crate) const ROWS: [Row; 18] = [
    row(
        1,
        "null hypercall, HVC #0",
        Take::Exit("HVC #0 0x4b000000"),
        130,
        ["1,351", "1,667", "-", "191-215 (PSCI)", "-"],
    ),
    row(2, "PSCI_VERSION by HVC", Take::Exit("HVC #0 0x84000000"), 150, ["1,426", "1,739", "-", "-", "-"]),
    report(3, "PSCI_VERSION by SMC", Take::Exit("SMC #0 0x84000000")),
    row(4, "PL011 UARTFR read", Take::Exit("read 0x9000000"), 250, UART),
    row(5, "PL011 UARTDR write", Take::Exit("write 0x9000000"), 250, UART),
    row(6, "GICD_TYPER read", Take::Exit("read 0x8000000"), 280, GIC),
    row(7, "GICD_ISENABLER write, idle SPI", Take::Exit("write 0x8000000"), 280, GIC),
    row(8, "GICR_TYPER read", Take::Exit("read 0x80a0000"), 280, GIC),
    row(9, "ICC_SGI1R to self, sent and handled", Take::Everything, 330, ["2,377", "2,701", "-", "-", "-"]),
    row(
        10,
        "virtual timer, expiry to guest's handler",
        Take::Everything,
        350,
        ["2,402+", "2,739+", "1,083", "199 (passed through)", "no exit"],
    ),
    report(11, "virtual timer, expiry to end of interrupt", Take::Everything),
    row(
        12,
        "ID_AA64PFR0_EL1 read",
        Take::Exit("MRS S3_0_C0_C4_0"),
        160,
        ["1,714", "-", "430", "not trapped", "not trapped"],
    ),
    report(13, "WFI that blocks, until EL2's own WFI", Take::Exit("WFI, until EL2 waits")),
    report(13, "its wake by the timer, until the guest runs", Take::Exit("WFI, after EL2 woke")),
    report(13, "all of it, until the guest's handler", Take::Everything),
    report(14, "PL031 RTCDR read", Take::Exit("read 0x9010000")),
    Row {
        number: 15,
        name: "FP/SIMD, first use",
        take: Take::Everything,
        samples: 1,
        bound: None,
        peers: ["326", "-", "-", "-", "-"],
    },
    report(16, "no exit (must be 0)", Take::Everything),
];

/// The number of the row in which nothing exits.
const NOTHING: u32 = 16;

/// A row with its figures.
pub(crate) struct Figure {
    pub(crate) row: &'static Row,
    pub(crate) summary: Summary,
    pub(crate) bound: Option<Bound>,
}

fn take(counts: &Counts, row: &'static Row) -> Result<Figure, String> {
    let histogram = match row.take {
        Take::Exit(reason) => counts.costs(row.number, reason),
        Take::Everything => {
            counts.rows.iter().find(|r| r.row == row.number).map(|r| r.cost.clone()).unwrap_or_default()
        }
    };
    let seen = histogram.n();
    let summary = histogram.summary().filter(|_| seen >= row.samples).ok_or_else(|| {
        let other: Vec<String> = counts
            .exits
            .iter()
            .filter(|e| e.row == row.number)
            .map(|e| format!("{} x {}", e.cost.n(), e.reason))
            .collect();
        format!("{}: {seen} samples instead of {}; seen there: {}", row.name, row.samples, other.join(", "))
    })?;
    if row.number == NOTHING && summary.max != 0 {
        return Err(format!("{}: {summary:?}", row.name));
    }
    let bound = row.bound.map(|most| Bound::new(row.name, summary.median as f64, most as f64));
    Ok(Figure { row, summary, bound })
}

/// Whether a row has that number; if not, which ones there are.
pub(crate) fn known(number: u32) -> Result<(), String> {
    if ROWS.iter().any(|row| row.number == number) {
        return Ok(());
    }
    let all: Vec<String> = ROWS.iter().map(|row| format!("{:4}  {}", row.number, row.name)).collect();
    Err(format!("there is no row {number}; there are\n{}", all.join("\n")))
}

/// Runs the micro guest under Mezzanine.
///
/// # Errors
/// The run fails, or a row has too few samples.
pub(crate) fn run(cpu: &str) -> Result<(Vec<Figure>, Counts), String> {
    let (counts, _) = run_traced(cpu, 0)?;
    let figures = ROWS.iter().map(|row| take(&counts, row)).collect::<Result<_, _>>()?;
    Ok((figures, counts))
}

/// As [`run`], with the last exit of a row traced: counts and transcript.
pub(crate) fn run_traced(cpu: &str, traced_row: u32) -> Result<(Counts, String), String> {
    let guest = target().join("guests/micro/bench.img");
    let bundle =
        bundle::pack("micro", &bundle::Vm { kernel: &guest, initrd: None, cmdline: "", memory: "64M" })?;
    let args = vec!["-kernel".into(), text(&target().join("mezzanine.img")), "-initrd".into(), text(&bundle)];
    let patience = Duration::from_secs(120);
    let run = Run { name: "micro", cpu, el2: true, memory: "512M", args, traced_row, patience };
    let Outcome { counts, transcript } = run.run()?;
    if !transcript.contains("bench: ok") {
        return Err(format!("the micro guest did not end with 'bench: ok':\n{transcript}"));
    }
    counts.vcpu()?;
    Ok((counts, transcript))
}
