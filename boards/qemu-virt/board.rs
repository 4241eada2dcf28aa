//! QEMU's `virt` machine: its tree says everything, as long as there is one.

use crate::addr::HostPhysAddr;
use crate::board::Board;
use crate::fdt::Conduit;

/// QEMU's `virt` machine.
pub(super) const BOARD: Board = Board {
    name: "qemu-virt",
    compatible: "linux,dummy-virt",
    early_pl011: Some(HostPhysAddr::at(0x0900_0000)),
    conduit: Some(Conduit::Smc),
};
