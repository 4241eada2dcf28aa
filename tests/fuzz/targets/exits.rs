//! What a guest makes the CPU say, and what comes of it.

use super::input::Input;
use mezzanine::addr::GuestPhysAddr;
use mezzanine::exit::{self, Exit, Mmio};
use mezzanine::inject::{self, El1View, Fault};
use mezzanine::regs::GuestRegs;
use mezzanine::sysreg::{self, Action, timer};
use mezzanine::vcpu::Timer;
use mezzanine::{psci, smccc};

/// Any syndrome: decoded, looked at, and the fault for it delivered.
pub fn decode(data: &[u8]) {
    let mut input = Input(data);
    let (esr, far, ipa) = (input.double(), input.double(), input.double());
    let exit = exit::decode(esr, far, GuestPhysAddr::at(ipa));
    if let Exit::Mmio(mmio) = &exit {
        access(mmio, input.double());
    }
    if let Exit::DataAbort(abort) | Exit::InstructionAbort(abort) = &exit {
        let _ = (abort.is_write(), abort.is_table_walk(), abort.is_translation(), abort.instruction_bytes());
    }
    let _ = (exit::needs_walk(esr), exit::is_device_access(esr), exit::is_abort(esr));
    if let Some(fault) = Fault::for_exit(&exit) {
        let el1 = El1View { sctlr: input.double(), vbar: input.double() };
        let delivery = inject::deliver(fault, input.double(), input.double(), &el1);
        assert_eq!(delivery.pstate & 0xf, 5, "it is taken to EL1h");
    }
}

fn access(mmio: &Mmio, value: u64) {
    assert!(mmio.reg() < 32 && mmio.size().bytes() <= 8);
    let _ = (mmio.is_write(), mmio.extend(value), mmio.ipa());
}

/// Trapped instructions on any registers: conditions, skips, system registers, calls.
pub fn instruction(data: &[u8]) {
    let mut input = Input(data);
    let mut regs = GuestRegs::default();
    (regs.pc, regs.pstate) = (input.double(), input.double());
    for n in 0..8 {
        regs.set_x(n, input.double());
    }
    match exit::decode(input.double(), 0, GuestPhysAddr::at(0)) {
        Exit::SysReg(access) => {
            let _ = (sysreg::name(access.reg), sysreg::id_register(access.reg));
            if let Action::Timer(reg) = sysreg::lookup(access.reg, access.read) {
                let mut cntp = Timer { ctl: input.byte().into(), cval: input.double() };
                timer::write(&mut cntp, reg, input.double(), input.double());
                let _ = timer::read(&cntp, reg, input.double());
            }
        }
        Exit::Hvc(immediate) | Exit::Smc(immediate) => {
            let _ = smccc::decode(&regs, immediate);
            let _ = psci::decode(input.half(), input.byte() & 1 != 0, [1, 2, 3].map(|n| regs.x(n)));
        }
        Exit::Wfi(trap) | Exit::Wfe(trap) | Exit::Cp15(trap) | Exit::Undefined(trap) => {
            if let Some(condition) = trap.condition() {
                let _ = regs.condition_holds(condition);
            }
            let before = regs.pc;
            regs.skip(trap.instruction_bytes());
            // AArch32 has 32 bits of it.
            let mask = if regs.is_aarch32() { u64::from(u32::MAX) } else { u64::MAX };
            assert!(matches!(regs.pc.wrapping_sub(before) & mask, 2 | 4));
        }
        _ => {}
    }
}
