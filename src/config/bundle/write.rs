//! Makes a bundle; the same VMs give the same bytes.

use super::tree::{DOMAIN, FILE, GIC_VERSION, KERNEL, MODULE, RAMDISK};
use super::{TRAILER, TREE};
use crate::config::VmConfig;
use crate::map::GicVersion;
use crate::problem;
use crate::problem::Problem;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use dtoolkit::ToPropertyValue;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

/// A newc archive of `mezzanine.dtb` and the files of `vms`; a file that several VMs use is in it once.
///
/// # Errors
/// E0217 for a file of 4 GiB or more, which newc cannot hold, and for a name that no node can have.
pub fn write(vms: &[VmConfig<'_>]) -> Result<Vec<u8>, Problem> {
    let mut files: Vec<(String, &[u8])> = Vec::new();
    let mut path_of = |wanted: String, data| match files.iter().find(|(_, have)| *have == data) {
        Some((path, _)) => path.clone(),
        None => {
            files.push((wanted.clone(), data));
            wanted
        }
    };
    let mut chosen = DeviceTreeNode::new_unchecked("chosen");
    for vm in vms {
        let kernel = path_of(format!("{}/kernel", vm.name), vm.kernel);
        let initrd = vm.initrd.map(|data| path_of(format!("{}/initrd", vm.name), data));
        chosen.add_child(domain(vm, kernel, initrd)?);
    }
    let mut tree = DeviceTree::new();
    set(&mut tree.root, "compatible", "mezzanine,bundle");
    tree.root.add_child(chosen);
    let tree = tree.to_dtb();

    let mut out = Vec::new();
    entry(&mut out, 1, TREE, &tree)?;
    for (inode, (path, data)) in (2..).zip(&files) {
        entry(&mut out, inode, path, data)?;
    }
    entry(&mut out, 0, TRAILER, &[])?;
    Ok(out)
}

fn set(node: &mut DeviceTreeNode, name: &str, value: impl ToPropertyValue) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
}

fn domain(vm: &VmConfig<'_>, kernel: String, initrd: Option<String>) -> Result<DeviceTreeNode, Problem> {
    let mut node = DeviceTreeNode::new(vm.name.as_str()).map_err(
        |e| problem!("E0217", ("{} name", vm.place); ("{e}"); ("Use 1 to 31 letters, digits, - and _")),
    )?;
    set(&mut node, "compatible", DOMAIN);
    set(&mut node, "memory", vm.memory / 1024);
    set(&mut node, "cpus", u32::from(vm.vcpus));
    set(&mut node, "vpl011", [0u8; 0]);
    match vm.gic {
        Some(GicVersion::V2) => set(&mut node, GIC_VERSION, 2u32),
        Some(GicVersion::V3) => set(&mut node, GIC_VERSION, 3u32),
        None => {}
    }
    let mut module = module("kernel", KERNEL, kernel);
    set(&mut module, "bootargs", vm.cmdline.as_str());
    node.add_child(module);
    if let Some(path) = initrd {
        node.add_child(self::module("ramdisk", RAMDISK, path));
    }
    Ok(node)
}

fn module(name: &str, kind: &str, path: String) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(name);
    set(&mut node, "compatible", &[kind, MODULE][..]);
    set(&mut node, FILE, path);
    node
}

/// One file, or the trailer: thirteen fields of eight hexadecimal digits, name, data, each padded to four bytes.
fn entry(out: &mut Vec<u8>, inode: u32, path: &str, data: &[u8]) -> Result<(), Problem> {
    let Ok(size) = u32::try_from(data.len()) else {
        return Err(
            problem!("E0217", ("{path}"); ("{} bytes", data.len()); ("A file in a bundle is below 4 GiB")),
        );
    };
    let mode = if inode == 0 { 0 } else { 0o100_644 };
    // inode, mode, uid, gid, links, time, size, device of the file and of what it stands for, name, checksum
    let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, path.len() as u32 + 1, 0];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(4), 0);
    Ok(())
}
