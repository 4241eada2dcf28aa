//! Configurations and bundles.

use super::*;

#[test]
fn a_mistake_is_shown_at_its_line() {
    let bench = Bench::new();
    bench.file("vms.toml", "[vm.alpha]\nkernel = \"Image\"\nmemry = \"256M\"\n");
    for verb in [&["run", "vms.toml"][..], &["pack", "vms.toml", "-o", "b.cpio"]] {
        let done = bench.mezz(verb).status(2).says(&[
            "error[E0502]: unknown key `memry` in [vm.alpha]",
            "--> vms.toml:3:1",
            "3 | memry = \"256M\"",
            "  | ^^^^^ not a key here",
            "help: did you mean `memory`?",
        ]);
        assert!(!done.err.contains('\x1b'), "colour without a terminal: {}", done.err);
        assert_eq!(done.out, "");
    }
    assert!(!bench.path("b.cpio").exists() && !bench.path("args").exists());
}

#[test]
fn files_are_relative_to_the_configuration() {
    let bench = Bench::new();
    bench.kernel("sub/Image2");
    bench.file("sub/vms.toml", "[vm.a]\nkernel = \"Image2\"\n");
    bench.mezz(&["pack", "sub/vms.toml", "-o", "b.cpio"]).status(0);
    bench.file("sub/vms.toml", "[vm.a]\nkernel = \"Image\"\n");
    bench.mezz(&["pack", "sub/vms.toml", "-o", "b.cpio"]).status(2).says(&[
        "kernel of VM `a`: sub/Image does not exist",
        "--> sub/vms.toml:2:10",
        "relative to the configuration's own directory",
    ]);
}

#[test]
fn configurations_that_cannot_be_read() {
    let bench = Bench::new();
    bench.mezz(&["run", "gone.toml"]).status(2).says(&["E0505", "gone.toml does not exist"]);
    std::fs::write(bench.path("bad.toml"), b"\xff\xfe").unwrap();
    bench.mezz(&["run", "bad.toml"]).status(2).says(&["bad.toml is not text in UTF-8"]);
    bench.mezz(&["run", "target"]).status(2).says(&["target is a directory"]);
    bench.file("empty.toml", b"");
    bench.mezz(&["run", "empty.toml"]).status(2).says(&["E0508", "no VM"]);
}

#[test]
fn what_has_no_end_is_not_read() {
    let bench = Bench::new();
    for device in ["/dev/zero", "/dev/null"] {
        bench.file("vms.toml", format!("[vm.a]\nkernel = \"{device}\"\n"));
        bench.mezz(&["check", "vms.toml"]).status(1).says(&["E0505", "is no regular file", "vms.toml:2:10"]);
        bench.mezz(&["run", "--kernel", "Image", "--initrd", device]).status(2).says(&["is no regular file"]);
        bench.mezz(&["run", device]).status(2).says(&["E0505", "neither file nor pipe"]);
        bench.mezz(&["check", device]).status(2).says(&["E0505", "neither file nor pipe"]);
        bench.mezz(&["run", "--dtb", device]).status(2).says(&["neither file nor pipe"]);
    }
    if have("mkfifo") {
        assert!(Command::new("mkfifo").arg(bench.path("fifo")).status().unwrap().success());
        bench.mezz(&["run", "--kernel", "fifo"]).status(2).says(&["fifo is no regular file"]);
    }
}

#[test]
fn options_are_checked_like_configurations() {
    let bench = Bench::new();
    bench.mezz(&["run"]).status(2);
    bench.mezz(&["run", "--kernel", "gone"]).status(2).says(&["E0505", "gone does not exist"]);
    bench.mezz(&["run", "--kernel", "Image", "--memory", "256"]).status(2).says(&["256M is 256 MiB"]);
    bench.mezz(&["run", "--kernel", "Image", "--memory", "3M"]).status(2).says(&["E0304", "at least 4M"]);
    bench.mezz(&["run", "--kernel", "Image", "--vcpus", "0"]).status(2).says(&["E0306", "1 to 64"]);
    bench.mezz(&["run", "--kernel", "Image", "--name", "a b"]).status(2).says(&["E0301", "no name"]);
    bench.mezz(&["run", "--kernel", "target/mezzanine.img"]).status(2).says(&["E0402", "looks like text"]);
    bench.mezz(&["run", "x.toml", "--kernel", "Image"]).status(2).says(&["cannot be used with"]);
    bench.mezz(&["run", "--initrd", "initrd.gz"]).status(2);
    let rom = [&0x1400_0010u32.to_le_bytes()[..], &[0x91; 96]].concat();
    bench.file("rom", rom);
    bench.mezz(&["pack", "--firmware", "rom", "--initrd", "initrd.gz", "-o", "b.cpio"]).status(0);
    let done = bench.mezz(&["dump", "b.cpio"]).status(0);
    assert!(
        done.out.contains("firmware = \"guest/firmware\"") && done.out.contains("# kernel: none"),
        "{}",
        done.out
    );
    bench.mezz(&["pack", "--firmware", "rom", "--kernel", "Image", "-o", "b.cpio"]).status(0);
    bench.mezz(&["pack", "--firmware", "rom", "--cmdline", "x", "-o", "b.cpio"]).status(2).says(&["E0434"]);
}

#[test]
fn what_only_looks_wrong_is_a_warning() {
    let bench = Bench::new();
    bench.file("odd", "not an archive");
    bench.file("vms.toml", "[vm.a]\nkernel = \"Image\"\ninitrd = \"odd\"\n");
    bench.mezz(&["pack", "vms.toml", "-o", "b.cpio"]).status(0).says(&[
        "warning[E0409]",
        "--> vms.toml:3:10",
        "looks like text",
    ]);
}
