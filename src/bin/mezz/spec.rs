//! What a person asked for: a machine and its guests, from a configuration or from options.

use std::collections::BTreeMap;
use std::ops::Range;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use mezzanine::config::{Findings, HostFacts, VmConfig, bundle, check_all};
use mezzanine::map::GicVersion;
use mezzanine::problem::Problem;

use crate::report::{self, Report, Source};
use crate::whole;

/// Memory of a guest that does not say, in bytes.
pub(crate) const DEFAULT_MEMORY: u64 = 256 << 20;
/// The boards that `--board` and `board =` know.
pub(crate) const BOARDS: [&str; 1] = ["qemu-virt"];

/// Where each key's value stands.
type Spans = BTreeMap<&'static str, Range<usize>>;

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
    pub(crate) cpus: Option<u16>,
    /// Bytes of RAM.
    pub(crate) ram: Option<u64>,
    /// Its interrupt controller.
    pub(crate) gic: Option<GicVersion>,
    /// Where each key's value stands.
    pub(crate) spans: Spans,
}

/// One guest.
#[derive(Debug)]
pub(crate) struct VmSpec {
    /// Unique among the guests.
    pub(crate) name: String,
    /// Linux Image, plain or gzip, ELF or flat binary; there may be none with firmware.
    pub(crate) kernel: Option<Blob>,
    /// A ROM image.
    pub(crate) firmware: Option<Blob>,
    /// Initial RAM disk.
    pub(crate) initrd: Option<Blob>,
    /// The kernel's command line.
    pub(crate) cmdline: String,
    /// Bytes of RAM.
    pub(crate) memory: u64,
    /// How many virtual CPUs.
    pub(crate) vcpus: u16,
    /// The GIC that it sees; None leaves it to Mezzanine.
    pub(crate) gic: Option<GicVersion>,
    /// Its weight beside others.
    pub(crate) weight: Option<u16>,
    /// Percent of a CPU for each vCPU.
    pub(crate) cap: Option<u8>,
    /// The CPUs of each vCPU, as the library has them.
    pub(crate) affinity: Vec<u64>,
    /// Each vCPU has a CPU to itself.
    pub(crate) dedicated: bool,
    /// Bytes of output that are kept.
    pub(crate) console_log: Option<u32>,
    /// One of its files is not there.
    pub(crate) unreadable: bool,
    /// Where each key's value stands; `name` is where the guest starts.
    pub(crate) spans: Spans,
}

/// A file that goes into the machine.
#[derive(Debug, Default)]
pub(crate) struct Blob {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// What it holds, once [`Spec::load`] has read it.
    pub(crate) bytes: Vec<u8>,
}

impl Blob {
    fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<PathBuf> for Blob {
    fn from(path: PathBuf) -> Self {
        Self { path, bytes: Vec::new() }
    }
}

impl VmSpec {
    /// A guest with a name and a kernel, all else by default.
    pub(crate) fn new(name: String, kernel: PathBuf) -> Self {
        Self {
            name,
            kernel: Some(kernel.into()),
            firmware: None,
            initrd: None,
            cmdline: String::new(),
            memory: DEFAULT_MEMORY,
            vcpus: 1,
            gic: None,
            weight: None,
            cap: None,
            affinity: Vec::new(),
            dedicated: false,
            console_log: None,
            unreadable: false,
            spans: Spans::new(),
        }
    }

    /// The same as the library knows it.
    pub(crate) fn config(&self) -> VmConfig<'_> {
        VmConfig {
            kernel: self.kernel.as_ref().map(Blob::bytes),
            firmware: self.firmware.as_ref().map(Blob::bytes),
            initrd: self.initrd.as_ref().map(Blob::bytes),
            cmdline: &self.cmdline,
            memory: self.memory,
            vcpus: self.vcpus,
            gic: self.gic,
            weight: self.weight,
            cap: self.cap,
            affinity: self.affinity.clone(),
            dedicated: self.dedicated,
            console_log: self.console_log,
            ..VmConfig::named(&self.name)
        }
    }

    /// Bytes of the files.
    pub(crate) fn file_bytes(&self) -> u64 {
        let files = [&self.firmware, &self.kernel, &self.initrd].into_iter().flatten();
        files.fold(0, |sum: u64, blob| sum.saturating_add(blob.bytes.len() as u64))
    }
}

impl Spec {
    /// Reads the guests' files; returns what is wrong with that, and leaves those guests out.
    pub(crate) fn load(&mut self) -> Vec<Report> {
        let (source, mut reports) = (self.source.clone(), Vec::new());
        for vm in &mut self.vms {
            let files =
                [("kernel", &mut vm.kernel), ("firmware", &mut vm.firmware), ("initrd", &mut vm.initrd)];
            for (key, blob) in files.into_iter().filter_map(|(key, blob)| Some((key, blob.as_mut()?))) {
                match regular(&blob.path).and_then(|()| read(&blob.path)) {
                    Ok(bytes) => blob.bytes = bytes,
                    Err(why) => {
                        let whose = if source.is_some() { "the configuration's own" } else { "the working" };
                        let title = format!("{key} of VM `{}`: {} {why}", vm.name, blob.path.display());
                        let report = Report::new("E0505", title)
                            .help(format!("paths are relative to {whose} directory"));
                        reports.push(place(report, source.as_ref(), &vm.spans, key, "this file"));
                        vm.unreadable = true;
                    }
                }
            }
        }
        // What could not be read is not checked further: one mistake, one report.
        self.vms.retain(|vm| !vm.unreadable);
        reports
    }

    /// Has the library check the guests, against a machine if one is known; returns what is wrong, or looks so.
    pub(crate) fn check(&self, host: Option<&HostFacts>) -> Vec<Report> {
        if self.vms.is_empty() {
            return Vec::new();
        }
        let vms: Vec<_> = self.vms.iter().map(VmSpec::config).collect();
        let mut found = Findings::default();
        check_all(&vms, host, &mut found);
        whole::check(&vms, &mut found);
        let errors = found.errors.into_iter().map(|problem| self.report(problem));
        errors.chain(found.warnings.into_iter().map(|problem| self.report(problem).warning())).collect()
    }

    /// Bytes of all guests' memory, and what their firmware lies in.
    pub(crate) fn memory(&self) -> u64 {
        self.vms.iter().fold(0u64, |sum, vm| sum.saturating_add(vm.config().host_bytes()))
    }

    /// Bytes of all guests' files.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.vms.iter().fold(0u64, |sum, vm| sum.saturating_add(vm.file_bytes()))
    }

    /// Bytes of the bundle that the guests make; none without guests.
    pub(crate) fn bundle_size(&self) -> u64 {
        if self.vms.is_empty() {
            return 0;
        }
        let vms: Vec<_> = self.vms.iter().map(VmSpec::config).collect();
        bundle::write(&vms).map_or_else(|_| self.file_bytes(), |bytes| bytes.len() as u64)
    }

    /// A problem that the library has with some guest.
    fn report(&self, problem: Problem) -> Report {
        let place = problem.place.as_str();
        // A name may be anything, as long as nobody has checked it; the longest that fits is meant.
        let vm = self.vms.iter().filter(|vm| {
            let start = format!("vm.{}", vm.name);
            place
                .strip_prefix(start.as_str())
                .map_or(start.starts_with(place), |rest| rest.is_empty() || rest.starts_with(' '))
        });
        match vm.max_by_key(|vm| vm.name.len()) {
            Some(vm) => self.problem(vm, problem),
            None => problem.into(),
        }
    }

    /// A problem that the library has with a guest, at the key that it names.
    pub(crate) fn problem(&self, vm: &VmSpec, problem: Problem) -> Report {
        let key = problem.place.as_str().rsplit(' ').next().unwrap_or_default().to_owned();
        // "vm.NAME unpacked" is about what a gzip kernel holds.
        let key = if vm.spans.contains_key(key.as_str()) { &key } else { "kernel" };
        let key = if key == "kernel" && !problem.code.starts_with("E04") { "name" } else { key };
        match (&self.source, vm.spans.get(key)) {
            (Some(source), Some(span)) => {
                let span = report::word(&source.text, span.clone(), &problem);
                Report::from(problem).at(source, span, "")
            }
            _ => self.at_vm(Report::from(problem), vm, key, ""),
        }
    }

    /// Places a report at a guest's key; one about a guest from the command line has no place.
    pub(crate) fn at_vm(&self, report: Report, vm: &VmSpec, key: &str, label: &str) -> Report {
        place(report, self.source.as_ref(), &vm.spans, key, label)
    }

    /// The same for a key of the machine.
    pub(crate) fn at_machine(&self, report: Report, key: &str, label: &str) -> Report {
        place(report, self.source.as_ref(), &self.machine.spans, key, label)
    }
}

fn place(report: Report, source: Option<&Rc<Source>>, spans: &Spans, key: &str, label: &str) -> Report {
    match (source, spans.get(key).or_else(|| spans.get("name"))) {
        (Some(source), Some(span)) => report.at(source, span.clone(), label),
        _ => report,
    }
}

/// Refuses what is no file on a disk: QEMU may have to read it again, and a pipe is empty by then.
fn regular(path: &Path) -> Result<(), String> {
    match path.metadata() {
        Ok(file) if !file.is_file() && !file.is_dir() => Err("is no regular file".to_owned()),
        _ => Ok(()),
    }
}

/// A file's bytes, or what comes out of a pipe; else why not, as a sentence's end.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    match path.metadata().map(|file| file.file_type()) {
        Ok(kind) if kind.is_dir() => return Err("is a directory, not a file".to_owned()),
        // /dev/zero has no end.
        Ok(kind) if !kind.is_file() && !kind.is_fifo() => return Err("is neither file nor pipe".to_owned()),
        _ => {}
    }
    std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".to_owned(),
        std::io::ErrorKind::PermissionDenied => "may not be read".to_owned(),
        _ => format!("cannot be read: {error}"),
    })
}
