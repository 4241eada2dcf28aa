//! Whether what a tree says can all be true at once: no two things at one place, no interrupt that is two.
//!
//! Asked where trees are checked before they are used, and not at boot: a machine runs by its firmware's tree or not
//! at all, and EL2 has better uses for the room.

use super::{Gic, Platform};
use crate::addr::HostRange;
use crate::machine::IntId;
use crate::problem;
use crate::problem::Problem;
use alloc::vec::Vec;

/// Tells `found` of everything that Mezzanine drives, or gives to guests, and that is something else too.
///
/// E0114 for interrupts, E0115 for addresses.
pub fn contradictions(platform: &Platform<'_>, found: &mut dyn FnMut(Problem)) {
    interrupts(platform, found);
    addresses(platform, found);
}

fn interrupts(platform: &Platform<'_>, found: &mut dyn FnMut(Problem)) {
    let timer = &platform.timer;
    let all = [
        ("the physical timer's", timer.physical),
        ("the virtual timer's", timer.virt),
        ("EL2's timer's", timer.hyp),
        ("the GIC's maintenance interrupt", platform.maintenance),
        ("the console's", platform.uart.and_then(|uart| uart.interrupt)),
    ];
    pairs(&all, |(first, a), (second, b)| {
        if let (Some(IntId(a)), Some(b)) = (a, b)
            && *a == b.0
        {
            found(problem!("E0114", ("timer interrupts"); ("{first} and {second} are both interrupt {a}");
                ("Give each its own: PPIs 14, 11 and 10 are usual for the timers, 9 for the GIC; 16 added makes the number")));
        }
    });
}

fn addresses(platform: &Platform<'_>, found: &mut dyn FnMut(Problem)) {
    let mut all: Vec<(&str, HostRange)> = platform.ram.iter().map(|bank| ("RAM", *bank)).collect();
    match &platform.gic {
        Gic::None => {}
        Gic::V2 { dist, cpu, hyp, vcpu } => {
            let further = [("GICH", *hyp), ("GICV", *vcpu)];
            all.extend([("GICD", *dist), ("GICC", *cpu)]);
            all.extend(further.into_iter().filter_map(|(name, range)| Some((name, range?))));
        }
        Gic::V3 { dist, redistributors, .. } => {
            all.push(("GICD", *dist));
            all.extend(redistributors.iter().map(|range| ("GICR", *range)));
        }
    }
    all.extend(platform.uart.map(|uart| ("the console", uart.range)));
    all.extend(platform.rtc.map(|range| ("the clock", range)));
    pairs(&all, |(first, a), (second, b)| {
        if a.overlaps(b) {
            let place = if *first == "RAM" { "memory reg" } else { "reg" };
            found(problem!("E0115", ("{place}"); ("{first} at {a} and {second} at {b} overlap");
                ("Give each addresses of its own")));
        }
    });
}

fn pairs<T>(all: &[T], mut look: impl FnMut(&T, &T)) {
    for (n, first) in all.iter().enumerate() {
        all.iter().skip(n + 1).for_each(|second| look(first, second));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fdt::tests::compiled;
    use std::string::String;

    fn codes(blob: &[u8]) -> Vec<String> {
        let platform = Platform::read(blob).unwrap();
        let mut said = Vec::new();
        contradictions(&platform, &mut |problem| said.push(problem.to_string()));
        said
    }

    #[test]
    fn real_trees_do_not_contradict_themselves() {
        for blob in [
            &include_bytes!("../../tests/fixtures/pi4.dtb")[..],
            include_bytes!("../../tests/fixtures/virt-gicv2.dtb"),
            include_bytes!("../../tests/fixtures/virt-gicv3.dtb"),
        ] {
            assert_eq!(codes(blob), [""; 0]);
        }
    }

    #[test]
    fn what_is_two_things_at_once_is_named() {
        let machine = |ram: &str, hyp: &str| {
            compiled(&std::format!(
                "#address-cells = <1>; #size-cells = <1>; interrupt-parent = <&gic>;
                 memory@40000000 {{ device_type = \"memory\"; reg = {ram}; }};
                 cpus {{ #address-cells = <1>; #size-cells = <0>; cpu@0 {{ device_type = \"cpu\"; reg = <0>; }}; }};
                 gic: intc@8000000 {{ compatible = \"arm,gic-v3\"; interrupt-controller; #interrupt-cells = <3>;
                   reg = <0x8000000 0x10000>, <0x80a0000 0x20000>; interrupts = <1 9 4>; }};
                 timer {{ compatible = \"arm,armv8-timer\";
                   interrupts = <1 13 4>, <1 14 4>, <1 11 4>, <1 {hyp} 4>; }};"
            ))
        };
        let Some(sound) = machine("<0x40000000 0x10000000>", "10") else { return };
        assert_eq!(codes(&sound), [""; 0]);
        let clash = codes(&machine("<0x40000000 0x10000000>", "9").unwrap());
        assert_eq!(clash.len(), 1, "{clash:?}");
        assert!(
            clash[0].starts_with(
                "E0114 timer interrupts: EL2's timer's and the GIC's maintenance interrupt are both interrupt 25."
            ),
            "{clash:?}"
        );
        let overlap = codes(&machine("<0x8000000 0x100000>, <0x80ff000 0x100000>", "10").unwrap());
        assert_eq!(
            overlap.iter().filter(|text| text.starts_with("E0115 memory reg: RAM at ")).count(),
            3,
            "{overlap:?}"
        );
    }
}
