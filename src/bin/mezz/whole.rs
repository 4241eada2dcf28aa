//! Whether guests' files are whole: they are loaded as at EL2, into nowhere.
//!
//! A look at a header is not enough for the tool, whose word is that what passes here is not refused there. What
//! gzip holds shows at its end alone, and of an Image cut short nobody else would ever say so: its guest would run
//! into zeroes.

use mezzanine::addr::GuestRange;
use mezzanine::config::{Bytes, Findings, VmConfig};
use mezzanine::guest::{Layout, load};
use mezzanine::map::RAM_BASE;
use mezzanine::problem;
use mezzanine::problem::Problem;

/// RAM in which every file has room that is not too large for any: what does not fit was said before.
const PLENTY: u64 = 64 << 30;
/// Bytes of a kernel that are looked at for its headers.
const HEADERS: usize = 4096;

/// Finds what is wrong with the files of guests beyond their first bytes: E0403, E0404, E0407, E0426.
pub(crate) fn check(vms: &[VmConfig<'_>], found: &mut Findings) {
    let mut whole: Vec<&[u8]> = Vec::new();
    for vm in vms {
        let Some(kernel) = vm.kernel.filter(|kernel| !whole.contains(kernel)) else { continue };
        if found.take(loaded(&VmConfig { initrd: None, ..vm.clone() })).is_some() {
            whole.push(kernel);
        }
    }
}

/// Loads the kernel of a guest; fine as well where that cannot be planned, which is others' to say.
fn loaded(vm: &VmConfig<'_>) -> Result<(), Problem> {
    let Some(ram) = GuestRange::new(RAM_BASE, PLENTY) else { return Ok(()) };
    let Ok(layout) = Layout::plan(vm, ram) else { return Ok(()) };
    let (mut headers, mut size) = (Vec::new(), 0u64);
    load(vm, &layout, &mut |_, bytes| {
        let room = HEADERS.saturating_sub(headers.len());
        headers.extend(bytes.iter().take(room));
        size = size.saturating_add(bytes.len() as u64);
        Ok(())
    })?;
    match stated(&headers).filter(|stated| *stated > size) {
        Some(stated) => Err(problem!("E0426", ("{} kernel", vm.place);
            ("cut short: it has {}, and its sections take {}", Bytes(size), Bytes(stated));
            ("Copy or download the whole file"))),
        None => Ok(()),
    }
}

/// Bytes that a file takes by its PE section headers (Microsoft, PE Format): a kernel with CONFIG_EFI has them, as
/// UEFI starts it by those. `None` for a file without.
fn stated(file: &[u8]) -> Option<u64> {
    let word = |at: usize| Some(u32::from_le_bytes(file.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_le_bytes(file.get(at..at.checked_add(2)?)?.try_into().ok()?));
    let coff = usize::try_from(word(0x3c)?).ok()?;
    if !file.starts_with(b"MZ") || !file.get(coff..)?.starts_with(b"PE\0\0") {
        return None;
    }
    let sections = coff.checked_add(24)?.checked_add(usize::from(half(coff.checked_add(20)?)?))?;
    let end = |n: usize| {
        let header = n.checked_mul(40)?.checked_add(sections)?;
        Some(u64::from(word(header.checked_add(16)?)?) + u64::from(word(header.checked_add(20)?)?))
    };
    (0..usize::from(half(coff.checked_add(6)?)?)).filter_map(end).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of an Image with a PE header at 64 and two sections, the last of which ends at `end`.
    fn image(size: usize, end: u32) -> Vec<u8> {
        let mut image = vec![0; size];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, b"MZ");
        put(16, &(6u64 << 20).to_le_bytes());
        put(56, b"ARM\x64");
        put(60, &64u32.to_le_bytes());
        put(64, b"PE\0\0");
        put(70, &2u16.to_le_bytes());
        put(84, &160u16.to_le_bytes());
        put(248 + 16, &0x1000u32.to_le_bytes());
        put(248 + 20, &0x1000u32.to_le_bytes());
        put(288 + 16, &(end - 0x2000).to_le_bytes());
        put(288 + 20, &0x2000u32.to_le_bytes());
        image
    }

    fn said(kernel: &[u8]) -> Vec<String> {
        let mut found = Findings::default();
        check(&[VmConfig { kernel: Some(kernel), ..VmConfig::named("a") }], &mut found);
        found.errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_image_is_as_long_as_its_sections() {
        let whole = image(0x4000, 0x4000);
        assert_eq!(said(&whole), [""; 0]);
        assert_eq!(said(&[&whole[..], b"signature"].concat()), [""; 0]);
        assert_eq!(
            said(&whole[..0x3fff]),
            ["E0426 vm.a kernel: cut short: it has 16383 bytes, and its sections take 16K. \
              Copy or download the whole file."]
        );
    }

    #[test]
    fn damaged_headers_are_survived() {
        let whole = image(0x4000, 0x4000);
        for at in 60..330 {
            let mut damaged = whole.clone();
            damaged[at] = 0xff;
            let _ = said(&damaged);
        }
        for cut in 64..400 {
            let _ = said(&whole[..cut]);
        }
    }
}
