//! The firmware's random numbers.
