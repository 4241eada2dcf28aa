//! The GICv2 face: the distributor (IHI 0048B, 4.3).

use super::{Access, Outcome, Vgic};
use crate::vcpu::Lists;
use crate::vdev::AccessError;

impl Vgic {
    /// A load.
    pub(super) fn read_v2(&self, _access: Access, _lists: &Lists) -> Outcome {
        Outcome::Refused(AccessError::NoRegister)
    }

    /// A store.
    pub(super) fn write_v2(&self, _access: Access, _value: u64) -> Outcome {
        Outcome::Refused(AccessError::NoRegister)
    }
}
