//! Tests of the PL061.
#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a test may fail")]

use super::*;
use proptest::prelude::*;

const HZ: u64 = 62_500_000;
const HOLD: u64 = HZ / 10;

fn at(offset: u64, now: u64) -> Access {
    Access { offset, size: Size::Word, now: Ticks(now) }
}

fn get(gpio: &mut Pl061, register: Register, now: u64) -> u8 {
    // All lines of GPIODATA.
    let offset = if register == Register::Data { 0x3fc } else { register.offset() };
    gpio.read(at(offset, now)).unwrap() as u8
}

fn set(gpio: &mut Pl061, register: Register, value: u8, now: u64) {
    let offset = if register == Register::Data { 0x3fc } else { register.offset() };
    gpio.write(at(offset, now), value.into()).unwrap();
}

#[test]
fn is_found_by_its_identification() {
    let mut gpio = Pl061::new(HZ);
    let id: Vec<u8> = Register::ALL[10..].iter().map(|r| get(&mut gpio, *r, 0)).collect();
    assert_eq!(id, [0x61, 0x10, 0x04, 0x00, 0x0d, 0xf0, 0x05, 0xb1]);
}

#[test]
fn all_is_zero_after_reset() {
    let mut gpio = Pl061::new(HZ);
    for register in &Register::ALL[..10] {
        assert_eq!(get(&mut gpio, *register, 0), 0, "{register:?}");
    }
    assert!(!gpio.irq());
    assert_eq!(gpio.deadline(), None);
}

#[test]
fn data_is_masked_by_its_address() {
    let mut gpio = Pl061::new(HZ);
    set(&mut gpio, Register::Dir, 0xff, 0);
    set(&mut gpio, Register::Data, 0xa5, 0);
    for mask in 0..=0xff_u64 {
        assert_eq!(gpio.read(at(mask << 2, 0)), Ok(0xa5 & mask));
    }
    gpio.write(at(0x0f << 2, 0), 0xff).unwrap();
    assert_eq!(get(&mut gpio, Register::Data, 0), 0xaf);
    gpio.write(at(0, 0), 0).unwrap();
    assert_eq!(get(&mut gpio, Register::Data, 0), 0xaf, "no line is named");
}

#[test]
fn inputs_are_the_keys_and_outputs_the_guests() {
    let mut gpio = Pl061::new(HZ);
    set(&mut gpio, Register::Data, 0xff, 0);
    assert_eq!(get(&mut gpio, Register::Data, 0), 0, "inputs that nobody drives");
    gpio.press(Ticks(0));
    assert_eq!(get(&mut gpio, Register::Data, 0), KEY);
    set(&mut gpio, Register::Dir, 0xf0, 0);
    assert_eq!(get(&mut gpio, Register::Data, 0), 0xf0 | KEY);
    set(&mut gpio, Register::Dir, 0xff, 0);
    set(&mut gpio, Register::Data, 0, 0);
    assert_eq!(get(&mut gpio, Register::Data, 0), 0, "driven by the guest");
}

#[test]
fn a_press_is_a_pulse() {
    let mut gpio = Pl061::new(HZ);
    gpio.press(Ticks(1000));
    assert!(gpio.is_pressed());
    assert_eq!(gpio.deadline(), Some(Ticks(1000 + HOLD)));
    gpio.advance(Ticks(999 + HOLD));
    assert_eq!(gpio.read(at(u64::from(KEY) << 2, 0)), Ok(KEY.into()));
    gpio.advance(Ticks(1000 + HOLD));
    assert_eq!(gpio.deadline(), None);
    assert!(!gpio.is_pressed());
    assert_eq!(get(&mut gpio, Register::Data, 0), 0);
}

#[test]
fn a_second_press_makes_it_longer_and_no_second_edge() {
    let mut gpio = Pl061::new(HZ);
    set(&mut gpio, Register::Iev, KEY, 0);
    set(&mut gpio, Register::Ie, KEY, 0);
    gpio.press(Ticks(0));
    assert!(gpio.irq());
    set(&mut gpio, Register::Ic, KEY, 1);
    gpio.press(Ticks(HOLD - 1));
    assert!(!gpio.irq());
    assert_eq!(gpio.deadline(), Some(Ticks(2 * HOLD - 1)));
    // One that comes when the release was due and nobody looked is a press of its own.
    gpio.press(Ticks(3 * HOLD));
    assert!(gpio.irq());
}

/// As Linux has it: both edges, the line read after each, cleared by GPIOIC.
#[test]
fn both_edges() {
    let mut gpio = Pl061::new(HZ);
    set(&mut gpio, Register::Ibe, KEY, 0);
    set(&mut gpio, Register::Ie, KEY, 0);
    gpio.press(Ticks(5));
    assert!(gpio.irq());
    assert_eq!((get(&mut gpio, Register::Ris, 6), get(&mut gpio, Register::Mis, 6)), (KEY, KEY));
    assert_eq!(get(&mut gpio, Register::Data, 6), KEY);
    set(&mut gpio, Register::Ic, KEY, 7);
    assert!(!gpio.irq());
    assert_eq!(get(&mut gpio, Register::Ris, 8), 0);
    gpio.advance(Ticks(5 + HOLD));
    assert!(gpio.irq());
    assert_eq!(get(&mut gpio, Register::Data, 5 + HOLD), 0);
    set(&mut gpio, Register::Ic, 0xff, 6 + HOLD);
    assert!(!gpio.irq());
}

#[test]
fn one_edge() {
    for (iev, rises, falls) in [(KEY, true, false), (0, false, true)] {
        let mut gpio = Pl061::new(HZ);
        set(&mut gpio, Register::Iev, iev, 0);
        set(&mut gpio, Register::Ie, KEY, 0);
        gpio.press(Ticks(0));
        assert_eq!(gpio.irq(), rises);
        set(&mut gpio, Register::Ic, KEY, 0);
        gpio.advance(Ticks(HOLD));
        assert_eq!(gpio.irq(), falls);
    }
}

#[test]
fn a_level_lasts_as_long_as_it_lasts() {
    let mut gpio = Pl061::new(HZ);
    set(&mut gpio, Register::Is, KEY, 0);
    set(&mut gpio, Register::Ie, KEY, 0);
    assert!(gpio.irq(), "low");
    set(&mut gpio, Register::Ic, KEY, 0);
    assert!(gpio.irq(), "still");
    set(&mut gpio, Register::Iev, KEY, 0);
    assert!(!gpio.irq());
    gpio.press(Ticks(0));
    assert!(gpio.irq());
    gpio.advance(Ticks(HOLD));
    assert!(!gpio.irq());
    set(&mut gpio, Register::Is, 0, HOLD);
    assert!(!gpio.irq(), "no edge was looked for");
}

#[test]
fn masked_an_edge_waits() {
    let mut gpio = Pl061::new(HZ);
    set(&mut gpio, Register::Iev, KEY, 0);
    gpio.press(Ticks(0));
    assert!(!gpio.irq());
    assert_eq!((get(&mut gpio, Register::Ris, 1), get(&mut gpio, Register::Mis, 1)), (KEY, 0));
    set(&mut gpio, Register::Ie, KEY, 2);
    assert!(gpio.irq());
}

#[test]
fn an_output_interrupts_nobody() {
    let mut gpio = Pl061::new(HZ);
    for register in [Register::Dir, Register::Ibe, Register::Ie] {
        set(&mut gpio, register, 0xff, 0);
    }
    set(&mut gpio, Register::Data, 0xff, 0);
    gpio.press(Ticks(0));
    assert!(!gpio.irq());
    set(&mut gpio, Register::Is, 0xff, 0);
    assert!(!gpio.irq());
}

#[test]
fn an_access_after_the_deadline_sees_it_passed() {
    let mut gpio = Pl061::new(HZ);
    set(&mut gpio, Register::Ie, KEY, 0);
    gpio.press(Ticks(0));
    assert_eq!(get(&mut gpio, Register::Data, HOLD), 0);
    assert!(gpio.irq() && gpio.deadline().is_none());
}

#[test]
fn every_offset_and_size_has_an_answer() {
    let mut gpio = Pl061::new(u64::MAX);
    gpio.press(Ticks(u64::MAX - 1));
    assert_eq!(gpio.deadline(), Some(Ticks(u64::MAX)));
    for offset in (0..0x1008).chain([u64::MAX]) {
        for size in [Size::Byte, Size::Half, Size::Word, Size::Double] {
            let at = Access { offset, size, now: Ticks(u64::MAX) };
            let known =
                size != Size::Double && offset & 3 == 0 && (offset < 0x400 || Register::at(offset).is_some());
            assert_eq!(gpio.read(at).is_ok(), known);
            assert_eq!(gpio.write(at, u64::MAX).is_ok(), known);
        }
    }
    let mut never = Pl061::new(0);
    never.press(Ticks(7));
    assert_eq!(never.deadline(), Some(Ticks(8)));
}

#[derive(Clone, Debug)]
enum Event {
    Store(usize, u8),
    Press,
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0..10_usize, any::<u8>()).prop_map(|(n, value)| Event::Store(n, value)),
        Just(Event::Press),
        (0..2 * HOLD).prop_map(Event::Wait),
    ]
}

proptest! {
    /// Whatever a guest does: the key comes up when it must, no line but the key's moves by itself, and the interrupt is
    /// what GPIOMIS shows.
    #[test]
    fn a_guest_cannot_hold_the_key(events in proptest::collection::vec(event(), 0..60)) {
        let mut gpio = Pl061::new(HZ);
        let (mut now, mut up) = (0, None);
        for event in events {
            match event {
                Event::Store(n, value) => set(&mut gpio, Register::ALL[n], value, now),
                Event::Press => {
                    gpio.press(Ticks(now));
                    up = Some(now + HOLD);
                }
                Event::Wait(ticks) => now += ticks,
            }
            up = up.filter(|at| now < *at);
            gpio.advance(Ticks(now));
            prop_assert_eq!(gpio.deadline(), up.map(Ticks));
            let dir = get(&mut gpio, Register::Dir, now);
            let inputs = get(&mut gpio, Register::Data, now) & !dir;
            prop_assert_eq!(inputs, if up.is_some() { KEY & !dir } else { 0 });
            let (mis, ie) = (get(&mut gpio, Register::Mis, now), get(&mut gpio, Register::Ie, now));
            prop_assert_eq!(mis, get(&mut gpio, Register::Ris, now) & ie);
            prop_assert_eq!(gpio.irq(), mis != 0);
            // Edges are the key's alone; levels may be any input's.
            let is = get(&mut gpio, Register::Is, now);
            prop_assert_eq!(get(&mut gpio, Register::Ris, now) & !is & !KEY, 0);
        }
    }

    /// A guest that looks for both edges and clears before it looks at the line is never left with a wrong idea of it.
    #[test]
    fn no_edge_is_lost(times in proptest::collection::vec((0..2 * HOLD, any::<bool>()), 0..60)) {
        let mut gpio = Pl061::new(HZ);
        set(&mut gpio, Register::Ibe, KEY, 0);
        set(&mut gpio, Register::Ie, KEY, 0);
        let (mut now, mut seen) = (0, 0);
        for (ticks, press) in times {
            now += ticks;
            gpio.advance(Ticks(now));
            if press {
                gpio.press(Ticks(now));
            }
            if gpio.irq() {
                set(&mut gpio, Register::Ic, KEY, now);
                seen = get(&mut gpio, Register::Data, now);
            }
            prop_assert_eq!(seen, get(&mut gpio, Register::Data, now));
        }
    }
}
