//! The register arrays of distributor and redistributors, as the specification tells them.

use super::model::{Interrupt, Model};
use super::vm::vcpu;
use crate::vdev::vgic::{Frame, GicVersion};

/// An array of registers: some bits for each interrupt, from interrupt 0 up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Array {
    Group,
    SetEnable,
    ClearEnable,
    SetPending,
    ClearPending,
    SetActive,
    ClearActive,
    Priority,
    /// GICD_ITARGETSRn; RES0 with GICv3.
    Targets,
    Config,
    /// GICD_IGRPMODRn: RAZ/WI with one security state.
    GroupModifier,
    /// GICD_NSACRn: the same.
    NonSecureAccess,
    /// GICD_CPENDSGIRn; RES0 with GICv3.
    ClearSources,
    /// GICD_SPENDSGIRn; RES0 with GICv3.
    SetSources,
}

pub(super) const ARRAYS: [Array; 14] = [
    Array::Group,
    Array::SetEnable,
    Array::ClearEnable,
    Array::SetPending,
    Array::ClearPending,
    Array::SetActive,
    Array::ClearActive,
    Array::Priority,
    Array::Targets,
    Array::Config,
    Array::GroupModifier,
    Array::NonSecureAccess,
    Array::ClearSources,
    Array::SetSources,
];

impl Array {
    /// Offset of the first register, bits for each interrupt.
    #[rustfmt::skip]
    fn layout(self) -> (u32, u32) {
        match self {
            Self::Group           => (0x080, 1),
            Self::SetEnable       => (0x100, 1),
            Self::ClearEnable     => (0x180, 1),
            Self::SetPending      => (0x200, 1),
            Self::ClearPending    => (0x280, 1),
            Self::SetActive       => (0x300, 1),
            Self::ClearActive     => (0x380, 1),
            Self::Priority        => (0x400, 8),
            Self::Targets         => (0x800, 8),
            Self::Config          => (0xc00, 2),
            Self::GroupModifier   => (0xd00, 1),
            Self::NonSecureAccess => (0xe00, 2),
            Self::ClearSources    => (0xf10, 8),
            Self::SetSources      => (0xf20, 8),
        }
    }

    /// Whether it has a field for each of these alone.
    pub(super) fn takes_bytes(self, version: GicVersion) -> bool {
        match self {
            Self::Priority => true,
            Self::Targets | Self::ClearSources | Self::SetSources => version == GicVersion::V2,
            _ => false,
        }
    }
}

/// A register, or a byte of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) array: Array,
    /// The first interrupt that it is about.
    pub(super) first: u32,
    pub(super) byte: bool,
}

impl Place {
    /// The register of `array` that interrupt `intid` is in, or the byte.
    pub(super) fn of(array: Array, intid: u32, byte: bool) -> Self {
        let (_, width) = array.layout();
        let intid = if matches!(array, Array::ClearSources | Array::SetSources) { intid % 16 } else { intid };
        let first = if byte { intid } else { intid & !(32 / width - 1) };
        Self { array, first, byte }
    }

    /// Where the register is for `me`; of a GICv3 guest, private interrupts are those of `owner`.
    pub(super) fn at(self, version: GicVersion, owner: usize) -> (Frame, u64) {
        let (start, width) = self.array.layout();
        let private = version == GicVersion::V3 && self.first < 32;
        let frame = if private { Frame::GicrSgi(vcpu(owner)) } else { Frame::Gicd };
        (frame, u64::from(start + self.first * width / 8))
    }

    /// The fields of `value`: interrupt, shift, mask.
    fn fields(self) -> impl Iterator<Item = (u32, u32, u32)> {
        let (_, width) = self.array.layout();
        let count = if self.byte { 1 } else { 32 / width };
        (0..count).map(move |n| (self.first + n, n * width, ((1u64 << width) - 1) as u32))
    }
}

impl Model {
    /// What a load gives.
    pub(super) fn load(&mut self, owner: usize, place: Place) -> u32 {
        let fields: Vec<_> = place.fields().collect();
        fields
            .iter()
            .fold(0, |word, &(intid, shift, _)| word | self.field(owner, place.array, intid) << shift)
    }

    /// What an interrupt's field reads as.
    fn field(&mut self, owner: usize, array: Array, intid: u32) -> u32 {
        let v2 = self.is_v2();
        let alone = self.cpus.len() == 1;
        let Some(interrupt) = self.find(owner, intid) else { return 0 };
        match array {
            Array::Group => interrupt.group1.into(),
            Array::SetEnable | Array::ClearEnable => interrupt.enabled.into(),
            Array::SetPending | Array::ClearPending => interrupt.pending().into(),
            Array::SetActive | Array::ClearActive => interrupt.active.into(),
            Array::Priority => interrupt.priority.into(),
            // With one CPU there is nothing to choose (IHI 0048B, 4.3.12).
            Array::Targets if v2 && !alone => interrupt.targets as u32,
            Array::Config => u32::from(interrupt.edge) << 1,
            Array::SetSources | Array::ClearSources if v2 => interrupt.sources.into(),
            _ => 0,
        }
    }

    /// What a store does. `keep`: interrupts that the store leaves as they are.
    ///
    /// Returns what has to be stored for that.
    pub(super) fn store(
        &mut self,
        owner: usize,
        place: Place,
        value: u32,
        keep: impl Fn(&Self, u32) -> bool,
    ) -> u32 {
        let mut stored = 0;
        let fields: Vec<_> = place.fields().collect();
        for (intid, shift, mask) in fields {
            let mut field = value >> shift & mask;
            if keep(self, intid) {
                let rewrites =
                    matches!(place.array, Array::Group | Array::Priority | Array::Config | Array::Targets);
                field = if rewrites { self.field(owner, place.array, intid) } else { 0 };
            }
            stored |= field << shift;
            let (v2, alone, everybody) = (self.is_v2(), self.cpus.len() == 1, self.everybody());
            let priority_mask = self.priority_mask();
            if let Some(interrupt) = self.find(owner, intid) {
                match place.array {
                    Array::Priority => interrupt.priority = field as u8 & priority_mask,
                    Array::Targets if v2 && intid >= 32 && !alone => {
                        interrupt.targets = u64::from(field) & everybody;
                    }
                    Array::Group => interrupt.group1 = field != 0,
                    Array::Config if intid >= 16 => interrupt.edge = field & 2 != 0,
                    Array::SetSources | Array::ClearSources => {
                        set(interrupt, place.array, field as u8 & everybody as u8, v2);
                    }
                    _ if field != 0 => set(interrupt, place.array, 1, v2),
                    _ => {}
                }
            }
        }
        stored
    }
}

/// One or more bits of a register of which zeroes mean nothing.
fn set(interrupt: &mut Interrupt, array: Array, field: u8, v2: bool) {
    // GICv2's SGIs are made pending by source only (IHI 0048B, 4.3.7).
    let by_source = v2 && interrupt.intid < 16;
    match array {
        Array::SetEnable => interrupt.enabled = true,
        Array::ClearEnable => interrupt.enabled = false,
        Array::SetPending if !by_source => interrupt.latch = true,
        Array::ClearPending if !by_source => interrupt.clear_pending(),
        Array::SetActive => interrupt.active = true,
        Array::ClearActive => interrupt.deactivate(),
        Array::SetSources if by_source => interrupt.sources |= field,
        Array::ClearSources if by_source => interrupt.sources &= !field,
        _ => {}
    }
}
