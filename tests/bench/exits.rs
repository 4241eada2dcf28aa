//! `make bench`: instructions at EL2 for each kind of exit, and for a whole Debian boot.
//!
//! Instructions are counted by a QEMU plugin (plugin.c), whose exactness a machine of sixty known
//! instructions proves first (selftest.rs). Then the micro guest (tests/guests/src/bin/bench.rs) runs each kind
//! of exit a few hundred times, and the stock Debian kernel boots to a shell and off, natively and under Mezzanine.
//! The same on every run and every machine: time is counted in instructions, and nothing comes from the host.

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
mod profile;
mod qemu;
mod report;
mod scale;
mod selftest;
mod stays;

use std::fs;
use std::process::{Command, ExitCode};

use clap::{Parser, ValueEnum};

use backends::Backend;
use report::Results;

/// What to run.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// The proof that the plugin counts right.
    Selftest,
    /// Each kind of exit.
    Micro,
    /// What CPUs and VMs cost each other, with few and with many of them.
    Scale,
    /// Beside a guest that does harm.
    Beside,
    /// Guests that keep EL2 busy for long.
    Stays,
    /// A whole Debian boot.
    Boot,
}

#[derive(Parser)]
#[command(name = "exits", about = "Instructions at EL2 for each kind of exit, and for a whole Debian boot")]
struct Options {
    /// Only this part; the self-test always runs
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// The CPU, as QEMU names it
    #[arg(long, default_value = "cortex-a72")]
    cpu: String,
    /// Fail when a bound is broken by more than 5 %
    #[arg(long)]
    check: bool,
    /// Put the tables into docs/performance.md
    #[arg(long)]
    write_docs: bool,
    /// Tell where the instructions of one exit go, by a row's number in tests/bench/micro.rs or scale.rs, and nothing else
    #[arg(long, value_name = "ROW")]
    profile: Option<u32>,
    /// The interrupt controller for --profile, by its name in tests/common/backends.rs
    #[arg(long, value_name = "NAME", default_value = "GICv3")]
    backend: String,
    /// Cargo passes this one
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(why) => {
            eprintln!("bench: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the bounds hold, where that is asked.
fn run(options: &Options) -> Result<bool, String> {
    let plugin = qemu::folder().join("libexits.so");
    if !plugin.is_file() {
        return Err(format!("{} is not there; 'make bench' builds it first", plugin.display()));
    }
    let wanted = |part| options.only.is_none_or(|only| only == part);
    eprintln!("bench: the plugin counts sixty known instructions");
    selftest::run(&options.cpu)?;
    if let Some(row) = options.profile {
        println!("{}", profile::run(&options.cpu, Backend::named(&options.backend)?, row)?);
        return Ok(true);
    }
    let mut results = Results { cpu: options.cpu.clone(), qemu: qemu_version()?, ..Results::default() };
    if options.only != Some(Part::Selftest) {
        let image = qemu::target().join("mezzanine.img");
        let size = fs::metadata(&image)
            .map_err(|e| format!("{}: {e} ('make image' makes it)", image.display()))?
            .len();
        results.image = Some(size);
    }
    if wanted(Part::Micro) {
        for backend in Backend::ready() {
            eprintln!("bench: each kind of exit, {}", backend.label);
            results.micro.push(micro::run(&options.cpu, backend)?);
        }
    }
    if wanted(Part::Scale) {
        for setting in &scale::SETTINGS {
            eprintln!("bench: between CPUs and VMs, {}", setting.label);
            results.scale.push(scale::run(&options.cpu, setting)?);
        }
    }
    if wanted(Part::Beside) {
        for deed in deeds::DEEDS {
            eprintln!("bench: beside a guest that does harm, {deed}");
            results.beside.push(beside::run(&options.cpu, deed)?);
        }
    }
    if wanted(Part::Stays) {
        for crowd in &stays::CROWDS {
            eprintln!("bench: stays at EL2, {}", crowd.name());
            results.crowds.push((crowd.name(), crowd.run(&options.cpu)?));
        }
    }
    if wanted(Part::Boot) {
        for quiet in [true, false] {
            eprintln!(
                "bench: Debian, {}, natively and under Mezzanine",
                if quiet { "quiet" } else { "verbose" }
            );
            results.boots.push(boot::run(&options.cpu, quiet)?);
        }
    }
    if options.only == Some(Part::Selftest) {
        println!("The plugin counts right.");
        return Ok(true);
    }
    let markdown = results.markdown();
    println!("{markdown}");
    write_results(options, &results, &markdown)?;
    let broken: Vec<_> = results.bounds().into_iter().filter(figure::Bound::broken).collect();
    Ok(!options.check || broken.is_empty())
}

fn write_results(options: &Options, results: &Results, markdown: &str) -> Result<(), String> {
    let json = qemu::folder().join("exits.json");
    let text = serde_json::to_string_pretty(&results.json()).map_err(|e| e.to_string())?;
    fs::write(&json, text + "\n").map_err(|e| format!("{}: {e}", json.display()))?;
    eprintln!("bench: all figures are in {}", json.display());
    if options.write_docs {
        let page = qemu::root().join("docs/performance.md");
        let old = fs::read_to_string(&page).map_err(|e| format!("{}: {e}", page.display()))?;
        let new = report::replaced(&old, markdown)
            .ok_or_else(|| format!("{} lacks the markers of the tables", page.display()))?;
        fs::write(&page, new).map_err(|e| format!("{}: {e}", page.display()))?;
    }
    Ok(())
}

/// What QEMU calls itself.
fn qemu_version() -> Result<String, String> {
    let output = Command::new("qemu-system-aarch64")
        .arg("--version")
        .output()
        .map_err(|e| format!("qemu-system-aarch64 does not start: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().next().unwrap_or_default();
    Ok(line.replace("emulator version ", "").split(" (").next().unwrap_or_default().to_string())
}
