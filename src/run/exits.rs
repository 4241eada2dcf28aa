//! `handle(exit) -> Next`: what each exit of a guest leads to.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::{CpuLoop, Next};
use crate::addr::{Address, GuestPhysAddr};
use crate::exit::{Abort, Exit, Mmio, Trap};
use crate::inject::{self, Fault};
use crate::machine::{Machine, Ticks, ppi};
use crate::map::{self, GicVersion};
use crate::sched::Purpose;
use crate::vcpu::{El1, Vcpu, VcpuId, VmId};
use crate::vdev::vgic::{Frame, Kicks, Outcome};
use crate::vdev::{Access, AccessError, Line, Region};
use crate::vm::{Reason, Vm, event};
use alloc::sync::Arc;

impl<'w, M: Machine> CpuLoop<'w, M> {
    /// What an exit leads to; whatever can be done at once has been.
    ///
    /// Inlined into the loop together with `enter` and the decode, so that an exit is never put together just
    /// to be taken apart again.
    #[inline(always)]
    pub(super) fn handle(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, exit: Exit) -> Next {
        match exit {
            Exit::Mmio(mmio) if map::UART.contains(mmio.ipa()) => self.serial(vm, vcpu, mmio),
            Exit::Mmio(mmio) => self.mmio(vm, vcpu, mmio),
            Exit::Hvc(imm) => self.call(vm, vcpu, imm),
            Exit::SysReg(access) => self.sysreg(vm, vcpu, access),
            Exit::Irq => {
                if self.interrupted(vm, vcpu) {
                    Next::Yield
                } else {
                    Next::Resume
                }
            }
            exit => self.handle_rare(vm, vcpu, exit),
        }
    }

    /// The exits that are no part of a busy guest's day.
    #[inline(never)]
    pub(super) fn handle_rare(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, exit: Exit) -> Next {
        match exit {
            Exit::Wfi(trap) => self.wfi(vm, vcpu, trap),
            Exit::Wfe(trap) => {
                if condition_fails(vcpu, trap) {
                    return Next::Resume;
                }
                vcpu.regs.skip(trap.instruction_bytes());
                Next::Yield
            }
            Exit::Smc(imm) => {
                // Unlike HVC, a trapped SMC has not been executed: its return address is itself.
                vcpu.regs.skip(4);
                self.call(vm, vcpu, imm)
            }
            Exit::DataAbort(abort) | Exit::InstructionAbort(abort) => self.abort(vm, vcpu, abort, exit),
            Exit::Cp15(trap) => {
                if condition_fails(vcpu, trap) {
                    return Next::Resume;
                }
                self.cp15(vm, vcpu, trap)
            }
            Exit::Undefined(trap) => {
                if condition_fails(vcpu, trap) {
                    return Next::Resume;
                }
                self.fault(vcpu, exit)
            }
            Exit::SError => Next::Stop(Reason::SystemError),
            Exit::Fp | Exit::Again => Next::Resume,
            Exit::Unknown(trap) => Next::Stop(Reason::Unexpected { esr: trap.esr }),
            Exit::Mmio(_) | Exit::Hvc(_) | Exit::SysReg(_) | Exit::Irq => self.handle(vm, vcpu, exit),
        }
    }

    /// WFI: blocks unless an interrupt would be signalled at once.
    fn wfi(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, trap: Trap) -> Next {
        if condition_fails(vcpu, trap) {
            return Next::Resume;
        }
        vcpu.regs.skip(trap.instruction_bytes());
        self.block_unless_signalled(vm, vcpu)
    }

    /// Blocks unless the CPU interface has something to signal (PSTATE.I does not matter to WFI).
    pub(super) fn block_unless_signalled(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu) -> Next {
        self.machine.fold(vcpu);
        if vm.vgic.attention(vcpu.id) {
            self.sync(vm, vcpu);
        }
        if !vm.vgic.signals(vcpu.id, &vcpu.lists) {
            return Next::Block;
        }
        // It may be the timer's, and taken back since.
        self.look_at_timer(vm, vcpu);
        if vm.vgic.attention(vcpu.id) {
            self.sync(vm, vcpu);
        }
        if vm.vgic.signals(vcpu.id, &vcpu.lists) { Next::Resume } else { Next::Block }
    }

    /// An abort that no device answers: another CPU may be between break and make, else it is the guest's.
    #[cold]
    fn abort(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, abort: Abort, exit: Exit) -> Next {
        if abort.is_translation() && vm.stage2.lock().translate(abort.ipa).is_some() {
            return Next::Resume;
        }
        self.fault(vcpu, exit)
    }

    /// A load or store where no memory is.
    #[inline(never)]
    pub(super) fn mmio(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, mmio: Mmio) -> Next {
        match vm.vgic.frame(mmio.ipa()) {
            Some((frame, offset)) => self.vgic(vm, vcpu, mmio, frame, offset),
            None => self.on_bus(vm, vcpu, mmio),
        }
    }

    /// An access to a device on the bus, or to nothing.
    #[inline(never)]
    pub(super) fn on_bus(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, mmio: Mmio) -> Next {
        let outcome = match vm.bus.find(mmio.ipa()) {
            Some((region, offset)) => {
                let at = Access { offset, size: mmio.size(), now: self.machine.now() };
                match self.device(vm, vcpu, &mmio, region, at) {
                    // A device's reserved offsets read as zero and ignore writes, as most manuals have it.
                    Err(AccessError::NoRegister) => Ok(0),
                    outcome => outcome,
                }
            }
            None => Err(AccessError::NoRegister),
        };
        self.finish(vm, vcpu, mmio, outcome)
    }

    /// Ends a load or store with what the device said.
    #[inline(always)]
    pub(super) fn finish(
        &mut self,
        vm: &Arc<Vm>,
        vcpu: &mut Vcpu,
        mmio: Mmio,
        outcome: Result<u64, AccessError>,
    ) -> Next {
        let Ok(value) = outcome else { return self.abort(vm, vcpu, mmio.abort, Exit::Mmio(mmio)) };
        if !mmio.is_write() {
            vcpu.regs.set_x(mmio.reg(), mmio.extend(value));
        }
        vcpu.regs.skip(mmio.abort.instruction_bytes());
        Next::Resume
    }

    /// An access to a device on the bus.
    #[inline]
    fn device(
        &mut self,
        vm: &Arc<Vm>,
        vcpu: &Vcpu,
        mmio: &Mmio,
        region: &Region,
        at: Access,
    ) -> Result<u64, AccessError> {
        let (result, kicks, deadline) = {
            let mut device = region.device.lock();
            let result = if mmio.is_write() {
                device.write(at, stored(vcpu, mmio)).map(|()| 0)
            } else {
                device.read(at)
            };
            let kicks = region.line.as_ref().map_or(Kicks::NONE, |line| set_line(vm, line, device.irq()));
            (result, kicks, if mmio.is_write() { device.deadline() } else { None })
        };
        self.kick(vm, Some(vcpu.id), kicks);
        if mmio.is_write() && region.has_deadline {
            self.timers.set(Purpose::Device(vm.id, region.index), deadline);
            self.rearm();
        }
        result
    }

    /// A device's own deadline has come.
    #[cold]
    pub(super) fn device_timer(&mut self, vm: VmId, n: u16) {
        let Some(vm) = self.world.vm(vm) else { return };
        let Some(region) = vm.bus.regions().get(usize::from(n)) else { return };
        let (kicks, deadline) = {
            let mut device = region.device.lock();
            device.advance(self.machine.now());
            let level = device.irq();
            let kicks = region.line.as_ref().map_or(Kicks::NONE, |line| set_line(&vm, line, level));
            (kicks, device.deadline().filter(|_| !level))
        };
        self.kick(&vm, None, kicks);
        self.timers.set(Purpose::Device(vm.id, n), deadline);
    }

    /// The virtual timer's interrupt is a level: if the guest set its timer anew before it took the interrupt,
    /// there is none. Looked at where a guest could tell.
    fn look_at_timer(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu) {
        if !self.machine.timer_line(vcpu) {
            let kicks = vm.vgic.retract_linked(vcpu.id, ppi::VIRTUAL_TIMER);
            self.kick(vm, Some(vcpu.id), kicks);
        }
    }

    /// An access to the interrupt controller.
    #[inline(always)]
    fn vgic(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, mmio: Mmio, frame: Frame, offset: u64) -> Next {
        /// ISPENDRn, and ICPENDRn 0x80 further on, of GICD and GICR alike.
        const PENDING: u64 = 0x200;
        let write = if mmio.is_write() {
            Some(stored(vcpu, &mmio))
        } else if offset & !0xff == PENDING {
            return self.vgic_pending(vm, vcpu, mmio, frame, offset);
        } else {
            None
        };
        let outcome = vm.vgic.access(vcpu.id, frame, offset, mmio.size(), write, &mut vcpu.lists);
        self.vgic_outcome(vm, vcpu, mmio, outcome)
    }

    /// A load of what is pending of 32 interrupts: if they are the reader's own, the timer's line has a say that
    /// the vGIC does not know of.
    #[cold]
    fn vgic_pending(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, mmio: Mmio, frame: Frame, offset: u64) -> Next {
        let private = offset & 0x7f == 0 && frame != Frame::Gicc;
        if private {
            self.look_at_timer(vm, vcpu);
        }
        let own = private
            && (frame == Frame::GicrSgi(vcpu.id)
                || frame == Frame::Gicd && vm.vgic.version() == GicVersion::V2);
        let mut outcome = vm.vgic.access(vcpu.id, frame, offset, mmio.size(), None, &mut vcpu.lists);
        if let Outcome::Done(value, _) = &mut outcome
            && own
            && self.machine.timer_line(vcpu)
        {
            // A line that is high while its interrupt is active: pending and active.
            *value |= 1 << ppi::VIRTUAL_TIMER.0;
        }
        self.vgic_outcome(vm, vcpu, mmio, outcome)
    }

    /// Does what came of an access.
    #[inline(always)]
    fn vgic_outcome(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, mmio: Mmio, outcome: Outcome) -> Next {
        match outcome {
            Outcome::Done(value, kicks) => {
                self.kick(vm, Some(vcpu.id), kicks);
                self.finish(vm, vcpu, mmio, Ok(value))
            }
            Outcome::OwnSgi(sgi) => {
                vcpu.regs.skip(mmio.abort.instruction_bytes());
                self.sync_sgi(vm, vcpu, sgi);
                Next::Resume
            }
            Outcome::Refused(error) => self.finish(vm, vcpu, mmio, Err(error)),
            Outcome::Fold if vcpu.lists.loaded => self.vgic_folded(vm, vcpu, mmio),
            // It still asks: the next entry syncs, and the access is tried again.
            Outcome::Fold => Next::Resume,
            Outcome::Remote(other) => self.ask(vm, other),
        }
    }

    /// The same for what list registers have to be read for. Where it was is found out again, so that it need not
    /// be kept by accesses that are done at once.
    #[cold]
    fn vgic_folded(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu, mmio: Mmio) -> Next {
        self.machine.fold(vcpu);
        self.mmio(vm, vcpu, mmio)
    }

    /// Has another vCPU take back what its list registers hold. The PC stays: the access is tried again when the
    /// answer is in.
    #[cold]
    fn ask(&mut self, vm: &Arc<Vm>, other: VcpuId) -> Next {
        if let Some(slot) = vm.slot(other) {
            slot.post(event::FOLD);
        }
        self.wake(vm, other);
        Next::Yield
    }

    /// Gives the guest the exception that the architecture has for an exit that nothing serves.
    #[cold]
    pub(super) fn fault(&mut self, vcpu: &mut Vcpu, exit: Exit) -> Next {
        let Some(fault) = Fault::for_exit(&exit) else { return Next::Resume };
        let at = vcpu.regs.pc;
        let next = self.inject(vcpu, fault);
        // A fetch that aborts at the very vector that its abort leads to never gets anywhere.
        match exit {
            Exit::InstructionAbort(abort) if vcpu.regs.pc == at => {
                Next::Stop(Reason::FaultLoop { ipa: abort.ipa })
            }
            _ => next,
        }
    }

    /// Gives the guest an exception.
    #[cold]
    pub(super) fn inject(&mut self, vcpu: &mut Vcpu, fault: Fault) -> Next {
        let view = inject::El1View {
            sctlr: self.machine.el1(vcpu, El1::Sctlr),
            vbar: self.machine.el1(vcpu, El1::Vbar),
        };
        let delivery = inject::deliver(fault, vcpu.regs.pc, vcpu.regs.pstate, &view);
        self.machine.set_el1(vcpu, El1::Elr, delivery.elr);
        self.machine.set_el1(vcpu, El1::Spsr, delivery.spsr);
        self.machine.set_el1(vcpu, El1::Esr, delivery.esr);
        if let Some(far) = delivery.far {
            self.machine.set_el1(vcpu, El1::Far, far);
        }
        vcpu.regs.pc = delivery.pc;
        vcpu.regs.pstate = delivery.pstate;
        Next::Resume
    }

    /// The emulated physical timer was written, or its time may have come.
    pub(super) fn physical_timer_changed(&mut self, vm: &Arc<Vm>, vcpu: &mut Vcpu) {
        let now = self.machine.now();
        let guest_now = now.0.wrapping_sub(vcpu.cntvoff);
        let fires = vcpu.physical_timer.fires(guest_now);
        let kicks = vm.vgic.set_ppi(vcpu.id, ppi::PHYSICAL_TIMER, fires);
        self.kick(vm, Some(vcpu.id), kicks);
        let due = vcpu.physical_timer.deadline(vcpu.cntvoff).filter(|_| !fires);
        self.watch_timer(vm, vcpu, due.map(Ticks));
        self.rearm();
    }

    /// The part of the VM's RAM that one step of a cache flush covers.
    pub(super) fn flush_step(&mut self, vm: &Arc<Vm>, from: GuestPhysAddr) -> Option<GuestPhysAddr> {
        /// At 64-byte lines, some 8,000 instructions.
        const STEP: u64 = 128 << 10;
        let range = vm.ram.range();
        let end = GuestPhysAddr::at(from.raw().saturating_add(STEP).min(range.end().raw()));
        if let Ok(pieces) = vm.ram.host_ranges(crate::addr::GuestRange::between(from, end)) {
            pieces.for_each(|piece| self.machine.publish(piece));
        }
        (end < range.end()).then_some(end)
    }
}

/// A device's interrupt line has this level now. Called with the device's lock held: two CPUs that use a device
/// must not tell its levels in another order than it had them.
#[inline(always)]
pub(super) fn set_line(vm: &Arc<Vm>, line: &Line, level: bool) -> Kicks {
    if line.changed(level) { line_changed(vm, line.spi, level) } else { Kicks::NONE }
}

#[inline(never)]
fn line_changed(vm: &Arc<Vm>, spi: u16, level: bool) -> Kicks {
    vm.vgic.set_spi(spi, level)
}

/// What a store stores.
#[inline(always)]
pub(super) fn stored(vcpu: &Vcpu, mmio: &Mmio) -> u64 {
    vcpu.regs.x(mmio.reg()) & mmio.size().mask()
}

/// Skips a trapped AArch32 instruction whose condition fails: it was no more than a NOP.
fn condition_fails(vcpu: &mut Vcpu, trap: Trap) -> bool {
    if !vcpu.regs.is_aarch32() {
        return false;
    }
    let fails = trap.condition().is_some_and(|cond| !vcpu.regs.condition_holds(cond));
    if fails {
        vcpu.regs.skip(trap.instruction_bytes());
    }
    fails
}
