//! Exceptions that EL2 gives a guest.
