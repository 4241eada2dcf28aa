//! Members of a newc archive, one by one.
//!
//! Written here because a bundle is read at EL2: the readers that there are sum up each byte of each file,
//! asked to or not, and three instructions a byte of a kernel and its initrd were two thirds of a start.
//! Format: Linux, Documentation/driver-api/early-userspace/buffer-format.rst; "070702" is "070701" with sums.

/// Bytes of a member's header: the magic number and thirteen fields of eight hexadecimal digits.
pub(super) const HEADER_SIZE: usize = 110;

/// Name of the member that ends an archive.
pub(super) const TRAILER: &str = "TRAILER!!!";

const MAGIC: &[u8] = b"070701";
const MAGIC_SUMS: &[u8] = b"070702";

/// `c_mode`: the type of a file, and the one that has no sum.
const TYPE: u32 = 0o170_000;
const SYMBOLIC_LINK: u32 = 0o120_000;

/// A member.
pub(super) struct Member<'a> {
    /// Its name, up to the first NUL: what follows to the next multiple of four is padding, and may be more.
    pub(super) name: &'a str,
    /// Its data.
    pub(super) data: &'a [u8],
    /// Inode, and major and minor number of the device, of a file with more names than one.
    pub(super) inode: Option<(u32, u32, u32)>,
    /// Where the next member starts.
    pub(super) next: usize,
}

/// Whether a member starts at `at`, to go by its first bytes.
pub(super) fn starts(archive: &[u8], at: usize) -> bool {
    archive.get(at..).is_some_and(|rest| rest.starts_with(MAGIC) || rest.starts_with(MAGIC_SUMS))
}

/// The member at `at`; `None` if there is none, or not all of it, or not as it was.
pub(super) fn member(archive: &[u8], at: usize) -> Option<Member<'_>> {
    if !starts(archive, at) {
        return None;
    }
    let header = archive.get(at..at.checked_add(HEADER_SIZE)?)?;
    let (magic, digits) = header.split_at_checked(MAGIC.len())?;
    let mut fields = [0; 13];
    for (field, digits) in fields.iter_mut().zip(digits.chunks_exact(8)) {
        *field = hexadecimal(digits)?;
    }
    let [inode, mode, _, _, links, _, size, major, minor, _, _, name_size, sum] = fields;
    let name_at = at.checked_add(HEADER_SIZE)?;
    let name_end = name_at.checked_add(name_size as usize)?;
    let name = archive.get(name_at..name_end)?;
    let name = name.get(..name.iter().position(|&b| b == 0)?)?;
    let data_at = name_end.checked_next_multiple_of(4)?;
    let data_end = data_at.checked_add(size as usize)?;
    let data = archive.get(data_at..data_end)?;
    if magic == MAGIC_SUMS && mode & TYPE != SYMBOLIC_LINK && sum != sum_of(data) {
        return None;
    }
    Some(Member {
        name: core::str::from_utf8(name).ok()?,
        data,
        inode: (links > 1).then_some((inode, major, minor)),
        next: data_end.checked_next_multiple_of(4)?,
    })
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, &digit| Some(sum << 4 | char::from(digit).to_digit(16)?))
}

fn sum_of(data: &[u8]) -> u32 {
    data.iter().fold(0, |sum, &byte| sum.wrapping_add(u32::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::vec::Vec;

    /// A member by hand: fields by their number, name and data as they lie.
    fn member_with(magic: &[u8], change: &[(usize, u32)], name: &[u8], data: &[u8]) -> Vec<u8> {
        let mut fields = [7, 0o100_644, 0, 0, 1, 0, data.len() as u32, 8, 9, 0, 0, name.len() as u32, 0];
        change.iter().for_each(|(n, value)| fields[*n] = *value);
        let mut out = magic.to_vec();
        fields.iter().for_each(|field| out.extend(format!("{field:08X}").bytes()));
        out.extend(name);
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(data);
        out.resize(out.len().next_multiple_of(4), 0);
        out
    }

    #[test]
    fn a_member_has_what_was_put_in() {
        for (name, data) in
            [(&b"a\0"[..], &b"12345"[..]), (b"dir/file\0\0\0\0\0\0\0\0\0", b""), (b"\0", b"x")]
        {
            let mut archive = b"0000".to_vec();
            archive.extend(member_with(MAGIC, &[], name, data));
            let found = member(&archive, 4).unwrap();
            let expected = name.split(|&b| b == 0).next().unwrap();
            assert_eq!((found.name.as_bytes(), found.data), (expected, data));
            assert_eq!((found.inode, found.next), (None, archive.len()));
            assert!(member(&archive, 0).is_none() && member(&archive, archive.len()).is_none());
            // Without its padding at the end it still is all there.
            assert!(member(&archive[..archive.len() - (4 - data.len() % 4) % 4], 4).is_some());
        }
        let linked = member_with(MAGIC, &[(4, 2)], b"a\0", b"");
        assert_eq!(member(&linked, 0).unwrap().inode, Some((7, 8, 9)));
    }

    #[test]
    fn a_member_cut_short_or_with_senseless_fields_is_none() {
        let whole = member_with(MAGIC, &[], b"name\0", b"12345678");
        assert!(member(&whole, 0).is_some());
        for cut in 0..whole.len() {
            assert!(member(&whole[..cut], 0).is_none(), "{cut}");
        }
        let is_none = |change: &[(usize, u32)], name: &[u8]| {
            member(&member_with(MAGIC, change, name, b"1234"), 0).is_none()
        };
        assert!(is_none(&[(6, 5)], b"name\0") && is_none(&[(6, u32::MAX)], b"name\0"));
        assert!(is_none(&[(11, 0)], b"name\0") && is_none(&[(11, u32::MAX)], b"name\0"));
        assert!(is_none(&[], b"no end") && is_none(&[], b"\xff\0"));
        for bad in [b'g', b'+', b' ', 0, 0xff] {
            let mut archive = whole.clone();
            archive[60] = bad;
            assert!(member(&archive, 0).is_none(), "{bad}");
        }
    }

    #[test]
    fn sums_are_checked_where_there_are_any() {
        let sum = |sum, mode| {
            member(&member_with(MAGIC_SUMS, &[(1, mode), (12, sum)], b"a\0", b"\x01\xff"), 0).is_some()
        };
        assert!(sum(0x100, 0o100_644) && !sum(0x101, 0o100_644) && sum(0x101, 0o120_777));
        assert!(member(&member_with(MAGIC, &[(12, 9)], b"a\0", b"\x01"), 0).is_some());
    }
}
