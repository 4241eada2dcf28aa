// Image header, entry, vectors, and the ways into EL0.

    .section .head, "ax"
    .global _start
_start:
    b       entry                       // code0
    .word   0                           // code1
    .quad   0                           // text_offset
    .quad   __image_end                 // image_size
    .quad   0xa                         // little endian, 4 KiB pages, anywhere in memory
    .quad   0, 0, 0
    .word   0x644d5241                  // "ARM\x64"
    .word   0

// x29 is the one register whose value at entry is lost: a store needs an address.
entry:
    adrp    x29, _start
    lsr     x29, x29, #30
    cbz     x29, from_rom
    adrp    x29, BOOT
    add     x29, x29, :lo12:BOOT
    stp     x0, x1, [x29, #0]
    stp     x2, x3, [x29, #16]
    stp     x4, x5, [x29, #32]
    stp     x6, x7, [x29, #48]
    stp     x8, x9, [x29, #64]
    stp     x10, x11, [x29, #80]
    stp     x12, x13, [x29, #96]
    stp     x14, x15, [x29, #112]
    stp     x16, x17, [x29, #128]
    stp     x18, x19, [x29, #144]
    stp     x20, x21, [x29, #160]
    stp     x22, x23, [x29, #176]
    stp     x24, x25, [x29, #192]
    stp     x26, x27, [x29, #208]
    str     x28, [x29, #224]
    str     x30, [x29, #240]
    mov     x0, sp
    mrs     x1, vbar_el1
    stp     x0, x1, [x29, #248]
    mrs     x0, tpidr_el1
    mrs     x1, daif
    stp     x0, x1, [x29, #264]

    // Relocations: R_AARCH64_RELATIVE only.
    adrp    x1, _start
    add     x1, x1, :lo12:_start
    adrp    x2, __rela_start
    add     x2, x2, :lo12:__rela_start
    adrp    x3, __rela_end
    add     x3, x3, :lo12:__rela_end
1:  cmp     x2, x3
    b.hs    2f
    ldp     x4, x5, [x2], #24
    ldur    x6, [x2, #-8]
    cmp     w5, #0x403
    b.ne    1b
    add     x6, x6, x1
    str     x6, [x1, x4]
    b       1b
2:
    adrp    x2, __bss_start
    add     x2, x2, :lo12:__bss_start
    adrp    x3, __bss_end
    add     x3, x3, :lo12:__bss_end
3:  cmp     x2, x3
    b.hs    4f
    stp     xzr, xzr, [x2], #16
    b       3b
4:
    msr     tpidr_el1, xzr
    mov     x0, #0
    bl      set_up_cpu
    b       rust_start

// Below RAM: this is firmware in a ROM, where nothing can be written. It goes on as a kernel 2 MiB into RAM, with
// what it finds at once in x20 to x22: PC, CurrentEL, SCTLR_EL1.
from_rom:
    adr     x20, .
    mrs     x21, currentel
    mrs     x22, sctlr_el1
    adrp    x9, _start
    adrp    x10, __bss_start
    mov     x11, #0x40200000
1:  ldp     x12, x13, [x9], #16
    stp     x12, x13, [x11], #16
    cmp     x9, x10
    b.lo    1b
    dsb     sy
    ic      iallu
    dsb     sy
    isb
    mov     x11, #0x40200000
    br      x11

// A CPU that PSCI CPU_ON started: x0 is its number here.
    .global secondary_entry
secondary_entry:
    mov     x19, x0
    msr     tpidr_el1, x0
    bl      set_up_cpu
    mov     x0, x19
    b       rust_secondary

// Stack and vectors of CPU x0.
set_up_cpu:
    adrp    x1, __stacks_end
    add     x1, x1, :lo12:__stacks_end
    sub     x1, x1, x0, lsl #14
    msr     spsel, #1
    mov     sp, x1
    adrp    x1, vectors
    add     x1, x1, :lo12:vectors
    msr     vbar_el1, x1
    isb
    ret

    .section .text.vectors, "ax"
    .macro  vector n
    .balign 0x80
    sub     sp, sp, #288
    stp     x0, x1, [sp]
    mov     x1, #\n
    b       take
    .endm

    .balign 0x800
    .global vectors
vectors:
    vector  0
    vector  1
    vector  2
    vector  3
    vector  4
    vector  5
    vector  6
    vector  7
    vector  8
    vector  9
    vector  10
    vector  11
    vector  12
    vector  13
    vector  14
    vector  15

take:
    stp     x2, x3, [sp, #16]
    stp     x4, x5, [sp, #32]
    stp     x6, x7, [sp, #48]
    stp     x8, x9, [sp, #64]
    stp     x10, x11, [sp, #80]
    stp     x12, x13, [sp, #96]
    stp     x14, x15, [sp, #112]
    stp     x16, x17, [sp, #128]
    stp     x18, x19, [sp, #144]
    stp     x20, x21, [sp, #160]
    stp     x22, x23, [sp, #176]
    stp     x24, x25, [sp, #192]
    stp     x26, x27, [sp, #208]
    stp     x28, x29, [sp, #224]
    mrs     x2, elr_el1
    stp     x30, x2, [sp, #240]
    mrs     x2, spsr_el1
    mrs     x3, esr_el1
    stp     x2, x3, [sp, #256]
    mrs     x2, far_el1
    str     x2, [sp, #272]
    mov     x0, sp
    bl      rust_exception
    ldr     x2, [sp, #248]
    msr     elr_el1, x2
    ldr     x2, [sp, #256]
    msr     spsr_el1, x2
    ldp     x2, x3, [sp, #16]
    ldp     x4, x5, [sp, #32]
    ldp     x6, x7, [sp, #48]
    ldp     x8, x9, [sp, #64]
    ldp     x10, x11, [sp, #80]
    ldp     x12, x13, [sp, #96]
    ldp     x14, x15, [sp, #112]
    ldp     x16, x17, [sp, #128]
    ldp     x18, x19, [sp, #144]
    ldp     x20, x21, [sp, #160]
    ldp     x22, x23, [sp, #176]
    ldp     x24, x25, [sp, #192]
    ldp     x26, x27, [sp, #208]
    ldp     x28, x29, [sp, #224]
    ldr     x30, [sp, #240]
    ldp     x0, x1, [sp]
    add     sp, sp, #288
    eret

// el0_enter(pc, spsr, sp, x0, x1): runs EL0 code until its first synchronous exception; the handler returns
// to el0_exit with this stack.
    .section .text.el0, "ax"
    .global el0_enter
el0_enter:
    stp     x29, x30, [sp, #-96]!
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    msr     elr_el1, x0
    msr     spsr_el1, x1
    msr     sp_el0, x2
    mov     x0, x3
    mov     x1, x4
    isb
    eret
    .global el0_exit
el0_exit:
    ldp     x19, x20, [sp, #16]
    ldp     x21, x22, [sp, #32]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #64]
    ldp     x27, x28, [sp, #80]
    ldp     x29, x30, [sp], #96
    ret
