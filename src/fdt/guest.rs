//! Writes the tree that a guest reads: the machine of `map`.
//!
//! Names, order of interrupts and flags are those of QEMU's `virt`, so that what finds its way there finds
//! it here. Bindings: arm,gic and arm,gic-v3, arm,armv8-timer, arm,psci, arm,pl011, arm,pl031 of the Linux
//! kernel's Documentation/devicetree; cpus, memory and chosen of the Devicetree Specification, chapter 3.

use crate::addr::{Address, GuestRange};
use crate::map::{self, GicVersion};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

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
    /// Random numbers: the first for `kaslr-seed`, the others for `rng-seed`.
    pub seed: Option<[u64; 5]>,
}

/// Phandle of the interrupt controller.
const GIC: u32 = 1;
/// Phandle of the clock.
const CLOCK: u32 = 2;

const SPI: u32 = 0;
const PPI: u32 = 1;
const LEVEL_HIGH: u32 = 4;

/// Affinity fields of MPIDR_EL1.
const AFFINITY: u64 = 0xff_00ff_ffff;

/// A node to be filled; names here are constants, or checked before, so the unchecked forms will do.
struct Build(DeviceTreeNode);

impl Build {
    #[inline(never)]
    fn new(name: String) -> Self {
        Self(DeviceTreeNode::new_unchecked(name))
    }

    fn named(name: &str) -> Self {
        Self::new(name.into())
    }

    #[inline(never)]
    fn at(name: &str, start: u64) -> Self {
        Self::new(format!("{name}@{start:x}"))
    }

    #[inline(never)]
    fn bytes(&mut self, name: &str, value: Vec<u8>) -> &mut Self {
        self.0.add_property(DeviceTreeProperty::new_unchecked(name, value));
        self
    }

    /// One text, or several with NUL between them.
    #[inline(never)]
    fn text(&mut self, name: &str, value: &str) -> &mut Self {
        let mut bytes = Vec::from(value);
        bytes.push(0);
        self.bytes(name, bytes)
    }

    #[inline(never)]
    fn cells(&mut self, name: &str, value: &[u32]) -> &mut Self {
        self.bytes(name, value.iter().copied().flat_map(u32::to_be_bytes).collect())
    }

    #[inline(never)]
    fn words(&mut self, name: &str, value: &[u64]) -> &mut Self {
        self.bytes(name, value.iter().copied().flat_map(u64::to_be_bytes).collect())
    }

    fn flag(&mut self, name: &str) -> &mut Self {
        self.bytes(name, Vec::new())
    }

    fn reg(&mut self, range: GuestRange) -> &mut Self {
        self.words("reg", &[range.start().raw(), range.size()])
    }

    #[inline(never)]
    fn child(&mut self, child: Self) {
        self.0.add_child(child.0);
    }
}

/// A device tree blob for this machine.
pub fn write(machine: &GuestMachine<'_>) -> Vec<u8> {
    let mut root = Build::named("");
    root.text("compatible", "linux,dummy-virt")
        .text("model", &format!("Mezzanine: {}", machine.name))
        .cells("interrupt-parent", &[GIC])
        .cells("#address-cells", &[2])
        .cells("#size-cells", &[2]);
    root.child(chosen(machine));
    let mut aliases = Build::named("aliases");
    aliases.text("serial0", &uart_path());
    root.child(aliases);
    for ram in machine.ram {
        let mut memory = Build::at("memory", ram.start().raw());
        memory.text("device_type", "memory").reg(*ram);
        root.child(memory);
    }
    root.child(cpus(machine));
    let mut psci = Build::named("psci");
    psci.text("compatible", "arm,psci-1.0\0arm,psci-0.2").text("method", "hvc");
    root.child(psci);
    root.child(timer(machine));
    root.child(gic(machine));
    let mut clock = Build::named("apb-pclk");
    clock
        .text("compatible", "fixed-clock")
        .cells("#clock-cells", &[0])
        .cells("clock-frequency", &[24_000_000])
        .text("clock-output-names", "clk24mhz")
        .cells("phandle", &[CLOCK]);
    root.child(clock);
    let mut uart = primecell("pl011", map::UART, map::UART_SPI);
    uart.cells("clocks", &[CLOCK, CLOCK]).text("clock-names", "uartclk\0apb_pclk");
    root.child(uart);
    let mut rtc = primecell("pl031", map::RTC, map::RTC_SPI);
    rtc.cells("clocks", &[CLOCK]).text("clock-names", "apb_pclk");
    root.child(rtc);
    let mut hypervisor = Build::named("hypervisor");
    hypervisor.text("compatible", "mezzanine,hypervisor");
    root.child(hypervisor);
    let mut tree = DeviceTree::new();
    tree.root = root.0;
    tree.to_dtb()
}

fn uart_path() -> String {
    format!("/pl011@{:x}", map::UART.start().raw())
}

fn primecell(name: &str, range: GuestRange, spi: u16) -> Build {
    let mut node = Build::at(name, range.start().raw());
    node.text("compatible", &format!("arm,{name}\0arm,primecell"))
        .reg(range)
        .cells("interrupts", &[SPI, u32::from(spi), LEVEL_HIGH]);
    node
}

fn chosen(machine: &GuestMachine<'_>) -> Build {
    let mut chosen = Build::named("chosen");
    chosen.text("bootargs", machine.bootargs).text("stdout-path", &uart_path());
    if let Some(initrd) = machine.initrd {
        chosen
            .words("linux,initrd-start", &[initrd.start().raw()])
            .words("linux,initrd-end", &[initrd.end().raw()]);
    }
    if let Some([kaslr, rng @ ..]) = machine.seed {
        chosen.words("kaslr-seed", &[kaslr]).words("rng-seed", &rng);
    }
    chosen
}

fn cpus(machine: &GuestMachine<'_>) -> Build {
    // Two cells only where Aff3 is used, as `virt` does.
    let wide = machine.mpidrs.iter().any(|mpidr| (mpidr & AFFINITY) >> 32 != 0);
    let mut cpus = Build::named("cpus");
    cpus.cells("#address-cells", &[if wide { 2 } else { 1 }]).cells("#size-cells", &[0]);
    for mpidr in machine.mpidrs {
        let affinity = mpidr & AFFINITY;
        let mut cpu = Build::at("cpu", affinity);
        cpu.text("device_type", "cpu")
            .text("compatible", machine.cpu_compatible)
            .text("enable-method", "psci");
        if wide {
            cpu.words("reg", &[affinity])
        } else {
            cpu.cells("reg", &[affinity as u32])
        };
        cpus.child(cpu);
    }
    cpus
}

fn timer(machine: &GuestMachine<'_>) -> Build {
    // With GICv2 a PPI's flags name the CPUs that have it, in bits 15:8 (binding arm,gic).
    let flags = match machine.gic {
        GicVersion::V2 => LEVEL_HIGH | 0xff00 & !(0xff00u32 << machine.mpidrs.len().min(8)),
        GicVersion::V3 => LEVEL_HIGH,
    };
    let mut timer = Build::named("timer");
    // Secure, non-secure physical, virtual, EL2: the order of the binding.
    timer
        .text("compatible", "arm,armv8-timer\0arm,armv7-timer")
        .cells("interrupts", &[PPI, 13, flags, PPI, 14, flags, PPI, 11, flags, PPI, 10, flags])
        .flag("always-on");
    timer
}

fn gic(machine: &GuestMachine<'_>) -> Build {
    let mut gic = Build::at("intc", map::GICD.start().raw());
    let (compatible, second) = match machine.gic {
        GicVersion::V2 => ("arm,cortex-a15-gic", map::GICC),
        GicVersion::V3 => ("arm,gic-v3", map::gicr(machine.mpidrs.len() as u16)),
    };
    gic.text("compatible", compatible)
        .words("reg", &[map::GICD.start().raw(), map::GICD.size(), second.start().raw(), second.size()])
        .flag("interrupt-controller")
        .cells("#interrupt-cells", &[3])
        .cells("#address-cells", &[0])
        .cells("phandle", &[GIC]);
    gic
}
