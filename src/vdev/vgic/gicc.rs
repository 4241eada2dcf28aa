//! GICC: the CPU interface that a GICv2 guest sees (IHI 0048B, 4.4 and 5.5).

use super::{Access, Outcome, Vgic};
use crate::vcpu::Lists;
use crate::vdev::AccessError;

impl Vgic {
    /// A load (`write` is `None`) or store.
    pub(super) fn gicc(&self, _access: Access, _write: Option<u64>, _lists: &mut Lists) -> Outcome {
        Outcome::Refused(AccessError::NoRegister)
    }
}
