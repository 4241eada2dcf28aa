//! Tells files apart by their first bytes, so that a wrong one can be called by its name.

/// A kind of file, by what is at a fixed offset.
///
/// The bytes lie in the entry itself: in an image that runs anywhere, a pointer costs a relocation too.
struct Kind {
    offset: u16,
    magic: [u8; LONGEST],
    length: u8,
    name: &'static str,
    /// Linux can unpack it as an initrd.
    initrd: bool,
}

/// Bytes of the longest magic number.
const LONGEST: usize = 10;

const fn kind(offset: u16, bytes: &[u8], name: &'static str, initrd: bool) -> Kind {
    let mut magic = [0; LONGEST];
    magic.split_at_mut(bytes.len()).0.copy_from_slice(bytes);
    Kind { offset, magic, length: bytes.len() as u8, name, initrd }
}

impl Kind {
    fn magic(&self) -> &[u8] {
        self.magic.get(..usize::from(self.length)).unwrap_or_default()
    }
}

/// The first that fits is taken: what is special comes before what is general.
const KINDS: &[Kind] = &[
    kind(56, b"ARM\x64", "an arm64 Linux Image", false),
    kind(36, b"\x18\x28\x6f\x01", "a 32-bit Arm zImage", false),
    kind(0x202, b"HdrS", "an x86 bzImage", false),
    kind(4, b"zimg", "a compressed EFI image (vmlinuz.efi with CONFIG_EFI_ZBOOT)", false),
    kind(0, b"MZ", "an EFI or Windows program without the arm64 Image magic", false),
    kind(0, b"\x7fELF", "an ELF file", false),
    kind(0, b"\x1f\x8b", "gzip", true),
    kind(0, b"\xfd7zXZ\0", "xz", true),
    kind(0, b"\x28\xb5\x2f\xfd", "zstd", true),
    kind(0, b"\x02\x21\x4c\x18", "lz4", true),
    kind(0, b"\x04\x22\x4d\x18", "an lz4 frame", false),
    kind(0, b"BZh", "bzip2", true),
    kind(0, b"\x5d\0\0", "lzma", true),
    kind(0, b"\x89LZO\0", "lzo", true),
    kind(0, b"070701", "a newc cpio archive", true),
    kind(0, b"070702", "a newc cpio archive with checksums", true),
    kind(0, b"070707", "an old cpio archive", false),
    kind(0, b"\xc7\x71", "an old binary cpio archive", false),
    kind(0, b"PK\x03\x04", "a zip archive", false),
    kind(0, b"\x27\x05\x19\x56", "a U-Boot uImage", false),
    kind(0, b"\xd0\x0d\xfe\xed", "a device tree or FIT image", false),
    kind(0, b"hsqs", "a squashfs file system", true),
    kind(0x438, b"\x53\xef", "an ext4 file system", true),
    kind(0x101, b"ustar", "a tar archive", false),
    kind(0, b"-----BEGIN", "a PEM file", false),
    kind(0, b"#!", "a script", false),
    kind(0, b"ANDROID!", "an Android boot image", false),
    kind(0, b"!<arch>\n", "an archive (.a or .deb)", false),
    kind(0, b"QFI\xfb", "a qcow2 disk", false),
    kind(0x1fe, b"\x55\xaa", "a disk with a partition table", false),
];

/// First instruction word of a file, as far as it matters here: the byte that says "branch".
const BRANCH: u8 = 0x14;

fn find(bytes: &[u8]) -> Option<&'static Kind> {
    let kind = KINDS
        .iter()
        .find(|k| bytes.get(usize::from(k.offset)..).is_some_and(|rest| rest.starts_with(k.magic())))?;
    // Three bytes of lzma are also those of a branch forward, with which many a flat binary begins. No lzma has
    // this for a fourth: it is the size of its dictionary, a power of two or three of them.
    (kind.name != "lzma" || bytes.get(3) != Some(&BRANCH)).then_some(kind)
}

/// What a file is, in words, where its bytes say so.
pub fn name(bytes: &[u8]) -> Option<&'static str> {
    match find(bytes) {
        Some(kind) => Some(kind.name),
        None if bytes.is_empty() => Some("empty"),
        None if is_blank(bytes) => Some("all zeroes"),
        None if bytes.iter().take(512).all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace()) => {
            Some("text")
        }
        None => None,
    }
}

/// What a file looks like, in words.
pub fn looks_like(bytes: &[u8]) -> &'static str {
    name(bytes).unwrap_or("nothing that Mezzanine knows")
}

/// Whether Linux can use a file as its initrd.
pub fn is_initrd(bytes: &[u8]) -> bool {
    find(bytes).is_some_and(|k| k.initrd)
}

/// Whether there is nothing at the start of a file: all zeroes, as memory is where nobody put a file.
pub fn is_blank(bytes: &[u8]) -> bool {
    bytes.iter().take(4096).all(|&b| b == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_files_by_their_names() {
        let mut image = [0u8; 64];
        image[..2].copy_from_slice(b"MZ");
        assert!(looks_like(&image).starts_with("an EFI"));
        image[56..60].copy_from_slice(b"ARM\x64");
        assert_eq!(looks_like(&image), "an arm64 Linux Image");
        let mut bz = vec![0u8; 0x300];
        bz[0x202..0x206].copy_from_slice(b"HdrS");
        assert_eq!(looks_like(&bz), "an x86 bzImage");
        assert_eq!(looks_like(b"\x7fELF\x02"), "an ELF file");
        assert_eq!(looks_like(b""), "empty");
        assert_eq!(looks_like(&[0; 99]), "all zeroes");
        assert_eq!(looks_like(b"console=ttyAMA0\n"), "text");
        assert_eq!(looks_like(b"\x91\x92\x93"), "nothing that Mezzanine knows");
        assert_eq!(looks_like(b"\x5d\0\0\x80\0\xff"), "lzma");
        assert_eq!(name(b"\x5d\0\0\x14\x1f\x20\x03\xd5"), None, "a branch");
        let mut disk = vec![0u8; 512];
        disk[510..].copy_from_slice(b"\x55\xaa");
        assert_eq!(looks_like(&disk), "a disk with a partition table");
        assert!(is_initrd(b"070701") && is_initrd(b"\x1f\x8b\x08") && !is_initrd(b"\x7fELF"));
    }
}
