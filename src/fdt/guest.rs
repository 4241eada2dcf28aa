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
use dtoolkit::ToPropertyValue;
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
    fn new(name: impl Into<String>) -> Self {
        Self(DeviceTreeNode::new_unchecked(name))
    }

    fn at(name: &str, start: u64) -> Self {
        Self::new(format!("{name}@{start:x}"))
    }

    fn with(mut self, name: &str, value: impl ToPropertyValue) -> Self {
        self.0.add_property(DeviceTreeProperty::new_unchecked(name, value));
        self
    }

    fn flag(self, name: &str) -> Self {
        self.with(name, [0u8; 0])
    }

    fn child(mut self, child: Self) -> Self {
        self.0.add_child(child.0);
        self
    }
}

/// A device tree blob for this machine.
pub fn write(machine: &GuestMachine<'_>) -> Vec<u8> {
    let mut root = Build::new("")
        .with("compatible", "linux,dummy-virt")
        .with("model", format!("Mezzanine: {}", machine.name))
        .with("interrupt-parent", GIC)
        .with("#address-cells", 2u32)
        .with("#size-cells", 2u32)
        .child(chosen(machine))
        .child(Build::new("aliases").with("serial0", uart_path()));
    for ram in machine.ram {
        root = root.child(
            Build::at("memory", ram.start().raw()).with("device_type", "memory").with("reg", reg(&[*ram])),
        );
    }
    let tree = root
        .child(cpus(machine))
        .child(
            Build::new("psci")
                .with("compatible", &["arm,psci-1.0", "arm,psci-0.2"][..])
                .with("method", "hvc"),
        )
        .child(timer(machine))
        .child(gic(machine))
        .child(
            Build::new("apb-pclk")
                .with("compatible", "fixed-clock")
                .with("#clock-cells", 0u32)
                .with("clock-frequency", 24_000_000u32)
                .with("clock-output-names", "clk24mhz")
                .with("phandle", CLOCK),
        )
        .child(
            primecell("pl011", map::UART, map::UART_SPI)
                .with("compatible", &["arm,pl011", "arm,primecell"][..])
                .with("clocks", [CLOCK, CLOCK])
                .with("clock-names", &["uartclk", "apb_pclk"][..]),
        )
        .child(
            primecell("pl031", map::RTC, map::RTC_SPI)
                .with("compatible", &["arm,pl031", "arm,primecell"][..])
                .with("clocks", CLOCK)
                .with("clock-names", "apb_pclk"),
        )
        .child(Build::new("hypervisor").with("compatible", "mezzanine,hypervisor"));
    let mut whole = DeviceTree::new();
    whole.root = tree.0;
    whole.to_dtb()
}

fn uart_path() -> String {
    format!("/pl011@{:x}", map::UART.start().raw())
}

fn reg(ranges: &[GuestRange]) -> Vec<u8> {
    ranges.iter().flat_map(|r| [r.start().raw(), r.size()]).flat_map(u64::to_be_bytes).collect()
}

fn primecell(name: &str, range: GuestRange, spi: u16) -> Build {
    Build::at(name, range.start().raw())
        .with("reg", reg(&[range]))
        .with("interrupts", [SPI, u32::from(spi), LEVEL_HIGH])
}

fn chosen(machine: &GuestMachine<'_>) -> Build {
    let mut chosen = Build::new("chosen").with("bootargs", machine.bootargs).with("stdout-path", uart_path());
    if let Some(initrd) = machine.initrd {
        chosen = chosen
            .with("linux,initrd-start", initrd.start().raw())
            .with("linux,initrd-end", initrd.end().raw());
    }
    if let Some([kaslr, rng @ ..]) = machine.seed {
        let rng: Vec<u8> = rng.into_iter().flat_map(u64::to_be_bytes).collect();
        chosen = chosen.with("kaslr-seed", kaslr).with("rng-seed", rng);
    }
    chosen
}

fn cpus(machine: &GuestMachine<'_>) -> Build {
    let wide = machine.mpidrs.iter().any(|mpidr| (mpidr & AFFINITY) >> 32 != 0);
    let mut cpus =
        Build::new("cpus").with("#address-cells", if wide { 2u32 } else { 1 }).with("#size-cells", 0u32);
    for mpidr in machine.mpidrs {
        let affinity = mpidr & AFFINITY;
        let cpu = Build::at("cpu", affinity).with("device_type", "cpu");
        let cpu = if wide { cpu.with("reg", affinity) } else { cpu.with("reg", affinity as u32) };
        cpus = cpus.child(cpu.with("compatible", machine.cpu_compatible).with("enable-method", "psci"));
    }
    cpus
}

fn timer(machine: &GuestMachine<'_>) -> Build {
    // With GICv2 a PPI's flags name the CPUs that have it, in bits 15:8 (binding arm,gic).
    let flags = match machine.gic {
        GicVersion::V2 => LEVEL_HIGH | 0xff00 & !(0xff00u32 << machine.mpidrs.len().min(8)),
        GicVersion::V3 => LEVEL_HIGH,
    };
    // Secure, non-secure physical, virtual, EL2: the order of the binding.
    let ppis = [13u32, 14, 11, 10].into_iter().flat_map(|ppi| [PPI, ppi, flags]);
    Build::new("timer")
        .with("compatible", &["arm,armv8-timer", "arm,armv7-timer"][..])
        .with("interrupts", ppis.collect::<Vec<u32>>())
        .flag("always-on")
}

fn gic(machine: &GuestMachine<'_>) -> Build {
    let gic = Build::at("intc", map::GICD.start().raw())
        .flag("interrupt-controller")
        .with("#interrupt-cells", 3u32)
        .with("#address-cells", 0u32)
        .with("phandle", GIC);
    match machine.gic {
        GicVersion::V2 => {
            gic.with("compatible", "arm,cortex-a15-gic").with("reg", reg(&[map::GICD, map::GICC]))
        }
        GicVersion::V3 => gic
            .with("compatible", "arm,gic-v3")
            .with("#redistributor-regions", 1u32)
            .with("reg", reg(&[map::GICD, map::gicr(machine.mpidrs.len() as u16)])),
    }
}
