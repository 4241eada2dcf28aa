//! Unpacks gzip (RFC 1952) piece by piece, so that neither side has to be in memory twice.
//!
//! The pieces come out of a window of 32 KiB, as far back as deflate refers. Checked on the way: the header
//! with all its optional fields, the stream, and at the end CRC and length.

use crate::problem;
use crate::problem::Problem;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress_with_limit};

/// Bytes of the window; also the most that one piece has.
pub const WINDOW: usize = 32 << 10;

const FHCRC: u8 = 2;
const FEXTRA: u8 = 4;
const FNAME: u8 = 8;
const FCOMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;

/// Whether a file is gzip.
pub fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x1f\x8b")
}

/// A gzip file on its way out.
pub struct Gzip<'a> {
    /// What is still packed, and the trailer.
    rest: &'a [u8],
    inflater: Box<DecompressorOxide>,
    window: Vec<u8>,
    /// Where in the window the next piece goes.
    at: usize,
    crc: Crc32,
    total: u64,
    done: bool,
    place: String,
}

impl<'a> Gzip<'a> {
    /// Reads the header; `place` is for messages.
    ///
    /// # Errors
    /// E0403 if there is no valid header.
    pub fn open(bytes: &'a [u8], place: &str) -> Result<Self, Problem> {
        let Some(rest) = after_header(bytes) else {
            return Err(problem!("E0403", ("{place}"); ("its gzip header is damaged or of an unknown kind");
                ("Pack it again with gzip -9n")));
        };
        Ok(Self {
            rest,
            inflater: Box::default(),
            window: vec![0; WINDOW],
            at: 0,
            crc: Crc32::new(),
            total: 0,
            done: false,
            place: place.into(),
        })
    }

    /// Bytes unpacked so far.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The next piece, of at most `most` bytes and of any length below; `None` after the last.
    ///
    /// # Errors
    /// E0403 if the stream is damaged, E0404 if it ends too early.
    pub fn next(&mut self, most: usize) -> Result<Option<&[u8]>, Problem> {
        if self.done {
            return Ok(None);
        }
        let (status, read, written) =
            decompress_with_limit(&mut self.inflater, self.rest, &mut self.window, self.at, most.max(1), 0);
        self.rest = self.rest.get(read..).unwrap_or_default();
        let start = self.at;
        let end = start.wrapping_add(written);
        self.at = end % WINDOW;
        self.total = self.total.wrapping_add(written as u64);
        let piece = self.window.get(start..end).unwrap_or_default();
        self.crc.add(piece);
        match status {
            TINFLStatus::HasMoreOutput => {}
            TINFLStatus::Done => {
                self.done = true;
                self.check_trailer()?;
            }
            TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress => {
                return Err(self.cut_short());
            }
            _ => return Err(self.damaged("the stream makes no sense")),
        }
        Ok(self.window.get(start..end))
    }

    fn check_trailer(&self) -> Result<(), Problem> {
        let word =
            |at| -> Option<u32> { Some(u32::from_le_bytes(self.rest.get(at..at + 4)?.try_into().ok()?)) };
        let (Some(crc), Some(size)) = (word(0), word(4)) else { return Err(self.cut_short()) };
        if crc != self.crc.value() {
            return Err(self.damaged("what came out has another checksum"));
        }
        if size != self.total as u32 {
            return Err(self.damaged("what came out has another length"));
        }
        Ok(())
    }

    fn damaged(&self, what: &str) -> Problem {
        problem!("E0403", ("{}", self.place); ("gzip damaged after {} bytes: {what}", self.total);
            ("Copy or download the file again; gzip -t checks it"))
    }

    fn cut_short(&self) -> Problem {
        problem!("E0404", ("{}", self.place); ("gzip ends too early, after {} bytes", self.total);
            ("Copy or download the whole file; gzip -t checks it"))
    }
}

/// Length of the unpacked file modulo 2^32, as the last four bytes state it.
pub fn stated_size(bytes: &[u8]) -> u64 {
    bytes.last_chunk::<4>().map_or(0, |last| u64::from(u32::from_le_bytes(*last)))
}

/// What follows the header: RFC 1952 section 2.3.
fn after_header(bytes: &[u8]) -> Option<&[u8]> {
    let (fixed, mut rest) = bytes.split_first_chunk::<10>()?;
    let [0x1f, 0x8b, 8, flags, ..] = *fixed else { return None };
    if flags & RESERVED != 0 {
        return None;
    }
    if flags & FEXTRA != 0 {
        let (length, after) = rest.split_first_chunk::<2>()?;
        rest = after.get(usize::from(u16::from_le_bytes(*length))..)?;
    }
    for field in [FNAME, FCOMMENT] {
        if flags & field != 0 {
            let end = rest.iter().position(|&b| b == 0)?;
            rest = rest.get(end.checked_add(1)?..)?;
        }
    }
    if flags & FHCRC != 0 {
        let header = bytes.len().checked_sub(rest.len())?;
        let (stated, after) = rest.split_first_chunk::<2>()?;
        let mut crc = Crc32::new();
        crc.add(bytes.get(..header)?);
        if crc.value() as u16 != u16::from_le_bytes(*stated) {
            return None;
        }
        rest = after;
    }
    Some(rest)
}

/// CRC-32 as gzip has it (RFC 1952 section 8), eight bytes at a step.
struct Crc32 {
    state: u32,
    /// Made when needed rather than carried in the image: 8 KiB.
    tables: Box<[[u32; 256]; 8]>,
}

impl Crc32 {
    fn new() -> Self {
        let mut tables = Box::new([[0u32; 256]; 8]);
        for byte in 0..256usize {
            let mut crc = byte as u32;
            for _ in 0..8 {
                crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
            }
            tables[0][byte] = crc;
        }
        for step in 1..8 {
            for byte in 0..256 {
                let before = tables[step - 1][byte];
                tables[step][byte] = (before >> 8) ^ tables[0][(before & 0xff) as usize];
            }
        }
        Self { state: u32::MAX, tables }
    }

    fn add(&mut self, bytes: &[u8]) {
        let t = &self.tables;
        let mut crc = self.state;
        let (chunks, rest) = bytes.as_chunks::<8>();
        for chunk in chunks {
            let word = u64::from_le_bytes(*chunk) ^ u64::from(crc);
            crc = (0..8).fold(0, |sum, n| sum ^ t[7 - n][(word >> (8 * n) & 0xff) as usize]);
        }
        for byte in rest {
            crc = (crc >> 8) ^ t[0][(crc as u8 ^ byte) as usize];
        }
        self.state = crc;
    }

    fn value(&self) -> u32 {
        !self.state
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A gzip file with these header flags and their fields.
    pub(crate) fn pack(data: &[u8], flags: u8) -> Vec<u8> {
        let mut out = vec![0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 3];
        if flags & FEXTRA != 0 {
            out.extend([3, 0, b'x', 0, b'y']);
        }
        if flags & FNAME != 0 {
            out.extend(b"Image\0");
        }
        if flags & FCOMMENT != 0 {
            out.extend(b"a comment\0");
        }
        let mut crc = Crc32::new();
        if flags & FHCRC != 0 {
            crc.add(&out);
            out.extend((crc.value() as u16).to_le_bytes());
        }
        out.extend(miniz_oxide::deflate::compress_to_vec(data, 6));
        let mut crc = Crc32::new();
        crc.add(data);
        out.extend(crc.value().to_le_bytes());
        out.extend((data.len() as u32).to_le_bytes());
        out
    }

    pub(crate) fn unpack(packed: &[u8], most: usize) -> Result<Vec<u8>, Problem> {
        let mut gzip = Gzip::open(packed, "vm kernel")?;
        let mut out = Vec::new();
        while let Some(piece) = gzip.next(most)? {
            assert!(piece.len() <= most);
            out.extend(piece);
        }
        Ok(out)
    }

    fn sample() -> Vec<u8> {
        (0..200_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8 ^ (i / 1000) as u8).collect()
    }

    #[test]
    fn crc_is_the_one_of_the_rfc() {
        let mut crc = Crc32::new();
        crc.add(b"12345");
        crc.add(b"6789");
        assert_eq!(crc.value(), 0xcbf4_3926);
        let mut long = Crc32::new();
        long.add(b"The quick brown fox jumps over the lazy dog");
        assert_eq!(long.value(), 0x414f_a339);
    }

    #[test]
    fn unpacks_with_every_header_and_in_pieces_of_any_size() {
        let data = sample();
        for flags in 0..32 {
            assert_eq!(unpack(&pack(&data[..999], flags), WINDOW).unwrap(), &data[..999], "flags {flags}");
        }
        for most in [1000, 4096, 32 << 10, 1 << 20] {
            assert!(unpack(&pack(&data, 0), most).unwrap() == data, "{most}");
        }
        assert_eq!(unpack(&pack(b"", 0), 100).unwrap(), b"");
        let mut padded = pack(&data, 0);
        padded.extend([0; 100]);
        assert!(unpack(&padded, WINDOW).unwrap() == data, "padding behind the trailer");
    }

    #[test]
    fn unpacks_what_gzip_packed() {
        let data = sample();
        for level in ["-1", "-9n"] {
            let dir = std::env::temp_dir();
            let Some((packed, _)) = crate::fdt::tests::run("gzip", &[level, "-c"], &dir, &data) else {
                return;
            };
            assert_eq!(stated_size(&packed), data.len() as u64);
            assert!(unpack(&packed, WINDOW).unwrap() == data);
        }
    }

    #[test]
    fn refuses_what_is_damaged_or_cut() {
        let packed = pack(&sample(), FNAME | FHCRC);
        let code = |bytes: &[u8]| unpack(bytes, WINDOW).err().map(|p| p.code);
        assert_eq!(code(&packed), None);
        assert_eq!(code(&packed[..9]), Some("E0403"));
        assert_eq!(code(&packed[..packed.len() / 2]), Some("E0404"));
        assert_eq!(code(&packed[..packed.len() - 1]), Some("E0404"));
        for (at, what) in [(3, "reserved flag"), (12, "header checksum"), (packed.len() - 1, "length")] {
            let mut bad = packed.clone();
            bad[at] ^= 0x80;
            assert_eq!(code(&bad), Some("E0403"), "{what}");
        }
        let mut bad = packed.clone();
        bad[packed.len() - 8] ^= 1;
        assert_eq!(code(&bad), Some("E0403"), "checksum");
        for at in (20..packed.len() - 8).step_by(997) {
            let mut bad = packed.clone();
            bad[at] ^= 0x10;
            assert!(code(&bad).is_some(), "a flipped bit at {at} went unnoticed");
        }
    }
}
