//! ID registers as guests read them.
