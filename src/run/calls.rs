//! What a guest's calls and trapped registers do: PSCI, random numbers, system registers.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::world::Ready;
use super::{CpuLoop, Next};
use crate::addr::GuestPhysAddr;
use crate::exit::{Exit, SysReg, Trap, ec};
use crate::inject::Fault;
use crate::machine::Machine;
use crate::map::GicVersion;
use crate::psci::{Entry, Request, affinity_state, status};
use crate::pvtime::StolenTime;
use crate::sched::Arrival;
use crate::smccc::{self, Call};
use crate::sysreg::{self, Action, Identity, Sgi, timer, timer::TimerReg};
use crate::trng;
use crate::vcpu::{El1, HCR_TVM, Vcpu};
use crate::vdev::vgic::{Kicks, Outcome, SgiGroup};
use crate::vm::{Reason, Vm};
use alloc::sync::Arc;

/// SCTLR_EL1.M and C: translation and data caches on.
const SCTLR_CACHED: u64 = 1 | 1 << 2;

impl<'w, M: Machine> CpuLoop<'w, M> {
    /// HVC or SMC; the PC is past it.
    #[inline(always)]
    pub(super) fn call(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, immediate: u16) -> Next {
        match smccc::decode(&vcpu.regs, immediate) {
            Call::Value(value) => {
                smccc::answer(&mut vcpu.regs, value);
                Next::Resume
            }
            rarer => self.serve(vm, vcpu, rarer),
        }
    }

    #[inline(never)]
    fn serve(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, call: Call) -> Next {
        match call {
            Call::Value(value) => {
                smccc::answer(&mut vcpu.regs, value);
                Next::Resume
            }
            Call::Values(values) => {
                smccc::answer_all(&mut vcpu.regs, values);
                Next::Resume
            }
            Call::Random(call) => {
                self.generator(vcpu, call);
                Next::Resume
            }
            Call::StolenTime => {
                let address = StolenTime::address(vcpu.id);
                smccc::answer(&mut vcpu.regs, address);
                Next::Resume
            }
            Call::Power(request) => self.power(vm, vcpu, request),
        }
    }

    /// TRNG (DEN0098). Without a source of entropy there is no such service: a guest that were told of one
    /// that is empty would ask again and again.
    fn generator(&mut self, vcpu: &mut Vcpu, call: trng::Decoded) {
        match call {
            trng::Decoded::Request(request) => {
                let values = trng::answer(request, &mut || self.machine.random());
                smccc::answer_all(&mut vcpu.regs, values);
            }
            _ if !self.machine.has_entropy() => smccc::answer(&mut vcpu.regs, smccc::NOT_SUPPORTED),
            trng::Decoded::Value(value) => smccc::answer(&mut vcpu.regs, value),
            trng::Decoded::Values(values) => smccc::answer_all(&mut vcpu.regs, values),
        }
    }

    fn power(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, request: Request) -> Next {
        let result = match request {
            Request::SystemOff => return Next::Stop(Reason::PoweredOff),
            Request::SystemReset => return Next::Stop(Reason::Reset),
            Request::CpuOff => return Next::Off,
            Request::CpuSuspend => {
                smccc::answer(&mut vcpu.regs, status::SUCCESS);
                return self.block_unless_signalled(vm, vcpu);
            }
            Request::SystemSuspend { entry } => match self.suspend(vm, vcpu, entry) {
                Ok(next) => return next,
                Err(status) => status,
            },
            Request::CpuOn { target, entry } => self.cpu_on(vm, target, entry),
            Request::AffinityInfo { target, level } => affinity_info(vm, target, level),
        };
        smccc::answer(&mut vcpu.regs, result);
        Next::Resume
    }

    /// CPU_ON (DEN0022 5.6).
    fn cpu_on(&mut self, vm: &Arc<Vm>, target: u64, entry: Entry) -> u64 {
        let Some(id) = vm.by_affinity(target) else { return status::INVALID_PARAMETERS };
        if !vm.ram.range().contains(GuestPhysAddr::at(entry.point)) {
            return status::INVALID_ADDRESS;
        }
        match vm.power_on(id, entry.point, entry.context) {
            Some(vcpu) => {
                self.admit(Ready { vcpu, vm: vm.clone() }, self.id, Arrival::Started);
                status::SUCCESS
            }
            None => status::ALREADY_ON,
        }
    }

    /// SYSTEM_SUSPEND (DEN0022 5.20): waits, then begins anew at `entry`.
    fn suspend(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, entry: Entry) -> Result<Next, u64> {
        if vm.slots().any(|(id, _)| id != vcpu.id && is_on(vm, id)) {
            return Err(status::DENIED);
        }
        if !vm.ram.range().contains(GuestPhysAddr::at(entry.point)) {
            return Err(status::INVALID_ADDRESS);
        }
        vcpu.resume_at = Some((entry.point, entry.context));
        match self.block_unless_signalled(vm, vcpu) {
            // The stint ends here in any case: the next one begins at `resume_at`.
            Next::Resume => Ok(Next::Yield),
            next => Ok(next),
        }
    }

    /// A trapped MSR, MRS or system instruction. ID registers, which kernels read by the hundred, go first.
    #[inline(always)]
    pub(super) fn sysreg(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, access: SysReg) -> Next {
        if access.read
            && let Some((crm, op2)) = sysreg::id_register(access.reg)
        {
            vcpu.regs.set_x(access.rt, vm.ids.get(crm, op2));
            vcpu.regs.skip(4);
            return Next::Resume;
        }
        if sysreg::sends_sgi1(access.reg, access.read)
            && let Some(raised) = vm.vgic.own_sgi(vcpu.id, vcpu.regs.x(access.rt))
        {
            vcpu.regs.skip(4);
            self.sync_raised(vm, vcpu, raised);
            return Next::Resume;
        }
        self.other_sysreg(vm, vcpu, access)
    }

    #[inline(never)]
    fn other_sysreg(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, access: SysReg) -> Next {
        // An emulated interface makes two exits of each interrupt: before anything is looked up.
        if vcpu.lists.emulated && sysreg::takes_or_ends(access.reg) {
            return match self.interface(vm, vcpu, access) {
                Some(value) => done(vcpu, access, value),
                None => self.inject(vcpu, Fault::Undefined { long: true }),
            };
        }
        self.looked_up_sysreg(vm, vcpu, access)
    }

    #[inline(never)]
    fn looked_up_sysreg(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, access: SysReg) -> Next {
        let value = match sysreg::lookup(access.reg, access.read) {
            Action::Id(crm, op2) => vm.ids.get(crm, op2),
            Action::Value(value) => value,
            Action::Ignore => 0,
            Action::IccSre | Action::Icc | Action::Sgi(_) if vm.vgic.version() == GicVersion::V2 => {
                return self.inject(vcpu, Fault::Undefined { long: true });
            }
            Action::Sgi(which) => {
                let group = match which {
                    Sgi::Sgi1 => SgiGroup::Group1,
                    Sgi::Sgi0 | Sgi::Asgi1 => SgiGroup::Group0,
                };
                let kicks = vm.vgic.sgi(vcpu.id, group, vcpu.regs.x(access.rt));
                self.kick(vm, Some(vcpu.id), kicks);
                0
            }
            Action::Timer(reg) => {
                let now = self.machine.now().0.wrapping_sub(vcpu.cntvoff);
                if access.read {
                    timer::read(&vcpu.physical_timer, reg, now)
                } else {
                    timer::write(&mut vcpu.physical_timer, reg, vcpu.regs.x(access.rt), now);
                    self.physical_timer_changed(vm, vcpu);
                    0
                }
            }
            Action::Counter => self.machine.now().0.wrapping_sub(vcpu.cntvoff),
            Action::Identity(Identity::Midr | Identity::Revidr) => vcpu.midr,
            Action::Identity(Identity::Mpidr) => vcpu.mpidr,
            Action::IccSre => 7,
            Action::Icc => match self.interface(vm, vcpu, access) {
                Some(value) => value,
                None => return self.inject(vcpu, Fault::Undefined { long: true }),
            },
            Action::SetWay => {
                if !self.set_way(vm, vcpu) {
                    return Next::Resume;
                }
                0
            }
            Action::Vm(reg) => {
                let value = if access.read { self.machine.el1(vcpu, reg) } else { 0 };
                if !access.read && !self.stage1_write(vm, vcpu, reg, vcpu.regs.x(access.rt)) {
                    return Next::Resume;
                }
                value
            }
            Action::Undefined => return self.inject(vcpu, Fault::Undefined { long: true }),
        };
        done(vcpu, access, value)
    }

    /// A trapped CP15 access from AArch32 EL0: its physical timer, if EL1 lets it (CNTKCTL_EL1 traps to EL1
    /// first). The condition holds. ISS: Arm ARM D24.2.40, MCR or MRC and MCRR or MRRC.
    pub(super) fn cp15(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, trap: Trap) -> Next {
        let field = |lsb: u32, mask: u64| (trap.esr >> lsb & mask) as u8;
        let (read, crm, rt, double) =
            (trap.esr & 1 != 0, field(1, 15), field(5, 31), trap.class() == ec::CP15_64);
        let timer = match (double, crm) {
            (true, 14) => match field(16, 15) {
                0 if read => None,
                2 => Some(TimerReg::Cval),
                _ => return self.fault(vcpu, Exit::Undefined(trap)),
            },
            (false, 2) if field(10, 15) == 14 && field(14, 7) == 0 => match field(17, 7) {
                0 => Some(TimerReg::Tval),
                1 => Some(TimerReg::Ctl),
                _ => return self.fault(vcpu, Exit::Undefined(trap)),
            },
            _ => return self.fault(vcpu, Exit::Undefined(trap)),
        };
        let rt2 = field(10, 31);
        let now = self.machine.now().0.wrapping_sub(vcpu.cntvoff);
        if read {
            let value = timer.map_or(now, |reg| timer::read(&vcpu.physical_timer, reg, now));
            vcpu.regs.set_x(rt, value & 0xffff_ffff);
            if double {
                vcpu.regs.set_x(rt2, value >> 32);
            }
        } else if let Some(reg) = timer {
            let low = vcpu.regs.x(rt) & 0xffff_ffff;
            let value = if double { vcpu.regs.x(rt2) << 32 | low } else { low };
            timer::write(&mut vcpu.physical_timer, reg, value, now);
            self.physical_timer_changed(vm, vcpu);
        }
        vcpu.regs.skip(trap.instruction_bytes());
        Next::Resume
    }

    /// A trapped register of the GIC's CPU interface: all of them where that is emulated; else ICC_DIR_EL1
    /// alone, and that at times. `None` if it is UNDEFINED.
    fn interface(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, access: SysReg) -> Option<u64> {
        let mut others = Kicks::NONE;
        if !vcpu.lists.emulated {
            self.machine.fold(vcpu);
            others = vm.vgic.sync(vcpu.id, &mut vcpu.lists);
        }
        let write = (!access.read).then(|| vcpu.regs.x(access.rt));
        let outcome = vm.vgic.icc(vcpu.id, access.reg, write, &mut vcpu.lists)?;
        let Outcome::Done(value, kicks) = outcome else { return Some(0) };
        self.kick(vm, Some(vcpu.id), kicks | others);
        Some(value)
    }

    /// Cache maintenance by set and way: the first of a series flushes the VM's memory by address, and then
    /// has the caches coming on watched. False while there is more to flush: the instruction is tried again.
    fn set_way(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu) -> bool {
        if vcpu.hcr & HCR_TVM != 0 {
            return true;
        }
        if !self.flush_all(vm, vcpu) {
            return false;
        }
        vcpu.hcr |= HCR_TVM;
        true
    }

    /// A watched write of a Stage 1 register. Memory is flushed once more when the caches go on or off.
    /// False while there is more to flush.
    fn stage1_write(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, reg: El1, value: u64) -> bool {
        if reg == El1::Sctlr {
            let cached = |sctlr: u64| sctlr & SCTLR_CACHED == SCTLR_CACHED;
            let (before, after) = (cached(self.machine.el1(vcpu, El1::Sctlr)), cached(value));
            if before != after && !self.flush_all(vm, vcpu) {
                return false;
            }
            if after {
                vcpu.hcr &= !HCR_TVM;
            }
        }
        self.machine.set_el1(vcpu, reg, value);
        true
    }

    /// One step of flushing the VM's memory; true when that was the last.
    fn flush_all(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu) -> bool {
        let from = vcpu.flush.unwrap_or(vm.ram.range().start());
        vcpu.flush = self.flush_step(vm, from);
        vcpu.flush.is_none()
    }
}

/// A trapped MRS read `value`, or MSR is done.
#[inline(always)]
fn done(vcpu: &mut Vcpu, access: SysReg, value: u64) -> Next {
    if access.read {
        vcpu.regs.set_x(access.rt, value);
    }
    vcpu.regs.skip(4);
    Next::Resume
}

/// Whether a vCPU is anything but off.
fn is_on(vm: &Arc<Vm>, id: crate::vcpu::VcpuId) -> bool {
    vm.slot(id).is_some_and(|slot| !slot.is_off())
}

/// AFFINITY_INFO (DEN0022 5.7): on if any of those meant is.
fn affinity_info(vm: &Arc<Vm>, target: u64, level: u8) -> u64 {
    let mut found = false;
    for (id, mpidr) in vm.vcpus() {
        if Request::matches(target, level, mpidr) {
            if is_on(vm, id) {
                return affinity_state::ON;
            }
            found = true;
        }
    }
    if found { affinity_state::OFF } else { status::INVALID_PARAMETERS }
}
