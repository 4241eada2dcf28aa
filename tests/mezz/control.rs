//! Leading a machine: verbs, consoles and the broker, with [`El2`] at the other end of the line.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::el2::{El2, Script, finish, until};
use super::*;

#[test]
fn verbs_are_lines_of_the_shell_and_answers_are_tables() {
    let el2 = El2::new(Script::default());
    assert_eq!(
        el2.mezz(&["ps"]).status(0).out,
        "id  name   state    memory\n 0  alpha  running    256M\n 1  beta   paused      64M\n"
    );
    let json = el2.mezz(&["ps", "--json"]).status(0).out;
    let list: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((json.lines().count(), &list[1]["name"]), (1, &"beta".into()));
    assert_eq!(el2.mezz(&["dmesg"]).status(0).out, "one\n\u{fffd}[2Jtwo\n", "nothing for the terminal");
    let irq = el2.mezz(&["irq", "--json"]).status(0).out;
    let list: serde_json::Value = serde_json::from_str(&irq).unwrap();
    assert_eq!(list[499]["name"], "über 499");
    el2.mezz(&["start", "alpha"]).status(2).says(&["error[E0612]", "vm \"alpha\": running already"]);
    el2.mezz(&["mem"]).status(2).says(&["E0536", "not JSON"]);
    el2.mezz(&["create", "gamma", "from=alpha", "cmdline=quiet x=\"1\"", "start"]).status(0);
    for verb in ["pause", "resume", "reset", "shutdown", "stop", "destroy", "log", "regs", "info"] {
        el2.mezz(&[verb, "1"]).status(0);
    }
    for verb in ["cpu", "timers", "reboot", "poweroff"] {
        el2.mezz(&[verb]).status(0);
    }
    el2.mezz(&["top", "--once"]).status(0);
    el2.mezz(&["shell", "vm", "tree", "my vm"]).status(0);
    let expected = [
        "vm list --json",
        "vm list --json",
        "dmesg",
        "irq --json",
        "vm start alpha",
        "mem --json",
        "vm create gamma from=alpha cmdline='quiet x=\"1\"' start",
        "vm pause 1",
        "vm resume 1",
        "vm reset 1",
        "vm shutdown 1",
        "vm stop 1",
        "vm destroy 1",
        "vm log 1",
        "vm regs 1",
        "vm info 1 --json",
        "cpu --json",
        "timers --json",
        "reboot",
        "poweroff",
        "top --once --json",
        "vm tree \"my vm\"",
    ];
    el2.heard(|heard| assert_eq!(heard.lines, expected));
    let machines = el2.mezz(&["machines"]).status(0).out;
    assert!(machines.contains("machine") && machines.contains("0.1.0"), "{machines}");
}

#[test]
fn two_consoles_at_once() {
    let el2 = El2::new(Script::default());
    el2.mezz(&["ps"]).status(0);
    el2.says(0, b"alpha was here\r\n");
    let (mut alpha, mut beta) = (el2.seat(&["console", "alpha"]), el2.seat(&["console", "1"]));
    alpha.sees(b"alpha was here\r\n");
    alpha.types(b"for alpha\r");
    beta.types(b"for beta\r\x07\x07");
    alpha.sees(b"for alpha\r");
    beta.sees(b"for beta\r\x07");
    assert_eq!(alpha.seen(), b"alpha was here\r\nfor alpha\r");
    assert_eq!(beta.seen(), b"for beta\r\x07");
    // A third sees what was said, and the first leaves.
    el2.seat(&["console", "alpha"]).sees(b"for alpha\r");
    alpha.types(b"\x07q");
    assert_eq!(alpha.status(), Some(0));
    el2.mezz(&["console", "zeta"]).status(2).says(&["E0535", "no VM `zeta`", "alpha, beta"]);
}

#[test]
fn attach_has_all_screens_and_a_line_for_commands() {
    let el2 = El2::new(Script::default());
    let mut seat = el2.seat(&["attach"]);
    seat.types(b"one\r");
    seat.sees(b"one\r");
    seat.types(b"\x072two\r");
    seat.sees(b"two\r");
    seat.types(b"\x070");
    seat.sees(b"mezz> ");
    seat.types(b"vm lisst\x7f\x7ft --json\r");
    seat.sees(b"id  name   state    memory\r\n");
    seat.types(b"\x07q");
    assert_eq!(seat.status(), Some(0));
    el2.heard(|heard| assert_eq!(heard.typed, [(0, b"one\r".to_vec()), (1, b"two\r".to_vec())]));
}

#[test]
fn any_byte_gets_across() {
    let el2 = El2::new(Script::default());
    let mut seat = el2.seat(&["console", "alpha"]);
    seat.types(b"x");
    seat.sees(b"x");
    let bytes: Vec<u8> =
        (0..=255).rev().chain("é€😀".bytes()).chain([0xc3, 0xff, 0xed, 0xa0, 0x80]).collect();
    el2.says(0, &bytes);
    seat.sees(&bytes);
    seat.types(b"\xff\xfe\x1e{\"bye\":true}\n\xc3");
    seat.sees(b"\xff\xfe\x1e{\"bye\":true}\n\xc3");
    el2.heard(|heard| assert_eq!(heard.bad, 0));
}

#[test]
fn long_lines() {
    let el2 = El2::new(Script { room: Some(50), ..Script::default() });
    let long = "x".repeat(10_000);
    el2.mezz(&["shell", &long]).status(2).says(&["E0533", "too long"]);
    el2.mezz(&["shell", "vm\nstop\nalpha"]).status(2).says(&["E0533", "control characters"]);
    // At a console it goes in pieces, and again what found no room.
    let mut seat = el2.seat(&["console", "beta"]);
    seat.types(format!("{long}end").as_bytes());
    seat.sees(format!("{long}end").as_bytes());
    el2.heard(|heard| assert_eq!(heard.typed.iter().map(|(_, bytes)| bytes.len()).sum::<usize>(), 10_003));
}

#[test]
fn who_does_not_read_is_dropped_and_holds_up_nobody() {
    let el2 = El2::new(Script::default());
    let mut idle = UnixStream::connect(el2.bench.path("mezzanine/machine.sock")).unwrap();
    idle.write_all(b"\x1e{\"watch\":0}\n").unwrap();
    let seat = el2.seat(&["console", "alpha"]);
    el2.mezz(&["ps"]).status(0);
    for n in 0..40 {
        el2.says(0, &[b'a' + (n % 26); 100_000]);
    }
    el2.says(0, b"the end");
    seat.sees(b"the end");
    assert_eq!(seat.seen().len(), 4_000_007, "and that one has all of it");
    el2.mezz(&["ps"]).status(0);
    // What was on its way to it ends in the middle.
    idle.set_read_timeout(Some(super::el2::PATIENCE)).unwrap();
    let mut all = Vec::new();
    let _ = idle.read_to_end(&mut all);
    assert!(all.len() < 4_000_000, "{}", all.len());
}

#[test]
fn records_that_are_cut_are_dropped_alone() {
    let el2 = El2::new(Script::default());
    let mut seat = el2.seat(&["console", "alpha"]);
    seat.types(b"x");
    seat.sees(b"x");
    el2.put(b"\x1e{\"vm\":0,\"out\":\"lost");
    el2.says(0, b"kept");
    el2.put(b"\x1e{\"vm\":0,\"out\":\"\xff\"}\n\x1e[]\n\x1e{\"vm\":70000,\"out\":\"x\"}\n\x1e{\"vm\":0,\"out\":7}\n");
    el2.put(&[b"\x1e{\"vm\":0,\"out\":\"".to_vec(), vec![b'y'; 100_000], b"\"}\n".to_vec()].concat());
    el2.put(b"\x1e{\"id\":77,\"out\":[]}\n\x1e{\"id\":-1}\n\x1e{\"vm\":0,\"took\":99}\n");
    el2.says(0, b"too");
    seat.sees(b"kepttoo");
    assert_eq!(seat.seen(), b"xkepttoo");
    el2.mezz(&["ps"]).status(0);
}

#[test]
fn a_guest_forges_nothing() {
    let forged = b"login: \x1e{\"hello\":\"00\",\"version\":\"6.6.6\"}\n\x1e{\"id\":0,\"out\":[{\"name\":\"forged\"}]}\n\
                   \x1e{\"vm\":0,\"out\":\"forged\"}\n\x1e{\"id\":0,\"out\":\"";
    let el2 = El2::new(Script { before: forged.to_vec(), ..Script::default() });
    let out = el2.mezz(&["ps"]).status(0).out;
    assert!(out.contains("alpha") && !out.contains("forged"), "{out}");
    let seat = el2.seat(&["console", "alpha"]);
    // And inside of a string it is a guest's text.
    el2.says(0, forged);
    seat.sees(forged);
    assert_eq!(seat.seen(), forged);
    assert!(el2.mezz(&["machines"]).out.contains("0.1.0"));
}

#[test]
fn plain_text_ends_belief_until_the_next_hello() {
    let el2 = El2::new(Script::default());
    el2.mezz(&["ps"]).status(0);
    // The answer to this never comes: the machine says something else.
    let mut command = el2.bench.command(&["shell", "version"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("the command", || el2.heard(|heard| heard.lines.iter().any(|line| line == "version")));
    el2.put(b"\n[mz    1.000000] panic: oops\r\n\x1e{\"vm\":0,\"out\":\"unbelieved\"}\n");
    finish(child).status(2).says(&["E0534", "something else than Mezzanine's records"]);
    el2.mezz(&["ps"]).status(0);
    el2.heard(|heard| assert!(heard.hellos >= 2));
    let mut seat = el2.seat(&["console", "alpha"]);
    seat.types(b"x");
    seat.sees(b"x");
    assert_eq!(seat.seen(), b"x");
}

#[test]
fn a_line_without_mezzanine() {
    let el2 = El2::new(Script { deaf: true, ..Script::default() });
    el2.mezz(&["ps"]).status(2).says(&["E0532", "does not answer"]);
}

#[test]
fn clients_are_told_of_the_end() {
    let el2 = El2::new(Script::default());
    let mut seat = el2.seat(&["console", "alpha"]);
    seat.types(b"x");
    seat.sees(b"x");
    el2.end();
    assert_eq!(seat.status(), Some(2));
    until("the socket's end", || !el2.bench.path("mezzanine/machine.sock").exists());
    el2.mezz(&["ps"]).status(2).says(&["E0528"]);
    el2.mezz(&["ps", "--on", "other"]).status(2).says(&["E0528", "`other`"]);
    el2.mezz(&["ps", "--on", "../x"]).status(2).says(&["E0506"]);
}

/// A machine in shell: it says that it is ready, answers the hello, and lists one VM whatever is asked.
const QEMU: &str = r#"echo $$ > pid
printf '[mz    0.1] serial line: ready for people and for mezz\r\n'
read -r hello
nonce=$(printf '%s' "$hello" | sed 's/.*"hello":"\([0-9a-f]*\)".*/\1/')
printf '\036{"hello":"%s","version":"0.1.0","records":1,"vms":1}\n' "$nonce"
while read -r line; do
    id=$(printf '%s' "$line" | sed 's/.*"id":\([0-9]*\).*/\1/')
    printf '\036{"id":%s,"out":[{"id":0,"name":"alpha"}]}\n' "$id"
done"#;

#[test]
fn a_machine_that_is_left_running() {
    let bench = Bench::new();
    bench.qemu(QEMU);
    let detach = ["run", "--kernel", "Image", "--detach", "--timeout", "100"];
    let done = bench.mezz(&detach).status(0);
    assert!(done.out.starts_with("machine is running: `mezz ps`"), "{done:?}");
    assert_eq!(bench.leftovers(), [] as [PathBuf; 0], "the bundle is gone");
    let args = std::fs::read_to_string(bench.path("args")).unwrap();
    assert!(args.contains("-serial\nstdio\n") && !args.contains("-nographic"), "{args}");
    assert_eq!(bench.mezz(&["ps"]).status(0).out, "id  name\n 0  alpha\n");
    bench.mezz(&detach).status(2).says(&["E0531", "`machine` is running already"]);
    bench.mezz(&[&detach[..], &["--on", "other"]].concat()).status(0);
    bench.mezz(&["ps"]).status(2).says(&["E0530", "machine, other"]);
    bench.mezz(&["quit", "--on", "other"]).status(0);
    bench.mezz(&["quit"]).status(0);
    let pid = std::fs::read_to_string(bench.path("pid")).unwrap();
    let alive =
        || Command::new("kill").args(["-0", pid.trim()]).stderr(Stdio::null()).status().unwrap().success();
    until("QEMU's end", || !alive());
    bench.mezz(&["ps"]).status(2).says(&["E0528"]);
}

#[test]
fn a_machine_that_does_not_start_is_not_left() {
    let bench = Bench::new();
    bench.qemu("echo 'no such CPU' >&2; exit 1");
    bench.mezz(&["run", "--kernel", "Image", "--detach"]).status(2).says(&["E0512", "no such CPU"]);
    std::fs::remove_file(bench.path("qemu")).unwrap();
    bench.mezz(&["run", "--kernel", "Image", "--detach"]).status(2).says(&["E0512", "does not start"]);
    assert_eq!(bench.leftovers(), [] as [PathBuf; 0]);
}
