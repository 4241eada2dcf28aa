//! Plain boot modules, as QEMU's `guest-loader` and Xen's multiboot make them.
//!
//! They say nothing of sizes: one VM gets what there is, several share it evenly, unless `memory=` and
//! `vcpus=` say otherwise.

use super::node::short;
use super::{Findings, HostFacts, Options, VmConfig, out_of_ram};
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
    found: &mut Findings,
) {
    // QEMU lists them in no useful order; the address is what a person can choose.
    let mut modules = platform.modules.clone();
    sort_by_start(&mut modules, |module| &module.range);
    let others = vms.len();
    apart(&modules, platform.initrd, found);
    for module in &modules {
        let place = short(format_args!("/chosen/{}", module.name));
        let Some(blob) = blob_at(module.range) else {
            found.error(out_of_ram(&place, module.range));
            continue;
        };
        match module.kind {
            ModuleKind::Kernel => vms.push(VmConfig {
                name: format!("vm{}", vms.len()),
                kernel: Some(blob),
                cmdline: module.bootargs,
                place,
                ..VmConfig::default()
            }),
            ModuleKind::Ramdisk => {
                found.take(ramdisk(module, blob, vms.get_mut(others..).unwrap_or_default()));
            }
            ModuleKind::Other => {
                found.error(problem!("E0214", ("{place} compatible"); ("a module of no known kind");
                    ("\"multiboot,kernel\" and \"multiboot,ramdisk\" are known")));
            }
        }
    }
    share(vms, others, host, options);
}

/// Checks that none lies in another, or in the bundle: E0223. They are in the order of their addresses.
fn apart(modules: &[Module<'_>], bundle: Option<HostRange>, found: &mut Findings) {
    let mut before: Option<&Module<'_>> = None;
    for module in modules {
        let range = module.range;
        let other =
            before.filter(|other| other.range.overlaps(&range)).map(|other| (other.range, other.name));
        let bundle = bundle.filter(|bundle| bundle.overlaps(&range)).map(|bundle| (bundle, "the initrd"));
        for (other, whose) in other.into_iter().chain(bundle) {
            found.error(problem!("E0223", ("/chosen/{} reg", module.name); ("{range} overlaps {other}, {whose}"); ("Load them apart")));
        }
        before = before.filter(|other| other.range.end() >= range.end()).or(Some(module));
    }
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
    let most = if vms.len() == 1 { MAX_ALONE } else { host.gic.max_vcpus() };
    let vcpus = options.vcpus.unwrap_or(host.cpus.min(most).min(host.gic.max_vcpus()));
    vms.iter_mut().skip(first).for_each(|vm| vm.vcpus = vcpus);
    let all = host.memory_for(vms);
    let (others, ours) = vms.split_at_mut(first);
    let taken = others.iter().fold(0u64, |sum, vm| sum.saturating_add(vm.host_bytes()));
    let memory = all.saturating_sub(taken).checked_div(ours.len() as u64).unwrap_or(0) & !(BLOCK_2M - 1);
    ours.iter_mut().for_each(|vm| vm.memory = options.memory.unwrap_or(memory));
}
