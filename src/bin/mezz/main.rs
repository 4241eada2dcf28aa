//! `mezz`, the host tool: starts machines, packs bundles, reads backtraces.
//!
//! Exit statuses are part of its manual (docs/mezz.md): 0 when all guests powered off, 1 when the run failed,
//! 2 for a mistake in options or a configuration, 124 after `--timeout`, 128 + N after signal N.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod cpu;
mod guests;
mod options;
mod qemu;
mod report;
mod run;
mod size;
mod spec;
mod symbolize;
mod terminal;
mod toml_config;
mod transcript;

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
    Pack(guests::PackArgs),
    /// Write the device tree that Mezzanine gives a guest, to boot the same guest without it
    Tree(guests::TreeArgs),
    /// Add names and lines to the image+0x... addresses of a transcript
    Symbolize(symbolize::SymbolizeArgs),
}

fn main() -> ExitCode {
    if let Some(status) = qemu::exec_when_asked() {
        return status;
    }
    let done = match Cli::parse().verb {
        Verb::Run(args) => run::run(&args),
        Verb::Pack(args) => guests::pack(&args),
        Verb::Tree(args) => guests::tree(&args),
        Verb::Symbolize(args) => symbolize::symbolize(&args),
    };
    done.unwrap_or_else(|reports| {
        reports.show();
        ExitCode::from(USAGE)
    })
}
