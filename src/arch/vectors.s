// Into a guest and out again, and what happens when EL2 itself goes wrong.
//
// __enter_guest(regs: *mut GuestRegs) -> kind is an ordinary function to Rust: it saves the callee's
// registers, loads the guest's and ERETs. An exception from the guest stores the guest's registers and
// returns to __enter_guest's caller with the kind of vector in x0:
// 0 synchronous, 1 IRQ, 2 FIQ, 3 SError.
//
// While the guest runs, SP_EL2 points at: [sp] = regs, [sp+16 ..] = x19..x30.
// Layout of GuestRegs (asserted in regs.rs): x0..x30 at 8n, pc at 248, pstate at 256.

    .section .text.vectors, "ax"
    .balign 2048
    .global __vectors
__vectors:
    .macro own n                        // from EL2: a bug of ours, but for the SError that is waited for
    .balign 128
    msr     tpidr_el1, x0               // the guest's is lost: nothing goes on from here
    mov     x0, #\n
    b       own_exception
    .endm

    .macro guest n
    .balign 128
    stp     x0, x1, [sp, #-16]!
    mov     x1, #\n
    b       leave_guest
    .endm

    own 0                               // current EL, SP_EL0
    own 1
    own 2
    own 3
    own 4                               // current EL, SP_EL2
    own 5
    own 6
    .balign 128
    msr     tpidr_el1, x0
    mov     x0, #7
    b       own_serror
    guest 0                             // lower EL, AArch64
    guest 1
    guest 2
    guest 3
    guest 0                             // lower EL, AArch32
    guest 1
    guest 2
    guest 3

    .balign 64
leave_guest:
    ldr     x0, [sp, #16]
    stp     x2, x3, [x0, #16]
    stp     x4, x5, [x0, #32]
    stp     x6, x7, [x0, #48]
    stp     x8, x9, [x0, #64]
    stp     x10, x11, [x0, #80]
    stp     x12, x13, [x0, #96]
    stp     x14, x15, [x0, #112]
    stp     x16, x17, [x0, #128]
    stp     x18, x19, [x0, #144]
    stp     x20, x21, [x0, #160]
    stp     x22, x23, [x0, #176]
    stp     x24, x25, [x0, #192]
    stp     x26, x27, [x0, #208]
    stp     x28, x29, [x0, #224]
    ldp     x2, x3, [sp], #32           // the guest's x0 and x1; drops regs too
    stp     x2, x3, [x0]
    mrs     x2, elr_el2
    mrs     x3, spsr_el2
    stp     x30, x2, [x0, #240]
    str     x3, [x0, #256]
    mov     x0, x1
    ldp     x19, x20, [sp, #16]
    ldp     x21, x22, [sp, #32]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #64]
    ldp     x27, x28, [sp, #80]
    ldp     x29, x30, [sp], #96
    ret

    .balign 64
    .global __enter_guest
__enter_guest:
    stp     x29, x30, [sp, #-96]!
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    str     x0, [sp, #-16]!
    ldp     x30, x2, [x0, #240]
    ldr     x3, [x0, #256]
    msr     elr_el2, x2
    msr     spsr_el2, x3
    ldp     x2, x3, [x0, #16]
    ldp     x4, x5, [x0, #32]
    ldp     x6, x7, [x0, #48]
    ldp     x8, x9, [x0, #64]
    ldp     x10, x11, [x0, #80]
    ldp     x12, x13, [x0, #96]
    ldp     x14, x15, [x0, #112]
    ldp     x16, x17, [x0, #128]
    ldp     x18, x19, [x0, #144]
    ldp     x20, x21, [x0, #160]
    ldp     x22, x23, [x0, #176]
    ldp     x24, x25, [x0, #192]
    ldp     x26, x27, [x0, #208]
    ldp     x28, x29, [x0, #224]
    ldp     x0, x1, [x0]
    eret
    // No speculation past the ERET (straight-line speculation; `sb` is younger than v8.0).
    dsb     nsh
    isb

    // __take_serror() -> 1 if an SError came. Called with none but EL2's own state in the CPU. With PSTATE.A clear the ISB
    // has what is pending taken before the next instruction (Arm ARM, "Context synchronization event").
    .balign 64
    .global __take_serror
__take_serror:
    mov     x0, #0
    msr     daifclr, #4
expect_serror:
    isb
expected_serror:
    msr     daifset, #4
    ret

    // An SError at EL2, by own_exception's rules: one of those that __take_serror waits for, or the end. x0 is all that
    // changes there.
    .balign 64
own_serror:
    msr     tpidrro_el0, x1
    adr     x1, expect_serror
    mrs     x0, elr_el2
    sub     x0, x0, x1
    mrs     x1, tpidrro_el0
    bic     x0, x0, #4                  // at the ISB, or past it
    cbz     x0, 1f
    mov     x0, #7
    b       own_exception
1:  mov     x0, #1
    eret

    // x0 = vector number, TPIDR_EL1 = x0 as it was. The stack may be what is wrong: take this CPU's other one, whose
    // top is in TPIDR_EL2 for good.
own_exception:
    msr     tpidrro_el0, x1             // as lost as the other
    mrs     x1, tpidr_el2
    cbz     x1, __park
    sub     x1, x1, #288
    stp     x2, x3, [x1, #16]
    stp     x4, x5, [x1, #32]
    stp     x6, x7, [x1, #48]
    stp     x8, x9, [x1, #64]
    stp     x10, x11, [x1, #80]
    stp     x12, x13, [x1, #96]
    stp     x14, x15, [x1, #112]
    stp     x16, x17, [x1, #128]
    stp     x18, x19, [x1, #144]
    stp     x20, x21, [x1, #160]
    stp     x22, x23, [x1, #176]
    stp     x24, x25, [x1, #192]
    stp     x26, x27, [x1, #208]
    stp     x28, x29, [x1, #224]
    mrs     x2, elr_el2
    stp     x30, x2, [x1, #240]
    mrs     x2, spsr_el2
    mov     x3, sp
    stp     x2, x3, [x1, #256]
    mrs     x2, tpidr_el1
    mrs     x3, tpidrro_el0
    stp     x2, x3, [x1]
    mov     sp, x1
    bl      mezzanine_own_exception     // (vector, &registers): never returns
1:  wfi
    b       1b
