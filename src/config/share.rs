//! What a VM has of busy CPUs, and how much of its output is kept: the values that somebody wrote.
//!
//! One function for each value, whoever read it: the tree's reader, TOML's, and the check of what came by neither.

use super::node::wrong;
use super::{Bytes, VmConfig};
use crate::problem;
use crate::problem::Problem;
use crate::sched::Share;

/// The weight of a VM that names none: Xen's (docs/man/xl.cfg.5).
pub const DEFAULT_WEIGHT: u16 = Share::DEFAULT_WEIGHT;
/// A cap that is none, in percent.
pub const NO_CAP: u8 = 100;
/// Bytes that are kept of a VM's output while another's is shown, for one that does not say.
pub const DEFAULT_CONSOLE_LOG: u32 = 64 << 10;
/// The least and the most that may be kept.
const CONSOLE_LOG: [u32; 2] = [4 << 10, 1 << 20];

/// Reads a weight for the `key` at `place`.
///
/// # Errors
/// E0330 for 0 and beyond 65535.
#[inline(never)]
pub fn weight(place: &str, key: &str, value: u64) -> Result<u16, Problem> {
    u16::try_from(value).ok().filter(|weight| *weight != 0).ok_or_else(|| {
        let fix = "Use 1 to 65535: 256 is usual, and 512 gets twice as much of a busy CPU";
        wrong("E0330", place, key, format_args!("{value}"), fix)
    })
}

/// Reads a cap, in percent of a CPU for each vCPU.
///
/// # Errors
/// E0331 for 0 and beyond 100.
#[inline(never)]
pub fn cap(place: &str, key: &str, value: u64) -> Result<u8, Problem> {
    u8::try_from(value).ok().filter(|cap| (1..=NO_CAP).contains(cap)).ok_or_else(|| {
        let fix = "Use 1 to 100, percent of a CPU for each vCPU, or leave it out for no cap";
        wrong("E0331", place, key, format_args!("{value}"), fix)
    })
}

/// Reads how many bytes of output are kept.
///
/// # Errors
/// E0337 for what is no power of two from 4 KiB to 1 MiB.
pub fn console_log(place: &str, key: &str, value: u64) -> Result<u32, Problem> {
    let [least, most] = CONSOLE_LOG;
    u32::try_from(value)
        .ok()
        .filter(|bytes| bytes.is_power_of_two() && (least..=most).contains(bytes))
        .ok_or_else(|| {
            problem!("E0337", ("{place} {key}"); ("{}", Bytes(value));
                ("Use a power of two from {} to {}; {} is usual", Bytes(least.into()), Bytes(most.into()), Bytes(DEFAULT_CONSOLE_LOG.into())))
        })
}

/// Checks a VM's values by themselves: E0330, E0331, E0337, and E0338 for a dedicated one with a share.
#[inline(never)]
pub(super) fn check(vm: &VmConfig<'_>) -> Result<(), Problem> {
    vm.weight.map(|value| weight(&vm.place, "weight", value.into())).transpose()?;
    vm.cap.map(|value| cap(&vm.place, "cap", value.into())).transpose()?;
    vm.console_log.map(|value| console_log(&vm.place, "console-log", value.into())).transpose()?;
    for (key, given) in [("weight", vm.weight.is_some()), ("cap", vm.cap.is_some())] {
        if vm.dedicated && given {
            let what = format_args!("a dedicated vCPU shares its CPU with nobody");
            return Err(wrong("E0338", &vm.place, key, what, "Leave out this, or dedicated"));
        }
    }
    Ok(())
}

impl VmConfig<'_> {
    /// Its weight beside others', or the usual one.
    pub fn weight_or_default(&self) -> u16 {
        self.weight.unwrap_or(DEFAULT_WEIGHT)
    }

    /// Percent of a CPU that each of its vCPUs has at most, if there is a limit at all.
    pub fn limit(&self) -> Option<u8> {
        self.cap.filter(|cap| *cap != NO_CAP)
    }

    /// Bytes of its output that are kept, a power of two.
    pub fn console_log_bytes(&self) -> u32 {
        self.console_log.unwrap_or(DEFAULT_CONSOLE_LOG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn values_have_their_bounds() {
        let code = |problem: Problem| problem.code;
        for (value, read) in [(0, Err("E0330")), (1, Ok(1)), (65535, Ok(65535)), (65536, Err("E0330"))] {
            assert_eq!(weight("vm.a", "weight", value).map_err(code), read);
        }
        for (value, read) in
            [(0, Err("E0331")), (1, Ok(1)), (100, Ok(100)), (101, Err("E0331")), (257, Err("E0331"))]
        {
            assert_eq!(cap("vm.a", "cap", value).map_err(code), read);
        }
        for value in [0, 2048, 4095, 12288, 2 << 20, 1 << 32, u64::MAX] {
            assert_eq!(console_log("vm.a", "console-log", value).map_err(code), Err("E0337"), "{value}");
        }
        for value in [4 << 10, 64 << 10, 1 << 20] {
            assert_eq!(console_log("vm.a", "console-log", u64::from(value)), Ok(value));
        }
        assert_eq!(
            console_log("vm.a", "console-log", 12288).unwrap_err().to_string(),
            "E0337 vm.a console-log: 12K. Use a power of two from 4K to 1M; 64K is usual."
        );
    }

    #[test]
    fn what_nobody_says_has_a_value_all_the_same() {
        let mut vm = VmConfig::named("a");
        assert_eq!((vm.weight_or_default(), vm.limit(), vm.console_log_bytes()), (256, None, 65536));
        (vm.weight, vm.cap, vm.console_log) = (Some(7), Some(100), Some(4096));
        assert_eq!((vm.weight_or_default(), vm.limit(), vm.console_log_bytes()), (7, None, 4096));
        vm.cap = Some(99);
        assert_eq!(vm.limit(), Some(99));
    }
}
