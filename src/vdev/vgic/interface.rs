//! A virtual CPU interface in software, for where the hardware has none.
//!
//! It does with [`Lists`] what the hardware does with its list registers (IHI 0069, 6.3), so that the rest of
//! the vGIC need not know who does it. GICv2 guests reach it by [`gicc`](super::gicc), GICv3 guests by
//! [`icc`](super::icc).

use crate::vcpu::Lists;

impl Lists {
    /// Works out what is signalled to the guest: [`signalled`](Self::signalled).
    pub(super) fn signal(&mut self) {
        self.signalled = 0;
    }
}
