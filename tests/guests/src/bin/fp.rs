//! FP and SIMD registers keep their values over exits, interrupts, and another CPU's use of the unit.
#![no_std]
#![no_main]

use core::sync::atomic::{AtomicU32, Ordering};
use guests::state::{differ_fp as differ, fill_fp as fill};
use guests::timer::{self, VIRTUAL, micros, now, until};
use guests::{check, check_eq, fdt, gic, mmu, mrs, msr, op, println, psci, smp, trap, uart};

guests::guest!("fp", main);

static WRONG: AtomicU32 = AtomicU32::new(0);
static TURNS: AtomicU32 = AtomicU32::new(0);

fn second(_: u64) {
    let enabled = mrs!("cpacr_el1") >> 20 & 3;
    msr!("cpacr_el1", 3 << 20);
    WRONG.fetch_add(u32::from(enabled != 0), Ordering::SeqCst);
    gic::init_cpu();
    gic::enable(1);
    for turn in 1..=100 {
        fill(0x0123_4567_89ab_cdef ^ turn << 1);
        TURNS.fetch_add(1, Ordering::SeqCst);
        while gic::highest_pending() != 1 {
            op!("wfi");
        }
        gic::ack();
        gic::end(1);
        WRONG.fetch_add(differ(0x0123_4567_89ab_cdef ^ turn << 1), Ordering::SeqCst);
    }
    TURNS.store(1000, Ordering::SeqCst);
}

fn main() {
    // Off, the unit traps to EL1 itself.
    let fault = trap::attempt(|| _ = mrs!("s3_3_c4_c4_0"));
    check_eq!(fault.map_or(0, |f| f.class()), 7, "class of an FP access while CPACR_EL1 forbids it");
    msr!("cpacr_el1", 3 << 20);
    gic::init();
    gic::enable(VIRTUAL);
    trap::on_irq(gic::record);

    let seed = 0xfeed_face_cafe_beef;
    fill(seed);
    check_eq!(differ(seed), 0, "registers wrong at once");
    for _ in 0..100 {
        uart::read(uart::reg::FR);
        psci::hvc(psci::VERSION, [0; 3]);
    }
    check_eq!(differ(seed), 0, "registers wrong after device accesses and calls");
    for n in 0..20 {
        timer::arm(now() + micros(200 * n));
        while gic::highest_pending() != VIRTUAL {
            op!("wfi");
        }
        trap::irqs_on();
        until(1000, || gic::count() > 0);
        trap::irqs_off();
        gic::forget();
    }
    check_eq!(differ(seed), 0, "registers wrong after interrupts and WFI");
    if fdt::cpus() < 2 {
        return println!("fp: one CPU");
    }

    mmu::build();
    mmu::on();
    check_eq!(smp::start(1, second), 0, "CPU_ON");
    for turn in 1..=100u64 {
        let mine = 0x5a5a_5a5a_1234_0000 + turn;
        fill(mine);
        let came = until(5000, || u64::from(TURNS.load(Ordering::SeqCst)) >= turn);
        check!(came, "turn {turn}: the second CPU is stuck");
        check_eq!(differ(mine), 0, "registers wrong while two CPUs use the unit, turn {turn}");
        gic::send(1, 2);
        if !came {
            return;
        }
    }
    check!(until(5000, || TURNS.load(Ordering::SeqCst) == 1000), "the second CPU does not end");
    check_eq!(WRONG.load(Ordering::SeqCst), 0, "registers wrong on the second CPU");
    println!("fp: two CPUs took turns");
}
