//! Cache maintenance by set and way, and caches that come and go: memory keeps its content.
#![no_std]
#![no_main]

use core::arch::asm;
use guests::{RAM, check_eq, mmio, mmu, mrs, msr, op, println};

guests::guest!("setway", main);

const START: usize = RAM + (8 << 20);
const END: usize = RAM + (24 << 20);

fn pattern(at: usize, seed: u64) -> u64 {
    (at as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn write(seed: u64) {
    for at in (START..END).step_by(328) {
        mmio::write64(at, pattern(at, seed));
    }
}

fn verify(seed: u64, when: &str) {
    let mut wrong = 0;
    for at in (START..END).step_by(328) {
        wrong += u32::from(mmio::read64(at) != pattern(at, seed));
    }
    check_eq!(wrong, 0, "words wrong {when}");
}

macro_rules! by_set_way {
    ($name:ident, $instruction:literal) => {
        /// As Linux and firmware do it: all levels up to coherency, all ways, all sets; how many operations.
        fn $name() -> u64 {
            let clidr = mrs!("clidr_el1");
            let mut operations = 0;
            for level in (0..clidr >> 24 & 7).filter(|level| clidr >> (3 * level) & 7 >= 2) {
                msr!("csselr_el1", level << 1);
                let ccsidr = mrs!("ccsidr_el1");
                let wide = mrs!("id_aa64mmfr2_el1") >> 20 & 0xf != 0;
                let (ways, sets) = if wide {
                    (ccsidr >> 3 & 0x1f_ffff, ccsidr >> 32 & 0xff_ffff)
                } else {
                    (ccsidr >> 3 & 0x3ff, ccsidr >> 13 & 0x7fff)
                };
                let line = (ccsidr & 7) + 4;
                let shift = if ways == 0 { 0 } else { (ways as u32).leading_zeros() };
                for way in 0..=ways {
                    for set in 0..=sets {
                        let value = way << shift | set << line | level << 1;
                        // SAFETY: the test is about exactly this.
                        unsafe { asm!(concat!($instruction, ", {}"), in(reg) value) };
                        operations += 1;
                    }
                }
            }
            op!("dsb sy");
            op!("isb");
            operations
        }
    };
}
by_set_way!(clean_invalidate, "dc cisw");
by_set_way!(invalidate, "dc isw");
by_set_way!(clean, "dc csw");

fn main() {
    write(1);
    let n = clean_invalidate() + invalidate() + clean();
    println!("setway: {n} operations a round");
    verify(1, "after set/way with the MMU off");

    mmu::build();
    for round in 2..5 {
        mmu::on();
        verify(round - 1, "once the MMU is on");
        write(round);
        clean_invalidate();
        verify(round, "after clean and invalidate with the MMU on");
        clean();
        verify(round, "after clean with the MMU on");
        // What a kernel does before it turns its caches off.
        clean_invalidate();
        mmu::off();
        verify(round, "after the MMU went off");
        clean_invalidate();
        write(round);
    }
    // Caches on without MMU and MMU without caches: every combination comes and goes.
    for bits in [mmu::C, mmu::I, mmu::C | mmu::I, mmu::M, mmu::M | mmu::C, mmu::M | mmu::I, 0] {
        let sctlr = mrs!("sctlr_el1") & !(mmu::M | mmu::C | mmu::I);
        clean_invalidate();
        msr!("sctlr_el1", sctlr | bits);
        check_eq!(mrs!("sctlr_el1"), sctlr | bits, "SCTLR_EL1");
        verify(4, "with other bits of SCTLR_EL1");
    }
    for (name, got, value) in [
        ("TCR_EL1", mrs!("tcr_el1"), mmu::TCR),
        ("MAIR_EL1", mrs!("mair_el1"), mmu::MAIR),
        ("TTBR0_EL1", mrs!("ttbr0_el1"), mmu::root() as u64),
    ] {
        check_eq!(got, value, "{name} after all that");
    }
    for value in [0x1234_5000u64, 0, mmu::root() as u64] {
        msr!("ttbr1_el1", value);
        check_eq!(mrs!("ttbr1_el1"), value, "TTBR1_EL1");
        msr!("contextidr_el1", value & 0xff);
        check_eq!(mrs!("contextidr_el1"), value & 0xff, "CONTEXTIDR_EL1");
    }
}
