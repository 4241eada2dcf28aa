//! The power key: each kernel finds it, and the initrd shuts down by it.

use libtest_mimic::{Completion, Failed, Trial};

use crate::matrix::{KERNELS, Kernel};
use crate::run::{Run, tail, target_dir};
use crate::session;
use crate::{GUEST, Guest, judge};

/// The shell's prompt.
const PROMPT: &str = "alpha:/# ";

/// What Mezzanine says of a press.
const PRESSED: &str = "vm guest: power key pressed, to shut it down";

/// Debian's cloud kernels have no driver for keys on GPIO lines: CONFIG_KEYBOARD_GPIO is not set.
fn has_driver(kernel: &Kernel) -> bool {
    !kernel.name.ends_with("cloud")
}

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |kernel: &'static Kernel| {
        Trial::ignorable_test(format!("power::{}", kernel.name), move || {
            let folder = target_dir().join("guests").join(kernel.folder());
            if !folder.join("Image").exists()
                && let Ok(why) = std::fs::read_to_string(folder.join("absent"))
            {
                return Ok(Completion::ignored_with(why.trim().to_owned()));
            }
            pressed(kernel).map(|()| Completion::Completed)
        })
    };
    KERNELS.iter().map(trial).collect()
}

/// The key is found, waited for, and pressed by Ctrl-G s; the guest goes down in order.
fn pressed(kernel: &Kernel) -> Result<(), Failed> {
    // Two CPUs: the one that takes the key need not be the guest's. Neoverse N1 has all kernels' pages.
    let guest = Guest { cpu: "neoverse-n1", kernel: kernel.image, more: &["--cpus", "2"], ..GUEST };
    let mut run = Run::mezz(&guest.arguments(session::CMDLINE)?)?;
    run.wait_for("This is alpha, a guest of Mezzanine")?;
    run.wait_for(PROMPT)?;
    run.type_keys(
        "ls -1 /sys/bus/amba/drivers/pl061_gpio; cat /proc/bus/input/devices; echo end $((1+1))\r",
    )?;
    run.wait_for("\n9030000.pl061\r\n")?;
    if !has_driver(kernel) {
        run.wait_for("\nend 2\r\n")?;
        run.wait_for(PROMPT)?;
        run.type_keys("\u{7}s")?;
        // It does not notice, and goes on.
        run.wait_for(PRESSED)?;
        run.type_keys("sleep 1; echo still $((1+1))\r")?;
        run.wait_for("\nstill 2\r\n")?;
        run.wait_for(PROMPT)?;
        return Ok(judge::no_complaints(&session::power_off(run)?)?);
    }
    run.wait_for("\nN: Name=\"gpio-keys\"\r\n")?;
    run.wait_for("\nend 2\r\n")?;
    run.wait_for(PROMPT)?;
    run.type_keys(
        "grep 'GPIO Key Poweroff' /proc/interrupts; pidof acpid >/dev/null && echo waited $((1+1))\r",
    )?;
    run.wait_for("9030000.pl061")?;
    run.wait_for("\nwaited 2\r\n")?;
    run.wait_for(PROMPT)?;
    run.type_keys("\u{7}s")?;
    let transcript = run.finish()?;
    // Mezzanine's own lines wait for the end of the guest's, so that their order is not given.
    for line in [PRESSED, "power key: shutting down", "reboot: Power down", "vm guest: powered off"] {
        if !transcript.contains(line) {
            return Err(format!("nobody says {line:?}\n{}", tail(&transcript)).into());
        }
    }
    Ok(judge::no_complaints(&transcript)?)
}
