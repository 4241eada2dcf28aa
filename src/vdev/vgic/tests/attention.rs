//! Who is called, by whom, and how often: no wake-up is lost, and none is for nothing.

use super::arrays::{Array, Place};
use super::random::{Guest, Run};
use super::vm::{Setup, Vm, vcpu};
use crate::machine::IntId;
use crate::vdev::vgic::{Frame, GicVersion, Kicks, Outcome, Raised, SgiGroup};

const BOTH: [GicVersion; 2] = [GicVersion::V2, GicVersion::V3];
const LINE: IntId = IntId(20);

/// Guests of both versions, on hardware and without, with `vcpus` vCPUs and a PPI enabled at each.
fn each(vcpus: usize, lists: u8, test: impl Fn(Run)) {
    for version in BOTH {
        for emulated in [false, true] {
            let setup = Setup { version, emulated, vcpus, lists, priority_bits: 5 };
            let mut run = Run::new(Guest { setup, eoimode: false, sparse: false });
            for n in 0..vcpus {
                run.store(n, n, Place::of(Array::SetEnable, LINE.0, false), 1 << LINE.0);
            }
            test(run);
        }
    }
}

/// Whether a vCPU that left its CPU would be parked.
fn parks(vm: &Vm, n: usize) -> bool {
    !vm.vgic.attention(vcpu(n)) && !vm.vgic.signals(vcpu(n), &vm.cpus[n].lists)
}

#[test]
fn blocked_with_interrupts_behind_the_mask_they_let_each_other_sleep() {
    each(2, 1, |mut run| {
        for n in 0..2 {
            run.pmr(n, 0x80);
            run.vm.vgic.set_ppi(vcpu(n), LINE, true);
            run.vm.settle();
        }
        run.vm.set_spi(0, true);
        for _ in 0..3 {
            for n in 0..2 {
                run.vm.leave(n);
                assert!(parks(&run.vm, n));
                run.vm.come(n);
                assert!(parks(&run.vm, 1 - n), "what one does is nothing to the other");
            }
        }
        run.vm.leave(0);
        run.vm.come(0);
        run.pmr(0, 0xff);
        run.vm.leave(0);
        assert!(!parks(&run.vm, 0), "the mask is open, and it pends");
    });
}

#[test]
fn parked_it_is_called_once_whatever_comes() {
    each(2, 4, |mut run| {
        run.vm.leave(1);
        assert!(parks(&run.vm, 1));
        let (vgic, me) = (&run.vm.vgic, vcpu(1));
        assert_eq!(vgic.set_ppi(me, LINE, true), Kicks::of(me));
        for _ in 0..2 {
            assert_eq!(vgic.raise_linked(me, IntId(27)), Kicks::NONE, "it has been called");
            assert_eq!(vgic.set_ppi(me, LINE, false), Kicks::NONE);
            assert_eq!(vgic.set_ppi(me, LINE, true), Kicks::NONE);
        }
        assert!(!parks(&run.vm, 1));
        run.vm.note_called();
        run.vm.come(1);
        assert!(run.vm.take(1).is_some() || run.vm.cpus[1].lists.signalled != 0);
    });
}

#[test]
fn what_comes_while_it_looks_calls_again() {
    each(2, 4, |mut run| {
        let vgic = &run.vm.vgic;
        run.vm.cpus[1].fold();
        vgic.sync_raised(vcpu(1), &mut run.vm.cpus[1].lists, Raised::NOTHING);
        assert_eq!(vgic.set_ppi(vcpu(1), LINE, true), Kicks::of(vcpu(1)), "it looked before that");
        run.vm.cpus[1].enter();
        run.vm.note_called();
        run.vm.settle();
        assert!(!run.vm.vgic.attention(vcpu(1)));
    });
}

#[test]
fn what_a_vcpu_does_to_itself_kicks_nobody_and_is_seen_before_its_entry() {
    each(2, 4, |mut run| {
        let version = run.guest.setup.version;
        let place = Place::of(Array::SetPending, LINE.0, false);
        let (frame, offset) = place.at(version, 0);
        let vgic = &run.vm.vgic;
        let size = crate::exit::Size::Word;
        let write = Some(1 << LINE.0);
        let outcome = vgic.access(vcpu(0), frame, offset, size, write, &mut run.vm.cpus[0].lists);
        assert_eq!(outcome, Outcome::Done(0, Kicks::NONE));
        assert!(vgic.attention(vcpu(0)) && !vgic.attention(vcpu(1)));
    });
}

#[test]
fn a_message_to_all_calls_those_who_have_not_been() {
    let mut vm = Vm::linux(4, 4);
    vm.write(0, Frame::Gicd, 0, 3);
    let all = |vm: &Vm| vm.vgic.sgi(vcpu(0), SgiGroup::Group1, 1 << 40);
    assert_eq!(all(&vm), Kicks::of(vcpu(1)) | Kicks::of(vcpu(2)) | Kicks::of(vcpu(3)));
    assert_eq!(all(&vm), Kicks::NONE);
    vm.note_called();
    vm.look(2);
    assert_eq!(all(&vm), Kicks::of(vcpu(2)));
}
