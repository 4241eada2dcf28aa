//! The table, the parser, help and Tab.

use crate::shell::complete::{Names, candidates, complete};
use crate::shell::mistake::MOST_WORDS;
use crate::shell::{Argument, COMMANDS, Change, Command, Create, LONGEST, Request, Topic, VmRef, parse};
use proptest::prelude::*;

/// What a line asks for, without `--json`.
fn command(line: &str) -> Command<'_> {
    let Request { command, json } = parse(line).unwrap().unwrap();
    assert!(!json, "{line}");
    command
}

fn mistake(line: &str) -> String {
    parse(line).unwrap_err().to_string()
}

#[test]
fn every_example_is_a_line_of_its_command() {
    for entry in COMMANDS {
        assert!(!entry.examples.is_empty(), "{entry}");
        for example in entry.examples {
            assert!(example.starts_with(&entry.to_string()), "{entry}: {example}");
            let request = parse(example).unwrap_or_else(|mistake| panic!("{example}: {mistake}"));
            assert_eq!(request.unwrap().json, example.ends_with("--json"));
        }
    }
}

#[test]
fn the_table_is_sound() {
    let mut firsts: Vec<&str> = COMMANDS.iter().map(|entry| entry.words[0]).collect();
    firsts.dedup();
    let together = firsts.len();
    firsts.sort_unstable();
    firsts.dedup();
    assert_eq!(firsts.len(), together, "commands of one first word stand together");
    assert!(COMMANDS.len() + firsts.len() < MOST_WORDS);
    for entry in COMMANDS {
        assert!(matches!(entry.words.len(), 1 | 2), "{entry}");
        assert!(
            !entry.help.ends_with('.') && (entry.more.is_empty() || entry.more.ends_with('.')),
            "{entry}"
        );
        assert!(entry.more.is_ascii() && entry.help.is_ascii());
        assert_eq!(COMMANDS.iter().filter(|other| other.words == entry.words).count(), 1, "{entry}");
        // What has to be there stands first: the parser names it.
        let needed = entry.arguments.iter().position(|a| matches!(a, Argument::Vm | Argument::Name));
        assert!(matches!(needed, None | Some(0)), "{entry}");
        assert_eq!(parse(&entry.to_string()).is_err(), needed.is_some(), "{entry}");
        assert_eq!(
            parse(&format!("{entry} alpha --json")).is_ok(),
            entry.json && !entry.arguments.is_empty() && !matches!(entry.arguments[0], Argument::Flag(..)),
            "{entry}"
        );
    }
}

#[test]
fn lines_become_commands() {
    assert_eq!(parse(""), Ok(None));
    assert_eq!(parse("  \t"), Ok(None));
    assert_eq!(command("vm list"), Command::List);
    assert_eq!(command(" vm\tinfo  alpha "), Command::Info(VmRef::Name("alpha")));
    assert_eq!(command("vm info 3"), Command::Info(VmRef::Id(3)));
    assert_eq!(command("vm info 007"), Command::Info(VmRef::Id(7)));
    assert_eq!(command("vm info \"3\""), Command::Info(VmRef::Name("3")));
    assert_eq!(command("vm info 3a"), Command::Info(VmRef::Name("3a")));
    for (word, change) in [
        ("start", Change::Start),
        ("pause", Change::Pause),
        ("resume", Change::Resume),
        ("reset", Change::Reset),
        ("shutdown", Change::Shutdown),
        ("stop", Change::Stop),
        ("destroy", Change::Destroy),
    ] {
        assert_eq!(command(&format!("vm {word} a")), Command::Change(change, VmRef::Name("a")));
    }
    assert_eq!(command("top"), Command::Top { once: false });
    assert_eq!(command("top --once"), Command::Top { once: true });
    assert_eq!(command("stats"), Command::Stats(None));
    assert_eq!(command("stats 1"), Command::Stats(Some(VmRef::Id(1))));
    for line in ["--json vm list", "vm --json list"] {
        assert!(mistake(line).starts_with("E0603"), "{line}");
    }
    assert_eq!(parse("stats --json 1"), parse("stats 1 --json"));
    assert_eq!(parse("mem --json"), Ok(Some(Request { command: Command::Mem, json: true })));
}

#[test]
fn a_vm_is_made_of_what_is_said() {
    assert_eq!(command("vm create beta"), Command::Create(Create { name: "beta", ..Create::default() }));
    let all = "vm create memory=256M b-1 vcpus=2 from=alpha kernel=Image initrd=\"my initrd\" \
               cmdline='root=/dev/vda dyndbg=\"file a +p\"' start";
    assert_eq!(
        command(all),
        Command::Create(Create {
            name: "b-1",
            from: Some(VmRef::Name("alpha")),
            memory: Some(256 << 20),
            vcpus: Some(2),
            kernel: Some("Image"),
            initrd: Some("my initrd"),
            cmdline: Some("root=/dev/vda dyndbg=\"file a +p\""),
            start: true,
        })
    );
    let Command::Create(create) = command("vm create b from=0 cmdline=\"\"") else { panic!() };
    assert_eq!((create.from, create.cmdline), (Some(VmRef::Id(0)), Some("")));
    // A word in quotes is no option.
    assert_eq!(
        command("vm create \"start\""),
        Command::Create(Create { name: "start", ..Create::default() })
    );
}

#[test]
fn mistakes_say_where_what_and_what_would_be_right() {
    let known = "Known are: vm, top, stats, mem, cpu, irq, timers, dmesg, version, help, reboot, poweroff.";
    for (line, text) in [
        ("vm strat a", "E0603 character 4: there is no \"strat\" behind vm. Did you mean \"vm start\"?"),
        ("vm top", "E0603 character 4: there is no \"top\" behind vm. Did you mean \"top\"?"),
        (
            "vm",
            "E0603 character 3: vm needs a second word. Known are: list, info, create, start, pause, resume, reset, \
             shutdown, stop, destroy, console, log, regs, tree.",
        ),
        (" list", "E0603 character 2: there is no command \"list\". Did you mean \"vm list\"?"),
        ("vmm", "E0603 character 1: there is no command \"vmm\". Did you mean \"vm\"?"),
        ("dmsg", "E0603 character 1: there is no command \"dmsg\". Did you mean \"dmesg\"?"),
        ("vm info", "E0604 character 8: vm info needs a VM. Name one: vm info VM [--json]."),
        ("vm stop  ", "E0604 character 8: vm stop needs a VM. Name one: vm stop VM."),
        ("vm info a b", "E0605 character 11: \"b\" is too many for vm info. It is vm info VM [--json]."),
        ("mem all", "E0605 character 5: \"all\" is too many for mem. It is mem [--json]."),
        ("vm info a --jsn", "E0606 character 11: vm info has no option \"--jsn\". Did you mean \"--json\"?"),
        ("vm stop a --json", "E0606 character 11: vm stop has no option \"--json\". It takes none."),
        (
            "vm create é mem=1",
            "E0608 character 11: \"é\" is no name for a VM. Use 1 to 31 letters, digits, - and _, and not digits \
             alone.",
        ),
        (
            "vm create e mmory=1",
            "E0606 character 13: vm create has no option \"mmory\". Did you mean \"memory\"?",
        ),
        ("vm list --json --json", "E0607 character 16: \"--json\" is given twice. Give it once."),
        ("vm create a start start", "E0607 character 19: \"start\" is given twice. Give it once."),
        ("vm create a vcpus=1 vcpus=2", "E0607 character 21: \"vcpus\" is given twice. Give it once."),
        ("vm create a vcpus=0", "E0608 character 13: vcpus cannot be \"0\". Give a number, such as 2."),
        ("vm create a memory=", "E0608 character 13: memory cannot be \"\". Give a size such as 256M or 1G."),
        (
            "vm create a kernel=\"\"",
            "E0608 character 13: kernel cannot be \"\". Give the name of a file in the bundle.",
        ),
        (
            "vm info 70000",
            "E0608 character 9: \"70000\" is no VM's name or number. vm list has them; a name of digits alone stands \
             in quotes.",
        ),
        ("vm info \"a", "E0602 character 9: a quote has no partner. Add one like it at the end of its word."),
    ] {
        assert_eq!(mistake(line), text, "{line}");
        assert_eq!(parse(line).unwrap_err().problem().to_string(), text);
        assert_eq!(parse(line).unwrap_err().code(), &text[..5]);
    }
    assert_eq!(mistake("zebra"), format!("E0603 character 1: there is no command \"zebra\". {known}"));
    assert!(
        mistake("vm create a cmdline=x\"y\"")
            .starts_with("E0602 character 22: a quote in the midst of a word.")
    );
    for line in ["vm create 12", "vm create \"\"", "vm create a=b", &format!("vm create {}", "a".repeat(32))]
    {
        let code = if line.contains('=') { "E0606" } else { "E0608" };
        assert_eq!(parse(line).unwrap_err().code(), code, "{line}");
    }
}

#[test]
fn what_is_said_again_is_short_and_nothing_that_a_terminal_obeys() {
    let line = format!("\x1b[2J{}", "x".repeat(100));
    let text = mistake(&line);
    assert!(text.starts_with(&format!(
        "E0603 character 1: there is no command \"\u{fffd}[2J{}...\".",
        "x".repeat(36)
    )));
    let long = "a ".repeat(LONGEST / 2);
    assert_eq!(parse(&long).unwrap_err().code(), "E0603");
    assert_eq!(
        mistake(&format!("{long} ")),
        "E0601 character 1: the line has more than 1024 bytes. Nothing was done; give less of it."
    );
}

#[test]
fn help_is_about_all_or_one() {
    assert_eq!(command("help"), Command::Help(Topic::All));
    assert_eq!(command("help vm"), Command::Help(Topic::Group("vm")));
    let create = COMMANDS.iter().find(|entry| entry.words == ["vm", "create"]).unwrap();
    for line in ["help vm create", "help create"] {
        assert_eq!(command(line), Command::Help(Topic::One(create)));
    }
    assert_eq!(mistake("help tpo"), "E0603 character 6: there is no command \"tpo\". Did you mean \"top\"?");
    assert_eq!(parse("help vm tpo").unwrap_err().code(), "E0603");
    assert_eq!(parse("help top top").unwrap_err().code(), "E0605");
    let all = Topic::All.to_string();
    assert!(all.starts_with("vm list                 All VMs: "), "{all}");
    assert!(all.contains("\nvm create NAME ...      Make a VM"), "{all}");
    assert_eq!(
        Topic::One(create).to_string(),
        "vm create NAME [from=VM] [memory=SIZE] [vcpus=N] [kernel=FILE] [initrd=FILE] [cmdline=\"TEXT\"] [start]
Make a VM of files in the bundle
Not in this version yet.
Without from=, kernel= has to be given. What is not said is as in the VM of
from=, or as it is by default. Names have 1 to 31 letters, digits, - and _,
and are not digits alone.
  from=VM               the VM whose configuration it gets
  memory=SIZE           RAM, such as 256M or 1G
  vcpus=N               virtual CPUs
  kernel=FILE           the kernel, a file of the bundle
  initrd=FILE           the initrd, a file of the bundle
  cmdline=\"TEXT\"        the kernel's command line
  start                 start it as soon as it is made
  > vm create beta from=alpha start
  > vm create gamma kernel=Image initrd=initrd.gz memory=256M vcpus=2 cmdline=\"console=ttyAMA0 quiet\"
"
    );
    for entry in COMMANDS {
        let text = Topic::One(entry).to_string();
        for line in all
            .lines()
            .chain(text.lines())
            .filter(|line| !line.contains("vm create") || line.contains("Make"))
        {
            assert!(line.len() < 80, "{line}");
        }
    }
}

/// The commands as docs/shell.md has them.
fn manual() -> String {
    let mut text = String::new();
    for entry in COMMANDS {
        let help = Topic::One(entry).to_string();
        let mut lines = help.lines();
        let usage = lines.next().unwrap();
        let options = lines.clone().filter_map(|line| line.strip_prefix("  ")?.split_once("  "));
        text += &format!("### {entry}\n\n```\n{usage}\n```\n\n{}.", entry.help);
        text += if entry.is_later() { " **Not in this version yet.**" } else { "" };
        if !entry.more.is_empty() {
            text += &format!(" {}", entry.more);
        }
        text += "\n\n";
        let mut head = "| option | what it does |\n|---|---|\n";
        for (option, help) in options {
            text += &format!("{}| `{option}` | {} |\n", std::mem::take(&mut head), help.trim_start());
        }
        text += if head.is_empty() { "\n```\n" } else { "```\n" };
        text.extend(entry.examples.iter().flat_map(|example| ["mz> ", example, "\n"]));
        text += "```\n\n";
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

#[test]
fn the_manual_is_made_of_the_table() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/shell.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (by_hand, _) = document.split_once("\n## Commands\n").unwrap();
    let expected = format!("{by_hand}\n## Commands\n\n{}", manual());
    if std::env::var_os("MEZZ_BLESS").is_some() {
        std::fs::write(path, &expected).unwrap();
        return;
    }
    assert_eq!(document, expected, "MEZZ_BLESS=1 writes it anew");
}

/// What a machine has.
pub(super) struct Have(pub(super) &'static [&'static str], pub(super) &'static [&'static str]);

impl Names for Have {
    fn vms(&self, each: &mut dyn FnMut(&str)) {
        self.0.iter().for_each(|name| each(name));
    }

    fn files(&self, each: &mut dyn FnMut(&str)) {
        self.1.iter().for_each(|name| each(name));
    }
}

const HAVE: Have = Have(&["alpha", "alpine", "beta", "12"], &["Image", "my initrd"]);

/// What Tab puts in, and what could come.
fn tab(before: &str) -> (String, String) {
    let mut all = Vec::new();
    candidates(before, &HAVE, &mut |word| all.push(word.to_string()));
    let done = complete(before, &HAVE);
    assert_eq!(done.matches, all.len(), "{before}");
    (done.insert.to_string(), all.join(" "))
}

#[test]
fn tab_knows_what_comes() {
    for (before, insert, words) in [
        ("", "", "vm top stats mem cpu irq timers dmesg version help reboot poweroff"),
        ("t", "", "top timers"),
        ("ti", "mers ", "timers"),
        ("vm", " ", "vm"),
        ("vm re", "", "resume reset regs"),
        ("vm r", "e", "resume reset regs"),
        ("vm lis", "t ", "list"),
        ("vm info ", "", "alpha alpine beta"),
        ("vm info a", "lp", "alpha alpine"),
        ("vm info b", "eta ", "beta"),
        ("vm info \"1", "2\" ", "12"),
        ("vm info beta ", "--json ", "--json"),
        ("vm info beta --json ", "", ""),
        ("vm info --json ", "", "alpha alpine beta"),
        ("vm create ", "", ""),
        ("vm create x ", "", "from= memory= vcpus= kernel= initrd= cmdline= start"),
        ("vm create x f", "rom=", "from="),
        ("vm create x from=b", "eta ", "beta"),
        ("vm create x from=beta f", "", ""),
        ("vm create x memory=", "", ""),
        ("vm create x kernel=", "Image ", "Image"),
        ("vm create x initrd=\"my", " initrd\" ", "my initrd"),
        ("vm create x start s", "", ""),
        ("vm start beta ", "", ""),
        ("stats ", "", "alpha alpine beta --json"),
        ("top ", "--", "--once --json"),
        ("help v", "", "vm version"),
        ("help vm sta", "rt ", "start"),
        ("help top ", "", ""),
        ("nothing ", "", ""),
        ("vm nothing ", "", ""),
        ("vm info \"beta\"", "", ""),
        ("a\"b", "", ""),
    ] {
        assert_eq!(tab(before), (insert.to_string(), words.to_string()), "{before}");
    }
}

#[test]
fn what_tab_makes_whole_is_read() {
    let mut lines = vec![String::new()];
    let mut seen = 0;
    while let Some(line) = lines.pop() {
        candidates(&line, &HAVE, &mut |word| {
            let typed = line.rsplit([' ']).next().unwrap();
            let next = format!("{}{word}", &line[..line.len() - typed.len()]);
            seen += 1;
            match parse(&next) {
                Ok(request) => assert!(request.is_some()),
                Err(mistake) => assert!(
                    ["E0603", "E0604"].contains(&mistake.code()) && next == "vm"
                        || mistake.code() == "E0604" && next.starts_with("vm "),
                    "{mistake}"
                ),
            }
            if next.matches(' ').count() < 4 {
                lines.push(format!("{next} "));
            }
        });
    }
    assert!(seen > 50, "{seen}");
}

proptest! {
    #[test]
    fn anything_is_a_request_or_a_mistake(line in any::<String>(), words in r#"(vm|top|help|stats|create|[a-z]{0,3}|[ "'=0-9é-]){0,12}"#) {
        for line in [line, words] {
            if let Err(mistake) = parse(&line) {
                let text = mistake.to_string();
                prop_assert!(text.starts_with("E06") && text.len() < 400 && !text.contains(char::is_control));
                prop_assert_eq!(text, mistake.problem().to_string());
            }
            let done = complete(&line, &HAVE);
            prop_assert!(done.insert.is_empty() || done.matches > 0);
        }
    }

    /// Names and texts come through as they are, whatever they are, if they stand in quotes that they have not.
    #[test]
    fn what_stands_in_quotes_comes_through(text in "[^\"]{0,60}") {
        let line = format!("vm create a cmdline=\"{text}\" start");
        let Command::Create(create) = command(&line) else { panic!() };
        prop_assert_eq!((create.cmdline, create.start), (Some(&*text), true));
    }
}
