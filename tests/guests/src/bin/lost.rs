//! Turns the MMU on with a table that lies where nothing is: each fetch faults on its walk, for ever.
#![no_std]
#![no_main]

use guests::{mmu, mrs, msr, op, println};

guests::guest!("lost", main);

fn main() {
    println!("lost: translation tables at 0xb000000, where nothing is");
    msr!("mair_el1", mmu::MAIR);
    msr!("tcr_el1", mmu::TCR);
    msr!("ttbr0_el1", 0x0b00_0000);
    op!("tlbi vmalle1");
    op!("dsb sy");
    msr!("sctlr_el1", mrs!("sctlr_el1") | mmu::M);
    guests::fail(format_args!("came back"));
}
