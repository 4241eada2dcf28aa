//! The shell at EL2, typed at as a person would.

use crate::guest::good;
use crate::run;
use crate::setup;
use libtest_mimic::{Failed, Trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        setup::trial("shell::leads two guests".into(), leads),
        setup::trial("shell::what is wrong is said".into(), wrong),
        setup::trial("shell::switches the machine off".into(), poweroff),
    ]
}

/// Two guests that wait to be typed at, with the shell shown.
fn at_the_shell() -> Result<run::Machine, Failed> {
    let echo = setup::guest("echo")?;
    let vm = |name| format!("[vm.{name}]\nkernel = {echo:?}\nmemory = \"32M\"\n");
    let file = run::Scratch::new("shell.toml", (vm("alpha") + &vm("beta")).as_bytes())?;
    let timeout = run::limit().as_secs().saturating_sub(10).to_string();
    let mut machine = run::mezz(&[&file.text(), "--timeout", &timeout])?;
    if !machine.wait_for("echo: ready", 1) {
        return machine.stop().failed("its guest does not get ready");
    }
    machine.send(b"\x070")?;
    if machine.wait_for("screen 0: Mezzanine's log", 1) {
        return Ok(machine);
    }
    machine.stop().failed("the shell's screen is not shown")
}

/// Types lines, each once what came before has been answered.
fn dialogue(machine: &mut run::Machine, lines: &[(&str, &str, usize)]) -> Result<bool, Failed> {
    for (line, answer, count) in lines {
        machine.send(format!("{line}\r").as_bytes())?;
        if !machine.wait_for(answer, *count) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn leads() -> Result<(), Failed> {
    let mut machine = at_the_shell()?;
    let answered = dialogue(
        &mut machine,
        &[
            ("vm list", "  beta  ", 1),
            ("vm list --json", "\"memory_bytes\"", 1),
            ("vm info beta", "vm beta (number 1): running", 1),
            // One that waits with its registers still in its CPU says that instead.
            ("vm regs beta", "vCPU 0: ", 2),
            ("help vm stop", "Stop a VM by force", 1),
            ("vm stop beta", "vm beta: stopped by force", 1),
            ("vm list", "stopped by force", 2),
            ("vm console alpha", "screen 1: alpha", 1),
        ],
    )?;
    machine.send(b"3\nabc")?;
    let outcome = machine.finish();
    if !answered {
        return outcome.failed("a line was not answered");
    }
    good(&outcome, "echo")?;
    let json = outcome.text.lines().find(|line| line.starts_with("[{\"vm\"")).unwrap_or_default();
    let list: serde_json::Value = serde_json::from_str(json)?;
    if list[1]["name"] != "beta" || list[1]["memory_bytes"] != 32 << 20 || list[0]["state"] != "running" {
        return outcome.failed("the list in JSON is another one");
    }
    outcome.says("vm alpha: powered off")
}

/// Bad lines change nothing: the guests are there as before.
fn wrong() -> Result<(), Failed> {
    let mut machine = at_the_shell()?;
    let long = "x".repeat(10_000);
    let answered = dialogue(
        &mut machine,
        &[
            ("vm lsit", "E0603 ", 1),
            ("vm info gamma", "E0609 there is no VM \"gamma\"", 1),
            ("vm stop 9", "E0609 there is no VM 9", 1),
            (&long, "E0601 ", 1),
            ("\x1b[99;99Z\u{fffd}\x7f\x7f\x7f\x7f\x7f\x7f\x15version", "Mezzanine ", 2),
            ("vm list", "running", 4),
        ],
    )?;
    machine.send(b"\xff\xfe\x80 \x15vm console 0\r")?;
    let back = machine.wait_for("screen 1: alpha", 1);
    machine.send(b"3\nabc\x072")?;
    let second = machine.wait_for("screen 2: beta", 1);
    machine.send(b"3\nabc")?;
    let outcome = machine.finish();
    if !answered || !back || !second {
        return outcome.failed("a line was not answered");
    }
    good(&outcome, "echo")
}

fn poweroff() -> Result<(), Failed> {
    let mut machine = at_the_shell()?;
    machine.send(b"poweroff\r")?;
    let outcome = machine.finish();
    outcome.no_panic()?;
    outcome.says("vm alpha: stopped by force")?;
    outcome.says("vm beta: stopped by force")?;
    outcome.says("] halt: ok")
}
