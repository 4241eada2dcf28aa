//! What the bench's guests are started from: bundles, and an addition to the Debian guest's initrd.

use std::fs;
use std::path::{Path, PathBuf};

use crate::qemu::{folder, target, text, tool};

/// The one VM of a bundle.
pub(crate) struct Vm<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initrd: Option<&'a Path>,
    pub(crate) cmdline: &'a str,
    pub(crate) memory: &'a str,
    /// Version of its GIC; `None`: the machine's.
    pub(crate) gic: Option<u8>,
}

/// Writes the VM's configuration; its path.
///
/// # Errors
/// A file that the VM needs is not there, or this one cannot be written.
pub(crate) fn config(name: &str, vm: &Vm<'_>) -> Result<PathBuf, String> {
    let mut toml =
        format!("[vm.bench]\nkernel = {:?}\nmemory = {:?}\nvcpus = 1\n", text(vm.kernel), vm.memory);
    if let Some(gic) = vm.gic {
        toml += &format!("gic = {gic}\n");
    }
    if let Some(initrd) = vm.initrd {
        toml += &format!("initrd = {:?}\n", text(initrd));
    }
    if !vm.cmdline.is_empty() {
        toml += &format!("cmdline = {:?}\n", vm.cmdline);
    }
    for file in [Some(vm.kernel), vm.initrd].into_iter().flatten() {
        if !file.is_file() {
            return Err(format!("{} is not there; 'make guests' makes it", file.display()));
        }
    }
    let path = folder().join(format!("{name}.toml"));
    fs::write(&path, toml).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path)
}

/// Packs the VM; the bundle's path.
///
/// # Errors
/// As [`config`], or `mezz pack` refuses it.
pub(crate) fn pack(name: &str, vm: &Vm<'_>) -> Result<PathBuf, String> {
    let config = config(name, vm)?;
    packed(name, &config)
}

/// Packs a configuration's VMs; the bundle's path.
///
/// # Errors
/// The configuration cannot be written, or `mezz pack` refuses it.
pub(crate) fn pack_toml(name: &str, toml: &str) -> Result<PathBuf, String> {
    let path = folder().join(format!("{name}.toml"));
    fs::write(&path, toml).map_err(|e| format!("{}: {e}", path.display()))?;
    packed(name, &path)
}

fn packed(name: &str, config: &Path) -> Result<PathBuf, String> {
    let bundle = folder().join(format!("{name}.bundle"));
    tool(&target().join("mezz"), &["pack", &text(config), "-o", &text(&bundle)])?;
    Ok(bundle)
}

/// A program for Linux that marks that it runs (hint #112, X0 = CNTVCT; hint #113, X0 = CNTFRQ) and exits.
const MARK: [u32; 7] = [
    0xd53b_e040, // mrs  x0, cntvct_el0
    0xd503_2e1f, // hint #112
    0xd53b_e000, // mrs  x0, cntfrq_el0
    0xd503_2e3f, // hint #113
    0xd280_0000, // mov  x0, #0
    0xd280_0ba8, // mov  x8, #93                exit
    0xd400_0001, // svc  #0
];

/// The program as an ELF file: its header, one segment that is all of the file, the code.
pub(crate) fn mark_program() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: u64 = 64 + 56;
    let code: Vec<u8> = MARK.iter().flat_map(|word| word.to_le_bytes()).collect();
    let size = HEADERS + code.len() as u64;
    let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |elf: &mut Vec<u8>, values: &[u16]| values.iter().for_each(|v| elf.extend(v.to_le_bytes()));
    let word = |elf: &mut Vec<u8>, values: &[u32]| values.iter().for_each(|v| elf.extend(v.to_le_bytes()));
    let long = |elf: &mut Vec<u8>, values: &[u64]| values.iter().for_each(|v| elf.extend(v.to_le_bytes()));
    half(&mut elf, &[2, 183]); //                   executable, AArch64
    word(&mut elf, &[1]);
    long(&mut elf, &[BASE + HEADERS, 64, 0]); //    entry, program headers, no section headers
    word(&mut elf, &[0]);
    half(&mut elf, &[64, 56, 1, 64, 0, 0]);
    word(&mut elf, &[1, 5]); //                     load, readable and executable
    long(&mut elf, &[0, BASE, BASE, size, size, 0x1000]);
    elf.extend(code);
    elf
}

/// One file of a newc archive (the kernel's Documentation/driver-api/early-userspace/buffer-format.rst).
pub(crate) fn newc(archive: &mut Vec<u8>, name: &str, mode: u32, data: &[u8]) {
    let fields = [0, mode, 0, 0, 1, 0, data.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    archive.extend(b"070701");
    archive.extend(fields.iter().flat_map(|field| format!("{field:08x}").into_bytes()));
    archive.extend(name.as_bytes());
    archive.push(0);
    archive.resize(archive.len().next_multiple_of(4), 0);
    archive.extend(data);
    archive.resize(archive.len().next_multiple_of(4), 0);
}

/// The Debian guest's initrd with a script that marks that the shell runs; the kernel reads several archives in a row.
///
/// # Errors
/// The initrd is not there, or this one cannot be written.
pub(crate) fn marked_initrd() -> Result<PathBuf, String> {
    let plain = target().join("guests/initrd.gz");
    let mut initrd =
        fs::read(&plain).map_err(|e| format!("{}: {e} ('make guests' makes it)", plain.display()))?;
    initrd.resize(initrd.len().next_multiple_of(4), 0);
    newc(&mut initrd, "bin/mark", 0o100_755, &mark_program());
    newc(&mut initrd, "scripts/bench", 0o100_644, b"/bin/mark\n");
    newc(&mut initrd, "TRAILER!!!", 0, &[]);
    let path = folder().join("initrd");
    fs::write(&path, initrd).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(path)
}
