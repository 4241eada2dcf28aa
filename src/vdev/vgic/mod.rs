//! The interrupt controller that a guest sees: one core, a face per GIC version.
//!
//! # Who holds the truth
//!
//! The [`Bank`]s do. List registers ([`Lists`]) are a cache of what a vCPU should see next,
//! filled by [`Vgic::sync`] before an entry and taken back by the next `sync`, which happens only when
//! [`Vgic::attention`] says that something changed. More pending than list registers is normal: the most
//! urgent are in, the rest wait, and the hardware tells when it has taken the last one.
//!
//! # How the run loop uses it
//!
//! * When a vCPU gets on a CPU: `sync` if `attention` says so, or [`Lists::owed`].
//! * Before each further entry: `if attention(me) { machine.fold(vcpu); sync(me, &mut vcpu.lists) }`; the same
//!   on a maintenance interrupt. What is returned has to be kicked, as have the [`Kicks`] of every other call.
//! * What a vCPU's own exit raises for itself goes through [`Vgic::sync_raised`]: a `fold` and a `sync` in one.
//! * WFI: `fold`; `sync` if `attention`; then [`Vgic::signals`] decides whether to block. A vCPU that is
//!   blocked and gets a kick does the same again.
//! * When a vCPU leaves its CPU for a queue: `Machine::put`. What it has listed it has wherever it goes on, and who
//!   asks for it ([`Outcome::Remote`]) has the answer once it is its turn.
//! * When it leaves for good, or to wait: `Machine::put`, then [`Vgic::unload`]: then it has nothing listed, and
//!   nobody has to wait for it. [`Vgic::signals`] says whether it may be
//!   parked as blocked; `attention`, asked once it is where others find it, whether something came meanwhile.
//! * ICC_DIR_EL1 traps at times (see [`Vgic::deactivate`]); no other register of the CPU interface does but
//!   those that make SGIs. Where there is no hardware for it ([`VgicConfig::emulated`]) all of it does, to
//!   [`Vgic::icc`] or [`Frame::Gicc`]; list registers are never loaded then, and what the guest is signalled
//!   at its next entry is [`Lists::signalled`].
//!
//! # Attention
//!
//! A flag for each vCPU: something was noted for it in a bank, a queue or a register of all. Whoever notes
//! anything does that first and sets the flag second, and only who turned it from false to true has the vCPU
//! among its [`Kicks`]: whoever found it true knows that another one kicks, and that the vCPU turns it back
//! before it locks its bank, so that it sees what was noted. A vCPU itself turns it back, in `sync` and in
//! `unload`, before it looks at anything; and it looks at the flag before each entry, so that what it notes
//! for itself kicks nobody.
//!
//! # Linked interrupts
//!
//! [`Vgic::raise_linked`] is for a physical interrupt that EL2 acknowledged and left active. While it is
//! active it does not fire again, so whatever the guest does it cannot storm, and the model never forgets it:
//! in a hardware list entry, the guest's end of interrupt deactivates both. Not deliverable (disabled, group
//! off, already active), it waits in the model with the physical one still active. Ended without the
//! hardware (ICACTIVER, ICPENDR, an EOI that found no list register), it appears in [`Lists::release`] and
//! the machine deactivates it; if its line is still high it fires again, as it should.
//! [`Lists::linked_active`] says what the physical state has to be when the vCPU gets on a CPU.
//!
//! # Locks
//!
//! A vCPU's private bank first, then the SPIs; never two private banks. What only says that somebody should
//! look (attention, the summary of SPI queues) is atomic and is written under the lock of what it is about.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod affinity;
mod bank;
mod crowd;
mod gicc;
mod icc;
mod interface;
mod kicks;
mod load;
pub mod lr;
mod registers;
mod reset;
mod signals;
mod sources;
mod spis;
#[cfg(test)]
mod tests;
mod v2;
mod v3;

use crate::addr::{Address, GuestPhysAddr};
use crate::exit::Size;
use crate::machine::IntId;
pub use crate::map::GicVersion;
use crate::map::{GICC, GICD, GICR_BASE};
use crate::sync::Mutex;
use crate::vcpu::{Lists, MAX_LISTS, VcpuId};
use crate::vdev::AccessError;
use affinity::{Affinities, NOBODY};
use alloc::boxed::Box;
use alloc::vec::Vec;
use bank::{Bank, Bits, bit};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
pub use kicks::{Kicks, Raised};
use sources::Sources;
use spis::Spis;

/// The most vCPUs of a VM.
pub const MAX_VCPUS: usize = 64;

/// What a guest's interrupt controller is like.
#[derive(Clone, Debug)]
pub struct VgicConfig {
    /// The version.
    pub version: GicVersion,
    /// MPIDR_EL1 of each vCPU, at most [`MAX_VCPUS`], and 8 with GICv2; more are left out.
    pub mpidrs: Vec<u64>,
    /// Shared interrupts: a multiple of 32 up to 960, or 988.
    pub spis: u16,
    /// List registers of the hardware, 1 to 16.
    pub lists: u8,
    /// Bits of a virtual priority: ICH_VTR_EL2.PRIbits + 1, 4 to 8.
    pub priority_bits: u8,
    /// No hardware stands behind the list registers: the vGIC is the guest's CPU interface itself.
    pub emulated: bool,
}

/// What came of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The value read (0 for a write), and who has something new to look at.
    Done(u64, Kicks),
    /// An SGI of a GICv2 guest to itself: `Machine::fold`, then [`Vgic::sync_sgi`].
    OwnSgi(u32),
    /// The caller's own list registers hold the answer: `Machine::fold`, then call again.
    Fold,
    /// This vCPU's list registers hold the answer: kick it, and call again once it has been through `sync`.
    Remote(VcpuId),
    /// Nothing that the guest may do.
    Refused(AccessError),
}

/// A frame of registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The distributor.
    Gicd,
    /// RD_base of a vCPU's redistributor.
    GicrRd(VcpuId),
    /// SGI_base of a vCPU's redistributor.
    GicrSgi(VcpuId),
    /// The CPU interface of GICv2; of the hardware's own, GICC_DIR's page alone gets here.
    Gicc,
}

/// Which register an SGI comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SgiGroup {
    /// ICC_SGI0R_EL1, and ICC_ASGI1R_EL1 with one security state: reaches Group 0 only.
    Group0,
    /// ICC_SGI1R_EL1: reaches both groups.
    Group1,
}

/// A vCPU as the vGIC sees it.
struct Cpu {
    /// It has to `sync` before it enters.
    attention: AtomicBool,
    /// The banks of SPIs of which it has something queued. Written under the lock of the SPIs.
    spi_banks: AtomicU32,
    /// GICR_WAKER.ProcessorSleep; with GICv2, no group is on in the CPU interface, as last seen.
    asleep: AtomicBool,
    /// GICR_TYPER.
    typer: u64,
    /// What ICC_SGI1R_EL1 is written with to send SGI 0 to this vCPU alone; nothing of the kind with GICv2.
    own_sgi: u64,
    private: Mutex<Private>,
}

/// SGIs and PPIs of one vCPU, and what it has listed.
struct Private {
    bank: Bank,
    sources: Sources,
    /// The list registers that hold SPIs.
    spi_lists: u16,
}

/// SGIs are edge-triggered.
const SGI_EDGES: u32 = 0xffff;

impl Private {
    fn new(version: GicVersion) -> Self {
        let mut bank = Bank::new(u32::MAX, SGI_EDGES);
        bank.sourced = if version == GicVersion::V2 { SGI_EDGES } else { 0 };
        Self { bank, sources: Sources::NONE, spi_lists: 0 }
    }

    fn reset(&mut self) {
        self.bank.reset();
        self.sources = Sources::NONE;
        self.spi_lists = 0;
    }
}

impl Cpu {
    /// Has this vCPU look; says whether nobody had before, so that it is the caller's to kick.
    ///
    /// After what there is to be seen has been noted.
    #[inline(always)]
    fn call(&self) -> bool {
        // A read-modify-write even where it is true already: its order against the vCPU's own is what counts.
        !self.attention.swap(true, Ordering::AcqRel)
    }

    /// Has the caller itself look before its next entry.
    #[inline(always)]
    fn look_later(&self) {
        self.attention.store(true, Ordering::Release);
    }

    /// The vCPU is about to look: what others note from here on sets it again.
    #[inline(always)]
    fn looks(&self) {
        self.attention.swap(false, Ordering::AcqRel);
    }
}

/// Has each of `concerned` look; returns those that nobody else has called.
#[inline(always)]
fn call(cpus: &[Cpu], concerned: Kicks) -> Kicks {
    let called = |vcpu: &VcpuId| cpus.get(usize::from(vcpu.0)).is_some_and(Cpu::call);
    concerned.filter(called).fold(Kicks::NONE, |kicks, vcpu| kicks | Kicks::of(vcpu))
}

/// The interrupt controller of one VM.
pub struct Vgic {
    version: GicVersion,
    emulated: bool,
    lists: u32,
    /// Bits of a priority that exist.
    priority_mask: u8,
    /// Bits of a priority that make no difference to preemption, at least one (IHI 0069, 4.8.2).
    preemption_shift: u32,
    /// ICH_VMCR_EL2 after reset.
    vmcr_reset: u64,
    /// GICD_TYPER.
    typer: u32,
    /// GICD_CTLR.EnableGrp0 and EnableGrp1.
    groups: AtomicU32,
    /// vCPUs that may still have something in a list register that was disabled meanwhile: GICx_CTLR.RWP.
    owing: AtomicU64,
    /// vCPUs that are not asleep. Written under the lock of the SPIs.
    awake: AtomicU64,
    affinities: Affinities,
    cpus: Box<[Cpu]>,
    spis: Mutex<Spis>,
}

impl Vgic {
    /// A controller as after reset.
    pub fn new(config: VgicConfig) -> Self {
        let mut mpidrs = config.mpidrs;
        let v2 = config.version == GicVersion::V2;
        mpidrs.truncate(if v2 { v2::MAX_VCPUS } else { MAX_VCPUS });
        let spis = Spis::new(usize::from(config.spis), mpidrs.len());
        let affinities = Affinities::new(&mpidrs);
        let priority_bits = u32::from(config.priority_bits.clamp(4, 8));
        let lowest = 7u64.saturating_sub(u64::from(priority_bits));
        let banks = spis.banks.len();
        let typer = if v2 { v2::typer(banks, mpidrs.len()) } else { v3::typer(banks, &mpidrs) };
        // FIQ or IRQ for Group 0 is for a GICv2 guest to choose, IRQ at first; a GICv3 guest gets FIQs.
        let fiq = if v2 { 0 } else { lr::VMCR_VFIQEN };
        let cpus = (0usize..).zip(&mpidrs).map(|(n, &mpidr)| Cpu {
            attention: AtomicBool::new(true),
            spi_banks: AtomicU32::new(0),
            asleep: AtomicBool::new(true),
            typer: v3::gicr_typer(n, n.wrapping_add(1) == mpidrs.len(), mpidr),
            own_sgi: if v2 { v2::NO_SGI_REGISTER } else { affinity::sgi_target(mpidr) },
            private: Mutex::new(Private::new(config.version)),
        });
        let vgic = Self {
            version: config.version,
            emulated: config.emulated,
            lists: u32::from(config.lists).clamp(1, MAX_LISTS as u32),
            priority_mask: 0xffu32.wrapping_shl(8u32.wrapping_sub(priority_bits)) as u8,
            preemption_shift: 8u32.wrapping_sub(priority_bits).max(1),
            vmcr_reset: fiq
                | lowest << lr::VMCR_VBPR0_SHIFT
                | lowest.wrapping_add(1).min(7) << lr::VMCR_VBPR1_SHIFT,
            typer,
            groups: AtomicU32::new(0),
            owing: AtomicU64::new(0),
            awake: AtomicU64::new(0),
            affinities,
            cpus: cpus.collect(),
            spis: Mutex::new(spis),
        };
        vgic.reset();
        vgic
    }

    /// What the guest sees.
    pub fn version(&self) -> GicVersion {
        self.version
    }

    /// The frame at `ipa` and the offset there, if there is one.
    #[inline]
    pub fn frame(&self, ipa: GuestPhysAddr) -> Option<(Frame, u64)> {
        let offset = ipa.raw().wrapping_sub(GICD.start().raw());
        if offset < GICD.size() {
            return Some((Frame::Gicd, offset));
        }
        if self.version == GicVersion::V2 {
            let offset = ipa.raw().wrapping_sub(GICC.start().raw());
            return (offset < GICC.size()).then_some((Frame::Gicc, offset));
        }
        let offset = ipa.raw().wrapping_sub(GICR_BASE.raw());
        let vcpu = offset >> 17;
        if vcpu >= self.cpus.len() as u64 {
            return None;
        }
        let vcpu = VcpuId(vcpu as u16);
        let frame = if offset >> 16 & 1 == 0 { Frame::GicrRd(vcpu) } else { Frame::GicrSgi(vcpu) };
        Some((frame, offset & 0xffff))
    }

    /// A load (`write` is `None`) or store by `me`; `lists` are its own, to look into if they are folded.
    #[inline(always)]
    pub fn access(
        &self,
        me: VcpuId,
        frame: Frame,
        offset: u64,
        size: Size,
        write: Option<u64>,
        lists: &mut Lists,
    ) -> Outcome {
        if offset & size.bytes().wrapping_sub(1) != 0 {
            return Outcome::Refused(AccessError::BadSize);
        }
        let access = Access { me, offset: offset as u32, size };
        match (self.version, write) {
            (GicVersion::V2, None) if frame == Frame::Gicc => self.read_gicc(access, lists),
            (GicVersion::V2, Some(value)) if frame == Frame::Gicc => self.write_gicc(access, value, lists),
            (GicVersion::V2, None) => self.read_v2(access, lists),
            (GicVersion::V2, Some(value)) => match Self::own_sgir(access, value) {
                Some(lane) => Outcome::OwnSgi(lane),
                None => self.write_v2(access, value),
            },
            (GicVersion::V3, None) => self.read_v3(access, frame, lists),
            (GicVersion::V3, Some(value)) => self.write_v3(access, frame, value),
        }
    }

    /// A write of ICC_SGI1R_EL1, ICC_SGI0R_EL1 or ICC_ASGI1R_EL1 by `me` (IHI 0069, 12.2.20).
    ///
    /// PEs that do not exist are ignored.
    #[inline]
    pub fn sgi(&self, me: VcpuId, group: SgiGroup, value: u64) -> Kicks {
        let lane = (value >> 24 & 15) as u32;
        let mut kicks = Kicks::NONE;
        if value >> 40 & 1 != 0 {
            for vcpu in Kicks::first(self.cpus.len()).without(me) {
                kicks |= self.raise_sgi(vcpu, group, lane);
            }
            return kicks;
        }
        let affinity = value >> 24 & 0xff00_0000 | value >> 16 & 0x00ff_0000 | value >> 8 & 0xff00;
        let range = value >> 44 & 15;
        let key = affinity.wrapping_shr(4) | range;
        let Some(vcpus) = self.affinities.range(key as u32) else { return kicks };
        for target in Bits(value as u32 & 0xffff) {
            let vcpu = vcpus.get(target as usize & 15).copied().unwrap_or(NOBODY);
            kicks |= self.raise_sgi(VcpuId(u16::from(vcpu)), group, lane);
        }
        kicks
    }

    /// What a write of ICC_SGI1R_EL1 means that sends an SGI to its sender alone, as it is told by one
    /// comparison; anything else is for [`sgi`](Self::sgi).
    #[inline(always)]
    pub fn own_sgi(&self, me: VcpuId, value: u64) -> Option<Raised> {
        const INTID: u64 = 15 << 24;
        let own = self.cpu(me)?.own_sgi;
        (value & !INTID == own).then_some(Raised::sgi((value >> 24 & 15) as u32))
    }

    #[inline(always)]
    fn raise_sgi(&self, vcpu: VcpuId, group: SgiGroup, lane: u32) -> Kicks {
        let Some(cpu) = self.cpu(vcpu) else { return Kicks::NONE };
        let mut private = cpu.private.lock();
        if group == SgiGroup::Group0 && private.bank.group & bit(lane) != 0 {
            return Kicks::NONE;
        }
        // With GICv2 there is no such register, and an SGI without a source must not be.
        let lanes = bit(lane) & !private.bank.sourced;
        private.bank.set_pending(lanes);
        self.look(cpu, vcpu)
    }

    /// A device's line, SPI `spi` counted from 0, is at this level now.
    #[inline]
    pub fn set_spi(&self, spi: u16, level: bool) -> Kicks {
        let (bank, lane) = (usize::from(spi >> 5), u32::from(spi) & 31);
        let mut spis = self.spis.lock();
        let Some(here) = spis.banks.get_mut(bank) else { return Kicks::NONE };
        if here.bank.set_line(lane, level) { spis.refresh(&self.cpus, bank, bit(lane)) } else { Kicks::NONE }
    }

    /// The line of a private interrupt of `vcpu` is at this level now.
    #[inline]
    pub fn set_ppi(&self, vcpu: VcpuId, ppi: IntId, level: bool) -> Kicks {
        let Some(cpu) = self.cpu(vcpu).filter(|_| ppi.0 < 32) else { return Kicks::NONE };
        let mut private = cpu.private.lock();
        if private.bank.set_line(ppi.0, level) { self.look(cpu, vcpu) } else { Kicks::NONE }
    }

    /// Physical PPI `ppi` was acknowledged on behalf of `vcpu` and left active (see the module).
    #[inline]
    pub fn raise_linked(&self, vcpu: VcpuId, ppi: IntId) -> Kicks {
        let Some(cpu) = self.cpu(vcpu) else { return Kicks::NONE };
        let Raised { lanes, linked } = Raised::linked(ppi);
        cpu.private.lock().bank.raise(lanes, linked);
        self.look(cpu, vcpu)
    }

    /// The line behind a linked interrupt fell before the guest took it, as when it sets its timer anew:
    /// forgets it, and has the physical interrupt let go. Nothing happens if it is active, or was not pending.
    pub fn retract_linked(&self, vcpu: VcpuId, ppi: IntId) -> Kicks {
        let Some(cpu) = self.cpu(vcpu).filter(|_| ppi.0 < 32) else { return Kicks::NONE };
        let mut private = cpu.private.lock();
        let linked = private.bank.linked & bit(ppi.0);
        if linked == 0 {
            return Kicks::NONE;
        }
        private.bank.clear_pending(linked);
        self.look(cpu, vcpu)
    }

    /// A trapped write of ICC_DIR_EL1 or GICC_DIR by `me`.
    ///
    /// ICC_DIR_EL1 traps only while the guest uses EOImode 1 and has more active interrupts than there are list
    /// registers: then the hardware could not say which of those outside was meant. GICC_DIR of a GICv2 traps
    /// always; of an SGI it has the source too, but one of a kind alone is active.
    pub fn deactivate(&self, me: VcpuId, value: u64) -> Kicks {
        let intid = match self.version {
            GicVersion::V2 => lr::intid(value),
            GicVersion::V3 => value as u32 & 0x00ff_ffff,
        };
        let lane = intid & 31;
        let Some(cpu) = self.cpu(me) else { return Kicks::NONE };
        if intid < 32 {
            cpu.private.lock().bank.clear_active(bit(lane));
            cpu.look_later();
            return Kicks::NONE;
        }
        let bank = (intid as usize >> 5).wrapping_sub(1);
        let mut spis = self.spis.lock();
        let Some(here) = spis.banks.get_mut(bank) else { return Kicks::NONE };
        here.bank.clear_active(bit(lane));
        cpu.look_later();
        spis.refresh(&self.cpus, bank, bit(lane))
    }

    /// The private interrupts of `vcpu` that are pending, a bit each, where nothing of it is listed.
    pub fn pending_private(&self, vcpu: VcpuId) -> u32 {
        self.cpu(vcpu).map_or(0, |cpu| cpu.private.lock().bank.pending())
    }

    /// Whether `me` has to `sync` before it enters, or to look again before it blocks.
    #[inline(always)]
    pub fn attention(&self, me: VcpuId) -> bool {
        self.cpu(me).is_some_and(|cpu| cpu.attention.load(Ordering::Acquire))
    }

    /// What [`attention`](Self::attention) looks at, for a loop that looks often.
    pub fn attention_flag(&self, me: VcpuId) -> &AtomicBool {
        static NEVER: AtomicBool = AtomicBool::new(false);
        self.cpu(me).map_or(&NEVER, |cpu| &cpu.attention)
    }

    #[inline(always)]
    fn cpu(&self, vcpu: VcpuId) -> Option<&Cpu> {
        self.cpus.get(usize::from(vcpu.0))
    }

    /// Whether a vCPU has anything in list registers.
    fn is_loaded(&self, vcpu: VcpuId) -> bool {
        self.cpu(vcpu).is_some_and(|cpu| {
            let private = cpu.private.lock();
            private.bank.listed != 0 || private.spi_lists != 0
        })
    }

    /// Has `vcpu` look.
    #[inline(always)]
    fn look(&self, cpu: &Cpu, vcpu: VcpuId) -> Kicks {
        if cpu.call() { Kicks::of(vcpu) } else { Kicks::NONE }
    }
}

/// One access to a register, on its way to it.
#[derive(Clone, Copy)]
struct Access {
    me: VcpuId,
    size: Size,
    offset: u32,
}
