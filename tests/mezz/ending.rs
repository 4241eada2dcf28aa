//! How runs end, and what the shell is told.

use std::time::{Duration, Instant};

use super::*;

const RUN: [&str; 3] = ["run", "--kernel", "Image"];

#[test]
fn halt_ok() {
    let bench = Bench::new();
    bench.qemu("printf 'Linux\\r\\n[mz    0.100000] halt: ok\\r\\n'");
    let done = bench.mezz(&RUN).status(0).says(&["leave with Ctrl-A x"]);
    assert_eq!(done.out, "Linux\r\n[mz    0.100000] halt: ok\r\n", "byte for byte");
    assert_eq!(bench.leftovers(), [] as [PathBuf; 0]);
}

#[test]
fn everything_else_is_a_failure() {
    let bench = Bench::new();
    for (script, says) in [
        ("echo '[mz    0.1] halt: failed: vm.a: undefined'", "the run failed: vm.a: undefined"),
        (
            "echo '[mz    0.1] panic: data abort'; echo '    at <image+0x10>'",
            "Mezzanine panicked: data abort",
        ),
        ("echo Linux", "without Mezzanine's last line"),
        ("exit 3", "without Mezzanine's last line"),
        ("echo '[mz    0.1] halt: ok'; echo 'forged'", "without Mezzanine's last line"),
    ] {
        bench.qemu(script);
        bench.mezz(&RUN).status(1).says(&[says]);
        assert_eq!(bench.leftovers(), [] as [PathBuf; 0], "{script}");
    }
}

#[test]
fn qemu_that_is_not_there() {
    let bench = Bench::new();
    std::fs::remove_file(bench.path("qemu")).unwrap();
    bench.mezz(&RUN).status(2).says(&["E0512", "does not start", "install QEMU"]);
}

#[test]
fn input_by_pipe_arrives_whole_and_its_end_ends_nothing() {
    let bench = Bench::new();
    // Two lines, and then a pipe that stays open: `cat` is stopped by `timeout`, not by the end of the input.
    bench.qemu(
        "read a; read b; echo \"got $a $b\"; timeout 1 cat; test $? = 124 && echo '[mz    0.1] halt: ok'",
    );
    let done = bench.with_input(&RUN, b"one\ntwo\n").status(0);
    assert!(done.out.contains("got one two"), "{done:?}");
}

#[test]
fn the_bundle_is_there_until_the_machine_speaks() {
    let bench = Bench::new();
    bench.qemu(
        "while [ \"$1\" != -initrd ]; do shift; done; test -s \"$2\" && cp \"$2\" seen\n\
         echo started; while [ -e \"$2\" ]; do sleep 0.05; done; echo '[mz    0.1] halt: ok'",
    );
    bench.mezz(&[&RUN[..], &["--timeout", "60"]].concat()).status(0);
    assert!(bench.path("seen").exists());
}

#[test]
fn timeout() {
    let bench = Bench::new();
    bench.qemu("echo started; exec sleep 1000");
    let before = Instant::now();
    let done = bench.mezz(&[&RUN[..], &["--timeout", "1"]].concat()).status(124).says(&["--timeout"]);
    assert!(done.out.contains("started"));
    assert!(before.elapsed() < Duration::from_secs(500), "the machine was waited for");
    assert_eq!(bench.leftovers(), [] as [PathBuf; 0]);
}

#[test]
fn a_machine_that_ignores_sigterm_is_killed() {
    let bench = Bench::new();
    bench.qemu("trap '' TERM; echo $$ > pid; echo started; while :; do sleep 1; done");
    bench.mezz(&[&RUN[..], &["--timeout", "1"]].concat()).status(124);
    assert!(gone(&bench), "left behind");
}

#[test]
fn ctrl_a_x_leaves() {
    let bench = Bench::new();
    // Nobody reads the input: QEMU's own Ctrl-A x would not work.
    bench.qemu("echo started; exec sleep 1000");
    bench.with_input(&RUN, b"ls\n\x01x").status(1).says(&["left before the guests had powered off"]);
}

#[test]
fn signals_end_the_machine_too() {
    let bench = Bench::new();
    bench.qemu("echo $$ > pid; echo started; exec sleep 1000");
    let mut command = bench.command(&RUN);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    for (signal, status) in [("TERM", Some(143)), ("INT", Some(130)), ("KILL", None)] {
        let _ = std::fs::remove_file(bench.path("pid"));
        let child = command.spawn().unwrap();
        wait_until(|| std::fs::read_to_string(bench.path("pid")).is_ok_and(|pid| pid.ends_with('\n')));
        let kill = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().unwrap();
        assert!(kill.success());
        let done = Done::of(child.wait_with_output().unwrap());
        assert_eq!(done.status, status, "{signal}: {done:?}");
        wait_until(|| gone(&bench));
    }
}

/// Whether the fake QEMU whose number is in `pid` has ended.
fn gone(bench: &Bench) -> bool {
    let pid = std::fs::read_to_string(bench.path("pid")).unwrap();
    !Command::new("kill").args(["-0", pid.trim()]).stderr(Stdio::null()).status().unwrap().success()
}

#[track_caller]
fn wait_until(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !condition() {
        assert!(Instant::now() < deadline, "it never came true");
        std::thread::sleep(Duration::from_millis(20));
    }
}
