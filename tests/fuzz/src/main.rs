//! libFuzzer over one target, which MEZZ_FUZZ names.
#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

static TARGET: OnceLock<targets::Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("MEZZ_FUZZ").unwrap_or_default();
        let Some(target) = targets::find(&name) else {
            let known: Vec<&str> = targets::ALL.iter().map(|(name, _)| *name).collect();
            eprintln!("MEZZ_FUZZ names the target: one of {}", known.join(", "));
            std::process::exit(2);
        };
        let _ = TARGET.set(target);
    },
    |data: &[u8]| {
        if let Some(target) = TARGET.get() {
            target(data);
        }
    }
);
