//! Scripted guests: whose the physical active state of the virtual timer's PPI is (docs/design.md, section 5).
//!
//! Cleared when a vCPU leaves its CPU, set when it comes back exactly if its interrupt is pending in a hardware
//! entry or active: so that the next vCPU's timer can fire, and this one's does not twice. On every backend: on
//! hardware the guest's end of interrupt deactivates by itself; of an emulated interface EL2 does.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may fail")]

use super::fake::{Fake, Step};
use super::tests::{Gic, mmio, run_with, step, wfi};
use crate::exit::{Exit, SysReg, SysRegId, Trap};
use crate::machine::ppi;
use crate::map::GicVersion;
use crate::vcpu::{Timer, Vcpu, timer_ctl};
use crate::vdev::vgic::lr;

const TIMER: u32 = ppi::VIRTUAL_TIMER.0;
/// GICv2: registers of interrupts 0 to 31 are GICD's; GICv3: the redistributor's of the first vCPU.
const GICD: u64 = 0x0800_0000;
const GICC: u64 = 0x0801_0000;
const SGI_BASE: u64 = 0x080b_0000;

/// What guests do, one after the other.
struct Script {
    gic: Gic,
    /// GICC_CTLR.EOImode or ICC_CTLR_EL1.EOImode.
    eoimode: bool,
    /// The VM whose turn it is.
    vm: u16,
    steps: Vec<Step>,
}

/// The guest's vCPU acknowledges the timer, as the hardware interface does it.
fn take_by_hardware(vcpu: &mut Vcpu) {
    let entry = vcpu.lists.lr.iter_mut().find(|entry| **entry & lr::STATE == lr::PENDING).unwrap();
    assert_eq!(*entry as u32, TIMER);
    *entry ^= lr::STATE;
}

/// The guest's vCPU deactivates the timer, as the hardware interface does it.
fn deactivate_by_hardware(machine: &mut Fake, vcpu: &mut Vcpu) {
    let entry = vcpu.lists.lr.iter_mut().find(|entry| **entry & lr::STATE == lr::ACTIVE).unwrap();
    assert!(*entry as u32 == TIMER && *entry & lr::HW != 0);
    *entry &= !lr::STATE;
    machine.timer_active = false;
}

impl Script {
    /// Two VMs of one vCPU each have set their controllers up; it is the first one's turn.
    fn new(gic: Gic, eoimode: bool) -> Self {
        let mut script = Self { gic, eoimode, vm: 0, steps: Vec::new() };
        for _ in 0..2 {
            script.set_up();
            script.switch();
        }
        script
    }

    /// Something that the guest of this turn does.
    fn step(&mut self, mut f: impl FnMut(&mut Fake, &mut Vcpu) -> Exit + 'static) -> &mut Self {
        let vm = self.vm;
        self.steps.push(step(move |machine, vcpu| {
            assert_eq!(vcpu.vm.0, vm, "whose turn it is");
            f(machine, vcpu)
        }));
        self
    }

    fn store(&mut self, ipa: u64, value: u64) -> &mut Self {
        self.step(move |_, vcpu| {
            vcpu.regs.set_x(5, value);
            mmio(ipa, true)
        })
    }

    /// ICC register (CRm, op2) of CRn 12, or ICC_PMR_EL1.
    fn system_register(&mut self, (crn, crm, op2): (u32, u32, u32), write: Option<u64>) -> &mut Self {
        self.step(move |_, vcpu| {
            vcpu.regs.set_x(5, write.unwrap_or(0));
            Exit::SysReg(SysReg { reg: SysRegId::new(3, 0, crn, crm, op2), rt: 5, read: write.is_none() })
        })
    }

    /// A register of the private interrupts.
    fn private(&mut self, offset: u64, value: u64) -> &mut Self {
        let base = if self.gic.version == GicVersion::V2 { GICD } else { SGI_BASE };
        self.store(base + offset, value)
    }

    /// All groups on, everything of Group 1, the timer enabled, the mask open.
    fn set_up(&mut self) {
        self.store(GICD, 3).private(0x80, 0xffff_ffff).private(0x100, 1 << TIMER);
        let eoimode = self.eoimode;
        match (self.gic.emulated, self.gic.version) {
            (false, _) => {
                self.step(move |_, vcpu| {
                    vcpu.lists.vmcr |= 0xf8 << 24 | 3 | u64::from(eoimode) << 9;
                    Exit::Again
                });
            }
            (true, GicVersion::V2) => {
                self.store(GICC + 4, 0xff).store(GICC, 3 | 1 << 2 | u64::from(eoimode) << 9);
            }
            (true, GicVersion::V3) => {
                self.system_register((4, 6, 0), Some(0xff)).system_register((12, 12, 7), Some(1));
                self.system_register((12, 12, 4), Some(u64::from(eoimode) << 1));
            }
        }
    }

    /// The timer of the vCPU that runs fires.
    fn fire(&mut self) -> &mut Self {
        self.step(|machine, _| {
            machine.timer_high = true;
            machine.pending.push_back(ppi::VIRTUAL_TIMER);
            Exit::Irq
        })
    }

    fn take(&mut self) -> &mut Self {
        match (self.gic.emulated, self.gic.version) {
            (false, _) => {
                return self.step(|_, vcpu| {
                    take_by_hardware(vcpu);
                    Exit::Again
                });
            }
            (true, GicVersion::V2) => self.step(|_, _| mmio(GICC + 0xc, false)),
            (true, GicVersion::V3) => self.system_register((12, 12, 0), None),
        };
        self.step(|_, vcpu| {
            assert_eq!(vcpu.regs.x(5), TIMER.into(), "acknowledged");
            Exit::Again
        })
    }

    /// The line falls, and the guest ends the interrupt: with EOImode 1, drops its priority.
    fn end(&mut self) -> &mut Self {
        self.step(|machine, _| {
            machine.timer_high = false;
            Exit::Again
        });
        let eoimode = self.eoimode;
        match (self.gic.emulated, self.gic.version) {
            (false, _) => self.step(move |machine, vcpu| {
                if !eoimode {
                    deactivate_by_hardware(machine, vcpu);
                }
                Exit::Again
            }),
            (true, GicVersion::V2) => self.store(GICC + 0x10, TIMER.into()),
            (true, GicVersion::V3) => self.system_register((12, 12, 1), Some(TIMER.into())),
        }
    }

    /// The guest deactivates it: EOImode 1.
    fn deactivate(&mut self) -> &mut Self {
        match (self.gic.emulated, self.gic.version) {
            // GICC_DIR is never the hardware's.
            (_, GicVersion::V2) => self.store(GICC + 0x1000, TIMER.into()),
            (true, GicVersion::V3) => self.system_register((12, 11, 1), Some(TIMER.into())),
            (false, GicVersion::V3) => self.step(|machine, vcpu| {
                deactivate_by_hardware(machine, vcpu);
                Exit::Again
            }),
        }
    }

    /// The other VM's turn.
    fn switch(&mut self) -> &mut Self {
        self.step(|_, _| Exit::Wfe(Trap { esr: 1 << 26 | 1 << 25 | 1 }));
        self.vm ^= 1;
        self
    }

    /// As the guest of this turn is entered.
    fn expect(&mut self, active: bool) -> &mut Self {
        self.step(move |machine, _| {
            assert_eq!(machine.timer_active, active, "physical active state");
            Exit::Again
        })
    }

    /// A turn of the other guest, whose timer is not active: it fires, and is handled.
    fn elsewhere(&mut self) -> &mut Self {
        self.switch().expect(false).fire().expect(true).take().end();
        if self.eoimode {
            self.expect(true).deactivate();
        }
        self.expect(false).switch()
    }

    fn play(&mut self) {
        let steps = std::mem::take(&mut self.steps);
        let count = std::rc::Rc::new(std::cell::Cell::new(0));
        let total = steps.len();
        let counted = steps.into_iter().map(|mut f| {
            let count = count.clone();
            step(move |machine, vcpu| {
                count.set(count.get() + 1);
                f(machine, vcpu)
            })
        });
        let fake = Fake { steps: counted.collect(), room: usize::MAX, ..Fake::default() };
        run_with(fake, &[1, 1], self.gic);
        assert_eq!(count.get(), total, "the script was not played to its end");
    }
}

/// Every face on every backend, with EOImode 0 and 1.
fn each(write: impl Fn(&mut Script)) {
    for version in [GicVersion::V2, GicVersion::V3] {
        for emulated in [false, true] {
            for eoimode in [false, true] {
                let gic = Gic { version, emulated };
                let mut script = Script::new(gic, eoimode);
                write(&mut script);
                script.play();
            }
        }
    }
}

#[test]
fn pending_it_is_active_for_its_vcpu_alone() {
    each(|script| {
        script.expect(false).fire().expect(true).elsewhere().expect(true).elsewhere().expect(true);
        script.take().expect(true).end();
        if script.eoimode {
            script.deactivate();
        }
        script.expect(false).elsewhere().expect(false);
    });
}

#[test]
fn taken_it_stays_active_until_its_end() {
    each(|script| {
        let eoimode = script.eoimode;
        script.fire().take().expect(true).elsewhere().expect(true).end().expect(eoimode);
        if script.eoimode {
            // Its priority dropped, it is active still, here and after the other's turn.
            script.elsewhere().expect(true).deactivate();
        }
        script.expect(false).elsewhere().expect(false);
        // And can fire again.
        script.fire().expect(true).take();
    });
}

#[test]
fn both_can_have_theirs_active() {
    each(|script| {
        script.fire().take().switch().expect(false).fire().take().expect(true).switch().expect(true).end();
        if script.eoimode {
            script.deactivate();
        }
        script.expect(false).switch().expect(true).end();
        if script.eoimode {
            script.deactivate();
        }
        script.expect(false).switch().expect(false);
    });
}

#[test]
fn what_cannot_be_delivered_waits_with_it_active() {
    each(|script| {
        script.private(0x180, 1 << TIMER).fire().expect(true).elsewhere().expect(true);
        script.private(0x100, 1 << TIMER).take().expect(true).elsewhere().expect(true).end();
        if script.eoimode {
            script.deactivate();
        }
        script.expect(false);
    });
}

#[test]
fn ended_by_register_it_is_let_go() {
    each(|script| {
        script.fire().take().private(0x380, 1 << TIMER).expect(false).elsewhere().expect(false);
    });
    each(|script| {
        script.fire().private(0x280, 1 << TIMER).expect(false).elsewhere().expect(false).fire().take();
    });
    // Ended before it was switched out, it does not come back with the vCPU.
    each(|script| {
        script.fire().take().private(0x380, 1 << TIMER).switch().expect(false).switch().expect(false);
    });
}

#[test]
fn set_anew_before_it_was_taken_it_is_let_go() {
    each(|script| {
        script.fire().expect(true).step(|machine, vcpu| {
            machine.timer_high = false;
            vcpu.virtual_timer = Timer { ctl: timer_ctl::ENABLE, cval: machine.now + 1000 };
            wfi()
        });
        // The other one runs while the first waits.
        script.vm ^= 1;
        script.expect(false).fire().take().end();
        if script.eoimode {
            script.deactivate();
        }
        script.expect(false);
    });
}

#[test]
fn what_the_guest_waits_for_wakes_it_and_is_still_active() {
    each(|script| {
        script.fire().step(|machine, _| {
            assert!(machine.timer_active);
            wfi()
        });
        // Pending, with its line high: it is not blocked.
        script.expect(true).take().end();
        if script.eoimode {
            script.deactivate();
        }
        script.expect(false);
    });
}
