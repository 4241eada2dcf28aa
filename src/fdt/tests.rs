use super::guest::GuestMachine;
use super::*;
use crate::addr::GuestRange;
use crate::map::{self, GicVersion};
use std::path::Path;
use std::process::{Command, Stdio};
use std::string::String;

type Bytes = std::vec::Vec<u8>;

const VIRT_GICV3: &[u8] = include_bytes!("../../tests/fixtures/virt-gicv3.dtb");
const VIRT_GICV2: &[u8] = include_bytes!("../../tests/fixtures/virt-gicv2.dtb");
const VIRT_INITRD: &[u8] = include_bytes!("../../tests/fixtures/virt-initrd.dtb");
const PI4: &[u8] = include_bytes!("../../tests/fixtures/pi4.dtb");

fn host(start: u64, size: u64) -> HostRange {
    HostRange::new(HostPhysAddr::at(start), size).unwrap()
}

#[test]
fn reads_virt_with_gicv3_and_modules() {
    let p = Platform::read(VIRT_GICV3).unwrap();
    assert_eq!(p.model, "linux,dummy-virt");
    assert!(p.is("linux,dummy-virt") && !p.is("linux,dummy"));
    assert_eq!(p.ram.as_slice(), [host(0x4000_0000, 1 << 30)]);
    let Gic::V3 { dist, redistributors, stride, compat } = p.gic.clone() else { panic!("{:?}", p.gic) };
    assert_eq!(dist, host(0x0800_0000, 0x1_0000));
    assert_eq!(redistributors.as_slice(), [host(0x080a_0000, 0xf6_0000)]);
    assert_eq!((stride, compat), (None, [None; 3]));
    assert_eq!(p.maintenance, Some(IntId::ppi(9)));
    let int = |n| Some(IntId::ppi(n));
    let timer = TimerInts { secure: int(13), physical: int(14), virt: int(11), hyp: int(10), hyp_virt: None };
    assert_eq!(p.timer, timer);
    let uart = p.uart.unwrap();
    assert_eq!((uart.kind, uart.range), (UartKind::Pl011, host(0x0900_0000, 0x1000)));
    assert_eq!((uart.interrupt, uart.baud), (Some(IntId::spi(1)), None));
    assert_eq!(p.rtc, Some(host(0x0901_0000, 0x1000)));
    assert_eq!(p.psci, Some(Psci { conduit: Conduit::Smc, standard: true }));
    assert_eq!(p.bootargs, "loglevel=debug memory=256M");
    assert_eq!((p.rng_seed.len(), p.kaslr_seed.is_some()), (32, true));
    assert_eq!(p.cpus.len(), 2);
    assert_eq!(p.cpus[1], Cpu { affinity: 1, status: CpuStatus::Okay, enable: EnableMethod::Psci });
    let kernel = p.modules.iter().find(|m| m.kind == ModuleKind::Kernel).unwrap();
    assert_eq!((kernel.range, kernel.bootargs), (host(0x5000_0000, 8), "console=ttyAMA0"));
    assert_eq!(p.modules.iter().find(|m| m.kind == ModuleKind::Ramdisk).unwrap().range, host(0x5400_0000, 3));
    assert_eq!((p.initrd, p.tree.len()), (None, VIRT_GICV3.len()));
}

#[test]
fn reads_virt_with_gicv2_and_leaves_secure_devices_alone() {
    let p = Platform::read(VIRT_GICV2).unwrap();
    assert_eq!(p.ram.as_slice(), [host(0x4000_0000, 3 << 30)], "not the secure RAM, which is disabled");
    let Gic::V2 { dist, cpu, hyp, vcpu } = p.gic else { panic!("{:?}", p.gic) };
    assert_eq!((dist, cpu), (host(0x0800_0000, 0x1_0000), host(0x0801_0000, 0x1_0000)));
    assert_eq!((hyp, vcpu), (Some(host(0x0803_0000, 0x1_0000)), Some(host(0x0804_0000, 0x1_0000))));
    assert_eq!(p.cpus.len(), 4);
}

#[test]
fn reads_where_the_initrd_is() {
    let p = Platform::read(VIRT_INITRD).unwrap();
    assert_eq!(p.initrd, Some(host(0x4800_0000, 0x2000)));
}

#[test]
fn reads_a_board_with_aliases_ranges_and_a_spin_table() {
    let p = Platform::read(PI4).unwrap();
    assert_eq!(p.compatible().collect::<std::vec::Vec<_>>(), ["raspberrypi,4-model-b", "brcm,bcm2711"]);
    let uart = p.uart.unwrap();
    assert_eq!((uart.kind, uart.range), (UartKind::MiniUart, host(0xfe21_5040, 0x40)));
    assert_eq!((uart.interrupt, uart.baud), (Some(IntId::spi(93)), Some(115_200)));
    let Gic::V2 { dist, hyp, .. } = p.gic else { panic!("{:?}", p.gic) };
    assert_eq!((dist, hyp), (host(0xff84_1000, 0x1000), Some(host(0xff84_4000, 0x2000))));
    assert_eq!(p.cpus.len(), 3);
    assert_eq!(p.cpus[0].enable, EnableMethod::SpinTable(HostPhysAddr::at(0xd8)));
    assert_eq!((p.cpus[2].affinity, p.cpus[2].status), (0x102, CpuStatus::Disabled));
    assert_eq!(p.psci, None);
    assert_eq!(p.initrd, Some(host(0x0800_0000, 0x12_3456)));
    assert_eq!(p.ram.len(), 3);
    let kept = |start, size, no_map| Reserved { range: host(start, size), no_map };
    assert_eq!(p.reserved.as_slice(), [kept(0, 0x1000, false), kept(0x3b00_0000, 0x1000, true)]);
}

#[test]
fn usable_is_ram_without_what_is_taken() {
    let p = Platform::read(PI4).unwrap();
    let free = p.usable(&[host(0x4000_1234, 0x10)]);
    let expected = [
        host(0x1000, 0x07ff_f000),
        host(0x0812_4000, 0x3b00_0000 - 0x0812_4000),
        host(0x3b00_1000, 0x003f_f000),
        host(0x4000_0000, 0x1000),
        host(0x4000_2000, 0xbc00_0000 - 0x2000),
        host(0x1_0000_0000, 0x8000_0000),
    ];
    assert_eq!(free.as_slice(), expected);
}

#[test]
fn a_bank_listed_twice_counts_once() {
    let mut p = Platform::default();
    p.ram.push(host(0x1000, 0x3000)).unwrap();
    p.ram.push(host(0x2000, 0x4000)).unwrap();
    assert_eq!(p.usable(&[]).as_slice(), [host(0x1000, 0x1000), host(0x2000, 0x4000)]);
}

/// Runs a program over `input` and returns what it printed and what it complained of; `None` where it is not
/// installed, which the run then says past the harness, that nobody takes the test for passed.
pub(crate) fn run(program: &str, args: &[&str], dir: &Path, input: &[u8]) -> Option<(Bytes, String)> {
    use std::io::Write;
    let mut command = Command::new(program);
    command.args(args).current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        let test = std::thread::current();
        let test = test.name().unwrap_or_default();
        let _ = writeln!(std::io::stderr(), "skipped: {test}: {program} is not installed");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {complaints}");
    Some((output.stdout, complaints))
}

/// What `dtc` makes of the body of a root node.
pub(crate) fn compiled(body: &str) -> Option<Bytes> {
    let source = format!("/dts-v1/; / {{ {body} }};");
    run("dtc", &["-q", "-I", "dts", "-O", "dtb"], &std::env::temp_dir(), source.as_bytes())
        .map(|(blob, _)| blob)
}

const RAM: &str =
    "#address-cells = <2>; #size-cells = <2>; memory@40000000 { reg = <0 0x40000000 0 0x40000000>; };";
const CPU: &str = "cpus { #address-cells = <1>; #size-cells = <0>; cpu@0 { reg = <0>; }; };";

#[test]
fn each_bad_tree_has_its_problem() {
    let with = |rest: &str| format!("{RAM} {CPU} {rest}");
    let gic = |reg: &str| with(&format!("intc {{ compatible = \"arm,gic-v3\"; {reg} }};"));
    let cases = [
        ("E0106", CPU.to_string()),
        ("E0107", RAM.to_string()),
        ("E0105", with("memory@0 { reg = <0 0 0>; };")),
        ("E0105", with("memory@0 { reg = <0xffffffff 0xfffff000 0 0x2000>; };")),
        ("E0105", with("chosen { bootargs = [ff fe 00]; };")),
        ("E0105", with("chosen { module@0 { compatible = \"multiboot,module\"; }; };")),
        (
            "E0108",
            with(
                &(0..40).map(|n| format!("memory@{n:x} {{ reg = <{n} 0 0 0x1000>; }};")).collect::<String>(),
            ),
        ),
        ("E0110", with("psci { compatible = \"arm,psci-1.0\"; method = \"call\"; };")),
        ("E0111", with("chosen { stdout-path = \"serial9:115200\"; };")),
        ("E0111", with("chosen { stdout-path = \"/soc/uart@0\"; };")),
        ("E0112", with("chosen { linux,initrd-start = <0x1000>; };")),
        ("E0112", with("chosen { linux,initrd-start = <0x2000>; linux,initrd-end = <0x1000>; };")),
        ("E0113", gic("reg = <0 0 0 0x10000>;")),
        ("E0113", gic("reg = <0 0 0 1 0 1 0 1>; #redistributor-regions = <3>;")),
        (
            "E0109",
            with(
                "soc { #address-cells = <1>; #size-cells = <1>; rtc@0 { compatible = \"arm,pl031\"; reg = <0 1>; }; };",
            ),
        ),
        ("E0103", with(&format!("{}{}", "n { ".repeat(40), "}; ".repeat(40)))),
    ];
    for (code, body) in cases {
        let Some(blob) = compiled(&body) else { return };
        let problem = Platform::read(&blob).err().unwrap_or_else(|| panic!("{code}: accepted {body}"));
        assert_eq!(problem.code, code, "{problem}");
    }
    let fine = compiled(&with("")).map(|blob| Platform::read(&blob).map(|p| p.gic));
    assert!(fine.is_none_or(|p| p == Ok(Gic::None)));
}

#[test]
fn no_tree_and_half_a_tree_are_told_apart() {
    assert_eq!(Platform::read(b"").unwrap_err().code, "E0101");
    assert_eq!(Platform::read(&[0; 64]).unwrap_err().code, "E0101");
    assert_eq!(Platform::read(&PI4[..PI4.len() - 1]).unwrap_err().code, "E0101");
    let mut cut = PI4.to_vec();
    cut[100..140].fill(0xff);
    assert_eq!(Platform::read(&cut).unwrap_err().code, "E0102");
}

/// Turns a node of a tree into NOPs, as `fdt_nop_node` of libfdt does.
fn nop_out(blob: &mut [u8], name: &[u8]) {
    let be = |at: usize, blob: &[u8]| u32::from_be_bytes(blob[at..at + 4].try_into().unwrap());
    let mut needle = vec![0, 0, 0, 1];
    needle.extend(name);
    let start = blob.windows(needle.len()).position(|w| w == needle).unwrap();
    let (mut at, mut depth) = (start, 0);
    loop {
        match be(at, blob) {
            1 => {
                depth += 1;
                at += 4 + (blob[at + 4..].iter().position(|&b| b == 0).unwrap() + 4) / 4 * 4;
            }
            2 => {
                depth -= 1;
                at += 4;
            }
            3 => at += 12 + (be(at + 4, blob) as usize).next_multiple_of(4),
            tag => panic!("{tag}"),
        }
        if depth == 0 {
            break;
        }
    }
    for word in blob[start..at].chunks_exact_mut(4) {
        word.copy_from_slice(&[0, 0, 0, 4]);
    }
}

#[test]
fn nodes_that_somebody_nopped_are_squeezed_out() {
    let mut blob = PI4.to_vec();
    for name in [&b"cpu@1\0"[..], b"serial@7e201000\0", b"nvram@0\0", b"l2-cache0\0"] {
        nop_out(&mut blob, name);
    }
    assert_eq!(Platform::read(&blob).unwrap_err().code, "E0104");
    squeeze(&mut blob);
    let p = Platform::read(&blob).unwrap();
    assert_eq!(p.cpus.iter().map(|c| c.affinity).collect::<std::vec::Vec<_>>(), [0, 0x102]);
    assert_eq!(p.reserved.len(), 1);
    assert_eq!(p.uart.unwrap().kind, UartKind::MiniUart);

    drop(p);
    let before = blob.clone();
    squeeze(&mut blob);
    assert_eq!(before, blob, "nothing left to squeeze");
}

/// xorshift64*: the same damage on every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 33) as usize % n
    }
}

#[test]
fn damage_never_panics() {
    let mut random = Random(0x4d65_7a7a);
    let (mut refused, mut read) = (0, 0);
    for round in 0..8000 {
        let original = [VIRT_GICV3, VIRT_GICV2, PI4, VIRT_INITRD][round % 4];
        let mut blob = original.to_vec();
        let struct_at = u32::from_be_bytes(blob[8..12].try_into().unwrap()) as usize;
        for _ in 0..1 + random.below(3) {
            // Header, tokens and values get more than their share: that is where damage hurts.
            let at = match random.below(4) {
                0 => random.below(40),
                1 => struct_at + random.below(blob.len() - struct_at) / 4 * 4 + 3,
                _ => random.below(blob.len()),
            };
            let Some(byte) = blob.get_mut(at) else { continue };
            *byte = match random.below(3) {
                0 => *byte ^ 1 << random.below(8),
                1 => random.below(10) as u8,
                _ => random.next() as u8,
            };
        }
        if random.below(10) == 0 {
            blob.truncate(random.below(blob.len()));
        }
        squeeze(&mut blob);
        match Platform::read(&blob) {
            Ok(p) => {
                read += 1;
                let _ = p.usable(&[]);
                assert!(p.compatible().count() < 100);
            }
            Err(problem) => {
                refused += 1;
                assert!(problem.code.starts_with("E01"), "{problem}");
            }
        }
    }
    assert!(refused > 1000 && read > 1000, "{refused} refused, {read} read: the damage tests nothing");
}

fn guest(gic: GicVersion, vcpus: u16) -> Bytes {
    let mpidrs: std::vec::Vec<u64> = (0..vcpus).map(|n| map::mpidr(n, gic)).collect();
    guest::write(&GuestMachine {
        name: "alpha",
        mpidrs: &mpidrs,
        cpu_compatible: "arm,cortex-a57",
        ram: &[GuestRange::at(0x4000_0000, 256 << 20)],
        gic,
        initrd: Some(GuestRange::at(0x4400_0000, 0x1234)),
        bootargs: "console=ttyAMA0 quiet",
        uart: true,
        partial: None,
        seed: Some([1, 2, 3, 4, 5]),
    })
}

#[test]
fn a_guest_tree_reads_back_as_the_machine_of_the_map() {
    for (gic, vcpus) in [(GicVersion::V3, 20), (GicVersion::V2, 3)] {
        let blob = guest(gic, vcpus);
        assert!(blob.len() as u64 <= map::TREE_MAX);
        let p = Platform::read(&blob).unwrap();
        assert_eq!((p.model, p.bootargs), ("Mezzanine: alpha", "console=ttyAMA0 quiet"));
        assert!(p.is("linux,dummy-virt"));
        assert_eq!(p.ram.as_slice(), [host(0x4000_0000, 256 << 20)]);
        assert_eq!(p.initrd, Some(host(0x4400_0000, 0x1234)));
        assert_eq!(p.psci, Some(Psci { conduit: Conduit::Hvc, standard: true }));
        assert_eq!((p.timer.virt, p.timer.hyp), (Some(IntId::ppi(11)), Some(IntId::ppi(10))));
        assert_eq!(p.cpus.len(), usize::from(vcpus));
        assert_eq!(p.cpus.last().unwrap().affinity, map::affinity(vcpus - 1, gic));
        assert_eq!((p.kaslr_seed, p.rng_seed.len()), (Some(1), 32));
        let uart = p.uart.unwrap();
        assert_eq!((uart.kind, uart.interrupt), (UartKind::Pl011, Some(IntId::spi(1))));
        match p.gic {
            Gic::V3 { redistributors, .. } => assert_eq!(redistributors[0], host(0x080a_0000, 20 * 0x2_0000)),
            Gic::V2 { cpu, .. } => assert_eq!(cpu, host(0x0801_0000, 0x1_0000)),
            Gic::None => panic!("no GIC"),
        }
    }
}

/// Word for word, but for what refers to other nodes.
#[test]
fn the_power_key_is_that_of_virt() {
    let said = |blob: &[u8]| {
        let tree = dtoolkit::fdt::Fdt::new(blob).unwrap();
        let cells = |path: &str, name: &str| {
            let node = tree.find_node(path).unwrap();
            Bytes::from(node.property(name).unwrap().value())
        };
        let gpio = cells("/pl061@9030000", "phandle");
        let key = cells("/gpio-keys/poweroff", "gpios");
        assert_eq!(key[..4], gpio);
        assert_eq!(cells("/pl061@9030000", "clocks"), cells("/apb-pclk", "phandle"));
        let mut all = vec![(String::from("gpios"), Bytes::from(&key[4..]))];
        for path in ["/pl061@9030000", "/gpio-keys", "/gpio-keys/poweroff"] {
            let node = tree.find_node(path).unwrap();
            for property in node.properties() {
                if !["phandle", "clocks", "gpios"].contains(&property.name()) {
                    all.push((std::format!("{path} {}", property.name()), property.value().into()));
                }
            }
        }
        all.sort();
        all
    };
    assert_eq!(said(&guest(GicVersion::V3, 1)), said(VIRT_GICV3));
}

#[test]
fn a_guest_without_a_serial_port_is_told_of_none() {
    let blob = guest::write(&GuestMachine {
        name: "alpha",
        mpidrs: &[map::mpidr(0, GicVersion::V3)],
        cpu_compatible: "arm,armv8",
        ram: &[GuestRange::at(0x4000_0000, 64 << 20)],
        gic: GicVersion::V3,
        initrd: None,
        bootargs: "",
        uart: false,
        partial: None,
        seed: None,
    });
    assert_eq!(Platform::read(&blob).unwrap().uart, None);
    assert!(!blob.windows(5).any(|window| window == b"pl011"));
}

#[test]
fn dtc_finds_nothing_wrong_with_a_guest_tree() {
    for (gic, vcpus) in [(GicVersion::V3, 20), (GicVersion::V2, 8)] {
        let Some((source, complaints)) =
            run("dtc", &["-I", "dtb", "-O", "dts"], &std::env::temp_dir(), &guest(gic, vcpus))
        else {
            return;
        };
        assert_eq!(complaints, "");
        assert!(String::from_utf8_lossy(&source).contains("linux,dummy-virt"));
    }
}
