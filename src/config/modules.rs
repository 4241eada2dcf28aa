//! Plain boot modules, as QEMU's `guest-loader` and Xen's multiboot make them.
//!
//! They say nothing of sizes: one VM gets what there is, several share it evenly, unless `memory=` and
//! `vcpus=` say otherwise.

use super::{HostFacts, Options, VmConfig, out_of_ram};
use crate::addr::{BLOCK_2M, HostRange};
use crate::fdt::{Module, ModuleKind, Platform, sort_by_start};
use crate::problem;
use crate::problem::Problem;
use alloc::format;
use alloc::vec::Vec;

/// vCPUs of the one VM of a machine, at most.
const MAX_ALONE: u16 = 8;

/// Appends to `vms` a VM for each kernel, in the order of their addresses.
pub(super) fn read<'a>(
    platform: &Platform<'a>,
    blob_at: &dyn Fn(HostRange) -> Option<&'a [u8]>,
    host: &HostFacts,
    options: &Options<'_>,
    vms: &mut Vec<VmConfig<'a>>,
) -> Result<(), Problem> {
    // QEMU lists them in no useful order; the address is what a person can choose.
    let mut modules = platform.modules.clone();
    sort_by_start(&mut modules, |module| &module.range);
    let others = vms.len();
    for module in &modules {
        let place = format!("/chosen/{}", module.name);
        let blob = blob_at(module.range).ok_or_else(|| out_of_ram(&place, module.range))?;
        match module.kind {
            ModuleKind::Kernel => vms.push(VmConfig {
                name: format!("vm{}", vms.len()),
                kernel: Some(blob),
                cmdline: module.bootargs.into(),
                place,
                ..VmConfig::default()
            }),
            ModuleKind::Ramdisk => ramdisk(module, blob, vms.get_mut(others..).unwrap_or_default())?,
            ModuleKind::Other => {
                return Err(problem!("E0214", ("{place} compatible"); ("a module of no known kind");
                    ("\"multiboot,kernel\" and \"multiboot,ramdisk\" are known")));
            }
        }
    }
    share(vms, others, host, options);
    Ok(())
}

fn ramdisk<'a>(module: &Module<'a>, blob: &'a [u8], vms: &mut [VmConfig<'a>]) -> Result<(), Problem> {
    let Some(vm) = vms.last_mut() else {
        return Err(
            problem!("E0211", ("/chosen/{}", module.name); ("a ramdisk at {}, below every kernel", module.range);
            ("Load a kernel's ramdisk at a higher address than the kernel, below the next one")),
        );
    };
    if vm.initrd.replace(blob).is_some() {
        return Err(
            problem!("E0212", ("/chosen/{}", module.name); ("a second ramdisk for the kernel of {}", vm.place);
            ("Give each kernel one: cpio archives can be joined with cat")),
        );
    }
    Ok(())
}

/// Gives the VMs from number `first` on what the others leave.
fn share(vms: &mut [VmConfig<'_>], first: usize, host: &HostFacts, options: &Options<'_>) {
    let alone = vms.len() == 1;
    let (others, ours) = vms.split_at_mut(first);
    let taken = others.iter().fold(0u64, |sum, vm| sum.saturating_add(vm.host_bytes()));
    let memory =
        host.memory.saturating_sub(taken).checked_div(ours.len() as u64).unwrap_or(0) & !(BLOCK_2M - 1);
    let most = if alone { MAX_ALONE } else { host.gic.max_vcpus() };
    for vm in ours {
        vm.memory = options.memory.unwrap_or(memory);
        vm.vcpus = options.vcpus.unwrap_or(host.cpus.min(most).min(host.gic.max_vcpus()));
    }
}
