//! A small run loop: a vGIC, its vCPUs, what serves their CPU interfaces, and everybody looking when kicked.

use super::hardware::{Cpu, TIMER};
use super::port::Port;
use crate::exit::{Size, SysRegId};
use crate::machine::IntId;
use crate::vcpu::{Lists, VcpuId};
use crate::vdev::vgic::{Frame, GicVersion, Kicks, Outcome, Raised, Vgic, VgicConfig};

/// What a VM's interrupt controller is like, and what stands behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    pub(super) version: GicVersion,
    pub(super) emulated: bool,
    pub(super) vcpus: usize,
    pub(super) lists: u8,
    pub(super) priority_bits: u8,
}

/// A VM: its vGIC, its vCPUs, and what runs them.
pub(super) struct Vm {
    pub(super) vgic: Vgic,
    pub(super) cpus: Vec<Cpu>,
    pub(super) setup: Setup,
    /// Linked interrupts raised since somebody last looked, by vCPU.
    pub(super) raised: Vec<usize>,
    /// Whether the last of them found its vCPU running.
    running: bool,
    /// Who had to look when this was last looked at, a bit each.
    called: u64,
    /// vCPUs look when they exit for something of their own, and not as soon as they are called.
    pub(super) lagging: bool,
}

pub(super) const RD: u64 = 0;

pub(super) fn vcpu(n: usize) -> VcpuId {
    VcpuId(n as u16)
}

impl Vm {
    /// A GICv3 guest on ICH list registers.
    pub(super) fn new(vcpus: usize, lists: u8) -> Self {
        Self::with(Setup { version: GicVersion::V3, emulated: false, vcpus, lists, priority_bits: 5 })
    }

    pub(super) fn with(setup: Setup) -> Self {
        let mpidrs = (0..setup.vcpus as u64).map(|n| 1 << 31 | n % 16 | n / 16 << 8).collect();
        let config = VgicConfig {
            version: setup.version,
            mpidrs,
            spis: 64,
            lists: setup.lists,
            priority_bits: setup.priority_bits,
            emulated: setup.emulated,
        };
        let vgic = Vgic::new(config);
        let mut vm = Self {
            vgic,
            cpus: Vec::new(),
            setup,
            raised: Vec::new(),
            running: false,
            called: !0,
            lagging: false,
        };
        for n in 0..setup.vcpus {
            let mut lists = Lists::default();
            vm.vgic.reset_cpu(vcpu(n), &mut lists);
            vm.cpus.push(Cpu::new(setup.version, setup.priority_bits, setup.lists, lists));
            vm.look(n);
        }
        vm.settle();
        vm
    }

    /// What a Linux kernel sets up: all in Group 1, groups on, priority mask open.
    pub(super) fn linux(vcpus: usize, lists: u8) -> Self {
        let mut vm = Self::new(vcpus, lists);
        vm.write(0, Frame::Gicd, 0, 0x12 | 1);
        for n in 0..vcpus {
            vm.write(n, Frame::GicrRd(vcpu(n)), RD + 0x14, 0);
            vm.write(n, Frame::GicrSgi(vcpu(n)), 0x80, !0);
            vm.write(n, Frame::GicrSgi(vcpu(n)), 0x180, !0);
            vm.write(n, Frame::GicrSgi(vcpu(n)), 0x100, 0xffff);
            for offset in (0x400..0x420).step_by(4) {
                vm.write(n, Frame::GicrSgi(vcpu(n)), offset, 0xa0a0_a0a0);
            }
            vm.cpus[n].vmcr |= 2 | 0xf0 << 24;
        }
        for word in 1..3 {
            vm.write(0, Frame::Gicd, 0x80 + 4 * word, !0);
        }
        for offset in (0x420..0x460).step_by(4) {
            vm.write(0, Frame::Gicd, offset, 0xa0a0_a0a0);
        }
        vm
    }

    /// What the run loop does before an entry.
    pub(super) fn look(&mut self, n: usize) {
        self.look_raised(n, Raised::NOTHING);
    }

    /// The same at an exit that raises something.
    pub(super) fn look_raised(&mut self, n: usize, raised: Raised) {
        let cpu = &mut self.cpus[n];
        cpu.fold();
        let kicks = self.vgic.sync_raised(vcpu(n), &mut cpu.lists, raised);
        assert!(!self.vgic.attention(vcpu(n)));
        cpu.enter();
        self.check_kicks(n, kicks);
    }

    /// Who has to look since this was last checked was kicked, once, or is the one that is at it.
    pub(super) fn check_kicks(&mut self, me: usize, kicks: Kicks) {
        let before = self.called;
        self.note_called();
        for n in (0..self.cpus.len()).filter(|&n| n != me) {
            let new = self.called & !before & 1 << n != 0;
            assert_eq!(kicks.contains(vcpu(n)), new, "whether vCPU {n} is kicked and has to look since");
        }
    }

    /// What has been called for is known.
    pub(super) fn note_called(&mut self) {
        let calls = (0..self.cpus.len()).filter(|&n| self.vgic.attention(vcpu(n)));
        self.called = calls.fold(0, |set, n| set | 1 << n);
    }

    /// Until nobody has anything to do.
    pub(super) fn settle(&mut self) {
        for _ in 0..20 {
            let mut quiet = true;
            for n in 0..self.cpus.len() {
                if self.cpus[n].resident {
                    quiet &= !self.attend(n);
                }
            }
            if quiet {
                return;
            }
        }
        panic!("never settles");
    }

    /// Serves the interrupts that vCPU `n` would exit for; says whether there were any.
    fn attend(&mut self, n: usize) -> bool {
        let mut exits = false;
        if self.cpus[n].timer_line && !self.cpus[n].timer_active {
            self.cpus[n].timer_active = true;
            // While it runs, or while it waits.
            self.running = !self.running;
            if self.running {
                self.look_raised(n, Raised::linked(IntId(TIMER)));
            } else {
                let kicks = self.vgic.raise_linked(vcpu(n), IntId(TIMER));
                self.check_kicks(n, kicks);
            }
            self.raised.push(n);
            exits = true;
        }
        // Whoever emulates the interface sees for itself what hardware has to tell.
        let told = !self.setup.emulated && self.cpus[n].maintenance();
        let called = self.vgic.attention(vcpu(n));
        if told || called && (exits || !self.lagging) {
            self.look(n);
            exits = true;
        }
        exits
    }

    /// A new life of vCPU `n`, which is on no CPU.
    pub(super) fn renew(&mut self, n: usize) {
        self.vgic.reset_cpu(vcpu(n), &mut self.cpus[n].lists);
        assert!(self.vgic.attention(vcpu(n)));
        self.cpus[n].running.clear();
        self.note_called();
    }

    /// The end of an exit of vCPU `n`.
    pub(super) fn enter(&mut self, n: usize) {
        if self.vgic.attention(vcpu(n)) {
            self.look(n);
        } else {
            self.cpus[n].enter();
        }
    }

    /// An access by a vCPU that runs, as the run loop does it.
    pub(super) fn access(
        &mut self,
        me: usize,
        frame: Frame,
        offset: u64,
        size: Size,
        write: Option<u64>,
    ) -> Outcome {
        for _ in 0..20 {
            let cpu = &mut self.cpus[me];
            let outcome = self.vgic.access(vcpu(me), frame, offset, size, write, &mut cpu.lists);
            match outcome {
                Outcome::Fold => {
                    assert!(write.is_none(), "a write never waits");
                    self.cpus[me].fold();
                }
                Outcome::Remote(other) => {
                    assert!(write.is_none(), "a write never waits");
                    assert!(self.vgic.attention(other) && self.cpus[usize::from(other.0)].resident);
                    self.note_called();
                    self.look(usize::from(other.0));
                    // Whom that has kicked looks too.
                    self.settle();
                }
                Outcome::Done(_, kicks) => {
                    self.check_kicks(me, kicks);
                    self.enter(me);
                    self.settle();
                    return outcome;
                }
                Outcome::OwnSgi(sgi) => {
                    self.cpus[me].fold();
                    let kicks = self.vgic.sync_sgi(vcpu(me), &mut self.cpus[me].lists, sgi);
                    self.check_kicks(me, kicks);
                    self.enter(me);
                    self.settle();
                    return Outcome::Done(0, kicks);
                }
                Outcome::Refused(_) => {
                    self.enter(me);
                    return outcome;
                }
            }
        }
        panic!("an access is never done");
    }

    pub(super) fn write(&mut self, me: usize, frame: Frame, offset: u64, value: u32) {
        let outcome = self.access(me, frame, offset, Size::Word, Some(value.into()));
        assert!(matches!(outcome, Outcome::Done(0, _)), "{frame:?} {offset:#x}: {outcome:?}");
    }

    pub(super) fn read(&mut self, me: usize, frame: Frame, offset: u64) -> u32 {
        match self.access(me, frame, offset, Size::Word, None) {
            Outcome::Done(value, _) => value as u32,
            other => panic!("{frame:?} {offset:#x}: {other:?}"),
        }
    }

    /// A load from the guest's CPU interface, whoever serves it.
    pub(super) fn load(&mut self, n: usize, port: Port) -> u32 {
        let value = match (self.setup.emulated, self.setup.version) {
            (false, _) => self.cpus[n].read(port),
            (true, GicVersion::V3) => self.icc(n, port, None),
            (true, GicVersion::V2) => self.read(n, Frame::Gicc, port.gicc()),
        };
        self.settle();
        value
    }

    /// A store to it.
    pub(super) fn store(&mut self, n: usize, port: Port, value: u32) {
        match (self.setup.emulated, self.setup.version) {
            (true, GicVersion::V3) => drop(self.icc(n, port, Some(value))),
            (_, GicVersion::V2) if self.setup.emulated || port == Port::Dir => {
                self.write(n, Frame::Gicc, port.gicc(), value);
            }
            _ => {
                if !self.cpus[n].write(port, value) {
                    self.look(n);
                    let kicks = self.vgic.deactivate(vcpu(n), value.into());
                    self.check_kicks(n, kicks);
                    self.enter(n);
                }
            }
        }
        self.settle();
    }

    fn icc(&mut self, n: usize, port: Port, write: Option<u32>) -> u32 {
        let outcome = self.system_register(n, port.icc(), write.map(u64::from));
        let Some(Outcome::Done(value, _)) = outcome else { panic!("{port:?}: {outcome:?}") };
        value as u32
    }

    /// A trapped ICC register; `None` if it is UNDEFINED.
    pub(super) fn system_register(&mut self, n: usize, reg: SysRegId, write: Option<u64>) -> Option<Outcome> {
        let outcome = self.vgic.icc(vcpu(n), reg, write, &mut self.cpus[n].lists);
        if let Some(Outcome::Done(_, kicks)) = outcome {
            self.check_kicks(n, kicks);
        }
        self.enter(n);
        outcome
    }

    pub(super) fn set_spi(&mut self, spi: u16, level: bool) {
        let kicks = self.vgic.set_spi(spi, level);
        self.check_kicks(usize::MAX, kicks);
        self.settle();
    }

    pub(super) fn set_timer(&mut self, n: usize, level: bool) {
        self.cpus[n].timer_line = level;
        self.settle();
    }

    /// The guest takes an interrupt, if it is signalled.
    pub(super) fn take(&mut self, n: usize) -> Option<u32> {
        let intid = self.cpus[n].acknowledge();
        self.settle();
        intid
    }

    pub(super) fn end(&mut self, n: usize, intid: u32) {
        self.cpus[n].end(intid);
        self.settle();
    }

    pub(super) fn leave(&mut self, n: usize) {
        self.cpus[n].put();
        let kicks = self.vgic.unload(vcpu(n), &mut self.cpus[n].lists);
        assert_eq!(self.cpus[n].lists.used, 0);
        assert!(!self.vgic.attention(vcpu(n)), "it has looked at all there is");
        self.check_kicks(n, kicks);
        self.settle();
    }

    pub(super) fn come(&mut self, n: usize) {
        if !self.cpus[n].resident {
            self.look(n);
            self.settle();
        }
    }
}
