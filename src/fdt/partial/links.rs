//! References in a partial tree: each has to lead somewhere, and none back to where it came from.
//!
//! Kernels follow interrupt parents, clocks, supplies and power domains upwards; a loop of them hangs some and
//! leaves others without the device, which nobody would look for in a tree.

use super::MAX_NODES;
use super::nodes::Nodes;
use crate::problem;
use crate::problem::Problem;
use alloc::vec::Vec;
use dtoolkit::{Node, Property};

/// A property of references.
struct Kind {
    /// Its name, or with a leading `-` the end of it.
    name: &'static str,
    /// The property of the target that says how many cells follow the reference; none follow where there is none.
    cells: &'static str,
    /// Whether what refers waits for its target.
    waits: bool,
}

const KINDS: &[Kind] = &[
    Kind { name: "clocks", cells: "#clock-cells", waits: true },
    Kind { name: "assigned-clocks", cells: "#clock-cells", waits: false },
    Kind { name: "assigned-clock-parents", cells: "#clock-cells", waits: false },
    Kind { name: "power-domains", cells: "#power-domain-cells", waits: true },
    Kind { name: "resets", cells: "#reset-cells", waits: false },
    Kind { name: "gpios", cells: "#gpio-cells", waits: false },
    Kind { name: "-gpios", cells: "#gpio-cells", waits: false },
    Kind { name: "-gpio", cells: "#gpio-cells", waits: false },
    Kind { name: "-supply", cells: "", waits: true },
    Kind { name: "phys", cells: "#phy-cells", waits: false },
    Kind { name: "phy-handle", cells: "", waits: false },
    Kind { name: "dmas", cells: "#dma-cells", waits: false },
    Kind { name: "mboxes", cells: "#mbox-cells", waits: false },
    Kind { name: "iommus", cells: "#iommu-cells", waits: false },
    Kind { name: "memory-region", cells: "", waits: false },
    Kind { name: "msi-parent", cells: "", waits: false },
];

/// From one node to another, by a kind of reference: its number in [`KINDS`], or [`PARENT`].
type Edge = (u16, u16, u16);
const PARENT: usize = KINDS.len();
/// Edges that are kept account of.
const MAX_EDGES: usize = 1024;

/// Checks all references.
pub(super) fn check(nodes: &Nodes<'_, '_>) -> Result<(), Problem> {
    let mut edges: Vec<Edge> = Vec::new();
    for n in 0..nodes.list.len() {
        interrupt_parent(nodes, n, &mut edges)?;
        let Some(entry) = nodes.list.get(n) else { continue };
        for property in entry.node.properties() {
            let name = property.name();
            let Some(kind) = KINDS.iter().position(|kind| kind.is(name)) else { continue };
            // A hog's pins are on the controller above it.
            if nodes.value(n, "gpio-hog").is_none() {
                references(nodes, n, name, property.value(), kind, &mut edges)?;
            }
        }
    }
    for kind in 0..=PARENT {
        acyclic(nodes, kind, &edges)?;
    }
    Ok(())
}

impl Kind {
    fn is(&self, name: &str) -> bool {
        match self.name.strip_prefix('-') {
            // A number of pins, in old bindings.
            Some(_) => name.ends_with(self.name) && !name.ends_with("nr-gpios"),
            None => name == self.name,
        }
    }
}

fn cell(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk::<4>().map(|cell| u32::from_be_bytes(*cell))
}

fn nothing(nodes: &Nodes<'_, '_>, n: usize, name: &str, phandle: u32) -> Problem {
    problem!("E0243", ("{}", nodes.at(n, name)); ("nothing under /passthrough has phandle {phandle:#x}");
        ("Refer to a node there, by its label"))
}

/// Follows a node's own `interrupt-parent`, or the one that it inherits.
fn interrupt_parent(nodes: &Nodes<'_, '_>, n: usize, edges: &mut Vec<Edge>) -> Result<(), Problem> {
    const NAME: &str = "interrupt-parent";
    let mut giver = n;
    while nodes.value(giver, NAME).is_none() {
        match nodes.above(giver) {
            Some(above) => giver = above,
            None => return Ok(()),
        }
    }
    let value = nodes.value(giver, NAME).unwrap_or_default();
    let Some(phandle) = cell(value).filter(|_| value.len() == 4) else {
        return Err(
            problem!("E0248", ("{}", nodes.at(giver, NAME)); ("{} bytes long", value.len()); ("Give one phandle")),
        );
    };
    if phandle == nodes.gic {
        return Ok(());
    }
    let to = nodes.find(phandle).ok_or_else(|| nothing(nodes, giver, NAME, phandle))?;
    if nodes.value(to, "interrupt-controller").is_none() {
        return Err(
            problem!("E0243", ("{}", nodes.at(giver, NAME)); ("{} is no interrupt controller", nodes.path(to));
            ("Refer to one, or to /gic")),
        );
    }
    // A controller that inherits itself is the root of its own, as everywhere.
    if to != n || giver == n {
        edge(nodes, (n, to, PARENT), edges)?;
    }
    Ok(())
}

/// Notes an edge, once.
fn edge(nodes: &Nodes<'_, '_>, edge: (usize, usize, usize), edges: &mut Vec<Edge>) -> Result<(), Problem> {
    let edge = (edge.0 as u16, edge.1 as u16, edge.2 as u16);
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
    kind: usize,
    edges: &mut Vec<Edge>,
) -> Result<(), Problem> {
    let Some(Kind { cells, waits, .. }) = KINDS.get(kind) else { return Ok(()) };
    let short = || {
        problem!("E0248", ("{}", nodes.at(n, name)); ("{} bytes long", value.len());
        ("Give phandles, each with as many cells as its target's {cells} says"))
    };
    let mut rest = value;
    while !rest.is_empty() {
        let phandle = cell(rest).ok_or_else(short)?;
        let mut follow = 0;
        // Zero is a place that is left free.
        if phandle != 0 {
            let to = nodes.find(phandle).ok_or_else(|| nothing(nodes, n, name, phandle))?;
            if !cells.is_empty() {
                follow = nodes.value(to, cells).and_then(cell).ok_or_else(|| {
                    problem!("E0243", ("{}", nodes.at(n, name)); ("{} has no {cells}", nodes.path(to));
                        ("Refer to a node that has"))
                })?;
            }
            if *waits {
                edge(nodes, (n, to, kind), edges)?;
            }
        }
        let used = (follow as usize).saturating_add(1).saturating_mul(4);
        rest = rest.get(used..).ok_or_else(short)?;
    }
    Ok(())
}

/// Refuses loops of one kind: takes nodes away that wait for none that is left, until that ends.
fn acyclic(nodes: &Nodes<'_, '_>, kind: usize, edges: &[Edge]) -> Result<(), Problem> {
    let mut left: Vec<Edge> = edges.iter().copied().filter(|edge| usize::from(edge.2) == kind).collect();
    loop {
        let before = left.len();
        let mut waiting = [false; MAX_NODES];
        left.iter()
            .for_each(|edge| waiting.get_mut(usize::from(edge.0)).into_iter().for_each(|it| *it = true));
        left.retain(|edge| waiting.get(usize::from(edge.1)) == Some(&true));
        if left.len() == before {
            break;
        }
    }
    let Some((from, to, _)) = left.first().map(|edge| (usize::from(edge.0), usize::from(edge.1), ())) else {
        return Ok(());
    };
    let name = KINDS.get(kind).map_or("interrupt-parent", |kind| kind.name.trim_start_matches('-'));
    Err(
        problem!("E0244", ("{}", nodes.at(from, name)); ("leads to {} and from there round in a circle", nodes.path(to));
        ("Break the circle: something has to come first")),
    )
}
