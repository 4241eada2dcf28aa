//! What a guest is made of: the map of its machine, and the images it starts from.

pub mod map;
