//! Hostile accesses to the interrupt controller: every offset, size and direction, reserved encodings.
#![no_std]
#![no_main]

use guests::code::{MSR, field};
use guests::trap::{attempt, ec};
use guests::{check, check_eq, code, fdt, gic, mmio, mmu, op, println, timer, trap};

guests::guest!("gicfuzz", main);

const VALUES: [u64; 4] = [!0, 0, 0x5a5a_5a5a_5a5a_5a5a, 0xa5a5_a5a5_a5a5_a5a5];

struct Count {
    worked: u32,
    faulted: u32,
}

fn access(at: usize, size: usize, write: Option<u64>, count: &mut Count) {
    let fault = attempt(|| match (size, write) {
        (1, None) => _ = mmio::read8(at),
        (2, None) => _ = mmio::read16(at),
        (4, None) => _ = mmio::read32(at),
        (_, None) => _ = mmio::read64(at),
        (1, Some(v)) => mmio::write8(at, v as u8),
        (2, Some(v)) => mmio::write16(at, v as u16),
        (4, Some(v)) => mmio::write32(at, v as u32),
        (_, Some(v)) => mmio::write64(at, v),
    });
    match fault {
        None => count.worked += 1,
        Some(fault) => {
            count.faulted += 1;
            check!(
                fault.class() == ec::DATA && matches!(fault.status(), 0x10 | 0x21),
                "{size} bytes at {at:#x} ({write:x?}): {fault:x?}"
            );
        }
    }
}

/// Around GICR_CTLR: enabling LPIs with hostile tables is the hypervisor's business if it has LPIs; QEMU alone reads them.
fn spared(at: usize, strict: bool) -> bool {
    !strict && !gic::v2() && (gic::gicr()..gic::gicr() + 0x100).contains(&at)
}

fn sweep(from: usize, to: usize, strict: bool) -> Count {
    let mut count = Count { worked: 0, faulted: 0 };
    for (round, at) in (from..to).step_by(4).enumerate() {
        for size in [1, 2, 4, 8] {
            access(at, size, None, &mut count);
            if !spared(at, strict) {
                access(at, size, Some(VALUES[(round + size) % 4]), &mut count);
            }
        }
        // Misaligned: every odd offset somewhere, at a size that does not fit.
        let odd = at + 1 + round % 3;
        let size = [2, 4, 8][round % 3];
        access(odd, size, None, &mut count);
        if !spared(at, strict) {
            access(odd, size, Some(VALUES[round % 4]), &mut count);
        }
    }
    // Once more the registers with a meaning, with every value.
    for at in (from..from + 0x1000).step_by(4).filter(|at| !spared(*at, strict)) {
        for value in VALUES {
            access(at, 4, Some(value), &mut count);
        }
    }
    count
}

/// System registers of the CPU interface with values that mean nothing.
fn encodings() {
    // Reserved and extreme SGI requests: every routing mode, range, affinity.
    for register in [field(3, 0, 12, 11, 5), field(3, 0, 12, 11, 6), field(3, 0, 12, 11, 7)] {
        for value in [
            0,
            !0,
            1 << 40,
            1 << 40 | 0xffff,
            0xffff,
            0xfu64 << 44 | 0xffff,
            0xff << 48 | 0xffff,
            0xff << 32 | 0xffff,
            0xff << 16 | 0xffff,
            0xf << 24 | 0xfffe,
            1 << 63,
        ] {
            let fault = attempt(|| _ = code::run(&[MSR | register], value));
            check!(
                fault.is_none_or(|f| f.is_undefined()),
                "SGI register {register:#x} = {value:#x}: {fault:x?}"
            );
        }
    }
    // PMR, EOIR0, BPR0, AP0R0-3, AP1R0-3, DIR, EOIR1, BPR1, CTLR, SRE, IGRPEN0, IGRPEN1.
    for register in [
        field(3, 0, 4, 6, 0),
        field(3, 0, 12, 8, 1),
        field(3, 0, 12, 8, 3),
        field(3, 0, 12, 8, 4),
        field(3, 0, 12, 8, 5),
        field(3, 0, 12, 8, 7),
        field(3, 0, 12, 9, 0),
        field(3, 0, 12, 9, 1),
        field(3, 0, 12, 9, 3),
        field(3, 0, 12, 11, 1),
        field(3, 0, 12, 12, 1),
        field(3, 0, 12, 12, 3),
        field(3, 0, 12, 12, 4),
        field(3, 0, 12, 12, 6),
        field(3, 0, 12, 12, 7),
    ] {
        for value in
            [!0, 0, 1020, 1021, 1022, 1023, 1024, 5119, 8191, 8192, 0xff_ffff, 1 << 32, 1 << 63, 7, 2, 0xff]
        {
            for word in [MSR | register, code::MRS | register] {
                let fault = attempt(|| _ = code::run(&[word], value));
                check!(
                    fault.is_none_or(|f| f.is_undefined()),
                    "register {register:#x} = {value:#x}: {fault:x?}"
                );
            }
        }
    }
}

/// GICC or the redistributors.
fn second_frame() -> (&'static str, usize, usize) {
    if gic::v2() {
        ("GICC", gic::gicc(), gic::gicc() + 0x1_0000)
    } else {
        ("GICR", gic::gicr(), gic::gicr() + gic::GICR_STRIDE * fdt::cpus())
    }
}

fn main() {
    let strict = fdt::under_hypervisor();
    mmu::build();
    // Devices as Normal memory: what is misaligned gets past stage 1.
    mmio::write64(mmu::root(), mmu::NORMAL);
    op!("dsb sy");
    mmu::on();
    let frames = [("GICD", gic::gicd(), gic::gicd() + 0x1_0000), second_frame()];
    for (name, from, to) in frames {
        let count = sweep(from, to, strict);
        println!("gicfuzz: {name}: {} accesses worked, {} faulted", count.worked, count.faulted);
    }
    let end = second_frame().2;
    for at in [gic::gicd() - 4, gic::gicd() + 0x1_0000 - 4, end - 4, end, end + 0x1_0000] {
        for size in [1, 4, 8] {
            access(at, size, None, &mut Count { worked: 0, faulted: 0 });
        }
    }
    encodings();
    mmio::write64(mmu::root(), mmu::DEVICE);
    mmu::off();
    afterwards();
}

/// Set up from anew, it works as ever.
fn afterwards() {
    gic::init();
    trap::on_irq(gic::record);
    gic::enable(5);
    gic::enable(40);
    gic::forget();
    trap::irqs_on();
    gic::send(5, 1);
    check!(timer::until(2000, || gic::count() == 1), "no SGI after all that");
    gic::pend(40);
    check!(timer::until(2000, || gic::count() == 2), "no SPI after all that");
    check_eq!(gic::entry(0).0, 5, "first interrupt");
    check_eq!(gic::entry(1).0, 40, "second interrupt");
    trap::irqs_off();
}
