//! Interrupt controllers: each one that a guest can be shown, on each that can stand behind it.
//!
//! The trials (tests/qemu) and the bench (tests/bench) run their guests on all that are `ready`.

// Each of the two uses what it needs of it.
#![allow(dead_code)]

/// What a guest sees, and what of the machine serves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backend {
    /// How trials and tables call it.
    pub(crate) label: &'static str,
    /// The machine's GIC.
    pub(crate) host: u8,
    /// The guest's GIC.
    pub(crate) guest: u8,
    /// Mezzanine is told to leave the hardware's CPU interface for guests alone.
    pub(crate) told: bool,
    /// Every access to the CPU interface traps.
    pub(crate) emulated: bool,
    /// Mezzanine has it.
    pub(crate) ready: bool,
}

const HARDWARE: Backend =
    Backend { label: "GICv3", host: 3, guest: 3, told: false, emulated: false, ready: true };

/// All of them, the usual one first. A GICv3 guest needs a GICv3 host: elsewhere its registers do not trap.
pub(crate) const BACKENDS: [Backend; 5] = [
    HARDWARE,
    Backend { label: "GICv3 emulated", told: true, emulated: true, ..HARDWARE },
    Backend { label: "GICv2 on GICv3", guest: 2, emulated: true, ..HARDWARE },
    Backend { label: "GICv2", host: 2, guest: 2, ..HARDWARE },
    Backend { label: "GICv2 emulated", host: 2, guest: 2, told: true, emulated: true, ..HARDWARE },
];

impl Backend {
    /// Those that Mezzanine has.
    pub(crate) fn ready() -> impl Iterator<Item = &'static Self> {
        BACKENDS.iter().filter(|backend| backend.ready)
    }

    /// Mezzanine's own options.
    pub(crate) fn options(&self) -> &'static str {
        if self.told { "mezzanine.vgic=emulated" } else { "" }
    }

    /// The one with that label.
    ///
    /// # Errors
    /// There is none: which ones there are.
    pub(crate) fn named(label: &str) -> Result<&'static Self, String> {
        let known = || BACKENDS.iter().map(|backend| backend.label).collect::<Vec<_>>().join(", ");
        let found = BACKENDS.iter().find(|backend| backend.label == label);
        found.ok_or_else(|| format!("there is no backend {label:?}; there are {}", known()))
    }

    /// What `mezz run` has to be told, with the guest described by options.
    pub(crate) fn arguments(&self) -> Vec<&'static str> {
        let mut arguments = Vec::new();
        if self.host == 2 {
            arguments.extend(["--gic", "2"]);
        }
        if self.guest != self.host {
            arguments.extend(["--vgic", "2"]);
        }
        if self.told {
            arguments.extend(["--options", self.options()]);
        }
        arguments
    }
}
