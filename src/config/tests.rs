use super::*;
use crate::addr::{Address, HostPhysAddr};
use crate::fdt::tests::{compiled, run};
use crate::fdt::{Module, ModuleKind, Platform};
use crate::guest::linux::tests::kernel;
use std::collections::BTreeMap;
use std::vec::Vec;

const MIB: u64 = 1 << 20;

fn host() -> HostFacts {
    HostFacts { cpus: 4, memory: 900 * MIB, gic: GicVersion::V3 }
}

fn cpio() -> Vec<u8> {
    bundle::write(&[]).unwrap()
}

fn vm<'a>(name: &str, kernel: &'a [u8], initrd: Option<&'a [u8]>) -> VmConfig<'a> {
    VmConfig {
        kernel: Some(kernel),
        initrd,
        cmdline: "quiet",
        memory: 64 * MIB,
        vcpus: 2,
        ..VmConfig::named(name)
    }
}

/// What a check says of one VM that was changed.
fn verdict(change: impl Fn(&mut VmConfig<'_>)) -> Problem {
    let (image, archive) = (kernel(1000, MIB, 0), cpio());
    let mut vm = vm("alpha", &image, Some(&archive));
    assert_eq!(check(std::slice::from_ref(&vm), Some(&host())).unwrap(), []);
    change(&mut vm);
    check(&[vm], Some(&host())).unwrap_err()
}

#[test]
fn each_bad_vm_has_its_problem() {
    assert_eq!(check(&[], None).unwrap_err().code, "E0201");
    let say = |change: &dyn Fn(&mut VmConfig<'_>)| verdict(change).to_string();
    let long = "x".repeat(32);
    for name in ["", "a b", "über", "a/b", &long] {
        assert_eq!(verdict(|vm| vm.name = name.into()).code, "E0301", "{name}");
    }
    assert_eq!(
        say(&|vm| vm.memory += 1),
        "E0303 vm.alpha memory: 67108865 bytes. Use a multiple of 4K, such as 64M."
    );
    assert_eq!(
        say(&|vm| vm.memory = MIB),
        "E0304 vm.alpha memory: 1M is too little. Use at least 4M; Linux wants 64M."
    );
    assert_eq!(
        say(&|vm| vm.memory = 2048 * MIB),
        "E0305 vm.alpha memory: 2G, with 900M of the machine's 900M left for it. Give all VMs together at most 900M."
    );
    assert_eq!(say(&|vm| vm.vcpus = 0), "E0306 vm.alpha vcpus: 0. Use 1 to 64 with GICv3.");
    assert_eq!(verdict(|vm| vm.vcpus = 65).code, "E0306");
    let nine = |vm: &mut VmConfig<'_>| (vm.vcpus, vm.gic) = (9, Some(GicVersion::V2));
    assert_eq!(say(&nine), "E0306 vm.alpha vcpus: 9. Use 1 to 8 with GICv2.");
    assert_eq!(verdict(|vm| vm.cmdline = "x".repeat(2048).leak()).code, "E0307");
    assert_eq!(verdict(|vm| vm.cmdline = "a\0b").code, "E0307");
    assert_eq!(verdict(|vm| vm.kernel = Some(b"")).code, "E0401");
    assert_eq!(verdict(|vm| vm.kernel = Some(b"\x7fELF")).code, "E0422");
    assert_eq!(verdict(|vm| vm.initrd = Some(b"")).code, "E0406");
    assert_eq!(verdict(|vm| vm.initrd = Some(&[0; 512])).code, "E0406");
    assert_eq!(verdict(|vm| vm.initrd = Some(&[7; 70 << 20])).code, "E0407");
}

#[test]
fn firmware_is_checked_too() {
    let code = |change: &dyn Fn(&mut VmConfig<'_>)| verdict(change).code;
    assert_eq!(code(&|vm| vm.firmware = Some(b"")), "E0431");
    assert_eq!(code(&|vm| vm.kernel = None), "E0434");
    let nothing = |vm: &mut VmConfig<'_>| (vm.kernel, vm.cmdline) = (None, "");
    assert_eq!(code(&nothing), "E0432");
    let mut large = vec![0x55; (64 << 20) + 1];
    large[..4].copy_from_slice(&0x1400_0010u32.to_le_bytes());
    let vm = VmConfig { firmware: Some(&large), ..vm("alpha", &[], None) };
    assert_eq!(
        check(&[VmConfig { kernel: None, cmdline: "", ..vm.clone() }], None).unwrap_err().code,
        "E0430"
    );

    // Its ROM is memory of the machine, too: the image's blocks, and one that is erased.
    let rom = &large[..5 << 20];
    let mut alone = VmConfig { kernel: None, firmware: Some(rom), cmdline: "", memory: 892 * MIB, ..vm };
    assert_eq!(check(std::slice::from_ref(&alone), Some(&host())), Ok(vec![]));
    alone.memory += MIB;
    assert_eq!(
        check(&[alone], Some(&host())).unwrap_err().to_string(),
        "E0305 vm.alpha memory: 901M with its firmware, with 900M of the machine's 900M left for it. Give all VMs together at most 900M."
    );
}

#[test]
fn firmware_goes_through_a_bundle() {
    let (image, rom) = (kernel(1000, MIB, 0), kernel(700, MIB, 0));
    let mut alpha = VmConfig { firmware: Some(&rom), ..vm("alpha", &image, None) };
    let mut beta = VmConfig { kernel: None, cmdline: "", ..alpha.clone() };
    beta.name = "beta".into();
    let packed = bundle::write(&[alpha.clone(), beta.clone()]).unwrap();
    for vm in [&mut alpha, &mut beta] {
        vm.place = format!("/chosen/{}", vm.name);
    }
    assert_eq!(bundle::read(&packed).unwrap(), [alpha, beta]);
}

#[test]
fn vms_are_checked_against_each_other() {
    let image = kernel(1000, MIB, 0);
    let twins = [vm("alpha", &image, None), vm("alpha", &image, None)];
    assert_eq!(check(&twins, None).unwrap_err().code, "E0302");
    let mut pair = [vm("alpha", &image, None), vm("beta", &image, None)];
    pair[0].memory = 600 * MIB;
    pair[1].memory = 301 * MIB;
    assert_eq!(
        check(&pair, Some(&host())).unwrap_err().to_string(),
        "E0305 vm.beta memory: 301M, with 300M of the machine's 900M left for it. Give all VMs together at most 900M."
    );
    pair[1].memory = 300 * MIB;
    assert_eq!(check(&pair, Some(&host())), Ok(vec![]));
}

#[test]
fn all_that_is_wrong_is_found_at_once() {
    let image = kernel(1000, MIB, 0);
    let wrong = VmConfig {
        memory: 900 * MIB + 1,
        vcpus: 0,
        cmdline: "a\nb console=hvc0",
        ..vm("a b", b"\x7fELF", Some(&[0; 9]))
    };
    let twins = [vm("alpha", &image, None), wrong, vm("alpha", &image, Some(b"odd"))];
    let mut found = Findings::default();
    check_all(&twins, Some(&host()), &mut found);
    let codes = |problems: &[Problem]| problems.iter().map(|p| p.code).collect::<Vec<_>>();
    assert_eq!(
        codes(&found.errors),
        ["E0301", "E0303", "E0306", "E0305", "E0307", "E0406", "E0422", "E0302"]
    );
    assert_eq!(codes(&found.warnings), ["E0308", "E0409"]);
    assert_eq!(found.settle().unwrap_err().code, "E0301");
}

#[test]
fn an_odd_initrd_is_a_warning() {
    let image = kernel(1000, MIB, 0);
    let warnings = check(&[vm("alpha", &image, Some(b"\x91\x92"))], None).unwrap();
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].code, "E0409");
}

#[test]
fn a_bundle_reads_back_as_what_went_in() {
    let (image, other, archive) = (kernel(5001, MIB, 0), kernel(703, MIB, 2), cpio());
    let mut alpha = vm("alpha", &image, Some(&archive));
    alpha.gic = Some(GicVersion::V2);
    alpha.memory = 5 << 30;
    let mut beta = vm("beta_2", &other, None);
    beta.cmdline = "";
    let mut gamma = vm("3-gamma", &image, None);
    gamma.without_uart = true;
    (gamma.weight, gamma.cap, gamma.console_log) = (Some(65535), Some(25), Some(1 << 20));
    gamma.affinity = vec![0b1011, 0];
    (beta.dedicated, beta.affinity) = (true, vec![1 << 63, u64::MAX]);
    gamma.partial_tree = Some(b"a tree");
    let piece = |start| HostRange::new(HostPhysAddr::at(start), 32 * MIB).unwrap();
    gamma.static_memory = vec![piece(0x1_6000_0000), piece(0x5000_0000)];
    let packed = bundle::write(&[alpha.clone(), beta.clone(), gamma.clone()]).unwrap();
    assert!(packed.len() < 2 * image.len() + other.len() + 4096, "the shared kernel is in it once");
    for vm in [&mut alpha, &mut beta] {
        vm.place = format!("/chosen/{}", vm.name);
    }
    let vms = bundle::read(&packed).unwrap();
    assert_eq!(vms[..2], [alpha, beta]);
    gamma.place = "/chosen/3-gamma".into();
    assert_eq!(vms[2], gamma);
    let again = || bundle::write(std::slice::from_ref(&gamma));
    assert_eq!(again(), again(), "the same bytes each time");
    let unfit = VmConfig { name: "a b".into(), ..VmConfig::named("x") };
    assert_eq!(bundle::write(&[unfit]).unwrap_err().code, "E0217");
}

#[test]
fn files_in_a_bundle_are_aligned() {
    let image = kernel(1000, MIB, 0);
    for name in ["a", "alpha", "a-name-as-long-as-names-may-be-"] {
        let packed = bundle::write(&[vm(name, &image, Some(b"070701 and more"))]).unwrap();
        let vms = bundle::read(&packed).unwrap();
        for data in [vms[0].kernel.unwrap(), vms[0].initrd.unwrap()] {
            let offset = data.as_ptr().addr() - packed.as_ptr().addr();
            assert!(offset.is_multiple_of(64), "{name}: {offset}");
        }
    }
}

#[test]
fn cpio_lists_our_bundle_and_we_read_its() {
    let image = kernel(5000, MIB, 0);
    let archive = cpio();
    let packed = bundle::write(&[vm("alpha", &image, Some(&archive))]).unwrap();
    let dir = std::env::temp_dir().join(format!("mezzanine-bundle-{}", std::process::id()));
    std::fs::create_dir_all(dir.join("alpha")).unwrap();
    if let Some((list, _)) = run("cpio", &["-t", "--quiet"], &dir, &packed) {
        assert_eq!(String::from_utf8(list).unwrap(), "mezzanine.dtb\nalpha/kernel\nalpha/initrd\n");
        run("cpio", &["-i", "--quiet", "-u"], &dir, &packed).unwrap();
        std::fs::hard_link(dir.join("alpha/kernel"), dir.join("another-name")).unwrap();
        for format in ["newc", "crc"] {
            let names = b".\n./mezzanine.dtb\n./alpha\n./alpha/kernel\n./another-name\n./alpha/initrd\n";
            let (made, _) = run("cpio", &["-o", "--quiet", "-H", format], &dir, names).unwrap();
            let vms = bundle::read(&made).unwrap();
            assert!(
                vms[0].kernel == Some(&image),
                "{format}: a kernel with two names has its bytes at the second"
            );
            assert!(vms[0].initrd == Some(&archive));
        }
        let (old, _) = run("cpio", &["-o", "--quiet", "-H", "odc"], &dir, b"mezzanine.dtb\n").unwrap();
        assert_eq!(bundle::read(&old).unwrap_err().code, "E0203");
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_truncated_or_damaged_bundle_is_refused() {
    let image = kernel(3000, MIB, 0);
    let packed = bundle::write(&[vm("alpha", &image, None)]).unwrap();
    let code = |bytes: &[u8]| bundle::read(bytes).err().map(|p| p.code);
    assert_eq!(code(&packed), None);
    assert_eq!(code(b""), Some("E0203"));
    assert_eq!(code(b"\x1f\x8b\x08"), Some("E0203"));
    for cut in (6..packed.len() - 8).step_by(13) {
        assert_eq!(code(&packed[..cut]), Some("E0204"), "cut at {cut}");
    }
    let mut bad = packed.clone();
    let at = packed.windows(6).rposition(|w| w == b"070701").unwrap();
    bad[at + 5] = b'7';
    assert_eq!(code(&bad), Some("E0204"));
    let text = bundle::read(&packed[..2000]).unwrap_err().to_string();
    assert!(text.contains("after 1 files"), "{text}");

    // A guest's own initrd, taken for a bundle.
    let text =
        bundle::read(&cpio().iter().copied().map(|b| if b == b'z' { b'y' } else { b }).collect::<Vec<_>>())
            .unwrap_err()
            .to_string();
    assert!(
        text.starts_with("E0205 bundle: no mezzanine.dtb among its 1 files (the first is meyyanine.dtb)"),
        "{text}"
    );
}

#[test]
fn no_damage_to_a_bundle_panics() {
    let image = kernel(300, MIB, 0);
    let packed = bundle::write(&[vm("alpha", &image, Some(b"070701")), vm("beta", &image, None)]).unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let mut codes = BTreeMap::new();
    for _ in 0..6000 {
        let mut bytes = packed.clone();
        for _ in 0..1 + random(3) {
            let at = random(bytes.len());
            bytes[at] = if random(2) == 0 { bytes[at] ^ 1 << random(8) } else { random(256) as u8 };
        }
        let code = match bundle::read(&bytes) {
            Ok(vms) => check(&vms, Some(&host())).err().map_or("fine", |p| p.code),
            Err(problem) => problem.code,
        };
        *codes.entry(code).or_insert(0) += 1;
    }
    assert!(codes.len() > 6, "{codes:?}");
}

/// A bundle of one tiny kernel with a tree of one's own, compiled by dtc; `None` where there is no dtc.
fn hand_made(domain: &str) -> Option<Vec<u8>> {
    let tree = compiled(domain)?;
    let image = kernel(200, MIB, 0);
    Some(archive(&[("./mezzanine.dtb", &tree), ("boot", b""), ("boot/Image", &image)]))
}

/// A newc archive, written here by another hand than the one under test.
fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, data) in files.iter().chain(&[("TRAILER!!!", &b""[..])]) {
        let fields = [7, 0o100_644, 0, 0, 1, 0, data.len(), 0, 0, 0, 0, name.len() + 1, 0];
        out.extend(b"070701");
        fields.iter().for_each(|field| out.extend(format!("{field:08X}").bytes()));
        out.extend(name.bytes().chain([0]));
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(*data);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

#[test]
fn a_tree_by_hand_is_understood_or_refused_with_a_hint() {
    let kernel =
        "k { compatible = \"multiboot,kernel\", \"multiboot,module\"; xen,uefi-binary = \"boot/Image\"; };";
    let chosen = |vm: &str| format!("chosen {{ {vm} }};");
    let domain = |rest: &str| chosen(&format!("a@0 {{ compatible = \"xen,domain\"; {rest} }};"));
    let sized = |rest: &str| domain(&format!("memory = <65536>; cpus = <1>; {rest}"));
    let Some(packed) = hand_made(&sized(kernel)) else { return };
    let vms = bundle::read(&packed).unwrap();
    assert_eq!((vms[0].name.as_str(), vms[0].memory, vms[0].vcpus), ("a", 64 * MIB, 1));
    assert_eq!(check(&vms, Some(&host())), Ok(vec![]));
    assert_eq!(bundle::read(&hand_made("chosen { };").unwrap()), Ok(vec![]));

    let ramdisk = kernel.replace("kernel", "ramdisk").replace("k {", "r {");
    let cases = [
        ("E0207", "Did you mean \"cpus\"?", sized(&format!("cpu = <1>; {kernel}"))),
        (
            "E0207",
            "Did you mean \"mezzanine,gic-version\"?",
            sized(&format!("mezzanine,gicversion = <3>; {kernel}")),
        ),
        ("E0207", "Did you mean \"chosen\"?", "choosen { };".into()),
        ("E0207", "Known are: compatible", format!("zzz; {}", sized(kernel))),
        ("E0207", "Did you mean \"bootargs\"?", sized(&kernel.replace("k {", "k { bootarg = \"x\";"))),
        (
            "E0207",
            "bootargs",
            sized(&format!("{kernel} {}", ramdisk.replace("r {", "r { bootargs = \"x\";"))),
        ),
        ("E0208", "xen,domain", chosen("a { };")),
        ("E0208", "KiB", domain(&format!("memory = <1 2 3>; cpus = <1>; {kernel}"))),
        ("E0208", "KiB", domain(&format!("memory = <0xffffffff 0>; cpus = <1>; {kernel}"))),
        ("E0208", "2 and 3", sized(&format!("mezzanine,gic-version = <4>; {kernel}"))),
        ("E0208", "known kind", sized("k { compatible = \"multiboot,module\"; };")),
        ("E0208", "second one", sized(&format!("{kernel} {}", kernel.replace("k {", "l {")))),
        ("E0208", "no text", sized(&kernel.replace("\"boot/Image\"", "<0xff000000>"))),
        ("E0209", "memory: missing", domain(&format!("cpus = <1>; {kernel}"))),
        ("E0209", "cpus: missing", domain(&format!("memory = <65536>; {kernel}"))),
        ("E0209", "no kernel", sized("")),
        ("E0207", "Did you mean \"mezzanine,firmware\"?", sized("mezzanine,firmwar = \"boot/Image\";")),
        ("E0208", "mezzanine,firmware: no text", sized("mezzanine,firmware = <0xff000000>;")),
        ("E0210", "mezzanine,firmware: no file \"rom.bin\"", sized("mezzanine,firmware = \"rom.bin\";")),
        (
            "E0209",
            "xen,uefi-binary: missing",
            sized("k { compatible = \"multiboot,kernel\", \"multiboot,module\"; };"),
        ),
        ("E0210", "Did you mean \"boot/Image\"?", sized(&kernel.replace("boot/Image", "boot/image"))),
    ];
    for (code, part, source) in cases {
        let packed = hand_made(&source).unwrap();
        let problem = bundle::read(&packed).err().unwrap_or_else(|| panic!("{code}: accepted {source}"));
        assert_eq!(problem.code, code, "{problem}\n{source}");
        assert!(problem.to_string().contains(part), "{problem}\n{source}");
    }
    let damaged = archive(&[("mezzanine.dtb", b"no tree")]);
    assert_eq!(bundle::read(&damaged).unwrap_err().code, "E0206");
}

/// A machine with modules at these addresses, and what lies there.
fn machine<'a>(modules: &[(u64, ModuleKind, &'a [u8])]) -> (Platform<'a>, BTreeMap<u64, &'a [u8]>) {
    let mut platform = Platform::default();
    for (at, kind, blob) in modules {
        let range = HostRange::new(HostPhysAddr::at(*at), blob.len() as u64).unwrap();
        platform.modules.push(Module { name: "module@0", kind: *kind, range, bootargs: "quiet" }).unwrap();
    }
    (platform, modules.iter().map(|(at, _, blob)| (*at, *blob)).collect())
}

fn read_machine<'a>(
    (platform, blobs): &(Platform<'a>, BTreeMap<u64, &'a [u8]>),
) -> Result<MachineConfig<'a>, Problem> {
    read(platform, &|range| blobs.get(&range.start().raw()).copied(), &host())
}

#[test]
fn one_plain_kernel_gets_the_machine() {
    let (image, archive) = (kernel(1000, MIB, 0), cpio());
    let mut m =
        machine(&[(0x5400_0000, ModuleKind::Ramdisk, &archive), (0x5000_0000, ModuleKind::Kernel, &image)]);
    let config = read_machine(&m).unwrap();
    let [vm] = &config.vms[..] else { panic!("{:?}", config.vms) };
    assert_eq!((vm.name.as_str(), vm.memory, vm.vcpus), ("vm0", 900 * MIB, 4));
    assert_eq!((vm.kernel, vm.initrd, vm.cmdline), (Some(&image[..]), Some(&archive[..]), "quiet"));
    m.0.bootargs = "memory=64M vcpus=2";
    let vm = &read_machine(&m).unwrap().vms[0];
    assert_eq!((vm.memory, vm.vcpus), (64 * MIB, 2));
    m.0.bootargs = "memry=64M";
    assert_eq!(read_machine(&m).unwrap_err().code, "E0215");
    m.0.bootargs = "memory=1G";
    assert_eq!(read_machine(&m).unwrap_err().code, "E0305");
}

#[test]
fn several_kernels_share_evenly_in_the_order_of_their_addresses() {
    let (one, two, archive) = (kernel(1000, MIB, 0), kernel(2000, MIB, 0), cpio());
    let m = machine(&[
        (0x6000_0000, ModuleKind::Kernel, &two),
        (0x5000_0000, ModuleKind::Kernel, &one),
        (0x6400_0000, ModuleKind::Ramdisk, &archive),
    ]);
    let config = read_machine(&m).unwrap();
    let facts: Vec<_> = config
        .vms
        .iter()
        .map(|vm| (vm.kernel.unwrap().len(), vm.initrd.is_some(), vm.memory, vm.vcpus))
        .collect();
    assert_eq!(facts, [(1000, false, 450 * MIB, 4), (2000, true, 450 * MIB, 4)]);
}

#[test]
fn modules_out_of_order_are_refused() {
    let (image, archive) = (kernel(1000, MIB, 0), cpio());
    let code = |modules: &[(u64, ModuleKind, &[u8])]| read_machine(&machine(modules)).unwrap_err().code;
    let (k, r) = (ModuleKind::Kernel, ModuleKind::Ramdisk);
    assert_eq!(code(&[]), "E0201");
    let (a, b, c) = (0x5000_0000, 0x5100_0000, 0x5200_0000);
    assert_eq!(code(&[(b, k, &image), (a, r, &archive)]), "E0211");
    assert_eq!(code(&[(a, k, &image), (b, r, &archive), (c, r, &archive)]), "E0212");
    assert_eq!(code(&[(a, k, &image), (b, ModuleKind::Other, &archive)]), "E0214");
    assert_eq!(code(&[(a, k, &image), (a + 999, r, &archive)]), "E0223");
    let (platform, _) = machine(&[(1, k, &image)]);
    assert_eq!(read(&platform, &|_| None, &host()).unwrap_err().code, "E0202");
}

#[test]
fn a_bundle_comes_before_modules_and_both_may_be_there() {
    let image = kernel(1000, MIB, 0);
    let packed = bundle::write(&[vm("alpha", &image, None)]).unwrap();
    let (mut platform, mut blobs) = machine(&[(0x5000_0000, ModuleKind::Kernel, &image)]);
    platform.initrd = HostRange::new(HostPhysAddr::at(0x4800_0000), packed.len() as u64);
    blobs.insert(0x4800_0000, &packed);
    let config = read_machine(&(platform, blobs)).unwrap();
    let facts: Vec<_> = config.vms.iter().map(|vm| (vm.name.as_str(), vm.memory)).collect();
    assert_eq!(facts, [("alpha", 64 * MIB), ("vm1", 836 * MIB)]);
}

#[test]
fn the_example_in_the_docs_is_right() {
    let docs = include_str!("../../docs/config-tree.md");
    let source = docs.split("/dts-v1/;\n/ {").nth(1).and_then(|s| s.split("\n};\n```").next()).unwrap();
    let Some(tree) = compiled(source) else { return };
    let (image, initrd) = (kernel(1000, MIB, 0), cpio());
    let packed = archive(&[("mezzanine.dtb", &tree), ("Image", &image), ("initrd.gz", &initrd)]);
    let vms = bundle::read(&packed).unwrap();
    assert_eq!((vms[0].name.as_str(), vms[0].memory, vms[0].vcpus), ("alpha", 256 * MIB, 2));
    assert_eq!((vms[0].initrd, vms[0].without_uart), (Some(&initrd[..]), false));
}

#[test]
fn a_tree_is_judged_as_at_boot() {
    let tree = include_bytes!("../../tests/fixtures/virt-initrd.dtb");
    let mut found = Findings::default();
    let known = check_tree_all(tree, None, &mut found).unwrap();
    assert_eq!((known.vms, known.bundle, &found.errors[..]), (0, true, &[][..]));
    assert!(known.host.memory.is_multiple_of(2 * MIB));
    // The initrd where there is no RAM: EL2 would not read it either.
    let mut moved = tree.to_vec();
    for (from, to) in [(0x4800_0000u64, 0x9000_0000u64), (0x4800_2000, 0x9000_2000)] {
        let at = moved.windows(8).position(|bytes| bytes == from.to_be_bytes()).unwrap();
        moved[at..at + 8].copy_from_slice(&to.to_be_bytes());
    }
    assert_eq!(check_tree(&moved, None).unwrap_err().code, "E0202");
}

#[test]
fn what_vms_take_at_el2_is_counted() {
    let image = kernel(1000, MIB, 0);
    let vms: Vec<_> = (0..100)
        .map(|n| VmConfig { memory: 8 * MIB, vcpus: 1, ..vm(&std::format!("v{n}"), &image, None) })
        .collect();
    let host = HostFacts { memory: 815 * MIB, ..host() };
    // 20 MiB for a hundred, of which 4 are kept back in any case.
    assert_eq!(check(&vms[..20], Some(&HostFacts { memory: 160 * MIB, ..host })).unwrap(), []);
    assert_eq!(
        check(&vms, Some(&host)).unwrap_err().to_string(),
        "E0305 vm.v99 memory: 8M, with 7M of the machine's 799M left for it. Give all VMs together at most 799M."
    );
    assert_eq!(check(&vms, Some(&HostFacts { memory: 816 * MIB, ..host })).unwrap(), []);
    let many: Vec<_> = (0..1001).map(|n| vm(&std::format!("v{n}"), &image, None)).collect();
    assert_eq!(check(&many, None).unwrap_err().code, "E0227");
    assert_eq!(check(&many[..1000], None).unwrap(), []);
}
