//! GICv2 with the Virtualization Extensions: distributor, CPU interface, GICH.
//!
//! As EL2 without a word of security sees it: whether the GIC has Security Extensions or not, bit 0 of
//! GICD_CTLR and GICC_CTLR turns on what is ours, and bit 9 of GICC_CTLR is our EOImode. Source: GICv2
//! specification (IHI 0048B), chapters 4 and 5.
//!
//! List registers come as GICv3 has them ([`Lists`]); GICH_LRn say the same in 32 bits. Neither needs barriers
//! against the guest's own accesses by GICV: all are Device accesses to one peripheral, which stay in order
//! (Arm ARM B2.3.4).

use super::Peer;
use crate::addr::{Address, HostRange};
use crate::arch::sys::op;
use crate::machine::{IntId, ppi};
use crate::vcpu::{Lists, Vcpu};
use crate::vdev::vgic::lr;
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};
use tock_registers::{register_bitfields, register_structs};

register_bitfields! { u32,
    GICD_CTLR [ ENABLE OFFSET(0) NUMBITS(1) [] ],
    GICD_TYPER [ IT_LINES OFFSET(0) NUMBITS(5) [] ],
    GICC_CTLR [ ENABLE OFFSET(0) NUMBITS(1) [], BYPASS OFFSET(5) NUMBITS(4) [], EOI_MODE OFFSET(9) NUMBITS(1) [] ],
    GICH_VTR [ LIST_REGS OFFSET(0) NUMBITS(6) [], PRI_BITS OFFSET(29) NUMBITS(3) [] ],
}

register_structs! {
    /// The distributor, as far as it is used. Interrupts 0 to 31 are each CPU's own.
    Distributor {
        (0x000 => ctlr: ReadWrite<u32, GICD_CTLR::Register>),
        (0x004 => typer: ReadOnly<u32, GICD_TYPER::Register>),
        (0x008 => _0),
        (0x100 => isenabler: [ReadWrite<u32>; 32]),
        (0x180 => icenabler: [ReadWrite<u32>; 32]),
        (0x200 => _1),
        (0x280 => icpendr: [ReadWrite<u32>; 32]),
        (0x300 => isactiver: [ReadWrite<u32>; 32]),
        (0x380 => icactiver: [ReadWrite<u32>; 32]),
        (0x400 => ipriorityr: [ReadWrite<u32>; 256]),
        (0x800 => itargetsr: [ReadWrite<u32>; 256]),
        (0xc00 => _2),
        (0xf00 => sgir: WriteOnly<u32>),
        (0xf04 => _3),
        (0x1000 => @END),
    },
    /// The CPU interface of the CPU that looks.
    Interface {
        (0x0000 => ctlr: ReadWrite<u32, GICC_CTLR::Register>),
        (0x0004 => pmr: ReadWrite<u32>),
        (0x0008 => bpr: ReadWrite<u32>),
        (0x000c => iar: ReadOnly<u32>),
        (0x0010 => eoir: WriteOnly<u32>),
        (0x0014 => _0),
        (0x00d0 => apr: [ReadWrite<u32>; 4]),
        (0x00e0 => _2),
        (0x00fc => iidr: ReadOnly<u32>),
        (0x0100 => _1),
        (0x1000 => dir: WriteOnly<u32>),
        (0x1004 => @END),
    },
    /// The virtual interface control registers of the CPU that looks.
    Hypervisor {
        (0x000 => hcr: ReadWrite<u32>),
        (0x004 => vtr: ReadOnly<u32, GICH_VTR::Register>),
        (0x008 => vmcr: ReadWrite<u32>),
        (0x00c => _0),
        (0x010 => misr: ReadOnly<u32>),
        (0x014 => _1),
        (0x0f0 => apr: ReadWrite<u32>),
        (0x0f4 => _2),
        (0x100 => lr: [ReadWrite<u32>; 64]),
        (0x200 => @END),
    }
}

/// GICC_IIDR of QEMU's GICv2: architecture version 2 by Arm, and no product.
const IIDR_OF_QEMU: u32 = 0x0002_043b;
/// What is none of GICH_HCR's fields: those, enables and EOIcount, [`Lists::hcr`] has in the same places. GICv3's
/// traps are none of GICv2's.
const HCR_OTHER: u64 = (1 << lr::HCR_EOICOUNT_SHIFT) - (1 << 8);

/// One CPU's way to the GIC.
pub(crate) struct Gic {
    distributor: &'static Distributor,
    interface: &'static Interface,
    /// Where it has the Virtualization Extensions.
    hypervisor: Option<&'static Hypervisor>,
    /// It is QEMU's, with guests on GICV.
    pub(super) forgets_levels: bool,
}

impl Gic {
    /// Brings up the distributor (once, `first`) and the CPU interface. `None` if that has no GICC_DIR.
    ///
    /// # Safety
    /// The ranges are a GICv2's GICD, GICC and GICH, mapped as device memory for good.
    pub(crate) unsafe fn new(
        dist: HostRange,
        cpu: HostRange,
        hyp: Option<HostRange>,
        first: bool,
    ) -> Option<Self> {
        if cpu.size() < size_of::<Interface>() as u64 {
            return None;
        }
        let hyp = hyp.filter(|hyp| hyp.size() >= size_of::<Hypervisor>() as u64);
        // SAFETY: the caller says so; GICC and GICH are as large as they have to be.
        let mut gic = unsafe {
            Self {
                distributor: &*(dist.start().raw() as *const Distributor),
                interface: &*(interface_at(cpu) as *const Interface),
                hypervisor: hyp.map(|hyp| &*(hyp.start().raw() as *const Hypervisor)),
                forgets_levels: false,
            }
        };
        gic.forgets_levels = gic.hypervisor.is_some() && gic.interface.iidr.get() == IIDR_OF_QEMU;
        if first {
            gic.init_distributor();
        }
        gic.init_cpu();
        Some(gic)
    }

    /// List registers that this CPU has: GICH_VTR.ListRegs + 1.
    pub(crate) fn list_registers(&self) -> u8 {
        self.hypervisor.map_or(0, |hyp| hyp.vtr.read(GICH_VTR::LIST_REGS) as u8 + 1)
    }

    /// GICH_VTR.PRIbits + 1.
    pub(crate) fn priority_bits(&self) -> u8 {
        self.hypervisor.map_or(5, |hyp| hyp.vtr.read(GICH_VTR::PRI_BITS) as u8 + 1)
    }

    fn init_distributor(&self) {
        let d = self.distributor;
        d.ctlr.set(0);
        let words = d.typer.read(GICD_TYPER::IT_LINES) as usize + 1;
        for word in 1..words.min(32) {
            d.icenabler[word].set(u32::MAX);
            d.icpendr[word].set(u32::MAX);
            d.icactiver[word].set(u32::MAX);
        }
        for word in 8..(words * 8).min(256) {
            d.ipriorityr[word].set(super::PRIORITY);
        }
        d.ctlr.write(GICD_CTLR::ENABLE::SET);
    }

    fn init_cpu(&self) {
        let d = self.distributor;
        d.icenabler[0].set(0xffff_0000);
        d.icpendr[0].set(0xffff_0000);
        d.icactiver[0].set(u32::MAX);
        for word in &d.ipriorityr[..8] {
            word.set(super::PRIORITY);
        }
        // SGIs, kicks from other CPUs, are enabled for good.
        let private = [ppi::MAINTENANCE, ppi::HYP_TIMER, ppi::VIRTUAL_TIMER];
        d.isenabler[0].set(private.iter().fold(0, |mask, id| mask | 1 << id.0));
        let c = self.interface;
        c.pmr.set(0xff); // nothing is masked
        // What somebody before us did not end would keep all of ours away.
        for word in &c.apr {
            word.set(0);
        }
        c.bpr.set(0);
        // How the interface is bypassed is the firmware's to know.
        let bypass = c.ctlr.read(GICC_CTLR::BYPASS);
        c.ctlr.write(GICC_CTLR::ENABLE::SET + GICC_CTLR::EOI_MODE::SET + GICC_CTLR::BYPASS.val(bypass));
        if let Some(hyp) = self.hypervisor {
            hyp.hcr.set(0);
            hyp.apr.set(0);
            for lr in &hyp.lr[..usize::from(self.list_registers()).min(64)] {
                lr.set(0);
            }
        }
    }

    /// GICD_SGIR for SGI 0 to this CPU: its bit in a list of targets, as ITARGETSR of its own interrupts says, each of
    /// those that exist. With one CPU they say none.
    pub(crate) fn signal(&self, _affinity: u64) -> u64 {
        let words = self.distributor.itargetsr[..8].iter().fold(0, |all, word| all | word.get());
        let own = (words | words >> 8 | words >> 16 | words >> 24) & 0xff;
        u64::from(own.max(1)) << 16
    }

    /// Lets a shared interrupt through, to that CPU alone. Not for two CPUs at once.
    pub(crate) fn enable_spi(&self, id: IntId, to: &Peer) {
        let n = id.0 as usize;
        if (32..1020).contains(&n) {
            let (word, shift) = (&self.distributor.itargetsr[n / 4], n % 4 * 8);
            word.set(word.get() & !(0xff << shift) | (to.signal as u32 >> 16 & 0xff) << shift);
            self.distributor.isenabler[n / 32].set(1 << (n % 32));
        }
    }

    /// Sets or clears the active state of a private interrupt: it belongs to the vCPU whose timer it is.
    pub(crate) fn set_active(&self, id: IntId, active: bool) {
        let bit = 1 << (id.0 & 31);
        if active {
            self.distributor.isactiver[0].set(bit);
        } else {
            self.distributor.icactiver[0].set(bit);
        }
        op!("dsb sy");
    }

    /// Acknowledges the most urgent pending interrupt.
    #[inline]
    pub(crate) fn ack(&self) -> Option<IntId> {
        let iar = self.interface.iar.get();
        op!("dsb sy");
        let id = iar & 0x3ff;
        if id < 16 {
            // An SGI ends with the source that it came with; nobody keeps one active.
            self.interface.eoir.set(iar);
            self.interface.dir.set(iar);
        }
        // 1020 to 1023 are special: nothing there, or not for us.
        (id < 1020).then_some(IntId(id))
    }

    /// Drops the running priority, and deactivates unless a guest will.
    #[inline]
    pub(crate) fn done(&self, id: IntId, keep_active: bool) {
        if id.0 < 16 {
            return; // see `ack`
        }
        self.interface.eoir.set(id.0);
        if !keep_active {
            self.interface.dir.set(id.0);
        }
    }

    /// Sends what [`signal`](Self::signal) gave on the CPU that it is for.
    #[inline(always)]
    pub(crate) fn send(&self, signal: u64) {
        self.distributor.sgir.set(signal as u32);
    }
}

/// Where GICC is within its range. With pages of 64 KiB in mind, some machines show each of its pages sixteen times
/// in a row: the two that are next to each other are then the last of the first page and the first of the second.
///
/// # Safety
/// The range is a GICv2's CPU interface, mapped as device memory.
unsafe fn interface_at(cpu: HostRange) -> u64 {
    const ALIASED: u64 = 0x2_0000;
    const LAST: u64 = 0xf000;
    let at = cpu.start().raw();
    // SAFETY: GICC_IIDR, and its last alias, lie within the range.
    let iidr = |offset: u64| unsafe { ((at + offset + 0xfc) as *const u32).read_volatile() };
    if cpu.size() >= ALIASED && iidr(0) == iidr(LAST) { at + LAST } else { at }
}

/// GICH_LRn of what ICH_LRn_EL2 would hold. GICv2's five bits of priority are the upper ones.
#[inline(always)]
fn narrow(entry: u64) -> u32 {
    let field = |shift: u32, bits: u32| (entry >> shift) as u32 & ((1 << bits) - 1);
    // State, HW and Group are next to each other in both, by pairs in another order.
    let (state, kind) = (field(62, 2), field(60, 2));
    // The source CPU of an SGI has the same place. A linked interrupt has none, so that its pINTID can be; of
    // any other that field is zero but for EOI (bit 9), which GICH_LRn has there too.
    let ids = field(0, 13) | field(lr::PINTID_SHIFT, 10) << 10;
    ids | field(lr::PRIORITY_SHIFT + 3, 5) << 23 | state << 28 | kind << 30
}

/// The entry that was written, in the state that GICH_LRn has now: the hardware changes nothing else.
#[inline(always)]
fn widen(entry: u64, now: u32) -> u64 {
    entry & !lr::STATE | u64::from(now >> 28 & 3) << 62
}

/// The list registers of `mask`.
fn numbers(mut mask: u16) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let n = mask.trailing_zeros() as usize;
        mask &= mask.wrapping_sub(1);
        (n < 16).then_some(n)
    })
}

impl Hypervisor {
    /// Writes those of `dirty`.
    #[inline(never)]
    fn load_others(&self, lists: &Lists, dirty: u16) {
        for n in numbers(dirty) {
            self.lr[n].set(narrow(lists.lr[n]));
        }
    }

    /// Reads back those of `used`.
    #[inline(never)]
    fn fold_others(&self, lists: &mut Lists, used: u16) {
        for n in numbers(used) {
            lists.lr[n] = widen(lists.lr[n], self.lr[n].get());
        }
    }
}

impl Gic {
    /// Writes what changed of the list registers before an entry. The first is the one that is used most.
    #[inline(always)]
    pub(crate) fn load_lists(&self, lists: &mut Lists) {
        let Some(hyp) = self.hypervisor else { return };
        let dirty = core::mem::take(&mut lists.dirty);
        if dirty & 1 != 0 {
            hyp.lr[0].set(narrow(lists.lr[0]));
        }
        if dirty & !1 != 0 {
            hyp.load_others(lists, dirty & !1);
        }
    }

    /// GICH_HCR.
    pub(crate) fn load_control(&self, hcr: u64) {
        if let Some(hyp) = self.hypervisor {
            hyp.hcr.set((hcr & !HCR_OTHER) as u32);
        }
    }

    /// Reads back what the guest did with the used list registers; they stay loaded in the hardware.
    #[inline(always)]
    pub(crate) fn fold_lists(&self, lists: &mut Lists) {
        let Some(hyp) = self.hypervisor else { return };
        lists.vmcr = hyp.vmcr.get().into();
        if lists.used & 1 != 0 {
            lists.lr[0] = widen(lists.lr[0], hyp.lr[0].get());
        }
        if lists.used & !1 != 0 {
            hyp.fold_others(lists, lists.used & !1);
        }
        lists.hcr = lists.hcr & HCR_OTHER | u64::from(hyp.hcr.get());
        // As with GICv3: the maintenance interrupt is a level.
        if hyp.misr.get() != 0 {
            hyp.hcr.set(0);
            lists.hcr_dirty = true;
        }
    }

    /// Has the hardware present nothing; returns what [`present`](Self::present) takes to undo it.
    pub(crate) fn silence(&self) -> u64 {
        let Some(hyp) = self.hypervisor else { return 0 };
        let hcr = hyp.hcr.get();
        hyp.hcr.set(0);
        // QEMU does not look again whether a level that a guest's end of interrupt deactivated is still high,
        // before somebody writes to GICC or GICD. To hardware this says what it knows.
        self.interface.pmr.set(0xff);
        op!("dsb sy");
        hcr.into()
    }

    /// The end of a [`silence`](Self::silence).
    pub(crate) fn present(&self, hcr: u64) {
        if let Some(hyp) = self.hypervisor {
            hyp.hcr.set(hcr as u32);
        }
    }

    /// Loads what [`load_lists`](Self::load_lists) does not.
    pub(crate) fn load_rest(&self, vcpu: &Vcpu) {
        if let Some(hyp) = self.hypervisor {
            hyp.vmcr.set(vcpu.lists.vmcr as u32);
            hyp.apr.set(vcpu.lists.apr[0][0] as u32);
        }
    }

    /// Takes back what [`fold_lists`](Self::fold_lists) does not.
    pub(crate) fn save_rest(&self, vcpu: &mut Vcpu) {
        if let Some(hyp) = self.hypervisor {
            vcpu.lists.apr[0][0] = hyp.apr.get().into();
        }
    }
}
