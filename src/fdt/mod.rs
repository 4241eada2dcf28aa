//! Reads the machine's tree, writes a guest's.
