//! What a person names to have it checked or shown: a configuration, a bundle or a tree, told apart by content.

use std::io::Read;
use std::path::{Path, PathBuf};

use mezzanine::fdt;
use mezzanine::guest::image;

use crate::report::Report;
use crate::{spec, toml_config};

/// A file, and what it turned out to be.
pub(crate) struct Input {
    /// As the person called it.
    pub(crate) name: String,
    /// What paths in it are relative to.
    pub(crate) directory: PathBuf,
    /// All of it.
    pub(crate) bytes: Vec<u8>,
}

/// Kinds of input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// TOML: docs/config.md.
    Config,
    /// A newc archive with VMs in it.
    Bundle,
    /// A flattened device tree of a whole machine.
    Tree,
}

impl Input {
    /// Reads a file, or standard input for `-`.
    ///
    /// # Errors
    /// E0505 if it cannot be read.
    pub(crate) fn read(path: &Path) -> Result<Self, Report> {
        if path == Path::new("-") {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).map_err(|error| {
                Report::new("E0505", format!("standard input cannot be read: {error}"))
                    .help("give a configuration, a bundle or a device tree")
            })?;
            return Ok(Self { name: "standard input".into(), directory: PathBuf::new(), bytes });
        }
        let bytes = spec::read(path).map_err(|why| {
            Report::new("E0505", format!("{} {why}", path.display()))
                .help("give a configuration, a bundle or a device tree")
        })?;
        let directory = toml_config::parent(path).to_owned();
        Ok(Self { name: path.display().to_string(), directory, bytes })
    }

    /// What it is.
    ///
    /// # Errors
    /// E0521 if it is nothing that tells Mezzanine what to run.
    pub(crate) fn kind(&self) -> Result<Kind, Report> {
        let bytes = self.bytes.as_slice();
        if bytes.starts_with(b"0707") {
            return Ok(Kind::Bundle);
        }
        if bytes.starts_with(b"\xd0\x0d\xfe\xed") {
            return Ok(Kind::Tree);
        }
        let looks = image::looks_like(bytes);
        let none = |help: &str| {
            let title =
                format!("{} is no configuration, bundle or device tree: it looks like {looks}", self.name);
            Err(Report::new("E0521", title).help(help.to_owned()))
        };
        if bytes.starts_with(b"/dts-v1/") {
            return none("it is a tree's source text: dtc -I dts -O dtb -o FILE.dtb compiles it");
        }
        // An empty file is a configuration with nothing in it.
        if bytes.is_empty() || str::from_utf8(bytes).is_ok_and(|text| !text.contains('\0')) {
            return Ok(Kind::Config);
        }
        match looks {
            "gzip" | "xz" | "zstd" | "bzip2" | "lzma" | "an lz4 frame" | "lz4" | "lzo" => {
                none("if a bundle is in there, unpack it first: Mezzanine reads it as it is")
            }
            _ => none(
                "a configuration is TOML (docs/config.md), a bundle what `mezz pack` writes, a tree a .dtb",
            ),
        }
    }

    /// The text of a configuration.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// Whether the tree is one whose VMs are files of a bundle, and no machine's.
    pub(crate) fn is_bundle_tree(&self) -> bool {
        use dtoolkit::{Node, Property, fdt::Fdt};
        let size = fdt::total_size(&self.bytes).unwrap_or(self.bytes.len());
        let Ok(tree) = Fdt::new(self.bytes.get(..size).unwrap_or(&self.bytes)) else { return false };
        let root = tree.root();
        let named = root.property("compatible").is_some_and(|p| p.value() == b"mezzanine,bundle\0");
        named || root.children().all(|child| child.name() == "chosen") && root.child("chosen").is_some()
    }
}
