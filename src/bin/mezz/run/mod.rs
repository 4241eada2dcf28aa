//! `mezz run`: decides on a machine, packs the guests, starts QEMU and stays until it ends.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use mezzanine::config::{Findings, HostFacts, Options, check_tree_all};
use mezzanine::guest::image;
use mezzanine::problem::nearest;

use crate::host::{Host, HostArgs};
use crate::options::Guests;
use crate::qemu::{self, Machine, Payload};
use crate::report::{Report, Reports};
use crate::spec::{BOARDS, Spec};
use crate::transcript::Verdict;
use crate::{check, cpu, guests, spec, symbolize};

mod modules;
mod relay;

use relay::Ending;

/// Options of the verb.
#[derive(Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    guests: Guests,
    /// The board to run on [default: qemu-virt]
    #[arg(long, value_name = "NAME")]
    board: Option<String>,
    /// QEMU's CPU model, 64-bit [default: cortex-a72]
    #[arg(long, value_name = "MODEL")]
    cpu: Option<String>,
    #[command(flatten)]
    host: HostArgs,
    /// Mezzanine's own options, for instance "loglevel=debug"
    #[arg(long, value_name = "TEXT", default_value = "")]
    options: String,
    /// Mezzanine's image [default: $MEZZANINE_IMAGE, else target/mezzanine.img]
    #[arg(long, value_name = "PATH")]
    image: Option<PathBuf>,
    /// One more argument for QEMU; repeat it for each word
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    qemu_arg: Vec<String>,
    /// Device tree that QEMU gives Mezzanine in place of its own; guests may be in it
    #[arg(long, value_name = "FILE.dtb")]
    dtb: Option<PathBuf>,
    /// Count the guests' exits by reason, and print a table of each VM when all have stopped
    #[arg(long)]
    trace_exits: bool,
    /// Write the bundle to this file and keep it
    #[arg(long, value_name = "PATH", conflicts_with = "modules")]
    bundle: Option<PathBuf>,
    /// Hand the guests over as guest-loader modules instead of a bundle
    #[arg(long)]
    modules: bool,
    /// End the machine after so many seconds, with exit status 124
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
    /// Print QEMU's command line and leave
    #[arg(long)]
    print: bool,
}

/// The verb.
pub(crate) fn run(args: &RunArgs) -> Result<ExitCode, Reports> {
    Reports::settle(args.qemu_arg.iter().filter_map(|arg| qemu::check_argument(arg).err()).collect())?;
    // A tree of one's own may have its guests in it.
    let (spec, mut reports) = match args.dtb.is_some() && !args.guests.named() {
        true => (Some(Spec::default()), Vec::new()),
        false => args.guests.read()?,
    };
    let Some(spec) = spec else { return Err(Reports::settle(reports).err().unwrap_or_else(unread)) };
    check_board(args)?;
    Options::parse(&args.options).map_err(Report::from)?;
    let host = Host::decide(&args.host, &spec).map_err(|report| reports.push(report)).ok();
    let facts = host.map(|host| host.facts(payload_size(args, &spec)));
    reports.extend(spec.check(facts.as_ref()));
    reports.extend(check_dtb(args, facts.as_ref())?);
    Reports::settle(reports)?;
    let Some(host) = host else { return Err(unread()) };
    let mut machine = machine(args, &spec, host)?;
    let (payload, temporary) = if spec.vms.is_empty() {
        (Payload::Modules(Vec::new()), None)
    } else if args.modules {
        machine.options = modules::options(&machine.options, &spec)?;
        (Payload::Modules(modules::place(&spec, machine.host.ram)?), None)
    } else {
        bundle(args, &spec)?
    };
    let line = machine.command_line(&payload);
    if args.print {
        let words: Vec<String> = line.iter().map(qemu::quoted).collect();
        println!("{}", words.join(" "));
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!(
        "mezz: leave with Ctrl-A x; Ctrl-A Ctrl-A sends a Ctrl-A; Ctrl-G and a digit shows another guest; other keys go to the guest"
    );
    let timeout = args.timeout.map(Duration::from_secs);
    let (ending, report) = relay::relay(&line, temporary, timeout)
        .map_err(|error| Report::new("E0512", format!("the machine cannot be started: {error}")))?;
    show_panic(&ending, &report, &machine.image);
    Ok(finish(&ending, args.timeout))
}

/// The board's name; the configuration's own was checked at its line.
fn check_board(args: &RunArgs) -> Result<(), Report> {
    let Some(board) = args.board.as_deref().filter(|board| !BOARDS.contains(board)) else { return Ok(()) };
    let report = Report::new("E0506", format!("unknown board `{board}`"));
    Err(match nearest(board, &BOARDS) {
        Some(meant) => report.help(format!("did you mean `{meant}`?")),
        None => report.help(format!("known: {}", BOARDS.join(", "))),
    })
}

fn machine(args: &RunArgs, spec: &Spec, host: Host) -> Result<Machine, Reports> {
    let cpu = args.cpu.as_ref().or(spec.machine.cpu.as_ref()).map_or(cpu::DEFAULT, String::as_str);
    cpu::check(cpu).map_err(|report| match args.cpu {
        Some(_) => report,
        None => spec.at_machine(report, "cpu", "this model"),
    })?;
    let mut options = args.options.clone();
    if args.trace_exits {
        options = format!("{options} trace-exits").trim_start().to_owned();
    }
    Ok(Machine {
        program: qemu::program(),
        cpu: cpu.to_owned(),
        host,
        options,
        dtb: args.dtb.clone(),
        image: image(args)?,
        extra: args.qemu_arg.clone(),
    })
}

/// Where Mezzanine's image is.
fn image(args: &RunArgs) -> Result<PathBuf, Report> {
    let named = args.image.clone().or_else(|| std::env::var_os("MEZZANINE_IMAGE").map(PathBuf::from));
    let image = named.unwrap_or_else(|| PathBuf::from("target/mezzanine.img"));
    if image.is_file() {
        return Ok(image);
    }
    Err(Report::new("E0510", format!("Mezzanine's image is not at {}", image.display()))
        .help("build it with `make image`, or name it with --image or in MEZZANINE_IMAGE"))
}

/// Bytes that the guests' files take in the machine's memory.
fn payload_size(args: &RunArgs, spec: &Spec) -> u64 {
    if args.modules { modules::size(spec) } else { spec.bundle_size() }
}

/// Says that something is wrong when nothing else does.
fn unread() -> Reports {
    Report::new("E0505", "the guests cannot be read").into()
}

/// What is wrong with the tree in QEMU's own tree's place, and with the guests in it.
fn check_dtb(args: &RunArgs, facts: Option<&HostFacts>) -> Result<Vec<Report>, Report> {
    let Some(path) = &args.dtb else { return Ok(Vec::new()) };
    let bytes = spec::read(path)
        .map_err(|why| Report::new("E0505", format!("device tree {} {why}", path.display())))?;
    if mezzanine::fdt::total_size(&bytes).is_none_or(|size| size > bytes.len()) {
        return Err(Report::new(
            "E0521",
            format!("{} is no device tree: it looks like {}", path.display(), image::looks_like(&bytes)),
        )
        .help("give a whole .dtb; dtc makes one of a .dts"));
    }
    let mut found = Findings::default();
    check_tree_all(&bytes, facts, &mut found);
    let guests = args.guests.named() || args.qemu_arg.iter().any(|arg| arg.starts_with("guest-loader"));
    // RAM, the initrd and QEMU's own boot modules come into the tree later.
    let unknown = |code: &str| matches!(code, "E0106" | "E0202" | "E0232") || guests && code == "E0201";
    found.errors.retain(|problem| !unknown(problem.code));
    Ok(check::placed(path.display().to_string(), &bytes, &mut found))
}

/// Packs the guests into the file that was named, or one that goes away by itself.
fn bundle(args: &RunArgs, spec: &Spec) -> Result<(Payload, Option<tempfile::TempPath>), Reports> {
    let failed = |error: std::io::Error| {
        Report::new("E0505", format!("the bundle cannot be written: {error}"))
            .help("name a place with --bundle, or a directory with room in TMPDIR")
    };
    if let Some(path) = &args.bundle {
        std::fs::write(path, guests::bundle(spec)?).map_err(failed)?;
        return Ok((Payload::Bundle(path.clone()), None));
    }
    let bytes = guests::bundle(spec)?;
    if args.print {
        eprintln!("mezz: BUNDLE stands for the packed guests; --bundle PATH writes and names them");
        return Ok((Payload::Bundle("BUNDLE".into()), None));
    }
    let mut file = tempfile::Builder::new().prefix("mezz-").suffix(".cpio").tempfile().map_err(failed)?;
    file.write_all(&bytes).map_err(failed)?;
    let path = file.into_temp_path();
    Ok((Payload::Bundle(path.to_path_buf()), Some(path)))
}

/// After a panic: its report once more, with names, when the ELF lies beside the image.
fn show_panic(ending: &Ending, report: &[u8], image: &Path) {
    let elf = image.with_extension("elf");
    if matches!(ending, Ending::Said(Verdict::Panic(_))) && elf.is_file() {
        eprintln!("mezz: the panic, with names from {}:", elf.display());
        if let Err(reports) = symbolize::write(&elf, &mut &*report, &mut std::io::stderr()) {
            reports.show();
        }
    }
}

/// The last line, and the exit status.
fn finish(ending: &Ending, timeout: Option<u64>) -> ExitCode {
    let (line, status) = match ending {
        Ending::Said(Verdict::Ok) => return ExitCode::SUCCESS,
        Ending::Said(Verdict::Failed(reason)) => (format!("the run failed: {reason}"), 1),
        Ending::Said(Verdict::Panic(reason)) => (format!("Mezzanine panicked: {reason}"), 1),
        Ending::NotStarted => return ExitCode::from(crate::USAGE),
        Ending::Left => ("left before the guests had powered off".to_owned(), 1),
        Ending::Said(Verdict::Silent) => {
            ("the machine ended without Mezzanine's last line, `halt:`".to_owned(), 1)
        }
        Ending::OutputLost(error) => (format!("nobody reads the console any more: {error}"), 1),
        Ending::TimedOut => (format!("ended after {} s (--timeout)", timeout.unwrap_or_default()), 124),
        Ending::Signal(number) => {
            (format!("ended by signal {number}"), u8::try_from(128 + number).unwrap_or(u8::MAX))
        }
    };
    eprintln!("mezz: {line}");
    ExitCode::from(status)
}
