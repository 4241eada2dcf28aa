//! The machine that guests are meant for: what was asked for, and what it has to give.

use clap::Args;
use mezzanine::addr::BLOCK_2M;
use mezzanine::config::{Bytes, HostFacts};
use mezzanine::map::GicVersion;

use crate::report::Report;
use crate::size;
use crate::spec::Spec;

/// CPUs of a machine at most: as many as `virt` has with a GICv3.
pub(crate) const MAX_CPUS: u16 = 512;

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
/// What Mezzanine does not give to guests on `virt`, in whole blocks: its image, QEMU's tree, and two blocks for
/// what the VMs' tables and heap take.
const OWN_RAM: u64 = 4 * BLOCK_2M;

impl Host {
    /// The machine for these guests, by options, else the configuration, else what does.
    ///
    /// # Errors
    /// E0507 for RAM that is no whole number of MiB.
    pub(crate) fn decide(args: &HostArgs, spec: &Spec) -> Result<Self, Report> {
        let own = &spec.machine;
        let asked = args.ram.or(own.ram);
        if let Some(ram) = asked.filter(|ram| *ram == 0 || !ram.is_multiple_of(1 << 20)) {
            let report = Report::new("E0507", format!("the machine cannot have {} of RAM", Bytes(ram)))
                .help("use whole MiB");
            return Err(if args.ram.is_some() { report } else { spec.at_machine(report, "ram", "") });
        }
        Ok(Self {
            cpus: args.cpus.or(own.cpus).unwrap_or(1),
            ram: asked.unwrap_or_else(|| enough(spec)),
            gic: args.gic.or(own.gic).unwrap_or(GicVersion::V3),
        })
    }

    /// What it has for guests when a bundle of so many bytes is its initrd: what Mezzanine finds there, on `virt`.
    pub(crate) fn facts(&self, bundle: u64) -> HostFacts {
        let taken = OWN_RAM.saturating_add(bundle.div_ceil(BLOCK_2M).saturating_mul(BLOCK_2M));
        let memory = self.ram.saturating_sub(taken) / BLOCK_2M * BLOCK_2M;
        HostFacts { cpus: self.cpus, memory, gic: self.gic }
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
