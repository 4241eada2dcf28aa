//! How often each VM exited, and why: what `trace-exits` asks for.
//!
//! Nothing of it runs unless it was asked for at boot: the loop that counts is a copy of the one that does not.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::exit::{Exit, Mmio, SysReg};
use crate::map;
use crate::sysreg;
use crate::vcpu::Vcpu;
use crate::vm::Vm;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Exits of each VM, by its place, and reason.
#[derive(Debug, Default)]
pub struct Counts(Vec<Vec<(&'static str, u64)>>);

impl Counts {
    /// Nothing so far, of `vms` VMs.
    pub(super) fn new(vms: usize) -> Self {
        Self((0..vms).map(|_| Vec::new()).collect())
    }

    /// Counts an exit that has not been handled yet.
    #[inline(never)]
    pub(super) fn count(&mut self, vm: &Vm, vcpu: &Vcpu, exit: &Exit) {
        let Some(rows) = self.0.get_mut(usize::from(vm.id.0)) else { return };
        add(rows, reason(vm, vcpu, exit), 1);
    }

    /// These and those of another CPU.
    pub(super) fn and(mut self, others: Self) -> Self {
        for (rows, others) in self.0.iter_mut().zip(others.0) {
            for (reason, count) in others {
                add(rows, reason, count);
            }
        }
        self
    }

    /// How often the VM at `place` exited for that reason.
    #[cfg(test)]
    pub(super) fn of(&self, place: usize, reason: &str) -> u64 {
        let rows = self.0.get(place).map_or(&[][..], Vec::as_slice);
        rows.iter().find(|(name, _)| *name == reason).map_or(0, |(_, count)| *count)
    }

    /// Writes a table of each VM's exits to the log, the most frequent first.
    pub fn report(mut self, vms: &[Option<Arc<Vm>>]) {
        for (vm, rows) in vms.iter().flatten().zip(&mut self.0) {
            let total = rows.iter().fold(0u64, |sum, (_, count)| sum.saturating_add(*count));
            log::info!("vm {}: {total} exits", vm.name);
            // A handful of rows, and small code: the largest of what is left, again and again.
            while let Some(most) = (0..rows.len()).max_by_key(|row| rows.get(*row).map(|(_, count)| *count)) {
                let (name, count) = rows.swap_remove(most);
                log::info!("{count:>12} {name}");
            }
        }
    }
}

fn add(rows: &mut Vec<(&'static str, u64)>, reason: &'static str, more: u64) {
    match rows.iter_mut().find(|(name, _)| *name == reason) {
        Some((_, count)) => *count = count.saturating_add(more),
        None => rows.push((reason, more)),
    }
}

/// Why the guest left, in the words of those who write kernels.
fn reason(vm: &Vm, vcpu: &Vcpu, exit: &Exit) -> &'static str {
    match exit {
        Exit::Mmio(mmio) => device(vm, mmio),
        Exit::Hvc(0) => call(vcpu.regs.x(0), "HVC"),
        Exit::Smc(0) => call(vcpu.regs.x(0), "SMC"),
        Exit::Hvc(_) => "HVC",
        Exit::Smc(_) => "SMC",
        Exit::SysReg(access) => register(access),
        Exit::Irq => "IRQ",
        Exit::Wfi(_) => "WFI",
        Exit::Wfe(_) => "WFE",
        Exit::DataAbort(_) => "data abort",
        Exit::InstructionAbort(_) => "instruction abort",
        Exit::Cp15(_) => "CP15",
        Exit::Undefined(_) => "undefined instruction",
        Exit::Fp => "FP",
        Exit::Again => "nothing that lasts",
        Exit::SError => "SError",
        Exit::Unknown(_) => "unknown",
    }
}

fn device(vm: &Vm, mmio: &Mmio) -> &'static str {
    let ipa = mmio.ipa();
    if map::GICD.contains(ipa) {
        "GICD"
    } else if map::GICC.contains(ipa) {
        "GICC"
    } else if map::gicr(map::MAX_VCPUS).contains(ipa) {
        "GICR"
    } else {
        vm.bus.find(ipa).map_or("no device", |(region, _)| region.name)
    }
}

/// Function numbers by their owner (SMC Calling Convention, DEN0028, table 6-2): with either width of registers.
fn call(function: u64, otherwise: &'static str) -> &'static str {
    match function & 0xbfff_ffff {
        0x8400_0000..=0x8400_001f => "PSCI",
        0x8400_0050..=0x8400_005f => "TRNG",
        0x8000_0000..=0x80ff_ffff => "SMCCC",
        _ => otherwise,
    }
}

fn register(access: &SysReg) -> &'static str {
    match sysreg::id_register(access.reg) {
        Some(_) if access.read => "ID register",
        _ => sysreg::name(access.reg).unwrap_or("unknown register"),
    }
}

#[cfg(test)]
mod tests {
    use super::call;

    #[test]
    fn calls_are_told_apart_by_their_owner() {
        for (function, name) in [
            (0x8400_0000, "PSCI"),
            (0xc400_0003, "PSCI"),
            (0x8400_0050, "TRNG"),
            (0xc400_0053, "TRNG"),
            (0x8000_0001, "SMCCC"),
            (0, "HVC"),
            (0x8600_ff01, "HVC"),
            (0x8400_0020, "HVC"),
        ] {
            assert_eq!(call(function, "HVC"), name, "{function:#x}");
        }
    }
}
