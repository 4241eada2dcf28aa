//! A guest's interrupt controller, of either version and whatever stands behind it, in the hands of any guest.

use super::input::Input;
use mezzanine::exit::{Size, SysRegId};
use mezzanine::machine::IntId;
use mezzanine::map::{self, GicVersion};
use mezzanine::vcpu::{Lists, VcpuId};
use mezzanine::vdev::vgic::{Frame, Kicks, Outcome, Raised, SgiGroup, Vgic, VgicConfig};

/// Operations of one run: more than that says nothing new.
const STEPS: usize = 400;

/// A VM's interrupt controller, and its vCPUs' list registers as hardware or nobody has them.
struct Machine {
    vgic: Vgic,
    lists: Vec<Lists>,
    version: GicVersion,
}

/// Any stream of accesses and interrupts.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let kind = input.byte();
    let version = if kind & 1 != 0 { GicVersion::V2 } else { GicVersion::V3 };
    let vcpus = u16::from(kind >> 4) % version.max_vcpus().min(9) + 1;
    let vgic = Vgic::new(VgicConfig {
        version,
        mpidrs: (0..vcpus).map(|n| map::mpidr(n, version)).collect(),
        spis: 64,
        lists: [1, 4, 16, 2][usize::from(kind >> 2 & 3)],
        priority_bits: 5,
        emulated: kind & 2 != 0,
    });
    let mut lists: Vec<Lists> = (0..vcpus).map(|_| Lists::default()).collect();
    for (n, lists) in (0..).zip(&mut lists) {
        vgic.reset_cpu(VcpuId(n), lists);
    }
    let mut machine = Machine { vgic, lists, version };
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        machine.step(&mut input);
    }
    // After all that a reset makes it as new.
    machine.vgic.reset();
    for n in 0..machine.lists.len() {
        let me = VcpuId(n as u16);
        machine.vgic.reset_cpu(me, &mut machine.lists[n]);
        machine.vgic.sync(me, &mut machine.lists[n]);
        assert!(!machine.vgic.signals(me, &machine.lists[n]), "pending after a reset");
    }
}

impl Machine {
    fn step(&mut self, input: &mut Input<'_>) {
        let n = usize::from(input.byte()) % self.lists.len();
        let me = VcpuId(n as u16);
        match input.byte() % 12 {
            0..=3 => self.access(n, input),
            4 => {
                let group = if input.byte() & 1 != 0 { SgiGroup::Group1 } else { SgiGroup::Group0 };
                if self.version == GicVersion::V3 {
                    self.look(self.vgic.sgi(me, group, input.double()));
                }
            }
            5 => self.look(self.vgic.set_spi(input.half() & 0x3ff, input.byte() & 1 != 0)),
            6 => self.look(self.vgic.set_ppi(me, IntId(u32::from(input.byte())), input.byte() & 1 != 0)),
            7 => {
                self.vgic.sync_raised(me, &mut self.lists[n], Raised::linked(IntId::ppi(11)));
            }
            8 => {
                let kicks = self.vgic.unload(me, &mut self.lists[n]);
                self.look(kicks);
            }
            9 if self.lists[n].emulated => {
                let write = (input.byte() & 1 != 0).then(|| input.double());
                let crn = if input.byte() & 1 != 0 { 12 } else { 4 };
                let reg = SysRegId::new(3, 0, crn, u32::from(input.byte() & 15), u32::from(input.byte() & 7));
                let _ = self.vgic.icc(me, reg, write, &mut self.lists[n]);
            }
            9 => self.guest(n, input),
            10 => self.look(self.vgic.retract_linked(me, IntId::ppi(11))),
            _ => {
                let _ = self.vgic.signals(me, &self.lists[n]);
            }
        }
    }

    fn access(&mut self, n: usize, input: &mut Input<'_>) {
        let owner = VcpuId(u16::from(input.byte()) % self.lists.len() as u16);
        let frames = match self.version {
            GicVersion::V2 => [Frame::Gicd, Frame::Gicc, Frame::Gicd, Frame::Gicc],
            GicVersion::V3 => [Frame::Gicd, Frame::GicrRd(owner), Frame::GicrSgi(owner), Frame::Gicd],
        };
        let kind = input.byte();
        let size = Size::from_log2(u64::from(kind >> 2));
        let offset = u64::from(input.half());
        let write = (kind & 0x10 != 0).then(|| input.double() & size.mask());
        let me = VcpuId(n as u16);
        for _ in 0..3 {
            match self.vgic.access(me, frames[usize::from(kind & 3)], offset, size, write, &mut self.lists[n])
            {
                Outcome::Fold => self.lists[n].loaded = false,
                Outcome::Remote(other) => {
                    let other = usize::from(other.0);
                    self.vgic.sync(VcpuId(other as u16), &mut self.lists[other]);
                }
                Outcome::Done(value, kicks) => {
                    assert_eq!(value & !size.mask(), 0, "more bits than were asked for");
                    return self.look(kicks);
                }
                Outcome::OwnSgi(sgi) => {
                    self.lists[n].loaded = false;
                    let kicks = self.vgic.sync_sgi(me, &mut self.lists[n], sgi);
                    return self.look(kicks);
                }
                Outcome::Refused(_) => return,
            }
        }
    }

    /// What hardware and a guest may make of the list registers.
    fn guest(&mut self, n: usize, input: &mut Input<'_>) {
        let lists = &mut self.lists[n];
        let lr = usize::from(input.byte() & 15);
        if lists.used & 1 << lr != 0 {
            lists.lr[lr] = lists.lr[lr] & !(3 << 62) | u64::from(input.byte() & 3) << 62;
        }
        lists.hcr = lists.hcr & !(31 << 27) | u64::from(input.byte() & 31) << 27;
        lists.vmcr = input.word().into();
        self.vgic.sync(VcpuId(n as u16), lists);
    }

    /// Whoever is kicked looks.
    fn look(&mut self, kicks: Kicks) {
        for vcpu in kicks {
            self.vgic.sync(vcpu, &mut self.lists[usize::from(vcpu.0)]);
        }
    }
}
