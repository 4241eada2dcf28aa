//! A whole Debian boot to its shell and off again: under Mezzanine, and natively with the same tree.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeProperty};

use crate::bundle::{self, Vm};
use crate::counts::{Counters, Counts};
use crate::figure::Bound;
use crate::qemu::{Outcome, Run, folder, target, text, tool};

/// The marks of the guest's program.
const SHELL: u32 = 0;
const FREQUENCY: u32 = 1;
/// Of the guest; the machine under Mezzanine has more.
const MEMORY: &str = "256M";
/// What the native boot has for random numbers: any will do, as the kernel is at its usual place.
const KASLR_SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const RNG_SEED: [u8; 32] = *b"thirty-two bytes, as good as any";
const PATIENCE: Duration = Duration::from_secs(600);

/// What one boot came to.
pub(crate) struct Boot {
    /// Before the guest's first instruction.
    pub(crate) load: Counters,
    /// From the guest's first instruction to the shell.
    pub(crate) shell: Counters,
    /// From the guest's first instruction to its wish to power off.
    pub(crate) whole: Counters,
    /// From the guest's first instruction to the shell, in nanoseconds of the machine.
    pub(crate) time: f64,
    pub(crate) counts: Counts,
}

impl Boot {
    fn new(counts: Counts) -> Result<Self, String> {
        let vcpu = counts.vcpu()?;
        let load = vcpu.load.unwrap_or_default();
        let shell = counts.mark(SHELL)?;
        let frequency = counts.mark(FREQUENCY)?.x0;
        if frequency == 0 {
            return Err("the guest reads CNTFRQ_EL0 as 0".into());
        }
        // The physical count: the machine's time, which began at 0 and is a nanosecond an instruction until
        // something idles; nothing does before the guest starts.
        let count = shell.x0.wrapping_add(shell.cntvoff);
        let time = count as f64 * 1e9 / frequency as f64 - load.all() as f64;
        let whole = vcpu.off.unwrap_or(vcpu.total).since(&load);
        let (load, shell) = (load, shell.at.since(&load));
        Ok(Self { load, shell, whole, time, counts })
    }

    /// What EL2 did while the guest lived, in per cent of what the guest did.
    pub(crate) fn share(&self) -> f64 {
        self.whole.el2 as f64 * 100.0 / self.whole.guest() as f64
    }
}

/// The same guest twice.
pub(crate) struct Pair {
    pub(crate) native: Boot,
    pub(crate) mezzanine: Boot,
    /// Bytes at EL2: for itself, and for a VM.
    pub(crate) memory: Option<(u64, u64)>,
    pub(crate) quiet: bool,
}

impl Pair {
    /// How much later than natively the shell runs, in per cent.
    pub(crate) fn later(&self) -> f64 {
        (self.mezzanine.time / self.native.time - 1.0) * 100.0
    }

    pub(crate) fn name(&self) -> &'static str {
        if self.quiet { "quiet" } else { "verbose" }
    }

    /// What this pair has to hold.
    pub(crate) fn bounds(&self) -> Vec<Bound> {
        let name = self.name();
        let share = if self.quiet { 0.10 } else { 1.1 };
        let mut bounds = vec![Bound::new(&format!("{name}: EL2's share, %"), self.mezzanine.share(), share)];
        if self.quiet {
            bounds.push(Bound::new(
                &format!("{name}: guest time to the shell, % more"),
                self.later().max(0.0),
                0.5,
            ));
        }
        bounds
    }
}

/// `memory: EL2 uses N KiB and M KiB a VM`, in bytes.
pub(crate) fn memory(transcript: &str) -> Option<(u64, u64)> {
    let (_, tail) = transcript.split_once("memory: EL2 uses ")?;
    let (line, _) = tail.split_once(" KiB a VM")?;
    let mut numbers = line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse::<u64>().ok());
    Some((numbers.next()? * 1024, numbers.next()? * 1024))
}

/// Boots it both ways.
///
/// # Errors
/// A boot fails, or never comes to the shell.
pub(crate) fn run(cpu: &str, quiet: bool) -> Result<Pair, String> {
    let name = if quiet { "quiet" } else { "verbose" };
    let kernel = target().join("guests/debian-6.1/Image");
    let initrd = bundle::marked_initrd()?;
    let cmdline =
        format!("console=ttyAMA0 nokaslr mezzanine.script=bench{}", if quiet { " quiet" } else { "" });
    let vm = Vm { kernel: &kernel, initrd: Some(&initrd), cmdline: &cmdline, memory: MEMORY, gic: None };

    let bundle = bundle::pack(name, &vm)?;
    let under = format!("{name}-mezzanine");
    let run = Run { memory: "1G", patience: PATIENCE, ..Run::mezzanine(&under, cpu, &bundle) };
    let Outcome { counts, transcript } = run.run()?;
    let mezzanine = Boot::new(counts).map_err(|why| format!("{name} under Mezzanine: {why}"))?;

    let tree = tree(name, &vm, cpu)?;
    let mut args = vec!["-kernel".into(), text(&kernel), "-initrd".into(), text(&initrd)];
    args.extend(["-append".into(), cmdline.clone(), "-dtb".into(), text(&tree)]);
    let native = format!("{name}-native");
    let run = Run {
        name: &native,
        cpu,
        el2: false,
        gic: 3,
        memory: MEMORY,
        args,
        patience: PATIENCE,
        ..Run::default()
    };
    let native = Boot::new(run.run()?.counts).map_err(|why| format!("{name}, natively: {why}"))?;
    Ok(Pair { native, mezzanine, memory: memory(&transcript), quiet })
}

/// The tree that Mezzanine makes for the VM, with seeds as it has them there: a kernel without asks for random numbers
/// in other ways, which cost it other instructions.
fn tree(name: &str, vm: &Vm<'_>, cpu: &str) -> Result<PathBuf, String> {
    let config = bundle::config(name, vm)?;
    let path = folder().join(format!("{name}.dtb"));
    tool(&target().join("mezz"), &["tree", &text(&config), "--cpu", cpu, "-o", &text(&path)])?;
    let file = |e| format!("{}: {e}", path.display());
    let blob = fs::read(&path).map_err(file)?;
    let fdt = Fdt::new(&blob).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut tree = DeviceTree::from_fdt(&fdt);
    let chosen = tree.root.child_mut("chosen").ok_or_else(|| format!("{} has no /chosen", path.display()))?;
    chosen.add_property(DeviceTreeProperty::new_unchecked("kaslr-seed", KASLR_SEED));
    chosen.add_property(DeviceTreeProperty::new_unchecked("rng-seed", RNG_SEED.as_slice()));
    fs::write(&path, tree.to_dtb()).map_err(file)?;
    Ok(path)
}
