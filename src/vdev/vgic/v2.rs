//! The GICv2 face: the distributor (IHI 0048B, 4.3).
//!
//! One security state: the Security Extensions are not there, groups are. Registers of interrupts 0 to 31
//! are banked: each vCPU has its own. What is not in a table below is RAZ/WI.
//!
//! An SPI with several targets goes to one of them: of those whose CPU interface was on when last seen, the
//! lowest. So it is handled once, and a target that sleeps does not swallow it.

use super::affinity::NOBODY;
use super::bank::{Bits, bit};
use super::load::spi_intid;
use super::registers::{self, Array, Place};
use super::spis::Spis;
use super::{Access, Cpu, Kicks, Outcome, Private, Vgic, lr, v3};
use crate::exit::Size;
use crate::map::GicVersion;
use crate::vcpu::{Lists, VcpuId};
use crate::vdev::AccessError;
use core::sync::atomic::Ordering;

/// What a guest without ICC_SGI1R_EL1 cannot have written there: an INTID's bits are not looked at.
pub(super) const NO_SGI_REGISTER: u64 = u64::MAX;
/// The most vCPUs: a target is a bit in a byte.
pub(super) const MAX_VCPUS: usize = 8;

/// GICD_CTLR.EnableGrp0 and EnableGrp1.
const CTLR_GROUPS: u32 = 3;
/// GICD_SGIR.
const SGIR: u32 = 0xf00;
/// GICD_SGIR.SGIINTID.
const SGIR_INTID: u64 = 15;
/// GICD_SGIR.CPUTargetList, eight bits from here.
const SGIR_LIST_SHIFT: u32 = 16;

/// GICD_SGIR.TargetListFilter: those in the list, all others, the sender; 3 is reserved.
mod filter {
    pub const LIST: u32 = 0;
    pub const OTHERS: u32 = 1;
    pub const SELF: u32 = 2;
}

/// ICPIDR4..7, 0..3, ICCIDR0..3 from 0xfd0: those of Arm's own GIC-400. ICPIDR2.ArchRev is 2.
const IDS: [u32; 12] = [0x04, 0, 0, 0, 0x90, 0xb4, 0x2b, 0, 0x0d, 0xf0, 0x05, 0xb1];

/// GICD_TYPER: ITLinesNumber, CPUNumber.
pub(super) fn typer(spi_banks: usize, vcpus: usize) -> u32 {
    spi_banks as u32 & 31 | (vcpus.saturating_sub(1) as u32 & 7) << 5
}

/// The registers of GICD that are no arrays.
#[derive(Clone, Copy)]
enum Register {
    Ctlr,
    Typer,
    Iidr,
    Sgir,
    ClearSgi,
    SetSgi,
    Ids,
    Reserved,
}

/// What is at `offset`, and the smallest access to it.
#[rustfmt::skip]
#[inline(always)]
fn register(offset: u32) -> (Register, Size) {
    match offset {
        //  offset        register            smallest       the manual's name
        0x000          => (Register::Ctlr,     Size::Word), // GICD_CTLR         RW
        0x004          => (Register::Typer,    Size::Word), // GICD_TYPER        RO
        0x008          => (Register::Iidr,     Size::Word), // GICD_IIDR         RO
        SGIR           => (Register::Sgir,     Size::Word), // GICD_SGIR         WO
        0xf10..=0xf1f  => (Register::ClearSgi, Size::Byte), // GICD_CPENDSGIRn   RW
        0xf20..=0xf2f  => (Register::SetSgi,   Size::Byte), // GICD_SPENDSGIRn   RW
        0xfd0..=0xfff  => (Register::Ids,      Size::Word), // ICPIDRn, ICCIDRn  RO
        _              => (Register::Reserved, Size::Word),
    }
}

/// What an access is about.
enum Gicd {
    /// An array of the accessing vCPU's own interrupts.
    Private(Place),
    Shared(Place),
    Targets(Place),
    Register(Register),
    Nothing,
    BadSize,
}

#[inline(always)]
fn place(access: Access) -> Gicd {
    let place = registers::find_v2(access.offset);
    if place.array != Array::None {
        return match place.array {
            array if !registers::legal(array, access.size) => Gicd::BadSize,
            Array::Reserved => Gicd::Nothing,
            Array::Targets => Gicd::Targets(place),
            _ if place.first < 32 => Gicd::Private(place),
            _ => Gicd::Shared(place),
        };
    }
    let (register, smallest) = register(access.offset);
    if access.size == Size::Word || access.size == smallest {
        Gicd::Register(register)
    } else {
        Gicd::BadSize
    }
}

const DONE: Outcome = Outcome::Done(0, Kicks::NONE);
const BAD_SIZE: Outcome = Outcome::Refused(AccessError::BadSize);

fn done(value: u32) -> Outcome {
    Outcome::Done(value.into(), Kicks::NONE)
}

/// The bytes of `value` that an access has, each with its place, from `first` on.
fn bytes(size: Size, first: u32, value: u64) -> impl Iterator<Item = (u32, u8)> {
    (first..).zip(value.to_le_bytes()).take(size.bytes() as usize)
}

/// What a read of `size` gives whose bytes are `byte`, from `first` on.
fn gather(size: Size, first: u32, byte: impl Fn(u32) -> u8) -> Outcome {
    let word = bytes(size, first, 0).fold(0, |word, (n, _)| {
        word | u32::from(byte(n)).wrapping_shl(n.wrapping_sub(first).wrapping_mul(8))
    });
    done(word)
}

/// Whether `lists`, folded, show a CPU interface of GICv2 turned on or off since it was last seen.
#[inline(always)]
pub(super) fn switched(cpu: &Cpu, lists: &Lists) -> bool {
    let off = lists.vmcr & (lr::VMCR_VENG0 | lr::VMCR_VENG1) == 0;
    cpu.asleep.load(Ordering::Relaxed) != off
}

impl Vgic {
    /// The SGI, if a store sends one to its sender alone and says so by a list, as kernels do: it is told by a
    /// comparison or two. Anything else is for [`write_v2`](Self::write_v2).
    #[inline(always)]
    pub(super) fn own_sgir(access: Access, value: u64) -> Option<u32> {
        let own = 1u64.wrapping_shl(SGIR_LIST_SHIFT.wrapping_add(access.me.0.into()));
        let is = access.offset == SGIR && access.size == Size::Word && value & !SGIR_INTID == own;
        is.then_some((value & SGIR_INTID) as u32)
    }

    /// A load from the distributor.
    #[inline(never)]
    pub(super) fn read_v2(&self, access: Access, lists: &Lists) -> Outcome {
        match place(access) {
            Gicd::Private(place) => self.read_private(access, access.me, place, lists),
            Gicd::Shared(place) => self.read_shared(access, place, lists),
            Gicd::Targets(place) => self.read_targets(access, place),
            Gicd::Register(Register::Ctlr) => done(self.groups.load(Ordering::Relaxed)),
            Gicd::Register(Register::Typer) => done(self.typer),
            Gicd::Register(Register::Iidr) => done(v3::IIDR),
            Gicd::Register(Register::Ids) => {
                done(IDS.get((access.offset as usize).wrapping_sub(0xfd0) >> 2).copied().unwrap_or(0))
            }
            Gicd::Register(Register::ClearSgi | Register::SetSgi) => self.read_sources(access, lists),
            Gicd::Register(Register::Sgir | Register::Reserved) | Gicd::Nothing => DONE,
            Gicd::BadSize => BAD_SIZE,
        }
    }

    /// A store to it.
    #[inline(never)]
    pub(super) fn write_v2(&self, access: Access, value: u64) -> Outcome {
        match place(access) {
            Gicd::Private(place) => self.write_own(access, place, value as u32),
            Gicd::Shared(place) => self.write_shared(access, place, value as u32),
            Gicd::Targets(place) => self.write_targets(access, place, value),
            Gicd::Register(Register::Ctlr) => self.set_groups(access.me, value as u32 & CTLR_GROUPS),
            Gicd::Register(Register::Sgir) => Outcome::Done(0, self.sgir(access.me, value as u32)),
            Gicd::Register(Register::ClearSgi) => self.write_sources(access, value, false),
            Gicd::Register(Register::SetSgi) => self.write_sources(access, value, true),
            Gicd::Register(_) | Gicd::Nothing => DONE,
            Gicd::BadSize => BAD_SIZE,
        }
    }

    /// A write to an array of `me`'s own interrupts.
    #[inline(never)]
    fn write_own(&self, access: Access, place: Place, value: u32) -> Outcome {
        let Some(cpu) = self.cpu(access.me) else { return DONE };
        match place.array {
            // SGIs pend for somebody: GICD_SGIR, GICD_CPENDSGIR and GICD_SPENDSGIR say for whom.
            Array::SetPending | Array::ClearPending => {
                return self.write_private(access, access.me, place, value & !super::SGI_EDGES);
            }
            Array::SetActive => {
                let Private { bank, sources, .. } = &mut *cpu.private.lock();
                sources.activate(bank, value, access.me.0 as u8);
            }
            _ => {}
        }
        self.write_private(access, access.me, place, value)
    }

    /// GICD_SGIR. NSATT has a meaning with the Security Extensions only.
    #[inline(never)]
    fn sgir(&self, me: VcpuId, value: u32) -> Kicks {
        let all = Kicks::first(self.cpus.len());
        let targets = match value >> 24 & 3 {
            filter::LIST => Kicks(u64::from(value >> SGIR_LIST_SHIFT & 0xff) & all.0),
            filter::OTHERS => all.without(me),
            filter::SELF => Kicks::of(me),
            _ => Kicks::NONE,
        };
        let mut kicks = Kicks::NONE;
        for vcpu in targets {
            if let Some(cpu) = self.cpu(vcpu) {
                let Private { bank, sources, .. } = &mut *cpu.private.lock();
                sources.raise(bank, value & 15, Kicks::of(me).0 as u8);
                kicks |= self.look(cpu, vcpu);
            }
        }
        kicks
    }

    /// GICD_CPENDSGIRn and GICD_SPENDSGIRn: a byte for each SGI, a bit in it for each source.
    #[inline(never)]
    fn read_sources(&self, access: Access, lists: &Lists) -> Outcome {
        let Some(cpu) = self.cpu(access.me) else { return DONE };
        let Private { bank, sources, .. } = &mut *cpu.private.lock();
        if bank.listed & bank.sourced != 0 && lists.loaded {
            return Outcome::Fold;
        }
        gather(access.size, access.offset & 15, |lane| sources.pending(bank, lane, lists))
    }

    #[inline(never)]
    fn write_sources(&self, access: Access, value: u64, pend: bool) -> Outcome {
        let Some(cpu) = self.cpu(access.me) else { return DONE };
        let exist = Kicks::first(self.cpus.len()).0 as u8;
        let Private { bank, sources, .. } = &mut *cpu.private.lock();
        for (lane, byte) in bytes(access.size, access.offset & 15, value) {
            if pend {
                sources.raise(bank, lane, byte & exist);
            } else {
                sources.clear(bank, lane, byte & exist);
            }
        }
        cpu.look_later();
        DONE
    }

    /// GICD_ITARGETSRn: RAZ/WI if there is one vCPU only; of private interrupts, who reads it.
    #[inline(never)]
    fn read_targets(&self, access: Access, place: Place) -> Outcome {
        if self.cpus.len() < 2 {
            return DONE;
        }
        if place.first < 32 {
            return gather(access.size, place.first, |_| Kicks::of(access.me).0 as u8);
        }
        let spis = self.spis.lock();
        let Some(here) = spis.banks.get(place.shared_bank()) else { return DONE };
        gather(access.size, place.first & 31, |lane| here.targets(lane))
    }

    #[inline(never)]
    fn write_targets(&self, access: Access, place: Place, value: u64) -> Outcome {
        if self.cpus.len() < 2 || place.first < 32 {
            return DONE;
        }
        let exist = Kicks::first(self.cpus.len()).0 as u8;
        let bank = place.shared_bank();
        let mut spis = self.spis.lock();
        let Some(here) = spis.banks.get_mut(bank) else { return DONE };
        let mut touched = 0;
        for (lane, byte) in bytes(access.size, place.first & 31, value) {
            if here.bank.valid & bit(lane) != 0 {
                here.set_targets(lane, byte & exist, self.one_of(byte & exist));
                touched |= bit(lane);
            }
        }
        Outcome::Done(0, spis.refresh(&self.cpus, bank, touched))
    }

    /// To which of `targets` an SPI goes.
    fn one_of(&self, targets: u8) -> u8 {
        let on = self.awake.load(Ordering::Relaxed) as u8 & targets;
        let of = if on != 0 { on } else { targets };
        if of == 0 { NOBODY } else { of.trailing_zeros() as u8 }
    }

    /// Where SPIs go after reset: nowhere, if there is a choice.
    pub(super) fn reset_target(&self) -> u8 {
        match self.version {
            GicVersion::V2 if self.cpus.len() > 1 => NOBODY,
            GicVersion::V2 => 0,
            GicVersion::V3 => self.affinities.vcpu(0),
        }
    }

    /// The same of any CPU interface: GICv3's never are.
    #[inline(always)]
    fn interface_moved(&self, cpu: &Cpu, lists: &Lists) -> bool {
        self.version == GicVersion::V2 && switched(cpu, lists)
    }

    /// Looks whether a vCPU turned its CPU interface on or off, which decides who gets an SPI that has several
    /// targets. No lock is held.
    #[inline(always)]
    pub(super) fn heed_interface(&self, me: VcpuId, cpu: &Cpu, lists: &Lists) -> Kicks {
        if self.interface_moved(cpu, lists) {
            self.set_asleep(me, cpu, !cpu.asleep.load(Ordering::Relaxed))
        } else {
            Kicks::NONE
        }
    }

    /// The same where nobody can be kicked: has `me` go the general way through `sync`.
    #[inline(always)]
    pub(super) fn suspect_interface(&self, me: VcpuId, cpu: &Cpu, lists: &Lists) {
        if self.interface_moved(cpu, lists) {
            self.owe(Kicks::of(me));
            cpu.look_later();
        }
    }

    /// `me` is switched off (PSCI CPU_OFF), after [`unload`](Self::unload). Returns whom to kick.
    pub fn switched_off(&self, me: VcpuId) -> Kicks {
        self.cpu(me).map_or(Kicks::NONE, |cpu| self.set_asleep(me, cpu, true))
    }

    /// A vCPU takes no interrupt that others can take, or takes them again: GICR_WAKER, or the enables of GICC_CTLR.
    pub(super) fn set_asleep(&self, vcpu: VcpuId, cpu: &Cpu, asleep: bool) -> Kicks {
        if cpu.asleep.load(Ordering::Relaxed) == asleep {
            return Kicks::NONE;
        }
        let mut spis = self.spis.lock();
        cpu.asleep.store(asleep, Ordering::Release);
        let (awake, this) = (self.awake.load(Ordering::Relaxed), Kicks::of(vcpu).0);
        self.awake.store(if asleep { awake & !this } else { awake | this }, Ordering::Relaxed);
        self.choose_again(&mut spis)
    }

    /// Chooses anew where SPIs go that several vCPUs can take (1 of N).
    #[cold]
    fn choose_again(&self, spis: &mut Spis) -> Kicks {
        let mut kicks = Kicks::NONE;
        for bank in 0..spis.banks.len() {
            let Some(here) = spis.banks.get_mut(bank) else { break };
            let mut touched = 0;
            for lane in Bits(here.any()) {
                let chosen = match self.version {
                    GicVersion::V2 => self.one_of(here.targets(lane)),
                    GicVersion::V3 => self.any_vcpu(spi_intid(bank as u32, lane)),
                };
                if chosen != here.target(lane) {
                    here.set_target(lane, chosen);
                    touched |= bit(lane);
                }
            }
            kicks |= spis.refresh(&self.cpus, bank, touched);
        }
        kicks
    }
}
