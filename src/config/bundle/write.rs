//! Makes a bundle; the same VMs give the same bytes.

use super::TREE;
use super::newc::{HEADER_SIZE, TRAILER};
use crate::addr::Address;
use crate::config::domain::{
    CAP, CONSOLE_LOG, DEDICATED, DEVICE_TREE, DOMAIN, FILE, FIRMWARE, GIC_VERSION, HARD_AFFINITY, KERNEL,
    MODULE, RAMDISK, STATIC_CELLS, STATIC_MEMORY, VCPU, WEIGHT,
};
use crate::config::{CpuList, VmConfig, check};
use crate::fdt::Flat;
use crate::map::GicVersion;
use crate::problem;
use crate::problem::Problem;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// Data of files starts at multiples of this. The format asks for 4, but what lies at a multiple of 8 goes into
/// a guest's memory in half the time, and all of it by whole cache lines.
const ALIGN: usize = 64;

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
    let mut tree = Flat::default();
    tree.begin("").text("compatible", "mezzanine,bundle").begin("chosen");
    for vm in vms {
        let files = [
            ("firmware", vm.firmware),
            ("kernel", vm.kernel),
            ("initrd", vm.initrd),
            ("partial.dtb", vm.partial_tree),
        ];
        let [firmware, kernel, initrd, partial] =
            files.map(|(name, file)| file.map(|data| path_of(format!("{}/{name}", vm.name), data)));
        let further = [(RAMDISK, "ramdisk", initrd), (DEVICE_TREE, "device-tree", partial)];
        domain(&mut tree, vm, firmware.as_deref(), kernel.as_deref(), &further)?;
    }
    tree.end();
    tree.end();
    let tree = tree.finish();

    let mut out = Vec::new();
    entry(&mut out, 1, TREE, &tree)?;
    for (inode, (path, data)) in (2..).zip(&files) {
        entry(&mut out, inode, path, data)?;
    }
    entry(&mut out, 0, TRAILER, &[])?;
    Ok(out)
}

/// A module's kind, the name of its node, and its path, if there is one.
type Further = (&'static str, &'static str, Option<String>);

fn domain(
    tree: &mut Flat,
    vm: &VmConfig<'_>,
    firmware: Option<&str>,
    kernel: Option<&str>,
    further: &[Further],
) -> Result<(), Problem> {
    if !check::is_name(&vm.name) {
        return Err(problem!("E0217", ("{} name", vm.place); ("\"{}\" is no name for a node", vm.name);
            ("Use 1 to 31 letters, digits, - and _")));
    }
    tree.begin(&vm.name)
        .text("compatible", DOMAIN)
        .words("memory", &[vm.memory / 1024])
        .cells("cpus", &[u32::from(vm.vcpus)]);
    if !vm.without_uart {
        tree.flag("vpl011");
    }
    match vm.gic {
        Some(GicVersion::V2) => tree.cells(GIC_VERSION, &[2]),
        Some(GicVersion::V3) => tree.cells(GIC_VERSION, &[3]),
        None => tree,
    };
    let shares =
        [(WEIGHT, vm.weight.map(u32::from)), (CAP, vm.cap.map(u32::from)), (CONSOLE_LOG, vm.console_log)];
    for (name, value) in shares {
        value.into_iter().for_each(|value| _ = tree.cells(name, &[value]));
    }
    if vm.dedicated {
        tree.flag(DEDICATED);
    }
    if !vm.static_memory.is_empty() {
        let pieces: Vec<u64> =
            vm.static_memory.iter().flat_map(|piece| [piece.start().raw(), piece.size()]).collect();
        STATIC_CELLS.iter().for_each(|name| _ = tree.cells(name, &[2]));
        tree.words(STATIC_MEMORY, &pieces);
    }
    if let Some(path) = firmware {
        tree.text(FIRMWARE, path);
    }
    if let Some(path) = kernel {
        module(tree, "kernel", KERNEL, path).text("bootargs", vm.cmdline).end();
    }
    for (id, mask) in (0u32..).zip(&vm.affinity).filter(|(_, mask)| **mask != 0) {
        tree.begin(&format!("vcpu{id}")).text("compatible", VCPU).cells("id", &[id]);
        tree.text(HARD_AFFINITY, &format!("{}", CpuList(*mask))).end();
    }
    for (kind, name, path) in further {
        if let Some(path) = path {
            module(tree, name, kind, path).end();
        }
    }
    tree.end();
    Ok(())
}

fn module<'t>(tree: &'t mut Flat, name: &str, kind: &str, path: &str) -> &'t mut Flat {
    tree.begin(name).text("compatible", &format!("{kind}\0{MODULE}")).text(FILE, path)
}

/// One file, or the trailer: thirteen fields of eight hexadecimal digits, name, data, each padded to four bytes.
///
/// A name ends at its first NUL, for whoever reads it, and may have as many as it takes to align the data.
fn entry(out: &mut Vec<u8>, inode: u32, path: &str, data: &[u8]) -> Result<(), Problem> {
    let Ok(size) = u32::try_from(data.len()) else {
        return Err(
            problem!("E0217", ("{path}"); ("{} bytes", data.len()); ("A file in a bundle is below 4 GiB")),
        );
    };
    let name_at = out.len() + HEADER_SIZE;
    let name_end = name_at + path.len() + 1;
    let name_size = if data.is_empty() { name_end } else { name_end.next_multiple_of(ALIGN) } - name_at;
    let mode = if inode == 0 { 0 } else { 0o100_644 };
    // inode, mode, uid, gid, links, time, size, device of the file and of what it stands for, name, checksum
    let fields = [inode, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size as u32, 0];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.resize((name_at + name_size).next_multiple_of(4), 0);
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(4), 0);
    Ok(())
}
