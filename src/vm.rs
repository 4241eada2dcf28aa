//! A VM and what it owns.
