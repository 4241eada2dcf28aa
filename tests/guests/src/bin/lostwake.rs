//! The timer is set anew before its interrupt is taken, and the guest waits in a call: it wakes.
#![no_std]
#![no_main]

use guests::gic;
use guests::timer::{self, VIRTUAL, micros, now, until, wait};
use guests::{check, psci, trap};

guests::guest!("lostwake", main);

fn main() {
    gic::init();
    gic::enable(VIRTUAL);
    for _ in 0..3 {
        trap::irqs_off();
        timer::arm(0);
        wait(micros(500));
        let due = now() + micros(5000);
        timer::arm(due);
        psci::hvc(psci::CPU_SUSPEND, [0, 0, 0]);
        check!(until(5000, || gic::pending(VIRTUAL)), "nothing pends");
        check!(now() >= due, "it pends before it is due");
        let acknowledged = gic::await_ack(VIRTUAL);
        timer::stop();
        gic::end(acknowledged);
    }
}
