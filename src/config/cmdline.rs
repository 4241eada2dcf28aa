//! A guest's command line: what Linux would not take, and consoles that are not there.

use super::{Findings, VmConfig};
use crate::problem;
use crate::problem::Problem;
use alloc::format;

/// Bytes of the longest command line that arm64 Linux takes, less its NUL (COMMAND_LINE_SIZE).
const MAX_CMDLINE: usize = 2047;

/// The one serial port of a guest, as Linux calls it: its PL011.
const SERIAL: &str = "ttyAMA0";

/// Checks the command line of a VM.
///
/// E0307 for one that Linux would cut or misread; as a warning E0308 for a console that the VM has no device for.
pub(super) fn check(vm: &VmConfig<'_>, found: &mut Findings) {
    if vm.kernel.is_none() && !vm.cmdline.is_empty() {
        found.error(problem!("E0434", ("{} cmdline", vm.place); ("for a kernel, and there is none");
            ("Leave it out: firmware takes no command line. Or give the kernel that it is to start")));
    }
    found.take(length(vm.cmdline, &format!("{} cmdline", vm.place)));
    if let Some(c) = vm.cmdline.chars().find(|c| c.is_control() && *c != '\t') {
        found.error(
            problem!("E0307", ("{} cmdline", vm.place); ("has the control character {:#04x}", c as u32);
            ("A command line is one line of text")),
        );
    }
    let mut consoles = consoles(vm.cmdline).peekable();
    while let Some(console) = consoles.next() {
        // "tty0" is the screen: always there for Linux, and a fine place for what is shown elsewhere too.
        let screen = console == "tty" || console == "tty0";
        if device_of(vm) == Some(console) || is_silence(console) || screen && consoles.peek().is_some() {
            continue;
        }
        let place = format_args!("{} cmdline", vm.place);
        found.warning(match device_of(vm) {
            Some(serial) => problem!("E0308", ("{place}");
                ("console={console}, and no device of this VM is called so");
                ("Its serial port is a PL011: write console={serial}, or nothing, since the tree names it")),
            None => problem!("E0308", ("{place}"); ("console={console}, and this VM has no serial port");
                ("Give it one with vpl011, or leave console= out")),
        });
    }
}

/// Whether a command line is short enough; `place` is where it stands.
///
/// # Errors
/// E0307 if it is not.
pub(super) fn length(line: &str, place: &str) -> Result<(), Problem> {
    if line.len() > MAX_CMDLINE {
        return Err(
            problem!("E0307", ("{place}"); ("{} bytes long", line.len()); ("Linux takes {MAX_CMDLINE} at most")),
        );
    }
    Ok(())
}

/// The VM's serial port as Linux calls it, if it has one.
fn device_of(vm: &VmConfig<'_>) -> Option<&'static str> {
    (!vm.without_uart).then_some(SERIAL)
}

/// Whether somebody wants no console at all (Linux, Documentation/admin-guide/kernel-parameters.txt, `console=`).
fn is_silence(console: &str) -> bool {
    matches!(console, "" | "null" | "ttynull")
}

/// The devices of all `console=`, without options after a comma; what follows `--` is not the kernel's.
pub(super) fn consoles(cmdline: &str) -> impl Iterator<Item = &str> {
    let words = cmdline.split_ascii_whitespace().take_while(|word| *word != "--");
    words.filter_map(|word| {
        let value = word.trim_start_matches('"').strip_prefix("console=")?;
        value.trim_matches('"').split(',').next()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn consoles_are_found_as_linux_does() {
        let of = |text| consoles(text).collect::<Vec<_>>();
        assert_eq!(of("quiet console=ttyAMA0,115200n8 console=tty0 x"), ["ttyAMA0", "tty0"]);
        assert_eq!(of("\"console=hvc0\" console=\"ttyS0\" -- console=x"), ["hvc0", "ttyS0"]);
        assert_eq!(of("netconsole=1 earlycon=pl011 consoleblank=0 root=console=1"), [""; 0]);
    }

    fn said(cmdline: &str, without_uart: bool) -> Vec<Problem> {
        let vm = VmConfig { kernel: Some(&[]), cmdline, without_uart, ..VmConfig::named("a") };
        let mut found = Findings::default();
        check(&vm, &mut found);
        assert_eq!(found.errors, []);
        found.warnings
    }

    #[test]
    fn a_console_without_a_device_is_a_warning() {
        for fine in
            ["", "quiet", "console=ttyAMA0", "console=tty0 console=ttyAMA0,9600", "console=", "console=null"]
        {
            assert_eq!(said(fine, false), [], "{fine}");
        }
        for wrong in ["ttyS0", "hvc0", "ttyAMA1", "tty0", "ttyAMA", "tty1"] {
            let found = said(&std::format!("quiet console={wrong},115200"), false);
            assert_eq!(found.len(), 1, "{wrong}");
            assert_eq!(
                found[0].to_string(),
                std::format!(
                    "E0308 vm.a cmdline: console={wrong}, and no device of this VM is called so. \
                     Its serial port is a PL011: write console=ttyAMA0, or nothing, since the tree names it."
                )
            );
        }
        assert_eq!(said("console=ttyS0 console=hvc0 console=tty0", false).len(), 3);
        let found = said("console=ttyAMA0", true);
        assert!(found[0].to_string().contains("no serial port"), "{found:?}");
    }
}
