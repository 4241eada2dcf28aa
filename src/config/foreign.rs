//! What Xen's binding names and Mezzanine does not do: refused, or taken with a warning, each with the reason.
//!
//! The rule: what would change what the guest gets is refused, for it would find out late; what has no meaning
//! without Xen is taken, so that a configuration made for Xen starts as it is.

use super::Findings;
use super::domain::PROPERTIES;
use super::node::{is, is_any, number, odd, once, text, unknown, wrong};
use crate::problem;
use crate::problem::{Problem, nearest};
use alloc::vec::Vec;
use dtoolkit::fdt::{FdtNode, FdtProperty};
use dtoolkit::{Node, Property};

/// Properties of Xen's, each with what of it is fine, and why the rest is not: a text, since a table of texts
/// takes three times its size in the image.
///
/// Fine are `never` a thing; a number; numbers up to one, with a warning beyond; a text; `any`thing, with a
/// warning, since it has no meaning here.
const ROWS: &str = "\
direct-map|never|a guest's RAM is at 0x40000000, whatever host RAM it is
passthrough|disabled|no devices are assigned to guests yet
xen,passthrough|never|no devices are assigned to guests yet
vpci|never|guests have no PCI yet
nr_spis|..64|a guest has 64 SPIs, and its devices use less
sve|0|guests are not shown SVE yet
capabilities|0|no VM rules over others or owns the machine's devices
trap-unmapped-accesses|1|an access to nothing is an external abort for the guest
xen,enhanced|disabled|there are no Xen hypercalls, events and grant tables here
xen,sci_type|none|the firmware's SCMI is not passed on
v8r_el1_msa|mmu|this is no Armv8-R
llc-colors|never|caches are not divided among VMs
xen,shared-mem|never|VMs share no memory yet
domain-cpupool|any|all VMs share the CPUs
xen,domain-p2m-mem-mb|any|translation tables take what they need
max_grant_version|any|there are no grant tables here
max_grant_frames|any|there are no grant tables here
max_maptrack_frames|any|there are no grant tables here
";

/// The rows: name, what is fine, why.
fn rows() -> Vec<(&'static str, &'static str, &'static str)> {
    let mut rows = Vec::new();
    let mut words = ROWS.split(['|', '\n']);
    while let (Some(name), Some(fine), Some(why)) = (words.next(), words.next(), words.next()) {
        rows.push((name, fine, why));
    }
    rows
}

const NO_EFFECT: &str = "Leave it out if this is to be the last word";

/// Judges the properties of a domain's node: E0207, E0208 for what nobody knows, E0224 for what only Xen can give.
pub(super) fn properties(node: &FdtNode<'_>, place: &str, found: &mut Findings) {
    let mut all = PROPERTIES.to_vec();
    let rows = rows();
    all.extend(rows.iter().map(|row| row.0));
    let mut strange = false;
    for property in odd(node, &all) {
        strange = true;
        if found.is_full() {
            continue;
        }
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
    for (name, fine, why) in rows {
        if let Some(property) = node.property(name) {
            let judged = judge(&property, place, fine, why, found);
            found.take(judged);
        }
    }
    if node.property("vpl011").is_some_and(|p| matches!(p.value(), [0, 0, 0, 0])) {
        let what = format_args!("0, and yet the VM has a serial port: Xen goes by its presence alone");
        found.warning(wrong("E0228", place, "vpl011", what, "Take it out for a VM without one"));
    }
}

/// Judges a property by its row.
fn judge(
    property: &FdtProperty<'_>,
    place: &str,
    fine: &str,
    why: &str,
    found: &mut Findings,
) -> Result<(), Problem> {
    let (name, empty) = (property.name(), property.value().is_empty());
    let number = || number(property, place, "a number");
    let most = fine.strip_prefix("..").and_then(|most| most.parse().ok());
    let warned = match most {
        Some(most) => number()? > most,
        None => fine == "any",
    };
    if warned {
        found.warning(wrong("E0228", place, name, format_args!("no effect: {why}"), NO_EFFECT));
    }
    let right = fine.parse().ok();
    let fits = match right {
        Some(right) => !empty && number()? == right,
        None => warned || most.is_some() || fine != "never" && !empty && text(property, place)? == fine,
    };
    if fits {
        return Ok(());
    }
    Err(match (right, fine) {
        (Some(right), _) => {
            problem!("E0224", ("{place} {name}"); ("{why}"); ("Take it out, or give <{right}>"))
        }
        (None, "never") => wrong("E0224", place, name, format_args!("{why}"), "Take it out"),
        (None, _) => problem!("E0224", ("{place} {name}"); ("{why}"); ("Take it out, or give \"{fine}\"")),
    })
}

/// Whether a node within a domain's is one of Xen's that is nothing here: E0225 for one that the guest would miss.
pub(super) fn node(node: &FdtNode<'_>, place: &str, found: &mut Findings) -> bool {
    let missed = if is_any(node, &["xen,evtchn", "xen,evtchn-v1"]) {
        Some("there are no Xen event channels here")
    } else {
        is(node, "xen,domain-shared-memory-v1").then_some("VMs share no memory yet")
    };
    if let Some(why) = missed {
        found.error(problem!("E0225", ("{place}"); ("{why}"); ("Take the node out")));
        return true;
    }
    false
}

/// Looks at what is under `/chosen` for Xen itself and its Dom0: E0226, since nothing here could be one.
pub(super) fn chosen(chosen: &FdtNode<'_>, found: &mut Findings) {
    let dom0_options = chosen.property("xen,dom0-bootargs").is_some();
    for child in chosen.children() {
        let old = is_any(&child, &["xen,linux-zimage", "xen,linux-initrd"]);
        if old || dom0_options && is(&child, "multiboot,kernel") {
            found.error(problem!("E0226", ("/chosen/{}", child.name());
                ("Xen's Dom0, and there is none here: no VM owns the machine");
                ("Take it out (ImageBuilder: DOM0_KERNEL), or make it a VM: a node with compatible = \"xen,domain\"")));
        }
        if is_known(&child) {
            found.warning(not_read("/", child.name(), XENS));
        }
    }
    const OPTIONS: &str = "Mezzanine's own options are in mezzanine,bootargs, or in bootargs where there is no xen,xen-bootargs";
    for (name, fix) in
        [("xen,xen-bootargs", OPTIONS), ("xen,dom0-bootargs", OPTIONS), ("xen,static-heap", XENS)]
    {
        if chosen.property(name).is_some() {
            found.warning(not_read(" ", name, fix));
        }
    }
}

const XENS: &str = "Leave it for Xen to read, or take it out: Mezzanine has nothing like it";

/// Whether a node under `/chosen` is one of Xen's own.
pub(super) fn is_known(node: &FdtNode<'_>) -> bool {
    is_any(node, &["xen,cpupool", "xen,evtchn", "xen,evtchn-v1", "xen,domain-shared-memory-v1"])
}

/// Something that Xen alone would read: a property, or a node.
fn not_read(between: &str, name: &str, fix: &str) -> Problem {
    problem!("E0229", ("/chosen{between}{name}"); ("for Xen and its Dom0 alone: not read"); ("{fix}"))
}
