//! ID registers of real CPUs, and of CPUs that have everything.

use super::*;
use proptest::prelude::*;

const VIEW: View = View { ipa_bits: 40, gic_system_registers: true };

fn raw(values: &[((u8, u8), u64)]) -> Raw {
    let mut raw = [0; 64];
    values.iter().for_each(|((crm, op2), value)| raw[index(*crm, *op2)] = *value);
    raw
}

/// The shape of a Cortex-A72: Armv8.0 with AArch32 everywhere, CSV2 and CSV3.
fn cortex_a72() -> Raw {
    raw(&[
        ((1, 0), 0x0000_0131),
        ((1, 1), 0x1001_1011),
        ((1, 2), 0x0301_0066),
        ((1, 4), 0x1020_1105),
        ((1, 5), 0x4000_0000),
        ((1, 6), 0x0126_0000),
        ((1, 7), 0x0210_2211),
        ((2, 0), 0x0210_1110),
        ((2, 1), 0x1311_2111),
        ((2, 2), 0x2123_2042),
        ((2, 3), 0x0111_2131),
        ((2, 4), 0x0001_1142),
        ((2, 5), 0x0001_1121),
        ((3, 0), 0x1011_0222),
        ((3, 1), 0x1211_1111),
        ((3, 2), 0x0000_0043),
        ((4, 0), 0x1100_0000_0100_2222),
        ((5, 0), 0x1030_5106),
        ((6, 0), 0x0001_1120),
        ((7, 0), 0x0000_1124),
    ])
}

#[test]
fn a_guest_of_a_cortex_a72() {
    let regs = IdRegs::new(&cortex_a72(), VIEW);
    assert_eq!(regs.get(4, 0), 0x1100_0000_0100_0012);
    assert_eq!(regs.get(5, 0), 0x0010_1006);
    assert_eq!(regs.get(6, 0), 0x0001_1120);
    assert_eq!(regs.get(7, 0), 0x0000_0022, "PARange is the VM's, 40 bits; no Secure state");
    assert_eq!(regs.get(1, 0), 0x0000_0131);
    assert_eq!(regs.get(1, 1), 0x0001_0001);
    assert_eq!(regs.get(1, 2), 6);
    assert_eq!(regs.get(2, 5), 0x0001_1121);
    assert_eq!(regs.get(3, 0), 0x1011_0222);
    assert!(regs.has_aarch32());
}

#[test]
fn a_cpu_that_has_everything_shows_what_is_switched() {
    let mut all = [0x7777_7777_7777_7777; 64];
    // Signed fields at their best: floating point with half precision, and every granule.
    all[index(4, 0)] = 0x7777_7777_7711_7777;
    let regs = IdRegs::new(&all, VIEW);
    assert_eq!(regs.get(4, 0), 0x1101_0000_0111_0012);
    assert_eq!(regs.get(4, 1), 0x21);
    assert_eq!(regs.get(5, 0), 0x0010_1006);
    assert_eq!(regs.get(6, 0), 0x1221_1111_1021_2120);
    assert_eq!(regs.get(6, 1), 0x0011_1111_0021_1002);
    assert_eq!(regs.get(6, 2), 0x0011_0000_1010_0010);
    assert_eq!(regs.get(7, 0), 0x0000_0000_0010_0022);
    assert_eq!(regs.get(7, 1), 0x1001_1020_0030_2002);
    assert_eq!(regs.get(7, 2), 0x1021_0011_1011_0111);
    for (crm, op2) in [(4, 2), (4, 3), (4, 4), (4, 5), (4, 6), (4, 7), (5, 1), (5, 2), (5, 3), (5, 4)] {
        assert_eq!(regs.get(crm, op2), 0, "c0_c{crm}_{op2}");
    }
    for (crm, op2) in [(5, 5), (5, 6), (5, 7), (6, 3), (6, 4), (7, 3), (7, 4), (7, 5), (7, 6), (7, 7)] {
        assert_eq!(regs.get(crm, op2), 0, "c0_c{crm}_{op2}");
    }
}

/// What must never be seen, by name and by the field's place in the manual.
#[test]
fn what_is_not_switched_is_hidden() {
    let hidden: &[(u8, u8, u8, &str)] = &[
        (4, 0, 8, "EL2"),
        (4, 0, 12, "EL3"),
        (4, 0, 28, "RAS"),
        (4, 0, 32, "SVE"),
        (4, 0, 36, "SEL2"),
        (4, 0, 40, "MPAM"),
        (4, 0, 44, "AMU"),
        (4, 0, 52, "RME"),
        (4, 1, 8, "MTE"),
        (4, 1, 12, "RAS_frac"),
        (4, 1, 16, "MPAM_frac"),
        (4, 1, 24, "SME"),
        (4, 1, 32, "CSV2_frac"),
        (4, 1, 36, "NMI"),
        (4, 1, 44, "GCS"),
        (4, 1, 48, "THE"),
        (5, 0, 4, "TraceVer"),
        (5, 0, 8, "PMUVer"),
        (5, 0, 32, "PMSVer"),
        (5, 0, 40, "TraceFilt"),
        (5, 0, 44, "TraceBuffer"),
        (5, 0, 48, "MTPMU"),
        (5, 0, 52, "BRBE"),
        (6, 0, 24, "TME"),
        (6, 1, 4, "APA"),
        (6, 1, 8, "API"),
        (6, 1, 24, "GPA"),
        (6, 1, 28, "GPI"),
        (6, 1, 56, "XS"),
        (6, 1, 60, "LS64"),
        (6, 2, 0, "WFxT"),
        (6, 2, 8, "GPA3"),
        (6, 2, 12, "APA3"),
        (6, 2, 16, "MOPS"),
        (6, 2, 24, "PAC_frac"),
        (7, 0, 12, "SNSMem"),
        (7, 0, 56, "FGT"),
        (7, 0, 60, "ECV"),
        (7, 1, 4, "VMIDBits"),
        (7, 1, 8, "VH"),
        (7, 1, 16, "LO"),
        (7, 1, 24, "SpecSEI"),
        (7, 1, 28, "XNX"),
        (7, 1, 32, "TWED"),
        (7, 1, 40, "HCX"),
        (7, 1, 52, "TIDCP1"),
        (7, 1, 56, "CMOW"),
        (7, 2, 12, "IESB"),
        (7, 2, 24, "NV"),
        (7, 2, 40, "FWB"),
        (7, 2, 56, "EVT"),
        (7, 3, 0, "TCRX"),
        (7, 3, 4, "SCTLRX"),
        (7, 3, 8, "S1PIE"),
    ];
    for value in 0..=15_u64 {
        let regs = IdRegs::new(&[value * 0x1111_1111_1111_1111; 64], VIEW);
        for (crm, op2, lsb, name) in hidden {
            assert_eq!(field(&regs.values, *crm, *op2, *lsb), 0, "{name}");
        }
    }
}

#[test]
fn the_view_decides_gic_and_addresses() {
    let host = cortex_a72();
    let gic = |on| IdRegs::new(&host, View { gic_system_registers: on, ..VIEW }).get(4, 0) >> 24 & 0xf;
    assert_eq!((gic(true), gic(false)), (1, 0));
    let range = |ipa_bits| IdRegs::new(&host, View { ipa_bits, ..VIEW }).get(7, 0) & 0xf;
    assert_eq!([31, 32, 35, 36, 39, 40, 42, 43, 44].map(range), [0, 0, 0, 1, 1, 2, 3, 3, 4]);
    assert_eq!([48, 52, 255].map(range), [4, 4, 4], "not above the CPU's own 44 bits");
}

#[test]
fn without_aarch32_its_registers_read_as_zero() {
    let mut host = cortex_a72();
    host[index(4, 0)] = 0x1111;
    let regs = IdRegs::new(&host, VIEW);
    assert!(!regs.has_aarch32());
    assert!((0..4).all(|crm| (0..8).all(|op2| regs.get(crm, op2) == 0)));
}

#[test]
fn no_floating_point_is_less_than_some() {
    let (mut with, mut without) = ([0; 64], [0; 64]);
    with[index(4, 0)] = 0x0011_0011;
    without[index(4, 0)] = 0x00ff_0011;
    assert_eq!(IdRegs::new(&without, VIEW).get(4, 0) >> 16 & 0xff, 0xff);
    assert_eq!(IdRegs::new(&common(&with, &without), VIEW).get(4, 0) >> 16 & 0xff, 0xff);
    // TGran64 and TGran4: 0 is there, 0xf is not.
    let (mut with, mut without) = ([0; 64], [0; 64]);
    with[index(7, 0)] = 0x1000_0000;
    without[index(7, 0)] = 0xff00_0000;
    assert_eq!(IdRegs::new(&with, VIEW).get(7, 0) >> 24 & 0xff, 0);
    assert_eq!(IdRegs::new(&common(&without, &with), VIEW).get(7, 0) >> 24 & 0xff, 0xff);
}

#[test]
fn rows_are_in_order_and_fit() {
    let places: Vec<_> = AARCH64.iter().map(|r| (r.crm, r.op2, r.lsb)).collect();
    assert!(places.is_sorted() && places.windows(2).all(|w| w[0] != w[1]));
    assert!(AARCH64.iter().all(|r| r.crm < 8 && r.op2 < 8 && r.lsb <= 60 && r.lsb % 4 == 0 && r.most < 8));
    let places: Vec<_> = AARCH32.iter().map(|r| (r.crm, r.op2)).collect();
    assert!(places.is_sorted() && places.windows(2).all(|w| w[0] != w[1]));
    let whole = |mask: u32| (0..8).all(|n| matches!(mask >> (4 * n) & 0xf, 0 | 0xf));
    assert!(AARCH32.iter().all(|r| (1..4).contains(&r.crm) && r.op2 < 8 && whole(r.mask)));
}

proptest! {
    #[test]
    fn nothing_is_ever_added(seed in prop::collection::vec(any::<u64>(), 128), ipa_bits in 0_u8..64) {
        let host: Raw = seed[..64].try_into().unwrap();
        let other: Raw = seed[64..].try_into().unwrap();
        let view = View { ipa_bits, gic_system_registers: false };
        let (regs, both) = (IdRegs::new(&host, view), common(&host, &other));
        prop_assert_eq!(both, common(&other, &host));
        prop_assert_eq!(common(&both, &host), both);
        prop_assert_eq!(&IdRegs::new(&common(&host, &host), view), &regs);
        let shared = IdRegs::new(&both, view);
        for row in AARCH64 {
            let of = |raw: &Raw| rank(row.sign, field(raw, row.crm, row.op2, row.lsb));
            prop_assert!(of(&regs.values) <= of(&host), "{}", row.name);
            prop_assert!(of(&regs.values) <= rank(row.sign, row.most.into()), "{}", row.name);
            prop_assert!(of(&shared.values) <= of(&regs.values).min(of(&other)), "{}", row.name);
        }
    }
}
