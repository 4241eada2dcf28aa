//! `mezz check`: everything that is wrong with what a machine is to be started with, before anything starts.
//!
//! The judgement is the library's own, the code that EL2 runs. What is done here is to find the line: a key of a
//! configuration, or a property in the text of a tree.

use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use clap::Args;
use mezzanine::config::{Bytes, Findings, HostFacts, VmConfig, bundle, check_all, check_tree_all, set_aside};
use mezzanine::problem::Problem;

use crate::host::{self, Host, HostArgs, MAX_CPUS};
use crate::input::{Input, Kind};
use crate::report::{self, Report, Reports, Source};
use crate::spec::Spec;
use crate::{cpu, dts, toml_config, whole};

/// Options of the verb.
#[derive(Args)]
pub(crate) struct CheckArgs {
    /// A configuration, a bundle or a machine's device tree; - is standard input
    #[arg(value_name = "CONFIG.toml|BUNDLE|TREE.dtb")]
    file: PathBuf,
    #[command(flatten)]
    host: HostArgs,
}

/// What was found, and against what it was judged.
struct Outcome {
    reports: Vec<Report>,
    /// More of them that nobody would read.
    left_out: usize,
    vms: usize,
    machine: String,
}

/// The verb.
pub(crate) fn check(args: &CheckArgs) -> Result<ExitCode, Reports> {
    let input = Input::read(&args.file)?;
    let sized = args.host.ram.is_some() || args.host.cpus.is_some() || args.host.gic.is_some();
    let outcome = match input.kind() {
        Err(report) => return Ok(tell(&input.name, vec![report].into())),
        Ok(Kind::Config) => config(&input, &args.host),
        Ok(Kind::Bundle) => archive(&input, sized.then_some(&args.host)),
        Ok(Kind::Tree) if sized => {
            return Err(Report::new("E0522", "--ram, --cpus and --gic say nothing for a device tree")
                .help("it describes its machine itself: leave them out")
                .into());
        }
        Ok(Kind::Tree) => tree(&input),
    };
    Ok(tell(&input.name, outcome))
}

impl From<Vec<Report>> for Outcome {
    fn from(reports: Vec<Report>) -> Self {
        Self { reports, left_out: 0, vms: 0, machine: String::new() }
    }
}

/// Shows what was found, then one line that sums it up.
fn tell(name: &str, outcome: Outcome) -> ExitCode {
    let Outcome { reports, left_out, vms, machine } = outcome;
    let errors = reports.iter().filter(|report| !report.is_warning()).count();
    let warnings = reports.len() - errors;
    Reports::show_all(reports);
    let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let mut parts = Vec::new();
    match errors {
        0 => parts.push(format!("fine, {}", count(vms, "VM"))),
        n => parts.push(count(n, "error")),
    }
    if warnings > 0 {
        parts.push(count(warnings, "warning"));
    }
    if left_out > 0 {
        parts.push(format!("{left_out} more not shown"));
    }
    println!("{name}: {}", parts.join(", "));
    if !machine.is_empty() {
        println!("{machine}");
    }
    if errors + warnings > 0 {
        println!("mezz explain CODE says more of each");
    }
    ExitCode::from(u8::from(errors > 0))
}

fn described(facts: &HostFacts, ram: Option<u64>, any_cpus: bool) -> String {
    let cpus = match facts.cpus {
        _ if any_cpus => "any number of CPUs".to_owned(),
        1 => "1 CPU".to_owned(),
        n => format!("{n} CPUs"),
    };
    let gic = host::number(facts.gic);
    let ram = ram.map_or(String::new(), |ram| format!("{} of RAM, ", Bytes(ram)));
    // Whole MiB are what can be compared.
    let guests = Bytes(facts.memory >> 20 << 20);
    format!("{cpus}, {ram}{guests} of it for guests, GICv{gic}")
}

/// A configuration, on the machine that `mezz run` would start for it.
fn config(input: &Input, args: &HostArgs) -> Outcome {
    let (spec, mut reports) = toml_config::parse(input.name.clone(), input.text(), &input.directory);
    let Some(spec) = spec else { return reports.into() };
    if let Some(model) = &spec.machine.cpu
        && let Err(report) = cpu::check(model)
    {
        reports.push(spec.at_machine(report, "cpu", "this model"));
    }
    let machine = match Host::decide(args, &spec) {
        Ok(host) => {
            let facts = host.facts(spec.bundle_size());
            reports.extend(spec.check(Some(&facts)));
            format!(
                "checked for the machine that mezz run starts: {}",
                described(&facts, Some(host.ram), false)
            )
        }
        Err(report) => {
            reports.push(report);
            reports.extend(spec.check(None));
            String::new()
        }
    };
    Outcome { reports, left_out: 0, vms: spec.vms.len(), machine }
}

/// A bundle, on the machine that was described, if one was.
fn archive(input: &Input, args: Option<&HostArgs>) -> Outcome {
    let mut found = Findings::default();
    let vms = bundle::read_all(&input.bytes, &mut found);
    let mut machine = "checked by itself; with --ram SIZE, against a machine of that size".to_owned();
    let mut facts = None;
    if let Some(args) = args {
        let spec = Spec::default();
        match Host::decide(args, &spec) {
            Ok(host) => {
                let mut known = host.facts(input.bytes.len() as u64);
                if args.cpus.is_none() {
                    // Nobody said how many.
                    known.cpus = MAX_CPUS;
                }
                machine = match args.ram {
                    Some(ram) => {
                        chosen_ram(&vms, &host, input.bytes.len() as u64, &mut found);
                        format!(
                            "checked for a machine of {}",
                            described(&known, Some(ram), args.cpus.is_none())
                        )
                    }
                    None => {
                        // Nobody said how much there is.
                        known.memory = u64::MAX;
                        format!(
                            "checked for a machine with GICv{}; --ram SIZE adds memory up",
                            host::number(host.gic)
                        )
                    }
                };
                facts = Some(known);
            }
            Err(report) => return vec![report].into(),
        }
    }
    check_all(&vms, facts.as_ref(), &mut found);
    whole::check(&vms, &mut found);
    let text = bundle::tree_of(&input.bytes).ok().and_then(|blob| dts::Text::of(blob).ok());
    let place = Placed::new(format!("{}/{}", input.name, bundle::TREE), text);
    Outcome { reports: place.all(&mut found), left_out: found.left_out, vms: vms.len(), machine }
}

/// What was chosen of the machine's RAM, where it lies on `virt`; what VMs chose of each other's has been found.
fn chosen_ram(vms: &[VmConfig<'_>], host: &Host, bundle: u64, found: &mut Findings) {
    for vm in vms {
        found.take(set_aside(std::slice::from_ref(vm), &mut host.free(bundle)));
    }
}

/// A machine's tree, with the guests that are in it.
fn tree(input: &Input) -> Outcome {
    if input.is_bundle_tree() {
        return vec![
            Report::new("E0523", format!("{} is the tree of a bundle, and no machine's", input.name)).help(
                "put it into a bundle with the files that it names, and check that: docs/config-tree.md",
            ),
        ]
        .into();
    }
    let mut found = Findings::default();
    let known = check_tree_all(&input.bytes, None, &mut found);
    let reports = placed(input.name.clone(), &input.bytes, &mut found);
    let machine = known.map_or(String::new(), |known| {
        let bundle =
            if known.bundle { "; the VMs of its bundle are not in it: check that by itself" } else { "" };
        format!("checked for the machine that it describes: {}{bundle}", described(&known.host, None, false))
    });
    let vms = known.map_or(0, |known| known.vms);
    Outcome { reports, left_out: found.left_out, vms, machine }
}

/// What is wrong with a tree, at its lines.
pub(crate) fn placed(name: String, tree: &[u8], found: &mut Findings) -> Vec<Report> {
    Placed::new(name, dts::Text::of(tree).ok()).all(found)
}

/// The text of a tree that problems are shown in.
struct Placed(Option<(Rc<Source>, dts::Text)>);

impl Placed {
    fn new(path: String, text: Option<dts::Text>) -> Self {
        Self(text.map(|text| (Rc::new(Source { path, text: text.text.clone() }), text)))
    }

    /// All problems and warnings, each at its line.
    fn all(&self, found: &mut Findings) -> Vec<Report> {
        let errors = std::mem::take(&mut found.errors).into_iter().map(|problem| self.report(problem));
        let warnings = std::mem::take(&mut found.warnings).into_iter();
        errors.chain(warnings.map(|problem| self.report(problem).warning())).collect()
    }

    fn report(&self, problem: Problem) -> Report {
        let place = self.0.as_ref().and_then(|(source, text)| {
            Some((source, report::word(&text.text, find(text, &problem)?, &problem)))
        });
        let report = Report::from(problem);
        match place {
            Some((source, span)) => report.at(source, span, ""),
            None => report,
        }
    }
}

/// Where in a tree's text a problem is: at the property that its place names, else at the node.
fn find(text: &dts::Text, problem: &Problem) -> Option<Range<usize>> {
    let place = problem.place.as_str();
    let place = place.strip_prefix(bundle::TREE).unwrap_or(place).trim_start();
    let (node, key) = place.split_once(' ').unwrap_or((place, ""));
    let path = if node.starts_with('/') { node } else { text.path_of(node)? };
    // "property "memry" is not known": the word itself is what to show.
    if let Some(word) =
        problem.what.as_str().strip_prefix("property \"").and_then(|rest| rest.split('"').next())
        && text.has(path, word)
    {
        return text.find(path, word);
    }
    if let Some(word) = problem.what.as_str().strip_prefix("node \"").and_then(|rest| rest.split('"').next())
    {
        let below = format!("{}/{word}", path.trim_end_matches('/'));
        return text.find(&below, "").or_else(|| text.find(path, ""));
    }
    // What comes after a first word is within the property's text; a module that is nowhere has a `reg` that says so.
    let word = if problem.code == "E0202" && key.is_empty() { "reg" } else { key };
    let word = word.split(' ').next().unwrap_or_default();
    if text.has(path, word) {
        return text.find(path, word);
    }
    // A VM's values by the names that the library has for them.
    let module = |kind: &str, property: &str| {
        let of_kind =
            |child: &&str| text.find(child, "compatible").is_some_and(|span| text.at(span).contains(kind));
        let child = text.children(path).find(of_kind)?;
        text.find(child, property)
    };
    let found = match key.rsplit(' ').next().unwrap_or_default() {
        "vcpus" => text.find(path, "cpus"),
        "gic" => text.find(path, "mezzanine,gic-version"),
        "firmware" => text.find(path, "mezzanine,firmware"),
        "weight" => text.find(path, "mezzanine,weight"),
        "cap" => text.find(path, "mezzanine,cap"),
        "dedicated" => text.find(path, "mezzanine,dedicated"),
        "console-log" => text.find(path, "mezzanine,console-log"),
        "affinity" => affinity(text, path, problem),
        "kernel" => module("multiboot,kernel", "xen,uefi-binary"),
        "initrd" => module("multiboot,ramdisk", "xen,uefi-binary"),
        "cmdline" => module("multiboot,kernel", "bootargs").or_else(|| text.find(path, "bootargs")),
        _ => None,
    };
    found.or_else(|| text.find(path, ""))
}

/// The affinity of the vCPU that a problem names, if it has one of its own.
fn affinity(text: &dts::Text, path: &str, problem: &Problem) -> Option<Range<usize>> {
    let (_, rest) = problem.what.as_str().split_once("vCPU ")?;
    let vcpu: u32 = rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    let own = |child: &&str| {
        let says = |name, value: &str| text.find(child, name).is_some_and(|span| text.at(span) == value);
        says("compatible", "compatible = \"xen,vcpu\"") && says("id", &format!("id = <{vcpu:#x}>"))
    };
    text.find(text.children(path).find(own)?, "hard-affinity")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &[u8] = include_bytes!("../../../tests/fixtures/virt-gicv3.dtb");

    fn shown(place: &str, what: &str) -> Option<String> {
        let text = dts::Text::of(TREE).unwrap();
        let problem = mezzanine::problem!("E0000", ("{place}"); ("{what}"); (""));
        find(&text, &problem).map(|span| text.at(span).to_owned())
    }

    #[test]
    fn problems_of_a_tree_have_their_line() {
        let shown = |place, what| shown(place, what).unwrap_or_default();
        assert_eq!(shown("/chosen stdout-path", "x"), "stdout-path = \"/pl011@9000000\"");
        assert_eq!(shown("pl011@9000000 interrupts", "x"), "interrupts = <0x0 0x1 0x4>");
        assert_eq!(shown("/chosen gone", "missing"), "chosen");
        assert_eq!(
            shown("mezzanine.dtb /chosen", "property \"stdout-path\" is not known"),
            "stdout-path = \"/pl011@9000000\""
        );
        assert_eq!(shown("mezzanine.dtb /", "node \"chosen\" is not known"), "chosen");
        assert_eq!(shown("device tree", "damaged"), "");
    }
}
