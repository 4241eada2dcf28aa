//! A kernel's file: which format it has, what it wants of memory, and its bytes in the order of loading.
//!
//! Formats are told by what they begin with. Only what is nothing else, to go by its bytes, is a flat binary;
//! everything with a name of its own that is no kernel for this machine is refused by that name.

use super::elf::{Elf, MAGIC};
use super::gzip::{Gzip, is_gzip, stated_size};
use super::linux::{ALIGN, HEADER_SIZE, Header, is_image};
use super::{flat, image};
use crate::addr::{Address, GuestPhysAddr, GuestRange};
use crate::config::Bytes;
use crate::map::TREE_MAX;
use crate::problem;
use crate::problem::Problem;
use alloc::format;

/// Where it lies in a VM's RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// All that it takes, .bss included, from the first byte to the last.
    pub range: GuestRange,
    /// PC of the first vCPU, unless there is firmware.
    pub entry: GuestPhysAddr,
    /// Bytes behind it that nothing else gets if there is room elsewhere.
    pub spare: u64,
    /// It is Linux, which wants its initrd behind it, and near.
    pub linux: bool,
}

/// What a kernel's file is.
enum Format<'a> {
    /// An arm64 Linux Image, and its bytes once unpacked.
    Linux(Header, u64),
    Elf(Elf<'a>),
    Flat,
}

impl<'a> Format<'a> {
    /// Looks at a file; `place` is the VM's, for messages.
    fn of(file: &'a [u8], place: &str) -> Result<Self, Problem> {
        let kernel = format!("{place} kernel");
        if is_gzip(file) {
            return unpacked(file, place, &kernel);
        }
        if file.starts_with(MAGIC) {
            return Ok(Self::Elf(Elf::read(file, &kernel)?));
        }
        if is_image(file) || image::name(file).is_some() {
            return Ok(Self::Linux(Header::read(file, place)?, file.len() as u64));
        }
        flat::check(file, &kernel)?;
        Ok(Self::Flat)
    }
}

/// The header of a gzip kernel, and the bytes that the file states.
fn unpacked<'a>(file: &'a [u8], place: &str, kernel: &str) -> Result<Format<'a>, Problem> {
    let mut gzip = Gzip::open(file, kernel)?;
    let mut first = [0u8; HEADER_SIZE];
    let mut filled = 0;
    while filled < HEADER_SIZE
        && let Some(piece) = gzip.next(HEADER_SIZE - filled)?
    {
        for (slot, byte) in first.iter_mut().skip(filled).zip(piece) {
            *slot = *byte;
            filled += 1;
        }
    }
    let header = Header::read(first.get(..filled).unwrap_or_default(), &format!("{place} unpacked"))?;
    let size = stated_size(file);
    if header.image_size != 0 && size > header.image_size {
        return Err(problem!("E0404", ("{kernel}");
            ("gzip cut short or damaged: its last four bytes state {} for a kernel of {}", Bytes(size), Bytes(header.image_size));
            ("Copy or download the whole file; gzip -t checks it")));
    }
    Ok(Format::Linux(header, size))
}

/// Finds the places of a kernel in `ram`, of which the tree has the first [`TREE_MAX`] bytes.
///
/// # Errors
/// E0401 to E0408, E0420 to E0425 of its file; E0407 if it does not fit.
pub fn place(file: &[u8], place: &str, ram: GuestRange) -> Result<Placed, Problem> {
    let from = |at: Option<GuestPhysAddr>, size: u64| at.and_then(|at| GuestRange::new(at, size));
    let up = ram.start().checked_add(ALIGN - 1).map(|start| start.align_down(ALIGN));
    let (room, spare, linux) = match Format::of(file, place)? {
        Format::Elf(elf) => return segments(&elf, place, ram),
        Format::Linux(header, size) => {
            let at = up.and_then(|base| base.checked_add(ALIGN)?.checked_add(header.text_offset));
            (from(at, header.room(size)), 0, true)
        }
        Format::Flat => (from(ram.start().checked_add(flat::OFFSET), file.len() as u64), flat::BSS, false),
    };
    let Some(room) = room else { return Err(too_far(place, ram)) };
    Ok(Placed { range: room, entry: room.start(), spare, linux })
}

/// No guest has RAM at such addresses.
#[cold]
#[inline(never)]
pub(super) fn too_far(place: &str, ram: GuestRange) -> Problem {
    problem!("E0407", ("{place}"); ("RAM at {ram} is no place for a guest"); ("Use lower addresses"))
}

/// An ELF file's segments lie where they say, if that is in RAM and apart from everything else.
fn segments(elf: &Elf<'_>, place: &str, ram: GuestRange) -> Result<Placed, Problem> {
    let tree = GuestRange::new(ram.start(), TREE_MAX).unwrap_or_default();
    let (mut start, mut end) = (ram.end(), tree.end());
    for (n, segment) in elf.segments().enumerate() {
        let (number, range) = (segment.number, segment.range);
        if !ram.encloses(&range) {
            return Err(problem!("E0423", ("{place} kernel");
                ("segment {number}, {range}, lies outside of its RAM, {ram}");
                ("Link it for {} or above, as p_paddr, and give it memory up to its end", tree.end())));
        }
        let before = elf.segments().take(n).map(|segment| segment.range);
        if let Some(other) = before.chain([tree]).find(|other| other.overlaps(&range)) {
            let whose = if other == tree { "its device tree" } else { "another" };
            return Err(problem!("E0424", ("{place} kernel");
                ("segment {number}, {range}, overlaps {whose}, {other}");
                ("Link each for addresses of its own, {} or above; readelf -lW shows them", tree.end())));
        }
        (start, end) = (start.min(range.start()), end.max(range.end()));
    }
    Ok(Placed { range: GuestRange::between(start, end), entry: elf.entry, spare: 0, linux: false })
}
