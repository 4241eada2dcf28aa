//! The tool as people use it: the real binary, with a script in QEMU's place.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what it expects")]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

#[path = "mezz/check.rs"]
mod check;
#[path = "mezz/config.rs"]
mod config;
#[path = "mezz/documents.rs"]
mod documents;
#[path = "mezz/ending.rs"]
mod ending;
#[path = "mezz/files.rs"]
mod files;
#[path = "mezz/machine.rs"]
mod machine;
#[path = "mezz/real.rs"]
mod real;
#[path = "mezz/show.rs"]
mod show;
#[path = "mezz/symbolize.rs"]
mod symbolize;
#[path = "mezz/terminal.rs"]
mod terminal;

/// A directory with an image, a kernel, an initrd and a fake QEMU, and `mezz` run in it.
struct Bench {
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { directory: tempfile::tempdir().unwrap() };
        bench.file("target/mezzanine.img", "image");
        bench.kernel("Image");
        bench.file("initrd.gz", "070701");
        bench.qemu("echo '[mz    0.100000] halt: ok'");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// What passes for a kernel: the header of an arm64 Image of 6 MiB.
    fn kernel(&self, name: &str) {
        let mut image = vec![0; 4096];
        image[..2].copy_from_slice(b"MZ");
        image[16..24].copy_from_slice(&(6u64 << 20).to_le_bytes());
        image[56..60].copy_from_slice(b"ARM\x64");
        self.file(name, image);
    }

    /// What the fake QEMU does, in shell; its arguments are in the file `args`.
    fn qemu(&self, script: &str) {
        self.file("qemu", format!("#!/bin/sh\nprintf '%s\\n' \"$@\" > args\n{script}\n"));
        std::fs::set_permissions(self.path("qemu"), std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mezz"));
        command.args(args).current_dir(self.directory.path());
        command.env("MEZZ_QEMU", self.path("qemu")).env_remove("MEZZANINE_IMAGE");
        command.env("TMPDIR", self.directory.path());
        command
    }

    fn mezz(&self, args: &[&str]) -> Done {
        Done::of(self.command(args).stdin(Stdio::null()).output().unwrap())
    }

    fn with_input(&self, args: &[&str], input: &[u8]) -> Done {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        Done::of(child.wait_with_output().unwrap())
    }

    /// Bundles that were not removed.
    fn leftovers(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("mezz-")).collect()
    }
}

/// What a run of `mezz` left.
#[derive(Debug)]
struct Done {
    status: Option<i32>,
    out: String,
    err: String,
}

impl Done {
    fn of(output: Output) -> Self {
        Self {
            status: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    #[track_caller]
    fn status(self, expected: i32) -> Self {
        assert_eq!(self.status, Some(expected), "{self:?}");
        self
    }

    /// Each part is in what was written to standard error.
    #[track_caller]
    fn says(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.err.contains(part), "no `{part}` in:\n{}", self.err);
        }
        self
    }
}

/// Whether a program that a test needs is here; says so when it is not.
fn have(program: &str) -> bool {
    let found = std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .any(|directory| Path::new(&directory).join(program).is_file());
    if !found {
        // Not by `eprintln`, whose words the harness keeps to itself when a test passes.
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        let _ = writeln!(std::io::stderr(), "skipped: {test}: {program} is not installed");
    }
    found
}
