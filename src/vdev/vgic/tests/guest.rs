//! A guest whose CPU interface is the software one, alone with it on one vCPU.

use crate::exit::{Size, SysRegId};
use crate::vcpu::{Lists, VcpuId};
use crate::vdev::vgic::{Frame, GicVersion, Outcome, Vgic, VgicConfig, lr};

pub(super) const ME: VcpuId = VcpuId(0);
pub(super) const BOTH: [GicVersion; 2] = [GicVersion::V2, GicVersion::V3];

/// What the guest has, and what it reaches it by.
pub(super) struct Guest {
    pub(super) vgic: Vgic,
    pub(super) lists: Lists,
    version: GicVersion,
}

/// A register, named as in GICv3: its offset in GICC, and the system register.
#[derive(Clone, Copy)]
pub(super) struct Reg(pub(super) u64, pub(super) SysRegId);

/// A register of both versions.
pub(super) const fn reg(offset: u64, crn: u32, crm: u32, op2: u32) -> Reg {
    Reg(offset, SysRegId::new(3, 0, crn, crm, op2))
}

/// A register of GICv2.
pub(super) const fn gicc(offset: u64) -> Reg {
    reg(offset, 0, 0, 0)
}

pub(super) const PMR: Reg = reg(0x04, 4, 6, 0);
pub(super) const BPR0: Reg = reg(0x08, 12, 8, 3);
pub(super) const BPR1: Reg = reg(0x1c, 12, 12, 3);
pub(super) const IAR0: Reg = reg(0x0c, 12, 8, 0);
pub(super) const IAR1: Reg = reg(0x20, 12, 12, 0);
pub(super) const EOIR0: Reg = reg(0x10, 12, 8, 1);
pub(super) const EOIR1: Reg = reg(0x24, 12, 12, 1);
pub(super) const HPPIR0: Reg = reg(0x18, 12, 8, 2);
pub(super) const HPPIR1: Reg = reg(0x28, 12, 12, 2);
pub(super) const RPR: Reg = reg(0x14, 12, 11, 3);
pub(super) const DIR: Reg = reg(0x1000, 12, 11, 1);
pub(super) const CTLR: Reg = reg(0x00, 12, 12, 4);
const IGRPEN0: Reg = reg(0x2c, 12, 12, 6);
const IGRPEN1: Reg = reg(0x2c, 12, 12, 7);

impl Guest {
    /// All groups on and nothing masked, with `lists` list registers and `bits` bits of priority.
    pub(super) fn of(version: GicVersion, lists: u8, bits: u8) -> Self {
        let mpidrs = vec![1 << 31, 1 << 31 | 1];
        let config = VgicConfig { version, mpidrs, spis: 64, lists, priority_bits: bits, emulated: true };
        let vgic = Vgic::new(config);
        let mut lists = Lists::default();
        vgic.reset_cpu(ME, &mut lists);
        vgic.sync(ME, &mut lists);
        let mut guest = Self { vgic, lists, version };
        guest.set_groups(true, true);
        guest.set_mask(0xff);
        guest
    }

    pub(super) fn new(version: GicVersion) -> Self {
        Self::of(version, 4, 5)
    }

    pub(super) fn call(&mut self, reg: Reg, write: Option<u64>) -> Outcome {
        match self.version {
            GicVersion::V2 => self.vgic.access(ME, Frame::Gicc, reg.0, Size::Word, write, &mut self.lists),
            GicVersion::V3 => self.vgic.icc(ME, reg.1, write, &mut self.lists).expect("no such register"),
        }
    }

    pub(super) fn read(&mut self, reg: Reg) -> u64 {
        match self.call(reg, None) {
            Outcome::Done(value, _) => value,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn write(&mut self, reg: Reg, value: u64) {
        let outcome = self.call(reg, Some(value));
        assert!(matches!(outcome, Outcome::Done(0, _)), "{outcome:?}");
    }

    pub(super) fn set_mask(&mut self, mask: u64) {
        self.write(PMR, mask);
    }

    pub(super) fn set_groups(&mut self, group0: bool, group1: bool) {
        match self.version {
            GicVersion::V2 => {
                // Group 1 by GICC_IAR as well: AckCtl.
                let old = self.read(CTLR) & !3;
                self.write(CTLR, old | 4 | u64::from(group0) | u64::from(group1) << 1);
            }
            GicVersion::V3 => {
                self.write(IGRPEN0, group0.into());
                self.write(IGRPEN1, group1.into());
            }
        }
    }

    /// CBPR and EOImode.
    pub(super) fn set_modes(&mut self, common: bool, split: bool) {
        let old = self.read(CTLR);
        let bits = match self.version {
            GicVersion::V2 => old & !(1 << 4 | 1 << 9) | u64::from(common) << 4 | u64::from(split) << 9,
            GicVersion::V3 => u64::from(common) | u64::from(split) << 1,
        };
        self.write(CTLR, bits);
    }

    /// List register `n`: an interrupt of Group 1 pends.
    pub(super) fn pend(&mut self, n: usize, intid: u64, priority: u64) {
        self.list(n, lr::PENDING | lr::GROUP1 | priority << lr::PRIORITY_SHIFT | intid);
    }

    pub(super) fn list(&mut self, n: usize, entry: u64) {
        self.lists.lr[n] = entry;
        self.lists.used |= 1 << n;
        self.vgic.signal(&mut self.lists);
    }

    /// Takes what is signalled, by the register of its group.
    pub(super) fn take(&mut self) -> Option<u64> {
        let first = self.read(if self.version == GicVersion::V2 { IAR0 } else { IAR1 });
        let intid = if first == 1023 { self.read(IAR0) } else { first };
        (intid != 1023).then_some(intid)
    }

    /// Ends an interrupt of Group 1.
    pub(super) fn end(&mut self, intid: u64) {
        self.write(EOIR1, intid);
    }

    /// Ends one of either, by the register of its group.
    pub(super) fn end_of(&mut self, intid: u64, group1: bool) {
        self.write(if group1 { EOIR1 } else { EOIR0 }, intid);
    }

    pub(super) fn dir(&mut self, intid: u64) {
        self.write(DIR, intid);
    }

    pub(super) fn signals(&self) -> bool {
        self.lists.signalled != 0
    }

    pub(super) fn state(&self, n: usize) -> u64 {
        self.lists.lr[n] & lr::STATE
    }

    pub(super) fn running_priority(&mut self) -> u64 {
        self.read(RPR)
    }
}
