//! References in a partial tree: each has to lead somewhere, and none back to where it came from.
//!
//! Kernels follow interrupt parents, clocks, supplies and power domains upwards; a loop of them hangs some and
//! leaves others without the device, which nobody would look for in a tree.

use super::MAX_NODES;
use super::nodes::Nodes;
use crate::problem::Problem;
use alloc::vec::Vec;
use dtoolkit::{Node, Property};

/// Properties of references: the name, or with a `-` before it the end of one; the target's property that says
/// how many cells follow the reference, if any do; `waits` where what refers needs its target first.
///
/// A text, since a table of texts takes three times its size in the image, and of words with one space between.
#[rustfmt::skip]
const KINDS: &str = concat!(
    "clocks ",                 "#clock-cells ",         "waits ",
    "assigned-clocks ",        "#clock-cells ",         "- ",
    "assigned-clock-parents ", "#clock-cells ",         "- ",
    "power-domains ",          "#power-domain-cells ",  "waits ",
    "resets ",                 "#reset-cells ",         "- ",
    "gpios ",                  "#gpio-cells ",          "- ",
    "-gpios ",                 "#gpio-cells ",          "- ",
    "-gpio ",                  "#gpio-cells ",          "- ",
    "-supply ",                "- ",                    "waits ",
    "phys ",                   "#phy-cells ",           "- ",
    "phy-handle ",             "- ",                    "- ",
    "dmas ",                   "#dma-cells ",           "- ",
    "mboxes ",                 "#mbox-cells ",          "- ",
    "iommus ",                 "#iommu-cells ",         "- ",
    "memory-region ",          "- ",                    "- ",
    "msi-parent ",             "- ",                    "- ",
);

/// A row of it.
#[derive(Clone, Copy)]
struct Kind {
    /// Its number; that of an interrupt parent is [`PARENT`].
    number: u16,
    name: &'static str,
    /// Nothing where no cells follow.
    cells: Option<&'static str>,
    waits: bool,
}

/// From one node to another, by a kind of reference.
type Edge = (u16, u16, u16);
const PARENT: u16 = u16::MAX;
/// Edges that are kept account of.
const MAX_EDGES: usize = 1024;

/// Checks all references.
pub(super) fn check(nodes: &Nodes<'_, '_>) -> Result<(), Problem> {
    let mut edges: Vec<Edge> = Vec::new();
    let kinds = kinds();
    for n in 0..nodes.list.len() {
        interrupt_parent(nodes, n, &mut edges)?;
        let Some(entry) = nodes.list.get(n) else { continue };
        for property in entry.node.properties() {
            let name = property.name();
            let Some(kind) = kinds.iter().find(|kind| kind.is(name)) else { continue };
            // A hog's pins are on the controller above it.
            if nodes.value(n, "gpio-hog").is_none() {
                references(nodes, n, name, property.value(), *kind, &mut edges)?;
            }
        }
    }
    for kind in kinds.iter().filter(|kind| kind.waits) {
        acyclic(nodes, kind.number, kind.name.trim_start_matches('-'), &edges)?;
    }
    acyclic(nodes, PARENT, INTERRUPT_PARENT, &edges)
}

/// All rows.
fn kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    let mut words = KINDS.split_ascii_whitespace();
    while let (Some(name), Some(cells), Some(waits)) = (words.next(), words.next(), words.next()) {
        let cells = (cells != "-").then_some(cells);
        kinds.push(Kind { number: kinds.len() as u16, name, cells, waits: waits == "waits" });
    }
    kinds
}

impl Kind {
    fn is(&self, name: &str) -> bool {
        match self.name.starts_with('-') {
            // A number of pins, in old bindings.
            true => name.ends_with(self.name) && !name.ends_with("nr-gpios"),
            false => name == self.name,
        }
    }
}

fn cell(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk::<4>().map(|cell| u32::from_be_bytes(*cell))
}

fn nothing(nodes: &Nodes<'_, '_>, n: usize, name: &str, phandle: u32) -> Problem {
    let what = format_args!("nothing under /passthrough has phandle {phandle:#x}");
    nodes.wrong("E0243", n, name, what, "Refer to a node there, by its label")
}

const INTERRUPT_PARENT: &str = "interrupt-parent";

/// Follows a node's own `interrupt-parent`, or the one that it inherits.
fn interrupt_parent(nodes: &Nodes<'_, '_>, n: usize, edges: &mut Vec<Edge>) -> Result<(), Problem> {
    let mut giver = n;
    let value = loop {
        match (nodes.value(giver, INTERRUPT_PARENT), nodes.above(giver)) {
            (Some(value), _) => break value,
            (None, Some(above)) => giver = above,
            (None, None) => return Ok(()),
        }
    };
    let Some(phandle) = cell(value).filter(|_| value.len() == 4) else {
        let what = format_args!("{} bytes long", value.len());
        return Err(nodes.wrong("E0248", giver, INTERRUPT_PARENT, what, "Give one phandle"));
    };
    if phandle == nodes.gic {
        return Ok(());
    }
    let to = nodes.find(phandle).ok_or_else(|| nothing(nodes, giver, INTERRUPT_PARENT, phandle))?;
    if nodes.value(to, "interrupt-controller").is_none() {
        let what = format_args!("{} is no interrupt controller", nodes.path(to));
        return Err(nodes.wrong("E0243", giver, INTERRUPT_PARENT, what, "Refer to one, or to /gic"));
    }
    // A controller that inherits itself is the root of its own, as everywhere.
    if to != n || giver == n {
        edge(nodes, n, to, PARENT, edges)?;
    }
    Ok(())
}

/// Notes an edge, once.
fn edge(nodes: &Nodes<'_, '_>, n: usize, to: usize, kind: u16, edges: &mut Vec<Edge>) -> Result<(), Problem> {
    let edge = (n as u16, to as u16, kind);
    if edges.contains(&edge) {
        return Ok(());
    }
    if edges.len() == MAX_EDGES {
        return Err(nodes.too_many("references", MAX_EDGES));
    }
    edges.push(edge);
    Ok(())
}

/// Follows the references in one property.
fn references(
    nodes: &Nodes<'_, '_>,
    n: usize,
    name: &str,
    value: &[u8],
    kind: Kind,
    edges: &mut Vec<Edge>,
) -> Result<(), Problem> {
    let short = || {
        let what = format_args!("{} bytes long", value.len());
        nodes.wrong("E0248", n, name, what, "Give phandles, each with as many cells as its target asks for")
    };
    let mut rest = value;
    while !rest.is_empty() {
        let phandle = cell(rest).ok_or_else(short)?;
        let mut follow = 0;
        // Zero is a place that is left free.
        if phandle != 0 {
            let to = nodes.find(phandle).ok_or_else(|| nothing(nodes, n, name, phandle))?;
            if let Some(cells) = kind.cells {
                follow = nodes.value(to, cells).and_then(cell).ok_or_else(|| {
                    let what = format_args!("{} has no {cells}", nodes.path(to));
                    nodes.wrong("E0243", n, name, what, "Refer to a node that has")
                })?;
            }
            if kind.waits {
                edge(nodes, n, to, kind.number, edges)?;
            }
        }
        let used = (follow as usize).saturating_add(1).saturating_mul(4);
        rest = rest.get(used..).ok_or_else(short)?;
    }
    Ok(())
}

/// Refuses loops of one kind: takes nodes away that wait for none that is left, until that ends.
fn acyclic(nodes: &Nodes<'_, '_>, kind: u16, name: &str, edges: &[Edge]) -> Result<(), Problem> {
    let mut left: Vec<Edge> = edges.iter().copied().filter(|edge| edge.2 == kind).collect();
    loop {
        let before = left.len();
        let mut waiting = [false; MAX_NODES];
        for (from, ..) in &left {
            waiting.get_mut(usize::from(*from)).into_iter().for_each(|it| *it = true);
        }
        left.retain(|edge| waiting.get(usize::from(edge.1)) == Some(&true));
        if left.len() == before {
            break;
        }
    }
    let Some(&(from, to, _)) = left.first() else { return Ok(()) };
    let what = format_args!("leads to {} and from there round in a circle", nodes.path(usize::from(to)));
    Err(nodes.wrong("E0244", from.into(), name, what, "Break the circle: something has to come first"))
}
