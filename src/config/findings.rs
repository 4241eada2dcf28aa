//! What a check has found: everything, or as much as EL2 cares about.

use crate::problem::Problem;
use alloc::vec::Vec;

/// Problems, and what only looks like one, each in the order in which it was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// What keeps the machine from starting.
    pub errors: Vec<Problem>,
    /// What looks wrong but may be right.
    pub warnings: Vec<Problem>,
}

impl Findings {
    /// Notes something that is wrong.
    pub fn error(&mut self, problem: Problem) {
        self.errors.push(problem);
    }

    /// Notes something that may be right.
    pub fn warning(&mut self, problem: Problem) {
        self.warnings.push(problem);
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
