//! The header of an arm64 Linux `Image` (Linux, Documentation/arch/arm64/booting.rst, section 4).

use super::image;
use crate::problem;
use crate::problem::Problem;

/// Bytes of the header.
pub const HEADER_SIZE: usize = 64;
/// The base that `text_offset` counts from is a multiple of this.
pub const ALIGN: u64 = 2 << 20;

/// What would be right; only an Image may be packed, as the others have no size to go by.
const KERNELS: &str = "Give an arm64 Linux Image, plain or gzip, or an unpacked ELF program or flat binary";

/// Of the header at [`MAGIC_AT`].
const MAGIC: &[u8] = b"ARM\x64";
/// Bytes from the header's start to its magic number.
const MAGIC_AT: usize = 56;

/// Room for .bss behind the file of a kernel that does not state its size (before Linux 3.17).
const OLD_BSS: u64 = 16 << 20;
/// `text_offset` of such a kernel.
const OLD_TEXT_OFFSET: u64 = 0x8_0000;

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes from a 2 MiB boundary to the image.
    pub text_offset: u64,
    /// Bytes that the kernel needs from its first on, .bss included; 0 in kernels before 3.17.
    pub image_size: u64,
    /// The granule the kernel was built for, where it says so.
    pub page_size: Option<u32>,
    /// It may lie anywhere, not only near the start of RAM.
    pub anywhere: bool,
}

/// Whether a file has the header's magic number.
pub fn is_image(file: &[u8]) -> bool {
    file.get(MAGIC_AT..).is_some_and(|rest| rest.starts_with(MAGIC))
}

impl Header {
    /// Reads the header at the start of `image`; `place` is for messages.
    ///
    /// # Errors
    /// E0401 empty, E0402 no arm64 Image, E0405 big-endian, E0408 impossible figures.
    pub fn read(image: &[u8], place: &str) -> Result<Self, Problem> {
        if image::is_blank(image) {
            return Err(problem!("E0401", ("{place} kernel"); ("{}", image::looks_like(image));
                ("{KERNELS}")));
        }
        let word =
            |at: usize| -> Option<u64> { Some(u64::from_le_bytes(image.get(at..at + 8)?.try_into().ok()?)) };
        let (Some(text_offset), Some(image_size), Some(flags), true) =
            (word(8), word(16), word(24), is_image(image))
        else {
            return Err(problem!("E0402", ("{place} kernel");
                ("no arm64 Linux Image: it looks like {}", image::looks_like(image));
                ("{KERNELS}")));
        };
        if flags & 1 != 0 {
            return Err(problem!("E0405", ("{place} kernel"); ("built big-endian (flags {flags:#x})");
                ("Give a little-endian kernel")));
        }
        let header = Self {
            text_offset: if image_size == 0 { OLD_TEXT_OFFSET } else { text_offset },
            image_size,
            page_size: [None, Some(4096), Some(16384), Some(65536)][(flags >> 1 & 3) as usize],
            anywhere: flags & 8 != 0,
        };
        if header.text_offset >= ALIGN || image_size > 1 << 32 {
            return Err(problem!("E0408", ("{place} kernel");
                ("its header states text_offset {text_offset:#x} and image_size {image_size:#x}");
                ("text_offset lies below 2 MiB and image_size below 4 GiB; the file is damaged")));
        }
        Ok(header)
    }

    /// Bytes to keep for a kernel whose file, once unpacked, has `file` bytes.
    pub fn room(&self, file: u64) -> u64 {
        match self.image_size {
            0 => file.saturating_add(OLD_BSS),
            size => size.max(file),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::vec::Vec;

    /// A kernel of `file` bytes that asks for `image_size`.
    pub(crate) fn kernel(file: usize, image_size: u64, flags: u64) -> Vec<u8> {
        let mut image: Vec<u8> = (0..file).map(|i| (i * 7 + i / 251) as u8).collect();
        image[..HEADER_SIZE].fill(0);
        image[..4].copy_from_slice(&0x1400_0010u32.to_le_bytes());
        image[16..24].copy_from_slice(&image_size.to_le_bytes());
        image[24..32].copy_from_slice(&flags.to_le_bytes());
        image[56..60].copy_from_slice(b"ARM\x64");
        image
    }

    #[test]
    fn reads_a_header() {
        let header = Header::read(&kernel(100, 0x12_3000, 0xa), "vm").unwrap();
        assert_eq!(
            header,
            Header { text_offset: 0, image_size: 0x12_3000, page_size: Some(4096), anywhere: true }
        );
        assert_eq!(header.room(100), 0x12_3000);
        let old = Header::read(&kernel(100, 0, 0), "vm").unwrap();
        assert_eq!((old.text_offset, old.page_size), (0x8_0000, None));
        assert_eq!(old.room(100), 100 + (16 << 20));
    }

    #[test]
    fn names_what_is_no_kernel() {
        let code = |image: &[u8]| Header::read(image, "vm.alpha").unwrap_err().code;
        assert_eq!(code(b""), "E0401");
        assert_eq!(code(&[0; 4096]), "E0401");
        assert_eq!(code(&kernel(100, 1, 0)[..59]), "E0402");
        assert_eq!(code(b"\x7fELF"), "E0402");
        assert_eq!(code(&kernel(100, 0x1000, 1)), "E0405");
        assert_eq!(code(&kernel(100, 1 << 40, 0)), "E0408");
        let mut far = kernel(100, 0x1000, 0);
        far[10] = 0x20;
        assert_eq!(code(&far), "E0408");
        let text = Header::read(b"\x7fELF\x02\x01\x01", "vm.alpha").unwrap_err().to_string();
        assert!(
            text.starts_with("E0402 vm.alpha kernel: no arm64 Linux Image: it looks like an ELF file."),
            "{text}"
        );
    }
}
