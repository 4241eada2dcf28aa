//! What a person asked for: a machine and its guests, from a configuration or from options.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::report::{Report, Source};

/// Memory of a guest that does not say, in bytes.
pub(crate) const DEFAULT_MEMORY: u64 = 256 << 20;
/// Guest memory comes in blocks of this many bytes.
pub(crate) const BLOCK: u64 = 2 << 20;
/// The boards that `--board` and `board =` know.
pub(crate) const BOARDS: [&str; 1] = ["qemu-virt"];

/// A whole configuration.
#[derive(Debug, Default)]
pub(crate) struct Spec {
    /// What the guests run on.
    pub(crate) machine: MachineSpec,
    /// The guests, in the order in which they were written.
    pub(crate) vms: Vec<VmSpec>,
    /// The file that it was read from, when it was.
    pub(crate) source: Option<Rc<Source>>,
}

/// What the configuration says about the machine; options on the command line come first.
#[derive(Debug, Default)]
pub(crate) struct MachineSpec {
    /// Directory name under boards/.
    pub(crate) board: Option<String>,
    /// QEMU's name of the CPU model.
    pub(crate) cpu: Option<String>,
    /// How many CPUs.
    pub(crate) cpus: Option<u32>,
    /// Bytes of RAM.
    pub(crate) ram: Option<u64>,
    /// Where each key's value stands.
    pub(crate) spans: BTreeMap<&'static str, Range<usize>>,
}

/// One guest.
#[derive(Debug)]
pub(crate) struct VmSpec {
    /// Unique among the guests.
    pub(crate) name: String,
    /// Linux Image (plain or gzip), or a flat binary.
    pub(crate) kernel: PathBuf,
    /// Initial RAM disk.
    pub(crate) initrd: Option<PathBuf>,
    /// The kernel's command line.
    pub(crate) cmdline: String,
    /// Bytes of RAM.
    pub(crate) memory: u64,
    /// How many virtual CPUs.
    pub(crate) vcpus: u32,
    /// GIC version that it sees: 2 or 3.
    pub(crate) gic: u8,
    /// Where each key's value stands.
    pub(crate) spans: BTreeMap<&'static str, Range<usize>>,
}

impl Spec {
    /// Places a report at a guest's key, or names its option when the guest came from the command line.
    pub(crate) fn at_vm(&self, report: Report, vm: &VmSpec, key: &str, label: &str) -> Report {
        place(report, self.source.as_ref(), &vm.spans, key, label)
    }

    /// The same for a key of the machine.
    pub(crate) fn at_machine(&self, report: Report, key: &str, label: &str) -> Report {
        place(report, self.source.as_ref(), &self.machine.spans, key, label)
    }

    /// What must hold between values, whichever way they came in.
    pub(crate) fn check(&self) -> Vec<Report> {
        self.vms.iter().flat_map(|vm| self.check_vm(vm)).collect()
    }

    fn check_vm(&self, vm: &VmSpec) -> Vec<Report> {
        let mut reports = Vec::new();
        let mut wrong = |key: &str, code, label: &str, title: String, help: String| {
            reports.push(self.at_vm(Report::new(code, title).help(help), vm, key, label));
        };
        let name = &vm.name;
        if !is_name(name) {
            wrong(
                "name",
                "E0506",
                "not a name",
                format!("`{name}` cannot be a VM's name"),
                "use 1 to 31 letters, digits, `-` and `_`, a letter or digit first".into(),
            );
        }
        if vm.memory == 0 || !vm.memory.is_multiple_of(BLOCK) {
            let up = crate::size::format(vm.memory.max(1).div_ceil(BLOCK).saturating_mul(BLOCK));
            wrong(
                "memory",
                "E0504",
                "not a multiple of 2M",
                format!("memory of VM `{name}` is {}", crate::size::format(vm.memory)),
                format!("guest memory comes in blocks of 2 MiB; the next is {up}"),
            );
        }
        if !matches!(vm.gic, 2 | 3) {
            wrong(
                "gic",
                "E0506",
                "neither 2 nor 3",
                format!("VM `{name}` cannot have a GIC of version {}", vm.gic),
                "guests see a GICv2 or a GICv3: write 2 or 3".into(),
            );
        }
        let most = if vm.gic == 2 { 8 } else { 123 };
        if vm.vcpus == 0 || vm.vcpus > most {
            wrong(
                "vcpus",
                "E0506",
                "out of range",
                format!("VM `{name}` cannot have {} vCPUs", vm.vcpus),
                format!("a GICv{} guest has 1 to {most}", vm.gic),
            );
        }
        let kernel = file_size(&vm.kernel).map_err(|e| ("kernel", &vm.kernel, e));
        let initrd = vm.initrd.as_ref().map_or(Ok(0), |f| file_size(f).map_err(|e| ("initrd", f, e)));
        let mut sum = 0u64;
        for size in [kernel, initrd] {
            match size {
                Ok(size) => sum = sum.saturating_add(size),
                Err((key, path, why)) => wrong(
                    key,
                    "E0505",
                    "this file",
                    format!("{key} of VM `{name}`: {} {why}", path.display()),
                    match self.source {
                        Some(_) => "paths are relative to the configuration's own directory".into(),
                        None => "paths are relative to the working directory".into(),
                    },
                ),
            }
        }
        if sum > vm.memory && vm.memory != 0 {
            wrong(
                "memory",
                "E0507",
                "too little",
                format!(
                    "kernel and initrd of VM `{name}` are {} bytes together, its memory is {} bytes",
                    sum, vm.memory
                ),
                format!(
                    "give it more than {}",
                    crate::size::format(sum.div_ceil(BLOCK).saturating_mul(BLOCK))
                ),
            );
        }
        reports
    }
}

fn place(
    report: Report,
    source: Option<&Rc<Source>>,
    spans: &BTreeMap<&'static str, Range<usize>>,
    key: &str,
    label: &str,
) -> Report {
    match (source, spans.get(key).or_else(|| spans.get("name"))) {
        (Some(source), Some(span)) => report.at(source, span.clone(), label),
        _ => report,
    }
}

/// Names become file names in the bundle and words in the log.
pub(crate) fn is_name(name: &str) -> bool {
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    first && name.len() <= 31 && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

/// Bytes of a file that is there, can be read, and holds something; else why not, as a sentence's end.
fn file_size(path: &Path) -> Result<u64, String> {
    let file = std::fs::File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "may not be read".to_owned(),
        _ => format!("cannot be read: {error}"),
    })?;
    let metadata = file.metadata().map_err(|error| format!("cannot be read: {error}"))?;
    if metadata.is_dir() {
        return Err("is a directory, not a file".to_owned());
    }
    if metadata.is_file() && metadata.len() == 0 {
        return Err("is empty".to_owned());
    }
    Ok(metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["alpha", "vm-1", "a", "9p", &"x".repeat(31)] {
            assert!(is_name(good), "{good}");
        }
        for bad in ["", "-a", "a b", "ü", "a/b", "..", &"x".repeat(32)] {
            assert!(!is_name(bad), "{bad}");
        }
    }
}
