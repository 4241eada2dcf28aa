//! The binding, property by property: each missing, of the wrong size, contradictory, overlapping, twice.

mod bad;

use crate::addr::{Address, HostPhysAddr, HostRange};
use crate::config::{self, HostFacts, VmConfig, check_tree};
use crate::fdt::Platform;
use crate::fdt::tests::run;
use crate::guest::linux::tests::kernel;
use crate::map::GicVersion;
use crate::memory::Memory;
use crate::problem::Problem;

const MIB: u64 = 1 << 20;
/// Modules of the tests lie at multiples of this from here on.
const FIRST: u64 = 0x5000_0000;
const STEP: u64 = 0x10_0000;

const MACHINE: &str = "#address-cells = <2>; #size-cells = <2>;
    memory@40000000 { reg = <0 0x40000000 0 0x40000000>; };
    reserved-memory { #address-cells = <2>; #size-cells = <2>; ranges; fw@7f000000 { reg = <0 0x7f000000 0 0x1000000>; }; };
    cpus { #address-cells = <1>; #size-cells = <0>; cpu@0 { reg = <0>; }; };";

fn host() -> HostFacts {
    HostFacts { cpus: 4, memory: 900 * MIB, gic: GicVersion::V3 }
}

fn compiled(body: &str) -> Option<Vec<u8>> {
    let source = format!("/dts-v1/; / {{ {body} }};");
    let args = ["-f", "-q", "-q", "-I", "dts", "-O", "dtb"];
    run("dtc", &args, &std::env::temp_dir(), source.as_bytes()).map(|(blob, _)| blob)
}

/// A machine with this in `/chosen`.
fn machine(chosen: &str) -> Option<Vec<u8>> {
    compiled(&format!("{MACHINE} chosen {{ {chosen} }};"))
}

/// A module by its kind at the `n`th place.
fn module(kind: &str, n: u64, rest: &str) -> String {
    let at = FIRST + n * STEP;
    format!(
        "m{n} {{ compatible = \"multiboot,{kind}\", \"multiboot,module\"; reg = <0 {at:#x} 0 0x1000>; {rest} }};"
    )
}

/// A domain of the usual size with this in it besides; its kernel is the `n`th module.
fn domain(name: &str, n: u64, rest: &str) -> String {
    let kernel = module("kernel", n, "bootargs = \"console=ttyAMA0\";");
    format!(
        "{name} {{ compatible = \"xen,domain\"; memory = <0 0x10000>; cpus = <1>; vpl011; {rest} {kernel} }};"
    )
}

/// What lies in the memory of the machine: at the first place of sixteen a kernel, then an archive, a partial tree,
/// and further kernels.
struct Blobs {
    kernel: Vec<u8>,
    archive: Vec<u8>,
    partial: Vec<u8>,
}

impl Blobs {
    fn new() -> Self {
        let mut archive = config::bundle::write(&[]).unwrap();
        archive.resize(4096, 0);
        let mut partial = compiled("passthrough { info { label = \"x\"; }; };").unwrap_or_default();
        partial.resize(4096, 0);
        Self { kernel: kernel(4096, MIB, 0), archive, partial }
    }

    fn at(&self, range: HostRange) -> Option<&[u8]> {
        let ram = HostRange::new(HostPhysAddr::at(0x4000_0000), 0x4000_0000)?;
        let bytes = match range.start().raw() / STEP % 16 {
            1 => &self.archive,
            2 => &self.partial,
            _ => &self.kernel,
        };
        ram.encloses(&range).then(|| bytes.get(..range.size() as usize)).flatten()
    }
}

/// VMs and warnings.
type Outcome = (Vec<VmConfig<'static>>, Vec<Problem>);

/// What is read of a machine with this in `/chosen`; `None` where there is no `dtc`.
fn read(chosen: &str) -> Option<Result<Outcome, Problem>> {
    let tree: &'static [u8] = Box::leak(machine(chosen)?.into_boxed_slice());
    let blobs: &'static Blobs = Box::leak(Box::new(Blobs::new()));
    let platform = Platform::read(tree).unwrap();
    Some(
        config::read(&platform, &|range| blobs.at(range), &host())
            .map(|config| (config.vms, config.warnings)),
    )
}

fn good(chosen: &str) -> Option<Outcome> {
    Some(read(chosen)?.unwrap_or_else(|problem| panic!("{problem}\n{chosen}")))
}

fn codes(problems: &[Problem]) -> Vec<&str> {
    problems.iter().map(|problem| problem.code).collect()
}

#[test]
fn a_domain_by_the_book_is_what_it_says() {
    let modules = [module("ramdisk", 1, ""), module("device-tree", 2, "")].concat();
    let Some((vms, warnings)) =
        good(&format!("{} {}", domain("domU1", 0, &modules), domain("domU2@5", 0, "")))
    else {
        return;
    };
    assert_eq!(warnings, []);
    let first = &vms[0];
    assert_eq!((first.name.as_str(), first.memory, first.vcpus), ("domU1", 64 * MIB, 1));
    assert_eq!((first.cmdline, first.gic, first.without_uart), ("console=ttyAMA0", None, false));
    assert_eq!((first.kernel.unwrap().len(), first.initrd.map(<[u8]>::len)), (4096, Some(4096)));
    assert!(first.partial_tree.is_some() && first.static_memory.is_empty());
    assert_eq!(first.place, "/chosen/domU1");
    assert_eq!((vms[1].name.as_str(), vms[1].place.as_str()), ("domU2", "/chosen/domU2@5"));
    assert_eq!(vms[1].kernel, first.kernel, "of the same module");
}

#[test]
fn cells_are_inherited_unless_given() {
    let kernel = |reg: &str| {
        format!("k {{ compatible = \"multiboot,kernel\", \"multiboot,module\"; reg = <{reg}>; }};")
    };
    let domain = |cells: &str, reg: &str| {
        format!(
            "d {{ compatible = \"xen,domain\"; memory = <0x10000>; cpus = <1>; {cells} {} }};",
            kernel(reg)
        )
    };
    let counts = |a: u32, s: u32| format!("#address-cells = <{a}>; #size-cells = <{s}>;");
    let fine = [
        // The root's, which has 2 and 2.
        (String::new(), domain("", "0 0x50000000 0 0x1000")),
        // Those of /chosen.
        (counts(1, 1), domain("", "0x50000000 0x1000")),
        // Its own, as in Xen's example, whatever /chosen has.
        (counts(1, 1), domain(&counts(2, 1), "0 0x50000000 0x1000")),
        (String::new(), domain(&counts(1, 1), "0x50000000 0x1000")),
        // One given, one inherited.
        (String::new(), domain("#size-cells = <1>;", "0 0x50000000 0x1000")),
        ("#address-cells = <1>;".into(), domain("", "0x50000000 0 0x1000")),
        // Wide ones that hold small numbers.
        (String::new(), domain(&counts(4, 3), "0 0 0 0x50000000 0 0 0x1000")),
    ];
    for (chosen, node) in fine {
        let Some((vms, _)) = good(&format!("{chosen} {node}")) else { return };
        assert_eq!(vms[0].kernel.unwrap().len(), 4096, "{chosen} {node}");
    }
    let bad = [
        ("E0221", "12 bytes long", domain("", "0 0x50000000 0x1000")),
        ("E0221", "4 bytes long", domain("", "0x50000000")),
        ("E0221", "32 bytes long", domain("", "0 0x50000000 0 0x1000 0 0x51000000 0 0x1000")),
        (
            "E0221",
            "1 cells of address and 1 of size, 8 bytes",
            domain(&counts(1, 1), "0 0x50000000 0 0x1000"),
        ),
        ("E0221", "no bytes at 0x50000000", domain("", "0 0x50000000 0 0")),
        ("E0221", "end beyond 2^64", domain("", "0xffffffff 0xfffff000 0 0x2000")),
        ("E0221", "more than 64 bits", domain(&counts(3, 1), "1 0 0x50000000 0x1000")),
        ("E0220", "#address-cells: 0", domain("#address-cells = <0>;", "0 0x1000")),
        ("E0220", "#size-cells: 5", domain("#size-cells = <5>;", "0 0x1000")),
        ("E0220", "#size-cells: 8 bytes long", domain("#size-cells = <1 2>;", "0 0x1000")),
        ("E0202", "0x90000000..0x90001000", domain("", "0 0x90000000 0 0x1000")),
        ("E0202", "0x7ffff000..0x80001000", domain("", "0 0x7ffff000 0 0x2000")),
    ];
    for (code, part, node) in bad {
        let problem = read(&node).unwrap().err().unwrap_or_else(|| panic!("accepted {node}"));
        assert_eq!(problem.code, code, "{problem}\n{node}");
        assert!(problem.to_string().contains(part), "{problem}\n{node}");
    }
}

#[test]
fn shares_are_read() {
    let said = "mezzanine,weight = <512>; mezzanine,cap = <25>; mezzanine,console-log = <0x1000>;
        vcpu0 { compatible = \"xen,vcpu\"; id = <0>; hard-affinity = \"0-3,^2\"; };";
    let Some((vms, warnings)) = good(&domain("d", 0, said)) else { return };
    assert_eq!(warnings, []);
    assert_eq!((vms[0].weight, vms[0].cap, vms[0].console_log), (Some(512), Some(25), Some(4096)));
    assert_eq!((vms[0].affinity[0], vms[0].affinity.len()), (0b1011, vms[0].vcpus.into()));
    // A node without a list says nothing.
    let (vms, _) =
        good(&domain("d", 0, "mezzanine,dedicated; v { compatible = \"xen,vcpu\"; id = <0>; };")).unwrap();
    assert_eq!((vms[0].dedicated, vms[0].affinity.len()), (true, 0));
}

#[test]
fn what_has_no_meaning_here_is_taken_with_a_warning() {
    let silent = "passthrough = \"disabled\"; sve = <0>; xen,enhanced = \"disabled\"; capabilities = <0>;
        trap-unmapped-accesses = <1>; xen,sci_type = \"none\"; v8r_el1_msa = \"mmu\"; nr_spis = <64>; status = \"okay\";";
    let Some((_, warnings)) = good(&domain("d", 0, silent)) else { return };
    assert_eq!(warnings, []);
    let said = "nr_spis = <96>; domain-cpupool = <1>; xen,domain-p2m-mem-mb = <8>; max_grant_version = <1>;
        max_grant_frames = <64>; max_maptrack_frames = <1024>;";
    let (vms, warnings) = good(&domain("d", 0, said)).unwrap();
    assert_eq!((vms.len(), codes(&warnings)), (1, vec!["E0228"; 6]));
    let around =
        "xen,xen-bootargs = \"console=dtuart\"; xen,dom0-bootargs = \"x\"; xen,static-heap = <0 0 0 0>;
        pool { compatible = \"xen,cpupool\"; };";
    let (_, warnings) = good(&format!("{around} {}", domain("d", 0, ""))).unwrap();
    assert_eq!(codes(&warnings), vec!["E0229"; 4]);
    let (vms, warnings) =
        good(&format!("{} {}", domain("d", 0, ""), domain("e", 3, "status = \"disabled\";"))).unwrap();
    assert_eq!((vms.len(), codes(&warnings)), (1, vec!["E0229"]));
    let (vms, warnings) = good(&domain("d", 0, "").replace("vpl011;", "vpl011 = <0>;")).unwrap();
    assert_eq!((vms[0].without_uart, codes(&warnings)), (false, vec!["E0228"]));
    let (vms, warnings) = good(&domain("d", 0, "").replace("vpl011;", "")).unwrap();
    assert_eq!((vms[0].without_uart, codes(&warnings)), (true, vec!["E0308"]));
}

#[test]
fn what_looks_like_a_vm_and_is_none_is_told() {
    let bad = domain("e", 3, "").replace("xen,domain", "xen,domian");
    let Some((vms, warnings)) = good(&format!("{} {bad}", domain("d", 0, ""))) else { return };
    assert_eq!((vms.len(), codes(&warnings)), (1, vec!["E0229"]));
    assert_eq!(
        warnings[0].to_string(),
        "E0229 /chosen/e compatible: no VM, but it looks like one. Say compatible = \"xen,domain\" if it is to be one."
    );
    for (node, many) in [
        ("e { memory = <1>; cpus = <1>; };", 1),
        ("e { m { compatible = \"multiboot,kernel\", \"multiboot,module\"; }; };", 1),
        ("e { compatible = \"xen,domains\"; };", 1),
        ("e { compatible = \"simple-framebuffer\"; memory-region = <1>; };", 0),
        ("e { compatible = \"xen,cpupool\"; };", 1),
    ] {
        let (_, warnings) = good(&format!("{} {node}", domain("d", 0, ""))).unwrap();
        assert_eq!(codes(&warnings), vec!["E0229"; many], "{node}");
    }
}

#[test]
fn a_plain_kernel_beside_domains_is_a_vm_too() {
    let chosen = format!("{} {}", domain("d", 0, ""), module("kernel", 3, ""));
    let Some((vms, warnings)) = good(&chosen) else { return };
    let facts: Vec<_> = vms.iter().map(|vm| (vm.name.as_str(), vm.memory)).collect();
    assert_eq!(facts, [("d", 64 * MIB), ("vm1", 836 * MIB)]);
    assert_eq!(codes(&warnings), ["E0229"]);
    let over = format!("{} {}", domain("d", 0, ""), module("kernel", 0, ""));
    assert_eq!(read(&over).unwrap().unwrap_err().code, "E0223");
}

#[test]
fn options_are_ours_unless_xen_has_its_own() {
    let with = |chosen: &str| {
        read(&format!("{chosen} {}", domain("d", 0, ""))).map(|r| r.map(|_| ()).map_err(|p| p.code))
    };
    let Some(plain) = with("bootargs = \"root=/dev/sda2\";") else { return };
    assert_eq!(plain, Err("E0215"));
    assert_eq!(with("bootargs = \"root=/dev/sda2\"; xen,xen-bootargs = \"sched=null\";").unwrap(), Ok(()));
    let own = |value: &str| {
        with(&format!(
            "xen,xen-bootargs = \"sched=null\"; bootargs = \"quiet\"; mezzanine,bootargs = \"{value}\";"
        ))
    };
    assert_eq!(own("loglevel=debug").unwrap(), Ok(()));
    assert_eq!(own("loglevel=loud").unwrap(), Err("E0216"));
}

#[test]
fn many_modules_are_fine_and_too_many_are_named() {
    let domains: String = (0..17u64)
        .map(|n| {
            domain(&format!("d{n}"), 16 * n + 4, &module("ramdisk", 16 * n + 1, ""))
                .replace("0x10000>", "0x2000>")
        })
        .collect();
    let Some((vms, _)) = good(&domains) else { return };
    assert_eq!(vms.iter().filter(|vm| vm.initrd.is_some()).count(), 17, "34 modules");
    let plain: String = (0..33).map(|n| module("kernel", n, "")).collect();
    let problem = Platform::read(&machine(&plain).unwrap()).err().unwrap();
    assert_eq!(
        problem.to_string(),
        "E0108 /chosen: more than 32 entries. Mezzanine keeps account of 32 at most: a bundle holds 1000 VMs."
    );
    let crowd: String =
        (0..129).map(|n| domain(&format!("d{n}"), 0, "").replace("0x10000>", "0x1000>")).collect();
    assert_eq!(
        read(&crowd).unwrap().unwrap_err().to_string(),
        "E0227 /chosen/d128: more than 128 VMs. Fewer are read."
    );
}

#[test]
fn chosen_ram_is_set_aside_before_anybody_takes_any() {
    let nodes = "xen,static-mem = <0 0x60000000 0 0x1000000 0 0x68000000 0 0x3000000>;";
    let Some((vms, warnings)) = good(&domain("d", 0, nodes)) else { return };
    assert_eq!(warnings, []);
    let range = |start, size| HostRange::new(HostPhysAddr::at(start), size).unwrap();
    let pieces = [range(0x6000_0000, 0x100_0000), range(0x6800_0000, 0x300_0000)];
    assert_eq!(vms[0].static_memory, pieces);
    let older = "#xen,static-mem-address-cells = <1>; #xen,static-mem-size-cells = <1>; xen,static-mem = <0x60000000 0x4000000>;";
    let (vms_by_own_cells, _) = good(&domain("d", 0, older)).unwrap();
    assert_eq!(vms_by_own_cells[0].static_memory, [range(0x6000_0000, 0x400_0000)]);

    let mut memory = Memory::new();
    memory.add(range(0x5800_0000, 0x2000_0000));
    config::set_aside(&vms, &mut memory).unwrap();
    assert_eq!(memory.free(), 0x2000_0000 - 0x400_0000);
    assert_eq!(memory.take_kept(pieces[1]), Some(pieces[1]));
    assert_eq!(memory.take_kept(pieces[1]), None, "once");
    let problem = config::set_aside(&vms, &mut memory).unwrap_err().to_string();
    assert!(
        problem.starts_with("E0232 /chosen/d xen,static-mem: 0x60000000..0x61000000 is not all free RAM."),
        "{problem}"
    );
}

#[test]
fn a_whole_tree_is_checked_without_its_files() {
    let modules = [module("ramdisk", 1, ""), module("device-tree", 2, "")].concat();
    let Some(tree) = machine(&domain("d", 0, &modules)) else { return };
    assert_eq!(check_tree(&tree, None), Ok(vec![]));
    let code = |chosen: &str, host: Option<&HostFacts>| {
        check_tree(&machine(chosen).unwrap(), host).err().map(|problem| problem.code)
    };
    assert_eq!(code(&domain("d", 0, "direct-map;"), None), Some("E0224"));
    assert_eq!(code(&domain("d", 0, "").replace("0x10000>", "0x200000>"), None), Some("E0305"));
    let small = HostFacts { memory: 32 * MIB, ..host() };
    assert_eq!(code(&domain("d", 0, ""), Some(&small)), Some("E0305"));
    assert_eq!(code(&module("kernel", 3, ""), None), None);
    assert_eq!(code("bootargs = \"nosuch=1\";", None), Some("E0215"));
    assert_eq!(code("", None), Some("E0201"));
    assert_eq!(code("linux,initrd-start = <0x48000000>; linux,initrd-end = <0x48001000>;", None), None);
    assert_eq!(check_tree(b"", None).unwrap_err().code, "E0101");
}

#[test]
fn the_examples_in_the_docs_are_right() {
    let docs = include_str!("../../../../docs/config-tree.md");
    let example = |begin: &str, end: &str| {
        let after = docs.split("## Dom0less nodes").nth(1).and_then(|rest| rest.split(begin).nth(1));
        after.and_then(|rest| rest.split(end).next()).unwrap()
    };
    let Some(tree) = machine(example("\nchosen {\n", "\n};\n```")) else { return };
    assert_eq!(codes(&check_tree(&tree, None).unwrap()), ["E0229"], "for xen,xen-bootargs");
    let partial = compiled(example("/dts-v1/;\n/ {\n", "\n};\n```")).unwrap();
    let vm = VmConfig { partial_tree: Some(&partial), ..VmConfig::named("alpha") };
    let mut warnings = Vec::new();
    assert!(vm.partial(&mut warnings).unwrap().is_some());
    assert_eq!(warnings, []);
}

#[test]
fn a_property_that_is_there_twice_is_named() {
    let Some(tree) = machine(&domain("d", 0, "max_grant_frames = <1>; max_grant_version = <1>;")) else {
        return;
    };
    // Only by hand: dtc makes no such tree. The name of one property becomes that of the other.
    let strings = tree.windows(17).position(|w| w == b"max_grant_frames\0").unwrap();
    let other = tree.windows(18).position(|w| w == b"max_grant_version\0").unwrap();
    let start = u32::from_be_bytes(tree[12..16].try_into().unwrap()) as usize;
    let (from, to) = (((strings - start) as u32).to_be_bytes(), ((other - start) as u32).to_be_bytes());
    let mut bad = tree.clone();
    let at = bad.windows(8).position(|w| w[..4] == [0, 0, 0, 4] && w[4..] == from).unwrap();
    bad[at + 4..at + 8].copy_from_slice(&to);
    let problem = check_tree(&bad, None).unwrap_err().to_string();
    assert_eq!(problem, "E0208 /chosen/d max_grant_version: there twice. Give it once.");
}

#[test]
fn no_damage_to_a_machine_with_domains_panics() {
    let nodes = "xen,static-mem = <0 0x60000000 0 0x4000000>; max_grant_frames = <1>;";
    let Some(tree) = machine(&domain("d", 0, &format!("{nodes} {}", module("ramdisk", 1, "")))) else {
        return;
    };
    let blobs = Blobs::new();
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut random = move |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..6000 {
        let mut bad = tree.clone();
        for _ in 0..1 + random(3) {
            let at = random(bad.len());
            bad[at] = if random(2) == 0 { bad[at] ^ 1 << random(8) } else { random(12) as u8 };
        }
        let _ = check_tree(&bad, None);
        let Ok(platform) = Platform::read(&bad) else { continue };
        let code = match config::read(&platform, &|range| blobs.at(range), &host()) {
            Ok(_) => "fine",
            Err(problem) => problem.code,
        };
        *seen.entry(code).or_insert(0) += 1;
    }
    assert!(seen.len() > 8, "{seen:?}");
}
