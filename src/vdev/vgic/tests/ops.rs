//! What guests and devices do in the property test, as values.

use super::arrays::Array;
use super::hardware::TIMER;
use proptest::prelude::*;

pub(super) const SPIS: [u32; 8] = [32, 33, 37, 63, 64, 70, 80, 95];
/// The one at 20 has a line.
pub(super) const PRIVATE: [u32; 6] = [0, 1, 15, LINE, 30, TIMER];
pub(super) const LINE: u32 = 20;

/// How a stored value comes about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// The interrupt's own bit or field, others as they are.
    One(u32),
    /// Whatever.
    Any(u32),
}

/// Whom an SGI goes to.
#[derive(Clone, Copy, Debug)]
pub(super) enum To {
    List(u32),
    Others,
    Itself,
}

/// A CPU is taken modulo their number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    /// By whom, whose (with GICv3), array, interrupt, as a byte, value.
    Store(usize, usize, Array, u32, bool, Shape),
    Load(usize, usize, Array, u32, bool),
    /// GICv3: by whom, SPI, affinity (a vCPU, or none that there is) or any; in halves.
    Route(usize, usize, Option<u8>, bool),
    Groups(usize, u32),
    Spi(usize, bool),
    Ppi(usize, bool),
    Timer(usize, bool),
    /// The run loop finds the line of a timer low that fired.
    Retract(usize),
    Sgi(usize, u32, To, bool),
    /// Acknowledges by the register of this group, and by the other if there was nothing.
    Take(usize, bool),
    /// Acknowledges by this register alone.
    Iar(usize, bool),
    Hppir(usize, bool),
    End(usize, bool),
    Deactivate(usize, usize),
    /// Ends what is no interrupt.
    EndNothing(usize),
    Pmr(usize, u8),
    Bpr(usize, bool, u8),
    /// CBPR, AckCtl, FIQEn.
    Ctlr(usize, bool, bool, bool),
    Enable(usize, bool, bool),
    Leave(usize),
    Come(usize),
    Check(usize),
    Wfi(usize),
}

fn cpu() -> impl Strategy<Value = usize> {
    0..8usize
}

/// Mostly the same few.
fn intid() -> impl Strategy<Value = u32> {
    prop_oneof![
        6 => prop::sample::select(SPIS.to_vec()),
        5 => prop::sample::select(PRIVATE.to_vec()),
        1 => 0..130u32,
    ]
}

fn array() -> impl Strategy<Value = Array> {
    prop_oneof![
        5 => Just(Array::SetEnable),
        1 => Just(Array::ClearEnable),
        4 => Just(Array::SetPending),
        2 => Just(Array::ClearPending),
        1 => Just(Array::SetActive),
        1 => Just(Array::ClearActive),
        1 => Just(Array::Group),
        3 => Just(Array::Priority),
        2 => Just(Array::Targets),
        1 => Just(Array::Config),
        2 => Just(Array::SetSources),
        1 => Just(Array::ClearSources),
        1 => prop::sample::select(super::arrays::ARRAYS.to_vec()),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        8 => any::<u32>().prop_map(Shape::One),
        1 => any::<u32>().prop_map(Shape::Any),
        1 => (any::<u32>(), any::<u32>()).prop_map(|(a, b)| Shape::Any(a & b)),
    ]
}

fn to() -> impl Strategy<Value = To> {
    prop_oneof![4 => (0..256u32).prop_map(To::List), 1 => Just(To::Others), 1 => Just(To::Itself)]
}

/// What a guest does with the distributor, and what devices do.
fn outside() -> impl Strategy<Value = Op> {
    let line = || any::<bool>();
    prop_oneof![
        24 => (cpu(), cpu(), array(), intid(), any::<bool>(), shape())
            .prop_map(|(a, b, c, d, e, f)| Op::Store(a, b, c, d, e, f)),
        4 => (cpu(), cpu(), prop::sample::select(super::arrays::ARRAYS.to_vec()), intid(), any::<bool>())
            .prop_map(|(a, b, c, d, e)| Op::Load(a, b, c, d, e)),
        3 => (cpu(), 0..SPIS.len(), prop_oneof![4 => (0..10u8).prop_map(Some), 1 => Just(None)], any::<bool>())
            .prop_map(|(a, b, c, d)| Op::Route(a, b, c, d)),
        1 => (cpu(), prop_oneof![3 => Just(3u32), 1 => 0u32..4]).prop_map(|(a, b)| Op::Groups(a, b)),
        10 => (0..SPIS.len(), line()).prop_map(|(a, b)| Op::Spi(a, b)),
        2 => (cpu(), line()).prop_map(|(a, b)| Op::Ppi(a, b)),
        6 => (cpu(), line()).prop_map(|(a, b)| Op::Timer(a, b)),
        1 => cpu().prop_map(Op::Retract),
        7 => (cpu(), prop_oneof![3 => 0..2u32, 1 => 0..16u32], to(), prop::bool::weighted(0.2))
            .prop_map(|(a, b, c, d)| Op::Sgi(a, b, c, d)),
        2 => cpu().prop_map(Op::Check),
    ]
}

/// What a guest does with its CPU interface, and what is done with its vCPUs.
fn inside() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (cpu(), any::<bool>()).prop_map(|(a, b)| Op::Take(a, b)),
        2 => (cpu(), any::<bool>()).prop_map(|(a, b)| Op::Iar(a, b)),
        2 => (cpu(), any::<bool>()).prop_map(|(a, b)| Op::Hppir(a, b)),
        11 => (cpu(), any::<bool>()).prop_map(|(a, b)| Op::End(a, b)),
        6 => (cpu(), 0..4usize).prop_map(|(a, b)| Op::Deactivate(a, b)),
        1 => cpu().prop_map(Op::EndNothing),
        2 => (cpu(), prop_oneof![3 => Just(0xffu8), 1 => any::<u8>()]).prop_map(|(a, b)| Op::Pmr(a, b)),
        1 => (cpu(), any::<bool>(), any::<u8>()).prop_map(|(a, b, c)| Op::Bpr(a, b, c)),
        1 => (cpu(), prop::bool::weighted(0.3), any::<bool>(), any::<bool>())
            .prop_map(|(a, b, c, d)| Op::Ctlr(a, b, c, d)),
        1 => (cpu(), prop::bool::weighted(0.7), prop::bool::weighted(0.8))
            .prop_map(|(a, b, c)| Op::Enable(a, b, c)),
        2 => cpu().prop_map(Op::Leave),
        4 => cpu().prop_map(Op::Come),
        3 => cpu().prop_map(Op::Wfi),
    ]
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![outside(), inside()]
}
