//! What a kernel says without Mezzanine: the same guest on QEMU's `virt` alone, at EL1.
//!
//! Its log is kept in `target/guests/native`, by everything that it depends on, so that a kernel boots there
//! once and not in every run of the tests.

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::{fs, io};

use crate::Guest;
use crate::matrix::Boot;
use crate::run::{Run, target_dir};
use crate::{judge, log, session};

/// The log of this boot's kernel on the guest's machine made real; and the file that holds it.
pub(crate) fn log(boot: &Boot, guest: &Guest) -> Result<(String, PathBuf), String> {
    let (kernel, initrd) = guest.files()?;
    let line = command_line(boot, guest, &kernel, &initrd);
    let folder = target_dir().join("guests/native");
    let stem = format!("{}-{}-gicv{}-", boot.kernel.folder(), boot.model.cpu, boot.gics.guest);
    let key = key(&line, &[&kernel, &initrd]).map_err(|error| format!("no key for {stem}: {error}"))?;
    let path = folder.join(format!("{stem}{key:016x}.log"));
    if let Ok(text) = fs::read_to_string(&path) {
        return Ok((text, path));
    }
    let mut command = Command::new(program());
    command.args(&line);
    let text = Run::start(command)
        .and_then(session::whole)
        .and_then(|transcript| {
            judge::tour(&transcript, boot.model.part, 1)?;
            log::of_transcript(&transcript)
        })
        .map_err(|error| format!("on QEMU alone, without Mezzanine: {error}"))?;
    keep(&folder, &stem, &path, &text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((text, path))
}

/// QEMU's arguments: what Mezzanine shows the guest, as `virt` itself has it.
fn command_line(boot: &Boot, guest: &Guest, kernel: &Path, initrd: &Path) -> Vec<OsString> {
    let machine = format!("virt,gic-version={}", boot.gics.guest);
    let words = ["-M", &machine, "-cpu", boot.model.cpu, "-smp", "1", "-m", guest.memory];
    let mut line: Vec<OsString> = words.iter().map(OsString::from).collect();
    line.extend(["-nographic", "-nic", "none", "-no-reboot", "-kernel"].map(OsString::from));
    line.extend([kernel.into(), "-initrd".into(), initrd.into(), "-append".into()]);
    line.push(session::CMDLINE.into());
    line
}

/// Writes a log, whole or not at all, in place of those of other kernels and QEMUs.
fn keep(folder: &Path, stem: &str, path: &Path, text: &str) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(stem) {
            fs::remove_file(entry.path())?;
        }
    }
    let unfinished = path.with_extension("tmp");
    fs::write(&unfinished, text)?;
    fs::rename(unfinished, path)
}

/// A number for QEMU's version, its arguments without the files' places, and the files' content.
fn key(line: &[OsString], files: &[&PathBuf]) -> io::Result<u64> {
    let mut hasher = DefaultHasher::new();
    version()?.hash(&mut hasher);
    for word in line.iter().filter(|word| !files.iter().any(|file| file.as_os_str() == word.as_os_str())) {
        word.hash(&mut hasher);
    }
    for file in files {
        hasher.write(&fs::read(file)?);
    }
    Ok(hasher.finish())
}

/// The QEMU to use, as the tool chooses it.
fn program() -> OsString {
    std::env::var_os("MEZZ_QEMU").filter(|name| !name.is_empty()).unwrap_or("qemu-system-aarch64".into())
}

/// All that QEMU says about its version.
fn version() -> io::Result<&'static str> {
    static VERSION: OnceLock<String> = OnceLock::new();
    if let Some(version) = VERSION.get() {
        return Ok(version);
    }
    let output = Command::new(program()).arg("--version").output()?;
    Ok(VERSION.get_or_init(|| String::from_utf8_lossy(&output.stdout).into_owned()))
}
