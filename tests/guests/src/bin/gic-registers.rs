//! The registers themselves: what is read-only, what is reserved, which sizes work, what identifies them.
#![no_std]
#![no_main]

use guests::code::{self, MRS, field};
use guests::gic::{self, cpuif, reg};
use guests::mmio::{read8, read32, read64, write8, write32, write64};
use guests::trap::attempt;
use guests::{check, check_eq, fdt, mrs, msr, println};

guests::guest!("gic-registers", main);

const SPI: u32 = 40;

fn main() {
    gic::init();
    identification();
    control();
    arrays();
    sizes();
    beyond();
    if gic::v2() {
        targets();
        cpu_interface();
        no_system_registers();
    } else {
        routers();
        redistributor();
        system_registers();
    }
}

/// A register that a write does not change.
fn read_only(name: &str, at: usize) {
    let was = read32(at);
    for value in [0, !0, 0x5a5a_5a5a] {
        write32(at, value);
        check_eq!(read32(at), was, "{name} after a write of {value:#x}");
    }
}

/// A register that is reserved: zero, whatever is written.
fn zero(name: &str, at: usize) {
    check_eq!(read32(at), 0, "{name}");
    read_only(name, at);
}

fn identification() {
    let gicd = gic::gicd();
    let typer = read32(gicd + reg::TYPER);
    check!((32..=1020).contains(&gic::lines()), "GICD_TYPER.ITLinesNumber of {typer:#x}");
    check!(gic::lines() > 80, "GICD_TYPER.ITLinesNumber of {typer:#x} does not reach the last device");
    check_eq!(typer >> 10 & 1, 0, "GICD_TYPER.SecurityExtn");
    let pidr2 = if gic::v2() { reg::PIDR2_V2 } else { reg::PIDR2_V3 };
    let version = if gic::v2() { 2 } else { 3 };
    check_eq!(read32(gicd + pidr2) >> 4 & 0xf, version, "GICD_PIDR2.ArchRev");
    if gic::v2() {
        check_eq!((typer >> 5 & 7) as usize + 1, fdt::cpus(), "GICD_TYPER.CPUNumber + 1");
        check_eq!(typer & 0xffff_0300, 0, "GICD_TYPER's reserved bits");
    } else {
        check!(typer >> 19 & 0x1f >= 9, "GICD_TYPER.IDbits of {typer:#x}");
    }
    read_only("GICD_TYPER", gicd + reg::TYPER);
    read_only("GICD_IIDR", gicd + reg::IIDR);
    read_only("GICD_PIDR2", gicd + pidr2);
    println!("gic-registers: GICD_IIDR {:#x}, {} interrupts", read32(gicd + reg::IIDR), gic::lines());
}

/// GICD_CTLR: the two groups' enables, and for GICv3 ARE and DS, which one security state and system registers fix.
fn control() {
    let ctlr = gic::gicd() + reg::CTLR;
    let fixed = if gic::v2() { 0 } else { read32(ctlr) & 0x50 };
    check!(gic::v2() || fixed & 0x10 != 0, "GICD_CTLR.ARE is 0");
    let groups = if gic::quirks::has_groups() { 4 } else { 2 };
    for enables in 0..groups {
        write32(ctlr, fixed | enables);
        gic::sync(32);
        check_eq!(read32(ctlr) & 0x7fff_ffff, fixed | enables, "GICD_CTLR");
    }
    if gic::v2() {
        write32(ctlr, !3);
        check_eq!(read32(ctlr), 0, "GICD_CTLR's reserved bits");
    }
    gic::distributor(true);
}

/// What is the same in all bit arrays, and the reserved space between.
fn arrays() {
    let gicd = gic::gicd();
    let config = gic::frame(0) + reg::CONFIG;
    check_eq!(read32(config) & 0xaaaa_aaaa, 0xaaaa_aaaa, "ICFGR0: SGIs are edges");
    read_only("ICFGR0", config);
    let config = gicd + reg::CONFIG + 4 * (SPI as usize / 16);
    for value in [0xaaaa_aaaa, 0, 0xa0a0_0a0a] {
        write32(config, value);
        check_eq!(read32(config) & 0xaaaa_aaaa, value, "GICD_ICFGR2");
    }
    // The lower bit of each field was once a model; now it is reserved.
    write32(config, 0x5555_5555);
    check_eq!(read32(config), 0, "GICD_ICFGR2's reserved bits");
    for (name, offset) in [("GICD + 0x7c", 0x7c), ("GICD + 0xc", 0xc), ("GICD + 0xefc", 0xefc)] {
        zero(name, gicd + offset);
    }
    // PPIs of an SPI's word in the redistributor's arrays: GICv3 has them in GICR alone.
    if !gic::v2() {
        for array in [reg::GROUP, reg::ISENABLE, reg::ICENABLE, reg::ISPEND, reg::ISACTIVE, reg::PRIORITY] {
            zero("a private interrupt in GICD", gicd + array);
        }
        zero("GICD_ICFGR0", gicd + reg::CONFIG);
    }
    // SGIs have no gaps: sixteen enables, whether they switch or not.
    write32(gic::word(reg::ISENABLE, 0), 0xffff);
    gic::sync(0);
    check_eq!(read32(gic::word(reg::ISENABLE, 0)) & 0xffff, 0xffff, "enables of the SGIs");
    check_eq!(read32(gic::word(reg::ICENABLE, 0)) & 0xffff, 0xffff, "the other view of them");
}

/// Priorities by byte and by word; the bits that are not there are zero.
fn sizes() {
    for id in [4, 24, SPI] {
        let at = gic::frame(id) + reg::PRIORITY + id as usize;
        write32(at, 0x8040_2010);
        check_eq!(read32(at), 0x8040_2010, "four priorities from {id}");
        write8(at + 1, 0xe0);
        check_eq!(read32(at), 0x8040_e010, "one priority by byte");
        for n in 0..4 {
            check_eq!(u32::from(read8(at + n)), 0x8040_e010u32 >> (8 * n) & 0xff, "priority {n} by byte");
        }
        write8(at, 0xff);
        let bits = read8(at);
        check!(
            bits.leading_ones() >= 4 && bits.count_ones() == bits.leading_ones(),
            "priority bits {bits:#x}"
        );
        write32(at, 0xa0a0_a0a0);
    }
    if !gic::v2() {
        let typer = gic::redistributor() + 8;
        let halves = u64::from(read32(typer)) | u64::from(read32(typer + 4)) << 32;
        check_eq!(read64(typer), halves, "GICR_TYPER in halves");
    }
}

/// Interrupts past the last: no registers.
fn beyond() {
    let lines = gic::lines();
    if lines > 1000 {
        return;
    }
    let gicd = gic::gicd();
    let word = lines as usize / 8;
    for array in
        [reg::GROUP, reg::ISENABLE, reg::ICENABLE, reg::ISPEND, reg::ICPEND, reg::ISACTIVE, reg::ICACTIVE]
    {
        zero("an array past the last interrupt", gicd + array + word);
    }
    zero("a priority past the last interrupt", gicd + reg::PRIORITY + lines as usize);
    zero("a configuration past the last interrupt", gicd + reg::CONFIG + lines as usize / 4);
    if gic::v2() {
        zero("a target past the last interrupt", gicd + reg::TARGETS + lines as usize);
    } else {
        let router = gicd + reg::ROUTER + 8 * lines as usize;
        write64(router, !0);
        check_eq!(read64(router), 0, "GICD_IROUTER past the last interrupt");
    }
}

/// GICD_ITARGETSR: read-only and the own CPU for private interrupts, CPUs that are there for SPIs.
fn targets() {
    let (at, cpus) = (gic::gicd() + reg::TARGETS, fdt::cpus());
    let own = u32::from(gic::own()) * 0x0101_0101;
    // With one CPU the registers may be zero and ignore writes (4.3.12).
    let absent = cpus == 1 && read32(at) == 0;
    for n in 0..8 {
        check_eq!(read32(at + 4 * n), if absent { 0 } else { own }, "GICD_ITARGETSR{n}");
        read_only("GICD_ITARGETSR0 to 7", at + 4 * n);
    }
    let spi = at + SPI as usize;
    let all = (1u32 << cpus) - 1;
    write32(spi, !0);
    let taken = read32(spi) & 0xff;
    check!(absent && taken == 0 || taken & all == all, "GICD_ITARGETSR takes {taken:#x} for {cpus} CPUs");
    if absent {
        return;
    }
    write32(spi, 0x0100_0101);
    check_eq!(read32(spi), 0x0100_0101, "four targets by word");
    write8(spi + 2, 1);
    write8(spi, 0);
    check_eq!(read32(spi), 0x0101_0100, "targets by byte");
    check_eq!(read8(spi + 1), 1, "one target by byte");
    // Pending for nobody; with a target it comes.
    gic::set(reg::ISENABLE, SPI);
    gic::priority(SPI, gic::USUAL);
    gic::pend(SPI);
    check_eq!(gic::highest_pending(), gic::SPURIOUS, "an SPI without a target");
    gic::route(SPI, 0);
    // Implementations differ in whether it was pending without a target.
    gic::pend(SPI);
    let acknowledged = gic::await_ack(SPI);
    gic::end(acknowledged);
}

/// GICC.
fn cpu_interface() {
    use cpuif::{offset, raw, set_raw};
    let iidr = raw(offset::IIDR);
    check_eq!(iidr >> 16 & 0xf, 2, "GICC_IIDR's architecture version");
    for (name, at) in [("GICC_IIDR", offset::IIDR), ("GICC_RPR", offset::RPR), ("GICC_HPPIR", offset::HPPIR)]
    {
        read_only(name, gic::gicc() + at);
    }
    for at in [0x40, 0x80, 0xf8] {
        zero("a reserved register of GICC", gic::gicc() + at);
    }
    // EnableGrp0 and 1, AckCtl, FIQEn, CBPR, EOImode, as far as there are groups; the bypasses of a real one.
    set_raw(offset::CTLR, !0);
    let control = raw(offset::CTLR);
    check!(control & 0x201 == 0x201 && control & !0x7ff == 0, "GICC_CTLR takes {control:#x}");
    set_raw(offset::CTLR, 0);
    check_eq!(raw(offset::CTLR), 0, "GICC_CTLR");
    set_raw(offset::CTLR, 1);
    set_raw(offset::PMR, !0);
    let bits = raw(offset::PMR);
    check!(bits <= 0xff && bits & 0xf0 == 0xf0, "GICC_PMR takes {bits:#x}");
    set_raw(offset::PMR, 0xffff_ff80);
    check_eq!(raw(offset::PMR), 0x80, "GICC_PMR");
    set_raw(offset::PMR, 0xff);
    for point in 0..8 {
        set_raw(offset::BPR, point);
        let least = raw(offset::BPR);
        check!(least == point || point < least && least <= 3, "GICC_BPR takes {point} as {least}");
    }
    set_raw(offset::BPR, 0);
    check_eq!(raw(offset::APR), 0, "GICC_APR0 with nothing active");
    gic::enable(1);
    gic::send_to(1, gic::Targets::Own);
    let acknowledged = gic::await_ack(1);
    check_eq!(
        raw(offset::APR).count_ones() + raw(offset::APR + 4).count_ones() + raw(offset::APR + 8).count_ones(),
        1,
        "active priorities"
    );
    gic::end(acknowledged);
    check_eq!(raw(offset::APR), 0, "GICC_APR0 after the end");
    println!("gic-registers: GICC_IIDR {iidr:#x}, GICC_CTLR {control:#x}");
}

/// A CPU with a GICv2 has no registers of a GICv3's CPU interface.
fn no_system_registers() {
    check_eq!(mrs!("id_aa64pfr0_el1") >> 24 & 0xf, 0, "ID_AA64PFR0_EL1.GIC");
    // PMR, IAR0, IAR1, BPR1, CTLR, IGRPEN1, RPR. Not ICC_SRE_EL1: where a GIC has no other way than by system
    // registers, ICC_SRE_EL2.Enable may be fixed to one, and then nothing keeps EL1 from reading it.
    for (crn, crm, op2) in
        [(4, 6, 0), (12, 8, 0), (12, 12, 0), (12, 12, 3), (12, 12, 4), (12, 12, 7), (12, 11, 3)]
    {
        let register = field(3, 0, crn, crm, op2);
        let fault = attempt(|| _ = code::run(&[MRS | register], 0));
        check!(fault.is_some_and(|f| f.is_undefined()), "S3_0_C{crn}_C{crm}_{op2} of GICv3: {fault:x?}");
    }
}

/// GICD_IROUTER, and what affinity routing leaves unused.
fn routers() {
    let gicd = gic::gicd();
    let router = gicd + reg::ROUTER + 8 * SPI as usize;
    write64(router, 0);
    check_eq!(read64(router), 0, "GICD_IROUTER of the first CPU");
    // Aff3 to Aff0 and Interrupt_Routing_Mode, the latter if GICD_TYPER.No1N is 0; all else is reserved. A
    // reserved bit may hold what was written (QEMU), but Mezzanine's reads as zero.
    write64(router, !0);
    if fdt::under_hypervisor() {
        let one_of_n = read32(gicd + reg::TYPER) >> 25 & 1 == 0;
        let taken = read64(router) & if one_of_n { !(1 << 31) } else { !0 };
        check_eq!(taken & !0xff_00ff_ffff, 0, "GICD_IROUTER's reserved bits");
    }
    write64(router, 0x100);
    write32(router, 0x200);
    check_eq!(read64(router), 0x200, "GICD_IROUTER's lower half");
    write32(router + 4, 0);
    check_eq!(read32(router), 0x200, "GICD_IROUTER after its upper half");
    write64(router, 0);
    for (name, at) in [
        ("GICD_ITARGETSR0", reg::TARGETS),
        ("GICD_ITARGETSR of an SPI", reg::TARGETS + SPI as usize),
        ("GICD_SGIR", reg::SGIR),
        ("GICD_CPENDSGIR", reg::CPENDSGI),
        ("GICD_SPENDSGIR", reg::SPENDSGI),
    ] {
        zero(name, gicd + at);
    }
}

fn redistributor() {
    let rd = gic::redistributor();
    check_eq!(read32(rd + reg::PIDR2_V3) >> 4 & 0xf, 3, "GICR_PIDR2.ArchRev");
    let typer = read64(rd + 8);
    check_eq!(typer >> 8 & 0xffff, 0, "GICR_TYPER.Processor_Number");
    read_only("GICR_TYPER", rd + 8);
    read_only("GICR_IIDR", rd + 4);
    for n in 0..fdt::cpus() {
        let last = read32(gic::gicr() + gic::GICR_STRIDE * n + 8) >> 4 & 1;
        check_eq!(last as usize, usize::from(n + 1 == fdt::cpus()), "GICR_TYPER.Last of {n}");
    }
    // Asleep and awake again.
    let waker = rd + 0x14;
    write32(waker, 2);
    check_eq!(read32(waker) & 2, 2, "GICR_WAKER.ProcessorSleep");
    write32(waker, 0);
    check!(guests::timer::until(1000, || read32(waker) & 6 == 0), "GICR_WAKER {:#x}", read32(waker));
    let sgi = rd + gic::SGI;
    for array in [reg::GROUP, reg::ISENABLE, reg::ICENABLE, reg::ISPEND, reg::ICPEND] {
        zero("an SPI's word in GICR", sgi + array + 4);
    }
    zero("an SPI's priority in GICR", sgi + reg::PRIORITY + 32);
    // Of this CPU's interrupts each has a group.
    let group = sgi + reg::GROUP;
    for value in [0, 0xa5a5_0ff0, !0] {
        write32(group, value);
        gic::sync(0);
        check_eq!(read32(group), value, "GICR_IGROUPR0");
    }
}

fn system_registers() {
    check!(mrs!("id_aa64pfr0_el1") >> 24 & 0xf >= 1, "ID_AA64PFR0_EL1.GIC");
    check_eq!(mrs!("icc_sre_el1") & 1, 1, "ICC_SRE_EL1.SRE");
    let control = mrs!("icc_ctlr_el1");
    check!(control >> 8 & 7 >= 3, "ICC_CTLR_EL1.PRIbits of {control:#x}");
    check!(control >> 11 & 7 <= 1, "ICC_CTLR_EL1.IDbits of {control:#x}");
    for value in [0u64, 2, 0] {
        msr!("icc_ctlr_el1", value);
        check_eq!(mrs!("icc_ctlr_el1") & 3, value, "ICC_CTLR_EL1");
    }
    // PRIbits and IDbits say what there is; a write does not change them.
    msr!("icc_ctlr_el1", 0xff00);
    check_eq!(mrs!("icc_ctlr_el1") & 0xff00, control & 0xff00, "ICC_CTLR_EL1's read-only fields");
    msr!("icc_ctlr_el1", 0);
    msr!("icc_pmr_el1", !0);
    let bits = mrs!("icc_pmr_el1");
    check!(bits <= 0xff && bits & 0xf0 == 0xf0, "ICC_PMR_EL1 takes {bits:#x}");
    check_eq!(
        8 - (bits as u8).trailing_zeros(),
        (control >> 8 & 7) as u32 + 1,
        "bits of ICC_PMR_EL1 and PRIbits"
    );
    msr!("icc_pmr_el1", 0x80);
    check_eq!(mrs!("icc_pmr_el1"), 0x80, "ICC_PMR_EL1");
    msr!("icc_pmr_el1", 0xff);
    for on in [0u64, 1] {
        msr!("icc_igrpen0_el1", on);
        msr!("icc_igrpen1_el1", on);
        check_eq!(mrs!("icc_igrpen0_el1"), on, "ICC_IGRPEN0_EL1");
        check_eq!(mrs!("icc_igrpen1_el1"), on, "ICC_IGRPEN1_EL1");
    }
    msr!("icc_igrpen0_el1", 0);
    check_eq!(mrs!("icc_ap0r0_el1") | mrs!("icc_ap1r0_el1"), 0, "active priorities with nothing active");
    gic::enable(1);
    gic::group(1, 1);
    gic::send_to(1, gic::Targets::Own);
    let acknowledged = gic::await_ack(1);
    check_eq!(mrs!("icc_ap1r0_el1").count_ones(), 1, "ICC_AP1R0_EL1 with one active");
    check_eq!(mrs!("icc_ap0r0_el1"), 0, "ICC_AP0R0_EL1 with one of group 1 active");
    gic::end(acknowledged);
    check_eq!(mrs!("icc_ap1r0_el1"), 0, "ICC_AP1R0_EL1 after the end");
    // Reading what is write-only, and writing what is read-only, is undefined.
    for (name, word) in [
        ("a read of ICC_EOIR1_EL1", MRS | field(3, 0, 12, 12, 1)),
        ("a read of ICC_DIR_EL1", MRS | field(3, 0, 12, 11, 1)),
        ("a read of ICC_SGI1R_EL1", MRS | field(3, 0, 12, 11, 5)),
        ("a write of ICC_IAR1_EL1", code::MSR | field(3, 0, 12, 12, 0)),
        ("a write of ICC_HPPIR1_EL1", code::MSR | field(3, 0, 12, 12, 2)),
        ("a write of ICC_RPR_EL1", code::MSR | field(3, 0, 12, 11, 3)),
    ] {
        let fault = attempt(|| _ = code::run(&[word], 0));
        check!(fault.is_some_and(|f| f.is_undefined()), "{name}: {fault:x?}");
    }
}
