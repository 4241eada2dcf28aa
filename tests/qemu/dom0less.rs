//! Xen's dom0less nodes in the machine's tree, as ImageBuilder's script has U-Boot write them.

use crate::damage::{qemu_tree, refused};
use crate::guest::good;
use crate::image::{loader, machine, trampoline};
use crate::run::{self, Outcome, Scratch};
use crate::setup;
use libtest_mimic::{Failed, Trial};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Where what a boot loader would have loaded lies; RAM ends at 0x6000_0000.
const IMAGE: u64 = 0x4020_0000;
const TREE: u64 = 0x5000_0000;
const CODE: u64 = 0x5f00_0000;
const FIRST: u64 = 0x4800_0000;
const SECOND: u64 = 0x4880_0000;
const THIRD: u64 = 0x4900_0000;

/// What ImageBuilder's uboot-script-gen leaves in `/chosen` besides the domains, and U-Boot's own `bootargs`.
const IMAGE_BUILDER: &str = "#address-cells = <0x2>; #size-cells = <0x2>;
    xen,xen-bootargs = \"console=dtuart dtuart=serial0 bootscrub=0 vwfi=native sched=null\";
    bootargs = \"console=ttyS0 root=/dev/sda2\";";

/// A domain as that script writes one, with `more` of what it leaves to the configuration.
fn domain(n: usize, mib: u64, more: &str) -> String {
    format!(
        "domU{n} {{ compatible = \"xen,domain\"; #address-cells = <0x2>; #size-cells = <0x2>;
            memory = <0x0 {}>; cpus = <1>; vpl011 = <0x1>; {more} }};",
        mib << 10
    )
}

fn module(kind: &str, at: u64, size: usize, more: &str) -> String {
    format!(
        "module{at:#x} {{ compatible = \"multiboot,{kind}\", \"multiboot,module\"; reg = <0x0 {at:#x} 0x0 {size:#x}>; {more} }};"
    )
}

/// The usual micro guest at `at`, as a domain's kernel.
fn kernel(at: u64, file: &PathBuf) -> Result<String, Failed> {
    let size = std::fs::metadata(file).map_err(|error| format!("{}: {error}", file.display()))?.len();
    Ok(module("kernel", at, size as usize, "bootargs = \"console=ttyAMA0\";"))
}

/// Passes `input` through `dtc`.
pub(crate) fn dtc(from: &str, to: &str, input: &[u8]) -> Result<Vec<u8>, Failed> {
    let mut child = Command::new("dtc")
        .args(["-q", "-I", from, "-O", to])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("dtc: {error}"))?;
    let mut stdin = child.stdin.take().ok_or("no way to dtc")?;
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let done = child.wait_with_output().map_err(|error| format!("dtc: {error}"))?;
    let _ = writer.join();
    if !done.status.success() {
        return Err(format!("dtc: {}", String::from_utf8_lossy(&done.stderr)).into());
    }
    Ok(done.stdout)
}

/// QEMU's own tree with more in `/chosen`.
fn tree_with(chosen: &str) -> Result<Vec<u8>, Failed> {
    let mut source = dtc("dtb", "dts", &qemu_tree()?)?;
    source.extend_from_slice(format!("\n/ {{ chosen {{ {chosen} }}; }};\n").as_bytes());
    dtc("dts", "dtb", &source)
}

/// A machine that starts with this tree and these files in memory.
fn machine_with(
    name: &str,
    chosen: &str,
    files: &[(u64, PathBuf)],
    more: &[&str],
) -> Result<run::Machine, Failed> {
    let tree = Scratch::new(&format!("dom0less tree {name}"), &tree_with(chosen)?)?;
    let code = Scratch::new(&format!("dom0less code {name}"), &trampoline(TREE, IMAGE))?;
    let mut line = machine(None);
    line.extend(more.iter().map(OsString::from));
    line.extend(loader(&setup::image()?, IMAGE));
    line.extend(loader(tree.path(), TREE));
    line.extend(loader(code.path(), CODE));
    for (at, file) in files {
        line.extend(loader(file, *at));
    }
    line.extend(["-device".into(), format!("loader,addr={CODE:#x},cpu-num=0").into()]);
    let machine = run::qemu(line)?;
    // QEMU has read its files once it has something to say.
    machine.wait_for("[mz ", 1);
    Ok(machine)
}

fn run_with(name: &str, chosen: &str, files: &[(u64, PathBuf)]) -> Result<Outcome, Failed> {
    Ok(machine_with(name, chosen, files, &[])?.finish())
}

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        setup::trial("dom0less::two guests by ImageBuilder's conventions".into(), two_guests),
        setup::trial("dom0less::RAM that was chosen".into(), chosen_memory),
        setup::trial("dom0less::Debian with a partial tree".into(), debian),
        setup::trial("dom0less::no serial port, no screen".into(), no_serial_port),
        setup::trial("dom0less::bad nodes".into(), bad_nodes),
    ]
}

fn two_guests() -> Result<(), Failed> {
    let (first, second) = (setup::guest("hello")?, setup::guest("rtc")?);
    let nodes = [domain(0, 32, &kernel(FIRST, &first)?), domain(1, 32, &kernel(SECOND, &second)?)].concat();
    let outcome = run_with("two", &format!("{IMAGE_BUILDER} {nodes}"), &[(FIRST, first), (SECOND, second)])?;
    good(&outcome, "hello")?;
    good(&outcome, "rtc")?;
    outcome.says("vm domU0: powered off")?;
    outcome.says("vm domU1: powered off")
}

/// The second VM's RAM is what its node chose, in two pieces that are no blocks; the guest walks all over it.
fn chosen_memory() -> Result<(), Failed> {
    let (first, second) = (setup::guest("hello")?, setup::guest("memory")?);
    let chosen = "#xen,static-mem-address-cells = <1>; #xen,static-mem-size-cells = <1>;
        xen,static-mem = <0x54003000 0x1401000 0x52000000 0xbff000>;";
    let nodes = [
        domain(0, 32, &kernel(FIRST, &first)?),
        domain(1, 32, &format!("{chosen} {}", kernel(SECOND, &second)?)),
    ]
    .concat();
    let outcome =
        run_with("chosen", &format!("{IMAGE_BUILDER} {nodes}"), &[(FIRST, first), (SECOND, second)])?;
    good(&outcome, "hello")?;
    good(&outcome, "memory")?;
    outcome.says("vm domU1: its RAM is 0x54003000..0x55404000 0x52000000..0x52bff000")
}

/// A partial tree as one would make it for Xen, with nothing in it that is hardware.
const PARTIAL: &str = "/dts-v1/; / { #address-cells = <2>; #size-cells = <2>;
    gic: gic { #interrupt-cells = <3>; interrupt-controller; };
    aliases { figures = \"/passthrough/figures\"; };
    passthrough { compatible = \"simple-bus\"; ranges; #address-cells = <2>; #size-cells = <2>;
        misc_clk: misc-clk { compatible = \"fixed-clock\"; #clock-cells = <0>; clock-frequency = <0x7735940>; };
        figures { label = \"from the partial tree\"; clocks = <&misc_clk>; interrupt-parent = <&gic>; };
    }; };";

/// Debian's kernel with an initrd, to its shell; the kernel has a node of ours in its tree.
fn debian() -> Result<(), Failed> {
    let partial = Scratch::new("dom0less partial", &dtc("dts", "dtb", PARTIAL.as_bytes())?)?;
    let files = [
        (FIRST, setup::built("guests/debian-6.1/Image")?),
        (0x4b00_0000, setup::built("guests/initrd.gz")?),
        (0x4b80_0000, partial.path().to_path_buf()),
    ];
    let mut modules = String::new();
    for ((at, file), kind) in files.iter().zip(["kernel", "ramdisk", "device-tree"]) {
        let size = std::fs::metadata(file).map_err(|error| format!("{}: {error}", file.display()))?.len();
        let more = if kind == "kernel" { "bootargs = \"console=ttyAMA0\";" } else { "" };
        modules += &module(kind, *at, size as usize, more);
    }
    let nodes = domain(0, 256, &modules);
    let mut machine = machine_with("debian", &format!("{IMAGE_BUILDER} {nodes}"), &files, &[])?;
    if !machine.wait_for("'poweroff' ends it.", 1) {
        return machine.stop().failed("no shell");
    }
    machine.send(b"cat /proc/device-tree/passthrough/figures/label; echo; dmesg | grep -ci 'bug:\\|of: .*error'; poweroff\n")?;
    let outcome = machine.finish();
    outcome.no_panic()?;
    outcome.says("\nfrom the partial tree")?;
    outcome.says("\n0\n")?;
    outcome.says("vm domU0: powered off")?;
    outcome.says("] halt: ok")
}

/// A domain without `vpl011` has nothing where the PL011 would be, and the screen is another's.
fn no_serial_port() -> Result<(), Failed> {
    let (first, second) = (setup::guest("portless")?, setup::guest("hello")?);
    let mute = domain(0, 32, &kernel(FIRST, &first)?).replace("vpl011 = <0x1>;", "");
    let nodes = [mute, domain(1, 32, &kernel(SECOND, &second)?)].concat();
    let outcome = run_with("mute", &format!("{IMAGE_BUILDER} {nodes}"), &[(FIRST, first), (SECOND, second)])?;
    good(&outcome, "hello")?;
    outcome.says("E0308 /chosen/domU0 cmdline: console=ttyAMA0")?;
    outcome.says("vm domU0: asked for a reset")?;
    outcome.says("vm domU1: powered off")
}

/// What only EL2 can find wrong, and one of each kind of the rest: `config`'s own tests have them all.
fn bad_nodes() -> Result<(), Failed> {
    let file = setup::guest("hello")?;
    let fine = kernel(FIRST, &file)?;
    let cases = [
        ("E0202", domain(0, 32, &module("kernel", 0x7000_0000, 0x1000, ""))),
        ("E0202", domain(0, 32, &module("kernel", IMAGE, 0x1000, ""))),
        ("E0209", domain(0, 32, &module("ramdisk", THIRD, 0x1000, ""))),
        ("E0223", domain(0, 32, &format!("{fine} {}", module("ramdisk", FIRST + 0x10, 0x1000, "")))),
        ("E0224", domain(0, 32, &format!("direct-map; {fine}"))),
        ("E0232", domain(0, 32, &format!("xen,static-mem = <0 {IMAGE:#x} 0 0x2000000>; {fine}"))),
        ("E0305", domain(0, 1024, &fine)),
        ("E0401", domain(0, 32, &module("kernel", THIRD, 0x1000, ""))),
    ];
    for (code, node) in cases {
        let outcome = run_with(code, &format!("{IMAGE_BUILDER} {node}"), &[(FIRST, file.clone())])?;
        refused(&outcome, &[code])?;
    }
    Ok(())
}
