//! Power state coordination, PSCI 1.1: what a guest's call asks for, and the words for the answer.
//!
//! [`decode`] answers what needs no knowledge of the VM at once and turns the rest into a [`Request`] that
//! the run loop carries out. Source: DEN0022, by the names of
//! its functions; numbers in brackets are its sections.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

/// PSCI_VERSION: major in the upper half, minor in the lower.
pub const VERSION: u64 = 1 << 16 | 1;

/// MIGRATE_INFO_TYPE: there is no Trusted OS that would have to move.
pub const NO_MIGRATION_NEEDED: u64 = 2;

/// Return codes (5.2.2), as x0 holds them: negative ones are sign extended to 64 bits for calls of either
/// width. A 32-bit caller looks at W0 alone; Linux compares both `int` and `long` against them.
pub mod status {
    /// Done.
    pub const SUCCESS: u64 = 0;
    /// No such call.
    pub const NOT_SUPPORTED: u64 = (-1_i64) as u64;
    /// An argument makes no sense, or names a CPU that does not exist.
    pub const INVALID_PARAMETERS: u64 = (-2_i64) as u64;
    /// Not now.
    pub const DENIED: u64 = (-3_i64) as u64;
    /// CPU_ON of a CPU that runs.
    pub const ALREADY_ON: u64 = (-4_i64) as u64;
    /// CPU_ON of a CPU that is being started already.
    pub const ON_PENDING: u64 = (-5_i64) as u64;
    /// It went wrong inside.
    pub const INTERNAL_FAILURE: u64 = (-6_i64) as u64;
    /// The entry point cannot be executed.
    pub const INVALID_ADDRESS: u64 = (-9_i64) as u64;
}

/// What AFFINITY_INFO says of a CPU (5.7).
pub mod affinity_state {
    /// It runs, or sleeps in CPU_SUSPEND.
    pub const ON: u64 = 0;
    /// It is off.
    pub const OFF: u64 = 1;
    /// CPU_ON has been called, and it has not begun.
    pub const ON_PENDING: u64 = 2;
}

/// The affinity fields of MPIDR_EL1, Aff3 to Aff0, in which PSCI names a CPU.
pub const AFFINITY: u64 = 0xff_00ff_ffff;

/// Where and with what a CPU starts or goes on: at EL1, everything else as after reset (6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Guest-physical address of the first instruction; a multiple of four.
    pub point: u64,
    /// Its x0.
    pub context: u64,
}

/// A call whose effect and result are the run loop's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Wait as by WFI, then [`SUCCESS`](status::SUCCESS). A request for a power-down state is served by standby,
    /// which the caller must expect (5.4).
    CpuSuspend,
    /// The caller ends. Does not return, unless [`DENIED`](status::DENIED).
    CpuOff,
    /// Start a CPU. [`SUCCESS`](status::SUCCESS), [`INVALID_PARAMETERS`](status::INVALID_PARAMETERS) where no CPU has these
    /// affinities, [`ALREADY_ON`](status::ALREADY_ON), [`ON_PENDING`](status::ON_PENDING), or
    /// [`INVALID_ADDRESS`](status::INVALID_ADDRESS) where the entry point is not in RAM.
    CpuOn {
        /// Affinity fields of its MPIDR.
        target: u64,
        /// Where it starts.
        entry: Entry,
    },
    /// How a CPU is, or any CPU of a cluster: a constant of [`affinity_state`], or
    /// [`INVALID_PARAMETERS`](status::INVALID_PARAMETERS) where there is none.
    AffinityInfo {
        /// Affinity fields of its MPIDR; those below `level` are to be ignored.
        target: u64,
        /// 0 for a CPU; 1 to 3 for all that share the fields from Aff1 to Aff3 on.
        level: u8,
    },
    /// The VM ends.
    SystemOff,
    /// The VM starts again, from its images (SYSTEM_RESET and a warm SYSTEM_RESET2: memory may be kept
    /// after the latter, and is not).
    SystemReset,
    /// The VM sleeps until an interrupt would wake the caller, then goes on at `entry`.
    /// [`DENIED`](status::DENIED) while another CPU is on.
    SystemSuspend {
        /// Where the caller goes on.
        entry: Entry,
    },
}

impl Request {
    /// For [`AffinityInfo`](Self::AffinityInfo): whether a CPU of this MPIDR is one of those meant.
    pub fn matches(target: u64, level: u8, mpidr: u64) -> bool {
        const BELOW: [u64; 4] = [0, 0xff, 0xffff, 0xff_ffff];
        let ignored = BELOW.get(usize::from(level)).copied().unwrap_or(u64::MAX);
        (target ^ mpidr) & AFFINITY & !ignored == 0
    }
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// The result, for x0.
    Value(u64),
    /// The run loop's turn.
    Request(Request),
}

/// Function numbers: bits 15:0 of the function identifier (table 5-1).
mod function {
    pub(super) const VERSION: u16 = 0x00;
    pub(super) const CPU_SUSPEND: u16 = 0x01;
    pub(super) const CPU_OFF: u16 = 0x02;
    pub(super) const CPU_ON: u16 = 0x03;
    pub(super) const AFFINITY_INFO: u16 = 0x04;
    pub(super) const MIGRATE_INFO_TYPE: u16 = 0x06;
    pub(super) const SYSTEM_OFF: u16 = 0x08;
    pub(super) const SYSTEM_RESET: u16 = 0x09;
    pub(super) const FEATURES: u16 = 0x0a;
    pub(super) const SYSTEM_SUSPEND: u16 = 0x0e;
    pub(super) const SYSTEM_RESET2: u16 = 0x12;
}

/// Whether the call exists at this width: 32-bit ones begin 0x8400, 64-bit ones 0xc400.
pub const fn is_supported(number: u16, wide: bool) -> bool {
    match number {
        function::CPU_SUSPEND
        | function::CPU_ON
        | function::AFFINITY_INFO
        | function::SYSTEM_SUSPEND
        | function::SYSTEM_RESET2 => true,
        function::VERSION
        | function::CPU_OFF
        | function::MIGRATE_INFO_TYPE
        | function::SYSTEM_OFF
        | function::SYSTEM_RESET
        | function::FEATURES => !wide,
        _ => false,
    }
}

/// Decodes the call of function `number` with arguments x1, x2, x3 (already cut to 32 bits where not `wide`).
pub fn decode(number: u16, wide: bool, args: [u64; 3]) -> Decoded {
    match request(number, wide, args) {
        Ok(request) => Decoded::Request(request),
        Err(value) => Decoded::Value(value),
    }
}

/// The request, or a result that needs none.
fn request(number: u16, wide: bool, [x1, x2, x3]: [u64; 3]) -> Result<Request, u64> {
    if !is_supported(number, wide) {
        return Err(status::NOT_SUPPORTED);
    }
    Ok(match number {
        function::VERSION => return Err(VERSION),
        function::CPU_SUSPEND if !is_power_state(x1) => return Err(status::INVALID_PARAMETERS),
        function::CPU_SUSPEND => Request::CpuSuspend,
        function::CPU_OFF => Request::CpuOff,
        function::CPU_ON => Request::CpuOn { target: affinity(x1)?, entry: entry(x2, x3)? },
        function::AFFINITY_INFO if x2 > 3 => return Err(status::INVALID_PARAMETERS),
        function::AFFINITY_INFO => Request::AffinityInfo { target: affinity(x1)?, level: x2 as u8 },
        function::MIGRATE_INFO_TYPE => return Err(NO_MIGRATION_NEEDED),
        function::SYSTEM_OFF => Request::SystemOff,
        function::SYSTEM_RESET => Request::SystemReset,
        // SYSTEM_WARM_RESET is the one reset type; there are no vendor's own.
        function::SYSTEM_RESET2 if x1 as u32 != 0 => return Err(status::INVALID_PARAMETERS),
        function::SYSTEM_RESET2 => Request::SystemReset,
        function::SYSTEM_SUSPEND => Request::SystemSuspend { entry: entry(x1, x2)? },
        function::FEATURES => return Err(features(x1 as u32)),
        _ => return Err(status::NOT_SUPPORTED),
    })
}

/// Bits 31, 29:26 and 23:16 of the original power_state format are reserved (5.4.2.1).
fn is_power_state(x1: u64) -> bool {
    x1 & 0xbcff_0000 == 0
}

fn affinity(x: u64) -> Result<u64, u64> {
    if x & !AFFINITY == 0 { Ok(x) } else { Err(status::INVALID_PARAMETERS) }
}

/// EL1 is AArch64 only, so an entry point that is no instruction's address cannot be meant.
fn entry(point: u64, context: u64) -> Result<Entry, u64> {
    if point & 3 == 0 { Ok(Entry { point, context }) } else { Err(status::INVALID_ADDRESS) }
}

/// PSCI_FEATURES: zero for a call that exists. For CPU_SUSPEND zero also says that power_state has
/// the original format and that states are platform coordinated.
fn features(function: u32) -> u64 {
    const SMCCC_VERSION: u32 = 0x8000_0000;
    let exists = match function >> 16 {
        0x8400 => is_supported(function as u16, false),
        0xc400 => is_supported(function as u16, true),
        _ => function == SMCCC_VERSION,
    };
    if exists { status::SUCCESS } else { status::NOT_SUPPORTED }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [u64; 3] = [0; 3];

    #[test]
    fn which_calls_exist() {
        let narrow = [0, 1, 2, 3, 4, 6, 8, 9, 0xa, 0xe, 0x12];
        let wide = [1, 3, 4, 0xe, 0x12];
        for number in 0..=u16::MAX {
            assert_eq!(is_supported(number, false), narrow.contains(&number), "{number:#x}");
            assert_eq!(is_supported(number, true), wide.contains(&number), "{number:#x}");
            for is_wide in [false, true] {
                // PSCI_FEATURES answers for the function that it is asked about.
                let result = decode(number, is_wide, [0x8400_0000, 0, 0]);
                let missing = result == Decoded::Value(status::NOT_SUPPORTED);
                assert_eq!(missing, !is_supported(number, is_wide), "{number:#x}");
            }
        }
    }

    #[test]
    fn version_and_migration() {
        assert_eq!(decode(0, false, NONE), Decoded::Value(0x1_0001));
        assert_eq!(decode(6, false, NONE), Decoded::Value(2));
    }

    #[test]
    fn features_tells_what_exists() {
        let ask = |id: u64| decode(0xa, false, [id, 0, 0]);
        for id in [0x8400_0000, 0x8400_0001, 0xc400_0001, 0xc400_0003, 0x8400_000a, 0xc400_0012, 0x8000_0000]
        {
            assert_eq!(ask(id), Decoded::Value(status::SUCCESS), "{id:#x}");
        }
        for id in [0xc400_0000, 0xc400_0002, 0x8400_0005, 0x8400_0050, 0x8000_0001, 0, 3, 0x8401_0003] {
            assert_eq!(ask(id), Decoded::Value(status::NOT_SUPPORTED), "{id:#x}");
        }
    }

    #[test]
    fn cpu_on_checks_its_arguments() {
        let on = |args| decode(3, true, args);
        assert_eq!(
            on([0x1_0000_0102, 0x4020_0000, u64::MAX]),
            Decoded::Request(Request::CpuOn {
                target: 0x1_0000_0102,
                entry: Entry { point: 0x4020_0000, context: u64::MAX }
            })
        );
        for target in [1 << 24, 1 << 31, 1 << 40, 1 << 63] {
            assert_eq!(on([target, 0, 0]), Decoded::Value(status::INVALID_PARAMETERS));
        }
        for point in [1, 2, 3, 0x4020_0001] {
            assert_eq!(on([0, point, 0]), Decoded::Value(status::INVALID_ADDRESS));
        }
    }

    #[test]
    fn suspend_is_a_wait() {
        assert_eq!(decode(1, true, [0x0301_0000 & 0x4300_ffff, 0, 0]), Decoded::Request(Request::CpuSuspend));
        assert_eq!(decode(1, false, [1 << 30, 0, 0]), Decoded::Request(Request::CpuSuspend));
        for bit in (16..24).chain(26..30).chain([31]) {
            assert_eq!(decode(1, true, [1 << bit, 0, 0]), Decoded::Value(status::INVALID_PARAMETERS));
        }
    }

    #[test]
    fn resets() {
        assert_eq!(decode(9, false, NONE), Decoded::Request(Request::SystemReset));
        assert_eq!(decode(0x12, true, [0, 7, 0]), Decoded::Request(Request::SystemReset));
        for kind in [1, 0x8000_0000, 0xffff_ffff] {
            assert_eq!(decode(0x12, true, [kind, 0, 0]), Decoded::Value(status::INVALID_PARAMETERS));
        }
    }

    #[test]
    fn affinity_levels_widen_what_is_meant() {
        let info = |args| decode(4, true, args);
        assert_eq!(info([0x102, 1, 0]), Decoded::Request(Request::AffinityInfo { target: 0x102, level: 1 }));
        assert_eq!(info([0, 4, 0]), Decoded::Value(status::INVALID_PARAMETERS));
        assert!(Request::matches(0x102, 0, 0x8000_0102));
        assert!(!Request::matches(0x102, 0, 0x8000_0103));
        assert!(Request::matches(0x102, 1, 0x8000_0103));
        assert!(!Request::matches(0x102, 1, 0x8000_0203));
        assert!(Request::matches(0x102, 2, 0x8000_0203));
        assert!(!Request::matches(0x102, 3, 0x1_8000_0203));
    }
}
