//! What each step leaves behind, one thread at a time; `models` has those that meet.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::*;

const A: CpuId = CpuId(0);
const B: CpuId = CpuId(1);

/// A vCPU that ran on A and is blocked there.
fn blocked() -> Slot<u32> {
    let slot = Slot::new(7);
    let vcpu = slot.start(|_| ()).unwrap();
    slot.board(A);
    slot.block(vcpu, A, || false).unwrap();
    slot
}

#[test]
fn starts_once() {
    let slot = Slot::new(7);
    assert!(slot.is_off());
    assert_eq!(slot.start(|vcpu| *vcpu = 8), Some(8));
    assert!(!slot.is_off());
    assert_eq!(slot.start(|_| panic!("nobody is there to prepare")), None);
    slot.board(A);
    assert_eq!(slot.start(|_| ()), None, "it is on");
    slot.off(8);
    assert!(slot.is_off());
    assert_eq!(slot.start(|_| ()), Some(8), "again");
}

#[test]
fn a_blocked_one_is_not_started() {
    assert_eq!(blocked().start(|_| ()), None);
}

#[test]
fn a_call_says_where_it_is() {
    let slot = Slot::new(7);
    assert_eq!(slot.call(), Called::Nothing, "off");
    let vcpu = slot.start(|_| ()).unwrap();
    assert_eq!(slot.call(), Called::Nothing, "queued");
    slot.board(B);
    assert_eq!(slot.call(), Called::On(B));
    slot.queue();
    assert_eq!(slot.call(), Called::Nothing, "queued");
    slot.board(A);
    assert_eq!(slot.call(), Called::On(A), "another CPU");
    slot.block(vcpu, A, || false).unwrap();
    assert_eq!(slot.call(), Called::Woken { vcpu: 7, home: A });
    assert_eq!(slot.call(), Called::Nothing, "woken once");
}

#[test]
fn does_not_park_over_something_new() {
    let slot = Slot::new(7);
    slot.start(|_| ()).unwrap();
    slot.board(A);
    assert_eq!(slot.block(7, A, || true), Err(7), "due");
    assert_eq!(slot.call(), Called::On(A), "it stays where it is");
    assert!(slot.post(2));
    assert_eq!(slot.block(7, A, || false), Err(7), "events");
    assert_eq!(slot.take(), 2);
    assert_eq!(slot.block(7, A, || false), Ok(()));
}

#[test]
fn a_timer_wakes_whom_it_was_set_for() {
    let slot = blocked();
    assert_eq!(slot.call_if(|vcpu, home| *vcpu == 7 && home == B), Called::Nothing, "parked elsewhere");
    assert_eq!(slot.peek(|vcpu| *vcpu), Some(7), "still there");
    assert_eq!(slot.call_if(|vcpu, home| *vcpu == 7 && home == A), Called::Woken { vcpu: 7, home: A });
    assert_eq!(slot.call_if(|_, _| true), Called::Nothing);
}

#[test]
fn the_first_message_is_the_one_to_call_for() {
    let slot = Slot::new(7);
    assert!(!slot.has_mail());
    assert!(slot.post(1));
    assert!(!slot.post(4), "there was one");
    assert!(slot.has_mail());
    assert_eq!(slot.take(), 5);
    assert!(!slot.has_mail());
    assert!(slot.post(4));
}

#[test]
fn shows_what_it_holds() {
    let slot = Slot::new(7);
    assert_eq!(slot.peek(|vcpu| *vcpu), Some(7));
    slot.start(|_| ()).unwrap();
    assert_eq!(slot.peek(|vcpu| *vcpu), None);
    assert_eq!(blocked().peek(|vcpu| *vcpu), Some(7));
}

#[test]
fn slots_share_no_cache_line() {
    assert_eq!(align_of::<Slot<Box<crate::vcpu::Vcpu>>>(), 64);
    assert_eq!(size_of::<Slot<Box<crate::vcpu::Vcpu>>>(), 64);
}
