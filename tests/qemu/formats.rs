//! One micro guest in every format that a kernel or firmware may have.

use crate::guest::good;
use crate::run::{self, Outcome, Scratch};
use crate::setup;
use libtest_mimic::{Failed, Trial};
use std::fmt::Write;
use std::process::{Command, Stdio};

/// Guest RAM.
const RAM: u64 = 0x4000_0000;

/// A guest's file as it was built, and what becomes of it.
type Make = fn(&[u8]) -> Result<Vec<u8>, Failed>;

pub(crate) fn trials() -> Vec<Trial> {
    let formats: [(&'static str, Make, u64); 4] = [
        ("Image", |image| Ok(image.to_vec()), RAM + 0x20_0000),
        ("gzip", gzip, RAM + 0x20_0000),
        ("flat", |image| Ok(flat(image)), RAM + 0x8_0000),
        ("ELF", |image| Ok(elf(image)), ELF_AT),
    ];
    let mut trials = Vec::new();
    for (name, make, at) in formats {
        trials.push(setup::trial(format!("formats::{name}"), move || {
            let outcome = start("hello", "kernel", make)?;
            good(&outcome, "hello")?;
            outcome.says(&format!("hello: running at EL1 from {at:#x}"))
        }));
    }
    // The tree in x0, the registers at entry, what is zero: all that booting.rst asks for holds for these too.
    trials.push(setup::trial("formats::flat, as it begins".into(), || {
        good(&start("registers", "kernel", |image| Ok(flat(image)))?, "registers")
    }));
    trials.push(setup::trial("formats::ELF, as it begins".into(), || {
        good(&start("registers", "kernel", |image| Ok(elf(image)))?, "registers")
    }));
    trials.push(setup::trial("formats::firmware".into(), || {
        let outcome = start("rom", "firmware", |image| Ok(flat(image)))?;
        good(&outcome, "rom")?;
        outcome.says("vm alpha: powered off")
    }));
    trials.push(setup::trial("formats::firmware, with a kernel beside it".into(), beside));
    trials
}

/// Runs a guest's file as this key of a configuration.
fn start(guest: &str, key: &str, make: Make) -> Result<Outcome, Failed> {
    let image = std::fs::read(setup::guest(guest)?).map_err(|error| format!("{guest}: {error}"))?;
    let file = Scratch::new(&format!("format {guest} {key} {:p}", make), &make(&image)?)?;
    run(&format!("{key} = {:?}\n", file.path()))
}

fn run(files: &str) -> Result<Outcome, Failed> {
    static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let n = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut toml = String::from("[vm.alpha]\nmemory = \"64M\"\n");
    write!(toml, "{files}").map_err(|error| error.to_string())?;
    let config = Scratch::new(&format!("format-{n}.toml"), toml.as_bytes())?;
    let timeout = run::limit().as_secs().saturating_sub(10).to_string();
    Ok(run::mezz(&[&config.text(), "--timeout", &timeout])?.finish())
}

/// Firmware starts though there is a kernel; the kernel and the initrd lie where they would without it.
fn beside() -> Result<(), Failed> {
    let read = |guest| std::fs::read(setup::guest(guest)?).map_err(|error| Failed::from(error.to_string()));
    let rom = Scratch::new("format rom beside", &flat(&read("rom")?))?;
    let kernel = Scratch::new("format kernel beside", &read("hello")?)?;
    let files = format!("firmware = {:?}\nkernel = {:?}\n", rom.path(), kernel.path());
    let outcome = run(&files)?;
    good(&outcome, "rom")?;
    if outcome.text.contains("hello: ") {
        return outcome.failed("the kernel was started, not the firmware");
    }
    Ok(())
}

/// The same code without the header's magic number: nothing says what it is.
fn flat(image: &[u8]) -> Vec<u8> {
    let mut flat = image.to_vec();
    flat[56..60].fill(0);
    flat
}

fn gzip(image: &[u8]) -> Result<Vec<u8>, Failed> {
    let failed = |error: std::io::Error| Failed::from(format!("gzip: {error}"));
    let plain = Scratch::new("format to be packed", image)?;
    let input = std::fs::File::open(plain.path()).map_err(failed)?;
    let done =
        Command::new("gzip").arg("-9nc").stdin(input).stdout(Stdio::piped()).output().map_err(failed)?;
    Ok(done.stdout)
}

/// Where the ELF file's segments begin.
const ELF_AT: u64 = RAM + 0x100_0000;

/// An ELF file of two segments, the second of which has the rest of the image and its .bss; linked for addresses that
/// are not those in memory.
fn elf(image: &[u8]) -> Vec<u8> {
    const LINKED: u64 = 0xffff_0000_0000_0000;
    const FIRST: usize = 0x1000;
    const PAGE: u64 = 0x1000;
    let size = image[16..24].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
    let mut file = vec![0u8; 64];
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[16..20].copy_from_slice(&[2, 0, 183, 0]);
    file[24..32].copy_from_slice(&LINKED.to_le_bytes());
    file[32] = 64;
    file[54..57].copy_from_slice(&[56, 0, 2]);
    let data = 0x1000u64;
    for (start, end, memory) in [(0, FIRST, FIRST as u64), (FIRST, image.len(), size)] {
        let start = start as u64;
        // Type, flags; offset, address linked for, address in memory, size in the file and in memory, alignment.
        file.extend([1u32, 7].iter().flat_map(|word| word.to_le_bytes()));
        let words = [data + start, LINKED + start, ELF_AT + start, end as u64 - start, memory - start, PAGE];
        file.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }
    file.resize(data as usize, 0);
    file.extend(image);
    file
}
