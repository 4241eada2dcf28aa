//! Each CPU's loop.
