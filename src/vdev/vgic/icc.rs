//! ICC_*_EL1: the CPU interface that a GICv3 guest sees, where it traps (IHI 0069, 12.2).

use super::{Outcome, Vgic};
use crate::exit::SysRegId;
use crate::vcpu::{Lists, VcpuId};

impl Vgic {
    /// A trapped read (`write` is `None`) or write of an ICC register by `me`; `None` if it is UNDEFINED.
    pub fn icc(
        &self,
        _me: VcpuId,
        _reg: SysRegId,
        _write: Option<u64>,
        lists: &mut Lists,
    ) -> Option<Outcome> {
        lists.signal();
        None
    }
}
