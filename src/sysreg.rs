//! Trapped MSR and MRS.
