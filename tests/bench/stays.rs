//! The longest stays at EL2 once a guest runs, by reason: of all that the bench runs, and of guests that ask for much.

use std::collections::BTreeMap;

use crate::bundle;
use crate::counts::Counts;
use crate::figure::Bound;
use crate::names::nice;
use crate::qemu::{Outcome, Run, target, text};

/// The most instructions.
const MOST: u64 = 20_000;

/// A guest that asks for much.
pub(crate) struct Crowd {
    guest: &'static str,
    cmdline: &'static str,
    vcpus: usize,
    cpus: usize,
    shift: u32,
}

/// All of them.
pub(crate) const CROWDS: [Crowd; 3] = [
    Crowd { guest: "gic-crowd", cmdline: "", vcpus: 64, cpus: 1, shift: 0 },
    Crowd { guest: "many", cmdline: "", vcpus: 64, cpus: 4, shift: 4 },
    Crowd { guest: "smpstress", cmdline: "rounds=1", vcpus: 64, cpus: 4, shift: 4 },
];

impl Crowd {
    /// Who it is.
    pub(crate) fn name(&self) -> String {
        format!("{}, {} vCPUs on {} CPU(s)", self.guest, self.vcpus, self.cpus)
    }

    /// Runs it alone.
    ///
    /// # Errors
    /// The run fails, or the guest does.
    pub(crate) fn run(&self, cpu: &str) -> Result<Counts, String> {
        let kernel = target().join(format!("guests/micro/{}.img", self.guest));
        let toml = format!(
            "[vm.crowd]\nkernel = {:?}\nmemory = \"32M\"\nvcpus = {}\ncmdline = {:?}\n",
            text(&kernel),
            self.vcpus,
            self.cmdline
        );
        let name = format!("crowd-{}-{}", self.guest, self.cpus);
        let bundle = bundle::pack_toml(&name, &toml)?;
        let run = Run { cpus: self.cpus, shift: self.shift, ..Run::mezzanine(&name, cpu, &bundle) };
        let Outcome { counts, transcript } = run.run()?;
        if transcript.contains(&format!("{}: ok", self.guest)) {
            Ok(counts)
        } else {
            Err(format!("{name}: the guest failed:\n{transcript}"))
        }
    }
}

/// The longest stay for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stay {
    /// In the manuals' words.
    pub(crate) reason: String,
    pub(crate) longest: u64,
    /// In which run.
    pub(crate) run: String,
}

impl Stay {
    /// What each has to hold.
    pub(crate) fn bound(&self) -> Bound {
        let name = format!("longest stay at EL2 with a guest, {} ({})", self.reason, self.run);
        Bound::new(&name, self.longest as f64, MOST as f64)
    }
}

/// A reason by its kind: what no name is known for is told by the way that it came alone.
pub(crate) fn kind(reason: &str) -> String {
    let name = nice(reason);
    match name.split(' ').collect::<Vec<_>>().as_slice() {
        [way @ ("read" | "write"), ..] => format!("{way} where no device is"),
        [way @ ("MRS" | "MSR"), code] if code.starts_with('S') && code.contains("_C") => {
            format!("{way} of another register")
        }
        [way @ ("HVC" | "SMC"), _, _] => format!("{way} of another function"),
        ["instruction", "abort", ..] => "instruction abort".into(),
        _ => name,
    }
}

/// The longest of each reason, the longest of all first.
pub(crate) fn longest<'a>(runs: impl Iterator<Item = (String, &'a Counts)>) -> Vec<Stay> {
    let mut all: BTreeMap<String, Stay> = BTreeMap::new();
    for (run, counts) in runs {
        for exits in counts.exits.iter().filter(|e| e.stay != 0) {
            let reason = kind(&exits.reason);
            let stay = Stay { reason: reason.clone(), longest: exits.stay, run: run.clone() };
            let known = all.entry(reason).or_insert_with(|| stay.clone());
            if stay.longest > known.longest {
                *known = stay;
            }
        }
    }
    let mut all: Vec<_> = all.into_values().collect();
    all.sort_by(|a, b| b.longest.cmp(&a.longest).then_with(|| a.reason.cmp(&b.reason)));
    all
}
