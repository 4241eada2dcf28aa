//! Reads a configuration: TOML in, [`Spec`] out, every mistake told at its line.
//!
//! The document is walked by hand rather than by serde's derive, because a person is helped by all mistakes at
//! once, by the key that was meant, and by being told what a value should look like.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use mezzanine::config;
use mezzanine::map::{GicVersion, MAX_VCPUS};
use mezzanine::problem::{Problem, nearest};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::host::MAX_CPUS;
use crate::report::{Report, Source};
use crate::size;
use crate::spec::{self, BOARDS, MachineSpec, Spec, VmSpec};

#[cfg(test)]
mod tests;

const ROOT_KEYS: [&str; 2] = ["machine", "vm"];
const MACHINE_KEYS: [&str; 5] = ["board", "cpu", "cpus", "ram", "gic"];
const VM_KEYS: [&str; 12] = [
    "kernel",
    "firmware",
    "initrd",
    "cmdline",
    "memory",
    "vcpus",
    "gic",
    "weight",
    "cap",
    "affinity",
    "dedicated",
    "console-log",
];

/// How many vCPUs there may be, for people.
const VCPUS: &str = "64, or 8 with gic = 2";

/// What the same things are called elsewhere.
const MACHINE_SYNONYMS: [(&str, &str); 4] =
    [("memory", "ram"), ("mem", "ram"), ("vcpus", "cpus"), ("smp", "cpus")];
const VM_SYNONYMS: [(&str, &str); 20] = [
    ("cpu_weight", "weight"),
    ("shares", "weight"),
    ("limit", "cap"),
    ("hard-affinity", "affinity"),
    ("cpu_affinity", "affinity"),
    ("pin", "affinity"),
    ("console_log", "console-log"),
    ("image", "kernel"),
    ("bios", "firmware"),
    ("rom", "firmware"),
    ("ramdisk", "initrd"),
    ("initramfs", "initrd"),
    ("append", "cmdline"),
    ("args", "cmdline"),
    ("bootargs", "cmdline"),
    ("command_line", "cmdline"),
    ("ram", "memory"),
    ("mem", "memory"),
    ("cpus", "vcpus"),
    ("smp", "vcpus"),
];
const ROOT_SYNONYMS: [(&str, &str); 5] =
    [("vms", "vm"), ("guest", "vm"), ("guests", "vm"), ("domain", "vm"), ("host", "machine")];

/// Reads the file, as [`parse`] does.
///
/// # Errors
/// E0505 if it cannot be read.
pub(crate) fn read(path: &Path) -> Result<(Option<Spec>, Vec<Report>), Report> {
    let utf8 = |bytes| String::from_utf8(bytes).map_err(|_| "is not text in UTF-8".to_owned());
    let text = spec::read(path).and_then(utf8).map_err(|why| {
        Report::new("E0505", format!("configuration {} {why}", path.display()))
            .help("a configuration is a TOML file: see docs/config.md")
    })?;
    Ok(parse(path.display().to_string(), text, parent(path)))
}

/// What paths in a configuration are relative to.
pub(crate) fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// The same for a text, without checks of what the guests are: what could be read, and what is wrong with the
/// rest. `directory` is what its paths are relative to.
pub(crate) fn parse(path: String, text: String, directory: &Path) -> (Option<Spec>, Vec<Report>) {
    let source = Rc::new(Source { path, text });
    // Only the first error: those after it are often its echo.
    let root = match DeTable::parse(&source.text) {
        Ok(root) => root,
        Err(error) => {
            let label = error.message().replace('\n', "; ");
            let report = Report::new("E0501", "this is not valid TOML").at(
                &source,
                error.span().unwrap_or_default(),
                label,
            );
            return (None, vec![report]);
        }
    };
    let mut walk = Walk { source: &source, directory, reports: Vec::new() };
    let (machine, vms) = walk.root(root.get_ref());
    let mut reports = walk.reports;
    let none = vms.is_empty();
    let mut spec = Spec { machine, vms, source: Some(Rc::clone(&source)) };
    reports.extend(spec.load());
    if none && reports.is_empty() {
        reports.push(
            Report::new("E0508", "the configuration has no VM")
                .at(&source, 0..0, "no [vm.NAME] in this file")
                .help("add a table [vm.NAME] with `kernel = \"FILE\"`"),
        );
    }
    (Some(spec), reports)
}

/// How the library judges a number: for which VM and key.
type Judge<T> = fn(&str, &str, u64) -> Result<T, Problem>;

/// Affinity as it was written: the CPUs of all vCPUs, or of each.
enum Lists {
    One(u64),
    Each(Vec<u64>),
}

/// The state of one reading.
struct Walk<'a> {
    source: &'a Rc<Source>,
    directory: &'a Path,
    reports: Vec<Report>,
}

type Value<'i> = Spanned<DeValue<'i>>;

impl Walk<'_> {
    fn root(&mut self, table: &DeTable<'_>) -> (MachineSpec, Vec<VmSpec>) {
        let mut machine = MachineSpec::default();
        let mut vms: Vec<(usize, VmSpec)> = Vec::new();
        for (key, value) in table {
            match key.get_ref().as_ref() {
                "machine" => match value.get_ref() {
                    DeValue::Table(table) => machine = self.machine(table),
                    other => self.wrong_kind(value, "machine", "a table", other, "write it as [machine]"),
                },
                "vm" => match value.get_ref() {
                    DeValue::Table(table) => vms = self.vms(table),
                    other => self.wrong_kind(value, "vm", "a table", other, "write each guest as [vm.NAME]"),
                },
                name => {
                    self.unknown(&key.span(), name, "the file", &ROOT_KEYS, &ROOT_SYNONYMS);
                }
            }
        }
        // The table is sorted by name; guests start in the order in which they were written.
        vms.sort_by_key(|(at, _)| *at);
        (machine, vms.into_iter().map(|(_, vm)| vm).collect())
    }

    fn machine(&mut self, table: &DeTable<'_>) -> MachineSpec {
        let mut machine = MachineSpec::default();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let Some(known) = MACHINE_KEYS.into_iter().find(|known| *known == name) else {
                self.unknown(&key.span(), name, "[machine]", &MACHINE_KEYS, &MACHINE_SYNONYMS);
                continue;
            };
            machine.spans.insert(known, value.span());
            match known {
                "board" => machine.board = self.board(value),
                "cpu" => machine.cpu = self.string(value, known).map(str::to_owned),
                "cpus" => machine.cpus = self.cpus(value),
                "gic" => machine.gic = self.gic(value, "a machine"),
                _ => machine.ram = self.size(value, known),
            }
        }
        machine
    }

    fn cpus(&mut self, value: &Value<'_>) -> Option<u16> {
        let most = MAX_CPUS.to_string();
        let cpus = self.count(value, "cpus", &most)?;
        if cpus > MAX_CPUS {
            self.out_of_range(value, "cpus", &most);
            return None;
        }
        Some(cpus)
    }

    fn board(&mut self, value: &Value<'_>) -> Option<String> {
        let board = self.string(value, "board")?;
        if BOARDS.contains(&board) {
            return Some(board.to_owned());
        }
        let report = Report::new("E0506", format!("unknown board `{board}`"))
            .at(self.source, value.span(), "no such board")
            .help(format!("known: {}", BOARDS.join(", ")));
        self.reports.push(report);
        None
    }

    fn vms(&mut self, table: &DeTable<'_>) -> Vec<(usize, VmSpec)> {
        let mut vms = Vec::new();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            match value.get_ref() {
                DeValue::Table(table) => {
                    if let Some(vm) = self.vm(key, table) {
                        vms.push((key.span().start, vm));
                    }
                }
                other => {
                    let help = if VM_KEYS.contains(&name) {
                        format!(
                            "a key of a guest belongs under [vm.NAME], for instance [vm.alpha] and `{name}`"
                        )
                    } else {
                        format!("write the guest as [vm.{name}] and its keys below it")
                    };
                    self.wrong_kind(value, name, "a guest's table", other, &help);
                }
            }
        }
        vms
    }

    fn vm(&mut self, name: &Spanned<std::borrow::Cow<'_, str>>, table: &DeTable<'_>) -> Option<VmSpec> {
        let mut vm = VmSpec::new(name.get_ref().to_string(), PathBuf::new());
        vm.spans.insert("name", name.span());
        let place = format!("[vm.{}]", vm.name);
        let mut unknown = 0;
        let mut meant_start = false;
        let mut lists = Lists::One(0);
        let before = self.reports.len();
        for (key, value) in table {
            let word = key.get_ref().as_ref();
            let Some(known) = VM_KEYS.into_iter().find(|known| *known == word) else {
                let meant = self.unknown(&key.span(), word, &place, &VM_KEYS, &VM_SYNONYMS);
                meant_start |= matches!(meant, Some("kernel" | "firmware"));
                unknown += 1;
                continue;
            };
            vm.spans.insert(known, value.span());
            match known {
                "kernel" => vm.kernel = self.path(value, known).map(Into::into),
                "firmware" => vm.firmware = self.path(value, known).map(Into::into),
                "initrd" => vm.initrd = self.path(value, known).map(Into::into),
                "cmdline" => vm.cmdline = self.string(value, known).unwrap_or_default().into(),
                "memory" => vm.memory = self.size(value, known).unwrap_or_default(),
                "vcpus" => vm.vcpus = self.count(value, known, VCPUS).unwrap_or_default(),
                "gic" => vm.gic = self.gic(value, "guests"),
                "weight" => vm.weight = self.share(value, &vm.name, known, config::weight),
                "cap" => vm.cap = self.share(value, &vm.name, known, config::cap),
                "affinity" => lists = self.affinity(value, &vm.name),
                "dedicated" => vm.dedicated = self.flag(value, known).unwrap_or_default(),
                _ => {
                    let bytes = self.size(value, known);
                    vm.console_log =
                        bytes.and_then(|n| self.judged(value, &vm.name, known, n, config::console_log));
                }
            }
        }
        vm.affinity = match lists {
            // One for all of them; of a count that is wrong there is word.
            Lists::One(mask) => vec![mask; usize::from(vm.vcpus.min(MAX_VCPUS))],
            Lists::Each(masks) => masks,
        };
        if vm.affinity.iter().all(|mask| *mask == 0) && vm.affinity.len() == usize::from(vm.vcpus) {
            vm.affinity.clear();
        }
        if !table.contains_key("kernel") {
            vm.kernel = None;
            if !table.contains_key("firmware") && meant_start {
                // It has one, misspelt: that was said.
                return None;
            }
            if !table.contains_key("firmware") {
                let report = Report::new("E0503", format!("{place} has neither `kernel` nor `firmware`"))
                    .at(self.source, name.span(), "this guest")
                    .help(
                        "add `kernel = \"FILE\"`: a Linux Image, plain or gzip, an ELF program or a flat binary; \
                         or `firmware = \"FILE\"`",
                    );
                self.reports.push(report);
            }
        }
        // What could not be read is not checked further: one mistake, one report. An unknown key is no value.
        (self.reports.len() == before + unknown).then_some(vm)
    }

    /// A number that the library judges.
    fn share<T>(&mut self, value: &Value<'_>, vm: &str, key: &str, judge: Judge<T>) -> Option<T> {
        let DeValue::Integer(number) = value.get_ref() else {
            self.wrong_kind(
                value,
                key,
                "a whole number",
                value.get_ref(),
                &format!("write `{key} = 50`, without quotes"),
            );
            return None;
        };
        match u64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => self.judged(value, vm, key, number, judge),
            Err(_) => {
                let report = Report::new("E0506", format!("`{key}` is out of range"))
                    .at(self.source, value.span(), "not such a number")
                    .help("use a whole number from 1 on");
                self.reports.push(report);
                None
            }
        }
    }

    fn judged<T>(
        &mut self,
        value: &Value<'_>,
        vm: &str,
        key: &str,
        number: u64,
        judge: Judge<T>,
    ) -> Option<T> {
        let judged = judge(&format!("vm.{vm}"), key, number);
        judged.map_err(|problem| self.problem(value, problem)).ok()
    }

    fn problem(&mut self, value: &Value<'_>, problem: Problem) {
        self.reports.push(Report::from(problem).at(self.source, value.span(), ""));
    }

    /// A list of CPUs for all vCPUs, or one for each.
    fn affinity(&mut self, value: &Value<'_>, vm: &str) -> Lists {
        match value.get_ref() {
            DeValue::Array(lists) if lists.is_empty() => Lists::One(
                self.judged(value, vm, "affinity", 0, |place, key, _| config::parse_cpus(place, key, ""))
                    .unwrap_or_default(),
            ),
            DeValue::Array(lists) => {
                Lists::Each(lists.iter().filter_map(|value| self.cpu_list(value, vm)).collect())
            }
            _ => Lists::One(self.cpu_list(value, vm).unwrap_or_default()),
        }
    }

    /// CPUs, a bit each; none are all of them.
    fn cpu_list(&mut self, value: &Value<'_>, vm: &str) -> Option<u64> {
        let DeValue::String(text) = value.get_ref() else {
            let help = "write `affinity = \"0-3\"`, or one such text for each vCPU: `[\"0\", \"2-3\"]`";
            self.wrong_kind(value, "affinity", "a text, or a list of texts", value.get_ref(), help);
            return None;
        };
        if text.trim() == "all" {
            return Some(0);
        }
        let mask = config::parse_cpus(&format!("vm.{vm}"), "affinity", text);
        mask.map_err(|problem| self.problem(value, problem)).ok()
    }

    fn flag(&mut self, value: &Value<'_>, key: &str) -> Option<bool> {
        if let DeValue::Boolean(flag) = value.get_ref() {
            return Some(*flag);
        }
        self.wrong_kind(
            value,
            key,
            "true or false",
            value.get_ref(),
            &format!("write `{key} = true`, without quotes"),
        );
        None
    }

    fn string<'v>(&mut self, value: &'v Value<'_>, key: &str) -> Option<&'v str> {
        match value.get_ref() {
            DeValue::String(text) => Some(text),
            other => {
                let written = self.written(value);
                self.wrong_kind(value, key, "a string", other, &format!("write `{key} = \"{written}\"`"));
                None
            }
        }
    }

    fn path(&mut self, value: &Value<'_>, key: &str) -> Option<PathBuf> {
        self.string(value, key).map(|text| self.directory.join(text))
    }

    fn gic(&mut self, value: &Value<'_>, whose: &str) -> Option<GicVersion> {
        match self.whole(value, "gic")? {
            Some(2) => Some(GicVersion::V2),
            Some(3) => Some(GicVersion::V3),
            _ => {
                let written = self.written(value);
                let report = Report::new("E0506", format!("there is no GICv{written} for {whose}"))
                    .at(self.source, value.span(), "neither 2 nor 3")
                    .help("write 2 or 3, or nothing: a machine then has 3, and a guest what the machine has");
                self.reports.push(report);
                None
            }
        }
    }

    fn size(&mut self, value: &Value<'_>, key: &str) -> Option<u64> {
        let (title, label, help) = match value.get_ref() {
            DeValue::String(text) => match size::parse(text) {
                Ok(bytes) => return Some(bytes),
                Err(why) => (format!("`{key}` is not a size"), "this value", why),
            },
            DeValue::Integer(_) => {
                let written = self.written(value);
                (
                    format!("`{key}` has no unit"),
                    "a bare number",
                    format!("write `{key} = \"{written}M\"` for MiB"),
                )
            }
            other => {
                self.wrong_kind(value, key, "a size", other, &format!("write `{key} = \"256M\"`"));
                return None;
            }
        };
        self.reports.push(Report::new("E0504", title).at(self.source, value.span(), label).help(help));
        None
    }

    /// A count from 1 on; `most` is for the reader, since what is too many depends on other things as well.
    fn count(&mut self, value: &Value<'_>, key: &str, most: &str) -> Option<u16> {
        let parsed = self.whole(value, key)?.filter(|number| *number > 0);
        if parsed.is_none() {
            self.out_of_range(value, key, most);
        }
        parsed
    }

    fn out_of_range(&mut self, value: &Value<'_>, key: &str, most: &str) {
        let report = Report::new("E0506", format!("`{key}` is out of range"))
            .at(self.source, value.span(), "not such a count")
            .help(format!("use a whole number, 1 to {most}"));
        self.reports.push(report);
    }

    /// A whole number; `Some(None)` is one that no key has.
    fn whole(&mut self, value: &Value<'_>, key: &str) -> Option<Option<u16>> {
        let DeValue::Integer(number) = value.get_ref() else {
            let help = format!("write `{key} = 2`, without quotes");
            self.wrong_kind(value, key, "a whole number", value.get_ref(), &help);
            return None;
        };
        Some(u16::from_str_radix(number.as_str(), number.radix()).ok())
    }

    /// The piece of text that a value was read from.
    fn written(&self, value: &Value<'_>) -> String {
        self.source.text.get(value.span()).unwrap_or_default().to_owned()
    }

    fn wrong_kind(&mut self, value: &Value<'_>, key: &str, wanted: &str, found: &DeValue<'_>, help: &str) {
        let report = Report::new("E0503", format!("`{key}` must be {wanted}"))
            .at(self.source, value.span(), format!("this is {}", kind(found)))
            .help(help);
        self.reports.push(report);
    }

    /// Says so of a key; returns the one that was meant, if one is near.
    fn unknown(
        &mut self,
        span: &Range<usize>,
        word: &str,
        place: &str,
        known: &[&'static str],
        synonyms: &[(&str, &'static str)],
    ) -> Option<&'static str> {
        let synonym = synonyms.iter().find(|(theirs, _)| *theirs == word).map(|(_, ours)| *ours);
        let meant = synonym.or_else(|| nearest(word, known));
        let help = match meant {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("{place} may have {}", known.join(", ")),
        };
        let report = Report::new("E0502", format!("unknown key `{word}` in {place}"))
            .at(self.source, span.clone(), "not a key here")
            .help(help);
        self.reports.push(report);
        meant
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
