//! The vGIC on a CPU interface that does to list registers what the hardware does.

mod hardware;
mod model;
mod random;
mod rules;
