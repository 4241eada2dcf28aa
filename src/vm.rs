//! A virtual machine: what its vCPUs share, and what it owns.
//!
//! A [`Vm`] is shared by all CPUs and does not change outside its locks. Its vCPUs are not in it: each is
//! owned by the queue or the CPU loop that has it, or parked in its [`Slot`] while it waits or is off.
//! Locks, in this order and never across `enter`: device, vGIC, slot, run queue, VMIDs.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::addr::{Address, GuestPhysAddr};
use crate::clock::Clock;
use crate::idregs::IdRegs;
use crate::machine::ppi;
use crate::pvtime::StolenTime;
use crate::ram::GuestRam;
use crate::slot::Slot;
use crate::stage2::Stage2;
use crate::sync::Mutex;
use crate::vcpu::{Vcpu, VcpuId, VmId};
use crate::vdev::pl011::Pl011;
use crate::vdev::pl061::Pl061;
use crate::vdev::vgic::Vgic;
use crate::vdev::{Bus, Line, Region};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

/// What one CPU wants of another's vCPU: messages in its [`Slot`].
pub mod event {
    /// Its VM is stopping: give it up.
    pub const STOP: u32 = 1 << 0;
    /// Its emulated physical timer may have fired.
    pub const TIMER: u32 = 1 << 1;
    /// Somebody needs the state of its list registers: take it back.
    pub const FOLD: u32 = 1 << 2;
}

/// Why a VM is no longer running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// PSCI SYSTEM_OFF.
    PoweredOff,
    /// PSCI SYSTEM_RESET or SYSTEM_RESET2.
    Reset,
    /// Somebody stopped it by force.
    Forced,
    /// Every vCPU is off: nothing can ever run again.
    AllOff,
    /// An abort whose vector is where it aborted: the guest would fault for ever.
    FaultLoop {
        /// Where it aborts.
        ipa: GuestPhysAddr,
    },
    /// A system error (SError) came while it ran.
    SystemError,
    /// An exit that no guest should be able to cause.
    Unexpected {
        /// ESR_EL2.
        esr: u64,
    },
}

impl Reason {
    /// Whether it ended as its guest, or somebody at the shell, wanted.
    pub fn is_clean(&self) -> bool {
        matches!(self, Self::PoweredOff | Self::Reset | Self::Forced)
    }

    /// In words.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::PoweredOff => "powered off",
            Self::Reset => "asked for a reset",
            Self::Forced => "stopped by force",
            Self::AllOff => "all its vCPUs are off",
            Self::FaultLoop { .. } => "its abort vector aborts: it would fault for ever",
            Self::SystemError => "a system error (SError) came while it ran",
            Self::Unexpected { .. } => "an exit that no guest should be able to cause",
        }
    }
}

/// What a VM is made from; everything has been checked.
pub struct Parts {
    /// Its place in the machine's list.
    pub id: VmId,
    /// Its name.
    pub name: String,
    /// Its memory.
    pub ram: GuestRam,
    /// The memory that its firmware's ROM is made of.
    pub rom: Option<GuestRam>,
    /// Its Stage 2, with the memory mapped.
    pub stage2: Stage2,
    /// Its records of stolen time, which are mapped too.
    pub stolen: StolenTime,
    /// Its devices apart from the interrupt controller.
    pub bus: Bus,
    /// Its serial port, which is on the bus too.
    pub uart: Arc<Mutex<Pl011>>,
    /// Where its power key is, which is on the bus too.
    pub power_key: Arc<Mutex<Pl061>>,
    /// Its interrupt controller.
    pub vgic: Vgic,
    /// ID registers as it reads them.
    pub ids: IdRegs,
    /// Its vCPUs, all off, in order.
    pub vcpus: alloc::vec::Vec<Vcpu>,
}

/// A virtual machine.
pub struct Vm {
    /// Its place in the machine's list.
    pub id: VmId,
    /// Its name.
    pub name: String,
    /// Its memory.
    pub ram: GuestRam,
    /// The memory that its firmware's ROM is made of, which nobody touches any more.
    pub rom: Option<GuestRam>,
    /// Its Stage 2: one writer at a time.
    pub stage2: Mutex<Stage2>,
    /// VTTBR_EL2.BADDR of it: with a VMID of the time what a CPU loads, without the lock.
    pub stage2_root: u64,
    /// Its records of stolen time, which it reads.
    pub stolen: StolenTime,
    /// Its devices apart from the interrupt controller.
    pub bus: Bus,
    /// Its serial port, which the run loop reaches by a way of its own; the bus knows it for reports.
    pub uart: Arc<Mutex<Pl011>>,
    /// It has no serial port: what is behind `uart` is nobody's, and not on the bus.
    pub without_uart: bool,
    /// Its GPIO controller, whose power key people press; the bus has it too.
    pub power_key: Arc<Mutex<Pl061>>,
    /// The serial port's interrupt.
    pub uart_line: Line,
    /// Its interrupt controller.
    pub vgic: Vgic,
    /// ID registers as it reads them.
    pub ids: IdRegs,
    /// Its own time.
    pub clock: Clock,
    /// MPIDR_EL1 of each vCPU.
    mpidrs: Box<[u64]>,
    slots: Box<[Slot<Box<Vcpu>>]>,
    /// vCPUs that are not off.
    on: AtomicU16,
    /// It has put something out.
    pub spoke: AtomicBool,
    /// By when it should have reacted to its power key, in ticks; 0 if nobody waits for that.
    pub asked: AtomicU64,
    stopped: Mutex<Option<Reason>>,
    stopping: AtomicBool,
}

impl Vm {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        let mpidrs = parts.vcpus.iter().map(|vcpu| vcpu.mpidr).collect();
        let slots = parts.vcpus.into_iter().map(|vcpu| Slot::new(Box::new(vcpu))).collect();
        Self {
            id: parts.id,
            name: parts.name,
            ram: parts.ram,
            rom: parts.rom,
            stage2_root: parts.stage2.root(),
            stage2: Mutex::new(parts.stage2),
            stolen: parts.stolen,
            without_uart: parts.bus.find(crate::map::UART.start()).is_none(),
            bus: parts.bus,
            uart: parts.uart,
            power_key: parts.power_key,
            uart_line: Line::new(crate::map::UART_SPI),
            vgic: parts.vgic,
            ids: parts.ids,
            clock: Clock::new(),
            mpidrs,
            slots,
            on: AtomicU16::new(0),
            spoke: AtomicBool::new(false),
            asked: AtomicU64::new(0),
            stopped: Mutex::new(None),
            stopping: AtomicBool::new(false),
        }
    }

    /// The place of vCPU `id`.
    #[inline]
    pub fn slot(&self, id: VcpuId) -> Option<&Slot<Box<Vcpu>>> {
        self.slots.get(usize::from(id.0))
    }

    /// All places, in order.
    pub fn slots(&self) -> impl Iterator<Item = (VcpuId, &Slot<Box<Vcpu>>)> {
        self.slots.iter().enumerate().map(|(n, slot)| (VcpuId(n as u16), slot))
    }

    /// All places but that of `id`, those that follow it first.
    pub fn slots_after(&self, id: VcpuId) -> impl Iterator<Item = (VcpuId, &Slot<Box<Vcpu>>)> {
        let n = usize::from(id.0);
        self.slots().skip(n.saturating_add(1)).chain(self.slots().take(n))
    }

    /// All vCPUs with their MPIDR_EL1, in order.
    pub fn vcpus(&self) -> impl Iterator<Item = (VcpuId, u64)> + '_ {
        self.mpidrs.iter().enumerate().map(|(n, mpidr)| (VcpuId(n as u16), *mpidr))
    }

    /// The vCPU with these affinity fields (MPIDR without bit 31 and the like).
    pub fn by_affinity(&self, affinity: u64) -> Option<VcpuId> {
        const FIELDS: u64 = 0xff_00ff_ffff;
        let n = self.mpidrs.iter().position(|mpidr| mpidr & FIELDS == affinity)?;
        Some(VcpuId(n as u16))
    }

    /// Takes a vCPU that is off, to start it at `entry`: the caller puts it into a run queue. `None` if it is not off.
    pub fn power_on(&self, id: VcpuId, entry: u64, x0: u64) -> Option<Box<Vcpu>> {
        let vcpu = self.slot(id)?.start(|vcpu| self.renew(vcpu, entry, x0))?;
        self.on.fetch_add(1, Ordering::AcqRel);
        Some(vcpu)
    }

    /// Begins a new life of a vCPU that is on no CPU: of its timers nothing is left, nor of its CPU interface.
    pub fn renew(&self, vcpu: &mut Vcpu, entry: u64, x0: u64) {
        vcpu.reset(entry, x0);
        self.vgic.reset_cpu(vcpu.id, &mut vcpu.lists);
        // Whom this concerns looks before it enters: the vCPU itself.
        let _ = self.vgic.set_ppi(vcpu.id, ppi::PHYSICAL_TIMER, false);
        let _ = self.vgic.retract_linked(vcpu.id, ppi::VIRTUAL_TIMER);
    }

    /// Parks a vCPU that went off; true if it was the last that was on.
    pub fn power_off(&self, vcpu: Box<Vcpu>) -> bool {
        let last = self.on.fetch_sub(1, Ordering::AcqRel) == 1;
        if let Some(slot) = self.slot(vcpu.id) {
            slot.off(vcpu);
        }
        last
    }

    /// Records that the VM stops, and why; false if it was stopping already.
    pub fn stop(&self, reason: Reason) -> bool {
        let first = !self.stopping.swap(true, Ordering::AcqRel);
        if first {
            *self.stopped.lock() = Some(reason);
            self.slots.iter().for_each(|slot| {
                slot.post(event::STOP);
            });
        }
        first
    }

    /// Why it stopped, if it has.
    pub fn stopped(&self) -> Option<Reason> {
        if self.stopping.load(Ordering::Acquire) { self.stopped.lock().clone() } else { None }
    }

    /// Whether it is stopping or has stopped.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// The device nearest to an address, for reports.
    pub fn nearest(&self, ipa: GuestPhysAddr) -> Option<&Region> {
        self.bus.regions().iter().min_by_key(|region| {
            let (start, end, at) = (region.range.start().raw(), region.range.end().raw(), ipa.raw());
            if at < start { start.wrapping_sub(at) } else { at.saturating_sub(end) }
        })
    }
}
