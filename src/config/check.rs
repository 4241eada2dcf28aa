//! What has to be true of VMs before any of them starts.

use super::{Bytes, HostFacts, VmConfig};
use crate::addr::{GuestRange, PAGE_SIZE};
use crate::guest::{Layout, image};
use crate::map::{GicVersion, RAM_BASE};
use crate::problem;
use crate::problem::Problem;
use alloc::vec::Vec;

/// The least RAM of a VM: the tree, 2 MiB below the kernel, and something to run in.
pub const MIN_MEMORY: u64 = 4 << 20;

/// Bytes of the longest command line that arm64 Linux takes, less its NUL (COMMAND_LINE_SIZE).
const MAX_CMDLINE: usize = 2047;
/// A VM's name is the name of a node, which has 31 characters at most (Devicetree Specification 2.2.1).
const MAX_NAME: usize = 31;

/// Checks VMs against each other and, where it is known, against the machine; returns warnings.
///
/// # Errors
/// E0201 no VM, E03xx about a VM, E04xx about its files: the first that is found.
pub fn check(vms: &[VmConfig<'_>], host: Option<&HostFacts>) -> Result<Vec<Problem>, Problem> {
    if vms.is_empty() {
        return Err(problem!("E0201", ("machine"); ("no VM to run");
            ("Give a bundle as the initrd (mezz pack CONFIG.toml -o BUNDLE), or kernels as boot modules")));
    }
    let mut warnings = Vec::new();
    let mut left = host.map_or(u64::MAX, |h| h.memory);
    for (n, vm) in vms.iter().enumerate() {
        name(vm, vms.get(..n).unwrap_or_default())?;
        size(vm, host)?;
        let needed = vm.host_bytes();
        if needed > left {
            let total = host.map_or(0, |h| h.memory);
            let rom = if vm.firmware.is_some() { " with its firmware" } else { "" };
            return Err(problem!("E0305", ("{} memory", vm.place);
                ("{}{rom}, with {} of the machine's {} left for it", Bytes(needed), Bytes(left), Bytes(total));
                ("Give all VMs together at most {}", Bytes(total & !(PAGE_SIZE - 1)))));
        }
        left = left.saturating_sub(needed);
        cmdline(vm)?;
        initrd(vm, &mut warnings)?;
        if let Some(ram) = GuestRange::new(RAM_BASE, vm.memory) {
            Layout::plan(vm, ram)?;
        }
    }
    Ok(warnings)
}

/// Whether a VM may be called so.
pub(super) fn is_name(name: &str) -> bool {
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

fn size(vm: &VmConfig<'_>, host: Option<&HostFacts>) -> Result<(), Problem> {
    if !vm.memory.is_multiple_of(PAGE_SIZE) {
        return Err(problem!("E0303", ("{} memory", vm.place); ("{}", Bytes(vm.memory));
            ("Use a multiple of 4K, such as {}", Bytes(vm.memory.max(MIN_MEMORY) & !(PAGE_SIZE - 1)))));
    }
    if vm.memory < MIN_MEMORY {
        return Err(problem!("E0304", ("{} memory", vm.place); ("{} is too little", Bytes(vm.memory));
            ("Use at least {}; Linux wants 64M", Bytes(MIN_MEMORY))));
    }
    let gic = vm.gic.unwrap_or(host.map_or(GicVersion::V3, |h| h.gic));
    let most = gic.max_vcpus();
    if vm.vcpus == 0 || vm.vcpus > most {
        return Err(problem!("E0306", ("{} vcpus", vm.place); ("{}", vm.vcpus);
            ("Use 1 to {most} with GIC{}", if gic == GicVersion::V2 { "v2" } else { "v3" })));
    }
    Ok(())
}

fn cmdline(vm: &VmConfig<'_>) -> Result<(), Problem> {
    if vm.kernel.is_none() && !vm.cmdline.is_empty() {
        return Err(problem!("E0434", ("{} cmdline", vm.place); ("for a kernel, and there is none");
            ("Leave it out: firmware takes no command line. Or give the kernel that it is to start")));
    }
    if vm.cmdline.len() > MAX_CMDLINE {
        return Err(problem!("E0307", ("{} cmdline", vm.place); ("{} bytes long", vm.cmdline.len());
            ("Linux takes {MAX_CMDLINE} at most")));
    }
    if let Some(c) = vm.cmdline.chars().find(|c| c.is_control() && *c != '\t') {
        return Err(
            problem!("E0307", ("{} cmdline", vm.place); ("has the control character {:#04x}", c as u32);
            ("A command line is one line of text")),
        );
    }
    Ok(())
}

fn initrd(vm: &VmConfig<'_>, warnings: &mut Vec<Problem>) -> Result<(), Problem> {
    let Some(initrd) = vm.initrd else { return Ok(()) };
    if image::is_blank(initrd) {
        return Err(problem!("E0406", ("{} initrd", vm.place); ("{}", image::looks_like(initrd));
            ("Give a cpio archive, plain or compressed, or leave it out")));
    }
    if !image::is_initrd(initrd) {
        warnings
            .push(problem!("E0409", ("{} initrd", vm.place); ("looks like {}", image::looks_like(initrd));
            ("Linux takes a newc cpio archive, plain or compressed")));
    }
    Ok(())
}
