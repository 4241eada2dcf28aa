//! `mezzanine.dtb`: the VMs as nodes of Xen's dom0less binding.
//!
//! Everything in it is either understood or refused, with a suggestion: a misspelt property must not be one
//! that is silently not there.

use super::Archive;
use crate::config::VmConfig;
use crate::map::GicVersion;
use crate::problem;
use crate::problem::{Hint, Problem};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use dtoolkit::fdt::{Fdt, FdtNode, FdtProperty};
use dtoolkit::{Node, Property};

pub(super) const DOMAIN: &str = "xen,domain";
pub(super) const MODULE: &str = "multiboot,module";
pub(super) const KERNEL: &str = "multiboot,kernel";
pub(super) const RAMDISK: &str = "multiboot,ramdisk";
pub(super) const FILE: &str = "xen,uefi-binary";
pub(super) const FIRMWARE: &str = "mezzanine,firmware";
pub(super) const GIC_VERSION: &str = "mezzanine,gic-version";

const ROOT_PROPERTIES: &[&str] = &["compatible", "model", "#address-cells", "#size-cells"];
const CHOSEN_PROPERTIES: &[&str] = &["#address-cells", "#size-cells"];
const DOMAIN_PROPERTIES: &[&str] =
    &["compatible", "memory", "cpus", "vpl011", FIRMWARE, GIC_VERSION, "#address-cells", "#size-cells"];
const MODULE_PROPERTIES: &[&str] = &["compatible", FILE, "bootargs"];

/// Reads all VMs of a tree; the files that they name are in `archive`.
pub(super) fn read<'a>(blob: &'a [u8], archive: &Archive<'a>) -> Result<Vec<VmConfig<'a>>, Problem> {
    let size = crate::fdt::total_size(blob).unwrap_or(blob.len());
    let tree = Fdt::new(blob.get(..size).unwrap_or(blob))
        .map_err(|e| problem!("E0206", ("{}", super::TREE); ("damaged: {e}"); ("Pack the bundle again")))?;
    let root = tree.root();
    only(&root, "/", ROOT_PROPERTIES)?;
    let mut vms = Vec::new();
    for child in root.children() {
        if child.name() != "chosen" {
            return Err(unknown("/", "node", child.name(), &["chosen"]));
        }
        only(&child, "/chosen", CHOSEN_PROPERTIES)?;
        for node in child.children() {
            vms.push(domain(&node, archive)?);
        }
    }
    Ok(vms)
}

fn domain<'a>(node: &FdtNode<'a>, archive: &Archive<'a>) -> Result<VmConfig<'a>, Problem> {
    let place = format!("/chosen/{}", node.name());
    if !is(node, DOMAIN) {
        return Err(problem!("E0208", ("{place} compatible"); ("not \"{DOMAIN}\"");
            ("Each node under /chosen is a VM, with compatible = \"{DOMAIN}\"")));
    }
    only(node, &place, DOMAIN_PROPERTIES)?;
    let memory = require(node, &place, "memory")?;
    let kib = number(&memory, &place, "KiB as <HIGH LOW>")?;
    let memory = kib.checked_mul(1024).ok_or_else(|| {
        problem!("E0208", ("{place} memory"); ("{kib} KiB are more than there can be"); ("Give KiB as <HIGH LOW>"))
    })?;
    let cpus = number(&require(node, &place, "cpus")?, &place, "a number of vCPUs")?;
    let gic = match node.property(GIC_VERSION) {
        None => None,
        Some(property) => match number(&property, &place, "2 or 3")? {
            2 => Some(GicVersion::V2),
            3 => Some(GicVersion::V3),
            n => return Err(problem!("E0208", ("{place} {GIC_VERSION}"); ("{n}"); ("2 and 3 are known"))),
        },
    };
    let mut vm = VmConfig {
        name: node.name_without_address().into(),
        memory,
        vcpus: u16::try_from(cpus).unwrap_or(u16::MAX),
        gic,
        place,
        ..VmConfig::default()
    };
    if let Some(property) = node.property(FIRMWARE) {
        vm.firmware = Some(file(&property, &vm.place, archive)?);
    }
    modules(node, archive, &mut vm)?;
    Ok(vm)
}

/// Reads the files of a VM: its kernel, which it must have unless it has firmware, and its ramdisk.
fn modules<'a>(node: &FdtNode<'a>, archive: &Archive<'a>, vm: &mut VmConfig<'a>) -> Result<(), Problem> {
    for child in node.children() {
        let place = format!("{}/{}", vm.place, child.name());
        let (is_kernel, is_ramdisk) = (is(&child, KERNEL), is(&child, RAMDISK));
        if !is(&child, MODULE) || is_kernel == is_ramdisk {
            return Err(problem!("E0208", ("{place} compatible"); ("a node of no known kind");
                ("\"{KERNEL}\", \"{MODULE}\" and \"{RAMDISK}\", \"{MODULE}\" are known")));
        }
        only(&child, &place, MODULE_PROPERTIES)?;
        let data = file(&require(&child, &place, FILE)?, &place, archive)?;
        let slot = if is_kernel { &mut vm.kernel } else { &mut vm.initrd };
        let twice = slot.replace(data).is_some();
        if twice {
            return Err(problem!("E0208", ("{place} compatible"); ("a second one of its kind in this VM");
                ("A VM has one kernel and at most one ramdisk")));
        }
        if let Some(bootargs) = child.property("bootargs") {
            if !is_kernel {
                return Err(unknown(&place, "property", "bootargs", &[FILE]));
            }
            vm.cmdline = String::from(text(&bootargs, &place)?);
        }
    }
    if vm.kernel.is_none() && vm.firmware.is_none() {
        return Err(problem!("E0209", ("{}", vm.place); ("no kernel");
            ("A node with compatible = \"{KERNEL}\", \"{MODULE}\" and {FILE} = \"path\" belongs in it, or {FIRMWARE}")));
    }
    Ok(())
}

/// The file that a property names.
fn file<'a>(property: &FdtProperty<'_>, place: &str, archive: &Archive<'a>) -> Result<&'a [u8], Problem> {
    let path = text(property, place)?;
    archive.find(path).ok_or_else(|| {
        let paths: Vec<&str> = archive.0.iter().map(|f| f.path).take(12).collect();
        problem!("E0210", ("{place} {}", property.name()); ("no file \"{path}\" in the bundle");
            ("{}", Hint { word: path, known: &paths }))
    })
}

fn is(node: &FdtNode<'_>, name: &str) -> bool {
    node.property("compatible").is_some_and(|p| p.value().split(|&b| b == 0).any(|s| s == name.as_bytes()))
}

/// Refuses properties that are not among `known`.
fn only(node: &FdtNode<'_>, place: &str, known: &[&str]) -> Result<(), Problem> {
    // dtc gives a node a phandle when something refers to it.
    match node.properties().find(|p| p.name() != "phandle" && !known.contains(&p.name())) {
        Some(property) => Err(unknown(place, "property", property.name(), known)),
        None => Ok(()),
    }
}

fn unknown(place: &str, what: &str, word: &str, known: &[&str]) -> Problem {
    problem!("E0207", ("{} {place}", super::TREE); ("{what} \"{word}\" is not known"); ("{}", Hint { word, known }))
}

fn require<'a>(node: &FdtNode<'a>, place: &str, name: &str) -> Result<FdtProperty<'a>, Problem> {
    node.property(name).ok_or_else(|| {
        problem!("E0209", ("{place} {name}"); ("missing"); ("Add it: docs/config-tree.md says what it means"))
    })
}

fn number(property: &FdtProperty<'_>, place: &str, right: &str) -> Result<u64, Problem> {
    let value = property.value();
    match (value.first_chunk::<4>(), value.first_chunk::<8>(), value.len()) {
        (Some(four), _, 4) => Ok(u64::from(u32::from_be_bytes(*four))),
        (_, Some(eight), 8) => Ok(u64::from_be_bytes(*eight)),
        _ => Err(
            problem!("E0208", ("{place} {}", property.name()); ("{} bytes long", value.len()); ("Give {right}")),
        ),
    }
}

fn text<'a>(property: &FdtProperty<'a>, place: &str) -> Result<&'a str, Problem> {
    property.value_as::<&'a str>().ok().filter(|text| !text.contains('\0')).ok_or_else(|| {
        problem!("E0208", ("{place} {}", property.name()); ("no text, or more than one"); ("Give one text in quotes"))
    })
}
