//! A new life of a vCPU, or of all of a VM's interrupt controller.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::bank::Bits;
use super::{Cpu, Vgic, lr};
use crate::vcpu::{Lists, VcpuId};
use core::sync::atomic::Ordering;

impl Vgic {
    /// A new life for `me` (PSCI CPU_ON, or creation): its CPU interface is as after reset.
    ///
    /// The redistributor keeps what was written to it, as on hardware: another vCPU may have set it up. What
    /// the list registers held goes back into the model; unlike [`unload`](Self::unload), they count as
    /// never having been on a CPU.
    pub fn reset_cpu(&self, me: VcpuId, lists: &mut Lists) {
        self.unload(me, lists);
        let all = 0xffff_u32.wrapping_shr(16u32.wrapping_sub(self.lists)) as u16;
        *lists = Lists {
            dirty: all,
            hcr: lr::HCR_EN,
            hcr_dirty: true,
            vmcr: self.vmcr_reset,
            parked: lists.parked,
            emulated: self.emulated,
            ..Lists::default()
        };
        if let Some(cpu) = self.cpu(me) {
            self.orphan(me, cpu);
            cpu.look_later();
        }
    }

    /// Nobody will end what is active at `me`: what it is, it is as if by ISACTIVER.
    fn orphan(&self, me: VcpuId, cpu: &Cpu) {
        let mut private = cpu.private.lock();
        private.bank.orphan(u32::MAX);
        let mut spis = self.spis.lock();
        for n in Bits(cpu.spi_banks.load(Ordering::Relaxed)) {
            let lanes = spis.queue(me.0 as u8, n as usize);
            if let Some(here) = spis.banks.get_mut(n as usize) {
                here.bank.orphan(lanes);
            }
        }
    }

    /// Everything as after reset but the lines of devices; the VM must not be running. `reset_cpu` of each
    /// vCPU goes with it, before or after.
    pub fn reset(&self) {
        self.groups.store(0, Ordering::Relaxed);
        self.owing.store(0, Ordering::Relaxed);
        self.awake.store(0, Ordering::Relaxed);
        for cpu in &self.cpus {
            cpu.private.lock().reset();
            cpu.asleep.store(true, Ordering::Relaxed);
            cpu.attention.store(true, Ordering::Release);
        }
        let mut spis = self.spis.lock();
        spis.reset(self.reset_target());
        for cpu in &self.cpus {
            cpu.spi_banks.store(0, Ordering::Release);
        }
    }
}
