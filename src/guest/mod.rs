//! What a guest is made of: the map of its machine, the images it starts from, and where they go.

pub mod gzip;
pub mod image;
pub mod layout;
pub mod linux;

pub use layout::{Layout, Loader, load};
