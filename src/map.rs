//! The guest's machine: where everything lies, written once.
//!
//! A subset of QEMU's `virt`, register for register (QEMU, hw/arm/virt.c, the table of memory regions;
//! docs/guest-memory-map.md). Devices, the tree that guests read and the loader all take it from here.

use crate::addr::{Address, GuestPhysAddr, GuestRange};

/// Which interrupt controller a guest sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GicVersion {
    /// GICv2: at most 8 vCPUs, CPU interface in memory.
    V2,
    /// GICv3: CPU interface in system registers, a redistributor for each vCPU.
    V3,
}

impl GicVersion {
    /// The most vCPUs that a VM with this controller has.
    pub const fn max_vcpus(self) -> u16 {
        match self {
            Self::V2 => 8,
            Self::V3 => MAX_VCPUS,
        }
    }
}

/// The most vCPUs of any VM.
pub const MAX_VCPUS: u16 = 64;

/// First bank of flash: the ROM that a VM with firmware starts from, at address 0.
pub const FLASH0: GuestRange = GuestRange::at(0, 64 << 20);
/// Second bank, where firmware for `virt` keeps its variables: erased, for good.
pub const FLASH1: GuestRange = GuestRange::at(64 << 20, 64 << 20);
/// Distributor, for either GIC.
pub const GICD: GuestRange = GuestRange::at(0x0800_0000, 0x1_0000);
/// CPU interface of GICv2.
pub const GICC: GuestRange = GuestRange::at(0x0801_0000, 0x1_0000);
/// First redistributor frame of GICv3; each vCPU has [`GICR_STRIDE`] bytes.
pub const GICR_BASE: GuestPhysAddr = GuestPhysAddr::at(0x080a_0000);
/// Bytes from one vCPU's redistributor to the next: RD_base and SGI_base.
pub const GICR_STRIDE: u64 = 0x2_0000;
/// Serial line.
pub const UART: GuestRange = GuestRange::at(0x0900_0000, 0x1000);
/// Interrupt of [`UART`], as SPI number.
pub const UART_SPI: u16 = 1;
/// PL031 clock.
pub const RTC: GuestRange = GuestRange::at(0x0901_0000, 0x1000);
/// Interrupt of [`RTC`], as SPI number.
pub const RTC_SPI: u16 = 2;
/// PL061, whose line 3 is the power key.
pub const PL061: GuestRange = GuestRange::at(0x0903_0000, 0x1000);
/// Interrupt of [`PL061`], as SPI number.
pub const PL061_SPI: u16 = 7;
/// PV_TIME records (DEN0057), [`PV_TIME_STRIDE`] bytes a vCPU; not part of `/memory`.
pub const PV_TIME: GuestRange = GuestRange::at(0x090a_0000, 0x1_0000);
/// Bytes of one vCPU's PV_TIME record.
pub const PV_TIME_STRIDE: u64 = 64;
/// First virtio-mmio transport.
pub const VIRTIO_BASE: GuestPhysAddr = GuestPhysAddr::at(0x0a00_0000);
/// Bytes from one transport to the next.
pub const VIRTIO_STRIDE: u64 = 0x200;
/// Transports.
pub const VIRTIO_COUNT: u16 = 32;
/// Interrupt of the first transport, as SPI number; the others follow.
pub const VIRTIO_SPI: u16 = 16;
/// Start of RAM.
pub const RAM_BASE: GuestPhysAddr = GuestPhysAddr::at(0x4000_0000);
/// Bytes at the start of RAM that the tree may take.
pub const TREE_MAX: u64 = 512 << 10;

/// All redistributors of a VM with `vcpus` vCPUs.
pub fn gicr(vcpus: u16) -> GuestRange {
    span(GICR_BASE, GICR_STRIDE.wrapping_mul(u64::from(vcpus.min(MAX_VCPUS))))
}

/// Transport `n`, if there is one.
pub fn virtio(n: u16) -> Option<GuestRange> {
    let offset = VIRTIO_STRIDE.wrapping_mul(u64::from(n));
    (n < VIRTIO_COUNT).then(|| span(GuestPhysAddr::at(VIRTIO_BASE.raw().wrapping_add(offset)), VIRTIO_STRIDE))
}

/// Affinity of vCPU `n` (MPIDR_EL1 bits 39:32 and 23:0): as `virt` gives it, so that every SGI target list
/// reaches all of a cluster.
pub const fn affinity(n: u16, gic: GicVersion) -> u64 {
    let per_cluster = match gic {
        GicVersion::V2 => 8,
        GicVersion::V3 => 16,
    };
    (((n / per_cluster) as u64) << 8) | (n % per_cluster) as u64
}

/// MPIDR_EL1 of vCPU `n`: its [`affinity`] and bit 31, which is RES1 (Arm ARM, MPIDR_EL1).
pub const fn mpidr(n: u16, gic: GicVersion) -> u64 {
    affinity(n, gic) | 1 << 31
}

fn span(start: GuestPhysAddr, size: u64) -> GuestRange {
    GuestRange::between(start, GuestPhysAddr::at(start.raw().wrapping_add(size)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps() {
        let mut all = vec![FLASH0, FLASH1, GICD, GICC, gicr(MAX_VCPUS), UART, RTC, PL061, PV_TIME];
        all.extend((0..VIRTIO_COUNT).filter_map(virtio));
        all.push(GuestRange::new(RAM_BASE, 1 << 30).unwrap());
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| !a.overlaps(b)), "{a:?}");
        }
        assert!(u64::from(MAX_VCPUS) * PV_TIME_STRIDE <= PV_TIME.size());
    }

    #[test]
    fn affinity_is_that_of_virt() {
        assert_eq!(affinity(17, GicVersion::V3), 0x101);
        assert_eq!(affinity(7, GicVersion::V2), 7);
        assert_eq!(mpidr(16, GicVersion::V3), 0x8000_0100);
        assert_eq!(virtio(31).unwrap().start(), GuestPhysAddr::at(0x0a00_3e00));
        assert_eq!(virtio(32), None);
    }
}
