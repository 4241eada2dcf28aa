//! Many stock kernels at once: all run the script `tour`, and all power off.

use libtest_mimic::{Failed, Trial};

use crate::judge;
use crate::smp;

/// Guests, vCPUs of each, memory of each, and the machine.
const CROWDS: [(usize, u32, &str, &[&str]); 2] =
    [(4, 4, "256M", &["--cpus", "4"]), (16, 1, "224M", &["--cpus", "2", "--ram", "4G"])];

pub(crate) fn trials() -> Vec<Trial> {
    let trial = |&(guests, vcpus, memory, machine): &(usize, u32, &'static str, &'static [&str])| {
        Trial::test(format!("scale::{guests} guests of {vcpus} vCPU(s)"), move || {
            crowd(guests, vcpus, memory, machine)
        })
    };
    CROWDS.iter().map(trial).collect()
}

fn crowd(guests: usize, vcpus: u32, memory: &str, machine: &[&str]) -> Result<(), Failed> {
    let names: Vec<String> = (1..=guests).map(|n| format!("guest{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let file = smp::config(&format!("scale-{guests}"), &names, vcpus, memory, "quiet mezzanine.script=tour")?;
    let transcript = smp::start(file, machine)?.finish()?;
    judge::no_complaints(&transcript)?;
    for name in names {
        if !transcript.contains(&format!("] vm {name}: powered off")) {
            return Err(format!("{name} did not power off").into());
        }
    }
    Ok(judge::tours(&transcript, crate::PART, vcpus, guests)?)
}
