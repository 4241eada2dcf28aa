//! The shell at EL2: keys to its editor, lines to what they ask for, answers a few lines at a time.
//!
//! One line is answered at a time, and an answer has no state but the number of its next line: what it tells of is looked
//! up anew for each, so that nothing is held while guests run between. The shell's lock is held with no other.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod answers;
#[cfg(test)]
mod tests;

use super::CpuLoop;
use super::world::Place;
use crate::console::Screen;
use crate::machine::Machine;
use crate::regs::GuestRegs;
use crate::shell::{Editor, Event, LINE, Names, parse};
use alloc::sync::Arc;
use core::fmt::Write;
use heapless::{Deque, String};

/// Keys that wait while a line is answered; more wait in the line.
const AHEAD: usize = 256;
/// The longest piece of an answer, or echo of a key, in bytes.
pub(super) const PIECE: usize = 2048;
/// Ctrl-C.
const INTERRUPT: u8 = 3;

/// Text on its way to the terminal.
type Out = String<PIECE>;

/// Whoever sits at the log's screen, as EL2 sees it.
pub(super) struct Shell {
    editor: Editor,
    ahead: Deque<u8, AHEAD>,
    /// The line that is answered, and the number of the answer's next line.
    job: Option<(String<LINE>, u32)>,
    /// A CPU is at that line now.
    answering: bool,
    /// Registers that are told of in several lines.
    regs: Option<GuestRegs>,
    /// The screen of a VM that was shown before.
    before: Option<Screen>,
}

impl Shell {
    pub(super) const fn new() -> Self {
        Self {
            editor: Editor::new("mz> "),
            ahead: Deque::new(),
            job: None,
            answering: false,
            regs: None,
            before: None,
        }
    }
}

/// How many VMs Tab knows, so that a key never takes long: the first ones.
const KNOWN: usize = 16;

/// The names that Tab knows.
struct Known(Arc<[Place]>);

impl Names for Known {
    fn vms(&self, each: &mut dyn FnMut(&str)) {
        self.0.iter().flatten().take(KNOWN).for_each(|vm| each(&vm.name));
    }
}

impl<M: Machine> CpuLoop<'_, M> {
    /// After the console has been at work: what was typed to the shell, and what it has yet to show.
    #[inline]
    pub(super) fn serve_shell(&mut self) {
        let broken = self.world.console.take_broken();
        if broken || self.shell_shown.is_some() || !self.typed.is_empty() {
            self.hear_shell(broken);
        }
    }

    #[cold]
    fn hear_shell(&mut self, broken: bool) {
        let mut out = Out::new();
        let shown = self.shell_shown.take();
        let mut shell = self.world.shell.lock();
        if let Some(from) = shown.filter(|from| *from != Screen::LOG) {
            shell.before = Some(from);
        }
        if (shown.is_some() || broken) && shell.job.is_none() {
            // What was on the screen is gone, or has had own lines put after it.
            shell.editor.show(&mut out);
        }
        for byte in core::mem::take(&mut self.typed) {
            if byte == INTERRUPT && shell.job.is_some() {
                shell.job = None;
                shell.ahead.clear();
                let _ = out.write_str("^C\r\n");
                shell.editor.prompt(&mut out);
            } else {
                // There is room: `shell_takes` was asked.
                let _ = shell.ahead.push_back(byte);
            }
        }
        drop(shell);
        self.say(&out);
        // The rest in stays of its own.
        self.console_soon();
    }

    /// Goes on with what waits, the answer under way or a key: one line of it, or one key.
    pub(super) fn shell_on(&mut self) {
        if self.world.console.shell_room() < PIECE {
            // Hidden, it waits until its screen is shown again.
            if self.world.console.screen() == Screen::LOG {
                self.console_soon();
            }
            return;
        }
        let mut out = Out::new();
        let mut shell = self.world.shell.lock();
        if shell.answering {
            // Another CPU, which goes on with it.
            return;
        }
        if let Some((line, step)) = &shell.job {
            let (line, step) = (line.clone(), *step);
            shell.answering = true;
            drop(shell);
            let more = self.answer(&line, step, &mut out);
            let mut shell = self.world.shell.lock();
            shell.answering = false;
            // Ctrl-C may have ended it meanwhile; nobody has begun another.
            if !more && shell.job.take().is_some() {
                shell.editor.prompt(&mut out);
            } else if let Some((_, step)) = &mut shell.job {
                *step = step.saturating_add(1);
            }
            drop(shell);
        } else if let Some(byte) = shell.ahead.pop_front() {
            let names = Known(self.world.vms());
            let event = shell.editor.key(byte, &names, &mut out);
            if event == Event::Line {
                let line = String::try_from(shell.editor.line()).unwrap_or_default();
                shell.job = Some((line, 0));
            }
            let before = shell.before;
            drop(shell);
            self.world.console.shell_read(self);
            if event == Event::Leave {
                self.say(&out);
                return self.show_screen(before);
            }
        } else {
            drop(shell);
            return self.world.console.shell_read(self);
        }
        self.say(&out);
        // One thing in a stay at EL2.
        self.console_soon();
    }

    /// Whether there is room for one more key.
    pub(super) fn shell_takes(&self) -> bool {
        self.world.shell.lock().ahead.len().saturating_add(self.typed.len()) < AHEAD
    }

    fn say(&mut self, text: &str) {
        if !text.is_empty() {
            let vms = self.world.vms();
            self.world.console.tell(self, &vms, text);
        }
    }

    /// Shows a VM's screen: that one, or the first that there is.
    fn show_screen(&mut self, screen: Option<Screen>) {
        let vms = self.world.vms();
        let has = |n: usize| vms.get(n).is_some_and(|vm| vm.as_ref().is_some_and(|vm| !vm.without_uart));
        let screen = screen.filter(|screen| screen.vm().is_some_and(has));
        let first = || (0..vms.len()).find(|n| has(*n)).map(|n| Screen(n as u16));
        if let Some(to) = screen.or_else(first) {
            self.world.console.show(self, &vms, to);
        }
    }

    /// The next line of the answer to a line; whether there are more.
    fn answer(&mut self, line: &str, step: u32, out: &mut Out) -> bool {
        let request = match parse(line) {
            Ok(Some(request)) => request,
            Ok(None) => return false,
            Err(mistake) => {
                let _ = write!(out, "{mistake}\r\n");
                return false;
            }
        };
        let more = self.carry_out(&request, step, out);
        let goes_on = request.json && more;
        if !(out.is_empty() || out.ends_with('\n') || goes_on) {
            let _ = out.push_str("\r\n");
        }
        more
    }
}
