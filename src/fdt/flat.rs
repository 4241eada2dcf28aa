//! Writes a flattened device tree, from its first node to its last.
//!
//! Written here because trees are written at EL2 too: a model of a tree in memory, with its hash tables, was a
//! tenth of the image. Format: Devicetree Specification, chapter 5; version 17, which version 16 readers take.

use super::check::{BEGIN_NODE, END, END_NODE, HEADER_SIZE, MAGIC, PROP};
use alloc::format;
use alloc::vec::Vec;

/// Bytes of the memory reservation block: the entry that ends it.
const RESERVATIONS: usize = 16;

/// A tree on its way: what has been written is final.
///
/// Names are the caller's to get right: 1 to 31 characters that the specification allows (2.2.1), no NUL.
#[derive(Default)]
pub(crate) struct Flat {
    structure: Vec<u8>,
    /// Names of properties, each once, with its NUL.
    names: Vec<u8>,
}

impl Flat {
    #[inline(never)]
    fn word(&mut self, word: u32) {
        self.structure.extend_from_slice(&word.to_be_bytes());
    }

    fn pad(&mut self) {
        self.structure.resize(self.structure.len().next_multiple_of(4), 0);
    }

    /// Begins a node, within the one that is open; the root's name is empty.
    #[inline(never)]
    pub(crate) fn begin(&mut self, name: &str) -> &mut Self {
        self.word(BEGIN_NODE);
        self.structure.extend_from_slice(name.as_bytes());
        self.structure.push(0);
        self.pad();
        self
    }

    /// Begins a node with a unit address.
    #[inline(never)]
    pub(crate) fn begin_at(&mut self, name: &str, address: u64) -> &mut Self {
        self.begin(&format!("{name}@{address:x}"))
    }

    /// Ends the node that was begun last.
    #[inline(never)]
    pub(crate) fn end(&mut self) {
        self.word(END_NODE);
    }

    /// A property of the open node, which has no children yet.
    #[inline(never)]
    pub(crate) fn bytes(&mut self, name: &str, value: &[u8]) -> &mut Self {
        let name = self.name(name);
        self.word(PROP);
        self.word(value.len() as u32);
        self.word(name);
        self.structure.extend_from_slice(value);
        self.pad();
        self
    }

    /// One text, or several with NUL between them.
    #[inline(never)]
    pub(crate) fn text(&mut self, name: &str, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.bytes(name, &bytes)
    }

    /// 32-bit cells.
    #[inline(never)]
    pub(crate) fn cells(&mut self, name: &str, value: &[u32]) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() * 4);
        value.iter().for_each(|cell| bytes.extend_from_slice(&cell.to_be_bytes()));
        self.bytes(name, &bytes)
    }

    /// Numbers of two cells each.
    #[inline(never)]
    pub(crate) fn words(&mut self, name: &str, value: &[u64]) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() * 8);
        value.iter().for_each(|word| bytes.extend_from_slice(&word.to_be_bytes()));
        self.bytes(name, &bytes)
    }

    /// A property that says all by being there.
    pub(crate) fn flag(&mut self, name: &str) -> &mut Self {
        self.bytes(name, &[])
    }

    /// Where a property's name is among the names.
    fn name(&mut self, name: &str) -> u32 {
        let mut at = 0;
        for known in self.names.split(|&b| b == 0) {
            if known == name.as_bytes() {
                return at;
            }
            at += known.len() as u32 + 1;
        }
        let at = self.names.len() as u32;
        self.names.extend_from_slice(name.as_bytes());
        self.names.push(0);
        at
    }

    /// The blob, once all nodes have ended: header, no reservations, structure, names.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.word(END);
        let structure_at = HEADER_SIZE + RESERVATIONS;
        let names_at = structure_at + self.structure.len();
        let total = names_at + self.names.len();
        let mut blob = Vec::with_capacity(total);
        // magic, totalsize, off_dt_struct, off_dt_strings, off_mem_rsvmap, version, last_comp_version,
        // boot_cpuid_phys, size_dt_strings, size_dt_struct
        let header = [
            MAGIC as usize,
            total,
            structure_at,
            names_at,
            HEADER_SIZE,
            17,
            16,
            0,
            self.names.len(),
            self.structure.len(),
        ];
        header.iter().for_each(|&field| blob.extend_from_slice(&(field as u32).to_be_bytes()));
        blob.resize(structure_at, 0);
        blob.extend_from_slice(&self.structure);
        blob.extend_from_slice(&self.names);
        blob
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dtoolkit::{Node, Property};
    use std::vec::Vec as Bytes;

    #[test]
    fn what_was_written_reads_back() {
        let mut flat = Flat::default();
        flat.begin("").text("compatible", "a\0bc").cells("cells", &[1, 2]);
        flat.begin("one").flag("compatible").words("two", &[0x1_0000_0002]);
        flat.begin_at("inner", 0xabc).bytes("cells", &[1, 2, 3, 4, 5]).end();
        flat.end();
        flat.begin("last").end();
        flat.end();
        let blob = flat.finish();
        assert!(blob.windows(6).filter(|w| w == b"cells\0").count() == 1);

        let tree = dtoolkit::fdt::Fdt::new(&blob).unwrap();
        let root = tree.root();
        let value = |path: &str, name: &str| {
            let node = tree.find_node(path).unwrap();
            node.property(name).map(|p| p.value().to_vec())
        };
        assert_eq!(root.children().map(|n| n.name().to_owned()).collect::<Bytes<_>>(), ["one", "last"]);
        assert_eq!(value("/", "compatible"), Some(b"a\0bc\0".to_vec()));
        assert_eq!(value("/", "cells"), Some(vec![0, 0, 0, 1, 0, 0, 0, 2]));
        assert_eq!(value("/one", "compatible"), Some(vec![]));
        assert_eq!(value("/one", "two"), Some(vec![0, 0, 0, 1, 0, 0, 0, 2]));
        assert_eq!(value("/one/inner@abc", "cells"), Some(vec![1, 2, 3, 4, 5]));
        assert_eq!(value("/last", "cells"), None);
    }

    #[test]
    fn a_name_within_another_is_a_name_of_its_own() {
        let mut flat = Flat::default();
        flat.begin("").flag("clock-names").flag("clock").flag("names").flag("clock-names").end();
        let blob = flat.finish();
        let tree = dtoolkit::fdt::Fdt::new(&blob).unwrap();
        let names: Bytes<_> = tree.root().properties().map(|p| p.name().to_owned()).collect();
        assert_eq!(names, ["clock-names", "clock", "names", "clock-names"]);
    }
}
