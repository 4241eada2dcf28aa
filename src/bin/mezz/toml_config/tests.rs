//! Configurations, good and bad.

use super::*;

/// Reads a text whose paths point at files of this package, so that `kernel = "Cargo.toml"` exists.
fn read_text(text: &str) -> Result<Spec, String> {
    parse("vms.toml".into(), text.into(), Path::new(env!("CARGO_MANIFEST_DIR"))).map_err(|r| r.to_string())
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
fn all_keys() {
    let spec = read_text(
        "[machine]\nboard = \"qemu-virt\"\ncpu = \"max\"\ncpus = 0x4\nram = \"1G\"\n\
         [vm.zeta]\nkernel = \"Cargo.toml\"\ninitrd = \"Cargo.lock\"\ncmdline = \"quiet\"\n\
         memory = \"64M\"\nvcpus = 2\ngic = 2\n[vm.alpha]\nkernel = \"Cargo.toml\"\n",
    )
    .unwrap();
    assert_eq!(spec.machine.board.as_deref(), Some("qemu-virt"));
    assert_eq!(spec.machine.cpu.as_deref(), Some("max"));
    assert_eq!((spec.machine.cpus, spec.machine.ram), (Some(4), Some(1 << 30)));
    let [zeta, alpha] = spec.vms.as_slice() else { panic!("{:?}", spec.vms) };
    assert_eq!((zeta.name.as_str(), alpha.name.as_str()), ("zeta", "alpha"), "in the order written");
    assert_eq!((zeta.memory, zeta.vcpus, zeta.gic), (64 << 20, 2, 2));
    assert_eq!(zeta.cmdline, "quiet");
    assert!(zeta.kernel.ends_with("Cargo.toml") && zeta.initrd.as_ref().unwrap().ends_with("Cargo.lock"));
    assert_eq!((alpha.memory, alpha.vcpus, alpha.gic), (DEFAULT_MEMORY, 1, 3));
    assert_eq!(alpha.initrd, None);
}

#[test]
fn keys_that_do_not_exist() {
    refused(
        "[vm.a]\nkernel = \"Cargo.toml\"\nmemry = \"1M\"\n",
        3,
        &["E0502", "`memry`", "did you mean `memory`?"],
    );
    refused("[vm.a]\nkernel = \"Cargo.toml\"\nram = \"1M\"\n", 3, &["did you mean `memory`?"]);
    refused("[vm.a]\nkernel = \"Cargo.toml\"\ndisk = \"x\"\n", 3, &["[vm.a] may have kernel, initrd,"]);
    refused("[machine]\ncpuz = 1\n[vm.a]\nkernel = \"Cargo.toml\"\n", 2, &["did you mean `cpu`?"]);
    refused("[machine]\nmemory = 1\n[vm.a]\nkernel = \"Cargo.toml\"\n", 2, &["did you mean `ram`?"]);
    refused("[vms.a]\nkernel = \"Cargo.toml\"\n", 1, &["did you mean `vm`?"]);
}

#[test]
fn values_of_the_wrong_kind() {
    refused("[vm.a]\nkernel = 7\n", 2, &["E0503", "this is a whole number", "kernel = \"7\""]);
    refused("[vm.a]\nkernel = \"Cargo.toml\"\nvcpus = \"2\"\n", 3, &["this is a string", "without quotes"]);
    refused("[[vm]]\nkernel = \"Cargo.toml\"\n", 1, &["this is a list", "[vm.NAME]"]);
    refused("[vm]\nkernel = \"Cargo.toml\"\n", 2, &["belongs under [vm.NAME]"]);
    refused("machine = 1\n[vm.a]\nkernel = \"Cargo.toml\"\n", 1, &["write it as [machine]"]);
    refused("[vm.a]\nkernel = \"Cargo.toml\"\nmemory = true\n", 3, &["true or false", "\"256M\""]);
}

#[test]
fn sizes() {
    refused("[vm.a]\nkernel = \"Cargo.toml\"\nmemory = 256\n", 3, &["E0504", "memory = \"256M\""]);
    refused("[vm.a]\nkernel = \"Cargo.toml\"\nmemory = \"256MB\"\n", 3, &["powers of ten"]);
    refused("[vm.a]\nkernel = \"Cargo.toml\"\nmemory = \"0M\"\n", 3, &["blocks of 2 MiB", "next is 2M"]);
    refused("[vm.a]\nkernel = \"Cargo.toml\"\nmemory = \"3M\"\n", 3, &["next is 4M"]);
}

#[test]
fn numbers_out_of_range() {
    for (key, value, part) in [
        ("vcpus", "0", "1 or more"),
        ("vcpus", "-2", "1 or more"),
        ("vcpus", "99999999999", "1 or more"),
        ("vcpus", "124", "1 to 123"),
        ("gic", "4", "write 2 or 3"),
        ("gic", "259", "write 2 or 3"),
    ] {
        refused(&format!("[vm.a]\nkernel = \"Cargo.toml\"\n{key} = {value}\n"), 3, &["E0506", part]);
    }
    refused("[vm.a]\nkernel = \"Cargo.toml\"\ngic = 2\nvcpus = 9\n", 4, &["GICv2 guest has 1 to 8"]);
}

#[test]
fn files() {
    refused("[vm.a]\nkernel = \"no-such\"\n", 2, &["E0505", "no-such does not exist", "relative to"]);
    refused("[vm.a]\nkernel = \"src\"\n", 2, &["is a directory"]);
    refused("[vm.a]\nkernel = \"Cargo.toml\"\ninitrd = \"gone\"\n", 3, &["initrd of VM `a`"]);
}

#[test]
fn what_is_missing() {
    refused("", 1, &["E0508", "no VM", "[vm.NAME]"]);
    refused("[machine]\ncpus = 1\n", 1, &["no VM"]);
    refused("[vm.a]\nvcpus = 1\n", 1, &["E0503", "no `kernel`", "add `kernel"]);
}

#[test]
fn names() {
    refused("[vm.\"a b\"]\nkernel = \"Cargo.toml\"\n", 1, &["E0506", "cannot be a VM's name"]);
    refused(
        "[vm.a]\nkernel = \"Cargo.toml\"\n[vm.a]\nkernel = \"Cargo.toml\"\n",
        3,
        &["E0501", "duplicate key"],
    );
}

#[test]
fn syntax() {
    refused("[vm.a]\nkernel = Cargo.toml\n", 2, &["E0501", "not valid TOML"]);
    refused("[vm.a\nkernel = \"x\"\n", 1, &["E0501"]);
    refused(
        "[machine]\nboard = \"raspi9\"\n[vm.a]\nkernel = \"Cargo.toml\"\n",
        2,
        &["unknown board", "qemu-virt"],
    );
    refused("[vm.a]\nkernel = \"Cargo.toml\"\ncmdline = \"a\\nb\"\n", 3, &["one line"]);
}

#[test]
fn all_mistakes_at_once_in_order() {
    let message = read_text("[vm.a]\nkernel = 1\nvcpus = \"x\"\n[vm.b]\nkrnel = \"x\"\n").expect_err("bad");
    let lines: Vec<&str> = message.lines().filter(|line| line.contains("vms.toml:")).collect();
    let at: Vec<&str> = lines.iter().filter_map(|line| line.split(':').nth(1)).collect();
    assert_eq!(at, ["2", "3", "4", "5"], "{message}");
}
