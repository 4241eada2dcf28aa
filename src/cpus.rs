//! The machine's CPUs: how each is started, and what all of them have in common.
//!
//! The part of it that is plain arithmetic; `arch::smp` does what is said here.

use crate::addr::{Address, HostPhysAddr};
use crate::fdt::{self, Conduit, CpuStatus, EnableMethod, Platform};
use crate::idregs::{self, Raw};
use crate::problem;
use crate::problem::Problem;

/// CPUs that run at once, a bit each in a set of them; further ones are left alone.
pub const MAX: usize = 64;

/// Seconds that each CPU has to come up.
pub const PATIENCE: u64 = 1;

/// What a CPU says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuFacts {
    /// Affinity fields of its MPIDR_EL1: bits 39:32 and 23:0.
    pub affinity: u64,
    /// MIDR_EL1.
    pub midr: u64,
    /// Its ID registers.
    pub ids: Raw,
    /// Bits of a physical address, at most 48.
    pub pa_bits: u8,
    /// VMIDs have 16 bits.
    pub vmid16: bool,
    /// List registers of its interrupt controller.
    pub lists: u8,
    /// Bits of a virtual interrupt's priority.
    pub priority_bits: u8,
    /// The number of its CPU interface, with a GICv2.
    pub interface: Option<u8>,
}

/// What a vCPU may count on, whichever CPU it runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Common {
    /// ID registers, the lesser of each field.
    pub ids: Raw,
    /// Bits of a physical address: the fewest.
    pub pa_bits: u8,
    /// All have VMIDs of 16 bits.
    pub vmid16: bool,
    /// List registers: the fewest.
    pub lists: u8,
    /// Bits of a virtual interrupt's priority: the fewest.
    pub priority_bits: u8,
}

/// What these CPUs have in common; of no CPU, nothing.
pub fn common(cpus: &[CpuFacts]) -> Common {
    let one = |cpu: &CpuFacts| Common {
        ids: cpu.ids,
        pa_bits: cpu.pa_bits,
        vmid16: cpu.vmid16,
        lists: cpu.lists,
        priority_bits: cpu.priority_bits,
    };
    let both = |a: Common, b: Common| Common {
        ids: idregs::common(&a.ids, &b.ids),
        pa_bits: a.pa_bits.min(b.pa_bits),
        vmid16: a.vmid16 && b.vmid16,
        lists: a.lists.min(b.lists),
        priority_bits: a.priority_bits.min(b.priority_bits),
    };
    let nothing = Common { ids: [0; 64], pa_bits: 0, vmid16: false, lists: 0, priority_bits: 0 };
    cpus.iter().map(one).reduce(both).unwrap_or(nothing)
}

/// The CPUs that the one with affinity `boot` should start: those in order, in the order of the tree.
pub fn others<'p>(platform: &'p Platform<'_>, boot: u64) -> impl Iterator<Item = &'p fdt::Cpu> {
    platform.cpus.iter().filter(move |cpu| cpu.status == CpuStatus::Okay && cpu.affinity != boot)
}

/// How a CPU is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// PSCI CPU_ON.
    Psci(Conduit),
    /// The address to go to is written here, as 64 bits.
    SpinTable(HostPhysAddr),
}

/// How the tree says that `cpu` is started.
///
/// # Errors
/// E0139: it says nothing that we know.
pub fn way(cpu: &fdt::Cpu, psci: Option<fdt::Psci>) -> Result<Way, Problem> {
    let wrong = |property, what: core::fmt::Arguments<'_>| {
        problem!("E0139", ("/cpus/cpu@{:x} {property}", cpu.affinity); ("{what}; it stays off");
        ("\"psci\" with a node of PSCI 0.2 or newer, or \"spin-table\" with an address of 8 aligned bytes"))
    };
    match (cpu.enable, psci) {
        (EnableMethod::Psci, Some(psci)) if psci.standard => Ok(Way::Psci(psci.conduit)),
        (EnableMethod::Psci, _) => {
            Err(wrong("enable-method", format_args!("\"psci\", and no PSCI 0.2 in the tree")))
        }
        (EnableMethod::SpinTable(at), _) if at.raw() != 0 && at.raw().is_multiple_of(8) => {
            Ok(Way::SpinTable(at))
        }
        (EnableMethod::SpinTable(at), _) => Err(wrong("cpu-release-addr", format_args!("{:#x}", at.raw()))),
        (EnableMethod::Unknown, _) => Err(wrong("enable-method", format_args!("none that Mezzanine knows"))),
    }
}

/// What PSCI says when it fails (DEN0022 5.2.2).
pub fn psci_error(code: i64) -> &'static str {
    // The calls are 32-bit or 64-bit ones; the code fits either.
    match code as i32 {
        -1 => "NOT_SUPPORTED",
        -2 => "INVALID_PARAMETERS",
        -3 => "DENIED",
        -4 => "ALREADY_ON",
        -5 => "ON_PENDING",
        -6 => "INTERNAL_FAILURE",
        -7 => "NOT_PRESENT",
        -8 => "DISABLED",
        -9 => "INVALID_ADDRESS",
        _ => "an unknown error",
    }
}

/// ICC_SGI1R_EL1 for SGI 0 to the CPU with this affinity (IHI 0069, ICC_SGI1R_EL1): its Aff0 is one of 16 bits in a
/// range that RS selects.
pub const fn sgi1r(affinity: u64) -> u64 {
    let (aff0, aff1, aff2) = (affinity & 0xff, affinity >> 8 & 0xff, affinity >> 16 & 0xff);
    let aff3 = affinity >> 32 & 0xff;
    aff3 << 48 | (aff0 >> 4) << 44 | aff2 << 32 | aff1 << 16 | 1 << (aff0 & 0xf)
}

/// Where a CPU's stacks lie in the window of addresses that is kept for them, in pages: a page that is never mapped
/// below each.
pub mod stacks {
    /// Pages of a CPU's stack.
    pub const STACK: usize = 8;
    /// Pages of the stack for its own faults.
    pub const FAULT: usize = 2;
    /// Pages of memory that a CPU's stacks take.
    pub const PAGES: usize = STACK + FAULT;
    /// Pages of the window that they take.
    const SPAN: usize = PAGES + 2;
    /// Pages of the window for the stacks of all CPUs.
    pub const WINDOW: usize = SPAN * super::MAX;

    /// The first page of the stack of the CPU with this number.
    pub const fn stack(n: usize) -> usize {
        n * SPAN + 1
    }

    /// The first page of its fault stack.
    pub const fn fault(n: usize) -> usize {
        stack(n) + STACK + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fdt::Psci;

    fn facts(affinity: u64) -> CpuFacts {
        CpuFacts {
            affinity,
            midr: 0x411f_d070,
            ids: [0; 64],
            pa_bits: 44,
            vmid16: true,
            lists: 4,
            priority_bits: 5,
            interface: None,
        }
    }

    #[test]
    fn the_least_of_all_counts() {
        assert_eq!(common(&[]).pa_bits, 0);
        let mut little = facts(0x100);
        (little.pa_bits, little.vmid16, little.lists, little.priority_bits) = (40, false, 2, 4);
        for cpus in [[facts(0), little.clone(), facts(1)], [little.clone(), facts(0), facts(1)]] {
            let all = common(&cpus);
            assert_eq!((all.pa_bits, all.vmid16, all.lists, all.priority_bits), (40, false, 2, 4));
        }
        let alone = common(&[facts(0)]);
        assert_eq!((alone.pa_bits, alone.vmid16, alone.lists, alone.priority_bits), (44, true, 4, 5));
    }

    #[test]
    fn common_id_registers_are_those_of_all() {
        let isar0 = 6 << 3;
        let (mut a, mut b) = (facts(0), facts(1));
        a.ids[isar0] = 2 << 4 | 1 << 16; // AES with PMULL, CRC32
        b.ids[isar0] = 1 << 4 | 2 << 20; // AES, atomics
        let all = common(&[a, b]);
        assert_eq!(all.ids[isar0], 1 << 4);
    }

    #[test]
    fn each_cpu_but_this_one_that_is_in_order() {
        let mut platform = Platform::default();
        for (affinity, status) in
            [(0, CpuStatus::Okay), (1, CpuStatus::Disabled), (2, CpuStatus::Fail), (0x100, CpuStatus::Okay)]
        {
            platform.cpus.push(fdt::Cpu { affinity, status, enable: EnableMethod::Psci }).unwrap();
        }
        let of = |boot| others(&platform, boot).map(|cpu| cpu.affinity).collect::<Vec<_>>();
        assert_eq!(of(0), [0x100]);
        assert_eq!(of(0x100), [0]);
        assert_eq!(of(7), [0, 0x100]); // the tree may leave out the CPU that boots
    }

    #[test]
    fn ways_to_start() {
        let cpu = |enable| fdt::Cpu { affinity: 0x103, status: CpuStatus::Okay, enable };
        let psci = |standard| Some(Psci { conduit: Conduit::Smc, standard });
        let table = |at| cpu(EnableMethod::SpinTable(HostPhysAddr::at(at)));
        assert_eq!(way(&cpu(EnableMethod::Psci), psci(true)).unwrap(), Way::Psci(Conduit::Smc));
        // A spin table is one whatever else the firmware can do.
        for psci in [None, psci(true)] {
            assert_eq!(way(&table(0xe0), psci).unwrap(), Way::SpinTable(HostPhysAddr::at(0xe0)));
        }
        for (cpu, psci) in [
            (cpu(EnableMethod::Psci), None),
            (cpu(EnableMethod::Psci), psci(false)),
            (cpu(EnableMethod::Unknown), psci(true)),
            (table(0xdc), None),
            (table(0), None),
        ] {
            let problem = way(&cpu, psci).unwrap_err();
            assert_eq!(problem.code, "E0139");
            assert!(problem.place.as_str().starts_with("/cpus/cpu@103 "), "{problem}");
        }
    }

    #[test]
    fn errors_by_name_whatever_the_width() {
        assert_eq!(psci_error(-4), "ALREADY_ON");
        assert_eq!(psci_error(0xffff_fffe), "INVALID_PARAMETERS");
        assert_eq!(psci_error(1), "an unknown error");
    }

    #[test]
    fn interrupts_reach_every_affinity() {
        assert_eq!(sgi1r(0), 1);
        assert_eq!(sgi1r(0xf), 1 << 15);
        assert_eq!(sgi1r(0x10), 1 << 44 | 1); // the second range of Aff0
        assert_eq!(sgi1r(0xff), 0xf << 44 | 1 << 15);
        assert_eq!(sgi1r(0x0103), 1 << 16 | 1 << 3);
        assert_eq!(sgi1r(0x9a_0056_3412), 0x9a << 48 | 1 << 44 | 0x56 << 32 | 0x34 << 16 | 1 << 2);
    }

    #[test]
    fn stacks_lie_apart_with_a_gap_below_each() {
        let mut used = [false; stacks::WINDOW];
        for n in 0..MAX {
            for (first, pages) in [(stacks::stack(n), stacks::STACK), (stacks::fault(n), stacks::FAULT)] {
                assert!(!used[first - 1], "no gap below the stacks of {n}");
                for page in &mut used[first..first + pages] {
                    assert!(!core::mem::replace(page, true));
                }
            }
        }
        assert_eq!(used.iter().filter(|used| **used).count(), MAX * stacks::PAGES);
    }
}
