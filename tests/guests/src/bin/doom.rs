//! Faults for ever: the vectors lie where nothing is. A hypervisor stops this guest and says where it was.
#![no_std]
#![no_main]

use guests::{msr, op, println};

guests::guest!("doom", main);

fn main() {
    println!("doom: vectors at 0xb000000, where nothing is");
    msr!("vbar_el1", 0x0b00_0000);
    op!("udf #0");
    guests::fail(format_args!("came back"));
}
