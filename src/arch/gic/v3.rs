//! GICv3: distributor, redistributors, CPU interface and list registers.
//!
//! One security state's view that works in both: all interrupts in Group 1, EOImode 1 (an end of
//! interrupt drops the priority; deactivation is separate, so that a guest's own end can do it through a
//! list register). Source: GICv3 and v4 specification (IHI 0069H).

use super::Peer;
use crate::addr::{Address, HostRange};
use crate::arch::sys::{op, read, write};
use crate::machine::{IntId, ppi};
use crate::vcpu::{Lists, Vcpu};
use tock_registers::interfaces::{Readable, Writeable};
use tock_registers::registers::{ReadOnly, ReadWrite, WriteOnly};
use tock_registers::{register_bitfields, register_structs};

register_bitfields! { u32,
    GICD_CTLR [ RWP OFFSET(31) NUMBITS(1) [], ARE OFFSET(4) NUMBITS(1) [], GRP1A OFFSET(1) NUMBITS(1) [] ],
    GICD_TYPER [ IT_LINES OFFSET(0) NUMBITS(5) [] ],
    GICR_WAKER [ CHILDREN_ASLEEP OFFSET(2) NUMBITS(1) [], PROCESSOR_SLEEP OFFSET(1) NUMBITS(1) [] ],
}

register_structs! {
    /// The distributor, as far as it is used.
    Distributor {
        (0x0000 => ctlr: ReadWrite<u32, GICD_CTLR::Register>),
        (0x0004 => typer: ReadOnly<u32, GICD_TYPER::Register>),
        (0x0008 => _0),
        (0x0080 => igroupr: [ReadWrite<u32>; 32]),
        (0x0100 => isenabler: [ReadWrite<u32>; 32]),
        (0x0180 => icenabler: [ReadWrite<u32>; 32]),
        (0x0200 => _1),
        (0x0280 => icpendr: [ReadWrite<u32>; 32]),
        (0x0300 => _2),
        (0x0380 => icactiver: [ReadWrite<u32>; 32]),
        (0x0400 => ipriorityr: [ReadWrite<u32>; 256]),
        (0x0800 => _3),
        (0x6000 => irouter: [ReadWrite<u64>; 1024]),
        (0x8000 => @END),
    },
    /// One CPU's redistributor: RD_base and SGI_base.
    Redistributor {
        (0x0000 => ctlr: ReadWrite<u32>),
        (0x0004 => _0),
        (0x0008 => typer: ReadOnly<u64>),
        (0x0010 => _1),
        (0x0014 => waker: ReadWrite<u32, GICR_WAKER::Register>),
        (0x0018 => _2),
        (0x1_0080 => igroupr0: ReadWrite<u32>),
        (0x1_0084 => _3),
        (0x1_0100 => isenabler0: ReadWrite<u32>),
        (0x1_0104 => _4),
        (0x1_0180 => icenabler0: ReadWrite<u32>),
        (0x1_0184 => _5),
        (0x1_0280 => icpendr0: WriteOnly<u32>),
        (0x1_0284 => _6),
        (0x1_0300 => isactiver0: ReadWrite<u32>),
        (0x1_0304 => _7),
        (0x1_0380 => icactiver0: ReadWrite<u32>),
        (0x1_0384 => _8),
        (0x1_0400 => ipriorityr: [ReadWrite<u32>; 8]),
        (0x1_0420 => _9),
        (0x2_0000 => @END),
    }
}

/// GICR_TYPER.Last.
const LAST: u64 = 1 << 4;
/// GICR_TYPER.VLPIS: the frames take 256 KiB.
const VLPIS: u64 = 1 << 1;
/// Frames without VLPIs.
const FRAMES: u64 = 0x2_0000;

/// One CPU's way to the GIC.
pub(crate) struct Gic {
    distributor: &'static Distributor,
    redistributor: &'static Redistributor,
    lists: u8,
    /// What decides how many active priority registers there are: ICH_VTR_EL2.PREbits + 1.
    preemption_bits: u8,
}

impl Gic {
    /// Finds this CPU's redistributor, brings up the distributor (once, `first`) and the CPU interface.
    ///
    /// # Safety
    /// The ranges are a GICv3's distributor and redistributors, mapped as device memory for good.
    pub(crate) unsafe fn new(
        dist: HostRange,
        redists: &[HostRange],
        mpidr: u64,
        first: bool,
    ) -> Option<Self> {
        // SAFETY: the caller says so.
        let distributor = unsafe { &*(dist.start().raw() as *const Distributor) };
        let redistributor = redists.iter().find_map(|region| {
            // SAFETY: the caller says so; frames are walked only within the region.
            unsafe { find_frame(*region, mpidr) }
        })?;
        let vtr = read!("S3_4_C12_C11_1"); // ICH_VTR_EL2
        let lists = (vtr & 0x1f) as u8 + 1;
        let preemption_bits = (vtr >> 26 & 7) as u8 + 1;
        let gic = Self { distributor, redistributor, lists, preemption_bits };
        if first {
            gic.init_distributor();
        }
        gic.init_redistributor();
        init_cpu_interface();
        Some(gic)
    }

    /// List registers that this CPU has: ICH_VTR_EL2.ListRegs + 1.
    pub(crate) fn list_registers(&self) -> u8 {
        self.lists
    }

    fn init_distributor(&self) {
        let d = self.distributor;
        d.ctlr.set(0);
        self.wait_distributor();
        let words = d.typer.read(GICD_TYPER::IT_LINES) as usize + 1;
        for word in 1..words.min(32) {
            d.icenabler[word].set(u32::MAX);
            d.icpendr[word].set(u32::MAX);
            d.icactiver[word].set(u32::MAX);
            d.igroupr[word].set(u32::MAX);
        }
        for word in 8..(words * 8).min(256) {
            d.ipriorityr[word].set(super::PRIORITY);
        }
        d.ctlr.write(GICD_CTLR::ARE::SET + GICD_CTLR::GRP1A::SET);
        self.wait_distributor();
    }

    fn wait_distributor(&self) {
        while self.distributor.ctlr.is_set(GICD_CTLR::RWP) {
            core::hint::spin_loop();
        }
    }

    fn init_redistributor(&self) {
        let r = self.redistributor;
        r.waker.write(GICR_WAKER::PROCESSOR_SLEEP::CLEAR);
        while r.waker.is_set(GICR_WAKER::CHILDREN_ASLEEP) {
            core::hint::spin_loop();
        }
        r.icenabler0.set(u32::MAX);
        r.icpendr0.set(u32::MAX);
        r.icactiver0.set(u32::MAX);
        r.igroupr0.set(u32::MAX);
        for word in &r.ipriorityr {
            word.set(super::PRIORITY);
        }
        let private = [ppi::MAINTENANCE, ppi::HYP_TIMER, ppi::VIRTUAL_TIMER];
        // SGIs 0 to 15 are kicks from other CPUs.
        r.isenabler0.set(private.iter().fold(0xffff, |mask, id| mask | 1 << id.0));
    }

    /// Lets a shared interrupt through, to that CPU alone.
    pub(crate) fn enable_spi(&self, id: IntId, to: &Peer) {
        let n = id.0 as usize;
        if (32..1020).contains(&n) {
            self.distributor.irouter[n].set(to.affinity); // its fields are where MPIDR has them
            self.distributor.isenabler[n / 32].set(1 << (n % 32));
        }
    }

    /// Sets or clears the active state of a private interrupt: it belongs to the vCPU whose timer it is.
    pub(crate) fn set_active(&self, id: IntId, active: bool) {
        let bit = 1 << (id.0 & 31);
        if active {
            self.redistributor.isactiver0.set(bit);
        } else {
            self.redistributor.icactiver0.set(bit);
        }
        op!("dsb sy");
    }

    /// Acknowledges the most urgent pending interrupt.
    #[inline]
    pub(crate) fn ack(&self) -> Option<IntId> {
        let id = read!("S3_0_C12_C12_0") as u32 & 0xff_ffff; // ICC_IAR1_EL1
        op!("dsb sy");
        // 1020 to 1023 are special: nothing there, or not for us.
        (!(1020..8192).contains(&id)).then_some(IntId(id))
    }

    /// Drops the running priority, and deactivates unless a guest will.
    #[inline]
    pub(crate) fn done(&self, id: IntId, keep_active: bool) {
        write!("S3_0_C12_C12_1", u64::from(id.0)); // ICC_EOIR1_EL1
        if !keep_active {
            write!("S3_0_C12_C11_1", u64::from(id.0)); // ICC_DIR_EL1
        }
        super::super::isb();
    }

    /// ICC_SGI1R_EL1 for SGI 0 to the CPU with this affinity.
    pub(crate) fn signal(&self, affinity: u64) -> u64 {
        crate::cpus::sgi1r(affinity)
    }

    /// Sends what [`signal`](Self::signal) gave.
    #[inline(always)]
    pub(crate) fn send(&self, signal: u64) {
        write!("S3_0_C12_C11_5", signal); // ICC_SGI1R_EL1
        super::super::isb(); // now, not when the next exception comes by
    }
}

/// The redistributor of the CPU with this MPIDR in one region of frames.
///
/// # Safety
/// `region` holds redistributors and is mapped as device memory for good.
unsafe fn find_frame(region: HostRange, mpidr: u64) -> Option<&'static Redistributor> {
    let wanted = (mpidr >> 32 & 0xff) << 24 | mpidr & 0xff_ffff;
    let mut at = region.start().raw();
    while at + FRAMES <= region.end().raw() {
        // SAFETY: a frame inside the region.
        let frame = unsafe { &*(at as *const Redistributor) };
        let typer = frame.typer.get();
        if typer >> 32 == wanted {
            return Some(frame);
        }
        if typer & LAST != 0 {
            return None;
        }
        at += if typer & VLPIS != 0 { 2 * FRAMES } else { FRAMES };
    }
    None
}

fn init_cpu_interface() {
    write!("ICC_SRE_EL2", 0xf);
    super::super::isb();
    write!("S3_0_C4_C6_0", 0xff); // ICC_PMR_EL1: nothing is masked
    write!("S3_0_C12_C12_3", 0); // ICC_BPR1_EL1
    // ICC_AP0R0_EL1, ICC_AP1R0_EL1: what somebody before us did not end would keep all of ours away.
    write!("S3_0_C12_C8_4", 0);
    write!("S3_0_C12_C9_0", 0);
    write!("S3_0_C12_C12_4", 1 << 1); // ICC_CTLR_EL1.EOImode
    write!("S3_0_C12_C12_7", 1); // ICC_IGRPEN1_EL1
    super::super::isb();
}

macro_rules! numbered {
    ($($n:literal $lr:literal;)*) => {
        #[inline(always)]
        fn read_lr(n: u32) -> u64 {
            match n { $($n => read!($lr),)* _ => 0 }
        }
        #[inline(always)]
        fn write_lr(n: u32, value: u64) {
            match n { $($n => write!($lr, value),)* _ => {} }
        }
    };
}

// ICH_LRn_EL2
numbered! {
    0 "S3_4_C12_C12_0"; 1 "S3_4_C12_C12_1"; 2 "S3_4_C12_C12_2"; 3 "S3_4_C12_C12_3";
    4 "S3_4_C12_C12_4"; 5 "S3_4_C12_C12_5"; 6 "S3_4_C12_C12_6"; 7 "S3_4_C12_C12_7";
    8 "S3_4_C12_C13_0"; 9 "S3_4_C12_C13_1"; 10 "S3_4_C12_C13_2"; 11 "S3_4_C12_C13_3";
    12 "S3_4_C12_C13_4"; 13 "S3_4_C12_C13_5"; 14 "S3_4_C12_C13_6"; 15 "S3_4_C12_C13_7";
}

/// Writes those of `dirty` that there are.
#[inline(never)]
fn load_others(lists: &Lists, mut dirty: u16) {
    while dirty != 0 {
        let n = dirty.trailing_zeros();
        dirty &= dirty - 1;
        write_lr(n, lists.lr.get(n as usize).copied().unwrap_or(0));
    }
}

/// Reads back all used list registers but the first.
#[inline(never)]
fn fold_others(lists: &mut Lists) {
    let mut used = lists.used & !1;
    while used != 0 {
        let n = used.trailing_zeros();
        used &= used - 1;
        if let Some(lr) = lists.lr.get_mut(n as usize) {
            *lr = read_lr(n);
        }
    }
}

impl Gic {
    /// Writes what changed of the list registers before an entry. The first is the one that is used most.
    #[inline(always)]
    pub(crate) fn load_lists(&self, lists: &mut Lists) {
        let dirty = core::mem::take(&mut lists.dirty);
        if dirty & 1 != 0 {
            write_lr(0, lists.lr[0]);
        }
        if dirty & !1 != 0 {
            load_others(lists, dirty & !1);
        }
    }

    /// ICH_HCR_EL2.
    pub(crate) fn load_control(&self, hcr: u64) {
        write!("S3_4_C12_C11_0", hcr);
    }

    /// Reads back what the guest did with the used list registers; they stay loaded in the hardware.
    #[inline(always)]
    pub(crate) fn fold_lists(&self, lists: &mut Lists) {
        lists.vmcr = read!("S3_4_C12_C11_7"); // ICH_VMCR_EL2
        if lists.used & 1 != 0 {
            lists.lr[0] = read_lr(0);
        }
        if lists.used & !1 != 0 {
            fold_others(lists);
        }
        lists.hcr = read!("S3_4_C12_C11_0");
        // The maintenance interrupt is a level: with a condition of it met, it would come again before the
        // next entry. None can become met until then (ICH_MISR_EL2).
        if read!("S3_4_C12_C11_2") != 0 {
            write!("S3_4_C12_C11_0", 0);
            lists.hcr_dirty = true;
        }
    }

    /// Has the hardware present nothing; returns what [`present`](Self::present) takes to undo it.
    pub(crate) fn silence(&self) -> u64 {
        let hcr = read!("S3_4_C12_C11_0");
        write!("S3_4_C12_C11_0", 0);
        super::super::isb();
        hcr
    }

    /// The end of a [`silence`](Self::silence).
    pub(crate) fn present(&self, hcr: u64) {
        write!("S3_4_C12_C11_0", hcr);
    }

    /// Loads what [`load_lists`](Self::load_lists) does not.
    pub(crate) fn load_rest(&self, vcpu: &Vcpu) {
        let lists = &vcpu.lists;
        // Where a GIC lets EL1 turn its system registers off, another guest may have.
        write!("S3_0_C12_C12_5", 7); // ICC_SRE_EL1
        // ICC_SRE_EL1 is not EL1's (Enable) where no other register of the interface is. It is all the same
        // where Enable is RAO/WI, as in QEMU (IHI 0069, ICC_SRE_EL2).
        write!("ICC_SRE_EL2", if lists.emulated { 7 } else { 0xf });
        if lists.emulated {
            return;
        }
        write!("S3_4_C12_C11_7", lists.vmcr);
        let [ap0, ap1] = &lists.apr;
        write!("S3_4_C12_C8_0", ap0[0]); // ICH_AP0R0_EL2
        write!("S3_4_C12_C9_0", ap1[0]); // ICH_AP1R0_EL2
        if self.preemption_bits >= 6 {
            write!("S3_4_C12_C8_1", ap0[1]);
            write!("S3_4_C12_C9_1", ap1[1]);
        }
        if self.preemption_bits >= 7 {
            write!("S3_4_C12_C8_2", ap0[2]);
            write!("S3_4_C12_C8_3", ap0[3]);
            write!("S3_4_C12_C9_2", ap1[2]);
            write!("S3_4_C12_C9_3", ap1[3]);
        }
    }

    /// Takes back what [`fold_lists`](Self::fold_lists) does not.
    pub(crate) fn save_rest(&self, vcpu: &mut Vcpu) {
        let [ap0, ap1] = &mut vcpu.lists.apr;
        ap0[0] = read!("S3_4_C12_C8_0");
        ap1[0] = read!("S3_4_C12_C9_0");
        if self.preemption_bits >= 6 {
            ap0[1] = read!("S3_4_C12_C8_1");
            ap1[1] = read!("S3_4_C12_C9_1");
        }
        if self.preemption_bits >= 7 {
            ap0[2] = read!("S3_4_C12_C8_2");
            ap0[3] = read!("S3_4_C12_C8_3");
            ap1[2] = read!("S3_4_C12_C9_2");
            ap1[3] = read!("S3_4_C12_C9_3");
        }
    }

    /// ICH_VTR_EL2.PRIbits + 1.
    pub(crate) fn priority_bits(&self) -> u8 {
        (read!("S3_4_C12_C11_1") >> 29 & 7) as u8 + 1
    }
}
