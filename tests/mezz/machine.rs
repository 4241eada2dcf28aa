//! The machine that QEMU is asked for.

use super::*;

const DEMO: &str = "[machine]\ncpus = 2\nram = \"1G\"\ncpu = \"max\"\n[vm.a]\nkernel = \"Image\"\n";

#[test]
fn printed_and_left() {
    let bench = Bench::new();
    let done =
        bench.mezz(&["run", "--kernel", "Image", "--print", "--options", "loglevel=debug vcpus=1"]).status(0);
    let qemu = bench.path("qemu");
    assert_eq!(
        done.out,
        format!(
            "{} -M virt,virtualization=on,gic-version=3 -cpu cortex-a72 -smp 1 -m 512M -nographic -nic none \
             -no-reboot -kernel target/mezzanine.img -initrd BUNDLE -append 'loglevel=debug vcpus=1'\n",
            qemu.display()
        )
    );
    assert!(!bench.path("args").exists(), "QEMU was started");
}

#[test]
fn a_kept_bundle_is_named() {
    let bench = Bench::new();
    let done = bench.mezz(&["run", "--kernel", "Image", "--print", "--bundle", "kept.cpio"]).status(0);
    assert!(done.out.contains(" -initrd kept.cpio"), "{}", done.out);
    assert!(bench.path("kept.cpio").exists());
}

#[test]
fn the_configuration_decides_and_options_come_first() {
    let bench = Bench::new();
    bench.file("vms.toml", DEMO);
    let printed = bench.mezz(&["run", "vms.toml", "--print"]).status(0).out;
    assert!(printed.contains(" -cpu max -smp 2 -m 1G "), "{printed}");
    let args = ["run", "vms.toml", "--print", "--cpus", "4", "--ram", "2G", "--cpu", "neoverse-n1"];
    let printed = bench.mezz(&args).status(0).out;
    assert!(printed.contains(" -cpu neoverse-n1 -smp 4 -m 2G "), "{printed}");
}

#[test]
fn ram_is_reckoned_from_the_guests() {
    let bench = Bench::new();
    let printed = bench.mezz(&["run", "--kernel", "Image", "--memory", "1G", "--print"]).status(0).out;
    assert!(printed.contains(" -m 1280M "), "{printed}");
    bench
        .mezz(&["run", "--kernel", "Image", "--memory", "1G", "--ram", "1G"])
        .status(2)
        .says(&["E0305", "vm.guest memory: 1G, with 1014M of the machine's 1014M left for it"]);
    bench.file("vms.toml", "[machine]\nram = \"64M\"\n[vm.a]\nkernel = \"Image\"\n");
    bench.mezz(&["run", "vms.toml"]).status(2).says(&["E0305", "--> vms.toml:3:5", "256M, with"]);
}

#[test]
fn the_gic_and_the_tree() {
    let bench = Bench::new();
    let print = ["run", "--kernel", "Image", "--print"];
    let printed = |more: &[&str]| bench.mezz(&[&print[..], more].concat()).status(0).out;
    assert!(printed(&["--gic", "2"]).contains(" -M virt,virtualization=on,gic-version=2 "));
    bench.mezz(&[&print[..], &["--gic", "4"]].concat()).status(2).says(&["2 or 3"]);
    bench.file("vms.toml", "[machine]\ngic = 2\n[vm.a]\nkernel = \"Image\"\n");
    let of_config =
        |more: &[&str]| bench.mezz(&[&["run", "vms.toml", "--print"], more].concat()).status(0).out;
    assert!(
        of_config(&[]).contains("gic-version=2 ") && of_config(&["--gic", "3"]).contains("gic-version=3 ")
    );

    bench.file("m.dtb", include_bytes!("../fixtures/virt-gicv3.dtb"));
    assert!(printed(&["--dtb", "m.dtb"]).contains(" -initrd BUNDLE -dtb m.dtb"));
    let alone = bench.mezz(&["run", "--dtb", "m.dtb", "--print"]).status(0).out;
    assert!(alone.contains(" -dtb m.dtb") && !alone.contains("-initrd"), "{alone}");
    bench
        .mezz(&[&print[..], &["--dtb", "gone.dtb"]].concat())
        .status(2)
        .says(&["E0505", "gone.dtb does not"]);
    bench.mezz(&[&print[..], &["--dtb", "Image"]].concat()).status(2).says(&["E0521", "arm64 Linux Image"]);
}

#[test]
fn guests_that_the_machine_cannot_have_are_not_started() {
    let bench = Bench::new();
    bench.file("vms.toml", "[machine]\ngic = 2\n[vm.a]\nkernel = \"Image\"\ngic = 3\n");
    bench.mezz(&["run", "vms.toml"]).status(2).says(&["E0323", "--> vms.toml:5:7"]);
    bench.mezz(&["run", "--kernel", "Image", "--vgic", "3", "--gic", "2"]).status(2).says(&["E0323"]);
    bench.mezz(&["run", "--kernel", "Image", "--vcpus", "9", "--gic", "2"]).status(2).says(&["1 to 8 with"]);
    bench.mezz(&["run", "--kernel", "Image", "--memory", "504M", "--ram", "512M"]).status(2).says(&["E0305"]);
    let modules = ["run", "--kernel", "Image", "--memory", "504M", "--ram", "512M", "--modules"];
    bench.mezz(&modules).status(2).says(&["E0305"]);
    bench.mezz(&["run", "vms.toml", "--gic", "3", "--print"]).status(0);
    assert!(!bench.path("args").exists(), "QEMU was started");
}

#[test]
fn guests_in_a_tree_are_checked_before_the_start() {
    if !have("dtc") {
        return;
    }
    let bench = Bench::new();
    let mut dtc = Command::new("dtc");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/virt-gicv3.dtb");
    let text = dtc.args(["-q", "-I", "dtb", "-O", "dts"]).arg(fixture).output().unwrap().stdout;
    let text = String::from_utf8(text).unwrap();
    let module = "module@0x54000000 {";
    assert!(text.contains(module), "{text}");
    let compiled = |text: &str| {
        bench.file("m.dts", text);
        let mut dtc = Command::new("dtc");
        dtc.args(["-q", "-I", "dts", "-O", "dtb", "-o"]).arg(bench.path("m.dtb")).arg(bench.path("m.dts"));
        assert!(dtc.status().unwrap().success());
    };
    let with = |memory: u32| {
        let vm = format!(
            "vm {{ compatible = \"xen,domain\"; memory = <{memory}>; cpus = <1>; kernel {{ compatible = \
             \"multiboot,kernel\", \"multiboot,module\"; reg = <0 0x48000000 0 0x100000>; }}; }};"
        );
        compiled(&text.replacen(module, &format!("{vm} {module}"), 1));
    };
    with(65536);
    bench.mezz(&["run", "--dtb", "m.dtb", "--print"]).status(0);
    with(2);
    bench.mezz(&["run", "--dtb", "m.dtb"]).status(2).says(&["E0303", "--> m.dtb:", "memory = <0x2>"]);
    with(1 << 20);
    bench.mezz(&["run", "--dtb", "m.dtb"]).status(2).says(&["E0305", "1G"]);
    compiled(&text.replace("multiboot,module", "nothing"));
    bench.mezz(&["run", "--dtb", "m.dtb"]).status(2).says(&["E0201", "no VM to run"]);
    bench.mezz(&["run", "--dtb", "m.dtb", "--kernel", "Image", "--print"]).status(0);
    let loader = "--qemu-arg=guest-loader,addr=0x50000000,kernel=Image";
    bench.mezz(&["run", "--dtb", "m.dtb", "--print", "--qemu-arg=-device", loader]).status(0);
    assert!(!bench.path("args").exists(), "QEMU was started");
}

#[test]
fn exits_are_counted_by_an_option_of_mezzanines() {
    let bench = Bench::new();
    let print = ["run", "--kernel", "Image", "--print", "--trace-exits"];
    assert!(bench.mezz(&print).status(0).out.ends_with(" -append trace-exits\n"));
    let both = [&print[..], &["--options", "loglevel=debug"]].concat();
    assert!(bench.mezz(&both).status(0).out.ends_with(" -append 'loglevel=debug trace-exits'\n"));
}

#[test]
fn semihosting_is_refused_with_the_reason() {
    let bench = Bench::new();
    for arg in ["-semihosting", "--semihosting-config", "-semihosting-config=enable=on", "-readconfig"] {
        bench.mezz(&["run", "--kernel", "Image", "--qemu-arg", arg]).status(2).says(&[
            "E0511",
            arg,
            "HLT 0xF000",
            "served on this host",
        ]);
    }
    bench.mezz(&["run", "--kernel", "Image", "--qemu-arg", "-cpu"]).status(2).says(&["use --cpu"]);
    assert!(!bench.path("args").exists(), "QEMU was started");
}

#[test]
fn options_that_mezzanine_does_not_know() {
    let bench = Bench::new();
    bench.mezz(&["run", "--kernel", "Image", "--options", "loglvel=debug"]).status(2).says(&[
        "E0215",
        "loglvel",
        "Did you mean \"loglevel\"?",
    ]);
}

#[test]
fn arguments_for_qemu_go_last() {
    let bench = Bench::new();
    bench.mezz(&["run", "--kernel", "Image", "--qemu-arg", "-d", "--qemu-arg=a b"]).status(0);
    let args = std::fs::read_to_string(bench.path("args")).unwrap();
    assert!(args.ends_with("\n-d\na b\n"), "{args}");
}

#[test]
fn no_32_bit_cpus() {
    let bench = Bench::new();
    for cpu in ["cortex-a15", "max,aarch64=off"] {
        bench.mezz(&["run", "--kernel", "Image", "--cpu", cpu]).status(2).says(&["E0509", "no 64-bit EL2"]);
    }
    bench.file("vms.toml", "[machine]\ncpu = \"cortex-a7\"\n[vm.a]\nkernel = \"Image\"\n");
    bench.mezz(&["run", "vms.toml"]).status(2).says(&["--> vms.toml:2:7", "no 64-bit EL2"]);
}

#[test]
fn boards() {
    let bench = Bench::new();
    bench.mezz(&["run", "--kernel", "Image", "--board", "qemu-virt"]).status(0);
    bench.mezz(&["run", "--kernel", "Image", "--board", "qemu-vrit"]).status(2).says(&["mean `qemu-virt`?"]);
}

#[test]
fn the_image() {
    let bench = Bench::new();
    bench.file("other.img", "image");
    let print = ["run", "--kernel", "Image", "--print"];
    let named = bench.mezz(&[&print[..], &["--image", "other.img"]].concat()).status(0).out;
    assert!(named.contains(" -kernel other.img "), "{named}");
    let mut command = bench.command(&print);
    let done = Done::of(command.env("MEZZANINE_IMAGE", "other.img").output().unwrap()).status(0);
    assert!(done.out.contains(" -kernel other.img "), "{}", done.out);
    std::fs::remove_file(bench.path("target/mezzanine.img")).unwrap();
    bench.mezz(&print).status(2).says(&["E0510", "target/mezzanine.img", "make image"]);
}

#[test]
fn modules_instead_of_a_bundle() {
    let bench = Bench::new();
    let args =
        ["run", "--kernel", "Image", "--initrd", "initrd.gz", "--cmdline", "a=1,2", "--modules", "--print"];
    let printed = bench.mezz(&args).status(0).out;
    assert!(
        printed.contains(
            " -device guest-loader,addr=0x5fc00000,kernel=Image,bootargs=a=1,,2 \
             -device guest-loader,addr=0x5fe00000,initrd=initrd.gz -append 'memory=256M vcpus=1'"
        ),
        "{printed}"
    );
    assert!(!printed.contains("-initrd"), "{printed}");
    bench.file("vms.toml", "[vm.a]\nkernel = \"Image\"\n[vm.b]\nkernel = \"Image\"\nmemory = \"64M\"\n");
    bench.mezz(&["run", "vms.toml", "--modules"]).status(2).says(&["E0513", "`a` and `b` differ"]);
}
