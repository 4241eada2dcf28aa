//! SMC calling convention: who answers what.
