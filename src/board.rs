//! What a device tree cannot say.
