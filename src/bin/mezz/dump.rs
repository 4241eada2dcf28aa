//! `mezz dump`: a configuration or a bundle as TOML again, with all defaults filled in.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use mezzanine::config::{Bytes, CpuList, Findings, VmConfig, bundle};

use crate::host::{self, Host, HostArgs};
use crate::input::{Input, Kind};
use crate::report::{Report, Reports};
use crate::spec::{BOARDS, Spec};
use crate::{cpu, toml_config};

/// Options of the verb.
#[derive(Args)]
pub(crate) struct DumpArgs {
    /// A configuration or a bundle; - is standard input
    #[arg(value_name = "CONFIG.toml|BUNDLE")]
    file: PathBuf,
}

/// The verb.
pub(crate) fn dump(args: &DumpArgs) -> Result<ExitCode, Reports> {
    let input = Input::read(&args.file)?;
    let text = match input.kind()? {
        Kind::Config => config(&input)?,
        Kind::Bundle => archive(&input)?,
        Kind::Tree => {
            return Err(Report::new(
                "E0524",
                format!("{} is a device tree, and those say more than TOML", input.name),
            )
            .help("`mezz tree` shows it as text")
            .into());
        }
    };
    print!("{text}");
    Ok(ExitCode::SUCCESS)
}

fn config(input: &Input) -> Result<String, Reports> {
    let (spec, mut reports) = toml_config::parse(input.name.clone(), input.text(), &input.directory);
    let spec = spec.unwrap_or_default();
    reports.extend(spec.check(None));
    let host = Host::decide(&HostArgs::default(), &spec);
    let host = host.map_err(|report| reports.push(report)).ok();
    Reports::settle(reports)?;
    let mut text = String::new();
    if let Some(host) = host {
        machine(&mut text, &spec, &host);
    }
    for vm in &spec.vms {
        let written = |path: &Path| path.strip_prefix(&input.directory).unwrap_or(path).display().to_string();
        let files = [&vm.kernel, &vm.firmware, &vm.initrd];
        guest(&mut text, &vm.config(), &files.map(|file| file.as_ref().map(|blob| written(&blob.path))));
    }
    Ok(text)
}

fn archive(input: &Input) -> Result<String, Reports> {
    let mut found = Findings::default();
    let vms = bundle::read_all(&input.bytes, &mut found);
    let reports = found.errors.into_iter().map(Report::from);
    let warnings = found.warnings.into_iter().map(|problem| Report::from(problem).warning());
    Reports::settle(reports.chain(warnings).collect())?;
    let files = bundle::files(&input.bytes).map_err(Report::from)?;
    let path_of = |data: &[u8]| {
        let same = files.iter().find(|(_, have)| std::ptr::eq(*have, data));
        same.map(|(path, _)| (*path).to_owned()).unwrap_or_default()
    };
    let mut text = "# Paths are those in the bundle: cpio -id < BUNDLE unpacks them.\n".to_owned();
    for vm in &vms {
        guest(&mut text, vm, &[vm.kernel, vm.firmware, vm.initrd].map(|file| file.map(path_of)));
    }
    Ok(text)
}

fn machine(out: &mut String, spec: &Spec, host: &Host) {
    let board = spec.machine.board.as_deref().unwrap_or(BOARDS[0]);
    let cpu = spec.machine.cpu.as_deref().unwrap_or(cpu::DEFAULT);
    let _ = writeln!(out, "[machine]\nboard = {}\ncpu = {}", quoted(board), quoted(cpu));
    let _ = writeln!(
        out,
        "cpus = {}\nram = \"{}\"\ngic = {}",
        host.cpus,
        Bytes(host.ram),
        host::number(host.gic)
    );
}

/// A guest, with the paths of its kernel, firmware and initrd.
fn guest(out: &mut String, vm: &VmConfig<'_>, files: &[Option<String>; 3]) {
    if !out.is_empty() {
        out.push('\n');
    }
    let _ = writeln!(out, "[vm.{}]", vm.name);
    for (key, path) in ["kernel", "firmware", "initrd"].into_iter().zip(files) {
        let _ = match path {
            Some(path) => writeln!(out, "{key} = {}", quoted(path)),
            None => writeln!(out, "# {key}: none"),
        };
    }
    let _ = writeln!(out, "cmdline = {}", quoted(vm.cmdline));
    let _ = writeln!(out, "memory = \"{}\"\nvcpus = {}", Bytes(vm.memory), vm.vcpus);
    match vm.gic {
        Some(gic) => _ = writeln!(out, "gic = {}", host::number(gic)),
        None => out.push_str("# gic: as the machine's\n"),
    }
    shares(out, vm);
    // A bundle can say what a configuration has no words for.
    if vm.without_uart {
        out.push_str("# no serial port: a bundle has no vpl011 here, and TOML cannot say so\n");
    }
    for piece in &vm.static_memory {
        let _ = writeln!(out, "# memory is {piece} of the machine's: TOML cannot say so");
    }
    if vm.partial_tree.is_some() {
        out.push_str("# a partial device tree: TOML cannot say so\n");
    }
}

/// What a guest has of the CPUs, and what is kept of its output.
fn shares(out: &mut String, vm: &VmConfig<'_>) {
    let _ = match vm.weight {
        Some(weight) => writeln!(out, "weight = {weight}"),
        None if vm.dedicated => Ok(()),
        None => writeln!(out, "# weight: {}", vm.weight_or_default()),
    };
    let _ = match vm.cap {
        Some(cap) => writeln!(out, "cap = {cap}"),
        None => writeln!(out, "# cap: none"),
    };
    let list = |mask: u64| match mask {
        0 => quoted("all"),
        mask => quoted(&CpuList(mask).to_string()),
    };
    let _ = match vm.affinity.as_slice() {
        [] => writeln!(out, "# affinity: all CPUs"),
        [first, rest @ ..] if rest.iter().all(|mask| mask == first) => {
            writeln!(out, "affinity = {}", list(*first))
        }
        masks => {
            let lists: Vec<String> = masks.iter().map(|mask| list(*mask)).collect();
            writeln!(out, "affinity = [{}]", lists.join(", "))
        }
    };
    if vm.dedicated {
        out.push_str("dedicated = true\n");
    }
    let log = Bytes(vm.console_log_bytes().into());
    let _ = match vm.console_log {
        Some(_) => writeln!(out, "console-log = \"{log}\""),
        None => writeln!(out, "# console-log: {log}"),
    };
}

/// A text as TOML's basic string.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => _ = write!(out, "\\u{:04X}", c as u32),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_reads_back(text in any::<String>()) {
            let document = format!("x = {}\n", quoted(&text));
            let table = toml::de::DeTable::parse(&document).unwrap();
            prop_assert_eq!(table.get_ref().get("x").unwrap().get_ref().as_str(), Some(text.as_str()));
        }
    }
}
