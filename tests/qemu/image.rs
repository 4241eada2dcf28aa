//! The image by itself: below EL2, as ELF, anywhere in memory, on several machines.

use crate::bundle;
use crate::guest::good;
use crate::run::{self, Outcome, Scratch};
use crate::setup;
use libtest_mimic::{Failed, Trial};
use std::ffi::OsString;
use std::path::Path;

/// RAM of `virt` starts here; without `-kernel`, so does QEMU's tree.
const RAM: u64 = 0x4000_0000;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        setup::trial("image::below EL2 it says so".into(), below_el2),
        setup::trial("image::as ELF".into(), as_elf),
        setup::trial("image::a machine with GICv2".into(), gicv2),
        setup::trial("image::a machine with 3 GiB".into(), || {
            good(&start(&["-m", "3G"], "hello", Some("virt,gic-version=3,virtualization=on"))?, "hello")
        }),
        setup::trial("image::a machine without ITS".into(), || {
            good(
                &start(&["-m", "512"], "hello", Some("virt,gic-version=3,virtualization=on,its=off"))?,
                "hello",
            )
        }),
    ];
    for at in [0x4020_0000, 0x4400_0000, 0x4860_0000, 0x57a0_0000] {
        trials.push(setup::trial(format!("image::loaded at {at:#x}"), move || anywhere(at)));
    }
    for cpu in ["cortex-a53", "cortex-a76", "neoverse-n1", "max"] {
        trials.push(setup::trial(format!("image::on {cpu}"), move || {
            good(&start(&["-m", "512", "-cpu", cpu], "hello", None)?, "hello")
        }));
    }
    for cpus in ["2", "4", "8"] {
        trials.push(setup::trial(format!("image::on a machine with {cpus} CPUs"), move || {
            good(&start(&["-m", "512", "-smp", cpus], "hello", None)?, "hello")
        }));
    }
    trials
}

/// A machine of the usual kind, by QEMU's own words; what comes later wins.
pub(crate) fn machine(machine: Option<&str>) -> Vec<OsString> {
    let machine = machine.unwrap_or("virt,gic-version=3,virtualization=on");
    ["-M", machine, "-cpu", "cortex-a57", "-m", "512"].map(OsString::from).to_vec()
}

/// Starts with the image by `-kernel` and a bundle of one guest.
fn start(more: &[&str], guest: &str, kind: Option<&str>) -> Result<Outcome, Failed> {
    let bundle = Scratch::new(&format!("start {more:?} {kind:?}"), &bundle::packed(guest, None, "64M")?)?;
    let mut line = machine(kind);
    line.extend(["-kernel".into(), setup::image()?.into(), "-initrd".into(), bundle.path().into()]);
    line.extend(more.iter().map(OsString::from));
    Ok(run::qemu(line)?.finish())
}

fn below_el2() -> Result<(), Failed> {
    let mut line = machine(Some("virt,gic-version=3"));
    line.extend(["-kernel".into(), setup::image()?.into()]);
    let machine = run::qemu(line)?;
    if !machine.wait_for("EL1", 1) {
        return machine.stop().failed("it does not say that it is at EL1");
    }
    // It stops: by PSCI, or for good where it is. Nothing more may come that looks like a start.
    let outcome = machine.stop();
    outcome.no_panic()?;
    Ok(())
}

/// As ELF QEMU gives no tree in x0: it lies at the start of RAM. There is no initrd then either; the guest comes
/// as a module.
fn as_elf() -> Result<(), Failed> {
    let mut line = machine(None);
    line.extend(["-kernel".into(), setup::built("mezzanine.elf")?.into()]);
    line.extend(["-device".into(), module(0x4600_0000, &setup::guest("hello")?)]);
    good(&run::qemu(line)?.finish(), "hello")
}

fn module(at: u64, file: &Path) -> OsString {
    format!("guest-loader,addr={at:#x},kernel={},bootargs=x", file.display()).into()
}

/// Code that enters `entry` as a boot loader would: x0 = `tree`, x1 to x3 zero.
pub(crate) fn trampoline(tree: u64, entry: u64) -> Vec<u8> {
    let mov = |register: u32, value: u64| {
        [(value & 0xffff) as u32, (value >> 16 & 0xffff) as u32]
            .into_iter()
            .zip([0xd280_0000u32, 0xf2a0_0000])
            .map(move |(half, op)| op | half << 5 | register)
    };
    let mut code: Vec<u32> = mov(0, tree).chain(mov(4, entry)).collect();
    code.extend([0xd280_0001, 0xd280_0002, 0xd280_0003, 0xd61f_0080]);
    code.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// Without `-kernel`: image and guest put into memory, and a few instructions that enter it.
fn anywhere(at: u64) -> Result<(), Failed> {
    let code = Scratch::new(&format!("trampoline {at:x}"), &trampoline(RAM, at))?;
    let mut line = machine(None);
    line.extend(loader(&setup::image()?, at));
    line.extend(loader(code.path(), 0x5f00_0000));
    line.extend(["-device".into(), "loader,addr=0x5f000000,cpu-num=0".into()]);
    line.extend(["-device".into(), module(0x4600_0000, &setup::guest("hello")?)]);
    good(&run::qemu(line)?.finish(), "hello")
}

/// A file put into memory as it is.
pub(crate) fn loader(file: &Path, at: u64) -> [OsString; 2] {
    ["-device".into(), format!("loader,file={},addr={at:#x},force-raw=on", file.display()).into()]
}

/// What is not supported yet ends with its code, what is supported works: nothing in between.
fn gicv2() -> Result<(), Failed> {
    let outcome = start(&["-m", "512"], "hello", Some("virt,gic-version=2,virtualization=on"))?;
    outcome.no_panic()?;
    if outcome.text.contains("hello: ok") {
        return Ok(());
    }
    outcome.says("E0132")?;
    outcome.says("] halt: failed")
}
