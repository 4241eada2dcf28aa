//! Watches what comes out of the machine for Mezzanine's own lines.
//!
//! Its lines read `[mz    0.012345] text`; the last of a run is `halt: ok` or `halt: failed: REASON`, or there is a
//! `panic: REASON`. A guest writes to the same console, so it can print such a line too. Hence a halt
//! counts only as the very last line: a guest that goes on running cannot have forged it, and one that
//! powers off is followed by the real one.

/// How a run ended, by its transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All guests powered off.
    Ok,
    /// Mezzanine gave up, with its reason.
    Failed(String),
    /// Mezzanine had a bug, with what it said.
    Panic(String),
    /// The machine went away without a word.
    Silent,
}

/// A longer line is a guest's; the rest of it is passed over.
const LONGEST_LINE: usize = 1024;
/// As much of a panic's report as is kept for symbolizing.
const LONGEST_PANIC: usize = 64 << 10;

/// Reads bytes as they come.
#[derive(Debug, Default)]
pub(crate) struct Watcher {
    line: Vec<u8>,
    /// The last line that was not blank, when it was a halt.
    halt: Option<Verdict>,
    panic: Option<(String, Vec<u8>)>,
}

impl Watcher {
    /// The next piece of the transcript.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if matches!(byte, b'\n' | b'\r') {
                self.end_line();
            } else if self.line.len() < LONGEST_LINE {
                self.line.push(*byte);
            }
        }
    }

    /// What it all came to.
    pub(crate) fn verdict(&mut self) -> Verdict {
        self.end_line();
        match (&self.halt, &self.panic) {
            (Some(halt), _) => halt.clone(),
            (None, Some((reason, _))) => Verdict::Panic(reason.clone()),
            (None, None) => Verdict::Silent,
        }
    }

    /// The last panic's report, from its first line on.
    pub(crate) fn panic_report(&self) -> &[u8] {
        self.panic.as_ref().map_or(&[], |(_, report)| report)
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        let text = String::from_utf8_lossy(&line);
        let own = own_line(&text);
        self.halt = own.and_then(|own| match own.strip_prefix("halt: ")?.trim_end() {
            "ok" => Some(Verdict::Ok),
            rest => Some(Verdict::Failed(rest.strip_prefix("failed: ").unwrap_or(rest).to_owned())),
        });
        if let Some(reason) = own.and_then(|own| own.strip_prefix("panic: ")) {
            self.panic = Some((reason.trim_end().to_owned(), Vec::new()));
        }
        if let Some((_, report)) = &mut self.panic
            && report.len() + line.len() < LONGEST_PANIC
        {
            report.extend_from_slice(&line);
            report.push(b'\n');
        }
    }
}

/// The text of a line of Mezzanine's own. A guest's prompt may stand before it on the same line.
fn own_line(line: &str) -> Option<&str> {
    let start = line.rfind("[mz ")?;
    let (stamp, text) = line.get(start + 4..)?.split_once("] ")?;
    let (seconds, fraction) = stamp.trim_start().split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (digits(seconds) && digits(fraction)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(transcript: &str) -> Verdict {
        let mut watcher = Watcher::default();
        // Byte by byte: pieces end anywhere.
        for byte in transcript.as_bytes() {
            watcher.feed(&[*byte]);
        }
        watcher.verdict()
    }

    #[test]
    fn how_runs_end() {
        assert_eq!(verdict("Linux\r\n[mz    9.100000] halt: ok\r\n"), Verdict::Ok);
        assert_eq!(verdict("[mz    9.100000] halt: ok"), Verdict::Ok);
        assert_eq!(
            verdict("[mz 10000.1] halt: failed: vm.a stopped\r\n\r\n"),
            Verdict::Failed("vm.a stopped".into())
        );
        assert_eq!(
            verdict("[mz    1.0] panic: EL2 data abort\r\n  at <image+0x10>\r\n"),
            Verdict::Panic("EL2 data abort".into())
        );
        assert_eq!(verdict("[mz    1.0] vm.a: running\r\n"), Verdict::Silent);
        assert_eq!(verdict(""), Verdict::Silent);
    }

    #[test]
    fn a_prompt_may_stand_before_it() {
        assert_eq!(verdict("~ # [mz    9.1] halt: ok\n"), Verdict::Ok);
    }

    #[test]
    fn what_guests_print_does_not_count() {
        assert_eq!(verdict("[mz    1.0] halt: ok\r\nstill here\r\n"), Verdict::Silent);
        assert_eq!(verdict("[mz one.0] halt: ok\r\n"), Verdict::Silent);
        assert_eq!(verdict("halt: ok\r\n"), Verdict::Silent);
        assert_eq!(
            verdict("[mz    1.0] halt: ok\r\n[mz    2.0] halt: failed: no\r\n"),
            Verdict::Failed("no".into())
        );
        // A guest's forged panic does not fail a run that ends well.
        assert_eq!(verdict("[mz    1.0] panic: forged\r\n[mz    2.0] halt: ok\r\n"), Verdict::Ok);
    }

    #[test]
    fn long_lines_do_not_hide_the_end() {
        let text = format!("{}\n[mz    9.1] halt: ok\n", "x".repeat(100_000));
        assert_eq!(verdict(&text), Verdict::Ok);
    }

    #[test]
    fn a_panic_is_kept() {
        let mut watcher = Watcher::default();
        watcher.feed(b"before\r\n[mz    1.0] panic: oops\r\n    at <image+0x1a2b>\r\n");
        assert_eq!(watcher.verdict(), Verdict::Panic("oops".into()));
        assert_eq!(watcher.panic_report(), b"[mz    1.0] panic: oops\n    at <image+0x1a2b>\n");
    }
}
