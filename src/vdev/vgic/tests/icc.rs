//! Registers of the software CPU interface: which there are, their width, and what they keep.

use super::guest::{BOTH, CTLR, EOIR0, Guest, IAR0, ME, PMR, gicc, reg};
use crate::exit::{Size, SysRegId};
use crate::vcpu::Lists;
use crate::vdev::AccessError;
use crate::vdev::vgic::{Frame, GicVersion, Kicks, Outcome, Vgic, VgicConfig, lr};

#[test]
fn active_priorities_are_laid_out_by_the_bits_there_are() {
    for (bits, words) in [(4, 1), (5, 1), (6, 2), (7, 4), (8, 4)] {
        for version in BOTH {
            let mut guest = Guest::of(version, 4, bits);
            let shift = 8 - u64::from(bits.min(7));
            let step = 1 << (8 - bits);
            let mut running = 0xff;
            for priority in [0xe0u64, 0xb0, 0x80, 0x50, 0x30, 0x10, 2, 0].map(|p| p & !(step - 1)) {
                let (n, bit) = (priority >> shift >> 5, priority >> shift & 31);
                let preempts = priority >> shift << shift < running;
                guest.list(0, lr::PENDING | priority << lr::PRIORITY_SHIFT | 40);
                assert_eq!(guest.signals(), preempts);
                if preempts {
                    assert_eq!(guest.read(IAR0), 40);
                    running = priority >> shift << shift;
                    assert_eq!(guest.running_priority(), running);
                    let apr = reg(0xd0 + 4 * n, 12, 8, 4 + n as u32);
                    assert_ne!(guest.read(apr) & 1 << bit, 0, "{priority:#x}");
                }
            }
            let mut highest = running;
            while highest != 0xff {
                guest.write(EOIR0, 1000);
                assert!(guest.running_priority() > highest);
                highest = guest.running_priority();
            }
            assert_eq!(guest.lists.apr, [[0; 4]; 2]);
            if version == GicVersion::V3 {
                for n in 0..4 {
                    for reg in [SysRegId::new(3, 0, 12, 8, 4 + n), SysRegId::new(3, 0, 12, 9, n)] {
                        let there = guest.vgic.icc(ME, reg, Some(!0), &mut guest.lists).is_some();
                        assert_eq!(there, n < words, "{bits} bits, {n}");
                    }
                }
            } else {
                (0..4).for_each(|n| guest.write(gicc(0xd0 + 4 * n), !0));
            }
            let all = if bits == 4 { 0xffff } else { 0xffff_ffff };
            for n in 0..4 {
                assert_eq!(guest.lists.apr[0][n], if n < words as usize { all } else { 0 });
            }
            assert_eq!(guest.running_priority(), 0);
        }
    }
}

#[test]
fn icc_ctlr_tells_of_the_interface() {
    let mut guest = Guest::new(GicVersion::V3);
    assert_eq!(guest.read(CTLR), 4 << 8, "five bits of priority, INTIDs of 16 bits, no Aff3");
    guest.write(CTLR, !0);
    assert_eq!(guest.read(CTLR), 4 << 8 | 3);
    let mpidrs = vec![1 << 32, 0x1f];
    let (version, emulated) = (GicVersion::V3, true);
    let config = VgicConfig { version, mpidrs, spis: 32, lists: 4, priority_bits: 8, emulated };
    guest.vgic = Vgic::new(config);
    assert_eq!(guest.read(CTLR), 7 << 8 | 3 | 1 << 15 | 1 << 18);
}

#[test]
fn what_there_is_not_is_undefined() {
    let mut guest = Guest::new(GicVersion::V3);
    let mut defined = |crn, crm, op2, write| {
        let reg = SysRegId::new(3, 0, crn, crm, op2);
        guest.vgic.icc(ME, reg, write, &mut guest.lists).is_some()
    };
    for (crm, op2) in [(8, 0), (8, 2), (11, 3), (12, 0), (12, 2)] {
        assert!(defined(12, crm, op2, None) && !defined(12, crm, op2, Some(0)), "read-only: {crm} {op2}");
    }
    for (crm, op2) in [(8, 1), (11, 1), (12, 1)] {
        assert!(!defined(12, crm, op2, None) && defined(12, crm, op2, Some(1023)), "write-only: {crm} {op2}");
    }
    for (crm, op2) in [(8, 3), (8, 4), (9, 0), (12, 3), (12, 4), (12, 6), (12, 7)] {
        assert!(defined(12, crm, op2, None) && defined(12, crm, op2, Some(0)), "{crm} {op2}");
    }
    assert!(defined(4, 6, 0, None) && !defined(4, 6, 1, None) && !defined(12, 12, 5, None));
    assert!(!defined(12, 9, 4, None) && !defined(12, 11, 5, Some(0)));
    let mut guest = Guest::new(GicVersion::V2);
    assert_eq!(guest.vgic.icc(ME, PMR.1, None, &mut guest.lists), None, "a GICv2 has none of them");
}

#[test]
fn gicc_is_made_of_words() {
    let mut guest = Guest::new(GicVersion::V2);
    for size in [Size::Byte, Size::Half, Size::Double] {
        let refused = guest.vgic.access(ME, Frame::Gicc, 0, size, None, &mut guest.lists);
        assert_eq!(refused, Outcome::Refused(AccessError::BadSize));
    }
    assert_eq!(guest.read(gicc(0xfc)), 0x4d02_043b);
    guest.write(CTLR, !0);
    assert_eq!(guest.read(CTLR), 0x21f);
    guest.write(CTLR, 0);
    let before = guest.lists.clone();
    for offset in [0x14, 0x18, 0x0c, 0x2c, 0xcc, 0xd4, 0xe0, 0xf8, 0xfc, 0x100, 0xffc, 0x1004, 0xfffc] {
        guest.write(gicc(offset), !0);
    }
    for offset in [0x10, 0x24, 0x2c, 0xe0, 0x1000, 0x1004, 0xfffc] {
        assert_eq!(guest.read(gicc(offset)), 0, "{offset:#x}");
    }
    assert_eq!(guest.lists, before, "what is reserved or read-only keeps nothing");
}

#[test]
fn of_the_hardwares_own_interface_dir_alone_gets_here() {
    for version in BOTH {
        let mpidrs = vec![1 << 31];
        let config = VgicConfig { version, mpidrs, spis: 32, lists: 4, priority_bits: 5, emulated: false };
        let vgic = Vgic::new(config);
        let mut lists = Lists::default();
        vgic.reset_cpu(ME, &mut lists);
        vgic.sync(ME, &mut lists);
        vgic.cpus[0].private.lock().bank.set_active(1 << 20 | 1 << 3);
        lists.loaded = true;
        let before = lists.clone();
        let done = |kicks| Outcome::Done(0, kicks);
        if version == GicVersion::V2 {
            for offset in [0, 0xc, 0x10, 0xfc] {
                let outcome = vgic.access(ME, Frame::Gicc, offset, Size::Word, Some(20), &mut lists);
                assert_eq!(outcome, done(Kicks::NONE));
                assert_eq!(
                    vgic.access(ME, Frame::Gicc, offset, Size::Word, None, &mut lists),
                    done(Kicks::NONE)
                );
            }
            for value in [20, 1 << 10 | 3] {
                let outcome = vgic.access(ME, Frame::Gicc, 0x1000, Size::Word, Some(value), &mut lists);
                assert_eq!(outcome, done(Kicks::NONE));
                assert!(vgic.attention(ME));
            }
        } else {
            assert_eq!(vgic.icc(ME, PMR.1, None, &mut lists), None);
            assert_eq!(vgic.icc(ME, SysRegId::new(3, 0, 12, 12, 1), Some(20), &mut lists), None);
            for value in [20, 3] {
                let outcome = vgic.icc(ME, SysRegId::new(3, 0, 12, 11, 1), Some(value), &mut lists);
                assert_eq!(outcome, Some(done(Kicks::NONE)));
                assert!(vgic.attention(ME));
            }
        }
        assert_eq!(lists, before);
        assert_eq!(vgic.cpus[0].private.lock().bank.active, 0);
        assert!(vgic.attention(ME));
    }
}
