//! `mezz`, the host tool: starts machines, checks and packs guests, explains what is wrong.
//!
//! Exit statuses are part of its manual (docs/mezz.md): 0 when all went well, 1 when the run or the check failed,
//! 2 for a mistake in options or a configuration, 124 after `--timeout`, 128 + N after signal N.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod check;
mod cpu;
mod dts;
mod dump;
mod explain;
mod guests;
mod host;
mod input;
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
mod whole;

/// Exit status of a mistake in what the person wrote; clap's own as well.
const USAGE: u8 = 2;

/// Mezzanine's host tool: starts machines, checks and packs guests, explains what is wrong.
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
    /// Find everything that is wrong with a configuration, a bundle or a machine's device tree
    Check(check::CheckArgs),
    /// Say what an error code means and how to get rid of it
    Explain(explain::ExplainArgs),
    /// Print a configuration or a bundle as TOML, with all defaults filled in
    Dump(dump::DumpArgs),
    /// Show the device tree that Mezzanine gives a guest
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
        Verb::Check(args) => check::check(&args),
        Verb::Explain(args) => explain::explain(&args),
        Verb::Dump(args) => dump::dump(&args),
        Verb::Tree(args) => guests::tree(&args),
        Verb::Symbolize(args) => symbolize::symbolize(&args),
    };
    done.unwrap_or_else(|reports| {
        reports.show();
        ExitCode::from(USAGE)
    })
}
