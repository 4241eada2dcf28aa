//! A guest that starts from firmware: U-Boot's prompt, and the kernel that lies in memory, started by typing.

use std::fs;
use std::path::Path;

use libtest_mimic::{Completion, Failed, Trial};

use crate::GUEST;
use crate::run::{PATIENCE, Run, artifact, target_dir};
use crate::session;

/// U-Boot's prompt.
const PROMPT: &str = "\r\n=> ";

/// What U-Boot or Mezzanine says when the machine is not what the firmware was made for.
const COMPLAINTS: [&str; 6] =
    ["Synchronous Abort", "\"Error\" handler", "ERROR", "initcall", "Bad Linux", "### Please RESET"];

pub(crate) fn trials() -> Vec<Trial> {
    let plain = Trial::ignorable_test("firmware::u_boot", || u_boot("debian-6.1/Image"));
    let gzip = Trial::ignorable_test("firmware::u_boot (gzip kernel)", || u_boot("debian-6.1/Image.gz"));
    vec![plain, gzip]
}

/// Where the kernel lies: docs/guest-memory-map.md.
const KERNEL: u64 = 0x4020_0000;

/// Where the initrd has to lie, behind what the kernel's header asks for, and how many bytes it has.
fn initrd_place(initrd: &Path) -> Result<(u64, u64), String> {
    let read = |path: &Path| fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let image = read(&artifact("guests/debian-6.1/Image", "guests")?)?;
    let size = image.get(16..24).and_then(|field| field.try_into().ok()).map_or(0, u64::from_le_bytes);
    Ok(((KERNEL + size).next_multiple_of(2 << 20), read(initrd)?.len() as u64))
}

/// Starts U-Boot, looks at its machine, boots the kernel that lies in memory to its shell, and powers off.
fn u_boot(kernel: &'static str) -> Result<Completion, Failed> {
    let folder = target_dir().join("guests/u-boot");
    if !folder.join("u-boot.bin").exists()
        && let Ok(why) = fs::read_to_string(folder.join("absent"))
    {
        return Ok(Completion::ignored_with(why.trim().to_owned()));
    }
    let firmware = artifact("guests/u-boot/u-boot.bin", "kernels")?;
    let (kernel, initrd) = crate::Guest { kernel, ..GUEST }.files()?;
    let (start, size) = initrd_place(&initrd)?;
    let text = format!(
        "[vm.alpha]\nfirmware = '{}'\nkernel = '{}'\ninitrd = '{}'\ncmdline = '{}'\nmemory = '{}'\n",
        firmware.display(),
        kernel.display(),
        initrd.display(),
        session::CMDLINE,
        GUEST.memory,
    );
    let config = folder.join(if kernel.extension().is_some() { "gzip.toml" } else { "plain.toml" });
    fs::write(&config, text).map_err(|error| format!("{}: {error}", config.display()))?;
    let mut run =
        Run::mezz(&[config.into_os_string(), "--timeout".into(), PATIENCE.as_secs().to_string().into()])?;

    run.wait_for("DRAM:  256 MiB")?;
    run.wait_for("bad CRC, using default environment")?;
    run.wait_for("Hit any key to stop autoboot:")?;
    run.type_keys("\r")?;
    run.wait_for(PROMPT)?;
    // Erased flash at the end of the first bank and the start of the second.
    run.type_keys("md.b 3ffffff 2\r")?;
    run.wait_for("\n03ffffff: ff ff ")?;
    run.wait_for(PROMPT)?;
    // Where the initrd lies, the tree at the start of RAM says.
    run.type_keys("fdt addr $fdt_addr\r")?;
    run.wait_for("Working FDT set to 40000000")?;
    run.wait_for(PROMPT)?;
    for (property, value) in [("start", start), ("end", start + size)] {
        run.type_keys(&format!("fdt print /chosen linux,initrd-{property}\r"))?;
        run.wait_for(&format!("\nlinux,initrd-{property} = <0x00000000 {value:#010x}>"))?;
        run.wait_for(PROMPT)?;
    }
    run.type_keys(&format!("booti {KERNEL:x} {start:x}:{size:x} $fdt_addr\r"))?;
    run.wait_for("Starting kernel ...")?;
    session::typing(&mut run)?;
    let transcript = session::power_off(run)?;
    match transcript.lines().find(|line| COMPLAINTS.iter().any(|complaint| line.contains(complaint))) {
        Some(line) => Err(format!("U-Boot complains: {line:?}").into()),
        None => Ok(Completion::Completed),
    }
}
