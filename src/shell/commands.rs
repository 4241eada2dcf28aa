//! The one table of commands: the parser, `help`, Tab and docs/shell.md are made of it.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use super::help::Topic;
use core::fmt::{self, Display, Formatter};

/// A VM as somebody calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmRef<'a> {
    /// By its name. Nobody has looked whether there is such a VM.
    Name(&'a str),
    /// By its number ([`VmId`](crate::vcpu::VmId)): digits that do not stand in quotes.
    Id(u16),
}

impl Display for VmRef<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "\"{name}\""),
            Self::Id(number) => write!(f, "{number}"),
        }
    }
}

/// What changes a VM's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table says what each does")]
pub enum Change {
    Start,
    Pause,
    Resume,
    Reset,
    Shutdown,
    Stop,
    Destroy,
}

/// A VM to be made; what is not said is as in `from`, or as by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Create<'a> {
    /// Its name: 1 to 31 letters, digits, `-` and `_`, not digits alone.
    pub name: &'a str,
    /// The VM whose configuration it gets.
    pub from: Option<VmRef<'a>>,
    /// Bytes of RAM.
    pub memory: Option<u64>,
    /// Virtual CPUs, 1 at least.
    pub vcpus: Option<u16>,
    /// The kernel's file in the bundle.
    pub kernel: Option<&'a str>,
    /// The initrd's file in the bundle.
    pub initrd: Option<&'a str>,
    /// The kernel's command line.
    pub cmdline: Option<&'a str>,
    /// It is started at once.
    pub start: bool,
}

/// A command, with all that was said to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table says what each does")]
pub enum Command<'a> {
    List,
    Info(VmRef<'a>),
    Create(Create<'a>),
    Change(Change, VmRef<'a>),
    Console(VmRef<'a>),
    Log(VmRef<'a>),
    Regs(VmRef<'a>),
    Tree(VmRef<'a>),
    Top { once: bool },
    Stats(Option<VmRef<'a>>),
    Mem,
    Cpu,
    Irq,
    Timers,
    Dmesg,
    Version,
    Help(Topic),
    Reboot,
    Poweroff,
}

/// What a line asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What is to be done.
    pub command: Command<'a>,
    /// The answer is to be JSON.
    pub json: bool,
}

/// Of what kind the value of `key=VALUE` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A VM that there is.
    Vm,
    /// Bytes: `256M`.
    Size,
    /// A number from 1.
    Count,
    /// A file of the bundle.
    File,
    /// Any text.
    Text,
}

impl Kind {
    /// What stands for a value in `help`.
    pub fn value(self) -> &'static str {
        match self {
            Self::Vm => "VM",
            Self::Size => "SIZE",
            Self::Count => "N",
            Self::File => "FILE",
            Self::Text => "\"TEXT\"",
        }
    }
}

/// `key=VALUE`.
#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name, without `=`.
    pub name: &'static str,
    /// What its value is.
    pub kind: Kind,
    /// What it does, in a line.
    pub help: &'static str,
}

/// What a command takes. What has no word of its own stands in its place; the others stand anywhere.
#[derive(Debug, PartialEq, Eq)]
pub enum Argument {
    /// A VM that there is.
    Vm,
    /// A VM that there is; or all.
    AnyVm,
    /// The name of a VM that there is not.
    Name,
    /// The words of a command.
    Topic,
    /// `key=VALUE`.
    Key(Key),
    /// A word that is there or not, and what it does.
    Flag(&'static str, &'static str),
}

/// A command in the table.
pub struct Entry {
    /// Its words: `vm list`.
    pub words: &'static [&'static str],
    /// What it takes, in the order in which `help` shows it.
    pub arguments: &'static [Argument],
    /// `--json` may be asked for.
    pub json: bool,
    /// What it does, in a line without a full stop.
    pub help: &'static str,
    /// What else there is to know.
    pub more: &'static str,
    /// Lines that one could type.
    pub examples: &'static [&'static str],
    /// Makes it of what was given; nothing if something is missing.
    pub(super) make: for<'a> fn(&Given<'a>) -> Option<Command<'a>>,
}

/// What this version knows and cannot carry out yet.
const LATER: &[&str] = &[
    "vm create",
    "vm start",
    "vm pause",
    "vm resume",
    "vm reset",
    "vm destroy",
    "vm log",
    "vm tree",
    "top",
    "stats",
    "mem",
    "irq",
    "timers",
    "reboot",
];

impl Entry {
    /// This version knows it and cannot carry it out yet.
    pub fn is_later(&self) -> bool {
        LATER.iter().any(|later| later.split(' ').eq(self.words.iter().copied()))
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.words == other.words
    }
}

impl Eq for Entry {}

/// Its words.
impl Display for Entry {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (n, word) in self.words.iter().enumerate() {
            write!(f, "{}{word}", if n == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// What a line gives to its command.
#[derive(Default)]
pub(super) struct Given<'a> {
    pub(super) vm: Option<VmRef<'a>>,
    pub(super) name: Option<&'a str>,
    pub(super) topic: Topic,
    /// Everything of it but the name.
    pub(super) create: Create<'a>,
    pub(super) once: bool,
}

/// What changes a VM's state has one shape.
macro_rules! change {
    ($word:literal, $change:ident, $help:literal, $more:literal) => {
        Entry {
            words: &["vm", $word],
            arguments: &[Argument::Vm],
            json: false,
            help: $help,
            more: $more,
            examples: &[concat!("vm ", $word, " alpha")],
            make: |given| Some(Command::Change(Change::$change, given.vm?)),
        }
    };
}

/// So has what shows one VM.
macro_rules! look {
    ($word:literal, $command:ident, $help:literal, $more:literal, [$($example:literal),*]) => {
        Entry {
            words: &["vm", $word],
            arguments: &[Argument::Vm],
            json: true,
            help: $help,
            more: $more,
            examples: &[$($example),*],
            make: |given| Some(Command::$command(given.vm?)),
        }
    };
}

/// And so has what shows something of the machine.
macro_rules! show {
    ($word:literal, $command:ident, $help:literal, $more:literal) => {
        Entry {
            words: &[$word],
            arguments: &[],
            json: true,
            help: $help,
            more: $more,
            examples: &[$word],
            make: |_| Some(Command::$command),
        }
    };
}

/// All commands, in the order of `help`. Those of one first word stand together.
pub static COMMANDS: &[Entry] = &[
    Entry {
        words: &["vm", "list"],
        arguments: &[],
        json: true,
        help: "All VMs: number, name, state, vCPUs, memory",
        more: "It is running or stopped. A stopped VM has the reason beside it.",
        examples: &["vm list", "vm list --json"],
        make: |_| Some(Command::List),
    },
    look!(
        "info",
        Info,
        "A VM's state, memory and vCPUs, and where those are",
        "Of a VM that has stopped, the reason in words.",
        ["vm info alpha", "vm info 0 --json"]
    ),
    Entry {
        words: &["vm", "create"],
        arguments: &[
            Argument::Name,
            Argument::Key(Key { name: "from", kind: Kind::Vm, help: "the VM whose configuration it gets" }),
            Argument::Key(Key { name: "memory", kind: Kind::Size, help: "RAM, such as 256M or 1G" }),
            Argument::Key(Key { name: "vcpus", kind: Kind::Count, help: "virtual CPUs" }),
            Argument::Key(Key { name: "kernel", kind: Kind::File, help: "the kernel, a file of the bundle" }),
            Argument::Key(Key { name: "initrd", kind: Kind::File, help: "the initrd, a file of the bundle" }),
            Argument::Key(Key { name: "cmdline", kind: Kind::Text, help: "the kernel's command line" }),
            Argument::Flag("start", "start it as soon as it is made"),
        ],
        json: false,
        help: "Make a VM of files in the bundle",
        more: "Without from=, kernel= has to be given. What is not said is as in the VM of from=, or as it is by \
               default. Names have 1 to 31 letters, digits, - and _, and are not digits alone.",
        examples: &[
            "vm create beta from=alpha start",
            "vm create gamma kernel=Image initrd=initrd.gz memory=256M vcpus=2 cmdline=\"console=ttyAMA0 quiet\"",
        ],
        make: |given| Some(Command::Create(Create { name: given.name?, ..given.create })),
    },
    change!(
        "start",
        Start,
        "Start a VM that was made or has stopped",
        "One that has stopped begins anew: its memory is scrubbed and its images are loaded again."
    ),
    change!(
        "pause",
        Pause,
        "Stop a VM's vCPUs and its time",
        "To the guest no time passes until it is resumed."
    ),
    change!("resume", Resume, "Let a paused VM go on", "Its clock goes on where it stood."),
    change!(
        "reset",
        Reset,
        "Begin a VM anew, as by its reset button",
        "The guest is not asked. Its memory is scrubbed, its images are loaded again, and it starts."
    ),
    change!(
        "shutdown",
        Shutdown,
        "Ask a VM to shut down, as by its power key",
        "The guest decides. If it has not reacted after 30 s, that is said: vm stop does without it."
    ),
    change!(
        "stop",
        Stop,
        "Stop a VM by force, as by pulling its plug",
        "What the guest has not written is lost. When no VM is left that runs, the machine goes off."
    ),
    change!(
        "destroy",
        Destroy,
        "Remove a VM and give back all that it has",
        "A VM that runs is stopped first, by force. Its name is free again afterwards."
    ),
    Entry {
        words: &["vm", "console"],
        arguments: &[Argument::Vm],
        json: false,
        help: "Show a VM's screen and type to it",
        more: "Ctrl-G 0 comes back here. Ctrl-G ? lists all screens.",
        examples: &["vm console alpha"],
        make: |given| Some(Command::Console(given.vm?)),
    },
    look!(
        "log",
        Log,
        "What a VM has put out on its console lately",
        "As much as is kept: mezzanine,console-log in its configuration. Bytes that were dropped are counted.",
        ["vm log alpha"]
    ),
    look!(
        "regs",
        Regs,
        "The registers of a VM's vCPUs",
        "Of those that are off or wait for an interrupt: one that runs, or is about to, has them in its CPU.",
        ["vm regs alpha", "vm regs alpha --json"]
    ),
    look!(
        "tree",
        Tree,
        "The device tree that a VM was given",
        "As source, in the form that dtc reads.",
        ["vm tree alpha"]
    ),
    Entry {
        words: &["top"],
        arguments: &[Argument::Flag("--once", "print it once, instead of until a key is hit")],
        json: true,
        help: "What vCPUs do, again every second",
        more: "For each vCPU: percent of a CPU, percent stolen, exits a second by reason. Any key ends it. --json is \
               printed once.",
        examples: &["top", "top --once", "top --json"],
        make: |given| Some(Command::Top { once: given.once }),
    },
    Entry {
        words: &["stats"],
        arguments: &[Argument::AnyVm],
        json: true,
        help: "Exits by reason, of one VM or all",
        more: "",
        examples: &["stats", "stats alpha --json"],
        make: |given| Some(Command::Stats(given.vm)),
    },
    show!("mem", Mem, "Where the memory is: EL2, tables, VMs, free", "Every page is in one of the lines."),
    show!("cpu", Cpu, "Physical CPUs: vCPUs that each has, and that wait", ""),
    show!("irq", Irq, "Physical interrupts: whose they are, how many", ""),
    show!("timers", Timers, "Software timers that are set", ""),
    Entry {
        words: &["dmesg"],
        arguments: &[],
        json: false,
        help: "Mezzanine's own log, as far as it is kept",
        more: "",
        examples: &["dmesg"],
        make: |_| Some(Command::Dmesg),
    },
    show!("version", Version, "What this is, and its version", ""),
    Entry {
        words: &["help"],
        arguments: &[Argument::Topic],
        json: false,
        help: "All commands, or all about one",
        more: "A VM is called by its name or its number; a name of digits alone has to stand in quotes. What has \
               blanks stands in quotes as well: \"a b\" or 'a b'.",
        examples: &["help", "help vm", "help vm create"],
        make: |given| Some(Command::Help(given.topic)),
    },
    Entry {
        words: &["reboot"],
        arguments: &[],
        json: false,
        help: "Reset the whole machine, with all VMs",
        more: "No guest is asked.",
        examples: &["reboot"],
        make: |_| Some(Command::Reboot),
    },
    Entry {
        words: &["poweroff"],
        arguments: &[],
        json: false,
        help: "Switch the whole machine off, with all VMs",
        more: "No guest is asked.",
        examples: &["poweroff"],
        make: |_| Some(Command::Poweroff),
    },
];
