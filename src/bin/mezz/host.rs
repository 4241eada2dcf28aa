//! The machine that guests are meant for: what was asked for, and what it has to give.

use clap::Args;
use mezzanine::addr::{Address, BLOCK_2M, HostPhysAddr, HostRange, PAGE_SIZE};
use mezzanine::config::{self, Bytes, HostFacts};
use mezzanine::map::GicVersion;
use mezzanine::memory::Memory;

use crate::report::Report;
use crate::size;
use crate::spec::Spec;

/// CPUs of a machine at most; `virt` has up to 123 with a GICv3 and RAM where guests' is.
pub(crate) const MAX_CPUS: u16 = config::MAX_CPUS;
/// CPUs of a machine with a GICv2.
pub(crate) const MAX_CPUS_V2: u16 = 8;

/// Options that size a machine; they come before what a configuration says of it.
#[derive(Args, Clone, Copy, Debug, Default)]
pub(crate) struct HostArgs {
    /// CPUs of the machine [default: 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(MAX_CPUS)))]
    pub(crate) cpus: Option<u16>,
    /// RAM of the machine, for instance 1G [default: what the guests need, and room]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) ram: Option<u64>,
    /// GIC version of the machine [default: 3]
    #[arg(long, value_name = "2|3", value_parser = gic)]
    pub(crate) gic: Option<GicVersion>,
}

/// Reads a GIC's version.
pub(crate) fn gic(text: &str) -> Result<GicVersion, String> {
    match text {
        "2" => Ok(GicVersion::V2),
        "3" => Ok(GicVersion::V3),
        _ => Err("a machine's GIC is 2 or 3".to_owned()),
    }
}

/// A GIC's version as a number.
pub(crate) fn number(gic: GicVersion) -> u8 {
    match gic {
        GicVersion::V2 => 2,
        GicVersion::V3 => 3,
    }
}

/// A machine that is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Host {
    /// How many CPUs.
    pub(crate) cpus: u16,
    /// Bytes of RAM.
    pub(crate) ram: u64,
    /// Its interrupt controller.
    pub(crate) gic: GicVersion,
}

/// Bytes of RAM that `virt` needs at least, as QEMU puts the bundle 128 MiB into it.
const LEAST_RAM: u64 = 512 << 20;
/// RAM is given in steps of this.
const RAM_STEP: u64 = 256 << 20;
/// Room beside the guests' own RAM and their files: what lies below QEMU's initrd, the tree, Mezzanine itself.
const ROOM: u64 = 160 << 20;
/// Where RAM starts on `virt`.
const RAM: u64 = 0x4000_0000;
/// Where QEMU puts the initrd at most, from there on: half of the RAM is the other bound (hw/arm/boot.c).
const INITRD: u64 = 128 << 20;

impl Host {
    /// The machine for these guests, by options, else the configuration, else what does.
    ///
    /// # Errors
    /// E0507 for RAM that is no whole number of MiB, E0506 for more CPUs than the machine's GIC has room for.
    pub(crate) fn decide(args: &HostArgs, spec: &Spec) -> Result<Self, Report> {
        let own = &spec.machine;
        let asked = args.ram.or(own.ram);
        if let Some(ram) = asked.filter(|ram| *ram == 0 || !ram.is_multiple_of(1 << 20)) {
            let report = Report::new("E0507", format!("the machine cannot have {} of RAM", Bytes(ram)))
                .help("use whole MiB");
            return Err(if args.ram.is_some() { report } else { spec.at_machine(report, "ram", "") });
        }
        let gic = args.gic.or(own.gic).unwrap_or(GicVersion::V3);
        let cpus = args.cpus.or(own.cpus).unwrap_or(1);
        if gic == GicVersion::V2 && cpus > MAX_CPUS_V2 {
            let report = Report::new("E0506", format!("a machine with a GICv2 cannot have {cpus} CPUs"))
                .help(format!("use 1 to {MAX_CPUS_V2}, or gic = 3 for up to {MAX_CPUS}"));
            return Err(if args.cpus.is_some() { report } else { spec.at_machine(report, "cpus", "") });
        }
        Ok(Self { cpus, ram: asked.unwrap_or_else(|| enough(spec)), gic })
    }

    /// What it has for guests when a bundle of so many bytes is its initrd: what Mezzanine finds there, on `virt`.
    pub(crate) fn facts(&self, bundle: u64) -> HostFacts {
        HostFacts { cpus: self.cpus, memory: config::for_guests(&self.free(bundle)), gic: self.gic }
    }

    /// The RAM that is free then: all of it but the image's block, the bundle, and QEMU's tree in the block behind.
    pub(crate) fn free(&self, bundle: u64) -> Memory {
        let range = |start: u64, size| HostRange::new(HostPhysAddr::new(start), size).unwrap_or_default();
        let mut memory = Memory::new();
        memory.add(range(RAM, self.ram));
        memory.reserve(range(RAM + BLOCK_2M, BLOCK_2M));
        let initrd = RAM + (self.ram / 2).min(INITRD);
        memory.reserve(range(initrd, bundle).align_out(PAGE_SIZE));
        memory.reserve(range(initrd.saturating_add(bundle).next_multiple_of(BLOCK_2M), BLOCK_2M));
        memory
    }
}

/// RAM for these guests, and room.
fn enough(spec: &Spec) -> u64 {
    let needed = spec.memory().saturating_add(spec.file_bytes()).saturating_add(ROOM).max(LEAST_RAM);
    needed.div_ceil(RAM_STEP).saturating_mul(RAM_STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_for_guests_is_what_mezzanine_says() {
        // Lines "with 502M of the machine's 502M left" of real runs: RAM, the bundle's bytes, what was left.
        let host = |ram| Host { cpus: 1, ram, gic: GicVersion::V3 };
        for (ram, bundle, left) in [(512, 22_768, 502), (1024, 22_768, 1014), (1024, 33_946_000, 982)] {
            assert_eq!(host(ram << 20).facts(bundle).memory, left << 20);
        }
        assert_eq!(host(1 << 20).facts(0).memory, 0);
    }
}
