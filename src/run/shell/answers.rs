//! What the shell's lines ask for, done and told a line at a time.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::super::report::{ROW, Row};
use super::{CpuLoop, Out};
use crate::addr::Address;
use crate::console::Screen;
use crate::json::Writer;
use crate::machine::Machine;
use crate::regs::GuestRegs;
use crate::shell::{Change, Command, Request, VmRef};
use crate::slot::Where;
use crate::vcpu::{VcpuId, VmId};
use crate::vdev::vgic::{Kicks, MAX_VCPUS};
use crate::vm::{Reason, Vm};
use alloc::sync::Arc;
use core::fmt::{Display, Formatter, Write};
use core::sync::atomic::Ordering;

/// How long a guest has to react to its power key before somebody says that it has not.
const SHUTDOWN_SECONDS: u64 = 30;

/// What cannot be done, in words that say what would be right.
enum Refusal<'a> {
    /// No VM is called that.
    NoVm(VmRef<'a>),
    /// It does not run any more.
    Stopped(&'a str),
    /// Nobody has built this yet.
    Later,
}

impl Refusal<'_> {
    fn code(&self) -> &'static str {
        match self {
            Self::NoVm(_) => "E0609",
            Self::Stopped(_) => "E0610",
            Self::Later => "E0611",
        }
    }
}

impl Display for Refusal<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ", self.code())?;
        match self {
            Self::NoVm(vm) => write!(f, "there is no VM {vm}: vm list shows all"),
            Self::Stopped(name) => write!(f, "vm {name} has stopped already: vm info {name} says why"),
            Self::Later => f.write_str("this version of Mezzanine cannot do that yet: help says what it can"),
        }
    }
}

/// A VM's state in a word.
fn state(vm: &Vm) -> &'static str {
    if vm.is_stopping() { "stopped" } else { "running" }
}

impl<M: Machine> CpuLoop<'_, M> {
    /// Line `step` of the answer; whether there are more.
    pub(super) fn carry_out(&mut self, request: &Request<'_>, step: u32, out: &mut Out) -> bool {
        let told = match request.command {
            Command::List => Ok(self.list(request.json, step, out)),
            Command::Info(vm) => self.named(vm).map(|vm| info(&vm, request.json, step, out)),
            Command::Regs(vm) => self.named(vm).map(|vm| {
                let mut regs = self.world.shell.lock().regs.take();
                let more = registers(&vm, &mut regs, request.json, step, out);
                self.world.shell.lock().regs = regs;
                more
            }),
            Command::Console(vm) => self.named(vm).map(|vm| {
                if vm.without_uart {
                    let _ = write!(out, "vm {} has no serial port", vm.name);
                } else {
                    self.show_screen(Some(Screen(vm.id.0)));
                }
                false
            }),
            Command::Change(change, vm) => self.named(vm).and_then(|found| {
                if found.is_stopping() && matches!(change, Change::Shutdown | Change::Stop) {
                    let _ = write!(out, "{}", Refusal::Stopped(&found.name));
                    return Ok(false);
                }
                self.change(change, &found, out).map(|()| false)
            }),
            Command::Cpu => Ok(self.cpus(request.json, step, out)),
            Command::Version => {
                version(request.json, out);
                Ok(false)
            }
            Command::Help(topic) => Ok(topic.line(step as usize, out)),
            Command::Dmesg => {
                self.world.console.replay();
                Ok(false)
            }
            Command::Poweroff => Ok(self.power_off(step, out)),
            _ => Err(Refusal::Later),
        };
        told.unwrap_or_else(|refusal| {
            let _ = write!(out, "{refusal}");
            false
        })
    }

    /// The VM that somebody calls so.
    fn named<'a>(&self, vm: VmRef<'a>) -> Result<Arc<Vm>, Refusal<'a>> {
        let found = match vm {
            VmRef::Id(n) => self.world.vm(VmId(n)),
            VmRef::Name(name) => self.world.vms().iter().flatten().find(|vm| vm.name == name).cloned(),
        };
        found.ok_or(Refusal::NoVm(vm))
    }

    fn list(&self, json: bool, step: u32, out: &mut Out) -> bool {
        let vms = self.world.vms();
        let rows = vms.iter().flatten().count() as u32;
        if json {
            if step == 0 {
                let _ = out.push('[');
            }
            if let Some(vm) = vms.iter().flatten().nth(step as usize) {
                let _ = out.push_str(if step == 0 { "" } else { "," });
                let mut to = Writer::new(out);
                to.object().key("vm").number(vm.id.0.into()).key("name").string(&vm.name);
                to.key("state").string(state(vm)).key("vcpus").number(vm.vcpus().count() as u64);
                to.key("memory_bytes").number(vm.ram.range().size());
                if let Some(reason) = vm.stopped() {
                    to.key("reason").string(reason.as_str());
                }
                to.end_object();
            }
            if step.saturating_add(1) >= rows {
                let _ = out.push(']');
            }
            return step.saturating_add(1) < rows;
        }
        let Some(at) = step.checked_sub(1) else {
            let _ = out.push_str("  id  name                             state    vCPUs     memory");
            return rows != 0;
        };
        if let Some(vm) = vms.iter().flatten().nth(at as usize) {
            let (id, vcpus, mib) = (vm.id.0, vm.vcpus().count(), vm.ram.range().size() >> 20);
            let _ = write!(out, "{id:4}  {:31}  {:7}  {vcpus:5}  {mib:5} MiB", vm.name, state(vm));
            if let Some(reason) = vm.stopped() {
                let _ = write!(out, "  {}", reason.as_str());
            }
        }
        step < rows
    }

    fn cpus(&self, json: bool, step: u32, out: &mut Out) -> bool {
        let (cpus, last) = (self.world.cpus() as u32, (self.world.cpus() as u32).saturating_sub(1));
        let cpu = if json { step } else { step.wrapping_sub(1) };
        if !json && step == 0 {
            let _ = out.push_str(" cpu  runs or waits  waits");
            return true;
        }
        let Some((load, waiting)) = self.world.busy(cpu as u16) else { return false };
        if json {
            let _ = out.push_str(if cpu == 0 { "[" } else { "," });
            let mut to = Writer::new(out);
            to.object().key("cpu").number(cpu.into()).key("load").number(load as u64);
            to.key("waiting").number(waiting as u64).end_object();
            let _ = out.push_str(if cpu == last { "]" } else { "" });
        } else {
            let _ = write!(out, "{cpu:4}  {load:13}  {waiting:5}");
        }
        cpu.saturating_add(1) < cpus
    }

    fn change<'a>(&mut self, change: Change, vm: &Arc<Vm>, out: &mut Out) -> Result<(), Refusal<'a>> {
        match change {
            Change::Shutdown => {
                self.press_power_key(vm);
                let by = self.after_ms(self.machine.now(), SHUTDOWN_SECONDS.wrapping_mul(1000));
                vm.asked.store(by.0, Ordering::Relaxed);
                self.watch_in(vm.id, SHUTDOWN_SECONDS);
                let _ = write!(out, "vm {}: power key pressed", vm.name);
            }
            Change::Stop => self.stop_by_force(vm),
            Change::Start | Change::Pause | Change::Resume | Change::Reset | Change::Destroy => {
                return Err(Refusal::Later);
            }
        }
        Ok(())
    }

    /// Stops a VM that nobody has stopped yet, whatever its vCPUs do: each gives itself up when it looks.
    fn stop_by_force(&mut self, vm: &Arc<Vm>) {
        if vm.stop(Reason::Forced) {
            self.stopped(vm, None, &Reason::Forced);
            let all = (0..MAX_VCPUS as u16).map(VcpuId).filter(|id| vm.slot(*id).is_some());
            let all = all.fold(Kicks::NONE, |all, id| all | Kicks::of(id));
            self.wake_all(vm, all);
        }
    }

    /// Stops one VM after the other; with the last of them the machine goes off.
    fn power_off(&mut self, step: u32, out: &mut Out) -> bool {
        let vms = self.world.vms();
        if step == 0 {
            let _ = out.push_str("stopping all VMs by force");
        }
        if let Some(vm) = vms.get(step as usize).cloned().flatten() {
            self.stop_by_force(&vm);
        }
        (step as usize).saturating_add(1) < vms.len()
    }
}

fn version(json: bool, out: &mut Out) {
    let version = env!("CARGO_PKG_VERSION");
    if json {
        let mut to = Writer::new(out);
        to.object().key("name").string("Mezzanine").key("version").string(version).end_object();
    } else {
        let _ = write!(out, "Mezzanine {version}");
    }
}

/// Where a vCPU is, in words.
fn whereabouts(place: Where) -> &'static str {
    match place {
        Where::Off => "off",
        Where::Blocked(_) => "waits for an interrupt",
        Where::Queued => "waits to run",
        Where::On(_) => "on a CPU",
    }
}

/// The CPU that goes with it.
fn cpu_of(place: Where) -> Option<u64> {
    match place {
        Where::Blocked(cpu) | Where::On(cpu) => Some(cpu.0.into()),
        Where::Off | Where::Queued => None,
    }
}

fn info(vm: &Vm, json: bool, step: u32, out: &mut Out) -> bool {
    let vcpus = vm.vcpus().count() as u32;
    let slot = |n: u32| Some((n, vm.slot(VcpuId(n as u16))?));
    if json {
        if step == 0 {
            let mut to = Writer::new(out);
            to.object().key("vm").number(vm.id.0.into()).key("name").string(&vm.name);
            to.key("state").string(state(vm)).key("ram_start").hex(vm.ram.range().start().raw());
            to.key("memory_bytes").number(vm.ram.range().size());
            if let Some(reason) = vm.stopped() {
                let _ = out.push_str(",\"reason\":");
                Writer::new(out).string(reason.as_str());
            }
            let _ = out.push_str(",\"vcpus\":[");
        }
        if let Some((n, slot)) = slot(step) {
            let _ = out.push_str(if n == 0 { "" } else { "," });
            let place = slot.whereabouts();
            let mut to = Writer::new(out);
            to.object().key("vcpu").number(n.into()).key("state").string(whereabouts(place));
            if let Some(cpu) = cpu_of(place) {
                to.key("cpu").number(cpu);
            }
            to.end_object();
        }
        if step.saturating_add(1) >= vcpus {
            let _ = out.push_str("]}");
        }
        return step.saturating_add(1) < vcpus;
    }
    let Some(n) = step.checked_sub(1) else {
        let _ = write!(out, "vm {} (number {}): {}", vm.name, vm.id.0, state(vm));
        if let Some(reason) = vm.stopped() {
            let _ = write!(out, ", {}", reason.as_str());
        }
        let _ =
            write!(out, "\r\n  {} MiB at {}, {vcpus} vCPU(s)", vm.ram.range().size() >> 20, vm.ram.range());
        return vcpus != 0;
    };
    if let Some((n, slot)) = slot(n) {
        let place = slot.whereabouts();
        let _ = write!(out, "  vCPU {n}: {}", whereabouts(place));
        if let Some(cpu) = cpu_of(place) {
            let _ = write!(out, ", CPU {cpu}");
        }
    }
    step < vcpus
}

/// A vCPU's registers, if they are where one can look: not while it runs, or is about to. A few in each line.
fn registers(vm: &Vm, found: &mut Option<GuestRegs>, json: bool, step: u32, out: &mut Out) -> bool {
    /// Of each vCPU: what it does, then its registers.
    const LINES: u32 = 9;
    let vcpus = vm.vcpus().count() as u32;
    let (vcpu, line) = (step / LINES, step % LINES);
    let Some(slot) = vm.slot(VcpuId(vcpu as u16)) else { return false };
    if line == 0 {
        *found = slot.peek(|vcpu| vcpu.regs.clone());
    }
    let first = (line.saturating_sub(1) as u8).saturating_mul(ROW);
    let last = line.saturating_add(1) == LINES;
    match (&*found, line) {
        (_, 0) if json => {
            let _ = out.push_str(if vcpu == 0 { "[" } else { "," });
            let mut to = Writer::new(out);
            to.object().key("vcpu").number(vcpu.into()).key("state").string(whereabouts(slot.whereabouts()));
            if let Some(regs) = found {
                to.key("pc").hex(regs.pc).key("pstate").hex(regs.pstate);
            }
            let _ = out.push_str(",\"x\":[");
        }
        (Some(regs), _) if json => {
            for n in (first..31).take(ROW.into()) {
                let _ = out.push_str(if n == 0 { "" } else { "," });
                Writer::new(out).hex(regs.x(n));
            }
        }
        (Some(regs), 0) => {
            let _ = write!(out, "vCPU {vcpu}: pc {:#x} pstate {:#x}", regs.pc, regs.pstate);
        }
        (Some(regs), _) => {
            let _ = write!(out, "{}", Row(regs, first));
        }
        (None, 0) => {
            let words = whereabouts(slot.whereabouts());
            let _ = write!(out, "vCPU {vcpu}: {words}: its registers are in its CPU");
        }
        (None, _) => {}
    }
    let ends = vcpu.saturating_add(1) == vcpus;
    if json && last {
        let _ = out.push_str(if ends { "]}]" } else { "]}" });
    }
    !(last && ends)
}
