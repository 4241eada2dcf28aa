//! Small and long-lived: sleeps, and finds its memory as it left it: `tag=N naps=10 period=20` (ms).
//!
//! Many of them at once, each with another tag, show that none ever sees another's memory or translations.
#![no_std]
#![no_main]

use guests::timer::{self, VIRTUAL, micros, now};
use guests::{args, check_eq, gic, image_end, mmio, mmu, op, println};

guests::guest!("tiny", main);

/// Words of memory, a page from one to the next.
const PAGES: usize = 64;
const PAGE: usize = 4096;

fn pattern(tag: u64, nap: u64, page: usize) -> u64 {
    (tag << 32 | nap << 16 | page as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn main() {
    let (tag, naps) = (args::number("tag", 0), args::number("naps", 10));
    let period = micros(1000 * args::number("period", 20));
    let at = |page: usize| image_end() + PAGE * page;
    gic::init();
    gic::enable(VIRTUAL);
    mmu::build();
    for nap in 0..naps {
        // Translated by its own tables every other time.
        if nap % 2 == 0 {
            mmu::off()
        } else {
            mmu::on()
        }
        (0..PAGES).for_each(|page| mmio::write64(at(page), pattern(tag, nap, page)));
        timer::arm(now() + period);
        while gic::highest_pending() != VIRTUAL {
            op!("wfi");
        }
        let acknowledged = gic::await_ack(VIRTUAL);
        timer::stop();
        gic::end(acknowledged);
        for page in 0..PAGES {
            check_eq!(
                mmio::read64(at(page)),
                pattern(tag, nap, page),
                "tiny {tag}: page {page} after nap {nap}"
            );
        }
    }
    println!("tiny: {tag}");
}
