//! All CPUs of a machine come up, whoever starts them; those that cannot are named. And RAM above 4 GiB.

use crate::bundle;
use crate::damage::qemu_tree;
use crate::dom0less::dtc;
use crate::guest::good;
use crate::image::machine;
use crate::run::{self, Outcome, Scratch};
use crate::setup;
use libtest_mimic::{Failed, Trial};
use std::ffi::OsString;

/// Machine, CPU model and count. Aff0 goes to 15 with a GICv3 and to 7 with a GICv2: beyond, Aff1 counts.
const MACHINES: &[(&str, &str, usize)] = &[
    ("3", "cortex-a53", 2),
    ("3", "max", 4),
    ("3", "cortex-a72", 16),
    ("3", "cortex-a76", 20),
    ("2", "cortex-a72", 4),
    ("2", "cortex-a53", 8),
    ("3", "cortex-a72", 64),
];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        setup::trial("cpus::beyond the sixty-fourth".into(), too_many),
        setup::trial("cpus::that stay off are named".into(), stay_off),
        setup::trial("cpus::by spin table on a Raspberry Pi 4".into(), spin_table),
        setup::trial("cpus::RAM above 4 GiB".into(), || high_memory("one bank", &[])),
        setup::trial("cpus::RAM above 4 GiB in a node of its own".into(), || {
            high_memory(
                "two banks",
                &[
                    "-object",
                    "memory-backend-ram,id=low,size=3G",
                    "-object",
                    "memory-backend-ram,id=high,size=3G",
                    "-numa",
                    "node,memdev=low",
                    "-numa",
                    "node,memdev=high",
                ],
            )
        }),
    ];
    for &(gic, cpu, count) in MACHINES {
        trials.push(setup::trial(format!("cpus::{count} of {cpu}, GICv{gic}"), move || {
            let outcome =
                start(&format!("{count} {cpu} {gic}"), gic, &["-cpu", cpu, "-smp", &count.to_string()])?;
            good(&outcome, "hello")?;
            outcome.says(&format!("cpus: {count} run, MIDR 0x"))
        }));
    }
    trials
}

/// A machine with one guest, to its end.
fn start(name: &str, gic: &str, more: &[&str]) -> Result<Outcome, Failed> {
    start_with(name, gic, &bundle::packed("hello", None, "64M")?, more)
}

fn start_with(name: &str, gic: &str, bundle: &[u8], more: &[&str]) -> Result<Outcome, Failed> {
    let bundle = Scratch::new(&format!("cpus {name}"), bundle)?;
    let mut line = machine(Some(&format!("virt,gic-version={gic},virtualization=on")));
    line.extend(["-kernel".into(), setup::image()?.into(), "-initrd".into(), bundle.path().into()]);
    line.extend(more.iter().map(OsString::from));
    Ok(run::qemu(line)?.finish())
}

fn too_many() -> Result<(), Failed> {
    let outcome = start("too many", "3", &["-smp", "66"])?;
    good(&outcome, "hello")?;
    outcome.says("E0140 /cpus")?;
    outcome.says("cpus: 64 run, ")
}

/// Of five CPUs in the tree, the firmware knows two, and one is switched off.
fn stay_off() -> Result<(), Failed> {
    let mut source = dtc("dtb", "dts", &qemu_tree()?)?;
    let cpu = |reg: u32, more: &str| {
        format!(
            "cpu@{reg} {{ device_type = \"cpu\"; compatible = \"arm,cortex-a57\"; reg = <{reg}>; {more} }};"
        )
    };
    let psci = "enable-method = \"psci\";";
    let cpus = [
        cpu(1, psci),
        cpu(2, "enable-method = \"acpi\";"),
        cpu(3, "enable-method = \"spin-table\"; cpu-release-addr = <0x0 0x5f000000>;"),
        cpu(4, "enable-method = \"psci\"; status = \"disabled\";"),
        cpu(5, psci),
    ];
    source.extend_from_slice(format!("\n/ {{ cpus {{ {} }}; }};\n", cpus.concat()).as_bytes());
    let tree = Scratch::new("cpus that stay off tree", &dtc("dts", "dtb", &source)?)?;
    let outcome = start("that stay off", "3", &["-smp", "2", "-dtb", &tree.text()])?;
    good(&outcome, "hello")?;
    outcome.says("E0139 /cpus/cpu@2 enable-method")?;
    outcome.says("E0138 /cpus/cpu@3")?;
    outcome.says("E0137 /cpus/cpu@5: PSCI CPU_ON says INVALID_PARAMETERS")?;
    outcome.says("cpus: 2 run, ")
}

/// What of a Pi 4 Mezzanine needs, with the PL011 for its console. QEMU has the CPUs poll 0xd8 and so on.
const PI4: &str = "/dts-v1/;
/memreserve/ 0x0 0x1000;
/ { #address-cells = <2>; #size-cells = <1>; compatible = \"raspberrypi,4-model-b\", \"brcm,bcm2711\";
    model = \"Pi 4\"; interrupt-parent = <1>;
    memory@0 { device_type = \"memory\"; reg = <0 0 0x3b400000>; };
    chosen { stdout-path = \"/soc/serial@7e201000\"; };
    soc { compatible = \"simple-bus\"; #address-cells = <1>; #size-cells = <1>;
        ranges = <0x7e000000 0 0xfe000000 0x1800000>, <0x40000000 0 0xff800000 0x800000>;
        interrupt-controller@40041000 { phandle = <1>; compatible = \"arm,gic-400\"; interrupt-controller;
            #interrupt-cells = <3>; interrupts = <1 9 0xf04>;
            reg = <0x40041000 0x1000>, <0x40042000 0x2000>, <0x40044000 0x2000>, <0x40046000 0x2000>; };
        serial@7e201000 { compatible = \"arm,pl011\"; reg = <0x7e201000 0x200>; interrupts = <0 121 4>; };
    };
    timer { compatible = \"arm,armv8-timer\";
        interrupts = <1 13 0xf08>, <1 14 0xf08>, <1 11 0xf08>, <1 10 0xf08>; };
    cpus { #address-cells = <1>; #size-cells = <0>;";

fn spin_table() -> Result<(), Failed> {
    let cpus: String = (0..4)
        .map(|n| {
            format!(
                "cpu@{n} {{ device_type = \"cpu\"; compatible = \"arm,cortex-a72\"; reg = <{n}>;
                    enable-method = \"spin-table\"; cpu-release-addr = <0 {:#x}>; }};",
                0xd8 + 8 * n
            )
        })
        .collect();
    let tree = dtc("dts", "dtb", format!("{PI4} {cpus} }}; }};").as_bytes())?;
    let tree = Scratch::new("cpus by spin table tree", &tree)?;
    let bundle = Scratch::new("cpus by spin table", &bundle::packed("hello", None, "64M")?)?;
    let mut line: Vec<OsString> = ["-M", "raspi4b", "-dtb"].map(OsString::from).to_vec();
    line.extend([tree.path().into(), "-kernel".into(), setup::image()?.into()]);
    line.extend(["-initrd".into(), bundle.path().into()]);
    let machine = run::qemu(line)?;
    // Nothing turns this machine off.
    let ended = machine.wait_for("] halt: ", 1);
    let outcome = machine.stop();
    outcome.no_panic()?;
    if !ended {
        return outcome.failed("it does not come to an end");
    }
    for text in ["cpus: 4 run, MIDR 0x410fd083", "hello: ok", "] halt: ok"] {
        outcome.says(text)?;
    }
    Ok(())
}

/// Two guests that look at all of their RAM, one of them with RAM of its own choice at 4.5 GiB.
fn high_memory(name: &str, banks: &[&str]) -> Result<(), Failed> {
    const HIGH: &str = "#xen,static-mem-address-cells = <2>; #xen,static-mem-size-cells = <2>;
        xen,static-mem = <1 0x20000000 0 0x4000000>;";
    let guest = |name: &str, more: &str| {
        format!(
            "{name} {{ compatible = \"xen,domain\"; memory = <0 0x10000>; cpus = <1>; vpl011; {more}
                kernel {{ compatible = \"multiboot,kernel\", \"multiboot,module\"; xen,uefi-binary = \"kernel\"; }}; }};"
        )
    };
    let vms = format!("/dts-v1/; / {{ chosen {{ {} {} }}; }};", guest("low", ""), guest("high", HIGH));
    let kernel = std::fs::read(setup::guest("memory")?).map_err(|error| format!("the guest: {error}"))?;
    let bundle = bundle::write(&[
        bundle::File { name: "mezzanine.dtb".into(), data: dtc("dts", "dtb", vms.as_bytes())? },
        bundle::File { name: "kernel".into(), data: kernel },
    ]);
    let mut more = vec!["-m", "6G"];
    more.extend(banks);
    let outcome = start_with(&format!("high memory {name}"), "3", &bundle, &more)?;
    good(&outcome, "memory")?;
    outcome.says("vm high: its RAM is 0x120000000..0x124000000")?;
    if outcome.text.matches("memory: ok").count() != 2 {
        return outcome.failed("not both guests found their RAM in order");
    }
    Ok(())
}
