//! What a guest is made of: the images it starts from, and where they go.
//!
//! A new format of kernels is a file here and a line in [`kernel`].

pub mod elf;
pub mod flat;
pub mod gzip;
pub mod image;
pub mod kernel;
pub mod layout;
pub mod linux;
pub mod rom;

pub use layout::{Layout, Loader, load};
