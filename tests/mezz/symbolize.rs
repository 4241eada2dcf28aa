//! Names for addresses, from an ELF that `rustc` makes here.

use super::*;

/// A small program with line tables, linked at 0 like the image.
fn elf(bench: &Bench) -> Option<PathBuf> {
    bench.file(
        "src/tiny.rs",
        "#[inline(never)]\npub fn outer() -> u32 {\n    inner()\n}\n\n#[unsafe(no_mangle)]\n#[inline(never)]\n\
         pub extern \"C\" fn landmark() -> u32 {\n    std::process::id()\n}\n\
         fn inner() -> u32 {\n    landmark()\n}\nfn main() {\n    outer();\n}\n",
    );
    let rustc = std::env::var_os("RUSTC").unwrap_or("rustc".into());
    let built = Command::new(rustc)
        .args(["--edition", "2024", "-g", "-o", "target/mezzanine.elf", "src/tiny.rs"])
        .current_dir(bench.directory.path())
        .output()
        .ok()?;
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    Some(bench.path("target/mezzanine.elf"))
}

/// Offset of a function in the ELF, as `nm` tells it.
fn offset(elf: &Path, function: &str) -> u64 {
    let output = Command::new("nm").arg(elf).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.ends_with(&format!(" {function}"))).unwrap();
    u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap()
}

#[test]
fn addresses_become_functions_and_lines() {
    let bench = Bench::new();
    if !have("nm") || !cfg!(target_os = "linux") {
        return;
    }
    let Some(elf) = elf(&bench) else { return };
    let start = offset(&elf, "landmark");
    let text =
        format!("Linux \u{fc}\n[mz    0.1] panic: x at image+{start:#x}\n    at <image+{start:#x}>\r\n");
    let done = bench.with_input(&["symbolize"], text.as_bytes()).status(0);
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines[0], "Linux \u{fc}");
    assert_eq!(lines[1], format!("[mz    0.1] panic: x at image+{start:#x}  landmark  src/tiny.rs:8"));
    assert_eq!(lines[2], format!("    at <image+{start:#x}>  landmark  src/tiny.rs:8"));
    bench.file("transcript", &text);
    let from_file = bench.mezz(&["symbolize", "transcript", "--elf", "target/mezzanine.elf"]).status(0);
    assert_eq!(from_file.out, done.out);
}

#[test]
fn a_panic_of_a_run_gets_its_names_at_once() {
    let bench = Bench::new();
    if !have("nm") || !cfg!(target_os = "linux") {
        return;
    }
    let Some(elf) = elf(&bench) else { return };
    let at = offset(&elf, "landmark");
    bench.qemu(&format!("echo '[mz    0.1] panic: x'; echo '    at <image+{at:#x}>'"));
    bench.mezz(&["run", "--kernel", "Image"]).status(1).says(&["with names", "landmark  src/tiny.rs:8"]);
}

#[test]
fn what_cannot_be_read() {
    let bench = Bench::new();
    bench.mezz(&["symbolize"]).status(2).says(&["E0514", "target/mezzanine.elf", "make image"]);
    bench.mezz(&["symbolize", "--elf", "Image"]).status(2).says(&["E0514", "Image"]);
    bench.mezz(&["symbolize", "gone"]).status(2).says(&["E0505", "gone"]);
}
