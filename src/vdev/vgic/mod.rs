//! The interrupt controller as guests see it: stub to be replaced.
