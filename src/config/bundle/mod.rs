//! The bundle: a newc cpio archive with `mezzanine.dtb`, which names the other files in it.
//!
//! The archive is the kernel's own initramfs format, "070701" (Linux, Documentation/driver-api/early-userspace/
//! buffer-format.rst), so that plain `cpio` can make, list and unpack one. The tree speaks Xen's dom0less
//! binding (docs/config-tree.md).

mod newc;
mod tree;
mod write;

pub use write::write;

use super::VmConfig;
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
    read_with(bytes, &mut Vec::new())
}

/// The same, with what may be right or not appended to `warnings`.
///
/// # Errors
/// As [`read`].
pub fn read_with<'a>(bytes: &'a [u8], warnings: &mut Vec<Problem>) -> Result<Vec<VmConfig<'a>>, Problem> {
    let archive = Archive::read(bytes)?;
    let Some(tree) = archive.find(TREE) else {
        let first = archive.0.first().map_or("nothing", |f| f.path);
        return Err(
            problem!("E0205", ("bundle"); ("no {TREE} among its {} files (the first is {first})", archive.0.len());
            ("Make the bundle with mezz pack; a guest's own initrd belongs inside of it")),
        );
    };
    tree::read(tree, &archive, warnings)
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
            files.push(File { path: bare(member.name), data: member.data, inode: member.inode });
            at = member.next;
        }
        Ok(Self(files))
    }

    fn find(&self, path: &str) -> Option<&'a [u8]> {
        let file = self.0.iter().find(|f| f.path == bare(path))?;
        if file.data.is_empty() && file.inode.is_some() {
            return self.0.iter().filter(|f| f.inode == file.inode).map(|f| f.data).find(|d| !d.is_empty());
        }
        Some(file.data)
    }
}

fn bare(path: &str) -> &str {
    path.strip_prefix("./").unwrap_or(path).trim_start_matches('/')
}
