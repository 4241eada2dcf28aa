//! How guests arrive.
