//! The ROM of a VM with firmware: made of host memory, filled, and shown to the guest read-only.

use super::Maker;
use crate::addr::{Address, BLOCK_2M, GuestPhysAddr, GuestRange, PAGE_SIZE};
use crate::config::{Bytes, VmConfig};
use crate::guest::rom::{ERASED, host_bytes};
use crate::machine::Machine;
use crate::map::{FLASH0, FLASH1};
use crate::problem;
use crate::problem::Problem;
use crate::ram::GuestRam;
use crate::stage2::{Rights, Stage2};

impl<M: Machine> Maker<'_, M> {
    /// Makes the ROM of a VM that has firmware, and maps it and all of both banks of flash.
    ///
    /// # Errors
    /// E0433 if there is no memory for it.
    #[inline(never)]
    pub(super) fn rom(
        &mut self,
        config: &VmConfig<'_>,
        stage2: &mut Stage2,
    ) -> Result<Option<GuestRam>, Problem> {
        let Some(image) = config.firmware else { return Ok(None) };
        let rom = self.flash(image, stage2);
        if rom.is_none() {
            return Err(problem!("E0433", ("{} firmware", config.place);
                ("{} are not free for its ROM", Bytes(host_bytes(image)));
                ("Give the machine more RAM, or its VMs less")));
        }
        Ok(rom)
    }

    /// The image in blocks of 2 MiB from 0 on; everywhere else one and the same erased block.
    fn flash(&mut self, image: &[u8], stage2: &mut Stage2) -> Option<GuestRam> {
        let rom = self.free.guest_ram(FLASH0.start(), host_bytes(image))?;
        fill(&rom, image)?;
        for (_, chunk) in rom.chunks() {
            self.machine.publish(chunk);
        }
        let erased = GuestPhysAddr::at(rom.range().end().raw().checked_sub(BLOCK_2M)?);
        let mut at = FLASH0.start();
        while at < FLASH1.end() {
            let rights = if at < erased { Rights::Rom } else { Rights::ReadOnly };
            let block = rom.host_ranges(GuestRange::new(at.min(erased), BLOCK_2M)?).ok()?.next()?;
            let flush = stage2.map(at, block, rights, &mut self.free.tables()).ok()?;
            self.machine.flush(flush);
            at = at.checked_add(BLOCK_2M)?;
        }
        Some(rom)
    }
}

/// Writes what erased flash reads as, and the image over it.
fn fill(rom: &GuestRam, image: &[u8]) -> Option<()> {
    let erased = alloc::vec![ERASED; PAGE_SIZE as usize];
    for offset in (0..rom.range().size()).step_by(erased.len()) {
        rom.write(rom.range().start().checked_add(offset)?, &erased).ok()?;
    }
    rom.write(rom.range().start(), image).ok()
}
