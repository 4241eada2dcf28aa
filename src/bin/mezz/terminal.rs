//! The person's terminal while a guest has it: every key goes to the guest, and all is put back after.
//!
//! The release profile aborts on panic, so `Drop` alone would not do: the panic hook restores the terminal
//! too. Signals are values in this program ([`crate::run`]), so they end in `Drop`.

use std::io::{IsTerminal, Stdin};
use std::sync::Mutex;

use rustix::termios::{
    ControlModes, InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};

/// How the terminal was before, for whoever restores it first.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Raw while it lives.
#[derive(Debug)]
pub(crate) struct Raw {
    stdin: Stdin,
}

impl Raw {
    /// Makes standard input raw; None when it is not a terminal.
    pub(crate) fn enter() -> std::io::Result<Option<Self>> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(&stdin)?;
        set_before(Some(before));
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            restore();
            hook(info);
        }));
        let raw = Self { stdin };
        raw.again()?;
        Ok(Some(raw))
    }

    /// Puts the terminal back while this program is stopped.
    pub(crate) fn suspend(&self) {
        let before = BEFORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        if let Some(before) = before {
            let _ = tcsetattr(&self.stdin, OptionalActions::Now, &before);
        }
    }

    /// Makes it raw once more: after a stop, the shell has put its own modes in place.
    pub(crate) fn again(&self) -> std::io::Result<()> {
        let mut modes = tcgetattr(&self.stdin)?;
        // Output processing stays: Mezzanine and QEMU may end a line with a bare line feed.
        modes.input_modes -= InputModes::BRKINT
            | InputModes::ICRNL
            | InputModes::INLCR
            | InputModes::IGNCR
            | InputModes::INPCK
            | InputModes::ISTRIP
            | InputModes::IXON;
        modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
        modes.control_modes -= ControlModes::CSIZE | ControlModes::PARENB;
        modes.control_modes |= ControlModes::CS8;
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(&self.stdin, OptionalActions::Now, &modes)?;
        Ok(())
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

fn set_before(modes: Option<Termios>) -> Option<Termios> {
    let mut before = BEFORE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    std::mem::replace(&mut before, modes)
}

fn restore() {
    if let Some(before) = set_before(None) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &before);
    }
}
