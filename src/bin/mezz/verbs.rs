//! Verbs that a running machine carries out: each is a line of the shell's language, sent as a record.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::broker::home;
use crate::link::Link;
use crate::record::harmless;
use crate::report::{Report, Reports};
use crate::table;

/// Which machine.
#[derive(Args, Clone)]
pub(crate) struct On {
    /// The machine, when several run
    #[arg(long, value_name = "NAME")]
    pub(crate) on: Option<String>,
}

/// How an answer is shown.
#[derive(Args)]
pub(crate) struct Show {
    #[command(flatten)]
    on: On,
    /// Print JSON, on one line
    #[arg(long)]
    json: bool,
}

/// A verb about a VM.
#[derive(Args)]
pub(crate) struct OfVm {
    /// Its name or number
    #[arg(value_name = "VM")]
    vm: String,
    #[command(flatten)]
    show: Show,
}

/// Options of `mezz create`.
#[derive(Args)]
pub(crate) struct CreateArgs {
    /// The new VM's name
    #[arg(value_name = "NAME")]
    name: String,
    /// from=VM, memory=SIZE, vcpus=N, kernel=FILE, initrd=FILE, cmdline=TEXT, and start
    #[arg(value_name = "KEY=VALUE")]
    words: Vec<String>,
    #[command(flatten)]
    show: Show,
}

/// Options of `mezz top`.
#[derive(Args)]
pub(crate) struct TopArgs {
    /// Print the figures once
    #[arg(long, required = true)]
    once: bool,
    #[command(flatten)]
    show: Show,
}

/// Options of `mezz shell`.
#[derive(Args)]
pub(crate) struct ShellArgs {
    /// A line of the shell's, such as: vm list
    #[arg(value_name = "WORD", required = true)]
    words: Vec<String>,
    #[command(flatten)]
    show: Show,
}

/// What a running machine does.
#[derive(Subcommand)]
pub(crate) enum Remote {
    /// List the VMs of a running machine
    Ps(Show),
    /// Show what each vCPU does
    Top(TopArgs),
    /// Say everything about a VM
    Info(OfVm),
    /// Make a VM
    Create(CreateArgs),
    /// Start a VM that was made or has stopped
    Start(OfVm),
    /// Let a VM's time stand still
    Pause(OfVm),
    /// Let a paused VM go on
    Resume(OfVm),
    /// Start a VM anew, whatever it is doing
    Reset(OfVm),
    /// Press a VM's power key
    Shutdown(OfVm),
    /// End a VM by force
    Stop(OfVm),
    /// Remove a VM, and give back what it has
    Destroy(OfVm),
    /// Print what a VM's console said last
    Log(OfVm),
    /// Print the registers of a VM's vCPUs
    Regs(OfVm),
    /// Say where the machine's memory is
    Mem(Show),
    /// Say what each CPU does
    Cpu(Show),
    /// List the machine's interrupts
    Irq(Show),
    /// List the timers that are set
    Timers(Show),
    /// Print Mezzanine's own log
    Dmesg(Show),
    /// Run any line of Mezzanine's shell
    Shell(ShellArgs),
    /// Start the machine anew
    Reboot(Show),
    /// Turn the machine off
    Poweroff(Show),
    /// List the machines that run
    Machines,
    /// End a machine's broker, and QEMU with it
    Quit(On),
}

/// Whether a command answers in JSON on demand, and so in a table here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Json,
    Text,
}

/// The verb.
pub(crate) fn run(remote: &Remote) -> Result<ExitCode, Reports> {
    let on_vm = |command: &str, of: &OfVm, answer| {
        of.show.send(&[command.to_owned(), quoted(&of.vm)?].join(" "), answer)
    };
    match remote {
        Remote::Ps(show) => show.send("vm list", Answer::Json),
        Remote::Top(top) => top.show.send("top --once", Answer::Json),
        Remote::Info(of) => on_vm("vm info", of, Answer::Json),
        Remote::Create(create) => {
            let words = create.words.iter().map(|word| quoted(word)).collect::<Result<Vec<_>, _>>()?;
            let line = [vec!["vm create".to_owned(), quoted(&create.name)?], words].concat().join(" ");
            create.show.send(&line, Answer::Text)
        }
        Remote::Start(of) => on_vm("vm start", of, Answer::Text),
        Remote::Pause(of) => on_vm("vm pause", of, Answer::Text),
        Remote::Resume(of) => on_vm("vm resume", of, Answer::Text),
        Remote::Reset(of) => on_vm("vm reset", of, Answer::Text),
        Remote::Shutdown(of) => on_vm("vm shutdown", of, Answer::Text),
        Remote::Stop(of) => on_vm("vm stop", of, Answer::Text),
        Remote::Destroy(of) => on_vm("vm destroy", of, Answer::Text),
        Remote::Log(of) => on_vm("vm log", of, Answer::Text),
        Remote::Regs(of) => on_vm("vm regs", of, Answer::Text),
        Remote::Mem(show) => show.send("mem", Answer::Json),
        Remote::Cpu(show) => show.send("cpu", Answer::Json),
        Remote::Irq(show) => show.send("irq", Answer::Json),
        Remote::Timers(show) => show.send("timers", Answer::Json),
        Remote::Dmesg(show) => show.send("dmesg", Answer::Text),
        Remote::Shell(shell) => {
            let words = shell.words.iter().map(|word| quoted(word)).collect::<Result<Vec<_>, _>>()?;
            shell.show.send(&words.join(" "), Answer::Text)
        }
        Remote::Reboot(show) => show.send("reboot", Answer::Text),
        Remote::Poweroff(show) => show.send("poweroff", Answer::Text),
        Remote::Machines => machines(),
        Remote::Quit(on) => quit(on),
    }
    .map_err(Reports::from)
}

impl Show {
    fn send(&self, line: &str, answer: Answer) -> Result<ExitCode, Report> {
        let json = self.json || answer == Answer::Json;
        let line = if json { format!("{line} --json") } else { line.to_owned() };
        let mut out = Link::open(self.on.on.as_deref())?.run(&line)?;
        if json && let Value::String(text) = &out {
            out = serde_json::from_str(text).map_err(|error| {
                Report::new("E0536", format!("the answer to `{line}` is not JSON: {error}"))
                    .help("without --json there may be more to read; `mezz shell version` names Mezzanine's version")
            })?;
        }
        let text = if self.json { format!("{out}\n") } else { table::shown(&out) };
        // Somebody may have had enough of it.
        let _ = std::io::stdout().write_all(text.as_bytes());
        Ok(ExitCode::SUCCESS)
    }
}

/// A word of the shell's language: with blanks in it, it or the value behind its `=` stands in quotes.
fn quoted(word: &str) -> Result<String, Report> {
    let refused = |why: &str| {
        Err(Report::new("E0533", format!("`{}` cannot be said to Mezzanine: it has {why}", harmless(word)))
            .help("a command is one line, and a word in it may have blanks, or quotes of one kind"))
    };
    if word.chars().any(char::is_control) {
        return refused("control characters");
    }
    if !word.is_empty() && !word.contains([' ', '"', '\'']) {
        return Ok(word.to_owned());
    }
    let is_key =
        |key: &&(&str, &str)| !key.0.is_empty() && key.0.bytes().all(|byte| byte.is_ascii_lowercase());
    let (key, text) =
        word.split_once('=').as_ref().filter(is_key).map_or(("", word), |(key, text)| (*key, *text));
    let equals = if key.is_empty() { "" } else { "=" };
    match (text.contains('"'), text.contains('\'')) {
        (false, _) => Ok(format!("{key}{equals}\"{text}\"")),
        (true, false) => Ok(format!("{key}{equals}'{text}'")),
        (true, true) => refused("quotes of both kinds"),
    }
}

fn machines() -> Result<ExitCode, Report> {
    let mut rows = Vec::new();
    for name in home::running()? {
        // One that ends meanwhile is no longer one.
        if let Ok(status) =
            Link::open(Some(&name)).and_then(|mut link| link.ask(&json!({ "status": true }), "status"))
        {
            rows.push(status);
        }
    }
    print!("{}", table::shown(&Value::Array(rows)));
    Ok(ExitCode::SUCCESS)
}

fn quit(on: &On) -> Result<ExitCode, Report> {
    let mut link = Link::open(on.on.as_deref())?;
    link.send(&json!({ "quit": true }))?;
    // Its end is the answer.
    while let Ok(Some(_)) = link.receive(None) {}
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_as_the_shell_reads_them() {
        for (word, line) in [
            ("alpha", "alpha"),
            ("memory=64M", "memory=64M"),
            ("cmdline=a=1 b", "cmdline=\"a=1 b\""),
            ("cmdline=say \"a\"", "cmdline='say \"a\"'"),
            ("my vm", "\"my vm\""),
            ("", "\"\""),
        ] {
            assert_eq!(quoted(word).unwrap(), line);
        }
        assert!(quoted("a\"b'").is_err());
        assert!(quoted("a\nvm stop b").is_err());
    }
}
