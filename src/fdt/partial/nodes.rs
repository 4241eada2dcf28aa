//! All nodes of a partial tree in a list, so that one can be found by its phandle, and others above it.

use super::{LABELS, MAX_NODES, MAX_PROPERTIES, own, phandle};
use crate::fdt::repeated;
use crate::problem;
use crate::problem::Problem;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use dtoolkit::fdt::FdtNode;
use dtoolkit::{Node, Property};

/// A node, and what those below it need to know.
pub(super) struct Entry<'a> {
    pub(super) node: FdtNode<'a>,
    /// Number of the node above it; the first's is its own.
    pub(super) above: usize,
    pub(super) phandle: Option<u32>,
    /// `#address-cells` and `#size-cells`, as given, or their defaults.
    pub(super) cells: [u32; 2],
}

/// The nodes that go into a guest's tree, each after the one above it.
pub(super) struct Nodes<'a, 'p> {
    pub(super) list: Vec<Entry<'a>>,
    /// Phandle of the guest's interrupt controller.
    pub(super) gic: u32,
    place: &'p str,
}

/// Value of a property.
#[inline(never)]
pub(super) fn value<'a>(node: &FdtNode<'a>, name: &str) -> Option<&'a [u8]> {
    node.properties().find(|property| property.name() == name)?.value_as().ok()
}

impl<'a, 'p> Nodes<'a, 'p> {
    /// Lists `root` and all below it, and checks what is each node's own: names, phandles, counts of cells.
    pub(super) fn read(root: FdtNode<'a>, gic: u32, place: &'p str) -> Result<Self, Problem> {
        let mut nodes = Self { list: Vec::new(), gic, place };
        if let Some(whose) = own(gic) {
            return Err(
                problem!("E0242", ("{place} /gic phandle"); ("{gic} is the guest's own {whose}"); ("{LABELS}")),
            );
        }
        nodes.add(root, 0)?;
        // Level by level: the list is its own queue, and the stack is short here.
        let mut n = 0;
        while let Some(entry) = nodes.list.get(n) {
            let node = entry.node;
            for (before, child) in node.children().enumerate() {
                if node.children().take(before).any(|earlier| earlier.name() == child.name()) {
                    return Err(nodes.twice(n, child.name()));
                }
                nodes.add(child, n)?;
            }
            n += 1;
        }
        Ok(nodes)
    }

    fn add(&mut self, node: FdtNode<'a>, above: usize) -> Result<(), Problem> {
        let me = self.list.len();
        if me == MAX_NODES {
            return Err(self.too_many("nodes", MAX_NODES));
        }
        self.list.push(Entry { node, above, phandle: None, cells: [2, 1] });
        if node.properties().nth(MAX_PROPERTIES).is_some() {
            return Err(self.too_many("properties in a node", MAX_PROPERTIES));
        }
        if let Some(property) = repeated(&node) {
            return Err(self.twice(me, property.name()));
        }
        let own = self.phandle_of(me)?;
        let cells = [self.count(me, "#address-cells", 2)?, self.count(me, "#size-cells", 1)?];
        if let Some(entry) = self.list.get_mut(me) {
            (entry.phandle, entry.cells) = (own, cells);
        }
        Ok(())
    }

    /// More of something than is kept account of.
    pub(super) fn too_many(&self, what: &str, most: usize) -> Problem {
        problem!("E0240", ("{}", self.place); ("more than {most} {what}"); ("At most {most} are copied"))
    }

    fn twice(&self, n: usize, name: &str) -> Problem {
        self.wrong("E0249", n, name, format_args!("there twice"), "Give it once")
    }

    /// The phandle of a node, which nobody else has.
    fn phandle_of(&self, n: usize) -> Result<Option<u32>, Problem> {
        let (new, old) = (self.value(n, "phandle"), self.value(n, "linux,phandle"));
        if new.is_some() && old.is_some() && new != old {
            return Err(self.wrong(
                "E0242",
                n,
                "phandle",
                format_args!("not the same as linux,phandle"),
                LABELS,
            ));
        }
        let Some(value) = new.or(old) else { return Ok(None) };
        let phandle = phandle(value, self.place, &self.path(n))?;
        let (whose, what) = match own(phandle) {
            Some(what) => ("the guest's own ", what),
            None if phandle == self.gic => ("the guest's ", "interrupt controller"),
            None if self.find(phandle).is_some() => ("", "another node of this tree"),
            None => return Ok(Some(phandle)),
        };
        Err(self.wrong("E0242", n, "phandle", format_args!("{phandle} is {whose}{what}"), LABELS))
    }

    fn count(&self, n: usize, name: &str, default: u32) -> Result<u32, Problem> {
        let Some(value) = self.value(n, name) else { return Ok(default) };
        match <[u8; 4]>::try_from(value).map(u32::from_be_bytes) {
            Ok(cells @ 0..=4) => Ok(cells),
            _ => Err(self.wrong(
                "E0248",
                n,
                name,
                format_args!("no count of cells"),
                "Give 0 to 4, in one cell",
            )),
        }
    }

    /// The node that has a phandle.
    pub(super) fn find(&self, phandle: u32) -> Option<usize> {
        self.list.iter().position(|entry| entry.phandle == Some(phandle))
    }

    /// Value of a property of node `n`.
    pub(super) fn value(&self, n: usize, name: &str) -> Option<&'a [u8]> {
        value(&self.list.get(n)?.node, name)
    }

    /// Number of the node above `n`; `None` above the first.
    pub(super) fn above(&self, n: usize) -> Option<usize> {
        Some(self.list.get(n)?.above).filter(|above| *above != n)
    }

    /// Counts of cells by which node `n`'s `reg` is written: those of the node above, or of a guest's root.
    pub(super) fn cells_above(&self, n: usize) -> [u32; 2] {
        self.above(n).and_then(|above| self.list.get(above)).map_or([2, 2], |entry| entry.cells)
    }

    /// Path of a node.
    pub(super) fn path(&self, n: usize) -> String {
        let mut names = Vec::new();
        let mut next = Some(n);
        while let Some(n) = next {
            names.extend(self.list.get(n).map(|entry| entry.node));
            next = self.above(n);
        }
        let mut path = String::new();
        for node in names.iter().rev() {
            path.push('/');
            path.push_str(node.name());
        }
        path
    }

    /// A problem with a property of node `n`.
    #[cold]
    #[inline(never)]
    pub(super) fn wrong(
        &self,
        code: &'static str,
        n: usize,
        name: &str,
        what: fmt::Arguments<'_>,
        fix: &str,
    ) -> Problem {
        problem!(code, ("{} {} {name}", self.place, self.path(n)); ("{what}"); ("{fix}"))
    }
}
