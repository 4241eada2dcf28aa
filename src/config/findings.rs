//! What a check has found: everything, so that a person can put all of it right in one go.
//!
//! EL2 goes by the first problem, and has little heap: of a hostile tree's thousands it keeps as many as a
//! person would read.

use crate::problem::Problem;
use alloc::vec::Vec;

/// As many are kept of each sort.
const MOST: usize = 40;

/// Problems, and what only looks like one, each in the order in which it was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// What keeps the machine from starting.
    pub errors: Vec<Problem>,
    /// What looks wrong but may be right.
    pub warnings: Vec<Problem>,
    /// How many more of either there were.
    pub left_out: usize,
}

impl Findings {
    /// Notes something that is wrong.
    // Out of line, like the making of a problem: there are many, and none is in a hurry.
    #[cold]
    #[inline(never)]
    pub fn error(&mut self, problem: Problem) {
        keep(&mut self.errors, problem, &mut self.left_out);
    }

    /// Notes something that may be right.
    #[cold]
    #[inline(never)]
    pub fn warning(&mut self, problem: Problem) {
        keep(&mut self.warnings, problem, &mut self.left_out);
    }

    /// Whether there are as many problems as are kept. If so, one more is counted: it need not be made.
    pub fn is_full(&mut self) -> bool {
        let full = self.errors.len() >= MOST;
        self.left_out = self.left_out.saturating_add(usize::from(full));
        full
    }

    /// A result's value; its problem is noted.
    pub fn take<T>(&mut self, result: Result<T, Problem>) -> Option<T> {
        result.map_err(|problem| self.error(problem)).ok()
    }

    /// The warnings, if they are all.
    ///
    /// # Errors
    /// The first of the problems.
    pub fn settle(self) -> Result<Vec<Problem>, Problem> {
        match self.errors.into_iter().next() {
            Some(first) => Err(first),
            None => Ok(self.warnings),
        }
    }
}

fn keep(list: &mut Vec<Problem>, problem: Problem, left_out: &mut usize) {
    if list.len() < MOST {
        list.push(problem);
    } else {
        *left_out = left_out.saturating_add(1);
    }
}
