//! Every range of function numbers with hostile arguments, by HVC and SMC: no harm, and -1 for the unknown.
#![no_std]
#![no_main]

use guests::psci::{self, Answer, hvc, smc};
use guests::{RAM, check, check_eq, fdt, gic, println, trap};

guests::guest!("hypercalls", main);

const HOSTILE: [[u64; 3]; 6] = [
    [0, 0, 0],
    [!0, !0, !0],
    [0x8000_0000, 0x7fff_ffff_ffff_ffff, 1 << 63],
    [RAM as u64, RAM as u64, 1 << 40],
    [0xffff_ffff, 0xffff_fffe, 0xffff_fff8],
    [1, 2, 3],
];

/// Functions that rightly end or stop the machine or this CPU, by their number in the PSCI range: CPU_OFF,
/// SYSTEM_OFF, SYSTEM_RESET, CPU_DEFAULT_SUSPEND, SYSTEM_SUSPEND, SYSTEM_RESET2, SYSTEM_OFF2.
fn ends(function: u64) -> bool {
    function >> 24 & 0x3f == 4 && matches!(function & 0xffff, 2 | 8 | 9 | 0xc | 0xe | 0x12 | 0x15)
}

fn main() {
    let strict = fdt::under_hypervisor();
    // Something is always pending, so that CPU_SUSPEND comes back.
    gic::init();
    gic::enable(1);
    gic::send(1, 1);
    let (mut calls, mut answered) = (0u32, 0u32);
    let numbers = || {
        (0..0x60u64).chain([0x7f, 0x80, 0xff, 0x100, 0x3fff, 0x7fff, 0x8000, 0xff00, 0xff01, 0xff03, 0xffff])
    };
    for top in 0..=0xff_u64 {
        for number in numbers() {
            let function = top << 24 | number;
            if ends(function) {
                continue;
            }
            let args = HOSTILE[(top as usize + number as usize) % HOSTILE.len()];
            calls += 1;
            answered += u32::from(call("HVC", hvc, function, args, strict));
            if strict && number < 0x30 {
                calls += 1;
                answered += u32::from(call("SMC", smc, function, args, strict));
            }
        }
    }
    // The ranges that somebody answers, with each set of arguments, and with rubbish above bit 31.
    for top in [0x80u64, 0x84, 0x86, 0xc4, 0xc5, 0xc6, 0xa0] {
        for number in numbers().filter(|n| !ends(top << 24 | n)) {
            for args in HOSTILE {
                calls += 2;
                call("HVC", hvc, top << 24 | number, args, strict);
                call("HVC", hvc, 0xdead_beef << 32 | top << 24 | number, args, strict);
            }
        }
    }
    immediates(strict);
    check!(hvc(psci::VERSION, [0; 3]).x[0] >= 0x1_0000, "PSCI is gone");
    println!("hypercalls: {calls} calls, {answered} numbers answered");
}

fn call(how: &str, by: fn(u64, [u64; 3]) -> Answer, function: u64, args: [u64; 3], strict: bool) -> bool {
    let mut got = Answer { x: [0; 4], kept: true };
    let fault = trap::attempt(|| got = by(function, args));
    if strict {
        check!(fault.is_none(), "{how} {function:#x} {args:x?} faults: {fault:x?}");
        check!(got.kept, "{how} {function:#x} {args:x?} changed x4 to x17");
    }
    got.x[0] as u32 != psci::NOT_SUPPORTED
}

/// Other immediates than 0 are nobody's: they answer like 0, or -1, or are UNDEFINED; they do not hang.
fn immediates(strict: bool) {
    macro_rules! hvc {
        ($($n:literal)*) => {$(
            let mut x0: u64 = 0x8400_0000;
            let fault = trap::attempt(|| {
                // SAFETY: as in the library's calls.
                unsafe { core::arch::asm!(concat!("hvc #", $n), inout("x0") x0, out("x1") _, out("x2") _, out("x3") _) };
            });
            if strict {
                check!(fault.is_none_or(|f| f.is_undefined()), concat!("hvc #", $n, ": {:x?}"), fault);
            }
            let _ = x0;
        )*};
    }
    hvc!(1 2 0xea1 0x4a48 0x7fff 0x8000 0xffff);
    check_eq!(hvc(psci::VERSION, [0; 3]).x[0] >> 16, 1, "PSCI_VERSION afterwards");
}
