//! The console against a scripted line.
