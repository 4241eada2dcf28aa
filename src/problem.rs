//! What is wrong with a configuration: a code, where, what, and what would be right.
//!
//! One type for the host tool and for EL2, where it must not need a heap: the tree of the machine is read
//! before there is one. Codes: E01xx the machine's tree, E02xx the bundle or the modules, E03xx a VM,
//! E04xx a kernel or initrd, E05xx the tool's own input.

use core::fmt;

/// Text of bounded length; what does not fit is cut.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Text<const N: usize>(heapless::String<N>);

impl<const N: usize> Text<N> {
    /// Formats into it.
    pub fn from_args(args: fmt::Arguments<'_>) -> Self {
        let mut text = Self::default();
        // Writing never fails: `write_str` below cuts instead.
        let _ = fmt::Write::write_fmt(&mut text, args);
        text
    }

    /// What it says.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const N: usize> fmt::Write for Text<N> {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        for c in s.chars() {
            if self.0.push(c).is_err() {
                break;
            }
        }
        Ok(())
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.0.as_str(), f)
    }
}

/// Something that a person has to put right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Stable name: `E0301`.
    pub code: &'static str,
    /// Where: a node and property, a file, a VM.
    pub place: Text<96>,
    /// What is wrong, with the value.
    pub what: Text<224>,
    /// What would be right.
    pub fix: Text<224>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}. {}.", self.code, self.place, self.what, self.fix)
    }
}

impl core::error::Error for Problem {}

/// `problem!("E0301", "vm.alpha memory"; "0 bytes"; "Use at least 16M")`: each part takes format arguments
/// in parentheses of its own: `problem!("E0301", ("vm.{name} memory"); ("{n} bytes"); ("Use at least 16M"))`.
#[macro_export]
macro_rules! problem {
    ($code:literal, ($($place:tt)*); ($($what:tt)*); ($($fix:tt)*)) => {
        $crate::problem::Problem {
            code: $code,
            place: $crate::problem::Text::from_args(format_args!($($place)*)),
            what: $crate::problem::Text::from_args(format_args!($($what)*)),
            fix: $crate::problem::Text::from_args(format_args!($($fix)*)),
        }
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn reads_as_one_sentence_each() {
        let name = "beta";
        let p = problem!("E0301", ("vm.{name} memory"); ("{} MiB do not fit", 512); ("Use at most 128M"));
        assert_eq!(p.to_string(), "E0301 vm.beta memory: 512 MiB do not fit. Use at most 128M.");
    }

    #[test]
    fn long_text_is_cut_not_refused() {
        let p = problem!("E0301", ("x"); ("{}", "y".repeat(5000)); ("z"));
        assert_eq!(p.what.as_str().len(), 224);
    }
}
