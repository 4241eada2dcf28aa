//! The console against a scripted line: what comes out of it, byte by byte, and a model of what has to.
#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may fail")]

use super::*;
use crate::exit::Size;
use crate::machine::Ticks;
use crate::vdev::Access;
use crate::vdev::pl011::{Register, TYPE_AHEAD};
use core::cell::Cell;
use proptest::prelude::*;
use std::collections::VecDeque;
use std::string::String;
use std::vec::Vec;

/// Bytes of a guest's ring.
const RING: usize = 256;

struct Guest {
    name: String,
    port: Option<Mutex<Pl011>>,
    running: Cell<bool>,
    level: Cell<bool>,
    presses: Cell<u32>,
}

impl Seat for Guest {
    fn name(&self) -> &str {
        &self.name
    }
    fn port(&self) -> Option<&Mutex<Pl011>> {
        self.port.as_ref()
    }
    fn is_running(&self) -> bool {
        self.running.get()
    }
}

/// The line, as one CPU reaches it.
struct Script {
    log: &'static Log,
    out: Vec<u8>,
    typed: VecDeque<u8>,
    room: usize,
    wants_room: bool,
    listens: bool,
    /// Own lines so far, which are numbered: a replay has earlier ones.
    said: Cell<usize>,
}

impl Front<Guest> for Script {
    fn put(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room);
        self.room -= taken;
        self.out.extend(&bytes[..taken]);
        taken
    }
    fn get(&mut self) -> Option<u8> {
        self.typed.pop_front()
    }
    fn want_room(&mut self, on: bool) {
        assert_ne!(self.wants_room, on, "told what it knows");
        self.wants_room = on;
    }
    fn listen(&mut self, on: bool) {
        self.listens = on;
    }
    fn level(&mut self, guest: &Guest, high: bool) {
        assert!(guest.port.as_ref().unwrap().try_lock().is_none(), "levels go under the port's lock");
        guest.level.set(high);
    }
    fn press_power_key(&mut self, guest: &Guest) {
        guest.presses.set(guest.presses.get() + 1);
    }
    fn say(&mut self, text: fmt::Arguments<'_>) {
        self.own(text);
    }
}

impl Script {
    fn own(&self, text: fmt::Arguments<'_>) {
        let n = self.said.replace(self.said.get() + 1);
        self.log.line(std::format!("[mz {n}] {text}\r\n").as_bytes());
    }
}

/// Without the numbers of own lines.
fn plain(text: &str) -> String {
    let mut pieces = text.split("[mz ");
    let first = pieces.next().unwrap().to_owned();
    pieces.fold(first, |text, piece| text + "[mz" + piece.trim_start_matches(|c: char| c.is_ascii_digit()))
}

struct World {
    console: Console,
    guests: Vec<Guest>,
    line: Script,
}

impl World {
    /// Guests `a`, `b` and so on; those at `without` have no port.
    fn new(guests: usize, without: &[usize]) -> Self {
        let guests: Vec<_> = (0..guests)
            .map(|n| Guest {
                name: std::format!("{}", char::from(b'a' + n as u8)),
                port: (!without.contains(&n)).then(|| Mutex::new(Pl011::new(RING))),
                running: Cell::new(true),
                level: Cell::new(false),
                presses: Cell::new(0),
            })
            .collect();
        let log = log();
        let console = Console::new(log, &guests);
        let line = Script {
            log,
            out: Vec::new(),
            typed: VecDeque::new(),
            room: usize::MAX,
            wants_room: false,
            listens: true,
            said: Cell::new(0),
        };
        Self { console, guests, line }
    }

    fn own(&self, text: &str) {
        self.line.own(format_args!("{text}"));
    }

    /// A guest's store to UARTDR, as the run loop serves it. False if UARTFR says that the guest has to wait.
    fn store(&mut self, n: usize, byte: u8) -> bool {
        let screen = Screen(n as u16);
        let mut port = self.guests[n].port.as_ref().unwrap().lock();
        let at = |register: Register| Access { offset: register.offset(), size: Size::Word, now: Ticks(0) };
        if port.read(at(Register::Fr)).unwrap() & 1 << 5 != 0 {
            return false;
        }
        if self.console.is_quiet(screen) && port.pass(byte, |byte| self.line.put(&[byte]) == 1) {
            self.console.passed(byte);
        } else {
            port.write(at(Register::Dr), byte.into()).unwrap();
            self.console.accessed(&mut self.line, &self.guests, screen, &mut port);
        }
        true
    }

    fn says(&mut self, n: usize, text: &str) {
        assert!(text.bytes().all(|byte| self.store(n, byte)), "{n} has no room");
    }

    /// A guest's load of UARTDR.
    fn load(&mut self, n: usize) -> u8 {
        let mut port = self.guests[n].port.as_ref().unwrap().lock();
        let byte = port.read(Access { offset: 0, size: Size::Word, now: Ticks(0) }).unwrap() as u8;
        if self.console.is_deaf() {
            self.console.accessed(&mut self.line, &self.guests, Screen(n as u16), &mut port);
        }
        byte
    }

    fn reads(&mut self, n: usize) -> Vec<u8> {
        std::iter::from_fn(|| Some(self.load(n)).filter(|byte| *byte != 0)).collect()
    }

    fn types(&mut self, keys: &[u8]) {
        self.line.typed.extend(keys);
        self.interrupt();
    }

    fn interrupt(&mut self) {
        self.console.interrupt(&mut self.line, &self.guests);
    }

    fn refresh(&mut self) {
        self.console.refresh(&mut self.line, &self.guests, Patience::Pause);
    }

    /// Gives the line room and interrupts as long as it is asked to.
    fn settle(&mut self) {
        self.line.room = usize::MAX;
        for _ in 0..10_000 {
            if !self.line.wants_room && (self.line.typed.is_empty() || !self.line.listens) {
                return;
            }
            self.interrupt();
        }
        panic!("the line is asked for room for ever");
    }

    fn stop(&mut self, n: usize) {
        self.guests[n].running.set(false);
        self.own(&std::format!("vm {n}: powered off"));
        self.console.stopped(&mut self.line, &self.guests, n);
    }

    /// What has come out since the last time.
    fn out(&mut self) -> String {
        plain(std::str::from_utf8(&core::mem::take(&mut self.line.out)).unwrap())
    }
}

#[test]
fn stamps_are_as_the_formatter_would_have_them() {
    struct At(u64, u64);
    impl fmt::Display for At {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            stamp(f, self.0, self.1)
        }
    }
    for (seconds, micros) in
        [(0, 0), (0, 1), (9, 999_999), (10, 120), (31, 959_231), (99_999, 5), (100_000, 42), (1 << 40, 1)]
    {
        assert_eq!(std::format!("{}", At(seconds, micros)), std::format!("[mz {seconds:>5}.{micros:06}]"));
    }
}

#[test]
fn screens_are_switched_replayed_and_not_mixed() {
    let mut world = World::new(2, &[]);
    world.says(0, "one\r\nlogin: ");
    world.says(1, "two\r\n");
    assert_eq!(world.out(), "one\r\nlogin: ");
    world.types(b"\x072");
    world.settle();
    assert_eq!(world.out(), "\r\n[mz] screen 2: b; Ctrl-G 0..2 switches\r\ntwo\r\n");
    world.says(0, "root\r\n# ");
    world.says(1, "more");
    assert_eq!(world.out(), "more");
    world.types(b"\x071");
    world.settle();
    assert_eq!(world.out(), "\r\n[mz] screen 1: a; Ctrl-G 0..2 switches\r\nroot\r\n# ");
}

#[test]
fn a_command_may_come_in_pieces_and_ctrl_g_can_be_sent() {
    let mut world = World::new(2, &[]);
    world.types(b"ls\x07");
    world.types(b"");
    world.types(b"\x07!\x07");
    world.types(b"2");
    world.types(b"uname");
    assert_eq!(world.console.screen(), Screen(1));
    assert_eq!((world.reads(0), world.reads(1)), (b"ls\x07!".to_vec(), b"uname".to_vec()));
    world.types(b"\x070nowhere\x07p");
    // One command an interrupt; the line's stays up.
    assert_eq!(world.console.screen(), Screen::LOG);
    world.settle();
    assert_eq!(world.console.screen(), Screen(1), "before the log is the last guest");
    world.types(b"\x07n");
    assert_eq!(world.console.screen(), Screen::LOG);
    assert!(world.reads(0).is_empty() && world.reads(1).is_empty());
}

#[test]
fn the_shown_guests_power_key_is_pressed() {
    let mut world = World::new(2, &[]);
    world.types(b"\x07s");
    world.settle();
    assert_eq!(world.out(), "[mz] vm a: power key pressed, to shut it down\r\n");
    let presses = |world: &World| [0, 1].map(|n: usize| world.guests[n].presses.get());
    assert_eq!(presses(&world), [1, 0]);
    world.guests[0].running.set(false);
    world.types(b"\x07S");
    world.types(b"\x070\x07s");
    world.settle();
    assert_eq!(presses(&world), [1, 0]);
    assert!(world.out().contains("no guest runs here that could shut down"));
    assert!(world.reads(0).is_empty());
}

#[test]
fn the_list_names_everybody() {
    let mut world = World::new(3, &[1]);
    world.guests[2].running.set(false);
    world.types(b"\x07?");
    assert_eq!(
        world.out(),
        "[mz] screens: 0 Mezzanine's log; 1 a (running, shown); 2 b (no serial port); 3 c (stopped). \
         Type Ctrl-G and a number, n (next), p (previous) or s (shut down); Ctrl-G twice sends it to the guest\r\n"
    );
    world.types(b"\x072\x079");
    world.settle();
    assert_eq!(
        world.out(),
        "[mz] no screen 2: b has no serial port; Ctrl-G ? lists them\r\n\
         [mz] no screen 9: there are not so many guests; Ctrl-G ? lists them\r\n"
    );
    world.types(b"\x07n");
    world.settle();
    assert_eq!(world.out(), "[mz] screen 3: c (stopped); Ctrl-G 0..3 switches\r\n");
    assert_eq!(world.console.screen(), Screen(2));
    let many = World::new(12, &[]);
    let list = std::format!("{}", words::List { seats: &many.guests, shown: Screen(10) });
    assert!(list.contains("; 9 i (running); 11 k (running, shown); 3 more by n and p. "), "{list}");
}

#[test]
fn the_greeting_names_another_guest() {
    let text = |guests, without: &[usize]| {
        let world = World::new(guests, without);
        world.console.greeting(&world.guests).map(|text| std::format!("{text}"))
    };
    assert_eq!(text(1, &[]), None);
    assert_eq!(text(2, &[0]), None);
    let greeting = "you are at a; Ctrl-G 3 shows c, Ctrl-G 0 this log, Ctrl-G ? lists all screens";
    assert_eq!(text(3, &[1]).as_deref(), Some(greeting));
}

#[test]
fn a_hidden_guest_never_waits_and_its_loss_is_told() {
    let mut world = World::new(2, &[]);
    let text: String = (0..100).map(|n| std::format!("line {n:03}\r\n")).collect();
    world.says(1, &text);
    world.types(b"\x072");
    world.settle();
    let kept = RING - 32;
    let lost = text.len() - kept;
    let told = std::format!(
        "[mz] {lost} bytes of b's output before this are lost: it put out more than is kept\r\n{}",
        &text[lost..]
    );
    let out = world.out();
    assert!(out.ends_with(&told), "{out}");
}

#[test]
fn a_shown_guest_waits_for_the_line_and_a_hidden_one_no_longer() {
    let mut world = World::new(2, &[]);
    world.line.room = 10;
    let sent = (0..1000).take_while(|n| world.store(0, b'a' + (n % 26) as u8)).count();
    assert_eq!(sent, 10 + RING);
    assert!(world.line.wants_room);
    // Its driver waits for UARTTXINTR.
    let imsc = Access { offset: Register::Imsc.offset(), size: Size::Word, now: Ticks(0) };
    world.guests[0].port.as_ref().unwrap().lock().write(imsc, 1 << 5).unwrap();
    assert!(!world.guests[0].level.get());
    world.types(b"\x072");
    assert!(world.guests[0].level.get(), "what waited for room has some");
    assert!(world.store(0, b'!'));
    world.settle();
    assert_eq!(world.guests[0].port.as_ref().unwrap().lock().lost(), 33);
    world.line.room = 10;
    world.types(b"\x071");
    world.settle();
    assert!(world.out().ends_with('!'));
}

#[test]
fn own_lines_wait_for_a_line_end_or_a_pause() {
    let mut world = World::new(2, &[]);
    world.says(0, "begin");
    world.own("one");
    world.says(0, " middle");
    assert_eq!(world.out(), "begin middle");
    world.says(0, " end\nnext");
    assert_eq!(world.out(), " end\n[mz] one\r\nnext");
    world.own("two");
    assert!(world.console.log_waits());
    world.refresh();
    assert_eq!(world.out(), "\r\n[mz] two\r\n");
    world.says(0, &"x".repeat(100));
    world.own("three");
    world.says(0, &"x".repeat(2000));
    assert_eq!(world.out(), std::format!("{}\r\n[mz] three\r\n{}", "x".repeat(1124), "x".repeat(976)));
    // One byte at a time, they are whole as well.
    world.line.room = 0;
    world.own("four");
    world.refresh();
    world.says(0, "go\n");
    for _ in 0..100 {
        world.line.room = 1;
        world.interrupt();
    }
    assert_eq!(world.out(), "\r\n[mz] four\r\ngo\n");
    assert!(!world.line.wants_room);
}

#[test]
fn the_logs_screen_replays_it() {
    let mut world = World::new(1, &[]);
    world.line.log.past(b"[mz] boot\r\n");
    world.own("one");
    world.refresh();
    world.out();
    world.types(b"\x070");
    world.settle();
    assert_eq!(
        world.out(),
        "[mz] boot\r\n[mz] one\r\n[mz] screen 0: Mezzanine's log; Ctrl-G 0..1 switches\r\n"
    );
    world.own("two");
    world.says(0, "hidden\r\n");
    world.refresh();
    assert_eq!(world.out(), "[mz] two\r\n");
}

#[test]
fn a_replay_comes_after_the_line_that_has_begun() {
    let mut world = World::new(1, &[]);
    world.own("one");
    world.own("two");
    world.line.room = 5;
    world.refresh();
    world.types(b"\x070");
    world.settle();
    let all = "[mz] one\r\n[mz] two\r\n[mz] screen 0: Mezzanine's log; Ctrl-G 0..1 switches\r\n";
    assert_eq!(world.out(), std::format!("[mz] one\r\n{all}"));
    world.own("three");
    world.refresh();
    assert_eq!(world.out(), "[mz] three\r\n", "once");
}

#[test]
fn a_stopped_vms_rest_comes_before_the_next_screen() {
    let mut world = World::new(3, &[1]);
    world.says(2, "c\r\n");
    world.line.room = 0;
    world.says(0, &"a".repeat(200));
    world.stop(0);
    assert_eq!(world.console.screen(), Screen(0));
    world.settle();
    assert_eq!(world.console.screen(), Screen(2));
    let out = world.out();
    let rest = std::format!("{}\r\n[mz] vm 0: powered off\r\n", "a".repeat(200));
    assert_eq!(out, std::format!("{rest}[mz] screen 3: c; Ctrl-G 0..3 switches\r\nc\r\n"));
    // One can go back to it, and stays.
    world.types(b"\x071");
    world.settle();
    assert_eq!(world.console.screen(), Screen(0));
    world.types(&[b'x'; 2 * TYPE_AHEAD]);
    world.settle();
    assert!(world.line.typed.is_empty(), "nobody reads it, so it goes nowhere");
}

#[test]
fn at_the_end_everything_comes_out() {
    let mut world = World::new(3, &[]);
    world.line.room = 0;
    world.says(0, "first");
    world.says(1, "second");
    world.says(2, &"x".repeat(300));
    world.own("vm c: powered off");
    world.line.room = usize::MAX;
    world.console.flush(&mut world.line, &world.guests);
    assert_eq!(
        world.out(),
        std::format!(
            "first\r\n[mz] vm c: powered off\r\n[mz] vm b: 6 bytes of its output that were not shown\r\nsecond\r\n\
             [mz] vm c: 224 bytes of its output that were not shown; 76 before them are lost\r\n{}\r\n",
            "x".repeat(224)
        )
    );
}

#[test]
fn who_types_more_than_is_read_waits() {
    let mut world = World::new(2, &[]);
    let text: Vec<u8> = (0..6000_u32).map(|n| b'a' + (n % 26) as u8).collect();
    world.line.typed.extend(&text);
    for _ in 0..200 {
        world.interrupt();
    }
    assert!(!world.line.listens);
    assert!(text.len() - world.line.typed.len() >= TYPE_AHEAD);
    let mut read = world.reads(0);
    assert!(world.line.listens);
    while !world.line.typed.is_empty() {
        world.interrupt();
        read.extend(world.reads(0));
    }
    read.extend(world.reads(0));
    assert!(read == text);
}

#[derive(Clone, Debug)]
enum Event {
    Store(usize, usize),
    Room(usize),
    Type(Vec<u8>),
    Own,
    Refresh,
    Stop(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let key =
        prop_oneof![3 => Just(7_u8), 3 => b'0'..=b'4', 1 => Just(b'n'), 1 => Just(b'p'), 2 => b'a'..=b'm'];
    prop_oneof![
        6 => (0..3_usize, 1..200_usize).prop_map(|(n, bytes)| Event::Store(n, bytes)),
        4 => (0..300_usize).prop_map(Event::Room),
        3 => prop::collection::vec(key, 1..4).prop_map(Event::Type),
        2 => Just(Event::Own),
        1 => Just(Event::Refresh),
        1 => (0..30_usize).prop_map(Event::Stop),
    ]
}

/// Guest `n`'s byte number `at`: a number of its own, and every guest's alphabet is another one.
fn letter(n: usize, at: usize) -> u8 {
    let alphabet: [&[u8]; 3] = [b"abcdefgh\n", b"ABCDEFG\n", b"0123456789\n"];
    alphabet[n][at % alphabet[n].len()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever happens in whatever order: each guest's bytes come out in order, once, unless they are counted as
    /// lost; no line has bytes of two; own lines are whole; and nothing waits that nobody will move.
    #[test]
    fn nothing_is_mixed_lost_or_stuck(events in prop::collection::vec(event(), 0..120)) {
        let mut world = World::new(3, &[]);
        let mut sent = [0_usize; 3];
        for event in events {
            match event {
                Event::Store(n, bytes) => {
                    for _ in 0..bytes {
                        if !world.guests[n].running.get() || !world.store(n, letter(n, sent[n])) {
                            prop_assert!(!world.guests[n].running.get() || world.console.screen() == Screen(n as u16));
                            prop_assert!(!world.guests[n].running.get() || world.line.wants_room);
                            break;
                        }
                        sent[n] += 1;
                    }
                }
                Event::Room(bytes) => {
                    world.line.room = bytes;
                    if world.line.wants_room {
                        world.interrupt();
                    }
                }
                Event::Type(keys) => world.types(&keys),
                Event::Own => {
                    world.own("own");
                }
                Event::Refresh => world.refresh(),
                Event::Stop(n) => {
                    if n < 3 && world.guests[n].running.get() {
                        world.stop(n);
                    }
                }
            }
            // No lost wake: what waits for the line has it asked to interrupt.
            if let Some(shown) = world.console.screen().vm() {
                let waits = world.guests[shown].port.as_ref().unwrap().lock().has_output();
                prop_assert!(!waits || world.line.wants_room);
            }
            prop_assert_eq!(world.line.wants_room, world.console.state().has(state::ROOM));
        }
        world.settle();
        world.line.room = usize::MAX;
        world.console.flush(&mut world.line, &world.guests);
        let out = String::from_utf8(world.line.out).unwrap();
        let mut next = [0_usize; 3];
        let mut news = 0;
        let mut shown = Some(0);
        for line in out.split_inclusive('\n') {
            if let Some((number, text)) = line.strip_prefix("[mz ").and_then(|own| own.split_once("] ")) {
                prop_assert!(line.ends_with("\r\n"));
                let number: usize = number.parse().unwrap();
                prop_assert!(number <= news, "missing before {line:?}");
                prop_assert!(number == news || out.contains("screen 0: "), "a replay that nobody asked for");
                if number == news {
                    news += 1;
                    follow(text, &mut shown, &mut next);
                }
                continue;
            }
            prop_assert!(!line.contains('['), "an own line inside another: {line:?}");
            // Guests here end their lines with LF alone.
            for byte in line.trim_end_matches("\r\n").bytes() {
                let n = shown.unwrap();
                prop_assert_eq!(byte, letter(n, next[n]), "of guest {} in {:?}", n, line);
                next[n] += 1;
            }
        }
        prop_assert_eq!(news, world.line.said.get());
        prop_assert_eq!(next, sent);
    }
}

/// What an own line says of what comes after it.
fn follow(text: &str, shown: &mut Option<usize>, next: &mut [usize; 3]) {
    let words: Vec<&str> = text.split_whitespace().collect();
    let number = |word: &str| word.trim_end_matches(':').parse::<usize>().unwrap();
    let guest = |word: &str| usize::from(word.as_bytes()[0] - b'a');
    match words[0] {
        "screen" => *shown = number(words[1]).checked_sub(1),
        "vm" if text.contains("not shown") => *shown = Some(guest(words[1])),
        _ => {}
    }
    if text.contains("are lost: ") {
        next[guest(words[3])] += number(words[0]);
    } else if let Some((_, rest)) = text.split_once("not shown; ") {
        next[guest(words[1])] += number(rest.split_once(' ').unwrap().0);
    }
}
