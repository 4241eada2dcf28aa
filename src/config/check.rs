//! What has to be true of VMs before any of them starts.
//!
//! [`check_all`] finds all that is wrong, for people who can put it right in one go; EL2 asks [`check`], which
//! stops at the first.

use super::domain::MAX_VMS;
use super::{Bytes, Findings, HostFacts, MAX_CPUS, VmConfig, cmdline, placement, share, static_memory};
use crate::addr::{GuestRange, PAGE_SIZE};
use crate::guest::{Layout, image};
use crate::map::{GicVersion, RAM_BASE};
use crate::problem;
use crate::problem::Problem;
use alloc::vec::Vec;

/// The least RAM of a VM: the tree, 2 MiB below the kernel, and something to run in.
pub const MIN_MEMORY: u64 = 4 << 20;

/// A VM's name is the name of a node, which has 31 characters at most (Devicetree Specification 2.2.1).
pub const MAX_NAME: usize = 31;
/// RAM for a look at a kernel whose VM has no sensible size: nothing fails to fit.
const PLENTY: u64 = 64 << 30;

/// Checks VMs against each other and, where it is known, against the machine; returns warnings.
///
/// # Errors
/// E0201 no VM, E03xx about a VM, E04xx about its files: the first that is found.
pub fn check(vms: &[VmConfig<'_>], host: Option<&HostFacts>) -> Result<Vec<Problem>, Problem> {
    let mut found = Findings::default();
    check_all(vms, host, &mut found);
    found.settle()
}

/// The same, with everything that is wrong, in the order of the VMs.
pub fn check_all(vms: &[VmConfig<'_>], host: Option<&HostFacts>, found: &mut Findings) {
    judge(vms, host, true, found);
}

/// The same without a look into their files, for whoever has none of them.
pub(super) fn outside(vms: &[VmConfig<'_>], host: Option<&HostFacts>, found: &mut Findings) {
    judge(vms, host, false, found);
}

fn judge(vms: &[VmConfig<'_>], host: Option<&HostFacts>, files: bool, found: &mut Findings) {
    // What could not be read is not counted either: one mistake, one report.
    if vms.is_empty() && found.errors.is_empty() {
        found.error(problem!("E0201", ("machine"); ("no VM to run");
            ("Give a bundle as the initrd (mezz pack CONFIG.toml -o BUNDLE), or kernels as boot modules")));
    }
    if vms.len() > MAX_VMS {
        found.error(problem!("E0227", ("machine"); ("{} VMs", vms.len()); ("There can be {MAX_VMS}")));
    }
    static_memory::check(vms, found);
    let total = host.map_or(u64::MAX, |h| h.memory_for(vms));
    let mut left = total;
    let cpus = host.map_or(MAX_CPUS, |host| host.cpus);
    let mut placed = true;
    for (n, vm) in vms.iter().enumerate() {
        found.take(name(vm, vms.get(..n).unwrap_or_default()));
        let sized = found.take(size(vm)).is_some();
        let counted = found.take(vcpus(vm, host)).is_some();
        found.take(share::check(vm));
        // For a count that is wrong, there is no right affinity.
        placed &= counted && found.take(placement::affinity(vm, cpus)).is_some();
        let needed = vm.host_bytes();
        if needed > left {
            let rom = if vm.firmware.is_some() { " with its firmware" } else { "" };
            found.error(problem!("E0305", ("{} memory", vm.place);
                ("{}{rom}, with {} of the machine's {} left for it", Bytes(needed), Bytes(left), Bytes(total));
                ("Give all VMs together at most {}", Bytes(total & !(PAGE_SIZE - 1)))));
        } else {
            left = left.saturating_sub(needed);
        }
        cmdline::check(vm, found);
        if !files {
            continue;
        }
        initrd(vm, found);
        partial(vm, found);
        // With a senseless size, the kernel is looked at all the same.
        if let Some(ram) = GuestRange::new(RAM_BASE, if sized { vm.memory } else { PLENTY }) {
            found.take(Layout::plan(vm, ram));
        }
    }
    if placed {
        found.take(placement::check(vms, cpus));
    }
}

/// Whether a VM may be called so.
pub fn is_name(name: &str) -> bool {
    let fine = |c: u8| c.is_ascii_alphanumeric() || c == b'-' || c == b'_';
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(fine)
}

fn name(vm: &VmConfig<'_>, before: &[VmConfig<'_>]) -> Result<(), Problem> {
    if !is_name(&vm.name) {
        return Err(problem!("E0301", ("{} name", vm.place); ("\"{}\" is no name for a VM", vm.name);
            ("Use 1 to {MAX_NAME} letters, digits, - and _")));
    }
    if before.iter().any(|other| other.name == vm.name) {
        return Err(
            problem!("E0302", ("{} name", vm.place); ("\"{}\" is the name of another VM too", vm.name);
            ("Give each VM a name of its own")),
        );
    }
    Ok(())
}

fn size(vm: &VmConfig<'_>) -> Result<(), Problem> {
    if !vm.memory.is_multiple_of(PAGE_SIZE) {
        return Err(problem!("E0303", ("{} memory", vm.place); ("{}", Bytes(vm.memory));
            ("Use a multiple of 4K, such as {}", Bytes(vm.memory.max(MIN_MEMORY) & !(PAGE_SIZE - 1)))));
    }
    if vm.memory < MIN_MEMORY {
        return Err(problem!("E0304", ("{} memory", vm.place); ("{} is too little", Bytes(vm.memory));
            ("Use at least {}; Linux wants 64M", Bytes(MIN_MEMORY))));
    }
    Ok(())
}

/// A GICv3 that the machine has no way to give.
pub(crate) fn no_gicv3(vm: &VmConfig<'_>) -> Problem {
    problem!("E0323", ("{} gic", vm.place); ("a GICv3, and this machine has a GICv2: its CPUs have no registers for it");
        ("Use gic = 2, or a machine with a GICv3"))
}

fn vcpus(vm: &VmConfig<'_>, host: Option<&HostFacts>) -> Result<(), Problem> {
    if vm.gic == Some(GicVersion::V3) && host.is_some_and(|host| host.gic == GicVersion::V2) {
        return Err(no_gicv3(vm));
    }
    let gic = vm.gic.unwrap_or(host.map_or(GicVersion::V3, |h| h.gic));
    let most = gic.max_vcpus();
    if vm.vcpus == 0 || vm.vcpus > most {
        return Err(problem!("E0306", ("{} vcpus", vm.place); ("{}", vm.vcpus);
            ("Use 1 to {most} with GIC{}", if gic == GicVersion::V2 { "v2" } else { "v3" })));
    }
    Ok(())
}

fn partial(vm: &VmConfig<'_>, found: &mut Findings) {
    let mut warnings = Vec::new();
    found.take(vm.partial(&mut warnings));
    warnings.into_iter().for_each(|warning| found.warning(warning));
}

fn initrd(vm: &VmConfig<'_>, found: &mut Findings) {
    let Some(initrd) = vm.initrd else { return };
    if image::is_blank(initrd) {
        found.error(problem!("E0406", ("{} initrd", vm.place); ("{}", image::looks_like(initrd));
            ("Give a cpio archive, plain or compressed, or leave it out")));
    } else if !image::is_initrd(initrd) {
        found.warning(
            problem!("E0409", ("{} initrd", vm.place); ("looks like {}", image::looks_like(initrd));
            ("Linux takes a newc cpio archive, plain or compressed")),
        );
    }
}
