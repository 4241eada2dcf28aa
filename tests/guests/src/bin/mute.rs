//! Says nothing and never waits: a hypervisor tells people where it is.
#![no_std]
#![no_main]

guests::guest!("mute", main);

fn main() {
    loop {
        core::hint::spin_loop();
    }
}
