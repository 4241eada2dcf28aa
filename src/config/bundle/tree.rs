//! `mezzanine.dtb`: the VMs as nodes of Xen's dom0less binding.
//!
//! Everything in it is either understood or refused, with a suggestion.

use super::Archive;
use crate::config::domain::{self, DOMAIN, FILE, FIRMWARE, Module, Source};
use crate::config::node::{Cells, is, only, require, text, unknown};
use crate::config::{Findings, VmConfig};
use crate::problem;
use crate::problem::{Hint, Problem};
use alloc::format;
use alloc::vec::Vec;
use dtoolkit::Node;
use dtoolkit::fdt::Fdt;

const ROOT_PROPERTIES: &[&str] = &["compatible", "model", "#address-cells", "#size-cells"];
const CHOSEN_PROPERTIES: &[&str] = &["#address-cells", "#size-cells"];

/// Reads all VMs of a tree; the files that they name are in `archive`.
pub(super) fn read<'a>(blob: &'a [u8], archive: &Archive<'a>, found: &mut Findings) -> Vec<VmConfig<'a>> {
    let mut vms = Vec::new();
    let size = crate::fdt::total_size(blob).unwrap_or(blob.len());
    let tree = Fdt::new(blob.get(..size).unwrap_or(blob))
        .map_err(|e| problem!("E0206", ("{}", super::TREE); ("damaged: {e}"); ("Pack the bundle again")));
    let Some(tree) = found.take(tree) else { return vms };
    let root = tree.root();
    let place = |of: &str| format!("{} {of}", super::TREE);
    only(&root, &place("/"), ROOT_PROPERTIES, found);
    let mut bytes = |module: &Module<'_, 'a>| file(module, archive);
    let mut firmware = |path: &str, place: &str| named(path, place, FIRMWARE, archive);
    let mut source =
        Source { module_properties: &["compatible", FILE], bytes: &mut bytes, firmware: Some(&mut firmware) };
    let outer = found.take(Cells::of(&root, "/", Cells::DEFAULT)).unwrap_or(Cells::DEFAULT);
    for chosen in root.children() {
        if chosen.name() != "chosen" {
            found.error(unknown(&place("/"), "node", chosen.name(), &["chosen"]));
            continue;
        }
        only(&chosen, &place("/chosen"), CHOSEN_PROPERTIES, found);
        let above = found.take(Cells::of(&chosen, "/chosen", outer)).unwrap_or(outer);
        for node in chosen.children() {
            if domain::is_full(vms.len(), domain::MAX_VMS, "/chosen", &node, found) {
                return vms;
            }
            if is(&node, DOMAIN) {
                vms.extend(domain::read(&node, above, &mut source, found));
            } else {
                found.error(problem!("E0208", ("/chosen/{} compatible", node.name()); ("not \"{DOMAIN}\"");
                    ("Each node under /chosen is a VM, with compatible = \"{DOMAIN}\"")));
            }
        }
    }
    vms
}

/// The file that a module's node names.
fn file<'a>(module: &Module<'_, 'a>, archive: &Archive<'a>) -> Result<&'a [u8], Problem> {
    let place = module.place;
    named(text(&require(module.node, place, FILE)?, place)?, place, FILE, archive)
}

/// The file that a property names.
fn named<'a>(path: &str, place: &str, property: &str, archive: &Archive<'a>) -> Result<&'a [u8], Problem> {
    archive.find(path).ok_or_else(|| {
        let paths: Vec<&str> = archive.0.iter().map(|f| f.path).take(12).collect();
        problem!("E0210", ("{place} {property}"); ("no file \"{path}\" in the bundle"); ("{}", Hint { word: path, known: &paths }))
    })
}
