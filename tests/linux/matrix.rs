//! Which kernels, CPU models and interrupt controllers are booted together.
//!
//! Each kernel, each model and each pair of controllers occurs in every run of the tests, in as few boots as
//! there are models; the long run has all kernels on all models, with both GICs.

/// A kernel that set-up brings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) name: &'static str,
    /// Its file in `target/guests`, in a folder of its own.
    pub(crate) image: &'static str,
    /// Whether its pages are of 16 KiB, which not every CPU model has.
    pages_16k: bool,
}

pub(crate) const KERNELS: [Kernel; 5] = [
    Kernel { name: "debian 6.1", image: "debian-6.1/Image", pages_16k: false },
    Kernel { name: "debian 6.12", image: "debian-6.12/Image", pages_16k: false },
    Kernel { name: "debian 6.12 cloud", image: "debian-6.12-cloud/Image", pages_16k: false },
    Kernel { name: "debian 6.12 rt", image: "debian-6.12-rt/Image", pages_16k: false },
    Kernel { name: "debian 6.12 16k", image: "debian-6.12-16k/Image", pages_16k: true },
];

impl Kernel {
    /// Its folder in `target/guests`.
    pub(crate) fn folder(&self) -> &'static str {
        self.image.trim_end_matches("/Image")
    }
}

/// A CPU model of QEMU's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) cpu: &'static str,
    /// What its guests read as MIDR_EL1.PartNum.
    pub(crate) part: &'static str,
    /// Whether it has the 16 KiB granule at stage 1, ID_AA64MMFR0_EL1.TGran16.
    pages_16k: bool,
}

/// The order decides who meets whom in [`few`].
pub(crate) const MODELS: [Model; 10] = [
    Model { cpu: "cortex-a53", part: "0xd03", pages_16k: false },
    Model { cpu: "cortex-a55", part: "0xd05", pages_16k: true },
    Model { cpu: "cortex-a57", part: "0xd07", pages_16k: false },
    Model { cpu: "cortex-a72", part: "0xd08", pages_16k: false },
    Model { cpu: "cortex-a76", part: "0xd0b", pages_16k: true },
    Model { cpu: "neoverse-n1", part: "0xd0c", pages_16k: true },
    Model { cpu: "max", part: "0x051", pages_16k: true },
    Model { cpu: "neoverse-v1", part: "0xd40", pages_16k: true },
    Model { cpu: "cortex-a710", part: "0xd47", pages_16k: true },
    Model { cpu: "neoverse-n2", part: "0xd49", pages_16k: true },
];

/// The machine's interrupt controller, the guest's, and what is between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gics {
    /// The version that QEMU's machine has.
    pub(crate) host: u8,
    /// The version that the guest sees.
    pub(crate) guest: u8,
    /// Whether the guest's CPU interface is trapped, list registers or not (`mezzanine.vgic=emulated`).
    pub(crate) emulated: bool,
}

/// The pairs that this image can do: what the tests boot. That is all that the architecture allows; a GICv2 guest
/// on a GICv3 is emulated whether somebody asks for it or not. Those that hardware serves come first.
pub(crate) const GICS: &[Gics] = &[
    Gics { host: 3, guest: 3, emulated: false },
    Gics { host: 2, guest: 2, emulated: false },
    Gics { host: 3, guest: 2, emulated: false },
    Gics { host: 3, guest: 3, emulated: true },
    Gics { host: 2, guest: 2, emulated: true },
];
/// How many of them hardware serves.
const SERVED: usize = 2;

/// One boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Boot {
    pub(crate) kernel: &'static Kernel,
    pub(crate) model: &'static Model,
    pub(crate) gics: Gics,
}

impl Boot {
    /// As a person says it: `debian 6.12 rt on cortex-a76, GICv3`.
    pub(crate) fn name(&self) -> String {
        let Gics { host, guest, emulated } = self.gics;
        let below = if host == guest { String::new() } else { format!(" on GICv{host}") };
        let how = if emulated { ", emulated" } else { "" };
        format!("{} on {}, GICv{guest}{below}{how}", self.kernel.name, self.model.cpu)
    }
}

/// Every boot that can be: a kernel's pages must be the model's.
pub(crate) fn all(gics: &[Gics]) -> Vec<Boot> {
    let mut boots = Vec::new();
    for model in &MODELS {
        for kernel in KERNELS.iter().filter(|kernel| model.pages_16k || !kernel.pages_16k) {
            boots.extend(gics.iter().map(|&gics| Boot { kernel, model, gics }));
        }
    }
    boots
}

/// Every kernel on every model that has its pages, with both GICs as hardware serves them, and with the other
/// controllers in turn.
pub(crate) fn many() -> Vec<Boot> {
    let (served, others) = GICS.split_at(SERVED);
    let mut boots = all(served);
    boots.extend(
        all(&GICS[..1]).into_iter().zip(others.iter().cycle()).map(|(boot, &gics)| Boot { gics, ..boot }),
    );
    boots
}

/// One boot for each model, with the kernel and the controllers that were used least before.
pub(crate) fn few(gics: &[Gics]) -> Vec<Boot> {
    let every = all(gics);
    let mut chosen: Vec<Boot> = Vec::new();
    for model in &MODELS {
        let uses = |fits: &dyn Fn(&Boot) -> bool| chosen.iter().filter(|boot| fits(boot)).count();
        let cost = |boot: &&Boot| {
            let kernel = uses(&|other| other.kernel == boot.kernel);
            let gics = uses(&|other| other.gics == boot.gics);
            (kernel, gics, uses(&|other| other.kernel == boot.kernel && other.gics == boot.gics))
        };
        let best = every.iter().filter(|boot| boot.model == model).min_by_key(cost).cloned();
        chosen.extend(best);
    }
    chosen
}

/// Checks that nothing is left out, neither a kernel nor a model nor a controller.
pub(crate) fn check() -> Result<(), String> {
    let (few, many, all) = (few(GICS), many(), all(GICS));
    if many.iter().any(|boot| !all.contains(boot))
        || GICS.iter().any(|gics| many.iter().filter(|boot| boot.gics == *gics).count() < 10)
    {
        return Err("the long run leaves something out".to_owned());
    }
    let kernels = KERNELS.iter().all(|kernel| few.iter().any(|boot| boot.kernel == kernel));
    let models = MODELS.iter().all(|model| few.iter().any(|boot| boot.model == model));
    let controllers = GICS.iter().all(|gics| few.iter().any(|boot| boot.gics == *gics));
    if !kernels || !models || !controllers {
        return Err(format!("a kernel, a model or a controller is in no boot: {few:?}"));
    }
    if few.iter().any(|boot| !all.contains(boot)) {
        return Err("a boot is not one of all".to_owned());
    }
    let names: Vec<String> = all.iter().map(Boot::name).collect();
    match names.iter().any(|name| name == "debian 6.12 rt on cortex-a76, GICv2 on GICv3") {
        true if !names.iter().any(|name| name.starts_with("debian 6.12 16k on cortex-a72")) => Ok(()),
        _ => Err(format!("the boots are not called as they should be: {names:?}")),
    }
}
