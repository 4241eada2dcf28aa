//! `mezz check`: transcripts, each kind of source good and bad.
//!
//! `golden/NAME.toml`, `NAME.dts` (a machine's tree) or `NAME.bundle.dts` (the tree of a bundle) is checked, and what
//! `mezz` says has to be `golden/NAME.txt`. With `MEZZ_BLESS=1` in the environment those are written anew.

use super::*;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mezz/golden")
}

/// A bench with files of all sorts beside the kernel.
fn furnished() -> Bench {
    let bench = Bench::new();
    bench.file("text", "hello\n");
    bench.file("zeroes", [0; 4096]);
    bench.file("Image.xz", b"\xfd7zXZ\0 and more");
    let mut image = vec![0; 0x400];
    image[..2].copy_from_slice(b"MZ");
    image[0x202..0x206].copy_from_slice(b"HdrS");
    bench.file("bzImage", image);
    bench
}

/// The tree that dtc makes of a text.
fn compiled(bench: &Bench, source: &Path, tree: &str) {
    let output = bench.path(tree);
    let mut dtc = Command::new("dtc");
    dtc.args(["-q", "-I", "dts", "-O", "dtb", "-o"]).arg(&output).arg(source);
    assert!(dtc.status().unwrap().success(), "{source:?}");
}

/// An archive of files, as `cpio -o -H newc` makes it.
fn archive(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, data) in files.iter().map(|(n, d)| (*n, d.as_slice())).chain([("TRAILER!!!", &b""[..])]) {
        let fields = [1, 0o100_644, 0, 0, 1, 0, data.len(), 0, 0, 0, 0, name.len() + 1, 0];
        out.extend(b"070701");
        fields.iter().for_each(|field| out.extend(format!("{field:08x}").bytes()));
        out.extend(name.bytes().chain([0]));
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(data);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// What is checked, made of its source; `None` where a tool for that is missing.
fn made(bench: &Bench, source: &Path) -> Option<String> {
    let name = source.file_name()?.to_str()?.to_owned();
    if let Some(stem) = name.strip_suffix(".bundle.dts") {
        compiled(bench, source, "mezzanine.dtb");
        let files = ["mezzanine.dtb", "Image", "text"];
        let files = files.map(|file| (file, std::fs::read(bench.path(file)).unwrap()));
        bench.file(&format!("{stem}.cpio"), archive(&files));
        return Some(format!("{stem}.cpio"));
    }
    if let Some(stem) = name.strip_suffix(".dts") {
        compiled(bench, source, &format!("{stem}.dtb"));
        return Some(format!("{stem}.dtb"));
    }
    bench.file(&name, std::fs::read(source).unwrap());
    Some(name)
}

#[test]
fn transcripts() {
    let dtc = have("dtc");
    let bench = furnished();
    let mut sources: Vec<PathBuf> =
        std::fs::read_dir(golden()).unwrap().map(|entry| entry.unwrap().path()).collect();
    sources.sort();
    let mut seen = 0;
    for source in sources {
        let end = source.extension().unwrap().to_str().unwrap();
        if end == "txt" || end == "dts" && !dtc {
            continue;
        }
        let file = made(&bench, &source).unwrap();
        let done = bench.mezz(&["check", &file]);
        let text = format!("$ mezz check {file}\n{}{}[{}]\n", done.err, done.out, done.status.unwrap());
        let stem = source.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().to_owned();
        let expected = golden().join(format!("{stem}.txt"));
        if std::env::var_os("MEZZ_BLESS").is_some() {
            std::fs::write(&expected, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&expected).unwrap_or_default();
        assert_eq!(text, golden, "{stem}: MEZZ_BLESS=1 writes it anew");
        // What has errors fails, and warnings alone do not.
        assert_eq!(text.contains("error["), done.status == Some(1), "{text}");
        seen += 1;
    }
    assert!(seen >= 5);
}

#[test]
fn what_check_passes_also_packs_and_what_it_refuses_does_not() {
    let bench = furnished();
    for (name, status) in
        [("fine.toml", 0), ("warning.toml", 0), ("every-mistake.toml", 2), ("syntax.toml", 2)]
    {
        bench.file(name, std::fs::read(golden().join(name)).unwrap());
        bench.mezz(&["pack", name, "-o", "b.cpio"]).status(status);
    }
}

#[test]
fn a_bundle_is_checked_by_itself_or_against_a_machine() {
    let bench = furnished();
    bench.file("vms.toml", "[vm.a]\nkernel = \"Image\"\nmemory = \"600M\"\nvcpus = 9\n");
    bench.mezz(&["pack", "vms.toml", "-o", "b.cpio"]).status(0);
    let done = bench.mezz(&["check", "b.cpio"]).status(0);
    assert!(done.out.starts_with("b.cpio: fine, 1 VM\n"), "{}", done.out);
    bench.mezz(&["check", "b.cpio", "--ram", "1G"]).status(0);
    bench
        .mezz(&["check", "b.cpio", "--ram", "512M"])
        .status(1)
        .says(&["E0305", "502M of the machine's 502M"]);
    bench.mezz(&["check", "b.cpio", "--gic", "2"]).status(1).says(&[
        "E0306",
        "1 to 8 with GICv2",
        "cpus = <0x9>",
    ]);
    bench.mezz(&["check", "vms.toml", "--ram", "512M"]).status(1).says(&["E0305", "--> vms.toml:3:10"]);
    bench.mezz(&["check", "vms.toml", "--ram", "1000K"]).status(1).says(&["E0507", "whole MiB"]);
    let bytes = std::fs::read(bench.path("b.cpio")).unwrap();
    bench.file("cut.cpio", &bytes[..3000]);
    bench.mezz(&["check", "cut.cpio"]).status(1).says(&["E0204", "cut short"]);
    let (memory, _) = bytes.split_at(bytes.len() - 200);
    bench.file("text.cpio", memory);
    bench.mezz(&["check", "text.cpio"]).status(1).says(&["E0204"]);
}

#[test]
fn kinds_are_told_by_content() {
    let bench = furnished();
    bench.file("config", "[vm.a]\nkernel = \"Image\"\n");
    bench.mezz(&["check", "config"]).status(0);
    let done = bench.with_input(&["check", "-"], b"[vm.a]\nkernel = \"Image\"\nmemroy = \"1M\"\n");
    done.status(1).says(&["--> standard input:3:1", "did you mean `memory`?"]);
    for (name, content, help) in [
        ("a.dts", &b"/dts-v1/;\n/ { };\n"[..], "dtc -I dts"),
        ("b.cpio.gz", b"\x1f\x8b\x08\0\0", "unpack it first"),
        ("c", b"\x7fELF\x02\x01\x01\0", "looks like an ELF file"),
    ] {
        bench.file(name, content);
        bench.mezz(&["check", name]).status(1).says(&["E0521", help]);
    }
    bench.mezz(&["check", "Image"]).status(1).says(&["E0521", "looks like an arm64 Linux Image"]);
}

#[test]
fn bad_usage() {
    let bench = furnished();
    bench.mezz(&["check"]).status(2);
    bench.mezz(&["check", "gone"]).status(2).says(&["E0505", "gone does not exist"]);
    bench.mezz(&["check", "target"]).status(2).says(&["is a directory"]);
    bench.mezz(&["check", "Image", "--gic", "4"]).status(2).says(&["2 or 3"]);
    let tree = include_bytes!("../fixtures/virt-gicv3.dtb");
    bench.file("m.dtb", tree);
    bench.mezz(&["check", "m.dtb", "--ram", "1G"]).status(2).says(&["E0522"]);
}
