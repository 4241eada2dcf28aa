//! Judges transcripts: the lines of the guest's script, one by one, and what no transcript may hold.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::run::tail;

/// What a kernel or Mezzanine prints when something went wrong that need not stop the run.
const COMPLAINTS: [&str; 18] = [
    "WARNING:",
    "BUG:",
    "Oops",
    "Call trace",
    "undefined instruction",
    "Internal error",
    "Kernel panic",
    "Unhandled fault",
    "SError",
    "self-detected stall",
    "detected stalls",
    "soft lockup",
    "panicked at",
    "nobody cared",
    "blocked for more than",
    "failed to come online",
    "may not have shut down cleanly",
    "clocksource: timekeeping watchdog",
];

/// What `tour`, the script in the guest's initrd, prints on a sound machine whose CPU has this part number.
const TOUR: &str = "\
one three two
hello from a file
ls: /tmp/a: No such file or directory
exit status 7
1000 999 998
100 processes came and went
pipeline status 0
caught USR1
and went on
killed by TERM: 143
killed by KILL: 137
timeout: 130
killed by SEGV: 139
sleep 1 takes a second: ok
five times 20 ms: ok
monotonic: ok
date: {now}
4088895 bytes
32b004e0f430387b32fdc16b487c4e5fbb689ba8b4eccc20807f318926f2bf4c  -
4227a6765b501c1623bcfe623a7bc9e5  -
gzip and back: same
2daeb1f36095b44b318410b3f4e8b5d989dcc7bb023d1426c492dab0a3053e74  -
266660000.000000
114282857.142857
72725454.545455
cpus: {cpus}
part {part}
timer interrupts: ok
console interrupts: ok
root node names dummy-virt: ok
console: ok
random bytes: ok
GPIO chip: ok
clock chip: ok
psci: PSCIv1.1 detected in firmware";

/// Checks a whole run of `tour`: each of its lines, the way down, and no complaint anywhere.
pub(crate) fn tour(transcript: &str, part: &str, cpus: u32) -> Result<(), String> {
    let expected = TOUR.replace("{part}", part).replace("{cpus}", &cpus.to_string());
    let (begin, end) = ("script tour: begin", "script tour: end, status 0");
    let mut lines = transcript.lines().map(str::trim_end).skip_while(|line| *line != begin).skip(1);
    for (number, wanted) in expected.lines().chain([end]).enumerate() {
        let Some(found) = lines.next() else {
            return Err(format!(
                "the script stopped before its line {}, {wanted:?}\n{}",
                number + 1,
                tail(transcript)
            ));
        };
        let fits = match wanted.strip_suffix("{now}") {
            Some(label) => is_today(found.strip_prefix(label)),
            None => found == wanted,
        };
        if !fits {
            return Err(format!("line {} of the script is {found:?}, not {wanted:?}", number + 1));
        }
    }
    if !transcript.contains("reboot: Power down") {
        return Err(format!("the kernel did not power off in order\n{}", tail(transcript)));
    }
    no_complaints(transcript)
}

/// Checks the runs of `tour` of several guests whose output is in one transcript, each in one piece: that each line
/// is there as often as there are guests.
///
/// Mezzanine's lines are between a guest's, and where they come in the middle of one it goes on behind them: so line
/// ends do not count.
pub(crate) fn tours(transcript: &str, part: &str, cpus: u32, guests: usize) -> Result<(), String> {
    let said: String =
        transcript.lines().filter(|line| !line.starts_with("[mz ")).map(str::trim_end).collect();
    let expected = TOUR.replace("{part}", part).replace("{cpus}", &cpus.to_string()).replace("{now}", "");
    for line in expected.lines().chain(["script tour: end, status 0", "reboot: Power down"]) {
        let found = said.matches(line).count();
        if found < guests {
            return Err(format!("{found} of {guests} guests say {line:?}\n{}", tail(transcript)));
        }
    }
    Ok(())
}

/// Checks that neither the kernel nor Mezzanine complained.
pub(crate) fn no_complaints(transcript: &str) -> Result<(), String> {
    match transcript.lines().find(|line| COMPLAINTS.iter().any(|complaint| line.contains(complaint))) {
        Some(line) => Err(format!("a complaint in the transcript: {line:?}\n{}", tail(transcript))),
        None => Ok(()),
    }
}

/// Whether these seconds since 1970 are within a day of this machine's own clock, which QEMU's clock chip shows.
fn is_today(seconds: Option<&str>) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    seconds.and_then(|text| text.parse::<u64>().ok()).is_some_and(|guest| guest.abs_diff(now) < 86_400)
}

/// The judge judged: a good transcript passes, and each way to spoil it is noticed.
pub(crate) fn judge_itself() -> Result<(), String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    let body = TOUR.replace("{now}", &now.to_string()).replace("{part}", "0xd07").replace("{cpus}", "1");
    let good = format!(
        "booting\r\nscript tour: begin\r\n{body}\r\nscript tour: end, status 0\r\n[ 9.0] reboot: Power down\r\n"
    );
    tour(&good, "0xd07", 1)?;
    let spoiled = [
        ("another CPU", good.replace("0xd07", "0xd08")),
        ("a wrong sum", good.replace("72725454.545455", "72725454.545454")),
        ("a lost line", good.replace("and went on\n", "")),
        ("an extra line", good.replace("and went on\n", "and went on\nand on\n")),
        ("a clock at 1970", good.replace(&now.to_string(), "12")),
        ("no power off", good.replace("reboot: Power down", "")),
        ("an early end", good.replace("script tour: end, status 0", "")),
        ("a failed script", good.replace("status 0\r", "status 1\r")),
        ("a warning", good.replace("booting", "WARNING: CPU: 0 PID: 1")),
        ("nothing", String::new()),
    ];
    match spoiled.iter().find(|(_, transcript)| tour(transcript, "0xd07", 1).is_ok()) {
        Some((name, _)) => Err(format!("the judge does not notice {name}")),
        None => Ok(()),
    }
}
