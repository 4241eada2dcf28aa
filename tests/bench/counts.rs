//! What the plugin counted, as it writes it.

use serde::Deserialize;

/// Instructions executed at each exception level, and exits to EL2.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) el0: u64,
    pub(crate) el1: u64,
    pub(crate) el2: u64,
    pub(crate) el3: u64,
    pub(crate) exits: u64,
}

impl Counters {
    /// What the guest itself executed.
    pub(crate) fn guest(&self) -> u64 {
        self.el0 + self.el1
    }

    /// All instructions; with `-icount shift=0` each of them takes a nanosecond.
    pub(crate) fn all(&self) -> u64 {
        self.guest() + self.el2 + self.el3
    }

    /// What was counted since `earlier`.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        Self {
            el0: self.el0 - earlier.el0,
            el1: self.el1 - earlier.el1,
            el2: self.el2 - earlier.el2,
            el3: self.el3 - earlier.el3,
            exits: self.exits - earlier.exits,
        }
    }
}

/// How often each value was seen.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) struct Histogram(Vec<(u64, u64)>);

/// A histogram in four numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) n: u64,
    pub(crate) min: u64,
    pub(crate) median: u64,
    pub(crate) max: u64,
}

impl Summary {
    /// Of two things that happen one after the other, as often as the rarer does.
    pub(crate) fn and(&self, other: &Self) -> Self {
        Self {
            n: self.n.min(other.n),
            min: self.min + other.min,
            median: self.median + other.median,
            max: self.max + other.max,
        }
    }
}

impl Histogram {
    pub(crate) fn n(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    pub(crate) fn sum(&self) -> u64 {
        self.0.iter().map(|(value, count)| value * count).sum()
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// `None` when nothing was seen. Of an even number of values, the median is the lower of the middle two.
    pub(crate) fn summary(&self) -> Option<Summary> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let (&(min, _), &(max, _)) = (sorted.first()?, sorted.last()?);
        let n = self.n();
        let mut left = n.div_ceil(2);
        let (median, _) = *sorted.iter().find(|(_, count)| {
            left = left.saturating_sub(*count);
            left == 0
        })?;
        Some(Summary { n, min, median, max })
    }
}

/// One vCPU's run.
#[derive(Debug, Deserialize)]
pub(crate) struct Vcpu {
    /// At the end.
    pub(crate) total: Counters,
    /// When EL2 first let a guest run; absent where there is no EL2.
    pub(crate) load: Option<Counters>,
    /// When the guest asked EL2 to power the machine off.
    pub(crate) off: Option<Counters>,
}

/// A mark that the guest made.
#[derive(Debug, Deserialize)]
pub(crate) struct Mark {
    pub(crate) id: u32,
    pub(crate) x0: u64,
    pub(crate) cntvoff: u64,
    pub(crate) at: Counters,
}

/// Everything between a row's opening and closing.
#[derive(Debug, Deserialize)]
pub(crate) struct Row {
    pub(crate) row: u32,
    /// Instructions at EL2, all exits together.
    pub(crate) cost: Histogram,
    /// How many exits.
    pub(crate) exits: Histogram,
}

/// The exits of one row for one reason; row 0 is outside all rows.
#[derive(Debug, Deserialize)]
pub(crate) struct Exits {
    pub(crate) row: u32,
    pub(crate) reason: String,
    /// The longest stay at EL2: until the guest ran, or EL2 waited.
    #[serde(default)]
    pub(crate) stay: u64,
    pub(crate) cost: Histogram,
}

impl Exits {
    /// Whether these are exits, not parts of some that have a reason of their own.
    pub(crate) fn is_whole(&self) -> bool {
        ![", until ", ", after ", ", to another "].iter().any(|part| self.reason.contains(part))
    }
}

/// A whole run.
#[derive(Debug, Deserialize)]
pub(crate) struct Counts {
    pub(crate) vcpus: Vec<Vcpu>,
    /// There were more reasons than the plugin's table holds.
    pub(crate) overflow: bool,
    pub(crate) marks: Vec<Mark>,
    pub(crate) rows: Vec<Row>,
    pub(crate) exits: Vec<Exits>,
    /// The address of each instruction of the traced row's last exit.
    #[serde(default)]
    pub(crate) trace: Vec<u64>,
}

impl Counts {
    /// The one vCPU of a run.
    pub(crate) fn vcpu(&self) -> Result<&Vcpu, String> {
        match self.vcpus.as_slice() {
            [one] if !self.overflow => Ok(one),
            [_] => Err("the plugin's table of reasons was too small".into()),
            many => Err(format!("{} vCPUs were counted instead of one", many.len())),
        }
    }

    /// The first mark of that number.
    pub(crate) fn mark(&self, id: u32) -> Result<&Mark, String> {
        self.marks.iter().find(|mark| mark.id == id).ok_or_else(|| format!("the guest made no mark {id}"))
    }

    /// The exits of a row whose reason begins so.
    pub(crate) fn costs(&self, row: u32, reason: &str) -> Histogram {
        let mut all = Histogram::default();
        for exits in self.exits.iter().filter(|e| e.row == row && e.reason.starts_with(reason)) {
            all.merge(&exits.cost);
        }
        all
    }
}
