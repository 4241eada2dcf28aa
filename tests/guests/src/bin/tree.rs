//! The device tree at x0: sound, and with what an operating system needs.
#![no_std]
#![no_main]

use guests::fdt::{self, Tree, number};
use guests::{RAM, boot, check, check_eq, image_start, mrs, println};

guests::guest!("tree", main);

fn holds(list: &[u8], text: &str) -> bool {
    list.split(|b| *b == 0).any(|one| one == text.as_bytes())
}

fn wants(tree: &Tree, path: &[&str], name: &str) -> &'static [u8] {
    let value = tree.find(path, name);
    check!(value.is_some(), "no {name} in /{}", path.last().unwrap_or(&""));
    value.unwrap_or(&[])
}

fn main() {
    let x0 = boot().x[0] as usize;
    let Some(tree) = Tree::at(x0) else { return check!(false, "no tree at x0 = {x0:#x}") };
    let ram = RAM..RAM + fdt::memory();
    check!(ram.contains(&x0) && ram.contains(&(x0 + tree.len() - 1)), "tree outside RAM {ram:x?}");
    check!(tree.len() <= 2 << 20, "tree of {} bytes", tree.len());
    check_eq!(tree.header(5), 17, "version");
    check!(image_start().is_multiple_of(0x20_0000), "image at {:#x}", image_start());
    let mut properties = 0;
    let sound = tree.walk(|_| properties += 1);
    check!(sound, "structure block is damaged");

    check_eq!(number(wants(&tree, &[""], "#address-cells")), 2, "#address-cells");
    check_eq!(number(wants(&tree, &[""], "#size-cells")), 2, "#size-cells");
    check!(holds(wants(&tree, &[""], "compatible"), "linux,dummy-virt"), "compatible");
    wants(&tree, &[""], "interrupt-parent");
    let memory = wants(&tree, &["", "memory"], "reg");
    check_eq!(memory.len(), 16, "/memory reg length");
    check_eq!(number(&memory[..8]) as usize, RAM, "/memory base");
    check!(holds(wants(&tree, &["", "memory"], "device_type"), "memory"), "/memory device_type");

    check!(fdt::cpus() >= 1, "no CPU");
    let reg = wants(&tree, &["", "cpus", "cpu"], "reg");
    check_eq!(number(reg), mrs!("mpidr_el1") & 0xff_00ff_ffff, "reg of the first CPU");
    if fdt::cpus() > 1 {
        check!(holds(wants(&tree, &["", "cpus", "cpu"], "enable-method"), "psci"), "enable-method");
    }
    check!(holds(wants(&tree, &["", "psci"], "method"), "hvc"), "PSCI conduit");
    check!(holds(wants(&tree, &["", "psci"], "compatible"), "arm,psci-1.0"), "PSCI compatible");

    check!(holds(wants(&tree, &["", "timer"], "compatible"), "arm,armv8-timer"), "timer");
    let lines = wants(&tree, &["", "timer"], "interrupts");
    let want = [13, 14, 11, 10];
    check_eq!(lines.len(), 48, "length of timer interrupts");
    for (line, want) in lines.chunks(12).zip(want) {
        check_eq!(number(&line[..4]), 1, "kind of timer interrupt {want}");
        check_eq!(number(&line[4..8]), want, "timer PPI");
    }
    wants(&tree, &["", "timer"], "always-on");

    let gic = ["", "intc"];
    check!(holds(wants(&tree, &gic, "compatible"), "arm,gic-v3"), "intc compatible");
    let reg = wants(&tree, &gic, "reg");
    check!(reg.len() >= 32, "intc reg of {} bytes", reg.len());
    if reg.len() >= 32 {
        check_eq!(number(&reg[..8]), 0x0800_0000, "GICD");
        check_eq!(number(&reg[16..24]), 0x080a_0000, "GICR");
        check!(number(&reg[24..32]) as usize >= 0x2_0000 * fdt::cpus(), "GICR too short");
    }
    check_eq!(number(wants(&tree, &gic, "#interrupt-cells")), 3, "#interrupt-cells");

    for (node, base, line) in [("pl011", 0x0900_0000, 1), ("pl031", 0x0901_0000, 2)] {
        let path = ["", node];
        check_eq!(number(&wants(&tree, &path, "reg")[..8]), base, "{node}");
        check_eq!(number(&wants(&tree, &path, "interrupts")[4..8]), line, "interrupt of {node}");
        wants(&tree, &path, "clocks");
        check!(holds(wants(&tree, &path, "compatible"), "arm,primecell"), "{node} compatible");
    }
    check_eq!(number(wants(&tree, &["", "apb-pclk"], "clock-frequency")), 24_000_000, "apb-pclk");

    wants(&tree, &["", "chosen"], "stdout-path");
    check_eq!(wants(&tree, &["", "chosen"], "kaslr-seed").len(), 8, "kaslr-seed");
    check!(wants(&tree, &["", "chosen"], "rng-seed").len() >= 32, "rng-seed");
    let args = tree.find(&["", "chosen"], "bootargs").unwrap_or(b"");
    let args = core::str::from_utf8(args).unwrap_or("?").trim_end_matches('\0');
    println!("tree: {properties} properties, {} bytes, bootargs \"{args}\"", tree.len());
}
