//! The vGIC on a CPU interface that does to list registers what the hardware does.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::precedence,
    reason = "tests may fail"
)]

mod agreement;
mod arrays;
mod attention;
mod checks;
mod emulated;
mod found;
mod guest;
mod hardware;
mod icc;
mod interface;
mod lagging;
mod linked;
mod model;
mod nonsense;
mod ops;
mod port;
mod random;
mod rules;
mod sources;
mod steps;
mod v2;
mod v3;
mod views;
mod vm;
