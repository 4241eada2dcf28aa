//! `mezz run`: decides on a machine, packs the guests, starts QEMU and stays until it ends.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use mezzanine::config::{Bytes, Options};
use mezzanine::problem::nearest;

use crate::options::Guests;
use crate::qemu::{self, Machine, Payload};
use crate::report::{Report, Reports};
use crate::spec::{BOARDS, Spec};
use crate::transcript::Verdict;
use crate::{cpu, guests, size, symbolize};

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
    /// CPUs of the machine [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    cpus: Option<u16>,
    /// RAM of the machine, for instance 1G [default: what the guests need, and room]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    ram: Option<u64>,
    /// Mezzanine's own options, for instance "loglevel=debug"
    #[arg(long, value_name = "TEXT", default_value = "")]
    options: String,
    /// Mezzanine's image [default: $MEZZANINE_IMAGE, else target/mezzanine.img]
    #[arg(long, value_name = "PATH")]
    image: Option<PathBuf>,
    /// One more argument for QEMU; repeat it for each word
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    qemu_arg: Vec<String>,
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
    let spec = args.guests.spec()?;
    check_board(args)?;
    Options::parse(&args.options).map_err(Report::from)?;
    let mut machine = machine(args, &spec)?;
    let (payload, temporary) = if args.modules {
        machine.options = modules::options(&machine.options, &spec)?;
        (Payload::Modules(modules::place(&spec, machine.ram)?), None)
    } else {
        bundle(args, &spec)?
    };
    let line = machine.command_line(&payload);
    if args.print {
        let words: Vec<String> = line.iter().map(qemu::quoted).collect();
        println!("{}", words.join(" "));
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("mezz: leave with Ctrl-A x; Ctrl-A Ctrl-A sends a Ctrl-A; every other key goes to the guest");
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

fn machine(args: &RunArgs, spec: &Spec) -> Result<Machine, Reports> {
    let cpu = args.cpu.as_ref().or(spec.machine.cpu.as_ref()).map_or(cpu::DEFAULT, String::as_str);
    cpu::check(cpu).map_err(|report| match args.cpu {
        Some(_) => report,
        None => spec.at_machine(report, "cpu", "this model"),
    })?;
    Ok(Machine {
        program: qemu::program(),
        cpu: cpu.to_owned(),
        cpus: args.cpus.or(spec.machine.cpus).unwrap_or(1),
        ram: ram(args, spec)?,
        options: args.options.clone(),
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

/// Bytes of RAM that `virt` needs at least, as QEMU puts the bundle 128 MiB into it.
const LEAST_RAM: u64 = 512 << 20;
/// RAM is given in steps of this.
const RAM_STEP: u64 = 256 << 20;
/// Room beside the guests' own RAM and their files: what lies below QEMU's initrd, the tree, Mezzanine itself.
const ROOM: u64 = 160 << 20;

fn ram(args: &RunArgs, spec: &Spec) -> Result<u64, Report> {
    let guests = spec.vms.iter().fold(0u64, |sum, vm| sum.saturating_add(vm.config().host_bytes()));
    let Some(ram) = args.ram.or(spec.machine.ram) else {
        let files = spec.vms.iter().fold(0u64, |sum, vm| sum.saturating_add(vm.file_bytes()));
        let needed = guests.saturating_add(files).saturating_add(ROOM).max(LEAST_RAM);
        return Ok(needed.div_ceil(RAM_STEP).saturating_mul(RAM_STEP));
    };
    if ram > guests && ram.is_multiple_of(1 << 20) {
        return Ok(ram);
    }
    let (title, help) = if ram > guests {
        (format!("the machine cannot have {} of RAM", Bytes(ram)), "use whole MiB".to_owned())
    } else {
        (
            format!("the guests need {} of the machine's {} of RAM", Bytes(guests), Bytes(ram)),
            "give the machine more RAM than all guests together, or say nothing and mezz reckons it"
                .to_owned(),
        )
    };
    let report = Report::new("E0507", title).help(help);
    Err(if args.ram.is_some() { report } else { spec.at_machine(report, "ram", "too little") })
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
