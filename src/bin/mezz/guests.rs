//! The verbs that only make files out of guests: `mezz pack` and `mezz tree`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use mezzanine::addr::GuestRange;
use mezzanine::config::{VmConfig, bundle};
use mezzanine::fdt::guest::{self, GuestMachine};
use mezzanine::guest::Layout;
use mezzanine::map::{GicVersion, RAM_BASE, mpidr};
use mezzanine::problem;
use mezzanine::problem::{Problem, nearest};

use crate::input::{Input, Kind};
use crate::options::Guests;
use crate::report::{Report, Reports};
use crate::spec::{Spec, VmSpec};
use crate::{cpu, dts, toml_config};

/// Options of `mezz pack`.
#[derive(Args)]
pub(crate) struct PackArgs {
    #[command(flatten)]
    guests: Guests,
    /// Where the bundle goes
    #[arg(short, long, value_name = "BUNDLE")]
    output: PathBuf,
}

/// Options of `mezz tree`.
#[derive(Args)]
pub(crate) struct TreeArgs {
    /// A configuration, a bundle, or a device tree to show as it is; - is standard input
    #[arg(value_name = "CONFIG.toml|BUNDLE|TREE.dtb")]
    file: PathBuf,
    /// Which guest, when there are several
    #[arg(value_name = "VM")]
    vm: Option<String>,
    /// CPU model whose name the tree carries [default: the configuration's, else cortex-a72]
    #[arg(long, value_name = "MODEL")]
    cpu: Option<String>,
    /// Write it there in place of showing it: as a blob, or as text to a name that ends in .dts
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// `mezz pack`.
pub(crate) fn pack(args: &PackArgs) -> Result<ExitCode, Reports> {
    save(&args.output, &bundle(&args.guests.spec()?)?)
}

/// All guests as one bundle.
pub(crate) fn bundle(spec: &Spec) -> Result<Vec<u8>, Report> {
    let vms: Vec<_> = spec.vms.iter().map(VmSpec::config).collect();
    Ok(bundle::write(&vms)?)
}

/// `mezz tree`.
pub(crate) fn tree(args: &TreeArgs) -> Result<ExitCode, Reports> {
    let input = Input::read(&args.file)?;
    let kind = input.kind()?;
    if let Some(model) = &args.cpu {
        cpu::check(model)?;
    }
    let blob = match kind {
        Kind::Config => {
            let (spec, mut reports) = toml_config::parse(input.name.clone(), input.text(), &input.directory);
            let spec = spec.unwrap_or_default();
            reports.extend(spec.check(None));
            Reports::settle(reports)?;
            let names: Vec<&str> = spec.vms.iter().map(|vm| vm.name.as_str()).collect();
            let vm = spec.vms.get(choose(&names, args.vm.as_deref())?).ok_or_else(no_guest)?;
            let model = args.cpu.as_ref().or(spec.machine.cpu.as_ref());
            let gic = spec.machine.gic.unwrap_or(GicVersion::V3);
            guest_tree(&vm.config(), model, gic).map_err(|problem| spec.problem(vm, problem))?
        }
        Kind::Bundle => {
            let vms = bundle::read(&input.bytes).map_err(Report::from)?;
            mezzanine::config::check(&vms, None).map_err(Report::from)?;
            let names: Vec<&str> = vms.iter().map(|vm| vm.name.as_str()).collect();
            let vm = vms.get(choose(&names, args.vm.as_deref())?).ok_or_else(no_guest)?;
            guest_tree(vm, args.cpu.as_ref(), GicVersion::V3).map_err(Report::from)?
        }
        Kind::Tree if args.vm.is_some() => {
            return Err(Report::new("E0525", "a guest's tree is not made from a machine's")
                .help("leave the VM out to have the tree itself as text")
                .into());
        }
        Kind::Tree => input.bytes,
    };
    let text = || {
        dts::Text::of(&blob).map(|text| text.text).map_err(|why| {
            Report::new("E0526", format!("{} is damaged: {why}", input.name))
                .help("have the whole file copied; dtc -I dtb says more")
        })
    };
    match &args.output {
        None => {
            print!("{}", text()?);
            Ok(ExitCode::SUCCESS)
        }
        Some(path) if path.extension().is_some_and(|end| end == "dts") => save(path, text()?.as_bytes()),
        Some(path) => save(path, &blob),
    }
}

fn no_guest() -> Report {
    Report::new("E0508", "there is no VM").help("add a table [vm.NAME] with `kernel = \"FILE\"`")
}

/// The tree of a guest, by the code that writes it at EL2.
fn guest_tree(
    vm: &VmConfig<'_>,
    model: Option<&String>,
    machine_gic: GicVersion,
) -> Result<Vec<u8>, Problem> {
    let gic = vm.gic.unwrap_or(machine_gic);
    let too_large =
        || problem!("E0407", ("{} memory", vm.place); ("larger than the address space"); ("Give it less"));
    let ram = GuestRange::new(RAM_BASE, vm.memory).ok_or_else(too_large)?;
    let layout = Layout::plan(vm, ram)?;
    let mpidrs: Vec<u64> = (0..vm.vcpus).map(|n| mpidr(n, gic)).collect();
    Ok(guest::write(&GuestMachine {
        name: &vm.name,
        mpidrs: &mpidrs,
        cpu_compatible: &cpu::compatible(model.map_or(cpu::DEFAULT, String::as_str)),
        ram: &[ram],
        gic,
        initrd: layout.initrd,
        bootargs: vm.cmdline,
        uart: !vm.without_uart,
        partial: vm.partial(&mut Vec::new())?,
        seed: None,
    }))
}

/// The place of the guest of that name, or of the only one.
fn choose(names: &[&str], name: Option<&str>) -> Result<usize, Report> {
    match (name, names) {
        (None, [_]) => Ok(0),
        (None, _) => Err(Report::new("E0506", "which VM is the tree for?")
            .help(format!("there are several: name one of {}", names.join(", ")))),
        (Some(name), _) => names.iter().position(|have| *have == name).ok_or_else(|| {
            let report = Report::new("E0506", format!("there is no VM `{name}`"));
            match nearest(name, names) {
                Some(meant) => report.help(format!("did you mean `{meant}`?")),
                None => report.help(format!("there is {}", names.join(", "))),
            }
        }),
    }
}

fn save(path: &Path, bytes: &[u8]) -> Result<ExitCode, Reports> {
    std::fs::write(path, bytes).map_err(|error| {
        Report::new("E0505", format!("{} cannot be written: {error}", path.display()))
            .help("choose a path in a directory that you may write to")
    })?;
    Ok(ExitCode::SUCCESS)
}
