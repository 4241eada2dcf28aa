//! Each rule of the protocol, broken: loom must find the order in which it matters.

use super::Mistake::*;
use super::*;

#[test]
#[should_panic(expected = "never saw")]
fn the_call_before_the_flag() {
    interrupt_against(Some(CallsBeforeItSetsTheFlag), &[]);
}

#[test]
#[should_panic(expected = "never saw")]
fn the_look_before_boarding() {
    interrupt_against(Some(LooksBeforeItBoards), &[]);
}

#[test]
#[should_panic(expected = "never saw")]
fn no_kick() {
    interrupt_against(Some(KicksNobody), &[]);
}

#[test]
#[should_panic(expected = "never saw")]
fn reading_before_lowering_the_flag() {
    interrupt_against(Some(ReadsBeforeItLowersTheFlag), &[Act::Wait]);
}

#[test]
#[should_panic(expected = "never saw")]
fn parking_without_a_look() {
    interrupt_against(Some(DoesNotLookWhenItParks), &[Act::Wait]);
}

#[test]
#[should_panic(expected = "never saw")]
fn parking_with_a_look_before_the_lock() {
    interrupt_against(Some(LooksBeforeItTakesTheLockToPark), &[Act::Wait]);
}

#[test]
#[should_panic(expected = "and on a CPU is")]
fn queueing_before_saying_so() {
    interrupt_against_theft(Some(QueuesBeforeItSaysSo));
}

#[test]
#[should_panic(expected = "left behind")]
fn a_start_that_does_not_ask_afterwards() {
    end_against_start_of_one_that_ends(Some(DoesNotAskWhetherTheVmStops));
}
