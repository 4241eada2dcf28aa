//! The machine's own interrupt controller. What guests see is [`crate::vdev::vgic`].

pub(super) mod v3;
