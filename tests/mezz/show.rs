//! `mezz explain`, `mezz dump` and `mezz tree`.

use std::collections::BTreeSet;

use super::*;

/// All sources, less what is for tests only.
fn sources(directory: &Path, texts: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && name != "tests" {
            sources(&path, texts);
        } else if name.ends_with(".rs") && name != "tests.rs" {
            let text = std::fs::read_to_string(&path).unwrap();
            texts.push(text.split("#[cfg(test)]\nmod tests {").next().unwrap().to_owned());
        }
    }
}

/// A source of a transcript.
fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mezz/golden").join(name)
}

/// All codes that the sources can emit.
fn emitted() -> BTreeSet<String> {
    let mut texts = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut texts);
    let is_code = |text: &&str| text.len() == 4 && text.bytes().all(|b| b.is_ascii_digit());
    let codes = texts.iter().flat_map(|text| {
        let found = text.match_indices("\"E0").filter_map(|(at, _)| text.get(at + 2..at + 7));
        found.filter_map(|quoted| quoted.strip_suffix('"')).filter(is_code).map(|digits| format!("E{digits}"))
    });
    codes.collect()
}

#[test]
fn every_code_is_explained_and_every_explanation_has_its_code() {
    let bench = Bench::new();
    let list = bench.mezz(&["explain"]).status(0).out;
    let listed: BTreeSet<String> = list.lines().map(|line| line[..5].to_owned()).collect();
    let emitted = emitted();
    assert!(emitted.len() > 70, "{emitted:?}");
    let missing: Vec<_> = emitted.difference(&listed).collect();
    assert!(missing.is_empty(), "in no table of docs/config-tree.md or docs/config.md: {missing:?}");
    let stale: Vec<_> = listed.difference(&emitted).collect();
    assert!(stale.is_empty(), "in a table, and emitted nowhere: {stale:?}");
    for line in list.lines() {
        let (code, meaning) = line.split_once("  ").unwrap();
        let text = bench.mezz(&["explain", code]).status(0).out;
        assert!(text.starts_with(&format!("{code}: {meaning}\n\n")), "{text}");
        assert!(text.lines().count() > 2, "{text}");
    }
}

#[test]
fn explain_as_it_is_printed() {
    let bench = Bench::new();
    let text = bench.mezz(&["explain", "303"]).status(0).out;
    assert_eq!(
        text,
        "E0303: memory that is not a multiple of 4 KiB\n\n\
         Memory is mapped in pages of 4 KiB, so a VM's is a multiple of that. Multiples of 2 MiB are fastest.\n\n\
         Wrong:\n\n    memory = \"65537K\"\n\nRight:\n\n    memory = \"64M\"\n"
    );
    let about = bench.mezz(&["explain", "initrd"]).status(0).out;
    assert!(about.lines().count() > 2 && about.lines().all(|line| line.contains("initrd")), "{about}");
    bench.mezz(&["explain", "E0399"]).status(2).says(&["E0527", "near it are E0", "lists all"]);
    bench.mezz(&["explain", "zebra"]).status(2).says(&["no code `zebra`"]);
    bench.mezz(&["explain", "E0301", "E0302"]).status(2);
}

const TWO: &str = "[machine]\ncpu = \"max\"\n[vm.alpha]\nkernel = \"Image\"\ninitrd = \"initrd.gz\"\n\
                   cmdline = \"say \\\"a\\\\b\\\"\"\nmemory = \"64M\"\nvcpus = 2\ngic = 2\n\
                   [vm.beta]\nkernel = \"Image\"\n";

#[test]
fn a_dump_has_all_defaults_and_reads_back() {
    let bench = Bench::new();
    bench.file("vms.toml", TWO);
    let text = bench.mezz(&["dump", "vms.toml"]).status(0).out;
    assert_eq!(
        text,
        "[machine]\nboard = \"qemu-virt\"\ncpu = \"max\"\ncpus = 1\nram = \"512M\"\ngic = 3\n\n\
         [vm.alpha]\nkernel = \"Image\"\n# firmware: none\ninitrd = \"initrd.gz\"\ncmdline = \"say \\\"a\\\\b\\\"\"\n\
         memory = \"64M\"\nvcpus = 2\ngic = 2\n\
         # weight: 256\n# cap: none\n# affinity: all CPUs\n# console-log: 64K\n\n\
         [vm.beta]\nkernel = \"Image\"\n# firmware: none\n# initrd: none\ncmdline = \"\"\nmemory = \"256M\"\nvcpus = 1\n\
         # gic: as the machine's\n# weight: 256\n# cap: none\n# affinity: all CPUs\n# console-log: 64K\n"
    );
    bench.file("again.toml", &text);
    assert_eq!(bench.mezz(&["dump", "again.toml"]).status(0).out, text);
    bench.mezz(&["pack", "vms.toml", "-o", "a.cpio"]).status(0);
    bench.mezz(&["pack", "again.toml", "-o", "b.cpio"]).status(0);
    let bytes = |name: &str| std::fs::read(bench.path(name)).unwrap();
    assert!(bytes("a.cpio") == bytes("b.cpio"), "the same guests");
    assert_eq!(bench.with_input(&["dump", "-"], text.as_bytes()).status(0).out, text);
}

#[test]
fn a_bundle_unpacked_and_dumped_makes_the_same_bundle() {
    if !have("cpio") {
        return;
    }
    let bench = Bench::new();
    bench.file("vms.toml", TWO);
    bench.mezz(&["pack", "vms.toml", "-o", "a.cpio"]).status(0);
    let text = bench.mezz(&["dump", "a.cpio"]).status(0).out;
    bench.file("out/vms.toml", &text);
    let archive = std::fs::File::open(bench.path("a.cpio")).unwrap();
    let mut cpio = Command::new("cpio");
    cpio.args(["-id", "--quiet"]).current_dir(bench.path("out")).stdin(archive);
    assert!(cpio.status().unwrap().success());
    bench.mezz(&["pack", "out/vms.toml", "-o", "b.cpio"]).status(0);
    let bytes = |name: &str| std::fs::read(bench.path(name)).unwrap();
    assert!(bytes("a.cpio") == bytes("b.cpio"), "{text}");
}

#[test]
fn shares_are_packed_and_dumped() {
    let bench = Bench::new();
    bench.file("vms.toml", std::fs::read(golden("shares-fine.toml")).unwrap());
    let done = bench.mezz(&["dump", "vms.toml"]).status(0).out;
    for part in [
        "weight = 512\ncap = 50\naffinity = \"0-1,3\"\nconsole-log = \"1M\"\n",
        "# cap: none\naffinity = [\"all\", \"3\"]\ndedicated = true\n# console-log: 64K\n",
    ] {
        assert!(done.contains(part), "no {part} in {done}");
    }
    bench.mezz(&["pack", "vms.toml", "-o", "a.cpio"]).status(0);
    bench.file("again.toml", &done);
    bench.mezz(&["pack", "again.toml", "-o", "b.cpio"]).status(0);
    let bytes = |name: &str| std::fs::read(bench.path(name)).unwrap();
    assert!(bytes("a.cpio") == bytes("b.cpio"), "{done}");
    let packed = bench.mezz(&["dump", "a.cpio"]).status(0).out;
    assert!(packed.contains("affinity = [\"all\", \"3\"]\ndedicated = true\n"), "{packed}");
    // The bundle of a larger machine, on a smaller one.
    bench.mezz(&["check", "a.cpio", "--cpus", "3"]).status(1).says(&[
        "E0333",
        "has no CPU 3",
        "hard-affinity = \"0-1,3\"",
    ]);
    bench.mezz(&["check", "a.cpio", "--cpus", "4"]).status(0);
    bench.mezz(&["check", "a.cpio", "--ram", "1G"]).status(0);
    bench.mezz(&["check", "vms.toml", "--cpus", "3"]).status(1).says(&["E0333", "--> vms.toml:9:12"]);
    bench.file("one.toml", "[vm.a]\nkernel = \"Image\"\ndedicated = true\n");
    bench
        .mezz(&["run", "one.toml", "--modules", "--print"])
        .status(2)
        .says(&["E0513", "only a bundle can say this"]);
    bench.mezz(&["run", "vms.toml", "--gic", "2", "--cpus", "9"]).status(2).says(&["E0506", "use 1 to 8"]);
    let line = bench.mezz(&["run", "vms.toml", "--print"]).status(0).out;
    assert!(line.contains("-smp 4"), "the configuration's own number of CPUs: {line}");
}

#[test]
fn only_what_is_right_is_dumped() {
    let bench = Bench::new();
    bench.file("bad.toml", "[vm.a]\nkernel = \"Image\"\nmemory = \"1M\"\n");
    assert_eq!(bench.mezz(&["dump", "bad.toml"]).status(2).says(&["E0304"]).out, "");
    bench.file("m.dtb", include_bytes!("../fixtures/virt-gicv3.dtb"));
    bench.mezz(&["dump", "m.dtb"]).status(2).says(&["E0524", "mezz tree"]);
    bench.mezz(&["dump"]).status(2);
}

#[test]
fn a_guests_tree_as_text_is_the_tree_that_is_written() {
    let bench = Bench::new();
    bench.file("vms.toml", TWO);
    bench.mezz(&["pack", "vms.toml", "-o", "b.cpio"]).status(0);
    let text = bench.mezz(&["tree", "vms.toml", "alpha"]).status(0).out;
    for part in ["/dts-v1/;", "bootargs = \"say \\\"a\\\\b\\\"\";", "arm,cortex-a15-gic", "linux,initrd-end"]
    {
        assert!(text.contains(part), "no {part} in {text}");
    }
    // As from the bundle, but for the CPU's name, which is not in there.
    let packed = bench.mezz(&["tree", "b.cpio", "alpha", "--cpu", "max"]).status(0).out;
    assert_eq!(packed, text);
    for file in ["vms.toml", "b.cpio"] {
        let gic = |version| bench.mezz(&["tree", file, "beta", "--gic", version]).status(0).out;
        assert!(gic("2").contains("arm,cortex-a15-gic") && gic("3").contains("arm,gic-v3"), "{file}");
    }
    bench.mezz(&["tree", "vms.toml", "alpha", "-o", "t.dtb"]).status(0);
    assert_eq!(bench.mezz(&["tree", "t.dtb"]).status(0).out, text);
    bench.mezz(&["tree", "vms.toml", "alpha", "-o", "t.dts"]).status(0);
    assert_eq!(std::fs::read_to_string(bench.path("t.dts")).unwrap(), text);
    if have("dtc") {
        let mut dtc = Command::new("dtc");
        dtc.args(["-q", "-I", "dts", "-O", "dtb", "-o"]).arg(bench.path("u.dtb")).arg(bench.path("t.dts"));
        assert!(dtc.status().unwrap().success());
        assert_eq!(bench.mezz(&["tree", "u.dtb"]).status(0).out, text);
    }
}

#[test]
fn a_tree_needs_a_guest() {
    let bench = Bench::new();
    bench.file("vms.toml", TWO);
    bench.mezz(&["tree", "vms.toml"]).status(2).says(&["which VM", "alpha, beta"]);
    bench.mezz(&["tree", "vms.toml", "alhpa"]).status(2).says(&["no VM `alhpa`", "did you mean `alpha`?"]);
    bench.mezz(&["tree", "vms.toml", "beta", "--cpu", "arm1176"]).status(2).says(&["E0509"]);
    bench.file("m.dtb", include_bytes!("../fixtures/virt-gicv3.dtb"));
    bench.mezz(&["tree", "m.dtb", "alpha"]).status(2).says(&["E0525"]);
    bench.file("cut.dtb", &include_bytes!("../fixtures/virt-gicv3.dtb")[..2000]);
    bench.mezz(&["tree", "cut.dtb"]).status(2).says(&["E0526", "damaged"]);
}
