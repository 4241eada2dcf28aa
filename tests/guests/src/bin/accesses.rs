//! Every form of load, store and maintenance, at devices and at nothing: it works or faults, and never hangs.
#![no_std]
#![no_main]

use core::arch::asm;
use guests::trap::{Fault, attempt, ec};
use guests::{check, check_eq, fdt, mmio, mmu, mrs, msr, op, println, uart};

guests::guest!("accesses", main);

/// How a form must behave where nothing is.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// An external abort, exactly.
    Plain,
    /// An abort of this or another kind (alignment, unsupported).
    Odd,
    /// It may do nothing.
    Hint,
}
use Kind::{Hint, Odd, Plain};

struct Form {
    name: &'static str,
    kind: Kind,
    /// Runs it at an address; the base register afterwards.
    run: fn(usize) -> usize,
}

macro_rules! forms {
    ($($kind:ident $text:literal;)*) => {
        [$(Form { name: $text, kind: $kind, run: |at| {
            let mut base = at;
            // SAFETY: a fault is stepped over; nothing else is touched but scratch registers.
            unsafe {
                asm!(".arch armv8-a+lse+fp+simd+rcpc", "mov x1, #0", "mov x2, #0", "mov x3, #0", "mov x4, #0", $text,
                    inout("x0") base, out("x1") _, out("x2") _, out("x3") _, out("x4") _, out("x5") _)
            };
            base
        } }),*]
    };
}

static BASE: [Form; 65] = forms! {
    Plain "ldrb w1, [x0]"; Plain "ldrh w1, [x0]"; Plain "ldr w1, [x0]"; Plain "ldr x1, [x0]";
    Plain "strb w1, [x0]"; Plain "strh w1, [x0]"; Plain "str w1, [x0]"; Plain "str x1, [x0]";
    Plain "ldrsb w1, [x0]"; Plain "ldrsb x1, [x0]"; Plain "ldrsh w1, [x0]"; Plain "ldrsh x1, [x0]";
    Plain "ldrsw x1, [x0]"; Plain "ldr wzr, [x0]"; Plain "str wzr, [x0]"; Plain "ldr xzr, [x0]";
    Plain "ldur w1, [x0, #4]"; Plain "stur w1, [x0, #4]"; Plain "ldr w1, [x0, x2]";
    Plain "str w1, [x0, x2, lsl #2]"; Plain "ldr w1, [x0, w2, uxtw]"; Plain "ldr w1, [x0, #16]";
    Plain "ldtr w1, [x0]"; Plain "sttr w1, [x0]"; Plain "ldtrb w1, [x0]"; Plain "ldtrsw x1, [x0]";
    Plain "ldar w1, [x0]"; Plain "stlr w1, [x0]"; Plain "ldarb w1, [x0]"; Plain "stlrh w1, [x0]";
    Plain "ldr w1, [x0], #4"; Plain "ldr w1, [x0, #4]!"; Plain "str w1, [x0], #4"; Plain "str w1, [x0, #4]!";
    Plain "ldrb w1, [x0], #1"; Plain "strh w1, [x0, #-2]!"; Plain "ldrsw x1, [x0], #4";
    Plain "ldp w1, w2, [x0]"; Plain "ldp x1, x2, [x0]"; Plain "stp w1, w2, [x0]"; Plain "stp x1, x2, [x0]";
    Plain "ldp x1, x2, [x0], #16"; Plain "stp x1, x2, [x0, #-16]!"; Plain "ldnp x1, x2, [x0]";
    Plain "stnp w1, w2, [x0]"; Plain "ldpsw x1, x2, [x0]";
    Odd "ldxr w1, [x0]"; Odd "ldaxr x1, [x0]"; Odd "ldxp x1, x2, [x0]"; Odd "ldxrb w1, [x0]";
    Hint "stxr w3, w1, [x0]"; Hint "stlxp w3, x1, x2, [x0]";
    Hint "clrex; ldxr w1, [x0]; stxr w3, w1, [x0]";
    Odd "ldr w1, [x0, #1]!"; Odd "ldur x1, [x0, #3]"; Odd "stur x1, [x0, #-1]"; Odd "ldp x1, x2, [x0, #8]!";
    Odd "dc zva, x0"; Hint "dc cvac, x0"; Hint "dc civac, x0"; Hint "dc cvau, x0"; Hint "dc ivac, x0";
    Hint "ic ivau, x0"; Hint "prfm pldl1keep, [x0]"; Hint "prfm pstl1strm, [x0]";
};

static FP: [Form; 16] = forms! {
    Plain "ldr b0, [x0]"; Plain "ldr h0, [x0]"; Plain "ldr s0, [x0]"; Plain "ldr d0, [x0]"; Plain "ldr q0, [x0]";
    Plain "str b0, [x0]"; Plain "str s0, [x0]"; Plain "str q0, [x0]"; Plain "ldp q0, q1, [x0]";
    Plain "stp d0, d1, [x0], #16"; Plain "ldur q0, [x0, #16]"; Plain "ldr d0, [x0], #8";
    Plain "ld1 {{v0.16b}}, [x0]"; Plain "st1 {{v0.4s, v1.4s}}, [x0]"; Plain "ld4 {{v0.8b-v3.8b}}, [x0], #32";
    Plain "st1 {{v0.s}}[1], [x0]";
};

static LSE: [Form; 12] = forms! {
    Odd "ldadd w1, w2, [x0]"; Odd "ldaddal x1, x2, [x0]"; Odd "stadd w1, [x0]"; Odd "swp w1, w2, [x0]";
    Odd "swpb w1, w2, [x0]"; Odd "cas w1, w2, [x0]"; Odd "casal x1, x2, [x0]"; Odd "casp x2, x3, x4, x5, [x0]";
    Odd "ldset w1, w2, [x0]"; Odd "ldumax x1, x2, [x0]"; Odd "stclr w1, [x0]"; Odd "caslh w1, w2, [x0]";
};

/// RCpc (FEAT_LRCPC).
static RCPC: [Form; 2] = forms! { Odd "ldapr w1, [x0]"; Odd "ldaprb w1, [x0]"; };

struct Count {
    worked: u32,
    faulted: u32,
}

fn one(form: &Form, at: usize, empty: bool, count: &mut Count) {
    let mut base = at;
    let fault = attempt(|| base = (form.run)(at));
    let Some(fault) = fault else {
        count.worked += 1;
        return check!(!empty || form.kind == Hint, "{} at {at:#x}, where nothing is: no fault", form.name);
    };
    count.faulted += 1;
    check_eq!(base, at, "base register of {} at {at:#x} after a fault", form.name);
    check!(sane(&fault, form, empty), "{} at {at:#x}: {fault:x?}", form.name);
    check!(
        fault.far.wrapping_sub(at as u64).wrapping_add(64) < 128,
        "FAR of {}: {:#x}",
        form.name,
        fault.far
    );
}

fn sane(fault: &Fault, form: &Form, empty: bool) -> bool {
    // External abort; alignment; unsupported exclusive or atomic.
    let status = fault.status();
    let plain = status == 0x10;
    let odd = matches!(status, 0x21 | 0x35);
    // Unprivileged forms may not use our privileged map: a permission fault of level 1 comes first.
    let denied = status == 0x0d && form.name.get(2..4) == Some("tr");
    fault.class() == ec::DATA && (plain || denied || odd && (form.kind != Plain || !empty))
}

fn sweep(places: &[(usize, bool)], when: &str) {
    let isar0 = mrs!("id_aa64isar0_el1");
    let mut count = Count { worked: 0, faulted: 0 };
    let lse = if isar0 >> 20 & 0xf != 0 { &LSE[..] } else { &[] };
    let rcpc = if mrs!("id_aa64isar1_el1") >> 20 & 0xf != 0 { &RCPC[..] } else { &[] };
    for (at, empty) in places {
        for form in BASE.iter().chain(&FP).chain(lse).chain(rcpc) {
            one(form, *at, *empty, &mut count);
        }
    }
    println!("accesses: {when}: {} worked, {} faulted", count.worked, count.faulted);
}

fn main() {
    msr!("cpacr_el1", 3 << 20);
    let nothing = (0x0b00_0100, true);
    // Registers that a stray store does not upset: identification registers and a clock's match register.
    let devices = [
        (0x0900_0fe0, false),
        (0x0901_0fe0, false),
        (0x0800_ffe0, false),
        (0x080a_ffe0, false),
        (0x0a00_0100, false),
    ];
    values();
    sweep(&[nothing], "nothing, MMU off");
    sweep(&devices, "devices, MMU off");
    mmu::build();
    // Everything as Normal memory, so that no alignment check of the Device type comes first.
    mmio::write64(mmu::root(), mmu::NORMAL);
    op!("dsb sy");
    mmu::on();
    sweep(&[nothing, (guests::RAM + fdt::memory() + 0x40, true)], "nothing, MMU on");
    sweep(&devices, "devices, as normal memory");
    mmu::off();
    values();
    uart::init();
}

/// Plain loads of every width and extension give the device's value, and leave the rest of the register right.
fn values() {
    let id = uart::BASE + 0xffc; // PCellID3: 0xb1
    macro_rules! load {
        ($($text:literal $want:expr;)*) => {$(
            let mut got: u64 = 0x5555_5555_5555_5555;
            let fault = attempt(|| {
                // SAFETY: a load of an identification register.
                unsafe { asm!($text, in("x0") id, inout("x1") got, in("x2") 0u64) };
            });
            check!(fault.is_none(), concat!($text, ": {:x?}"), fault);
            check_eq!(got, $want, $text);
        )*};
    }
    load! {
        "ldrb w1, [x0]" 0xb1; "ldrh w1, [x0]" 0xb1; "ldr w1, [x0]" 0xb1;
        "ldrsb w1, [x0]" 0xffff_ffb1; "ldrsb x1, [x0]" 0xffff_ffff_ffff_ffb1; "ldrsh w1, [x0]" 0xb1;
        "ldrsh x1, [x0]" 0xb1; "ldrsw x1, [x0]" 0xb1; "ldar w1, [x0]" 0xb1; "ldarb w1, [x0]" 0xb1;
        "ldur w1, [x0]" 0xb1; "ldr w1, [x0, x2]" 0xb1; "ldtr w1, [x0]" 0xb1; "ldr wzr, [x0]" 0x5555_5555_5555_5555;
    }
    // Which register it is must not matter: x30 and x29 are as good as x1.
    let got: u64;
    // SAFETY: as above; x30 is declared clobbered.
    unsafe { asm!("ldr w30, [{0}]", "mov {1}, x30", in(reg) id, out(reg) got, out("x30") _) };
    check_eq!(got, 0xb1, "ldr w30");
}
