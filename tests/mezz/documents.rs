//! What the documents say is what the tool does.

use std::collections::BTreeSet;

use super::*;

fn project(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The first block of that language in a document.
fn block<'a>(document: &'a str, language: &str) -> &'a str {
    let (_, rest) = document.split_once(&format!("```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

#[test]
fn the_demo_is_a_configuration() {
    let bench = Bench::new();
    bench.file("boards/qemu-virt/demo.toml", project("boards/qemu-virt/demo.toml"));
    bench.kernel("target/guests/debian-6.1/Image");
    bench.file("target/guests/initrd.gz", "070701");
    bench.mezz(&["run", "boards/qemu-virt/demo.toml", "--print"]).status(0);
}

#[test]
fn the_example_is_a_configuration() {
    let bench = Bench::new();
    bench.file("vms.toml", block(&project("docs/config.md"), "toml"));
    bench.mezz(&["pack", "vms.toml", "-o", "b.cpio"]).status(0);
}

#[test]
fn the_mistake_looks_as_it_is_printed() {
    let bench = Bench::new();
    bench.file("vms.toml", "[vm.alpha]\nkernel = \"Image\"\nvcpus = 2\nmemry = \"256M\"\n");
    let done = bench.mezz(&["pack", "vms.toml", "-o", "b.cpio"]).status(2);
    assert_eq!(done.err, block(&project("docs/config.md"), "text"));
}

#[test]
fn every_option_is_in_the_manual_and_every_option_there_exists() {
    let words = |text: &str| -> BTreeSet<String> {
        let option = |c: char| c == '-' || c.is_ascii_lowercase();
        let words = text.split(|c| !option(c)).filter(|word| word.starts_with("--") && !word.ends_with('-'));
        words.map(str::to_owned).collect()
    };
    let bench = Bench::new();
    let mut offered = BTreeSet::new();
    for verb in ["run", "pack", "check", "explain", "dump", "tree", "symbolize"] {
        offered.extend(words(&bench.mezz(&[verb, "--help"]).status(0).out));
    }
    offered.remove("--help");
    offered.remove("--output"); // written as -o
    assert_eq!(offered, words(&project("docs/mezz.md")));
}
