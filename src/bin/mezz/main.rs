//! `mezz`, the host tool: starts machines, packs bundles, reads backtraces.
//!
//! Exit statuses are part of its manual (docs/mezz.md): 0 when all guests powered off, 1 when the run failed,
//! 2 for a mistake in options or a configuration, 124 after `--timeout`, 128 + N after signal N.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

mod bundle_out;
mod cpu;
mod qemu;
mod report;
mod run;
mod size;
mod spec;
mod suggest;
mod symbolize;
mod terminal;
mod toml_config;
mod transcript;

use report::{Report, Reports};
use spec::{Spec, VmSpec};

/// Exit status of a mistake in what the person wrote; clap's own as well.
const USAGE: u8 = 2;

/// Mezzanine's host tool: starts machines, packs bundles, reads backtraces.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start a machine with guests and land in their console
    Run(run::RunArgs),
    /// Pack the guests of a configuration into a bundle for Mezzanine's initrd
    Pack(PackArgs),
    /// Add names and lines to the image+0x... addresses of a transcript
    Symbolize(symbolize::SymbolizeArgs),
}

/// Guests: a configuration, or one described by options.
#[derive(Args)]
struct Guests {
    /// Configuration with one or more guests (docs/config.md)
    #[arg(value_name = "CONFIG.toml", required_unless_present = "kernel", conflicts_with_all = ["kernel", "initrd", "cmdline", "vcpus", "memory", "name"])]
    config: Option<PathBuf>,
    /// The guest's kernel: a Linux Image, plain or gzip, or a flat binary
    #[arg(long, value_name = "IMAGE")]
    kernel: Option<PathBuf>,
    /// The guest's initial RAM disk
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// The guest kernel's command line
    #[arg(long, value_name = "TEXT", requires = "kernel", allow_hyphen_values = true)]
    cmdline: Option<String>,
    /// The guest's virtual CPUs [default: 1]
    #[arg(long, value_name = "N", requires = "kernel")]
    vcpus: Option<u32>,
    /// The guest's memory, for instance 256M or 1G [default: 256M]
    #[arg(long, value_name = "SIZE", requires = "kernel", value_parser = size::parse)]
    memory: Option<u64>,
    /// The guest's name [default: guest]
    #[arg(long, value_name = "NAME", requires = "kernel")]
    name: Option<String>,
}

impl Guests {
    /// Reads the configuration, or makes one of the options.
    fn spec(&self) -> Result<Spec, Reports> {
        if let Some(path) = &self.config {
            return toml_config::read(path);
        }
        let vm = VmSpec {
            name: self.name.clone().unwrap_or_else(|| "guest".into()),
            kernel: self.kernel.clone().unwrap_or_default(),
            initrd: self.initrd.clone(),
            cmdline: self.cmdline.clone().unwrap_or_default(),
            memory: self.memory.unwrap_or(spec::DEFAULT_MEMORY),
            vcpus: self.vcpus.unwrap_or(1),
            gic: 3,
            spans: Default::default(),
        };
        let spec = Spec { vms: vec![vm], ..Spec::default() };
        Reports::check(spec.check())?;
        Ok(spec)
    }
}

#[derive(Args)]
struct PackArgs {
    #[command(flatten)]
    guests: Guests,
    /// Where the bundle goes
    #[arg(short, long, value_name = "BUNDLE")]
    output: PathBuf,
}

fn pack(args: &PackArgs) -> Result<ExitCode, Reports> {
    let bundle = bundle_out::pack(&args.guests.spec()?)?;
    std::fs::write(&args.output, bundle).map_err(|error| {
        Report::new("E0505", format!("{} cannot be written: {error}", args.output.display()))
            .help("choose a path in a directory that you may write to")
    })?;
    Ok(ExitCode::SUCCESS)
}

fn main() -> ExitCode {
    if let Some(status) = qemu::exec_when_asked() {
        return status;
    }
    let done = match Cli::parse().verb {
        Verb::Run(args) => run::run(&args),
        Verb::Pack(args) => pack(&args),
        Verb::Symbolize(args) => symbolize::symbolize(&args),
    };
    done.unwrap_or_else(|reports| {
        reports.show();
        ExitCode::from(USAGE)
    })
}
