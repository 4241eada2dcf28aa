//! What Xen's binding names and Mezzanine does not do: refused, or taken with a warning, each with the reason.
//!
//! The rule: what would change what the guest gets is refused, for it would find out late; what has no meaning
//! without Xen is taken, so that a configuration made for Xen starts as it is.

use super::Findings;
use super::domain::PROPERTIES;
use super::node::{is, is_any, number, odd, once, only, text, unknown};
use crate::problem;
use crate::problem::{Problem, nearest};
use dtoolkit::fdt::{FdtNode, FdtProperty};
use dtoolkit::{Node, Property};

/// Values with which a property asks for nothing that is missing.
enum Fine {
    /// Whatever it says, it is missing.
    Never,
    /// This number.
    Number(u64),
    /// Numbers up to this; higher ones are taken with a warning.
    Most(u64),
    /// This text.
    Text(&'static str),
    /// Everything, with a warning: it has no meaning here.
    Anything,
}

/// A property, what of it is fine, and why the rest is not.
struct Row(&'static str, Fine, &'static str);

const DEVICES: &str = "no devices are assigned to guests yet";
const GRANTS: &str = "there are no grant tables here";
const SPIS: &str = "a guest has 64 SPIs; its devices use less";

const ROWS: &[Row] = &[
    Row("direct-map", Fine::Never, "a guest's RAM is at 0x40000000, whatever host RAM it is"),
    Row("passthrough", Fine::Text("disabled"), DEVICES),
    Row("xen,passthrough", Fine::Never, DEVICES),
    Row("vpci", Fine::Never, "guests have no PCI yet"),
    Row("nr_spis", Fine::Most(64), SPIS),
    Row("sve", Fine::Number(0), "guests are not shown SVE yet"),
    Row("capabilities", Fine::Number(0), "no VM rules over others or owns the machine's devices"),
    Row("trap-unmapped-accesses", Fine::Number(1), "an access to nothing is an external abort for the guest"),
    Row("xen,enhanced", Fine::Text("disabled"), "there are no Xen hypercalls, events and grant tables here"),
    Row("xen,sci_type", Fine::Text("none"), "the firmware's SCMI is not passed on"),
    Row("v8r_el1_msa", Fine::Text("mmu"), "this is no Armv8-R"),
    Row("llc-colors", Fine::Never, "caches are not divided among VMs"),
    Row("xen,shared-mem", Fine::Never, "VMs share no memory yet"),
    Row("domain-cpupool", Fine::Anything, "all VMs share the CPUs"),
    Row("xen,domain-p2m-mem-mb", Fine::Anything, "translation tables take what they need"),
    Row("max_grant_version", Fine::Anything, GRANTS),
    Row("max_grant_frames", Fine::Anything, GRANTS),
    Row("max_maptrack_frames", Fine::Anything, GRANTS),
];

/// Judges the properties of a domain's node: E0207, E0208 for what nobody knows, E0224 for what only Xen can give.
pub(super) fn properties(node: &FdtNode<'_>, place: &str, found: &mut Findings) {
    let mut all = PROPERTIES.to_vec();
    all.extend(ROWS.iter().map(|row| row.0));
    let mut strange = false;
    for property in odd(node, &all) {
        strange = true;
        let name = property.name();
        if name == "bootargs" {
            found.error(problem!("E0207", ("{place}"); ("property \"bootargs\" is not known");
                ("A command line belongs to the kernel's node, within this one")));
            continue;
        }
        // All of Xen's words are for finding what was meant, not for a list.
        let known = if nearest(name, &all).is_some() { &all } else { PROPERTIES };
        found.error(unknown(place, "property", name, known));
    }
    if !strange {
        once(node, place, found);
    }
    for row in ROWS {
        if let Some(property) = node.property(row.0) {
            match judge(row, &property, place) {
                Ok(Some(warning)) => found.warning(warning),
                judged => _ = found.take(judged),
            }
        }
    }
    if node.property("vpl011").is_some_and(|p| matches!(p.value(), [0, 0, 0, 0])) {
        found.warning(problem!("E0228", ("{place} vpl011"); ("0, and yet the VM has a serial port: Xen goes by its presence alone");
            ("Take it out for a VM without one")));
    }
}

/// Judges one property of Xen's; returns a warning, if it deserves one.
fn judge(row: &Row, property: &FdtProperty<'_>, place: &str) -> Result<Option<Problem>, Problem> {
    let Row(name, fine, why) = row;
    let (fits, warn) = match fine {
        Fine::Never => (false, false),
        Fine::Number(right) => {
            (!property.value().is_empty() && number(property, place, "a number")? == *right, false)
        }
        Fine::Most(most) => (true, number(property, place, "a number")? > *most),
        Fine::Text(right) => (!property.value().is_empty() && text(property, place)? == *right, false),
        Fine::Anything => (true, true),
    };
    if !fits {
        return Err(problem!("E0224", ("{place} {name}"); ("{why}"); ("{}", Instead(fine))));
    }
    Ok(warn.then(|| problem!("E0228", ("{place} {name}"); ("no effect: {why}"); ("Leave it out if this is to be the last word"))))
}

/// What would be right in place of what was refused.
struct Instead<'f>(&'f Fine);

impl core::fmt::Display for Instead<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.0 {
            Fine::Number(right) => write!(f, "Take it out, or give <{right}>"),
            Fine::Text(right) => write!(f, "Take it out, or give \"{right}\""),
            Fine::Never | Fine::Most(_) | Fine::Anything => f.write_str("Take it out"),
        }
    }
}

/// Nodes that a guest would miss.
const MISSED: &[(&str, &str)] = &[
    ("xen,evtchn", "there are no Xen event channels here"),
    ("xen,evtchn-v1", "there are no Xen event channels here"),
    ("xen,domain-shared-memory-v1", "VMs share no memory yet"),
];

/// Whether a node within a domain's is one of Xen's that is nothing here: E0225 for one that the guest would miss.
pub(super) fn node(node: &FdtNode<'_>, place: &str, found: &mut Findings) -> bool {
    if let Some((_, why)) = MISSED.iter().find(|(name, _)| is(node, name)) {
        found.error(problem!("E0225", ("{place}"); ("{why}"); ("Take the node out")));
        return true;
    }
    let taken = is(node, "xen,vcpu");
    if taken {
        only(node, place, &["compatible", "id", "hard-affinity"], found);
        found.warning(problem!("E0228", ("{place}"); ("no effect: vCPUs are not tied to CPUs yet"); ("Leave it out if this is to be the last word")));
    }
    taken
}

/// Looks at what is under `/chosen` for Xen itself and its Dom0: E0226, since nothing here could be one.
pub(super) fn chosen(chosen: &FdtNode<'_>, found: &mut Findings) {
    let dom0_options = chosen.property("xen,dom0-bootargs").is_some();
    for child in chosen.children() {
        let old = is_any(&child, &["xen,linux-zimage", "xen,linux-initrd"]);
        if old || dom0_options && is(&child, "multiboot,kernel") {
            found.error(
                problem!("E0226", ("/chosen/{}", child.name()); ("Xen's Dom0, and there is none here: no VM owns the machine");
                ("Take it out (ImageBuilder: DOM0_KERNEL), or make it a VM: a node with compatible = \"xen,domain\"")),
            );
        }
        if is_any(&child, &["xen,cpupool", "xen,evtchn", "xen,evtchn-v1", "xen,domain-shared-memory-v1"]) {
            found.warning(problem!("E0229", ("/chosen/{}", child.name()); ("for Xen and its Dom0 alone: not read"); ("Leave it out, or let it be")));
        }
    }
    for name in ["xen,xen-bootargs", "xen,dom0-bootargs", "xen,static-heap"] {
        if chosen.property(name).is_some() {
            found.warning(problem!("E0229", ("/chosen {name}"); ("for Xen and its Dom0 alone: not read");
                ("Options for Mezzanine are in mezzanine,bootargs, or in bootargs where there is no xen,xen-bootargs")));
        }
    }
}
