//! Bundles, taken apart and put together again with something wrong in them.
//!
//! A reader and writer of newc archives (cpio(5)) of the tests' own, so that a mistake in Mezzanine's reader
//! is not a mistake in what judges it.

use crate::run::Scratch;
use crate::setup;
use libtest_mimic::Failed;
use std::process::Command;

/// One member of an archive.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) data: Vec<u8>,
}

/// Bytes of a member's header: magic and thirteen fields of eight hexadecimal digits.
const HEADER: usize = 110;

fn field(archive: &[u8], at: usize, n: usize) -> Option<usize> {
    let text = archive.get(at + 6 + 8 * n..at + 14 + 8 * n)?;
    usize::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

/// The members of a sound archive.
pub(crate) fn read(archive: &[u8]) -> Option<Vec<File>> {
    let (mut files, mut at) = (Vec::new(), 0);
    loop {
        let (size, name_size) = (field(archive, at, 6)?, field(archive, at, 11)?);
        let name = archive.get(at + HEADER..at + HEADER + name_size)?.split(|&b| b == 0).next()?;
        let name = String::from_utf8(name.to_vec()).ok()?;
        let start = (at + HEADER + name_size).next_multiple_of(4);
        let data = archive.get(start..start + size)?.to_vec();
        if name == "TRAILER!!!" {
            return Some(files);
        }
        files.push(File { name, data });
        at = (start + size).next_multiple_of(4);
    }
}

/// An archive of these members.
pub(crate) fn write(files: &[File]) -> Vec<u8> {
    let trailer = File { name: "TRAILER!!!".into(), data: Vec::new() };
    let mut archive = Vec::new();
    for (n, file) in files.iter().chain([&trailer]).enumerate() {
        let mode = if file.name == trailer.name { 0 } else { 0o100_644 };
        let fields = [n, mode, 0, 0, 1, 0, file.data.len(), 0, 0, 0, 0, file.name.len() + 1, 0];
        archive.extend_from_slice(b"070701");
        for field in fields {
            archive.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        archive.extend_from_slice(file.name.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(&file.data);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    archive
}

/// A bundle with one VM, as `mezz pack` makes it.
pub(crate) fn packed(guest: &str, initrd: Option<&[u8]>, memory: &str) -> Result<Vec<u8>, Failed> {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let output = Scratch::new(&format!("bundle-{n}"), b"")?;
    let initrd = initrd.map(|bytes| Scratch::new(&format!("initrd-{n}"), bytes)).transpose()?;
    let kernel = setup::guest(guest)?;
    let mut command = Command::new(setup::built("mezz")?);
    command.arg("pack").arg("--kernel").arg(kernel).args(["--name", "alpha", "--memory", memory]);
    if let Some(initrd) = &initrd {
        command.arg("--initrd").arg(initrd.path());
    }
    let done =
        command.arg("-o").arg(output.path()).output().map_err(|error| format!("mezz pack: {error}"))?;
    if !done.status.success() {
        return Err(format!("mezz pack: {}", String::from_utf8_lossy(&done.stderr)).into());
    }
    std::fs::read(output.path()).map_err(|error| format!("the bundle: {error}").into())
}

/// The members of such a bundle: the tree is among them, and two others at most.
pub(crate) fn members(guest: &str, initrd: Option<&[u8]>, memory: &str) -> Result<Vec<File>, Failed> {
    read(&packed(guest, initrd, memory)?).ok_or_else(|| "mezz pack wrote no newc archive".into())
}
