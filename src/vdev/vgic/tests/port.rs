//! The registers of a guest's CPU interface, by what they do: the same for every face and whoever serves them.

use crate::exit::SysRegId;

/// A register of the CPU interface. `true`: the one that is for Group 1 alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    /// ICC_IARn_EL1; GICC_IAR, GICC_AIAR.
    Iar(bool),
    /// ICC_EOIRn_EL1; GICC_EOIR, GICC_AEOIR.
    Eoir(bool),
    /// ICC_HPPIRn_EL1; GICC_HPPIR, GICC_AHPPIR.
    Hppir(bool),
    /// ICC_BPRn_EL1; GICC_BPR, GICC_ABPR.
    Bpr(bool),
    /// ICC_IGRPENn_EL1; GICv2 has them in GICC_CTLR.
    Enable(bool),
    /// ICC_DIR_EL1; GICC_DIR.
    Dir,
    /// ICC_PMR_EL1; GICC_PMR.
    Pmr,
    /// ICC_RPR_EL1; GICC_RPR.
    Rpr,
    /// ICC_CTLR_EL1; GICC_CTLR.
    Ctlr,
}

impl Port {
    /// The system register (IHI 0069, 12.2).
    #[rustfmt::skip]
    pub(super) fn icc(self) -> SysRegId {
        let (crn, crm, op2) = match self {
            Self::Pmr           => (4, 6, 0),
            Self::Iar(false)    => (12, 8, 0),
            Self::Eoir(false)   => (12, 8, 1),
            Self::Hppir(false)  => (12, 8, 2),
            Self::Bpr(false)    => (12, 8, 3),
            Self::Dir           => (12, 11, 1),
            Self::Rpr           => (12, 11, 3),
            Self::Iar(true)     => (12, 12, 0),
            Self::Eoir(true)    => (12, 12, 1),
            Self::Hppir(true)   => (12, 12, 2),
            Self::Bpr(true)     => (12, 12, 3),
            Self::Ctlr          => (12, 12, 4),
            Self::Enable(false) => (12, 12, 6),
            Self::Enable(true)  => (12, 12, 7),
        };
        SysRegId::new(3, 0, crn, crm, op2)
    }

    /// The offset in the frame of GICv2's CPU interface (IHI 0048B, table 4-2).
    #[rustfmt::skip]
    pub(super) fn gicc(self) -> u64 {
        match self {
            Self::Ctlr | Self::Enable(_) => 0x00,
            Self::Pmr                    => 0x04,
            Self::Bpr(false)             => 0x08,
            Self::Iar(false)             => 0x0c,
            Self::Eoir(false)            => 0x10,
            Self::Rpr                    => 0x14,
            Self::Hppir(false)           => 0x18,
            Self::Bpr(true)              => 0x1c,
            Self::Iar(true)              => 0x20,
            Self::Eoir(true)             => 0x24,
            Self::Hppir(true)            => 0x28,
            Self::Dir                    => 0x1000,
        }
    }
}
