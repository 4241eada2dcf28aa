//! The bundle: a newc cpio archive with `mezzanine.dtb`, which names the other files in it.
//!
//! The archive is the kernel's own initramfs format, "070701" (Linux, Documentation/driver-api/early-userspace/
//! buffer-format.rst), so that plain `cpio` can make, list and unpack one. The tree speaks Xen's dom0less
//! binding (docs/config-tree.md).

mod newc;
mod tree;
mod write;

pub use write::write;

use super::{Findings, VmConfig};
use crate::guest::image;
use crate::problem;
use crate::problem::Problem;
use alloc::vec::Vec;

/// The file that describes the VMs.
pub const TREE: &str = "mezzanine.dtb";

/// A file of the archive, by its path without a leading `/` or `./`.
struct File<'a> {
    path: &'a str,
    data: &'a [u8],
    /// Hard links to the same file have this in common, and only one of them the data.
    inode: Option<(u32, u32, u32)>,
}

/// Files that a bundle may hold: four for each of its VMs, and some.
const MAX_FILES: usize = 4100;

/// All files of a bundle.
struct Archive<'a>(Vec<File<'a>>);

/// Reads the VMs of a bundle.
///
/// Sizes and files are not judged here: [`check`](super::check()) does that.
///
/// # Errors
/// E0203 no archive, E0204 a damaged or truncated one, E0205 no `mezzanine.dtb`, E0206 a damaged one,
/// E0207 to E0231 for what it says.
pub fn read(bytes: &[u8]) -> Result<Vec<VmConfig<'_>>, Problem> {
    let mut found = Findings::default();
    let vms = read_all(bytes, &mut found);
    found.settle().map(|_| vms)
}

/// The same, with everything that is wrong, and the VMs that could be read all the same.
pub fn read_all<'a>(bytes: &'a [u8], found: &mut Findings) -> Vec<VmConfig<'a>> {
    let Some((archive, tree)) = found.take(open(bytes)) else { return Vec::new() };
    tree::read(tree, &archive, found)
}

/// The tree that describes the VMs, as it lies in a bundle.
///
/// # Errors
/// E0203 to E0205 as [`read`].
pub fn tree_of(bytes: &[u8]) -> Result<&[u8], Problem> {
    open(bytes).map(|(_, tree)| tree)
}

/// All files of a bundle, by their paths.
///
/// # Errors
/// E0203, E0204 as [`read`].
pub fn files(bytes: &[u8]) -> Result<Vec<(&str, &[u8])>, Problem> {
    let archive = Archive::read(bytes)?;
    Ok(archive.0.iter().map(|file| (file.path, archive.data(file))).collect())
}

fn open(bytes: &[u8]) -> Result<(Archive<'_>, &[u8]), Problem> {
    let archive = Archive::read(bytes)?;
    let Some(tree) = archive.find(TREE) else {
        let first = archive.0.first().map_or("nothing", |f| f.path);
        return Err(
            problem!("E0205", ("bundle"); ("no {TREE} among its {} files (the first is {first})", archive.0.len());
            ("Make the bundle with mezz pack; a guest's own initrd belongs inside of it")),
        );
    };
    Ok((archive, tree))
}

impl<'a> Archive<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Problem> {
        if !newc::starts(bytes, 0) {
            return Err(
                problem!("E0203", ("bundle"); ("no newc cpio archive: it looks like {}", image::looks_like(bytes));
                ("Make it with mezz pack, or with cpio -o -H newc; it must not be compressed")),
            );
        }
        let mut files = Vec::new();
        let mut at = 0;
        loop {
            let Some(member) = newc::member(bytes, at) else {
                return Err(problem!("E0204", ("bundle");
                    ("cut short or damaged: no valid entry at offset {at} of {}, after {} files", bytes.len(), files.len());
                    ("Pack it again, and have the boot loader load all of it")));
            };
            if member.name == newc::TRAILER {
                break;
            }
            if files.len() == MAX_FILES {
                return Err(problem!("E0213", ("bundle"); ("more than {MAX_FILES} files");
                    ("Pack what its VMs need alone")));
            }
            files.push(File { path: bare(member.name), data: member.data, inode: member.inode });
            at = member.next;
        }
        Ok(Self(files))
    }

    fn find(&self, path: &str) -> Option<&'a [u8]> {
        self.0.iter().find(|f| f.path == bare(path)).map(|file| self.data(file))
    }

    /// What a file holds; of several names for one file, only one has the data.
    fn data(&self, file: &File<'a>) -> &'a [u8] {
        if file.data.is_empty() && file.inode.is_some() {
            let same = self.0.iter().filter(|f| f.inode == file.inode);
            return same.map(|f| f.data).find(|d| !d.is_empty()).unwrap_or_default();
        }
        file.data
    }
}

fn bare(path: &str) -> &str {
    path.strip_prefix("./").unwrap_or(path).trim_start_matches('/')
}
