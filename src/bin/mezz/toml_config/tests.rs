//! Configurations, good and bad.

use std::sync::OnceLock;

use super::*;
use crate::report::Reports;
use crate::spec::DEFAULT_MEMORY;

/// A directory with a kernel and an initrd, for all tests.
fn directory() -> &'static Path {
    static FILES: OnceLock<tempfile::TempDir> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        let files = tempfile::tempdir().unwrap();
        let mut image = vec![0; 4096];
        image[..2].copy_from_slice(b"MZ");
        image[16..24].copy_from_slice(&(6u64 << 20).to_le_bytes());
        image[56..60].copy_from_slice(b"ARM\x64");
        std::fs::write(files.path().join("Image"), image).unwrap();
        std::fs::write(files.path().join("initrd"), b"070701").unwrap();
        std::fs::write(files.path().join("text"), b"hello").unwrap();
        // A branch, and nothing in particular.
        let rom = [&0x1400_0010u32.to_le_bytes()[..], &[0x91; 96]].concat();
        std::fs::write(files.path().join("rom"), &rom).unwrap();
        let large = std::fs::File::create(files.path().join("large")).unwrap();
        std::io::Write::write_all(&mut &large, &rom).unwrap();
        large.set_len((64 << 20) + 1).unwrap();
        std::fs::create_dir(files.path().join("directory")).unwrap();
        files
    });
    files.path()
}

fn read_text(text: &str) -> Result<Spec, String> {
    let (spec, mut reports) = parse("vms.toml".into(), text.into(), directory());
    reports.extend(spec.iter().flat_map(|spec| spec.check(None)));
    match reports.is_empty() {
        true => Ok(spec.unwrap()),
        false => Err(Reports::settle(reports).unwrap_err().to_string()),
    }
}

/// Every part of `expected` must be in what the mistake says, at the line given.
#[track_caller]
fn refused(text: &str, line: usize, expected: &[&str]) {
    let message = read_text(text).expect_err(text);
    assert!(message.contains(&format!("vms.toml:{line}:")), "not at line {line}:\n{message}");
    for part in expected {
        assert!(message.contains(part), "no `{part}` in:\n{message}");
    }
    assert_eq!(message.matches("error[").count(), 1, "more than one report:\n{message}");
}

#[test]
fn firmware_instead_of_a_kernel_or_beside_it() {
    let spec = read_text(
        "[vm.a]\nfirmware = \"rom\"\n[vm.b]\nfirmware = \"rom\"\nkernel = \"rom\"\ncmdline = \"quiet\"\n",
    )
    .unwrap();
    let [a, b] = spec.vms.as_slice() else { panic!("{:?}", spec.vms) };
    assert!(a.kernel.is_none() && b.kernel.is_some());
    assert_eq!((a.config().firmware.map(<[u8]>::len), a.file_bytes(), b.file_bytes()), (Some(100), 100, 200));
    let firmware = |file: &str| format!("[vm.a]\nmemory = \"64M\"\nfirmware = \"{file}\"\n");
    refused(&firmware("large"), 3, &["E0430", "67108865 bytes", "The ROM has 64M"]);
    refused(&firmware("Image"), 3, &["E0431", "it is an arm64 Linux Image"]);
    refused(&firmware("text"), 3, &["E0431", "it is text"]);
    refused(&firmware("gone"), 3, &["E0505", "firmware of VM `a`", "does not exist"]);
    refused("[vm.a]\nbios = \"rom\"\nkernel = \"Image\"\n", 2, &["E0502", "did you mean `firmware`?"]);
    refused("[vm.a]\nfirmware = \"rom\"\ncmdline = \"quiet\"\n", 3, &["E0434"]);
}

#[test]
fn all_keys() {
    let spec = read_text(
        "[machine]\nboard = \"qemu-virt\"\ncpu = \"max\"\ncpus = 0x4\nram = \"1G\"\ngic = 2\n\
         [vm.zeta]\nkernel = \"Image\"\ninitrd = \"initrd\"\ncmdline = \"quiet\"\n\
         memory = \"64M\"\nvcpus = 2\ngic = 2\n[vm.alpha]\nkernel = \"Image\"\n",
    )
    .unwrap();
    assert_eq!(spec.machine.board.as_deref(), Some("qemu-virt"));
    assert_eq!(spec.machine.cpu.as_deref(), Some("max"));
    assert_eq!((spec.machine.cpus, spec.machine.ram), (Some(4), Some(1 << 30)));
    assert_eq!(spec.machine.gic, Some(GicVersion::V2));
    let [zeta, alpha] = spec.vms.as_slice() else { panic!("{:?}", spec.vms) };
    assert_eq!((zeta.name.as_str(), alpha.name.as_str()), ("zeta", "alpha"), "in the order written");
    assert_eq!((zeta.memory, zeta.vcpus, zeta.gic), (64 << 20, 2, Some(GicVersion::V2)));
    assert_eq!(zeta.cmdline, "quiet");
    assert_eq!(
        (zeta.kernel.as_ref().unwrap().bytes.len(), zeta.initrd.as_ref().unwrap().bytes.len()),
        (4096, 6)
    );
    assert_eq!((alpha.memory, alpha.vcpus, alpha.gic), (DEFAULT_MEMORY, 1, None));
    assert!(alpha.initrd.is_none());
}

#[test]
fn keys_that_do_not_exist() {
    refused(
        "[vm.a]\nkernel = \"Image\"\nmemry = \"1M\"\n",
        3,
        &["E0502", "`memry`", "did you mean `memory`?"],
    );
    refused("[vm.a]\nkernel = \"Image\"\nram = \"1M\"\n", 3, &["did you mean `memory`?"]);
    refused("[vm.a]\nkernel = \"Image\"\ndisk = \"x\"\n", 3, &["[vm.a] may have kernel, firmware, initrd,"]);
    refused("[machine]\ncpuz = 1\n[vm.a]\nkernel = \"Image\"\n", 2, &["did you mean `cpu`?"]);
    refused("[machine]\nmemory = 1\n[vm.a]\nkernel = \"Image\"\n", 2, &["did you mean `ram`?"]);
    refused("[vms.a]\nkernel = \"Image\"\n", 1, &["did you mean `vm`?"]);
}

#[test]
fn values_of_the_wrong_kind() {
    refused("[vm.a]\nkernel = 7\n", 2, &["E0503", "this is a whole number", "kernel = \"7\""]);
    refused("[vm.a]\nkernel = \"Image\"\nvcpus = \"2\"\n", 3, &["this is a string", "without quotes"]);
    refused("[[vm]]\nkernel = \"Image\"\n", 1, &["this is a list", "[vm.NAME]"]);
    refused("[vm]\nkernel = \"Image\"\n", 2, &["belongs under [vm.NAME]"]);
    refused("machine = 1\n[vm.a]\nkernel = \"Image\"\n", 1, &["write it as [machine]"]);
    refused("[vm.a]\nkernel = \"Image\"\nmemory = true\n", 3, &["true or false", "\"256M\""]);
}

#[test]
fn sizes() {
    refused("[vm.a]\nkernel = \"Image\"\nmemory = 256\n", 3, &["E0504", "memory = \"256M\""]);
    refused("[vm.a]\nkernel = \"Image\"\nmemory = \"256MB\"\n", 3, &["powers of ten"]);
    refused("[vm.a]\nkernel = \"Image\"\nmemory = \"0M\"\n", 3, &["E0304", "vm.a memory", "at least 4M"]);
    refused("[vm.a]\nkernel = \"Image\"\nmemory = \"4097K\"\n", 3, &["E0303", "multiple of 4K"]);
}

#[test]
fn numbers_out_of_range() {
    for (key, value, code, part) in [
        ("vcpus", "0", "E0506", "1 to 64, or 8 with gic = 2"),
        ("vcpus", "-2", "E0506", "1 to 64"),
        ("vcpus", "99999999999", "E0506", "1 to 64"),
        ("vcpus", "65", "E0306", "1 to 64"),
        ("gic", "4", "E0506", "write 2 or 3"),
        ("gic", "259", "E0506", "write 2 or 3"),
        ("gic", "0", "E0506", "no GICv0"),
        ("gic", "99999999999999999999", "E0506", "write 2 or 3"),
    ] {
        refused(&format!("[vm.a]\nkernel = \"Image\"\n{key} = {value}\n"), 3, &[code, part]);
    }
    for cpus in ["0", "65", "70000"] {
        let text = format!("[machine]\ncpus = {cpus}\n[vm.a]\nkernel = \"Image\"\n");
        refused(&text, 2, &["E0506", "1 to 64"]);
    }
    refused("[vm.a]\nkernel = \"Image\"\ngic = 2\nvcpus = 9\n", 4, &["E0306", "1 to 8 with GICv2"]);
}

#[test]
fn shares() {
    let spec = read_text(
        "[vm.a]\nkernel = \"Image\"\nvcpus = 2\nweight = 0x200\ncap = 50\naffinity = \"0-3,^2\"\nconsole-log = \"4K\"\n\
         [vm.b]\nkernel = \"Image\"\nvcpus = 2\ndedicated = true\naffinity = [\"all\", \"1\"]\n\
         [vm.c]\nkernel = \"Image\"\nvcpus = 3\ndedicated = false\naffinity = \"all\"\n",
    )
    .unwrap();
    let [a, b, c] = spec.vms.as_slice() else { panic!("{:?}", spec.vms) };
    assert_eq!((a.weight, a.cap, a.console_log, a.dedicated), (Some(512), Some(50), Some(4096), false));
    assert_eq!(a.affinity, [0b1011; 2]);
    assert_eq!((b.dedicated, b.affinity.as_slice()), (true, &[0, 2][..]));
    assert_eq!((c.dedicated, c.affinity.as_slice()), (false, &[][..]));
    for (line, code, part) in [
        ("weight = 0", "E0330", "vm.a weight: 0"),
        ("weight = -1", "E0506", "whole number from 1 on"),
        ("weight = 99999999999999999999", "E0506", "out of range"),
        ("cap = 101", "E0331", "1 to 100"),
        ("cap = 0.5", "E0503", "a number with a fraction"),
        ("affinity = 3", "E0503", "affinity = \"0-3\""),
        ("affinity = [0, 1]", "E0503", "one such text for each vCPU"),
        ("affinity = [\"0\", \"1\"]", "E0335", "lists for 2 of 1 vCPUs"),
        ("affinity = \"0-99\"", "E0333", "use 0 to 63"),
        ("affinity = \"\"", "E0334", "leave it out"),
        ("dedicated = \"yes\"", "E0503", "write `dedicated = true`"),
        ("console-log = 65536", "E0504", "no unit"),
        ("console-log = \"3K\"", "E0337", "from 4K to 1M"),
        ("pin = \"0\"", "E0502", "did you mean `affinity`?"),
    ] {
        let text = format!("[vm.a]\nkernel = \"Image\"\n{line}\n");
        if line.contains("[0, 1]") {
            assert_eq!(read_text(&text).unwrap_err().matches(code).count(), 2);
        } else {
            refused(&text, 3, &[code, part]);
        }
    }
}

#[test]
fn files() {
    refused("[vm.a]\nkernel = \"no-such\"\n", 2, &["E0505", "no-such does not exist", "relative to"]);
    refused("[vm.a]\nkernel = \"directory\"\n", 2, &["is a directory"]);
    refused("[vm.a]\nkernel = \"Image\"\ninitrd = \"gone\"\n", 3, &["initrd of VM `a`"]);
    refused("[vm.a]\nkernel = \"text\"\n", 2, &["E0402", "looks like text", "Give an arm64 Linux Image"]);
    refused("[vm.a]\nkernel = \"Image\"\nmemory = \"4M\"\n", 3, &["E0407", "do not fit into 4M"]);
}

#[test]
fn what_is_missing() {
    refused("", 1, &["E0508", "no VM", "[vm.NAME]"]);
    refused("[machine]\ncpus = 1\n", 1, &["no VM"]);
    refused("[vm.a]\nvcpus = 1\n", 1, &["E0503", "neither `kernel` nor `firmware`", "add `kernel"]);
    for key in ["kernal", "image", "bios"] {
        let message = read_text(&format!("[vm.a]\n{key} = \"Image\"\n")).unwrap_err();
        assert!(message.contains("did you mean") && message.matches("error[").count() == 1, "{message}");
    }
    let both = read_text("[vm.a]\ndisk = \"x\"\n").unwrap_err();
    assert!(both.contains("E0502") && both.contains("E0503"), "{both}");
}

#[test]
fn names() {
    refused("[vm.\"a b\"]\nkernel = \"Image\"\n", 1, &["E0301", "no name for a VM"]);
    refused("[vm.a]\nkernel = \"Image\"\n[vm.a]\nkernel = \"Image\"\n", 3, &["E0501", "duplicate key"]);
}

#[test]
fn syntax() {
    refused("[vm.a]\nkernel = Image\n", 2, &["E0501", "not valid TOML"]);
    refused("[vm.a\nkernel = \"x\"\n", 1, &["E0501"]);
    refused(
        "[machine]\nboard = \"raspi9\"\n[vm.a]\nkernel = \"Image\"\n",
        2,
        &["unknown board", "qemu-virt"],
    );
    refused("[vm.a]\nkernel = \"Image\"\ncmdline = \"a\\nb\"\n", 3, &["E0307", "one line"]);
}

#[test]
fn all_mistakes_at_once_in_order() {
    let message = read_text("[vm.a]\nkernel = 1\nvcpus = \"x\"\n[vm.b]\nkrnel = \"x\"\n").expect_err("bad");
    let lines: Vec<&str> = message.lines().filter(|line| line.contains("vms.toml:")).collect();
    let at: Vec<&str> = lines.iter().filter_map(|line| line.split(':').nth(1)).collect();
    assert_eq!(at, ["2", "3", "5"], "{message}");
}

/// What the fuzzer found and kept.
#[test]
fn the_corpus_is_survived() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/toml");
    let mut inputs = 0;
    for entry in std::fs::read_dir(corpus).unwrap() {
        let text = String::from_utf8_lossy(&std::fs::read(entry.unwrap().path()).unwrap()).into_owned();
        let _ = read_text(&text.replace('/', "|"));
        inputs += 1;
    }
    assert!(inputs > 0);
}
