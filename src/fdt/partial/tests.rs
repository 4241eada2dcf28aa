//! Trees by hand, each with one thing in it that is right or wrong.

use super::*;
use crate::addr::GuestRange;
use crate::fdt::guest::{GuestMachine, write};
use crate::fdt::tests::run;
use crate::map::GicVersion;
use std::vec::Vec as Bytes;

const GIC_NODE: &str = "gic: gic { #interrupt-cells = <3>; interrupt-controller; };";

/// What `dtc` makes of the body of a root node, whatever it thinks of it.
fn compiled(body: &str) -> Option<Bytes<u8>> {
    let source = format!("/dts-v1/; / {{ {body} }};");
    let done =
        run("dtc", &["-f", "-q", "-q", "-I", "dts", "-O", "dtb"], &std::env::temp_dir(), source.as_bytes());
    done.map(|(blob, _)| blob)
}

/// A partial tree with this under `/passthrough`.
fn with(nodes: &str) -> Option<Bytes<u8>> {
    compiled(&format!(
        "#address-cells = <2>; #size-cells = <2>; {GIC_NODE}
         passthrough {{ compatible = \"simple-bus\"; ranges; #address-cells = <2>; #size-cells = <2>; {nodes} }};"
    ))
}

fn read(blob: &[u8]) -> Result<Partial<'_>, Problem> {
    Partial::read(blob, "vm.alpha partial tree", &mut Bytes::new())
}

/// The tree of a guest with this partial tree.
fn guest(partial: Partial<'_>) -> Bytes<u8> {
    write(&GuestMachine {
        name: "alpha",
        mpidrs: &[0x8000_0000],
        cpu_compatible: "arm,armv8",
        ram: &[GuestRange::at(0x4000_0000, 64 << 20)],
        gic: GicVersion::V3,
        initrd: None,
        bootargs: "",
        uart: true,
        partial: Some(partial),
        seed: None,
    })
}

const CLOCKS: &str = "
    root_clk: root-clk { compatible = \"fixed-clock\"; #clock-cells = <0>; clock-frequency = <1000000>; };
    half: half { compatible = \"fixed-factor-clock\"; #clock-cells = <0>; clocks = <&root_clk>; };
    info { label = \"by hand\"; clocks = <&half>, <&root_clk>; interrupt-parent = <&gic>; };
    keys { compatible = \"gpio-keys-polled\"; poll-interval = <100>; };
    i2c { #address-cells = <1>; #size-cells = <0>; sensor@48 { reg = <0x48>; }; };";

#[test]
fn what_describes_no_hardware_goes_into_the_guests_tree() {
    let Some(blob) = with(CLOCKS) else { return };
    let mut warnings = Bytes::new();
    let partial = Partial::read(&blob, "vm.alpha partial tree", &mut warnings).unwrap();
    assert_eq!(warnings, []);
    let tree = guest(partial);
    let tree = Fdt::new(&tree).unwrap();
    let cell = |path: &str, name: &str| {
        let node = tree.find_node(path).unwrap_or_else(|| panic!("no {path}"));
        value(&node, name).and_then(|v| v.first_chunk::<4>()).map(|c| u32::from_be_bytes(*c))
    };
    let gic = cell("/intc@8000000", "phandle");
    assert!(gic.is_some_and(|gic| gic == partial.gic() && gic != GIC), "{gic:?}: the one that /gic has");
    assert_eq!(cell("/", "interrupt-parent"), gic);
    assert_eq!(cell("/passthrough/info", "interrupt-parent"), gic);
    assert_eq!(cell("/passthrough/half", "clocks"), cell("/passthrough/root-clk", "phandle"));
    assert_eq!(cell("/passthrough/i2c/sensor@48", "reg"), Some(0x48));
    assert_eq!(cell("/pl011@9000000", "clocks"), cell("/apb-pclk", "phandle"));
    assert!(tree.find_node("/gic").is_none(), "only a stand-in");
}

#[test]
fn the_controllers_phandle_is_xens_where_no_node_stands_for_it() {
    let body = "passthrough { ranges; info { interrupt-parent = <65000>; }; };";
    let Some(blob) = compiled(body) else { return };
    let partial = read(&blob).unwrap();
    assert_eq!(partial.gic(), 65_000);
    let blob = guest(partial);
    let tree = Fdt::new(&blob).unwrap();
    assert_eq!(
        value(&tree.find_node("/intc@8000000").unwrap(), "phandle"),
        Some(&65_000u32.to_be_bytes()[..])
    );
}

#[test]
fn aliases_come_along_and_the_rest_stays_behind() {
    let nodes = "aliases { one = \"/passthrough/info\"; }; firmware { }; __symbols__ { a = \"/b\"; };
        passthrough { info { }; };";
    let Some(blob) = compiled(nodes) else { return };
    let mut warnings = Bytes::new();
    let partial = Partial::read(&blob, "vm.alpha partial tree", &mut warnings).unwrap();
    let texts: Bytes<_> = warnings.iter().map(|warning| warning.to_string()).collect();
    assert_eq!(
        texts,
        ["E0251 vm.alpha partial tree /firmware: not for the guest's tree. \
          What is meant for it belongs under /passthrough."]
    );
    let blob = guest(partial);
    let tree = Fdt::new(&blob).unwrap();
    let aliases = tree.find_node("/aliases").unwrap();
    assert_eq!(value(&aliases, "one"), Some(&b"/passthrough/info\0"[..]));
    assert_eq!(value(&aliases, "serial0"), Some(&b"/pl011@9000000\0"[..]));
    assert!(tree.find_node("/firmware").is_none());
}

#[test]
fn what_a_partial_tree_may_not_have_is_named() {
    let clock = |name: &str, of: &str| format!("{name}: {name} {{ #clock-cells = <0>; clocks = <&{of}>; }};");
    let cases: &[(&str, &str, String)] = &[
        // Addresses.
        ("E0245", "/passthrough/u@9000000 reg: claims address 0x9000000: PL011", "u@9000000 { reg = <0 0x9000000 0 0x1000>; };".into()),
        ("E0245", "0x8fff000: PL011", "u { reg = <0 0x8fff000 0 0x2000>; };".into()),
        ("E0245", "GICD", "u { reg = <0 0x8000000 0 4>; };".into()),
        ("E0245", "GICR", "u { reg = <0 0x80a0000 0 4>; };".into()),
        ("E0245", "virtio-mmio", "u { reg = <0 0xa003fff 0 4>; };".into()),
        ("E0245", "RAM, or beyond it", "u { reg = <0 0x40000000 0 4>; };".into()),
        ("E0245", "no devices are assigned", "u { reg = <0 0x10000000 0 0x1000>; };".into()),
        ("E0245", "PL031", "b { #address-cells = <1>; #size-cells = <1>; ranges = <0 0 0x9010000 0x1000>; u { reg = <0 4>; }; };".into()),
        ("E0245", "0x9010000: PL031", "b { #address-cells = <1>; #size-cells = <1>; ranges = <0 0 0x9010000 0x1000>; u { reg = <0x5000 4 0 4>; }; };".into()),
        ("E0245", "m device_type: memory or a CPU, and the guest has its own", "m { device_type = \"memory\"; };".into()),
        ("E0245", "c device_type: memory or a CPU", "c { device_type = \"cpu\"; };".into()),
        ("E0245", "p compatible: what the guest has one of already", "p { compatible = \"x\", \"arm,psci-1.0\"; };".into()),
        ("E0245", "what the guest has one of already", "t { compatible = \"arm,armv8-timer\"; };".into()),
        ("E0245", "what the guest has one of already", "i { compatible = \"arm,gic-v3\"; };".into()),
        // Interrupts, devices.
        ("E0246", "/passthrough/k interrupts: claims interrupts", "k { interrupts = <0 80 4>; };".into()),
        ("E0246", "interrupts-extended", "k { interrupts-extended = <&gic 0 80 4>; };".into()),
        ("E0247", "xen,path: a device of the machine's", "e { xen,path = \"/amba/e\"; };".into()),
        ("E0247", "xen,reg", "e { xen,reg = <0 0 0 1 0 0>; };".into()),
        ("E0247", "xen,force-assign-without-iommu", "e { xen,force-assign-without-iommu; };".into()),
        // Cells.
        ("E0248", "reg: 12 bytes long, where entries have 16", "u { reg = <0 0 0>; };".into()),
        ("E0248", "reg: 0 bytes long", "u { reg; };".into()),
        ("E0248", "ranges: 4 bytes long, where entries have 20", "b { ranges = <0>; };".into()),
        ("E0248", "#size-cells: no count of cells", "b { #size-cells = <9>; };".into()),
        ("E0248", "#address-cells: no count of cells", "b { #address-cells = [00]; };".into()),
        ("E0248", "clocks: 8 bytes long", "c: c { #clock-cells = <2>; }; d { clocks = <&c 1>; };".into()),
        ("E0248", "clocks: 3 bytes long", "d { clocks = [00 00 00]; };".into()),
        ("E0248", "interrupt-parent: 8 bytes long", "d { interrupt-parent = <&gic &gic>; };".into()),
        // Phandles.
        ("E0242", "/passthrough/a phandle: 0", "a { phandle = <0>; };".into()),
        ("E0242", "phandle: 0xffffffff", "a { phandle = <0xffffffff>; };".into()),
        ("E0242", "phandle: 2 bytes long", "a { phandle = [00 01]; };".into()),
        ("E0242", "7 is another node of this tree", "a { phandle = <7>; }; b { phandle = <7>; };".into()),
        ("E0242", "65002 is the guest's own clock", "a { phandle = <65002>; };".into()),
        ("E0242", "65003 is the guest's own GPIO controller", "a { phandle = <65003>; };".into()),
        ("E0242", "not the same as linux,phandle", "a { phandle = <7>; linux,phandle = <8>; };".into()),
        // References.
        ("E0243", "clocks: nothing under /passthrough has phandle 0x63", "a { clocks = <99>; };".into()),
        ("E0243", "/passthrough/b has no #clock-cells", "a { clocks = <&b>; }; b: b { };".into()),
        ("E0243", "vcc-supply: nothing", "a { vcc-supply = <99>; };".into()),
        ("E0243", "interrupt-parent: nothing", "a { interrupt-parent = <99>; };".into()),
        ("E0243", "/passthrough/b is no interrupt controller", "a { interrupt-parent = <&b>; }; b: b { };".into()),
        ("E0243", "nothing under /passthrough has phandle 0xfde8", "a { interrupt-parent = <65000>; }; b { interrupt-parent = <&gic>; };".into()),
        // Circles.
        ("E0244", "/passthrough/a interrupt-parent: leads to /passthrough/a", "a: a { interrupt-controller; interrupt-parent = <&a>; };".into()),
        ("E0244", "interrupt-parent: leads to /passthrough/b", "a: a { interrupt-controller; interrupt-parent = <&b>; }; b: b { interrupt-controller; interrupt-parent = <&a>; };".into()),
        ("E0244", "clocks: leads to /passthrough/a", clock("a", "a")),
        ("E0244", "clocks: leads to", [clock("a", "b"), clock("b", "c"), clock("c", "a")].concat()),
        ("E0244", "supply: leads to /passthrough/a", "a: a { vin-supply = <&a>; };".into()),
    ];
    for (code, part, nodes) in cases {
        let Some(blob) = with(nodes) else { return };
        let problem = read(&blob).err().unwrap_or_else(|| panic!("accepted: {nodes}"));
        assert_eq!(problem.code, *code, "{problem}\n{nodes}");
        assert!(problem.to_string().contains(part), "{problem}\n{nodes}");
        assert!(problem.place.as_str().starts_with("vm.alpha partial tree"), "{problem}");
    }
    let whole: &[(&str, &str, &str)] = &[
        ("E0241", "no /passthrough", ""),
        ("E0241", "no /passthrough", "gic { };"),
        ("E0249", "/passthrough@1: there twice", "passthrough@0 { }; passthrough@1 { };"),
        ("E0242", "/gic phandle: 0", "gic { phandle = <0>; }; passthrough { };"),
        ("E0242", "65002 is the guest's own clock", "gic { phandle = <65002>; }; passthrough { };"),
        ("E0242", "65003 is the guest's own GPIO controller", "gic { phandle = <65003>; }; passthrough { };"),
        (
            "E0242",
            "9 is the guest's interrupt controller",
            "gic { phandle = <9>; }; passthrough { a { phandle = <9>; }; };",
        ),
        ("E0243", "__fixups__", "__fixups__ { x = \"/a:b:0\"; }; passthrough { };"),
        (
            "E0250",
            "/aliases serial0: the guest's own tree has it",
            "aliases { serial0 = \"/passthrough/a\"; }; passthrough { a { }; };",
        ),
        ("E0250", "/aliases a: not the path", "aliases { a = \"/passthrough/b\"; }; passthrough { a { }; };"),
        ("E0250", "/aliases a: not the path", "aliases { a = \"/other\"; }; other { }; passthrough { };"),
        ("E0250", "/aliases a: not the path", "aliases { a = <1 2>; }; passthrough { };"),
    ];
    for (code, part, body) in whole {
        let blob = compiled(body).unwrap();
        let problem = read(&blob).err().unwrap_or_else(|| panic!("accepted: {body}"));
        assert_eq!(problem.code, *code, "{problem}\n{body}");
        assert!(problem.to_string().contains(part), "{problem}\n{body}");
    }
}

#[test]
fn controllers_of_the_trees_own_are_fine() {
    let nodes = "pic: pic { interrupt-controller; #interrupt-cells = <1>; interrupt-parent = <&gic>; };
        bus { interrupt-parent = <&mux>; mux: mux { interrupt-controller; }; x { }; };
        hog { gpio-hog; gpios = <1 2>; }; old { nr-gpios = <4>; }; free { clocks = <0>; };";
    let Some(blob) = with(nodes) else { return };
    read(&blob).unwrap();
}

#[test]
fn damaged_and_oversized_trees_are_refused() {
    let Some(blob) = with(CLOCKS) else { return };
    let text = |blob: &[u8]| read(blob).err().map(|p| p.to_string()).unwrap_or_default();
    assert!(text(b"").starts_with("E0240 vm.alpha partial tree: no device tree."));
    assert!(text(&[0; 100]).starts_with("E0240"));
    let cut = text(&blob[..blob.len() - 1]);
    assert!(cut.contains("bytes stated"), "{cut}");
    let many = |n: usize| with(&(0..n).map(|n| format!("n{n} {{ }};")).collect::<String>()).unwrap();
    assert!(text(&many(255)).is_empty());
    assert!(text(&many(256)).contains("more than 256 nodes"));
    let deep = with(&format!("{}{}", "n { ".repeat(40), "}; ".repeat(40))).unwrap();
    assert!(text(&deep).contains("nested 42 deep"), "{}", text(&deep));
    let long = with(&format!("n {{ a = [{}]; }};", "00 ".repeat(70_000))).unwrap();
    assert!(text(&long).contains("At most 65536 are copied"), "{}", text(&long));
    let clocks: String = (0..255).map(|n| format!("c{n}: c{n} {{ #clock-cells = <0>; }};")).collect();
    let refs = |n: usize| {
        format!("clocks = {};", (0..n).map(|n| format!("<&c{}>", n % 254)).collect::<Vec<_>>().join(", "))
    };
    let all = clocks.replace("#clock-cells = <0>;", &format!("#clock-cells = <0>; {}", refs(30)));
    assert!(text(&with(&all).unwrap()).contains("more than 1024 references"));
    let many: String = (0..300).map(|n| format!("a{n} = \"/passthrough\";")).collect();
    let aliases = |many: &str| compiled(&format!("aliases {{ {many} }}; passthrough {{ }};")).unwrap();
    assert!(text(&aliases(&many)).contains("more than 256 aliases"));
    assert!(text(&with(&format!("n {{ {many} }};")).unwrap()).contains("more than 256 properties in a node"));
    let strangers: String = (0..300).map(|n| format!("n{n} {{ }};")).collect();
    let mut warnings = Bytes::new();
    let crowd = compiled(&format!("{strangers} passthrough {{ }};")).unwrap();
    assert!(Partial::read(&crowd, "vm.alpha partial tree", &mut warnings).is_ok());
    assert_eq!(warnings.len(), 16, "no more than one reads");
    let twice = |what: &[u8], with: &[u8]| {
        let mut bad = blob.clone();
        let at = bad.windows(what.len()).position(|w| w == what).unwrap();
        bad[at..at + with.len()].copy_from_slice(with);
        text(&bad)
    };
    let said = twice(b"info\0", b"half\0");
    assert!(said.starts_with("E0249 vm.alpha partial tree /passthrough half: there twice"), "{said}");
}

#[test]
fn no_damage_panics_and_what_is_taken_is_whole() {
    let Some(blob) = with(CLOCKS) else { return };
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |n: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % n
    };
    let (mut refused, mut taken) = (0, 0);
    for _ in 0..6000 {
        let mut bad = blob.clone();
        for _ in 0..1 + random(3) {
            let at = random(bad.len());
            bad[at] = if random(2) == 0 { bad[at] ^ 1 << random(8) } else { random(12) as u8 };
        }
        match read(&bad) {
            Ok(partial) => {
                taken += 1;
                let tree = guest(partial);
                assert!(crate::fdt::Platform::read(&tree).is_ok(), "a guest could not read it");
            }
            Err(problem) => {
                refused += 1;
                assert!(problem.code.starts_with("E02"), "{problem}");
            }
        }
    }
    assert!(refused > 1000 && taken > 300, "{refused} refused, {taken} taken");
}
