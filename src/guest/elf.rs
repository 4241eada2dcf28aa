//! ELF: a kernel that says itself where its parts lie in memory (System V gABI, chapters 4 and 5).
//!
//! Of the two records that matter, file header and program headers, twelve fields of fixed place and size are
//! needed. A crate for that would bring sections, symbols and both classes and byte orders along, to be checked
//! for what they do with hostile input; so they are read here.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::addr::{Address, GuestPhysAddr, GuestRange};
use crate::problem;
use crate::problem::Problem;

/// First bytes of any ELF file.
pub const MAGIC: &[u8] = b"\x7fELF";

/// Bytes of the file header, `Elf64_Ehdr`.
const HEADER: usize = 64;
/// Bytes of a program header, `Elf64_Phdr`.
const PROGRAM_HEADER: usize = 56;
/// The most program headers: linkers make a dozen, and each is compared with each.
const MOST: u64 = 64;

/// `EI_CLASS`: 64 bits.
const CLASS_64: u8 = 2;
/// `EI_DATA`: little-endian.
const LITTLE_ENDIAN: u8 = 1;
/// `e_type`: an executable at a fixed address.
const EXECUTABLE: u64 = 2;
/// `e_type`: position-independent.
const DYNAMIC: u64 = 3;
/// `e_machine`.
const AARCH64: u64 = 183;
/// `p_type`: a segment to load.
const LOAD: u64 = 1;
/// `p_flags`: executable.
const EXECUTE: u64 = 1;

/// A part of memory that the file asks for.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Its number among the program headers.
    pub number: usize,
    /// Where it lies: `p_paddr`, `p_memsz` bytes.
    pub range: GuestRange,
    /// Its first bytes; the others are zero.
    pub data: &'a [u8],
    /// `p_vaddr`: what `e_entry` is an address among.
    linked: u64,
    executable: bool,
}

/// An ELF file, checked as far as it can be without knowing the RAM.
#[derive(Clone, Copy, Debug)]
pub struct Elf<'a> {
    file: &'a [u8],
    headers: &'a [u8],
    /// PC of the first vCPU.
    pub entry: GuestPhysAddr,
}

/// The little-endian number of `size` bytes at `at` of a header; 0 where there is none.
#[inline(never)]
fn field(header: &[u8], at: usize, size: usize) -> u64 {
    let field = header.get(at..at.saturating_add(size)).unwrap_or_default();
    field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

impl<'a> Elf<'a> {
    /// Reads a file that starts with [`MAGIC`]; `place` names it for messages.
    ///
    /// # Errors
    /// E0420 made for another machine, E0422 damaged or cut short, E0425 it does not start in any of its
    /// segments.
    pub fn read(file: &'a [u8], place: &str) -> Result<Self, Problem> {
        let damaged = |what| damaged(place, what);
        let header = file.get(..HEADER).ok_or_else(|| damaged("its header is not all there"))?;
        machine(header, place)?;
        let number = |at, size| field(header, at, size);
        let (start, size, count) = (number(32, 8), number(54, 2), number(56, 2));
        if count > MOST || count > 0 && size != PROGRAM_HEADER as u64 {
            return Err(damaged("it has too many program headers, or of a size of their own"));
        }
        let bytes = (count as usize).saturating_mul(PROGRAM_HEADER);
        let headers = slice(file, start, bytes as u64)
            .ok_or_else(|| damaged("its program headers lie outside of it"))?;
        let mut code = None;
        for header in headers.chunks_exact(PROGRAM_HEADER).filter(|header| is_load(header)) {
            let segment = segment(file, 0, header).ok_or_else(|| {
                damaged("a segment lies outside of it, or is longer in the file than in memory")
            })?;
            code = code.or(segment.at(number(24, 8)));
        }
        let Some(entry) = code else {
            return Err(problem!("E0425", ("{place}");
                ("its entry, {:#x}, lies in no executable segment", number(24, 8));
                ("Link it with ENTRY(_start) in the linker's script; readelf -lW shows what it is")));
        };
        Ok(Self { file, headers, entry })
    }

    /// What it asks to be loaded, in the order of the file.
    pub fn segments(&self) -> Segments<'a> {
        Segments { file: self.file, headers: self.headers, number: 0 }
    }
}

/// The segments of a file that was read.
#[derive(Clone, Copy, Debug)]
pub struct Segments<'a> {
    file: &'a [u8],
    headers: &'a [u8],
    number: usize,
}

impl<'a> Iterator for Segments<'a> {
    type Item = Segment<'a>;

    #[inline(never)]
    fn next(&mut self) -> Option<Segment<'a>> {
        while let Some((header, rest)) = self.headers.split_at_checked(PROGRAM_HEADER) {
            let number = self.number;
            (self.headers, self.number) = (rest, number.wrapping_add(1));
            if is_load(header) {
                return segment(self.file, number, header);
            }
        }
        None
    }
}

impl Segment<'_> {
    /// The address in memory of what was linked to `address`, if it is code of this segment.
    fn at(&self, address: u64) -> Option<GuestPhysAddr> {
        let offset = address.checked_sub(self.linked).filter(|offset| *offset < self.range.size())?;
        self.range.start().checked_add(offset).filter(|_| self.executable)
    }
}

#[cold]
#[inline(never)]
fn damaged(place: &str, what: &str) -> Problem {
    problem!("E0422", ("{place}"); ("damaged or cut short: {what}");
        ("Copy or link the file again; readelf -lW shows what it says"))
}

/// Refuses what was made for another machine.
fn machine(header: &[u8], place: &str) -> Result<(), Problem> {
    let number = |at, size| field(header, at, size);
    let (class, order, kind, machine) = (number(4, 1), number(5, 1), number(16, 2), number(18, 2));
    let (what, value) = if class != u64::from(CLASS_64) {
        ("not 64-bit: class", class)
    } else if order != u64::from(LITTLE_ENDIAN) {
        ("not little-endian: data encoding", order)
    } else if machine != AARCH64 {
        ("for another machine than AArch64: number", machine)
    } else if kind != EXECUTABLE && kind != DYNAMIC {
        ("no linked program: type", kind)
    } else {
        return Ok(());
    };
    Err(problem!("E0420", ("{place}"); ("an ELF file, but {what} {value}");
        ("Give a linked little-endian program for AArch64; readelf -h shows what it is")))
}

fn is_load(header: &[u8]) -> bool {
    field(header, 0, 4) == LOAD && field(header, 40, 8) != 0
}

/// The segment of a program header; `None` if that is nonsense.
fn segment<'a>(file: &'a [u8], number: usize, header: &[u8]) -> Option<Segment<'a>> {
    let (offset, linked, at) = (field(header, 8, 8), field(header, 16, 8), field(header, 24, 8));
    let (in_file, in_memory) = (field(header, 32, 8), field(header, 40, 8));
    if in_file > in_memory {
        return None;
    }
    let range = GuestRange::new(GuestPhysAddr::at(at), in_memory)?;
    let executable = field(header, 4, 4) & EXECUTE != 0;
    Some(Segment { number, range, data: slice(file, offset, in_file)?, linked, executable })
}

fn slice(file: &[u8], start: u64, size: u64) -> Option<&[u8]> {
    file.get(usize::try_from(start).ok()?..usize::try_from(start.checked_add(size)?).ok()?)
}

#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test may fail")]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// A segment as a test wants it.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Wanted {
        pub(crate) at: u64,
        pub(crate) linked: u64,
        pub(crate) file: usize,
        pub(crate) memory: u64,
        pub(crate) flags: u32,
    }

    /// One executable segment at `at`.
    pub(crate) fn code(at: u64, file: usize, memory: u64) -> Wanted {
        Wanted { at, linked: at, file, memory, flags: 5 }
    }

    /// An ELF file of these segments, whose bytes count up.
    pub(crate) fn elf(entry: u64, segments: &[Wanted]) -> Vec<u8> {
        let mut out = vec![0; HEADER];
        out[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        out[16..20].copy_from_slice(&[2, 0, 183, 0]);
        out[24..32].copy_from_slice(&entry.to_le_bytes());
        out[32..40].copy_from_slice(&64u64.to_le_bytes());
        out[54..58].copy_from_slice(&[56, 0, segments.len() as u8, 0]);
        let mut offset = HEADER + PROGRAM_HEADER * segments.len();
        for segment in segments {
            out.extend(1u32.to_le_bytes());
            out.extend(segment.flags.to_le_bytes());
            for word in
                [offset as u64, segment.linked, segment.at, segment.file as u64, segment.memory, 0x1000]
            {
                out.extend(word.to_le_bytes());
            }
            offset += segment.file;
        }
        let data = segments.iter().flat_map(|segment| 0..segment.file).map(|n| n as u8 | 1);
        out.extend(data);
        out
    }

    #[test]
    fn reads_segments_and_the_entrys_place_in_memory() {
        let data = Wanted { flags: 6, ..code(0x4020_0000, 0, 0x3000) };
        let text = Wanted { linked: 0xffff_0000, ..code(0x4010_0000, 100, 200) };
        let file = elf(0xffff_0010, &[data, text, code(0, 0, 0)]);
        let elf = Elf::read(&file, "vm kernel").unwrap();
        assert_eq!(elf.entry, GuestPhysAddr::at(0x4010_0010));
        let segments: Vec<_> = elf.segments().map(|s| (s.number, s.range, s.data.len())).collect();
        let ranges = [GuestRange::at(0x4020_0000, 0x3000), GuestRange::at(0x4010_0000, 200)];
        assert_eq!(segments, [(0, ranges[0], 0), (1, ranges[1], 100)]);
    }

    #[test]
    fn each_wrong_file_is_named() {
        let good = elf(0x4010_0000, &[code(0x4010_0000, 100, 200)]);
        let say = |file: &[u8]| Elf::read(file, "vm.a kernel").map(|_| ()).unwrap_err().to_string();
        let with = |at: usize, byte: u8| {
            let mut file = good.clone();
            file[at] = byte;
            say(&file)
        };
        let cases = [
            (with(4, 1), "E0420 vm.a kernel: an ELF file, but not 64-bit: class 1."),
            (with(5, 2), "E0420 vm.a kernel: an ELF file, but not little-endian: data encoding 2."),
            (
                with(18, 62),
                "E0420 vm.a kernel: an ELF file, but for another machine than AArch64: number 62.",
            ),
            (with(16, 1), "E0420 vm.a kernel: an ELF file, but no linked program: type 1."),
            (say(&good[..40]), "E0422 vm.a kernel: damaged or cut short: its header"),
            (say(&good[..100]), "E0422 vm.a kernel: damaged or cut short: its program headers lie"),
            (say(&good[..good.len() - 1]), "E0422 vm.a kernel: damaged or cut short: a segment"),
            (with(54, 55), "E0422 vm.a kernel: damaged or cut short: it has too many"),
            (with(56, 65), "E0422 vm.a kernel: damaged or cut short: it has too many"),
            (with(64 + 32 + 1, 1), "E0422 vm.a kernel: damaged or cut short: a segment"),
            (with(56, 0), "E0425"),
            (with(64, 2), "E0425"),
            (with(25, 1), "E0425 vm.a kernel: its entry, 0x40100100, lies in no executable segment."),
            (with(68, 4), "E0425"),
        ];
        for (found, start) in &cases {
            assert!(found.starts_with(start), "{found}\nnot {start}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), magic in any::<bool>()) {
            if magic && bytes.len() > 20 {
                bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
                bytes[16..20].copy_from_slice(&[2, 0, 183, 0]);
            }
            if let Ok(elf) = Elf::read(&bytes, "vm kernel") {
                prop_assert!(elf.segments().count() > 0);
            }
        }

        #[test]
        fn a_changed_file_is_read_or_refused(
            changes in proptest::collection::vec((0..200usize, any::<u8>()), 1..6),
            cut in 0..400usize,
        ) {
            let mut file = elf(0x4010_0004, &[code(0x4010_0000, 100, 200), code(0x4020_0000, 50, 50)]);
            for (at, byte) in changes {
                file[at] = byte;
            }
            file.truncate(cut.max(4));
            if let Ok(elf) = Elf::read(&file, "vm kernel") {
                for segment in elf.segments() {
                    prop_assert!(segment.data.len() as u64 <= segment.range.size());
                }
            }
        }
    }
}
