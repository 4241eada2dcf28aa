//! `--modules`: guests at addresses, without a bundle, as QEMU's `guest-loader` hands them over.
//!
//! Kernels go in address order, each with the RAM disk that follows it. Modules carry no sizes, so
//! Mezzanine's own options `memory=` and `vcpus=` say what every guest gets.

use mezzanine::addr::BLOCK_2M;
use mezzanine::config::Bytes;

use crate::qemu::{Module, RAM_BASE};
use crate::report::Report;
use crate::spec::Spec;

/// QEMU puts the tree here when there is no initrd, and half way into smaller RAM.
const TREE: u64 = 128 << 20;
/// More than QEMU's tree takes.
const TREE_ROOM: u64 = 4 << 20;

/// Mezzanine's options with the guests' sizes; refused when the guests want different ones.
pub(crate) fn options(own: &str, spec: &Spec) -> Result<String, Report> {
    let Some(first) = spec.vms.first() else { return Ok(own.to_owned()) };
    if let Some(vm) = spec.vms.iter().find(|vm| (vm.memory, vm.vcpus) != (first.memory, first.vcpus)) {
        let (a, b) = (&first.name, &vm.name);
        return Err(Report::new("E0513", format!("VMs `{a}` and `{b}` differ in memory or vcpus"))
            .help("modules carry no sizes: give all guests the same, or leave --modules away"));
    }
    if let Some(vm) = spec.vms.iter().find(|vm| vm.gic.is_some()) {
        let report = Report::new("E0513", format!("VM `{}` names its GIC version", vm.name))
            .help("modules cannot say so: leave --modules away");
        return Err(spec.at_vm(report, vm, "gic", "only a bundle can say this"));
    }
    if let Some(vm) = spec.vms.iter().find(|vm| vm.firmware.is_some()) {
        let report = Report::new("E0513", format!("VM `{}` has firmware", vm.name))
            .help("modules cannot bring it: leave --modules away");
        return Err(spec.at_vm(report, vm, "firmware", "only a bundle can have this"));
    }
    for vm in &spec.vms {
        let keys = ["weight", "cap", "affinity", "dedicated", "console-log"];
        if let Some(key) = keys.into_iter().find(|key| vm.spans.contains_key(key)) {
            let report = Report::new("E0513", format!("VM `{}` has `{key}`", vm.name))
                .help("modules cannot say so: leave --modules away");
            return Err(spec.at_vm(report, vm, key, "only a bundle can say this"));
        }
    }
    let sizes = format!("memory={} vcpus={}", Bytes(first.memory), first.vcpus);
    Ok(if own.is_empty() { sizes } else { format!("{own} {sizes}") })
}

/// Bytes of memory that all files take.
pub(crate) fn size(spec: &Spec) -> u64 {
    let blobs = spec.vms.iter().flat_map(|vm| [&vm.kernel, &vm.initrd]).flatten();
    blobs.fold(0, |sum: u64, blob| sum.saturating_add(blocks(blob.bytes.len() as u64)))
}

/// Puts all files at the end of RAM, where they leave the largest piece in one.
pub(crate) fn place(spec: &Spec, ram: u64) -> Result<Vec<Module>, Report> {
    let files = spec.vms.iter().flat_map(|vm| {
        let initrd = vm.initrd.as_ref().map(|blob| (blob, None));
        let kernel = vm.kernel.as_ref().map(|blob| (blob, Some(vm.cmdline.clone())));
        kernel.into_iter().chain(initrd)
    });
    let sized: Vec<_> =
        files.map(|(blob, args)| (&blob.path, args, blocks(blob.bytes.len() as u64))).collect();
    let total = sized.iter().fold(0u64, |sum, (_, _, size)| sum.saturating_add(*size));
    let lowest = TREE.min(ram / 2) + TREE_ROOM;
    let Some(start) = (ram / BLOCK_2M * BLOCK_2M).checked_sub(total).filter(|start| *start >= lowest) else {
        let least = Bytes(blocks(lowest.saturating_add(total)));
        return Err(Report::new("E0507", format!("the modules do not fit into {} of RAM", Bytes(ram)))
            .help(format!("they and QEMU's tree need {least} beside what the guests get: use --ram")));
    };
    let mut at = RAM_BASE + start;
    Ok(sized
        .into_iter()
        .map(|(file, bootargs, size)| {
            let module = Module { addr: at, file: file.clone(), bootargs };
            at += size;
            module
        })
        .collect())
}

fn blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK_2M).saturating_mul(BLOCK_2M)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::spec::{Blob, VmSpec};

    fn vm(name: &str, initrd: Option<&str>) -> VmSpec {
        let blob = |path: &str| Blob { path: path.into(), bytes: vec![1; 100] };
        VmSpec {
            kernel: Some(blob("Image")),
            initrd: initrd.map(blob),
            cmdline: format!("of={name}"),
            memory: 64 << 20,
            vcpus: 2,
            ..VmSpec::new(name.into(), PathBuf::new())
        }
    }

    #[test]
    fn kernels_in_order_each_before_its_disk_at_the_end_of_ram() {
        let spec = Spec { vms: vec![vm("a", Some("disk")), vm("b", None)], ..Spec::default() };
        let modules = place(&spec, 512 << 20).unwrap();
        let [a, disk, b] = modules.as_slice() else { panic!("{modules:?}") };
        assert_eq!((a.addr, disk.addr, b.addr), (0x5fa0_0000, 0x5fc0_0000, 0x5fe0_0000));
        assert_eq!(a.bootargs.as_deref(), Some("of=a"));
        assert_eq!(disk.bootargs, None);
        assert_eq!(b.bootargs.as_deref(), Some("of=b"));
    }

    #[test]
    fn they_stay_off_the_tree() {
        let spec = Spec { vms: vec![vm("a", None)], ..Spec::default() };
        assert!(place(&spec, 134 << 20).is_ok(), "half of RAM is below 128 MiB");
        assert!(place(&spec, 10 << 20).is_err());
        assert!(place(&spec, 12 << 20).is_ok());
    }

    #[test]
    fn sizes_are_options() {
        let spec = Spec { vms: vec![vm("a", None), vm("b", None)], ..Spec::default() };
        assert_eq!(options("", &spec).unwrap(), "memory=64M vcpus=2");
        assert_eq!(options("loglevel=debug", &spec).unwrap(), "loglevel=debug memory=64M vcpus=2");
        let other =
            Spec { vms: vec![vm("a", None), VmSpec { vcpus: 1, ..vm("b", None) }], ..Spec::default() };
        assert!(options("", &other).is_err());
        let rom = VmSpec { firmware: vm("a", None).kernel, ..vm("a", None) };
        assert!(options("", &Spec { vms: vec![rom], ..Spec::default() }).is_err());
    }
}
