//! What is typed at a guest's prompt: the same with Mezzanine and without it.

use crate::run::Run;

/// The kernel's command line: the name in the prompt, and no kernel messages between what is typed.
pub(crate) const CMDLINE: &str = "hostname=alpha quiet";

/// The shell's prompt, with the host name that the command line gave.
const PROMPT: &str = "alpha:/# ";

/// MD5 of what [`typing`] pastes.
const PASTE_MD5: &str = "ba496aeb64e24e096938981260cb66d7";

/// Everything: the keyboard, the script `tour`, the kernel's log, power off. Gives the transcript, not yet judged.
pub(crate) fn whole(mut run: Run) -> Result<String, String> {
    typing(&mut run)?;
    // Kernel messages would fall between the lines that are compared.
    run.type_keys(
        "dmesg -n 1; echo script tour: begin; sh /scripts/tour; echo script tour: end, status $?\r",
    )?;
    run.wait_for("\nscript tour: end, status ")?;
    run.wait_for(PROMPT)?;
    run.type_keys("sh /scripts/log\r")?;
    run.wait_for("\nkernel log: end\r\n")?;
    run.wait_for(PROMPT)?;
    power_off(run)
}

/// Waits for the prompt and types: a sum, Ctrl-C, Ctrl-Z, three kilobytes at once.
pub(crate) fn typing(run: &mut Run) -> Result<(), String> {
    run.wait_for("This is alpha, a guest of Mezzanine")?;
    run.wait_for(PROMPT)?;
    run.type_keys("echo $((6*7))\r")?;
    run.wait_for("\n42\r\n")?;
    run.wait_for(PROMPT)?;

    run.type_keys("sh -c 'echo a; echo b; exec sleep 1000'\r")?;
    run.wait_for("\na\r\nb\r\n")?;
    run.type_keys("\u{3}")?;
    run.wait_for(PROMPT)?;
    run.type_keys("echo status $?\r")?;
    run.wait_for("\nstatus 130\r\n")?;
    run.wait_for(PROMPT)?;

    run.type_keys("sh -c 'echo c; echo d; exec sleep 1000'\r")?;
    run.wait_for("\nc\r\nd\r\n")?;
    run.type_keys("\u{1a}")?;
    run.wait_for("Stopped")?;
    run.wait_for(PROMPT)?;
    run.type_keys("kill %1; wait; echo gone\r")?;
    run.wait_for("\ngone\r\n")?;
    run.wait_for(PROMPT)?;

    run.type_keys("stty -echo; echo ready; md5sum; stty echo\r")?;
    run.wait_for("\nready\r\n")?;
    let text: String = (0..50).map(|line| format!("{line:04} {}\n", "x".repeat(54))).collect();
    run.type_keys(&text)?;
    run.type_keys("\u{4}")?;
    run.wait_for(&format!("{PASTE_MD5}  -\r\n"))?;
    run.wait_for(PROMPT)
}

/// Types `poweroff`; gives the whole transcript of a run that ended by itself.
pub(crate) fn power_off(mut run: Run) -> Result<String, String> {
    run.type_keys("poweroff\r")?;
    run.finish()
}
