//! The machine's own interrupt controller. What guests see is [`crate::vdev::vgic`].
//!
//! Everything that depends on its version lies in this folder: `cpu.rs` asks for acknowledge, done, list
//! registers and kicks, whatever stands behind them. A second version makes [`Gic`] an enum of both.

mod v3;

use crate::fdt;
use crate::map::GicVersion;
use crate::problem;
use crate::problem::Problem;
pub(super) use v3::Gic;

/// The versions that guests can be shown on this machine, the one that they get unasked first.
pub(super) const SHOWN: &[GicVersion] = &[GicVersion::V3];

/// Brings up the controller of the tree for the CPU with this affinity; the distributor with the `first`.
///
/// # Errors
/// E0132: none that we drive; E0133: it has nothing for this CPU.
///
/// # Safety
/// What the tree says of it is true and mapped as device memory for good.
pub(super) unsafe fn open(gic: &fdt::Gic, affinity: u64, first: bool) -> Result<Gic, Problem> {
    match gic {
        fdt::Gic::V3 { dist, redistributors, .. } => {
            // SAFETY: the caller says so.
            unsafe { Gic::new(*dist, redistributors, affinity, first) }.ok_or_else(|| {
                problem!("E0133", ("/intc reg"); ("no redistributor for CPU {affinity:#x}"); ("One GICR frame for each CPU"))
            })
        }
        fdt::Gic::V2 { .. } | fdt::Gic::None => {
            Err(problem!("E0132", ("/ interrupt controller"); ("no GICv3");
            ("Mezzanine needs a GICv3 so far: on QEMU, gic-version=3")))
        }
    }
}
