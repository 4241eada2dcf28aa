//! Writes the tree that a guest reads: the machine of `map`.
//!
//! Names, order of interrupts and flags are those of QEMU's `virt`, so that what finds its way there finds
//! it here. Bindings: arm,gic and arm,gic-v3, arm,armv8-timer, arm,psci, arm,pl011, arm,pl031, gpio-keys of the
//! Linux kernel's Documentation/devicetree; cpus, memory and chosen of the Devicetree Specification, chapter 3.

use super::flat::Flat;
use super::partial::{CLOCK, GIC, GPIO, Partial};
use crate::addr::{Address, GuestRange};
use crate::map::{self, GicVersion};
use crate::vdev::pl061::POWER_KEY;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What a guest's tree says that is not the same for all guests.
#[derive(Clone, Debug)]
pub struct GuestMachine<'a> {
    /// The VM's name, for `model`.
    pub name: &'a str,
    /// MPIDR_EL1 of each vCPU; only affinity goes into the tree.
    pub mpidrs: &'a [u64],
    /// `compatible` of the vCPUs: the CPU's own name, or "arm,armv8".
    pub cpu_compatible: &'a str,
    /// RAM.
    pub ram: &'a [GuestRange],
    /// The interrupt controller.
    pub gic: GicVersion,
    /// The initrd, if there is one.
    pub initrd: Option<GuestRange>,
    /// The kernel's command line.
    pub bootargs: &'a str,
    /// It has a serial port.
    pub uart: bool,
    /// What more goes into it.
    pub partial: Option<Partial<'a>>,
    /// Random numbers: the first for `kaslr-seed`, the others for `rng-seed`.
    pub seed: Option<[u64; 5]>,
}

const SPI: u32 = 0;
const PPI: u32 = 1;
const LEVEL_HIGH: u32 = 4;

/// Affinity fields of MPIDR_EL1.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// A device tree blob for this machine.
pub fn write(machine: &GuestMachine<'_>) -> Vec<u8> {
    let intc = machine.partial.map_or(GIC, |partial| partial.gic());
    let mut tree = Flat::default();
    tree.begin("")
        .text("compatible", "linux,dummy-virt")
        .text("model", &format!("Mezzanine: {}", machine.name))
        .cells("interrupt-parent", &[intc])
        .cells("#address-cells", &[2])
        .cells("#size-cells", &[2]);
    chosen(&mut tree, machine);
    aliases(&mut tree, machine);
    for ram in machine.ram {
        tree.begin_at("memory", ram.start().raw()).text("device_type", "memory");
        reg(&mut tree, *ram).end();
    }
    cpus(&mut tree, machine);
    tree.begin("psci").text("compatible", "arm,psci-1.0\0arm,psci-0.2").text("method", "hvc").end();
    timer(&mut tree, machine);
    gic(&mut tree, machine, intc);
    tree.begin("apb-pclk")
        .text("compatible", "fixed-clock")
        .cells("#clock-cells", &[0])
        .cells("clock-frequency", &[24_000_000])
        .text("clock-output-names", "clk24mhz")
        .cells("phandle", &[CLOCK])
        .end();
    if machine.uart {
        primecell(&mut tree, "pl011", map::UART, map::UART_SPI)
            .cells("clocks", &[CLOCK, CLOCK])
            .text("clock-names", "uartclk\0apb_pclk")
            .end();
    }
    primecell(&mut tree, "pl031", map::RTC, map::RTC_SPI)
        .cells("clocks", &[CLOCK])
        .text("clock-names", "apb_pclk")
        .end();
    power_key(&mut tree);
    tree.begin("hypervisor").text("compatible", "mezzanine,hypervisor").end();
    if let Some(partial) = &machine.partial {
        partial.write(&mut tree);
    }
    tree.end();
    tree.finish()
}

fn uart_path() -> String {
    format!("/pl011@{:x}", map::UART.start().raw())
}

fn reg(tree: &mut Flat, range: GuestRange) -> &mut Flat {
    tree.words("reg", &[range.start().raw(), range.size()])
}

#[inline(never)]
fn primecell<'t>(tree: &'t mut Flat, name: &str, range: GuestRange, spi: u16) -> &'t mut Flat {
    tree.begin_at(name, range.start().raw()).text("compatible", &format!("arm,{name}\0arm,primecell"));
    reg(tree, range).cells("interrupts", &[SPI, u32::from(spi), LEVEL_HIGH])
}

/// The GPIO controller, and what is on one of its lines (bindings gpio-pl061 and gpio-keys): Linux makes a key of it.
fn power_key(tree: &mut Flat) {
    /// Linux, include/uapi/linux/input-event-codes.h.
    const KEY_POWER: u32 = 116;
    const ACTIVE_HIGH: u32 = 0;
    primecell(tree, "pl061", map::PL061, map::PL061_SPI)
        .cells("#gpio-cells", &[2])
        .flag("gpio-controller")
        .cells("clocks", &[CLOCK])
        .text("clock-names", "apb_pclk")
        .cells("phandle", &[GPIO])
        .end();
    tree.begin("gpio-keys")
        .text("compatible", "gpio-keys")
        .begin("poweroff")
        .text("label", "GPIO Key Poweroff")
        .cells("linux,code", &[KEY_POWER])
        .cells("gpios", &[GPIO, u32::from(POWER_KEY), ACTIVE_HIGH])
        .end();
    tree.end();
}

fn aliases(tree: &mut Flat, machine: &GuestMachine<'_>) {
    tree.begin("aliases");
    if machine.uart {
        tree.text("serial0", &uart_path());
    }
    if let Some(partial) = &machine.partial {
        partial.write_aliases(tree);
    }
    tree.end();
}

fn chosen(tree: &mut Flat, machine: &GuestMachine<'_>) {
    tree.begin("chosen").text("bootargs", machine.bootargs);
    if machine.uart {
        tree.text("stdout-path", &uart_path());
    }
    if let Some(initrd) = machine.initrd {
        tree.words("linux,initrd-start", &[initrd.start().raw()])
            .words("linux,initrd-end", &[initrd.end().raw()]);
    }
    if let Some([kaslr, rng @ ..]) = machine.seed {
        tree.words("kaslr-seed", &[kaslr]).words("rng-seed", &rng);
    }
    tree.end();
}

fn cpus(tree: &mut Flat, machine: &GuestMachine<'_>) {
    // Two cells only where Aff3 is used, as `virt` does.
    let wide = machine.mpidrs.iter().any(|mpidr| (mpidr & AFFINITY) >> 32 != 0);
    tree.begin("cpus").cells("#address-cells", &[if wide { 2 } else { 1 }]).cells("#size-cells", &[0]);
    for mpidr in machine.mpidrs {
        let affinity = mpidr & AFFINITY;
        tree.begin_at("cpu", affinity)
            .text("device_type", "cpu")
            .text("compatible", machine.cpu_compatible)
            .text("enable-method", "psci");
        if wide {
            tree.words("reg", &[affinity]).end();
        } else {
            tree.cells("reg", &[affinity as u32]).end();
        }
    }
    tree.end();
}

fn timer(tree: &mut Flat, machine: &GuestMachine<'_>) {
    // With GICv2 a PPI's flags name the CPUs that have it, in bits 15:8 (binding arm,gic).
    let flags = match machine.gic {
        GicVersion::V2 => LEVEL_HIGH | 0xff00 & !(0xff00u32 << machine.mpidrs.len().min(8)),
        GicVersion::V3 => LEVEL_HIGH,
    };
    // Secure, non-secure physical, virtual, EL2: the order of the binding.
    tree.begin("timer")
        .text("compatible", "arm,armv8-timer\0arm,armv7-timer")
        .cells("interrupts", &[PPI, 13, flags, PPI, 14, flags, PPI, 11, flags, PPI, 10, flags])
        .flag("always-on")
        .end();
}

fn gic(tree: &mut Flat, machine: &GuestMachine<'_>, phandle: u32) {
    let (compatible, second) = match machine.gic {
        GicVersion::V2 => ("arm,cortex-a15-gic", map::GICC),
        GicVersion::V3 => ("arm,gic-v3", map::gicr(machine.mpidrs.len() as u16)),
    };
    tree.begin_at("intc", map::GICD.start().raw())
        .text("compatible", compatible)
        .words("reg", &[map::GICD.start().raw(), map::GICD.size(), second.start().raw(), second.size()])
        .flag("interrupt-controller")
        .cells("#interrupt-cells", &[3])
        .cells("#address-cells", &[0])
        .cells("phandle", &[phandle])
        .end();
}
