//! Options that say which guests: a configuration, or one guest described in place.

use std::path::PathBuf;

use clap::Args;
use mezzanine::map::GicVersion;

use crate::report::{Report, Reports};
use crate::spec::{DEFAULT_MEMORY, Spec, VmSpec};
use crate::{size, toml_config};

/// Guests: a configuration, or one described by options.
#[derive(Args)]
#[command(group = clap::ArgGroup::new("start").multiple(true))]
pub(crate) struct Guests {
    /// Configuration with one or more guests (docs/config.md)
    #[arg(value_name = "CONFIG.toml", conflicts_with_all = ["kernel", "firmware", "initrd", "cmdline", "vcpus", "memory", "vgic", "name"])]
    config: Option<PathBuf>,
    /// The guest's kernel: an arm64 Linux Image, plain or gzip, an ELF program or a flat binary
    #[arg(long, value_name = "IMAGE", group = "start")]
    kernel: Option<PathBuf>,
    /// The guest's firmware, a ROM image that is started in place of the kernel
    #[arg(long, value_name = "ROM", group = "start")]
    firmware: Option<PathBuf>,
    /// The guest's initial RAM disk
    #[arg(long, value_name = "FILE", requires = "start")]
    initrd: Option<PathBuf>,
    /// The guest kernel's command line
    #[arg(long, value_name = "TEXT", requires = "start", allow_hyphen_values = true)]
    cmdline: Option<String>,
    /// The guest's virtual CPUs [default: 1]
    #[arg(long, value_name = "N", requires = "start")]
    vcpus: Option<u16>,
    /// The guest's memory, for instance 256M or 1G [default: 256M]
    #[arg(long, value_name = "SIZE", requires = "start", value_parser = size::parse)]
    memory: Option<u64>,
    /// Version of the guest's interrupt controller, 2 or 3 [default: the machine's]
    #[arg(long, value_name = "VERSION", requires = "start", value_parser = vgic)]
    vgic: Option<GicVersion>,
    /// The guest's name [default: guest]
    #[arg(long, value_name = "NAME", requires = "start")]
    name: Option<String>,
}

fn vgic(text: &str) -> Result<GicVersion, String> {
    match text {
        "2" => Ok(GicVersion::V2),
        "3" => Ok(GicVersion::V3),
        _ => Err("give 2 or 3".into()),
    }
}

impl Guests {
    /// Whether guests were named at all.
    pub(crate) fn named(&self) -> bool {
        self.config.is_some() || self.kernel.is_some() || self.firmware.is_some()
    }

    /// Reads the configuration, or makes one of the options: what could be read, and what is wrong with the rest.
    /// What the guests are is not checked.
    ///
    /// # Errors
    /// E0520 if there is neither.
    pub(crate) fn read(&self) -> Result<(Option<Spec>, Vec<Report>), Report> {
        if let Some(path) = &self.config {
            return toml_config::read(path);
        }
        if !self.named() {
            return Err(Report::new("E0520", "no guest was named")
                .help("give a configuration, CONFIG.toml, or a guest's kernel or firmware with --kernel or --firmware"));
        }
        let name = self.name.clone().unwrap_or_else(|| "guest".into());
        let vm = VmSpec {
            kernel: self.kernel.clone().map(Into::into),
            firmware: self.firmware.clone().map(Into::into),
            initrd: self.initrd.clone().map(Into::into),
            cmdline: self.cmdline.clone().unwrap_or_default(),
            memory: self.memory.unwrap_or(DEFAULT_MEMORY),
            vcpus: self.vcpus.unwrap_or(1),
            gic: self.vgic,
            ..VmSpec::new(name, PathBuf::new())
        };
        let mut spec = Spec { vms: vec![vm], ..Spec::default() };
        let reports = spec.load();
        Ok((Some(spec), reports))
    }

    /// The same, checked by itself, for a machine that nobody knows.
    ///
    /// # Errors
    /// All that is wrong.
    pub(crate) fn spec(&self) -> Result<Spec, Reports> {
        let (spec, mut reports) = self.read()?;
        reports.extend(spec.iter().flat_map(|spec| spec.check(None)));
        Reports::settle(reports)?;
        // Without a mistake there is one.
        Ok(spec.unwrap_or_default())
    }
}
