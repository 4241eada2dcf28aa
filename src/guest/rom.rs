//! Firmware: a ROM image that a VM finds at address 0 and starts from.
//!
//! The map is that of `virt` with `-bios`: the first bank of flash holds the image, the second is where firmware
//! keeps its variables. All of both that is not the image reads as erased flash does, and nothing can be
//! written: a store is answered with an external abort, as anywhere else where nothing takes it.

use super::{flat, image};
use crate::addr::BLOCK_2M;
use crate::config::Bytes;
use crate::map::FLASH0;
use crate::problem;
use crate::problem::Problem;
use alloc::format;

/// What erased flash reads as.
pub const ERASED: u8 = 0xff;

/// Checks a ROM image; `place` is the VM's, for messages.
///
/// # Errors
/// E0421 it does not start with an instruction, E0430 too large, E0431 empty, or another kind of file.
pub fn check(file: &[u8], place: &str) -> Result<(), Problem> {
    let place = format!("{place} firmware");
    if file.len() as u64 > FLASH0.size() {
        return Err(problem!("E0430", ("{place}"); ("{} are too much", Bytes(file.len() as u64));
            ("The ROM has {}", Bytes(FLASH0.size()))));
    }
    if let Some(kind) = image::name(file) {
        return Err(problem!("E0431", ("{place}"); ("it is {kind}");
            ("Give a raw ROM image, such as U-Boot's u-boot.bin")));
    }
    flat::check(file, &place)
}

/// Bytes of host memory that a ROM image takes: its blocks, and one that is erased and shown everywhere else.
pub fn host_bytes(file: &[u8]) -> u64 {
    (file.len() as u64).next_multiple_of(BLOCK_2M).saturating_add(BLOCK_2M)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// A ROM image of `size` bytes.
    fn rom(size: usize) -> Vec<u8> {
        let mut rom = vec![0x55; size];
        rom[..4].copy_from_slice(&0x1400_0010u32.to_le_bytes());
        rom
    }

    #[test]
    fn wrong_firmware_is_named() {
        let say = |file: &[u8]| check(file, "vm.a").unwrap_err().to_string();
        assert_eq!(check(&rom(64 << 20), "vm.a"), Ok(()));
        assert!(
            say(&rom((64 << 20) + 1))
                .starts_with("E0430 vm.a firmware: 67108865 bytes are too much. The ROM has 64M.")
        );
        assert!(say(b"").starts_with("E0431 vm.a firmware: it is empty."));
        assert!(say(&[0; 9]).starts_with("E0431 vm.a firmware: it is all zeroes."));
        assert!(say(b"\x7fELF\x02").starts_with("E0431 vm.a firmware: it is an ELF file."));
        let mut image = rom(100);
        image[56..60].copy_from_slice(b"ARM\x64");
        assert!(say(&image).starts_with("E0431 vm.a firmware: it is an arm64 Linux Image."));
        assert!(say(&[0xff; 100]).starts_with("E0421 vm.a firmware: nothing that Mezzanine knows, and"));
    }

    #[test]
    fn memory_goes_by_blocks_of_2_mib() {
        assert_eq!(host_bytes(&[1]), 4 << 20);
        assert_eq!(host_bytes(&rom(2 << 20)), 4 << 20);
        assert_eq!(host_bytes(&rom((2 << 20) + 1)), 6 << 20);
    }
}
