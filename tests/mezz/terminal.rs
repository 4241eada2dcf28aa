//! The person's terminal, by util-linux's `script`, which provides one.

use std::io::Read;

use super::*;

/// Runs shell lines on a terminal of their own; types `input` once `ready` has been printed.
fn on_a_terminal(bench: &Bench, shell: &str, input: &[u8]) -> String {
    let mut command = Command::new("script");
    command.args(["-q", "-e", "-c", shell, "/dev/null"]).current_dir(bench.directory.path());
    command.env("MEZZ_QEMU", bench.path("qemu")).env("MEZZ", env!("CARGO_BIN_EXE_mezz"));
    command.env("TMPDIR", bench.directory.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Stays open until the end: `script` takes its end for the person's.
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut text = Vec::new();
    let mut typed = input.is_empty();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stdout.read(&mut buffer) {
        text.extend_from_slice(&buffer[..count]);
        if !typed && String::from_utf8_lossy(&text).contains("ready") {
            stdin.write_all(input).unwrap();
            typed = true;
        }
    }
    child.wait().unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

#[track_caller]
fn same_modes(bench: &Bench, text: &str) {
    let modes =
        |name| std::fs::read_to_string(bench.path(name)).unwrap_or_else(|_| panic!("no {name}: {text}"));
    assert_eq!(modes("before"), modes("after"), "{text}");
    assert_ne!(modes("before"), modes("during"), "it was never raw: {text}");
}

#[test]
fn raw_while_it_runs_and_restored_after() {
    if !have("script") {
        return;
    }
    let shell = |how: &str| format!("stty -g > before; {how}; echo status=$?; stty -g > after");
    let run = "\"$MEZZ\" run --kernel Image";
    for (qemu, how, status) in [
        ("echo '[mz    0.1] halt: ok'", run.to_owned(), 0),
        ("kill -KILL $$", run.to_owned(), 1),
        ("exec sleep 1000", format!("{run} --timeout 1"), 124),
        ("kill -TERM $PPID; exec sleep 1000", run.to_owned(), 143),
    ] {
        let bench = Bench::new();
        bench.qemu(&format!("stty -g < /dev/tty > during; {qemu}"));
        let text = on_a_terminal(&bench, &shell(&how), b"");
        assert!(text.contains(&format!("status={status}")), "{text}");
        same_modes(&bench, &text);
    }
}

#[test]
fn keys_go_to_the_guest() {
    if !have("script") {
        return;
    }
    let bench = Bench::new();
    // Ctrl-C, Ctrl-Z, Ctrl-D, Ctrl-\, Ctrl-Q, Ctrl-S and Return, none of which the terminal may keep.
    bench.qemu("echo ready; head -c 7 | od -An -tx1 > keys; echo '[mz    0.1] halt: ok'");
    let text =
        on_a_terminal(&bench, "\"$MEZZ\" run --kernel Image; echo status=$?", b"\x03\x1a\x04\x1c\x11\x13\r");
    assert!(text.contains("status=0"), "{text}");
    let keys = std::fs::read_to_string(bench.path("keys")).unwrap();
    assert_eq!(keys.trim(), "03 1a 04 1c 11 13 0d");
}
