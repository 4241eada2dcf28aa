//! CPU models: the default, and those that can never work.

use crate::report::Report;

/// The Raspberry Pi 4's core. What boots on it boots there; it has neither VHE nor anything newer than
/// v8.0, so nothing that Mezzanine hides from guests is at hand by accident; and QEMU runs it fast, without
/// the pointer authentication that slows `max` down.
pub(crate) const DEFAULT: &str = "cortex-a72";

/// 32-bit models that QEMU's 64-bit binary lists too; `virt` even starts some of them.
const AARCH32: [&str; 14] = [
    "arm",
    "cortex-a7",
    "cortex-a8",
    "cortex-a9",
    "cortex-a15",
    "cortex-m",
    "cortex-r5",
    "cortex-r52",
    "pxa",
    "sa1100",
    "sa1110",
    "strongarm",
    "ti925t",
    "any",
];

/// Refuses a model (with its properties, `max,sve=off`) on which no 64-bit EL2 exists.
pub(crate) fn check(model: &str) -> Result<(), Report> {
    let mut parts = model.split(',');
    let name = parts.next().unwrap_or_default();
    let families = ["arm", "cortex-m", "pxa", "ti925t"];
    let aarch32 = AARCH32.contains(&name) || families.iter().any(|family| name.starts_with(family));
    if name.is_empty() || aarch32 || parts.any(|property| property == "aarch64=off") {
        return Err(Report::new("E0509", format!("CPU model `{model}` has no 64-bit EL2"))
            .help("use cortex-a53, cortex-a57, cortex-a72, cortex-a76, neoverse-n1 or max"));
    }
    Ok(())
}

/// A model's `compatible` in a device tree, as QEMU's own tree has it.
pub(crate) fn compatible(model: &str) -> String {
    match model.split(',').next() {
        Some(name) if name.starts_with("cortex-") || name.starts_with("neoverse-") => format!("arm,{name}"),
        _ => "arm,armv8".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models() {
        for good in [DEFAULT, "cortex-a53", "cortex-a57", "cortex-a710", "neoverse-n1", "max", "max,sve=off"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in ["cortex-a15", "cortex-a7", "arm1176", "cortex-m33", "max,aarch64=off", "", "pxa270-c5"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_in_trees() {
        assert_eq!(compatible("cortex-a57"), "arm,cortex-a57");
        assert_eq!(compatible("neoverse-n1,pauth=off"), "arm,neoverse-n1");
        assert_eq!(compatible("max"), "arm,armv8");
    }
}
