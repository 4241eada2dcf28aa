//! Says hello and powers off.
#![no_std]
#![no_main]

use guests::println;

guests::guest!("hello", main);

fn main() {
    println!("hello: running at EL{} from {:#x}", guests::mrs!("currentel") >> 2, guests::image_start());
}
