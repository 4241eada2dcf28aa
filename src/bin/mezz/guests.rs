//! The verbs that only make files out of guests: `mezz pack` and `mezz tree`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use mezzanine::addr::GuestRange;
use mezzanine::config::bundle;
use mezzanine::fdt::guest::{self, GuestMachine};
use mezzanine::guest::Layout;
use mezzanine::map::{GicVersion, RAM_BASE, mpidr};

use crate::cpu;
use crate::options::Guests;
use crate::report::{Report, Reports};
use crate::spec::{Spec, VmSpec};

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
    #[command(flatten)]
    guests: Guests,
    /// Which guest of a configuration, when it has several
    #[arg(long, value_name = "NAME")]
    vm: Option<String>,
    /// CPU model whose name the tree carries [default: the configuration's, else cortex-a72]
    #[arg(long, value_name = "MODEL")]
    cpu: Option<String>,
    /// Where the tree goes
    #[arg(short, long, value_name = "FILE.dtb")]
    output: PathBuf,
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
    let spec = args.guests.spec()?;
    let vm = choose(&spec, args.vm.as_deref())?;
    let model = args.cpu.as_ref().or(spec.machine.cpu.as_ref()).map_or(cpu::DEFAULT, String::as_str);
    let gic = vm.gic.unwrap_or(GicVersion::V3);
    let config = vm.config();
    let too_large = || Report::new("E0507", format!("VM `{}` is larger than the address space", vm.name));
    let ram = GuestRange::new(RAM_BASE, vm.memory).ok_or_else(too_large)?;
    let layout = Layout::plan(&config, ram).map_err(|problem| spec.problem(vm, problem))?;
    let mpidrs: Vec<u64> = (0..vm.vcpus).map(|n| mpidr(n, gic)).collect();
    let blob = guest::write(&GuestMachine {
        uart: true,
        partial: None,
        name: &vm.name,
        mpidrs: &mpidrs,
        cpu_compatible: &cpu::compatible(model),
        ram: &[ram],
        gic,
        initrd: layout.initrd,
        bootargs: &vm.cmdline,
        seed: None,
    });
    save(&args.output, &blob)
}

fn choose<'s>(spec: &'s Spec, name: Option<&str>) -> Result<&'s VmSpec, Report> {
    let names = || spec.vms.iter().map(|vm| vm.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, spec.vms.as_slice()) {
        (None, [vm]) => Ok(vm),
        (None, _) => Err(Report::new("E0506", "which VM is the tree for?")
            .help(format!("the configuration has several: name one of {} with --vm", names()))),
        (Some(name), vms) => vms.iter().find(|vm| vm.name == name).ok_or_else(|| {
            Report::new("E0506", format!("there is no VM `{name}`")).help(format!("there is {}", names()))
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
