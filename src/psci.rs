//! Power state coordination.
