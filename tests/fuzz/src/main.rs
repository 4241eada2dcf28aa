//! libFuzzer over one target, which MEZZ_FUZZ names.
#![no_main]

// The tool's reader of configurations is no part of the library.
#[allow(dead_code, reason = "the rest of the tool is not here")]
#[path = "../../../src/bin/mezz/report.rs"]
mod report;
#[allow(dead_code, reason = "the rest of the tool is not here")]
#[path = "../../../src/bin/mezz/size.rs"]
mod size;
#[allow(dead_code, reason = "the rest of the tool is not here")]
#[path = "../../../src/bin/mezz/spec.rs"]
mod spec;
#[path = "../targets/mod.rs"]
mod targets;
#[allow(dead_code, reason = "the rest of the tool is not here")]
#[path = "../../../src/bin/mezz/toml_config/mod.rs"]
mod toml_config;

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::sync::OnceLock;

static TARGET: OnceLock<targets::Target> = OnceLock::new();

fuzz_target!(
    init: {
        let name = std::env::var("MEZZ_FUZZ").unwrap_or_default();
        let target = if name == "toml" { Some(configuration as targets::Target) } else { targets::find(&name) };
        let Some(target) = target else {
            let known: Vec<&str> = targets::ALL.iter().map(|(name, _)| *name).collect();
            eprintln!("MEZZ_FUZZ names the target: toml or one of {}", known.join(", "));
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

/// Any text as a configuration, and the errors drawn at their lines. Its paths lead nowhere.
fn configuration(data: &[u8]) {
    let text = String::from_utf8_lossy(data).replace(['/', '\\'], "|");
    let (spec, mut reports) = toml_config::parse("fuzz.toml".into(), text, Path::new("nowhere"));
    reports.extend(spec.iter().flat_map(|spec| spec.check(None)));
    if let Err(reports) = report::Reports::settle(reports) {
        assert!(!reports.to_string().is_empty());
    }
}
