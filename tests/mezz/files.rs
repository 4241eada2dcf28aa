//! What `mezz pack` and `mezz tree` write.

use super::*;

const TWO: &str = "[vm.alpha]\nkernel = \"Image\"\ninitrd = \"initrd.gz\"\ncmdline = \"quiet x=1\"\nmemory = \"64M\"\n\
                   vcpus = 2\ngic = 2\n[vm.beta]\nkernel = \"Image2\"\n";

fn packed(bench: &Bench) -> Vec<u8> {
    bench.file("vms.toml", TWO);
    bench.kernel("Image2");
    bench.mezz(&["pack", "vms.toml", "-o", "b.cpio"]).status(0);
    std::fs::read(bench.path("b.cpio")).unwrap()
}

#[test]
fn a_bundle_is_what_mezzanine_reads() {
    let bench = Bench::new();
    let bytes = packed(&bench);
    let vms = mezzanine::config::bundle::read(&bytes).unwrap();
    let [alpha, beta] = vms.as_slice() else { panic!("{vms:?}") };
    assert_eq!((alpha.name.as_str(), alpha.cmdline), ("alpha", "quiet x=1"));
    assert_eq!((alpha.memory, alpha.vcpus), (64 << 20, 2));
    assert_eq!(alpha.gic, Some(mezzanine::map::GicVersion::V2));
    assert_eq!(alpha.initrd, Some(&b"070701"[..]));
    assert_eq!(alpha.kernel, Some(&*std::fs::read(bench.path("Image")).unwrap()));
    assert_eq!((beta.name.as_str(), beta.memory, beta.vcpus, beta.gic), ("beta", 256 << 20, 1, None));
    assert_eq!(beta.initrd, None);
}

#[test]
fn a_bundle_is_an_archive_for_cpio() {
    if !have("cpio") {
        return;
    }
    let bench = Bench::new();
    packed(&bench);
    let archive = std::fs::File::open(bench.path("b.cpio")).unwrap();
    let listed = Done::of(Command::new("cpio").arg("-t").stdin(archive).output().unwrap()).status(0);
    for name in ["mezzanine.dtb", "alpha/kernel", "alpha/initrd"] {
        assert!(listed.out.lines().any(|line| line == name), "no {name} in {}", listed.out);
    }
}

#[test]
fn kernels_are_read_to_their_end() {
    if !have("gzip") {
        return;
    }
    let bench = Bench::new();
    let mut image: Vec<u8> = (0..300_000u32).map(|n| (n.wrapping_mul(n) >> 7) as u8).collect();
    let header = std::fs::read(bench.path("Image")).unwrap();
    image[..64].copy_from_slice(&header[..64]);
    bench.file("large", &image);
    let packed = Command::new("gzip").arg("-c").arg(bench.path("large")).output().unwrap().stdout;
    bench.file("whole.gz", &packed);
    bench.mezz(&["pack", "--kernel", "whole.gz", "-o", "b.cpio"]).status(0);

    let mut damaged = packed.clone();
    let half = damaged.len() / 2;
    damaged[half] ^= 0x55;
    let mut sum = packed.clone();
    let end = sum.len() - 8;
    sum[end] ^= 1;
    // The trailer of the whole file behind half of the stream: the lengths are right.
    let cut = [&packed[..half], &packed[packed.len() - 8..]].concat();
    for (name, bytes) in [("damaged.gz", &damaged), ("sum.gz", &sum), ("cut.gz", &cut)] {
        bench.file(name, bytes);
        bench.file("vms.toml", format!("[vm.a]\nmemory = \"64M\"\nkernel = \"{name}\"\n"));
        let parts = ["error[E040", "vm.a kernel: gzip ", "--> vms.toml:3:10"];
        bench.mezz(&["check", "vms.toml"]).status(1).says(&parts);
        bench.mezz(&["pack", "vms.toml", "-o", "c.cpio"]).status(2).says(&parts);
        bench.mezz(&["run", "vms.toml"]).status(2).says(&parts);
        bench.mezz(&["run", "--kernel", name]).status(2).says(&["vm.guest kernel: gzip "]);
    }
    assert!(!bench.path("c.cpio").exists() && !bench.path("args").exists());

    // The same in a bundle that something else made.
    let bundle = std::fs::read(bench.path("b.cpio")).unwrap();
    let at = bundle.windows(packed.len()).position(|bytes| bytes == packed).unwrap();
    let with = |file: &[u8]| [&bundle[..at], file, &bundle[at + file.len()..]].concat();
    bench.file("bad.cpio", with(&damaged));
    bench.mezz(&["check", "bad.cpio"]).status(1).says(&["E0403", "/chosen/guest kernel: gzip "]);
    bench.mezz(&["check", "b.cpio"]).status(0);
}

#[test]
fn a_bundle_that_cannot_be_written() {
    let bench = Bench::new();
    bench.mezz(&["pack", "--kernel", "Image", "-o", "gone/b"]).status(2).says(&["E0505", "gone/b cannot be"]);
}

#[test]
fn the_tree_of_one_guest() {
    let bench = Bench::new();
    packed(&bench);
    let args = ["tree", "vms.toml", "alpha", "--cpu", "cortex-a57", "-o", "t.dtb"];
    bench.mezz(&args).status(0);
    let tree = std::fs::read(bench.path("t.dtb")).unwrap();
    let tree = dtoolkit::fdt::Fdt::new(&tree).unwrap();
    let text = tree.to_string();
    for part in
        ["quiet x=1", "arm,cortex-a57", "cpu@1", "arm,cortex-a15-gic", "linux,initrd-end", "linux,dummy-virt"]
    {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert!(!text.contains("cpu@2") && !text.contains("kaslr-seed"), "{text}");
}
