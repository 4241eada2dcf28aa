//! Where controllers of the same version differ, as guests see it.

use super::v2::{gicc_reg, read};
use super::{v2, word};
use crate::mmio::{read32, write32};
use crate::{fdt, mrs, msr};

/// GICC_IIDR of QEMU's GICv2, whose GICC and GICV are one piece of code: it names no product.
const QEMU: u32 = 0x0002_043b;

/// Whether the CPU interface is QEMU's own GICv2, natively or as GICV below a hypervisor.
///
/// It has no AIAR, AEOIR and AHPPIR (they read as zero and ignore writes), the least ABPR of GICV is one that its
/// BPR cannot have, HPPIR does not tell an SGI's source,
/// and IAR acknowledges what is not signalled because its group is off while the other is on. IHI 0048B (4.4) has
/// all of it otherwise.
pub fn qemu_cpu_interface() -> bool {
    v2() && read(gicc_reg::IIDR) == QEMU
}

/// Whether the distributor is QEMU's own GICv2, natively: it names no product.
///
/// It gives an SPI that software made pending to each of its targets, where IHI 0048B (1.4.3) has the 1-N model,
/// and signals an SPI to one CPU while it is active at another, where 3.2.4 has it wait.
pub fn qemu_distributor() -> bool {
    v2() && read32(super::gicd() + super::reg::IIDR) == 0x43b
}

/// Lets the virtual timer's line, if it is high, fall and rise, where nobody would look at it else.
///
/// With QEMU's GICv2 an end through GICV deactivates the timer's physical interrupt, but QEMU looks at its
/// line only when something else happens to that controller; hardware does at once.
pub fn show_timer() {
    if fdt::under_hypervisor() && mrs!("cntv_ctl_el0") == 5 && qemu_cpu_interface() {
        msr!("cntv_ctl_el0", 3);
        msr!("cntv_ctl_el0", 1);
    }
}

/// Whether interrupts can be put into groups: a GICv2 without the Security Extensions need not have that.
pub fn has_groups() -> bool {
    let at = word(super::reg::GROUP, 32);
    let was = read32(at);
    write32(at, !was);
    let other = read32(at);
    write32(at, was);
    other != was
}
