//! The vGIC on a CPU interface that does to list registers what the hardware does.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::precedence,
    reason = "tests may fail"
)]

mod hardware;
mod interface;
mod model;
mod random;
mod rules;
