//! What can be wrong with a domain's node, one thing at a time.

use super::{domain, module, read};

/// Each property and node by itself: what it leads to, by its code and a part of what is said.
#[test]
fn each_bad_property_is_named() {
    let d = |rest: &str| domain("d", 0, rest);
    let bare =
        |rest: &str| format!("d {{ compatible = \"xen,domain\"; {rest} {} }};", module("kernel", 0, ""));
    let only = |modules: &str| {
        format!("d {{ compatible = \"xen,domain\"; memory = <0x10000>; cpus = <1>; vpl011; {modules} }};")
    };
    let sized = |memory: &str, cpus: &str| bare(&format!("memory = {memory}; cpus = {cpus};"));
    let cases: Vec<(&str, &str, String)> = vec![
        // memory and cpus
        ("E0209", "/chosen/d memory: missing", bare("cpus = <1>;")),
        ("E0209", "/chosen/d cpus: missing", bare("memory = <0x10000>;")),
        ("E0208", "/chosen/d memory: 12 bytes long. Give KiB", sized("<1 2 3>", "<1>")),
        ("E0208", "/chosen/d memory: 0 bytes long", bare("memory; cpus = <1>;")),
        ("E0208", "more than there can be", sized("<0xffffffff 0>", "<1>")),
        ("E0208", "/chosen/d cpus: 2 bytes long", sized("<0x10000>", "[00 01]")),
        ("E0304", "/chosen/d memory: 0 bytes is too little", sized("<0 0>", "<1>")),
        ("E0303", "/chosen/d memory", sized("<0x10001>", "<1>")),
        ("E0305", "/chosen/d memory: 1024G", sized("<0 0x40000000>", "<1>")),
        ("E0306", "/chosen/d vcpus: 0", sized("<0x10000>", "<0>")),
        ("E0306", "/chosen/d vcpus: 65", sized("<0x10000>", "<65>")),
        ("E0306", "vcpus: 65535", sized("<0x10000>", "<0x10001>")),
        ("E0306", "8 with GICv2", d("mezzanine,gic-version = <2>;").replace("cpus = <1>", "cpus = <9>")),
        ("E0208", "2 and 3 are known", d("mezzanine,gic-version = <4>;")),
        // Names
        (
            "E0302",
            "\"d\" is the name of another VM too",
            format!("{} {}", domain("d@1", 0, ""), domain("d@2", 0, "")),
        ),
        ("E0301", "is no name for a VM", domain("a.b", 0, "")),
        // What nobody knows, and where it belongs
        ("E0207", "Did you mean \"cpus\"?", d("cpu = <1>;")),
        ("E0207", "Did you mean \"memory\"?", d("memroy = <1>;")),
        ("E0207", "Did you mean \"direct-map\"?", d("directmap;")),
        ("E0207", "Known are: compatible", d("zzz;")),
        ("E0207", "A command line belongs to the kernel's node", d("bootargs = \"x\";")),
        ("E0207", "Did you mean \"bootargs\"?", only(&module("kernel", 0, "bootarg = \"x\";"))),
        ("E0207", "property \"bootargs\" is not known", d(&module("ramdisk", 1, "bootargs = \"x\";"))),
        // Modules
        ("E0209", "/chosen/d: no kernel", only("")),
        ("E0209", "/chosen/d: no kernel", only(&module("ramdisk", 1, ""))),
        ("E0208", "a second one of its kind", d(&module("kernel", 3, ""))),
        (
            "E0208",
            "a second one of its kind",
            d(&[module("ramdisk", 1, ""), module("ramdisk", 17, "")].concat()),
        ),
        (
            "E0208",
            "a second one of its kind",
            d(&[module("device-tree", 2, ""), module("device-tree", 18, "")].concat()),
        ),
        ("E0208", "/chosen/d/m compatible: a node of no known kind", d("m { };")),
        ("E0208", "no known kind", d("m { compatible = \"multiboot,module\"; };")),
        ("E0208", "no known kind", d("m { compatible = \"multiboot,ramdisk\"; };")),
        (
            "E0208",
            "no known kind",
            d("m { compatible = \"multiboot,kernel\", \"multiboot,ramdisk\", \"multiboot,module\"; };"),
        ),
        ("E0208", "no known kind", d("m { compatible = \"xen,xsm-policy\", \"multiboot,module\"; };")),
        (
            "E0209",
            "/chosen/d/k reg: missing",
            only("k { compatible = \"multiboot,kernel\", \"multiboot,module\"; };"),
        ),
        (
            "E0222",
            "only Xen started by UEFI",
            only(
                "k { compatible = \"multiboot,kernel\", \"multiboot,module\"; xen,uefi-binary = \"Image\"; };",
            ),
        ),
        (
            "E0208",
            "bootargs: no text, or more than one",
            only(&module("kernel", 0, "bootargs = \"a\", \"b\";")),
        ),
        ("E0208", "bootargs: no text", only(&module("kernel", 0, "bootargs = [ff 00];"))),
        (
            "E0307",
            "/chosen/d/m0 bootargs: 2100 bytes long",
            only(&module("kernel", 0, &format!("bootargs = \"{}\";", "x".repeat(2100)))),
        ),
        (
            "E0223",
            "m0 reg: 0x50000000..0x50001000 overlaps 0x50000800..0x50001800, /chosen/d/r",
            d(&module("ramdisk", 0, "").replace("m0", "r").replace("0x50000000", "0x50000800")),
        ),
        ("E0223", "/chosen/d/m0", d(&module("ramdisk", 0, "").replace("m0", "r"))),
        (
            "E0223",
            "overlaps",
            format!("{} {}", d(""), domain("e", 0, "").replace("0x50000000", "0x4ffff800")),
        ),
        (
            "E0402",
            "/chosen/d kernel: no arm64 Linux Image: it looks like a newc cpio archive",
            d("").replace("0x50000000", "0x50100000"),
        ),
        // Static memory
        (
            "E0231",
            "there without #xen,static-mem-size-cells",
            d("#xen,static-mem-address-cells = <1>; xen,static-mem = <0x60000000 0x4000000>;"),
        ),
        (
            "E0231",
            "there without #xen,static-mem-address-cells",
            d("#xen,static-mem-size-cells = <1>; xen,static-mem = <0x60000000 0x4000000>;"),
        ),
        (
            "E0220",
            "#xen,static-mem-size-cells: 0",
            d("#xen,static-mem-address-cells = <1>; #xen,static-mem-size-cells = <0>;"),
        ),
        (
            "E0231",
            "8 bytes long. Give 1 to 32 ranges in whole pages of 4K, each 2 cells of address and 2 of size",
            d("xen,static-mem = <0x60000000 0x4000000>;"),
        ),
        ("E0231", "0 bytes long", d("xen,static-mem;")),
        ("E0231", "not in whole pages", d("xen,static-mem = <0 0x60000800 0 0x4000000>;")),
        ("E0231", "an empty range at 0x60000000", d("xen,static-mem = <0 0x60000000 0 0>;")),
        ("E0231", "beyond 2^64", d("xen,static-mem = <0xffffffff 0xf0000000 0 0x20000000>;")),
        (
            "E0231",
            "528 bytes long",
            d(&format!("xen,static-mem = <{}>;", "0 0x60000000 0 0x1000 ".repeat(33))),
        ),
        ("E0230", "32M in all, and memory says 64M", d("xen,static-mem = <0 0x60000000 0 0x2000000>;")),
        (
            "E0232",
            "overlaps 0x60000000..0x62000000 of /chosen/d",
            d("xen,static-mem = <0 0x60000000 0 0x2000000 0 0x61000000 0 0x2000000>;"),
        ),
        (
            "E0232",
            "0x80000000..0x84000000 is not all within one bank of RAM",
            d("xen,static-mem = <0 0x80000000 0 0x4000000>;"),
        ),
        ("E0232", "reserved for the firmware", d("xen,static-mem = <0 0x7c000000 0 0x4000000>;")),
        (
            "E0232",
            "overlaps 0x50000000..0x50001000, which is /chosen/d/m0",
            d("xen,static-mem = <0 0x4f000000 0 0x4000000>;"),
        ),
        (
            "E0232",
            "of /chosen/d",
            format!(
                "{} {}",
                d("xen,static-mem = <0 0x60000000 0 0x4000000>;"),
                domain("e", 3, "xen,static-mem = <0 0x62000000 0 0x4000000>;")
            ),
        ),
        // What only Xen can give
        ("E0224", "/chosen/d direct-map: a guest's RAM is at 0x40000000", d("direct-map;")),
        ("E0224", "/chosen/d passthrough: no devices", d("passthrough = \"enabled\";")),
        ("E0224", "xen,passthrough", d("xen,passthrough;")),
        ("E0224", "vpci", d("vpci;")),
        ("E0224", "sve", d("sve;")),
        ("E0224", "Take it out, or give <0>", d("sve = <128>;")),
        ("E0208", "sve: 3 bytes long", d("sve = [00 00 01];")),
        ("E0224", "llc-colors", d("llc-colors = \"0-3\";")),
        ("E0224", "xen,enhanced: there are no Xen hypercalls", d("xen,enhanced;")),
        ("E0224", "give \"disabled\"", d("xen,enhanced = \"no-xenstore\";")),
        ("E0224", "capabilities: no VM rules over others", d("capabilities = <2>;")),
        ("E0224", "trap-unmapped-accesses", d("trap-unmapped-accesses = <0>;")),
        ("E0224", "xen,sci_type", d("xen,sci_type = \"scmi_smc\";")),
        ("E0224", "v8r_el1_msa", d("v8r_el1_msa = \"mpu\";")),
        ("E0224", "xen,shared-mem", d("xen,shared-mem = <0 0>;")),
        ("E0208", "nr_spis: 0 bytes long", d("nr_spis;")),
        (
            "E0225",
            "/chosen/d/ec: there are no Xen event channels",
            d("ec { compatible = \"xen,evtchn-v1\"; };"),
        ),
        ("E0225", "VMs share no memory", d("shm { compatible = \"xen,domain-shared-memory-v1\"; };")),
        ("E0208", "mezzanine,weight: 2 bytes long. Give 1 to 65535", d("mezzanine,weight = [01 00];")),
        ("E0330", "/chosen/d mezzanine,weight: 0", d("mezzanine,weight = <0>;")),
        ("E0330", "65536", d("mezzanine,weight = <65536>;")),
        ("E0331", "mezzanine,cap: 0", d("mezzanine,cap = <0>;")),
        ("E0331", "101", d("mezzanine,cap = <101>;")),
        ("E0331", "4294967346", d("mezzanine,cap = <1 50>;")),
        ("E0208", "mezzanine,dedicated: has a value", d("mezzanine,dedicated = <1>;")),
        ("E0337", "mezzanine,console-log: 2M", d("mezzanine,console-log = <0x200000>;")),
        ("E0338", "/chosen/d weight", d("mezzanine,dedicated; mezzanine,weight = <256>;")),
        ("E0338", "/chosen/d cap", d("mezzanine,dedicated; mezzanine,cap = <100>;")),
        ("E0339", "vCPU 0 finds no CPU for itself among CPUs 1: CPU 1 is for vCPU 0 of d", {
            let one =
                "mezzanine,dedicated; v { compatible = \"xen,vcpu\"; id = <0>; hard-affinity = \"1\"; };";
            format!("{} {}", domain("d", 0, one), domain("e", 3, one))
        }),
        ("E0340", "Dedicate fewer of CPUs 0-3", {
            let one = "v { compatible = \"xen,vcpu\"; id = <0>; hard-affinity = \"1\"; };";
            let two =
                "mezzanine,dedicated; v { compatible = \"xen,vcpu\"; id = <0>; hard-affinity = \"1-2\"; };";
            let pair = one.replace("\"1\"", "\"1-2\"");
            format!("{} {} {}", domain("d", 0, two), domain("e", 3, two), domain("f", 6, &pair))
        }),
        ("E0209", "/chosen/d/v id: missing", d("v { compatible = \"xen,vcpu\"; hard-affinity = \"0\"; };")),
        (
            "E0332",
            "v hard-affinity: \"0x1\"",
            d("v { compatible = \"xen,vcpu\"; id = <0>; hard-affinity = \"0x1\"; };"),
        ),
        (
            "E0333",
            "/chosen/d affinity: vCPU 0 is to run on 3-4",
            d("v { compatible = \"xen,vcpu\"; id = <0>; hard-affinity = \"3-4\"; };"),
        ),
        (
            "E0334",
            "leaves no CPU",
            d("v { compatible = \"xen,vcpu\"; id = <0>; hard-affinity = \"0,^0\"; };"),
        ),
        (
            "E0208",
            "hard-affinity: no text",
            d("v { compatible = \"xen,vcpu\"; id = <0>; hard-affinity = <1>; };"),
        ),
        (
            "E0335",
            "there is no vCPU 99 in a VM of ",
            d("v { compatible = \"xen,vcpu\"; id = <99>; hard-affinity = \"0\"; };"),
        ),
        (
            "E0336",
            "d/w id: 0, and another",
            d("v { compatible = \"xen,vcpu\"; id = <0>; }; w { compatible = \"xen,vcpu\"; id = <0>; };"),
        ),
        ("E0207", "hard-affinity", d("vcpu0 { compatible = \"xen,vcpu\"; id = <0>; affinity = \"0\"; };")),
        // Dom0
        (
            "E0226",
            "/chosen/dom0: Xen's Dom0",
            format!(
                "{} dom0 {{ compatible = \"xen,linux-zimage\", \"xen,multiboot-module\"; reg = <0 0x52000000 0 0x1000>; }};",
                d("")
            ),
        ),
        (
            "E0226",
            "ImageBuilder: DOM0_KERNEL",
            format!("xen,dom0-bootargs = \"x\"; {} {}", d(""), module("kernel", 3, "")),
        ),
    ];
    let mut wrong = Vec::new();
    for (code, part, chosen) in cases {
        let Some(result) = read(&chosen) else { return };
        let said = result.err().map(|problem| problem.to_string()).unwrap_or_default();
        if !(said.starts_with(code) && said.contains(part)) {
            wrong.push(format!("{code} {part:?} of\n{chosen}\nsays {said:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
