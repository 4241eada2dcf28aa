//! The micro benchmark: what one exit costs, by kind and by who is the guest's interrupt controller.

use crate::backends::{BACKENDS, Backend};
use crate::counts::{Counts, Summary};
use crate::qemu::{Outcome, Run, target};
use crate::{bundle, figure::Bound};

/// How a row's figure is taken from what happened between its opening and closing.
#[derive(Clone, Copy)]
enum Take {
    /// The cost of the exits whose reason begins so; others, such as an interrupt of the UART, are not part of it.
    Exit(&'static str),
    /// All instructions at EL2.
    Everything,
}

/// On which backends a row is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum On {
    All,
    /// Guests with this GIC.
    Guest(u8),
    /// Guests with this GIC, none of whose CPU interface is the hardware's.
    Emulated(u8),
}

/// One row: what the guest does (tests/guests/src/bin/bench.rs has the same numbers), and what others need for it.
pub(crate) struct Row {
    number: u32,
    pub(crate) name: &'static str,
    take: Take,
    /// The least number of samples that makes it count.
    samples: u64,
    on: On,
    /// The most where list registers are the hardware's.
    bound: Option<u64>,
    /// The most where the CPU interface is emulated.
    emulated: Option<u64>,
    /// It depends on the interrupt controller, so that each backend's figure is shown.
    pub(crate) controller: bool,
    /// KVM with VHE, KVM without, Xen, Bao, hvisor.
    pub(crate) peers: [&'static str; 5],
}

const TIMES: u64 = 256;
const NOBODY: [&str; 5] = ["-"; 5];
const GIC: [&str; 5] = ["2,166", "2,440", "613 / 682", "258 / 412", "321 / 307 (passed through)"];
const UART: [&str; 5] = ["6,903", "6,263", "-", "not emulated", "not emulated"];

const fn row(number: u32, name: &'static str, take: Take, bound: u64, peers: [&'static str; 5]) -> Row {
    Row { bound: Some(bound), peers, ..report(number, name, take) }
}

const fn report(number: u32, name: &'static str, take: Take) -> Row {
    Row {
        number,
        name,
        take,
        samples: TIMES,
        on: On::All,
        bound: None,
        emulated: None,
        controller: false,
        peers: NOBODY,
    }
}

/// A row that depends on the interrupt controller.
const fn gic(row: Row) -> Row {
    Row { controller: true, ..row }
}

/// What only emulated interfaces have: part of the interrupt of row 11.
const fn access(name: &'static str, reason: &'static str, version: u8) -> Row {
    Row { on: On::Emulated(version), ..gic(report(11, name, Take::Exit(reason))) }
}

/// All rows, in the order of the table.
pub(crate) static ROWS: [Row; 23] = [
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
    gic(row(6, "GICD_TYPER read", Take::Exit("read 0x8000000"), 280, GIC)),
    gic(row(7, "GICD_ISENABLER write, idle SPI", Take::Exit("write 0x8000000"), 280, GIC)),
    Row { on: On::Guest(3), ..gic(row(8, "GICR_TYPER read", Take::Exit("read 0x80a0000"), 280, GIC)) },
    Row {
        on: On::Guest(3),
        ..gic(row(
            9,
            "ICC_SGI1R to self, sent and handled",
            Take::Everything,
            330,
            ["2,377", "2,701", "-", "-", "-"],
        ))
    },
    // A store that faults costs more than a register that traps: the fault's address, its registers, the decode.
    Row {
        on: On::Guest(2),
        ..gic(row(9, "GICD_SGIR to self, sent and handled", Take::Everything, 430, NOBODY))
    },
    gic(row(
        10,
        "virtual timer, expiry to guest's handler",
        Take::Everything,
        350,
        ["2,402+", "2,739+", "1,083", "199 (passed through)", "no exit"],
    )),
    Row {
        emulated: Some(900),
        ..gic(report(11, "virtual timer, expiry to end of interrupt", Take::Everything))
    },
    access("the same, ICC_IAR1 read", "MRS S3_0_C12_C12_0", 3),
    access("the same, ICC_EOIR1 write", "MSR S3_0_C12_C12_1", 3),
    access("the same, GICC_IAR read", "read 0x8010000", 2),
    access("the same, GICC_EOIR write", "write 0x8010000", 2),
    row(
        12,
        "ID_AA64PFR0_EL1 read",
        Take::Exit("MRS S3_0_C0_C4_0"),
        160,
        ["1,714", "-", "430", "not trapped", "not trapped"],
    ),
    gic(report(13, "WFI that blocks, until EL2's own WFI", Take::Exit("WFI, until EL2 waits"))),
    gic(report(13, "its wake by the timer, until the guest runs", Take::Exit("WFI, after EL2 woke"))),
    gic(row(13, "all of it, until the guest's handler", Take::Everything, 1200, NOBODY)),
    report(14, "PL031 RTCDR read", Take::Exit("read 0x9010000")),
    Row {
        samples: 1,
        peers: ["326", "-", "-", "-", "-"],
        ..report(15, "FP/SIMD, first use", Take::Everything)
    },
    report(16, "no exit (must be 0)", Take::Everything),
];

/// The number of the row in which nothing exits.
const NOTHING: u32 = 16;

impl Row {
    fn is_on(&self, backend: &Backend) -> bool {
        match self.on {
            On::All => true,
            On::Guest(version) => backend.guest == version,
            On::Emulated(version) => backend.guest == version && backend.emulated,
        }
    }

    /// The bound there; its name says where, unless that goes without saying.
    fn bound(&self, backend: &Backend, value: u64) -> Option<Bound> {
        let most = if backend.emulated { self.emulated } else { self.bound }?;
        let usual = backend == &BACKENDS[0];
        let name = if usual { self.name.to_owned() } else { format!("{}: {}", backend.label, self.name) };
        Some(Bound::new(&name, value as f64, most as f64))
    }
}

/// A row with its figures.
pub(crate) struct Figure {
    pub(crate) row: &'static Row,
    pub(crate) summary: Summary,
    pub(crate) bound: Option<Bound>,
}

/// All rows of a backend.
pub(crate) struct Measured {
    pub(crate) backend: &'static Backend,
    pub(crate) figures: Vec<Figure>,
    pub(crate) counts: Counts,
}

fn take(counts: &Counts, row: &'static Row, backend: &Backend) -> Result<Figure, String> {
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
    let bound = row.bound(backend, summary.median);
    Ok(Figure { row, summary, bound })
}

/// Whether a row has that number; if not, which ones there are.
pub(crate) fn known(number: u32) -> Result<(), String> {
    if ROWS.iter().any(|row| row.number == number) {
        return Ok(());
    }
    let mut all: Vec<String> = ROWS.iter().map(|row| format!("{:4}  {}", row.number, row.name)).collect();
    all.extend(crate::scale::ROWS.iter().map(|row| format!("{:4}  {}", row.number, row.name)));
    Err(format!("there is no row {number}; there are\n{}", all.join("\n")))
}

/// Runs the micro guest under Mezzanine, on one backend.
///
/// # Errors
/// The run fails, or a row has too few samples.
pub(crate) fn run(cpu: &str, backend: &'static Backend) -> Result<Measured, String> {
    let failed = |why: String| format!("{}: {why}", backend.label);
    let (counts, _) = run_traced(cpu, backend, 0).map_err(failed)?;
    let rows = ROWS.iter().filter(|row| row.is_on(backend));
    let figures = rows.map(|row| take(&counts, row, backend)).collect::<Result<_, _>>().map_err(failed)?;
    Ok(Measured { backend, figures, counts })
}

/// As [`run`], with the last exit of a row traced: counts and transcript.
pub(crate) fn run_traced(cpu: &str, backend: &Backend, traced_row: u32) -> Result<(Counts, String), String> {
    let guest = target().join("guests/micro/bench.img");
    let vm = bundle::Vm {
        kernel: &guest,
        initrd: None,
        cmdline: "",
        memory: "64M",
        gic: (backend.guest != backend.host).then_some(backend.guest),
    };
    let bundle = bundle::pack("micro", &vm)?;
    let mut run = Run { gic: backend.host, traced_row, ..Run::mezzanine("micro", cpu, &bundle) };
    if !backend.options().is_empty() {
        run.args.extend(["-append".into(), backend.options().into()]);
    }
    let Outcome { counts, transcript } = run.run()?;
    if !transcript.contains("bench: ok") {
        return Err(format!("the micro guest did not end with 'bench: ok':\n{transcript}"));
    }
    counts.vcpu()?;
    Ok((counts, transcript))
}
