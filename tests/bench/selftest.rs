//! Proves that the plugin counts exactly: a machine whose every instruction is known.
//!
//! Sixty instructions play hypervisor and guest, written as words so that no assembler is needed. The
//! guest makes a hypercall, reads a trapped register, waits, and does nothing, a hundred times each; the hypervisor
//! answers with paths of known length, one with a loop, one that waits at EL2 with an interrupt pending.

use std::fs;
use std::time::Duration;

use crate::counts::{Counters, Counts, Summary};
use crate::qemu::{Run, folder, text};

/// From the start of the image, which QEMU loads at 0x4008_0000 as it is no Linux Image.
const START: [u32; 33] = [
    0x1000_4001, // adr  x1, vectors
    0xd51c_c001, // msr  vbar_el2, x1
    0xd2b0_0001, // mov  x1, #1 << 31           RW
    0xb273_0021, // orr  x1, x1, #1 << 13       TWI
    0xb26e_0021, // orr  x1, x1, #1 << 18       TID3
    0xd51c_1101, // msr  hcr_el2, x1
    0xd282_4681, // mov  x1, #0x1234
    0xd51c_e061, // msr  cntvoff_el2, x1
    0x1000_00a1, // adr  x1, guest
    0xd51c_4021, // msr  elr_el2, x1
    0xd280_78a1, // mov  x1, #0x3c5             EL1h, all masked
    0xd51c_4001, // msr  spsr_el2, x1
    0xd69f_03e0, // eret
    0xd280_0c93, // guest: mov x19, #100
    0xd503_283f, // again: hint #65
    0xd400_00e2, // hvc  #7
    0xd503_281f, // hint #64
    0xd503_285f, // hint #66
    0xd538_0400, // mrs  x0, id_aa64pfr0_el1
    0xd503_281f, // hint #64
    0xd503_287f, // hint #67
    0xd503_207f, // wfi
    0xd503_281f, // hint #64
    0xd503_289f, // hint #68
    0xd503_281f, // hint #64
    0xf100_0673, // subs x19, x19, #1
    0x54ff_fe81, // b.ne again
    0xd280_0540, // mov  x0, #42
    0xd503_2e1f, // hint #112
    0xd2b0_8000, // movz x0, #0x8400, lsl #16
    0xf280_0100, // movk x0, #8                 SYSTEM_OFF
    0xd400_0002, // hvc  #0
    0x1400_0000, // b    .
];

/// At VBAR_EL2 + 0x400: synchronous exceptions from AArch64.
const VECTOR: [u32; 26] = [
    0xd53c_5209, // mrs  x9, esr_el2
    0xd35a_fd29, // lsr  x9, x9, #26
    0xf100_613f, // cmp  x9, #0x18
    0x5400_0260, // b.eq skip
    0xf100_053f, // cmp  x9, #0x01
    0x5400_0160, // b.eq wait
    0xd2b0_800a, // movz x10, #0x8400, lsl #16
    0xf280_010a, // movk x10, #8
    0xeb0a_001f, // cmp  x0, x10
    0x5400_00a0, // b.eq off
    0xd280_00ab, // mov  x11, #5
    0xf100_056b, // subs x11, x11, #1
    0x54ff_ffe1, // b.ne . - 4
    0xd69f_03e0, // eret
    0xd400_0003, // off: smc #0
    0x1400_0000, // b    .
    0xd53c_1109, // wait: mrs x9, hcr_el2
    0xb279_0129, // orr  x9, x9, #1 << 7        VI: something is pending
    0xd51c_1109, // msr  hcr_el2, x9
    0xd503_207f, // wfi
    0x9278_f929, // bic  x9, x9, #1 << 7
    0xd51c_1109, // msr  hcr_el2, x9
    0xd53c_4029, // skip: mrs x9, elr_el2
    0x9100_1129, // add  x9, x9, #4
    0xd51c_4029, // msr  elr_el2, x9
    0xd69f_03e0, // eret
];

const VECTORS: usize = 0x800;
const TIMES: u64 = 100;
/// 10 to the last branch, 1 for the loop's counter, 5 rounds of 2, and the ERET.
const HYPERCALL: u64 = 10 + 1 + 5 * 2 + 1;
/// 4 to its branch, 4 to step over the instruction.
const REGISTER: u64 = 4 + 4;
/// 6 to its branch, 4 with the WFI, 2 more, 4 to step over.
const WAIT: [u64; 3] = [6 + 4 + 2 + 4, 6 + 4, 2 + 4];

fn image() -> Vec<u8> {
    let mut image = vec![0; VECTORS + 0x400];
    for (place, word) in image.chunks_exact_mut(4).zip(START) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    image.extend(VECTOR.iter().flat_map(|word| word.to_le_bytes()));
    image
}

fn always(value: u64) -> Option<Summary> {
    Some(Summary { n: TIMES, min: value, median: value, max: value })
}

fn judge(counts: &Counts) -> Result<(), String> {
    let mut wrong = Vec::new();
    let mut expect = |what: &str, got: String, want: String| {
        if got != want {
            wrong.push(format!("{what}: {got} instead of {want}"));
        }
    };
    let rows = [
        (1, "HVC #7", HYPERCALL),
        (2, "MRS S3_0_C0_C4_0", REGISTER),
        (3, "WFI, until EL2 waits", WAIT[1]),
        (3, "WFI, after EL2 woke", WAIT[2]),
    ];
    for (row, reason, cost) in rows {
        let got = counts.costs(row, reason).summary();
        expect(reason, format!("{got:?}"), format!("{:?}", always(cost)));
    }
    for (row, cost, exits) in [(1, HYPERCALL, 1), (2, REGISTER, 1), (3, WAIT[0], 1), (4, 0, 0)] {
        let found = counts.rows.iter().find(|r| r.row == row).map(|r| (r.cost.summary(), r.exits.summary()));
        expect(
            &format!("row {row}"),
            format!("{found:?}"),
            format!("{:?}", Some((always(cost), always(exits)))),
        );
    }
    let vcpu = counts.vcpu()?;
    let mark = counts.mark(0)?;
    let load = vcpu.load.unwrap_or_default();
    expect(
        "marked value and offset",
        format!("{:?}", (mark.x0, mark.cntvoff)),
        format!("{:?}", (42, 0x1234)),
    );
    let run = Counters {
        el1: 1 + TIMES * 13 + 2,
        el2: TIMES * (HYPERCALL + REGISTER + WAIT[0]),
        exits: 3 * TIMES,
        ..Counters::default()
    };
    expect("guest's run", format!("{:?}", mark.at.since(&load)), format!("{run:?}"));
    // QEMU's own boot stub for a flat binary comes before the thirteen.
    expect("load", format!("{:?}", load.el2 > 13 && load.guest() == 0), "true".into());
    let off = Counters { el1: 3, exits: 1, ..Counters::default() };
    expect("power off", format!("{:?}", vcpu.off.map(|at| at.since(&mark.at))), format!("{:?}", Some(off)));
    expect("EL2's last work", (vcpu.total.el2 - mark.at.el2).to_string(), "11".into());
    if wrong.is_empty() { Ok(()) } else { Err(format!("the plugin counts wrongly: {}", wrong.join("; "))) }
}

/// Runs it.
///
/// # Errors
/// What was miscounted.
pub(crate) fn run(cpu: &str) -> Result<(), String> {
    let file = folder().join("selftest.bin");
    fs::write(&file, image()).map_err(|e| format!("{}: {e}", file.display()))?;
    let args = vec!["-kernel".into(), text(&file)];
    let patience = Duration::from_secs(60);
    let run =
        Run { name: "selftest", cpu, el2: true, gic: 3, memory: "128M", args, patience, ..Run::default() };
    judge(&run.run()?.counts)
}
