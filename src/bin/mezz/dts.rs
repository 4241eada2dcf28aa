//! A device tree as text that `dtc` reads, with a map from nodes and properties to their place in it.
//!
//! A tree has no lines to point at; its text has. Values are shown as whatever they look like, text, cells or
//! bytes, and always the same way.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::Range;

use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};

/// Cells on a line before the next one begins.
const CELLS_A_LINE: usize = 8;
/// Bytes on a line.
const BYTES_A_LINE: usize = 24;

/// The text of a tree.
#[derive(Debug, Default)]
pub(crate) struct Text {
    /// All of it.
    pub(crate) text: String,
    /// Where the first line of each node is, by path.
    nodes: BTreeMap<String, Range<usize>>,
    /// Where each property is, by path and name; of one that is there twice, the second.
    properties: BTreeMap<(String, String), Range<usize>>,
}

impl Text {
    /// The text of a tree; what is wrong with a damaged one.
    pub(crate) fn of(blob: &[u8]) -> Result<Self, String> {
        let size = mezzanine::fdt::total_size(blob).unwrap_or(blob.len());
        let tree = Fdt::new(blob.get(..size).unwrap_or(blob)).map_err(|error| error.to_string())?;
        let mut text = Self { text: "/dts-v1/;\n".to_owned(), ..Self::default() };
        for kept in tree.memory_reservations() {
            let _ = writeln!(text.text, "/memreserve/ {:#x} {:#x};", kept.address(), kept.size());
        }
        text.text.push('\n');
        text.node(&tree.root(), "", 0);
        Ok(text)
    }

    fn node(&mut self, node: &FdtNode<'_>, path: &str, depth: usize) {
        let (indent, root) = ("\t".repeat(depth), depth == 0);
        let name = if root { "/" } else { node.name() };
        self.text.push_str(&indent);
        let start = self.text.len();
        self.text.push_str(name);
        self.nodes.insert(if root { "/" } else { path }.to_owned(), start..self.text.len());
        self.text.push_str(" {\n");
        let mut empty = true;
        for property in node.properties() {
            empty = false;
            self.text.push_str(&indent);
            self.text.push('\t');
            let start = self.text.len();
            self.text.push_str(property.name());
            let value = property.value();
            if !value.is_empty() {
                self.text.push_str(" = ");
                self.value(value, &format!("{indent}\t\t"));
            }
            let place = (if root { "/" } else { path }.to_owned(), property.name().to_owned());
            self.properties.insert(place, start..self.text.len());
            self.text.push_str(";\n");
        }
        for child in node.children() {
            if !empty {
                self.text.push('\n');
            }
            empty = false;
            self.node(&child, &format!("{path}/{}", child.name()), depth + 1);
        }
        let _ = writeln!(self.text, "{indent}}};");
    }

    fn value(&mut self, value: &[u8], indent: &str) {
        if let Some(strings) = strings(value) {
            let quoted: Vec<String> = strings.into_iter().map(quoted).collect();
            self.text.push_str(&quoted.join(", "));
        } else if value.len().is_multiple_of(4) {
            let cells = value.chunks_exact(4).map(|cell| format!("0x{}", hex(cell).trim_start_matches('0')));
            let cells = cells.map(|cell| if cell == "0x" { "0x0".to_owned() } else { cell });
            self.list("<", cells, CELLS_A_LINE, ">", indent);
        } else {
            self.list("[", value.iter().map(|byte| hex(&[*byte])), BYTES_A_LINE, "]", indent);
        }
    }

    fn list(
        &mut self,
        open: &str,
        words: impl Iterator<Item = String>,
        a_line: usize,
        close: &str,
        indent: &str,
    ) {
        self.text.push_str(open);
        for (n, word) in words.enumerate() {
            match n {
                0 => {}
                n if n.is_multiple_of(a_line) => {
                    self.text.push('\n');
                    self.text.push_str(indent);
                }
                _ => self.text.push(' '),
            }
            self.text.push_str(&word);
        }
        self.text.push_str(close);
    }

    /// Where a node and its property are, or the node alone where it has no such property.
    pub(crate) fn find(&self, path: &str, property: &str) -> Option<Range<usize>> {
        let known = self.properties.get(&(path.to_owned(), property.to_owned()));
        known.or_else(|| self.nodes.get(path)).cloned()
    }

    /// The path of the only node of this name, with its unit address or without.
    pub(crate) fn path_of(&self, name: &str) -> Option<&str> {
        let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let of_name = |path: &&String| last(path) == name || last(path).split('@').next() == Some(name);
        let mut found = self.nodes.keys().filter(of_name);
        found.next().filter(|_| found.next().is_none()).map(String::as_str)
    }

    /// Whether there is such a property.
    pub(crate) fn has(&self, path: &str, property: &str) -> bool {
        self.properties.contains_key(&(path.to_owned(), property.to_owned()))
    }

    /// Paths of the nodes right below one.
    pub(crate) fn children(&self, path: &str) -> impl Iterator<Item = &str> {
        let prefix = format!("{path}/");
        self.nodes
            .keys()
            .filter(move |key| key.strip_prefix(&prefix).is_some_and(|rest| !rest.contains('/')))
            .map(String::as_str)
    }

    /// What a place says.
    pub(crate) fn at(&self, range: Range<usize>) -> &str {
        self.text.get(range).unwrap_or_default()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The texts that a value is made of, if it looks as if it were: printable, none empty, each with its NUL.
fn strings(value: &[u8]) -> Option<Vec<&str>> {
    let (0, rest) = value.split_last().map(|(last, rest)| (*last, rest))? else { return None };
    let printable = |c: char| matches!(c, ' '..='~' | '\n' | '\r' | '\t');
    let texts: Vec<&str> =
        rest.split(|byte| *byte == 0).map(str::from_utf8).collect::<Result<_, _>>().ok()?;
    texts.iter().all(|text| !text.is_empty() && text.chars().all(printable)).then_some(texts)
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    const FIXTURES: [&[u8]; 3] = [
        include_bytes!("../../../tests/fixtures/pi4.dtb"),
        include_bytes!("../../../tests/fixtures/virt-gicv3.dtb"),
        include_bytes!("../../../tests/fixtures/virt-initrd.dtb"),
    ];

    /// What `dtc` makes of a text or a tree; `None` where there is no dtc.
    fn dtc(from: &str, to: &str, input: &[u8]) -> Option<Vec<u8>> {
        let mut command = Command::new("dtc");
        command.args(["-q", "-I", from, "-O", to, "-"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().ok()?;
        let (mut pipe, input) = (child.stdin.take().unwrap(), input.to_vec());
        let writer = std::thread::spawn(move || pipe.write_all(&input));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        assert!(output.status.success());
        Some(output.stdout)
    }

    #[test]
    fn dtc_reads_it_back_as_the_same_tree() {
        for blob in FIXTURES {
            let text = Text::of(blob).unwrap().text;
            let Some(again) = dtc("dts", "dtb", text.as_bytes()) else { return };
            assert_eq!(dtc("dtb", "dts", &again), dtc("dtb", "dts", blob));
            assert_eq!(Text::of(&again).unwrap().text, text);
        }
    }

    #[test]
    fn nodes_and_properties_have_places() {
        let text = Text::of(FIXTURES[1]).unwrap();
        assert_eq!(text.at(text.find("/chosen", "stdout-path").unwrap()), "stdout-path = \"/pl011@9000000\"");
        assert_eq!(text.at(text.find("/pl011@9000000", "gone").unwrap()), "pl011@9000000");
        assert_eq!(text.at(text.find("/", "#size-cells").unwrap()), "#size-cells = <0x2>");
        assert_eq!(text.path_of("cpu@0"), Some("/cpus/cpu@0"));
        assert_eq!(text.path_of("memory"), Some("/memory@40000000"));
        assert_eq!(text.path_of("virtio_mmio"), None);
        assert_eq!(text.find("/gone", "reg"), None);
        assert!(text.has("/chosen", "stdout-path") && !text.has("/chosen", "gone"));
        assert!(text.children("/cpus").any(|path| path == "/cpus/cpu@0"));
    }

    #[test]
    fn values_are_shown_as_what_they_look_like() {
        let value = |bytes: &[u8]| {
            let mut text = Text::default();
            text.value(bytes, "\t");
            text.text
        };
        assert_eq!(value(b"one\0two\0"), "\"one\", \"two\"");
        assert_eq!(value(b"say \"a\\b\"\n\0"), "\"say \\\"a\\\\b\\\"\\n\"");
        assert_eq!(value(b"\0\0\0\0"), "<0x0>");
        assert_eq!(value(&[0, 0, 1, 0, 0xff, 0, 0, 1]), "<0x100 0xff000001>");
        assert_eq!(value(b"a\0\0b"), "<0x61000062>");
        assert_eq!(value(b"abc"), "[61 62 63]");
        assert_eq!(value(&[0xc3, 0xa4, 0]), "[c3 a4 00]");
        assert!(Text::of(b"\xd0\x0d\xfe\xed").is_err());
    }
}
