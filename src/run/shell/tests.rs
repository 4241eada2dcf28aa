//! The shell over the scripted machine: what people type, and what they read.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may fail")]

use super::super::CpuLoop;
use super::super::World;
use super::super::fake::{Fake, Step};
use super::super::tests::{Gic, hvc, step, vm_of};
use crate::exit::Exit;
use crate::machine::{IntId, Ticks, ppi};
use crate::map::GicVersion;
use crate::shell::COMMANDS;
use crate::vcpu::CpuId;
use crate::vm::{Reason, Vm};
use crate::vmid::Table;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;

/// Types these at the shell, one after the other, each once what came before has been answered. What was on the
/// terminal from the first prompt on, and the VMs.
fn session(typed: &[&str], vcpus: &[u16]) -> (String, Vec<Arc<Vm>>) {
    let gic = Gic { version: GicVersion::V3, emulated: false };
    let made = vcpus.iter().enumerate().map(|(id, vcpus)| vm_of(id as u16, *vcpus, gic, |_| {}));
    let (vms, memory): (Vec<_>, Vec<_>) = made.unzip();
    let world = World::new(vms.clone(), 1, 1_000_000, Table::new(8, vms.len(), 1));
    world.start(&vms[0], 0x4020_0000, 0x4000_0000, Ticks(0));
    let mut steps: Vec<Step> = Vec::new();
    for line in ["\x070", ""].iter().chain(typed) {
        // Those after a `!` do not wait for their answer.
        let (fillers, line) = line.strip_prefix('!').map_or((150, *line), |line| (8, line));
        let line = line.to_string();
        steps.push(step(move |machine, _| {
            machine.typed.extend(line.bytes());
            machine.pending.push_back(IntId::spi(1));
            Exit::Irq
        }));
        for _ in 0..fillers {
            steps.push(step(|machine, _| {
                machine.now += 1_000;
                match machine.deadline {
                    Some(at) if at.0 <= machine.now => {
                        machine.pending.push_back(ppi::HYP_TIMER);
                        Exit::Irq
                    }
                    _ => {
                        // The terminal has room.
                        machine.pending.push_back(IntId::spi(1));
                        Exit::Irq
                    }
                }
            }));
        }
    }
    steps.push(step(|_, vcpu| hvc(vcpu, 0x8400_0008, [0; 3])));
    let fake = Fake { steps: steps.into(), room: usize::MAX, ..Fake::default() };
    let mut cpu = CpuLoop::new(fake, &world, CpuId(0));
    cpu.run();
    drop(memory);
    let output = String::from_utf8(cpu.into_machine().output).unwrap();
    // How the row is drawn is the editor's own tests' concern.
    let output = output.replace("\x1b[K", "");
    let from = output.find("mz> ").unwrap_or_else(|| panic!("no prompt: {output:?}"));
    (output[from..].to_string(), vms)
}

/// What is answered to a line.
fn answer(line: &str) -> String {
    let (seen, _) = session(&[&std::format!("{line}\r")], &[2]);
    let (_, answer) = seen.split_once("\r\n").unwrap_or_else(|| panic!("{seen:?}"));
    answer.split_once("\rmz> ").unwrap_or_else(|| panic!("no prompt after {answer:?}")).0.to_string()
}

#[test]
fn a_prompt_is_there_and_lines_are_answered() {
    assert_eq!(answer("version"), std::format!("Mezzanine {}\r\n", env!("CARGO_PKG_VERSION")));
    let list = answer("vm list");
    let rows: Vec<&str> = list.lines().collect();
    assert_eq!(rows.len(), 2, "{list}");
    assert!(rows[1].starts_with("   0  vm0 ") && rows[1].contains("running      2"), "{list}");
    let info = answer("vm info 0");
    assert!(info.starts_with("vm vm0 (number 0): running\r\n"), "{info}");
    assert!(info.ends_with("  vCPU 0: on a CPU, CPU 0\r\n  vCPU 1: off\r\n"), "{info}");
    assert!(answer("vm regs vm0").contains("vCPU 1: pc 0x0 "));
}

#[test]
fn what_is_wrong_is_said_and_changes_nothing() {
    assert_eq!(answer("vm info nobody"), "E0609 there is no VM \"nobody\": vm list shows all\r\n");
    assert_eq!(answer("vm stop 7"), "E0609 there is no VM 7: vm list shows all\r\n");
    assert!(answer("vm lsit").starts_with("E0603 "));
}

#[test]
fn json_is_one_line_that_a_reader_reads() {
    for line in ["vm list --json", "vm info vm0 --json", "vm regs vm0 --json", "cpu --json", "version --json"]
    {
        let text = answer(line);
        let json = text.strip_suffix("\r\n").unwrap();
        assert!(!json.contains('\n'), "{json}");
        let wrapped = std::format!("[{json}]");
        let mut reader = crate::json::Reader::array(wrapped.as_bytes()).unwrap();
        assert!(reader.item().unwrap().is_some(), "{json}");
        assert!(reader.item().unwrap().is_none(), "{json}");
    }
}

#[test]
fn every_command_is_done_or_marked() {
    for entry in COMMANDS.iter().filter(|entry| entry.words != ["poweroff"]) {
        for example in entry.examples {
            let line = example.replace("alpha", "vm0");
            // What ends the VM, and with it the machine, or shows another screen, has its own test.
            if ["vm stop vm0", "vm console vm0"].contains(&line.as_str()) {
                continue;
            }
            let later = answer(&line).starts_with("E0611");
            assert_eq!(later, entry.is_later(), "{line}");
        }
    }
}

#[test]
fn a_vm_is_stopped_by_force() {
    let (_, vms) = session(&["vm stop vm0\r"], &[1]);
    assert_eq!(vms[0].stopped(), Some(Reason::Forced));
    assert!(vms[0].slots().all(|(_, slot)| slot.is_off()));
    let (_, vms) = session(&["poweroff\r"], &[1]);
    assert_eq!(vms[0].stopped(), Some(Reason::Forced));
}

#[test]
fn keys_wait_while_a_line_is_answered_and_ctrl_c_ends_it() {
    let (seen, _) = session(&["help\rversion\r"], &[1]);
    let (help, version) = seen.split_once("mz> version\r\n").unwrap_or_else(|| panic!("{seen}"));
    assert!(help.contains("vm shutdown VM") && version.contains("Mezzanine "), "{seen}");
    let (seen, _) = session(&["!help\r", "\x03"], &[1]);
    assert!(seen.contains("^C\r\n\rmz> ") && !seen.contains("poweroff"), "{seen}");
}

#[test]
fn the_power_key_is_pressed() {
    let (seen, vms) = session(&["vm shutdown vm0\r"], &[1]);
    assert!(seen.contains("vm vm0: power key pressed\r\n"), "{seen}");
    assert_ne!(
        vms[0].asked.load(core::sync::atomic::Ordering::Relaxed),
        0,
        "somebody looks whether it reacts"
    );
}
