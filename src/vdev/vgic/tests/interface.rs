//! The CPU interface in software.
