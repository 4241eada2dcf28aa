//! A figure that has a bound.

/// How far over a bound a figure may be before `--check` fails.
const TOLERANCE: f64 = 1.05;

/// The most that a figure should be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bound {
    /// What was measured.
    pub(crate) name: String,
    /// What came out, in the unit of `most`.
    pub(crate) value: f64,
    pub(crate) most: f64,
}

impl Bound {
    pub(crate) fn new(name: &str, value: f64, most: f64) -> Self {
        Self { name: name.into(), value, most }
    }

    pub(crate) fn held(&self) -> bool {
        self.value <= self.most
    }

    /// Over it by more than a few per cent.
    pub(crate) fn broken(&self) -> bool {
        self.value > self.most * TOLERANCE
    }

    /// In a word or two.
    pub(crate) fn verdict(&self) -> String {
        if self.held() {
            "held".into()
        } else {
            format!("over by {:.1} %", (self.value / self.most - 1.0) * 100.0)
        }
    }
}

/// A count with its thousands apart.
pub(crate) fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
