//! Thirty-two interrupts of one kind, a bit each in a set of words.
//!
//! The GIC's registers are words of 32 interrupts, and so is the model: enabling one is an OR, and asking
//! whether any of 32 has to be delivered is five instructions. A bank is either the SGIs and PPIs of one
//! vCPU or 32 SPIs of the VM; everything here is the same for both, and for both GIC versions.
//!
//! While an interrupt sits in a list register ([`listed`](Bank::listed)), the truth about its pending and
//! active state is there, and what registers and devices do to it meanwhile is noted in words of its own
//! ([`latch`](Bank::latch), [`drop`](Bank::drop), [`quiet`](Bank::quiet), [`rouse`](Bank::rouse)) that
//! [`take_back`](Bank::take_back) merges. So no register *write* ever has to wait for another vCPU.

use super::lr;

/// The bit of interrupt `lane` of a bank.
#[inline(always)]
pub(super) const fn bit(lane: u32) -> u32 {
    1u32.wrapping_shl(lane)
}

/// The numbers of the bits that are set, lowest first.
#[derive(Clone, Copy)]
pub(super) struct Bits(pub(super) u32);

impl Iterator for Bits {
    type Item = u32;

    #[inline(always)]
    fn next(&mut self) -> Option<u32> {
        if self.0 == 0 {
            return None;
        }
        let lane = self.0.trailing_zeros();
        self.0 &= self.0.wrapping_sub(1);
        Some(lane)
    }
}

/// The state of 32 interrupts. Each word has one bit for each.
#[derive(Clone, Debug)]
pub(super) struct Bank {
    /// Those that exist.
    pub(super) valid: u32,
    /// Those of which the configuration is fixed: SGIs.
    pub(super) fixed: u32,
    /// Those that have a source CPU: SGIs of a GICv2 guest (see [`sources`](super::sources)).
    pub(super) sourced: u32,
    /// In Group 1; else Group 0.
    pub(super) group: u32,
    /// Forwarded when pending.
    pub(super) enabled: u32,
    /// Edge-triggered; else level-sensitive.
    pub(super) edge: u32,
    /// Pending by an edge, an SGI, a write of ISPENDR, or a linked physical interrupt.
    pub(super) latch: u32,
    /// The input line is high.
    pub(super) line: u32,
    /// Active. While listed: as it was when last taken back.
    pub(super) active: u32,
    /// Active by a write of ISACTIVER, not by an acknowledgement: raises no running priority, awaits no EOI.
    pub(super) forced: u32,

    /// A physical interrupt of the same INTID is active on behalf of this one.
    pub(super) linked: u32,
    /// Listed, and linked since: what the list register holds is not what the link is about.
    pub(super) fired: u32,
    /// Ended without the hardware: the physical interrupt is to be deactivated by EL2.
    pub(super) release: u32,

    /// In a list register.
    pub(super) listed: u32,
    /// Listed as a hardware entry.
    pub(super) hardware: u32,
    /// Listed, and the list register holds what was `latch`.
    pub(super) moved: u32,
    /// Listed, and ICPENDR was written since.
    pub(super) drop: u32,
    /// Listed, and ICACTIVER was written since.
    pub(super) quiet: u32,
    /// Listed, and ISACTIVER was written since.
    pub(super) rouse: u32,
    /// Listed, and another vCPU waits to know its state.
    pub(super) asked: u32,
    /// `active` and `moved` are from after that question; whoever reads them takes this back.
    pub(super) answered: u32,
    /// Any of what is rare: drop, quiet, rouse, asked, answered, forced, release.
    pub(super) odd: u32,

    /// GICx_IPRIORITYRn.
    pub(super) priority: [u8; 32],
}

impl Bank {
    /// As after reset: disabled, Group 0, priority 0, nothing pending. `edge`: edge-triggered for good.
    pub(super) const fn new(valid: u32, edge: u32) -> Self {
        Self {
            valid,
            fixed: edge,
            sourced: 0,
            group: 0,
            enabled: 0,
            edge,
            latch: 0,
            line: 0,
            active: 0,
            forced: 0,
            linked: 0,
            fired: 0,
            release: 0,
            listed: 0,
            hardware: 0,
            moved: 0,
            drop: 0,
            quiet: 0,
            rouse: 0,
            asked: 0,
            answered: 0,
            odd: 0,
            priority: [0; 32],
        }
    }

    /// Back to [`new`](Self::new), but lines are what devices make them.
    pub(super) fn reset(&mut self) {
        *self = Self { line: self.line, sourced: self.sourced, ..Self::new(self.valid, self.fixed) };
    }

    /// Pending, leaving aside what list registers know.
    #[inline(always)]
    pub(super) fn pending(&self) -> u32 {
        self.latch | self.line & !self.edge
    }

    /// May be forwarded, given GICD_CTLR's group enables.
    #[inline(always)]
    pub(super) fn forwarded(&self, groups: u32) -> u32 {
        let group1 = 0u32.wrapping_sub(groups >> 1 & 1);
        let group0 = 0u32.wrapping_sub(groups & 1);
        self.enabled & (self.group & group1 | !self.group & group0)
    }

    /// Should be in a list register and is not: pending to be delivered, or active. Group enables aside.
    #[inline(always)]
    pub(super) fn wanted(&self) -> u32 {
        (self.pending() & self.enabled | self.active) & !self.listed
    }

    /// [`wanted`](Self::wanted) with the group enables.
    #[inline(always)]
    pub(super) fn deliverable(&self, groups: u32) -> u32 {
        (self.pending() & self.forwarded(groups) | self.active) & !self.listed
    }

    /// The priority of `lane`.
    #[inline(always)]
    pub(super) fn priority(&self, lane: u32) -> u8 {
        self.priority.get(lane as usize & 31).copied().unwrap_or(0)
    }

    /// The linked physical interrupts that no hardware list entry stands for.
    #[inline(always)]
    pub(super) fn parked(&self) -> u32 {
        self.linked & !self.hardware
    }

    /// The line moved; returns whether anybody has to look.
    #[inline(always)]
    pub(super) fn set_line(&mut self, lane: u32, high: bool) -> bool {
        let b = bit(lane) & self.valid;
        if (self.line & b != 0) == high || b == 0 {
            return false;
        }
        self.line ^= b;
        if high {
            self.latch |= b & self.edge;
        }
        // An edge-triggered interrupt does not care that its line fell.
        high || self.edge & b == 0
    }

    /// Has `lanes` pend. Of `linked`, some of them, a physical interrupt was acknowledged and is active now.
    #[inline(always)]
    pub(super) fn raise(&mut self, lanes: u32, linked: u32) {
        self.fired |= self.listed & linked;
        self.linked |= linked;
        self.latch |= lanes;
    }

    /// No list register holds these any more, nor will a guest's EOI reach the hardware.
    #[inline(always)]
    fn unlink(&mut self, lanes: u32) {
        self.release |= self.linked & lanes;
        self.odd |= self.release;
        self.linked &= !lanes;
    }

    /// Marks `lanes`, none of them listed, as no longer active.
    pub(super) fn deactivate(&mut self, lanes: u32) {
        let ended = self.active & lanes;
        self.active &= !ended;
        self.forced &= !ended;
        self.unlink(ended);
    }

    /// ISPENDR.
    pub(super) fn set_pending(&mut self, lanes: u32) {
        self.latch |= lanes & self.valid;
    }

    /// ICPENDR. Of a linked interrupt the physical one is let go: if its line is still high, it comes again.
    pub(super) fn clear_pending(&mut self, lanes: u32) {
        self.latch &= !lanes;
        self.drop |= lanes & self.listed;
        self.odd |= self.drop;
        // A link made since it was listed is not about what the list register holds: it goes with what was pending.
        let fired = lanes & self.fired;
        self.fired &= !fired;
        self.unlink(lanes & !self.listed & !self.active | fired);
    }

    /// ISACTIVER.
    pub(super) fn set_active(&mut self, lanes: u32) {
        let lanes = lanes & self.valid;
        let listed = lanes & self.listed;
        self.rouse |= listed;
        self.quiet &= !listed;
        let fresh = lanes & !self.listed & !self.active;
        self.active |= fresh;
        self.forced |= fresh;
        self.odd |= lanes;
    }

    /// Whoever acknowledged those of `lanes` that are active, none of them listed, is no more.
    pub(super) fn orphan(&mut self, lanes: u32) {
        self.forced |= self.active & lanes;
        self.odd |= self.forced;
    }

    /// ICACTIVER, ICC_DIR_EL1.
    pub(super) fn clear_active(&mut self, lanes: u32) {
        let listed = lanes & self.listed;
        self.quiet |= listed;
        self.rouse &= !listed;
        self.odd |= listed;
        self.deactivate(lanes & !self.listed);
    }

    /// Merges what the guest did with `lane` in a list register that now reads `entry`.
    ///
    /// The interrupt stays listed: the caller either writes [`entry`](Self::entry) into the register again
    /// or calls [`unlist`](Self::unlist).
    #[inline(always)]
    pub(super) fn take_back(&mut self, lane: u32, entry: u64) {
        let b = bit(lane);
        let mut pending = entry & lr::PENDING != 0;
        let mut active = entry & lr::ACTIVE != 0;
        // Whether the guest's deactivation, if there was one, reached the physical interrupt.
        let mut reached = entry & lr::HW != 0;
        if self.odd & b != 0 {
            if self.drop & b != 0 && pending {
                pending = false;
                reached &= active;
            }
            if self.quiet & b != 0 && active {
                active = false;
                reached = false;
            }
            if self.rouse & b != 0 && !active {
                active = true;
                self.forced |= b;
            }
            self.answered |= self.asked & b;
            self.drop &= !b;
            self.quiet &= !b;
            self.rouse &= !b;
            self.asked &= !b;
        }
        if pending {
            self.latch |= self.moved & b;
        }
        self.moved &= !b;
        if active {
            self.active |= b;
        } else {
            self.active &= !b;
            self.forced &= !b;
        }
        if self.linked & !self.fired & b != 0 && !active {
            if !reached {
                self.unlink(b);
            } else if !pending {
                self.linked &= !b;
            }
        }
        self.fired &= !b;
    }

    /// [`take_back`](Self::take_back), for where size counts more than speed.
    #[inline(never)]
    pub(super) fn take_back_rarely(&mut self, lane: u32, entry: u64) {
        self.take_back(lane, entry);
    }

    /// [`entry`](Self::entry), for where size counts more than speed.
    #[inline(never)]
    pub(super) fn entry_rarely(&mut self, lane: u32, intid: u32, forward: bool) -> u64 {
        self.entry(lane, intid, forward)
    }

    /// What a list register has to hold for `lane` now; from here on it is listed, and its latch lies there.
    ///
    /// `forward`: enabled, in an enabled group, and meant for this vCPU; if not, only its active state goes.
    #[inline(always)]
    pub(super) fn entry(&mut self, lane: u32, intid: u32, forward: bool) -> u64 {
        let b = bit(lane);
        let active = self.active & b != 0;
        let latch = forward && self.latch & b != 0;
        let high = self.line & !self.edge & b != 0;
        let mut entry = u64::from(intid) | u64::from(self.priority(lane)) << lr::PRIORITY_SHIFT;
        if self.group & b != 0 {
            entry |= lr::GROUP1;
        }
        if active {
            entry |= lr::ACTIVE;
        }
        if latch || high && forward && !active {
            entry |= lr::PENDING;
        }
        self.hardware &= !b;
        if self.linked & b != 0 && !(active && self.latch & b != 0) {
            // The architecture has no pending and active hardware entry: that one is ours to end.
            entry |= lr::HW | u64::from(intid) << lr::PINTID_SHIFT;
            self.hardware |= b;
        } else if high || self.linked & b != 0 || self.latch & b != 0 && !latch {
            // Its end has consequences: pending again while its line is high, or at another vCPU, or to be
            // told to the physical interrupt.
            entry |= lr::EOI;
        }
        if latch {
            self.latch &= !b;
            self.moved |= b;
        }
        self.listed |= b;
        entry
    }

    /// Takes back list registers that the hardware left empty, nothing being `odd` or active elsewhere, and
    /// lists the one interrupt that is due, if there is one. `None` if there are more, with nothing changed.
    #[inline(always)]
    pub(super) fn turn_over(&mut self, groups: u32) -> Option<u64> {
        let due = self.pending() & self.forwarded(groups);
        if due & due.wrapping_sub(1) != 0 {
            return None;
        }
        let linked = self.linked & (!self.hardware | self.fired);
        let lane = due.trailing_zeros() & 31;
        let mut entry = u64::from(lane) | u64::from(self.priority(lane)) << lr::PRIORITY_SHIFT | lr::PENDING;
        if self.group & due != 0 {
            entry |= lr::GROUP1;
        }
        if linked & due != 0 {
            entry |= lr::HW | u64::from(lane) << lr::PINTID_SHIFT;
        } else if self.line & !self.edge & due != 0 {
            entry |= lr::EOI;
        }
        self.linked = linked;
        self.hardware = linked & due;
        self.moved = self.latch & due;
        self.latch &= !due;
        self.listed = due;
        self.fired = 0;
        self.active = 0;
        Some(if due == 0 { 0 } else { entry })
    }

    /// Works out `odd`.
    pub(super) fn settle_odd(&mut self) {
        self.odd =
            self.drop | self.quiet | self.rouse | self.asked | self.answered | self.forced | self.release;
    }

    /// `lane`, taken back, left its list register.
    #[inline(always)]
    pub(super) fn unlist(&mut self, lane: u32) {
        let gone = !bit(lane);
        self.listed &= gone;
        self.hardware &= gone;
    }
}
