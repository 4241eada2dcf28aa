//! A kernel's log with its levels, and the warnings that one log has and another lacks.

use crate::run::tail;

/// The first line of what the initrd's script `log` prints, and the last.
const BEGIN: &str = "kernel log: begin";
const END: &str = "kernel log: end";

/// KERN_WARNING: this level and the lower ones are warnings and errors.
const WARNING: u32 = 4;

/// Warnings about how long something took: what they tell is how busy the host was.
const OF_SPEED: [&str; 5] = [
    "hrtimer: interrupt took ",
    "hogged CPU for >",
    "sched: RT throttling activated",
    "sched: DL replenish lagged too much",
    "clocksource: Long readout interval",
];

/// The log's lines, as `dmesg -r` prints them, out of a transcript.
pub(crate) fn of_transcript(transcript: &str) -> Result<String, String> {
    let mut lines = transcript.lines().map(str::trim_end).skip_while(|line| *line != BEGIN).skip(1);
    let mut log = String::new();
    for line in &mut lines {
        if line == END {
            return Ok(log);
        }
        log.push_str(line);
        log.push('\n');
    }
    Err(format!("the kernel's log is not whole\n{}", tail(transcript)))
}

/// What is warned of in `log` more often than in `known`, one line each.
pub(crate) fn new_warnings(log: &str, known: &str) -> Result<Vec<String>, String> {
    let mut known = warnings(known)?;
    let mut new = warnings(log)?;
    new.retain(|line| match known.iter().position(|known| known == line) {
        Some(place) => {
            known.remove(place);
            false
        }
        None => !OF_SPEED.iter().any(|speed| line.contains(speed)),
    });
    Ok(new)
}

/// The warnings and errors of a log, each without what differs from boot to boot.
fn warnings(log: &str) -> Result<Vec<String>, String> {
    let mut warnings = Vec::new();
    let mut level = None;
    let mut count = 0;
    for line in log.lines() {
        // A line without a level goes on with the message before it.
        let (own, text) = split(line).map_or((level, line), |(own, text)| (Some(own), text));
        level = own;
        count += 1;
        if level.is_some_and(|level| level <= WARNING) {
            warnings.push(normalised(text));
        }
    }
    // A log that lost its beginning, or its levels, would hide what it should show.
    match log.contains("Booting Linux on physical CPU") && level.is_some() {
        true => Ok(warnings),
        false => Err(format!("{count} lines that are no kernel's log\n{}", tail(log))),
    }
}

/// Level and text of `<4>[    1.234567] text`. The number holds the facility too, from bit 3 on.
fn split(line: &str) -> Option<(u32, &str)> {
    let (number, rest) = line.strip_prefix('<')?.split_once('>')?;
    let (_, text) = rest.strip_prefix('[')?.split_once("] ")?;
    Some((number.parse::<u32>().ok()? & 7, text))
}

/// Without addresses and other long numbers in hexadecimal.
fn normalised(text: &str) -> String {
    let mut out = String::new();
    for piece in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let word = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let digits = word.strip_prefix("0x").unwrap_or(word);
        let long = digits.len() >= 8 || digits.len() < word.len();
        match long && !digits.is_empty() && digits.chars().all(|c| c.is_ascii_hexdigit()) {
            true => out.push_str(&piece.replacen(word, "#", 1)),
            false => out.push_str(piece),
        }
    }
    out
}

/// The comparison compared: what it must see, and what it must not.
pub(crate) fn check() -> Result<(), String> {
    let known = "<6>[    0.000000] Booting Linux on physical CPU 0x0000000000 [0x410fd083]\n\
        <4>[    0.100000] pcie: window at 4010000000 too large\n\
        <12>[    3.000000] init: started\n<6>[    4.000000] last\n";
    let transcript =
        format!("x\r\n{BEGIN}\r\n{}{END}\r\nalpha:/# \r\n{BEGIN}\r\n", known.replace('\n', "\r\n"));
    if of_transcript(&transcript)? != known || of_transcript(&transcript.replace(END, "")).is_ok() {
        return Err("a log is not found in its transcript, or found without its end".to_owned());
    }
    let with = |line: &str| format!("{known}{line}\n");
    let cases = [
        ("nothing more", known.to_owned(), 0),
        ("other addresses", known.replace("4010000000", "3f10000000").replace("0.1000", "0.2345"), 0),
        ("fewer", known.replace("<4>", "<6>"), 0),
        ("information", with("<6>[    5.000000] arch_timer: fine"), 0),
        ("a busy host", with("<4>[    5.000000] hrtimer: interrupt took 123456 ns"), 0),
        ("a warning", with("<4>[    5.000000] arch_timer: odd"), 1),
        ("an error", with("<3>[    5.000000] arch_timer: bad"), 1),
        ("a warning from outside the kernel", with("<12>[    5.000000] arch_timer: odd"), 1),
        ("a warning once more", with("<4>[    0.300000] pcie: window at 4010000000 too large"), 1),
        ("another number", known.replace("0.100000] pcie:", "0.100000] pcie 1:"), 1),
        ("a message of two lines", with("<4>[    5.000000] one\ntwo"), 2),
    ];
    for (name, log, wanted) in cases {
        let found = new_warnings(&log, known)?;
        if found.len() != wanted {
            return Err(format!("{name}: {found:?}, not {wanted}"));
        }
    }
    match new_warnings("alpha:/# \n", known).or_else(|_| new_warnings("", known)) {
        Ok(_) => Err("a log that is none has no warnings".to_owned()),
        Err(_) => Ok(()),
    }
}
