//! How guests arrive: from a bundle or from boot modules, each way into the same [`VmConfig`].
//!
//! Nothing here starts anything: [`read`] either knows all of the machine's VMs, checked, or says what is
//! wrong with them. The host tool checks what it packed with the same code.

pub mod bundle;
mod check;
mod modules;
mod options;
#[cfg(test)]
mod tests;

pub use check::{MIN_MEMORY, check};
pub use options::{Options, parse_size};

use crate::addr::HostRange;
use crate::fdt::Platform;
use crate::guest::rom;
use crate::map::GicVersion;
use crate::problem;
use crate::problem::Problem;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// One VM as somebody asked for it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct VmConfig<'a> {
    /// Its name: 1 to 31 of `A-Za-z0-9_-`.
    pub name: String,
    /// The kernel's file: needed unless there is firmware.
    pub kernel: Option<&'a [u8]>,
    /// The initrd's file.
    pub initrd: Option<&'a [u8]>,
    /// The kernel's command line.
    pub cmdline: String,
    /// Bytes of RAM.
    pub memory: u64,
    /// Virtual CPUs.
    pub vcpus: u16,
    /// The interrupt controller, where somebody cares.
    pub gic: Option<GicVersion>,
    /// A ROM image that lies at guest address 0 and is entered there; a kernel then only lies in memory.
    pub firmware: Option<&'a [u8]>,
    /// A device tree of which nodes go into the guest's: Xen's `multiboot,device-tree`.
    pub partial_tree: Option<&'a [u8]>,
    /// Host RAM that its memory has to be, in this order: Xen's `xen,static-mem`. Empty: whatever is free.
    pub static_memory: Vec<HostRange>,
    /// It has no serial port: one of Xen's domains without `vpl011`.
    pub without_uart: bool,
    /// Where it is described, for messages.
    pub place: String,
}

impl VmConfig<'_> {
    /// A VM with a name and nothing else.
    pub fn named(name: &str) -> Self {
        Self { name: name.into(), place: format!("vm.{name}"), ..Self::default() }
    }

    /// Bytes of the machine's RAM that it takes: its own RAM, and its firmware's ROM.
    pub fn host_bytes(&self) -> u64 {
        self.memory.saturating_add(self.firmware.map_or(0, rom::host_bytes))
    }
}

impl fmt::Debug for VmConfig<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kernel, initrd) = (self.kernel.map_or(0, <[u8]>::len), self.initrd.map_or(0, <[u8]>::len));
        write!(
            f,
            "{} ({}: firmware {} bytes, kernel {kernel} bytes, initrd {initrd} bytes, ",
            self.name,
            self.place,
            self.firmware.map_or(0, <[u8]>::len)
        )?;
        write!(f, "{}, {} vCPUs, GIC {:?}, {:?})", Bytes(self.memory), self.vcpus, self.gic, self.cmdline)
    }
}

/// All that a machine is to do.
#[derive(Debug)]
pub struct MachineConfig<'a> {
    /// Its VMs, checked.
    pub vms: Vec<VmConfig<'a>>,
    /// Mezzanine's own options.
    pub options: Options<'a>,
    /// What looks wrong but may be right.
    pub warnings: Vec<Problem>,
}

/// What the machine has to give.
#[derive(Clone, Copy, Debug)]
pub struct HostFacts {
    /// CPUs that run guests.
    pub cpus: u16,
    /// Bytes of RAM free for guests.
    pub memory: u64,
    /// The interrupt controller of a guest that names none.
    pub gic: GicVersion,
}

/// Reads and checks everything that was handed over at boot: the bundle in the initrd, then plain modules.
///
/// `blob_at` makes a range of host memory readable, or says that it is not all RAM.
///
/// # Errors
/// E02xx about the way in, E03xx about a VM, E04xx about its files.
pub fn read<'a>(
    platform: &Platform<'a>,
    blob_at: &dyn Fn(HostRange) -> Option<&'a [u8]>,
    host: &HostFacts,
) -> Result<MachineConfig<'a>, Problem> {
    let options = Options::parse(platform.bootargs)?;
    if let Some(name) = platform.domain {
        return Err(problem!("E0213", ("/chosen/{name}"); ("Xen's dom0less nodes are not read yet");
            ("Put the VMs into a bundle: mezz pack CONFIG.toml -o BUNDLE")));
    }
    let mut vms = Vec::new();
    if let Some(range) = platform.initrd {
        let bytes = blob_at(range).ok_or_else(|| out_of_ram("/chosen linux,initrd-start", range))?;
        vms = bundle::read(bytes)?;
    }
    modules::read(platform, blob_at, host, &options, &mut vms)?;
    let warnings = check(&vms, Some(host))?;
    Ok(MachineConfig { vms, options, warnings })
}

fn out_of_ram(place: &str, range: HostRange) -> Problem {
    problem!("E0202", ("{place}"); ("{range} is not all within the machine's RAM");
        ("Have the boot loader put it into RAM, apart from everything else"))
}

/// A number of bytes as people write it: `256M`.
#[derive(Clone, Copy)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(30, "G"), (20, "M"), (10, "K")] {
            if self.0 >> shift > 0 && self.0.trailing_zeros() >= shift {
                return write!(f, "{}{unit}", self.0 >> shift);
            }
        }
        write!(f, "{} bytes", self.0)
    }
}
