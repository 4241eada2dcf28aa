//! QEMU's command line for a machine with guests, and how QEMU is started.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use mezzanine::config::Bytes;

use crate::host::{self, Host};
use crate::report::{Report, Reports};

/// Where RAM starts on `virt`.
pub(crate) const RAM_BASE: u64 = 0x4000_0000;

/// A machine that is decided.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The QEMU binary, by name or path.
    pub(crate) program: OsString,
    /// QEMU's CPU model.
    pub(crate) cpu: String,
    /// CPUs, RAM and GIC.
    pub(crate) host: Host,
    /// Mezzanine's own options.
    pub(crate) options: String,
    /// Mezzanine's image.
    pub(crate) image: PathBuf,
    /// A tree in place of QEMU's own.
    pub(crate) dtb: Option<PathBuf>,
    /// What the person adds.
    pub(crate) extra: Vec<String>,
}

/// How the guests get into the machine.
#[derive(Debug)]
pub(crate) enum Payload {
    /// As the initrd.
    Bundle(PathBuf),
    /// Each file at an address of its own.
    Modules(Vec<Module>),
}

/// One file for QEMU's `guest-loader`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// Where it goes.
    pub(crate) addr: u64,
    /// What it holds.
    pub(crate) file: PathBuf,
    /// A kernel's command line; None for a RAM disk.
    pub(crate) bootargs: Option<String>,
}

/// The binary: `MEZZ_QEMU`, for tests and for builds of one's own, else the one in the PATH.
pub(crate) fn program() -> OsString {
    std::env::var_os("MEZZ_QEMU").filter(|name| !name.is_empty()).unwrap_or("qemu-system-aarch64".into())
}

impl Machine {
    /// Program and arguments.
    pub(crate) fn command_line(&self, payload: &Payload) -> Vec<OsString> {
        let mut line: Vec<OsString> = vec![self.program.clone()];
        let mut add = |words: &[&str]| line.extend(words.iter().map(OsString::from));
        let board = format!("virt,virtualization=on,gic-version={}", host::number(self.host.gic));
        add(&["-M", &board, "-cpu", &self.cpu]);
        add(&["-smp", &self.host.cpus.to_string(), "-m", &Bytes(self.host.ram).to_string()]);
        // The serial port and QEMU's monitor share the terminal; `-serial stdio` alone would die of Ctrl-C.
        add(&["-nographic", "-nic", "none", "-no-reboot", "-kernel"]);
        line.push(self.image.clone().into());
        match payload {
            Payload::Bundle(path) => line.extend(["-initrd".into(), path.into()]),
            Payload::Modules(modules) => {
                line.extend(modules.iter().flat_map(|module| ["-device".into(), module.device()]));
            }
        }
        if let Some(dtb) = &self.dtb {
            line.extend(["-dtb".into(), dtb.into()]);
        }
        if !self.options.is_empty() {
            line.extend(["-append".into(), self.options.clone().into()]);
        }
        line.extend(self.extra.iter().map(OsString::from));
        line
    }
}

impl Module {
    fn device(&self) -> OsString {
        let kind = if self.bootargs.is_some() { "kernel" } else { "initrd" };
        let mut device = format!("guest-loader,addr={:#x},{kind}={}", self.addr, doubled(&self.file));
        if let Some(bootargs) = self.bootargs.as_ref().filter(|text| !text.is_empty()) {
            device.push_str(&format!(",bootargs={}", bootargs.replace(',', ",,")));
        }
        device.into()
    }
}

/// QEMU's way to write a comma within a value.
fn doubled(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

/// Refuses what must not or need not be said to QEMU directly.
pub(crate) fn check_argument(argument: &str) -> Result<(), Report> {
    let Some(option) = argument.strip_prefix('-') else { return Ok(()) };
    let option = option.strip_prefix('-').unwrap_or(option);
    let refuse = |why: &str| {
        Err(Report::new("E0511", format!("`--qemu-arg {argument}` is refused")).help(why.to_owned()))
    };
    if option.starts_with("semihosting") || option == "readconfig" {
        return refuse(
            "with semihosting, HLT 0xF000 in a guest's EL1 is served on this host: a guest could open, delete \
             and run things here, or fake the result of the run",
        );
    }
    let own = match option {
        "cpu" => "--cpu",
        "smp" => "--cpus",
        "m" => "--ram",
        "kernel" => "--image",
        "initrd" => "--kernel and --initrd, or a configuration",
        "dtb" => "--dtb",
        "append" => "--options for Mezzanine, or --cmdline for the guest",
        _ => return Ok(()),
    };
    refuse(&format!("mezz sets this itself: use {own}"))
}

/// A word as a shell reads it back.
pub(crate) fn quoted(word: &OsString) -> String {
    let text = word.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./,=:+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// First word of the command line with which [`command`] starts this program again.
const EXEC: &str = "exec-machine";
/// Exit status of a child that could not become QEMU; a shell's own for the same.
pub(crate) const NOT_STARTED: i32 = 127;

/// A process that becomes QEMU, with pipes for its input and output.
///
/// This program starts itself first, because a child has to ask for its own death with its parent, and what
/// `std` offers for that between fork and exec is unsafe. So no machine is left behind, even by SIGKILL.
pub(crate) fn command(line: &[OsString]) -> std::io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(EXEC).arg(std::process::id().to_string()).args(line);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    Ok(command)
}

/// In such a child: becomes QEMU, and returns only when that failed.
pub(crate) fn exec_when_asked() -> Option<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    if words.next()? != EXEC {
        return None;
    }
    let parent = words.next()?;
    let program = words.next()?;
    if !dies_with(&parent) {
        return Some(ExitCode::from(NOT_STARTED as u8));
    }
    let error = Command::new(&program).args(words).exec();
    let name = program.to_string_lossy().into_owned();
    let help = match error.kind() {
        std::io::ErrorKind::NotFound => {
            "install QEMU for 64-bit Arm (Debian: qemu-system-arm), or name it in MEZZ_QEMU"
        }
        _ => "MEZZ_QEMU must name a program that may be executed",
    };
    Reports::from(Report::new("E0512", format!("{name} does not start: {error}")).help(help)).show();
    Some(ExitCode::from(NOT_STARTED as u8))
}

/// Has this process killed when its parent ends; false when that has ended already.
#[cfg(target_os = "linux")]
fn dies_with(parent: &std::ffi::OsStr) -> bool {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::KILL)).is_ok()
        && getppid().is_some_and(|pid| *pid.as_raw_nonzero().to_string() == *parent)
}

/// Other systems cannot do that.
#[cfg(not(target_os = "linux"))]
fn dies_with(_: &std::ffi::OsStr) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use mezzanine::map::GicVersion;

    use super::*;

    fn machine() -> Machine {
        Machine {
            program: "qemu".into(),
            cpu: "max".into(),
            host: Host { cpus: 2, ram: 1 << 30, gic: GicVersion::V3 },
            dtb: None,
            options: String::new(),
            image: "m.img".into(),
            extra: vec!["-d".into(), "int".into()],
        }
    }

    #[test]
    fn the_machine_with_a_bundle() {
        let line = machine().command_line(&Payload::Bundle("b.cpio".into()));
        let text: Vec<String> = line.iter().map(quoted).collect();
        assert_eq!(
            text.join(" "),
            "qemu -M virt,virtualization=on,gic-version=3 -cpu max -smp 2 -m 1G -nographic -nic none \
             -no-reboot -kernel m.img -initrd b.cpio -d int"
        );
    }

    #[test]
    fn the_machine_with_modules_and_options() {
        let modules = vec![
            Module { addr: 0x4a00_0000, file: "a,b".into(), bootargs: Some("x=1,2 y".into()) },
            Module { addr: 0x4c00_0000, file: "rd".into(), bootargs: None },
        ];
        let machine = Machine { options: "loglevel=debug".into(), extra: Vec::new(), ..machine() };
        let line = machine.command_line(&Payload::Modules(modules));
        let text: Vec<String> = line.iter().map(quoted).collect();
        assert!(
            text.join(" ").ends_with(
                "-device 'guest-loader,addr=0x4a000000,kernel=a,,b,bootargs=x=1,,2 y' \
                 -device guest-loader,addr=0x4c000000,initrd=rd -append loglevel=debug"
            ),
            "{text:?}"
        );
    }

    #[test]
    fn arguments() {
        for bad in [
            "-semihosting",
            "--semihosting",
            "-semihosting-config",
            "-semihosting-config=enable=on",
            "-readconfig",
            "-cpu",
            "--kernel",
            "-m",
        ] {
            assert!(check_argument(bad).is_err(), "{bad}");
        }
        for good in ["-d", "-machine", "dtb-randomness=off", "-mem-prealloc", "-plugin", "semihosting.so"] {
            assert_eq!(check_argument(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn words_for_a_shell() {
        for (word, shell) in
            [("plain-1.2/x", "plain-1.2/x"), ("a b", "'a b'"), ("it's", "'it'\\''s'"), ("", "''")]
        {
            assert_eq!(quoted(&word.into()), shell);
        }
    }
}
