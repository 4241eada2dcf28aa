// The first instructions: arm64 Image header, relocation, first stack, and into Rust.
//
// Entered at EL2 (or by mistake at EL1) with the MMU off, x0 = device tree, or 0 where an ELF loader
// started us. Nothing here depends on where the image lies, except that it is 2 MiB aligned.

    .section .head, "ax"
    .global _head
_head:
    b       entry                       // code0
    .long   0                           // code1
    .quad   0                           // text_offset: anywhere that is 2 MiB aligned
    .quad   __image_size                // image_size, .bss and stacks included
    .quad   0b1010                      // flags: little endian, 4 KiB pages, anywhere in RAM
    .quad   0
    .quad   0
    .quad   0
    .ascii  "ARM\x64"                   // magic
    .long   0                           // no PE header

entry:
    msr     daifset, #0xf
    mov     x20, x0
    adr     x21, _head                  // where we are

    // Relocation: the image is linked at 0, so that each word that holds an address wants x21 added. RELR (ELF gABI,
    // section 4, Relative Relocation Table) says which: an even entry is the offset of such a word, an odd one has a
    // bit for each of the 63 words after the last. linker.ld refuses an image that needs another kind.
    adrp    x0, __relr_start
    add     x0, x0, :lo12:__relr_start
    adrp    x1, __relr_end
    add     x1, x1, :lo12:__relr_end
1:  cmp     x0, x1
    b.hs    3f
    ldr     x2, [x0], #8
    tbnz    x2, #0, 2f
    add     x3, x21, x2
    ldr     x4, [x3]
    add     x4, x4, x21
    str     x4, [x3], #8
    b       1b
2:  mov     x5, x3
    add     x3, x3, #63 * 8
4:  lsr     x2, x2, #1
    cbz     x2, 1b
    tbz     x2, #0, 5f
    ldr     x4, [x5]
    add     x4, x4, x21
    str     x4, [x5]
5:  add     x5, x5, #8
    b       4b

    // .bss reads as zero.
3:  adrp    x0, __bss_start
    add     x0, x0, :lo12:__bss_start
    adrp    x1, __bss_end
    add     x1, x1, :lo12:__bss_end
4:  cmp     x0, x1
    b.hs    5f
    stp     xzr, xzr, [x0], #16
    b       4b

    // What was just written with the caches off must not be shadowed by stale lines once they are on:
    // invalidate the whole image to the point of coherency (Arm ARM D7.5.9), and forget instructions.
5:  adrp    x0, __image_start
    add     x0, x0, :lo12:__image_start
    adrp    x1, __image_end
    add     x1, x1, :lo12:__image_end
    dmb     sy
    mrs     x2, ctr_el0
    ubfx    x2, x2, #16, #4             // DminLine: log2 of words
    mov     x3, #4
    lsl     x3, x3, x2
6:  dc      ivac, x0
    add     x0, x0, x3
    cmp     x0, x1
    b.lo    6b
    dsb     sy
    ic      iallu
    dsb     sy
    isb

    mrs     x2, currentel
    lsr     x2, x2, #2
    cmp     x2, #2
    b.lo    7f
    adrp    x0, __fault_stack_top
    add     x0, x0, :lo12:__fault_stack_top
    msr     tpidr_el2, x0               // see own_exception
7:  adrp    x0, __boot_stack_top
    add     x0, x0, :lo12:__boot_stack_top
    msr     spsel, #1
    mov     sp, x0
    mov     x29, xzr                    // where backtraces end
    mov     x30, xzr
    mov     x0, x20
    mov     x1, x21
    bl      mezzanine_boot
    .global __park
__park:
    wfi
    b       __park

    // Where the other CPUs start, by PSCI (x0 = context, which a spin table does not give) or by a spin table. Entered
    // at EL2 with the MMU off (DEN0022 6.4, booting.rst): what is read before the caches are on comes from the point
    // of coherency. That is this text, which the loader or the relocation above has cleaned to there, and the first
    // four words of CPUS, which smp.rs has (Arm ARM B2.7.2: without caches, accesses are Non-cacheable). The tables
    // were written without caches, or by a CPU whose caches are coherent with the walks, which are cacheable and inner
    // shareable by TCR_EL2 (D8.2.12). Each CPU's stack is only touched, like the rest of CPUS, once this CPU's accesses
    // are coherent as well.
    .global __secondary
__secondary:
    msr     daifset, #0xf
    mrs     x0, currentel
    cmp     x0, #2 << 2
    b.ne    __park                      // below EL2 it is of no use, and never reports
    mov     x0, #1 << 31                // HCR_EL2.RW, E2H = 0: that decides on the layout of TCR_EL2
    msr     hcr_el2, x0
    isb
    msr     tpidr_el2, xzr              // no stack for faults yet: park then
    adrp    x0, __vectors
    add     x0, x0, :lo12:__vectors
    msr     vbar_el2, x0
    adrp    x1, MEZZANINE_CPUS
    add     x1, x1, :lo12:MEZZANINE_CPUS
    ldp     x2, x3, [x1], #16           // TTBR0_EL2, MAIR_EL2
    ldp     x4, x5, [x1], #16           // TCR_EL2, SCTLR_EL2
    msr     ttbr0_el2, x2
    msr     mair_el2, x3
    msr     tcr_el2, x4
    isb                                 // before the MMU is on, so no walk uses half of them (D8.2.1)
    tlbi    alle2                       // TLBs and instruction caches hold UNKNOWN entries after a reset (D8.16.1)
    tlbi    alle1                       // so that a VM's first VMID needs no flush here either
    ic      iallu
    dsb     nsh
    isb
    msr     sctlr_el2, x5
    isb

    // Who are we? The records start with affinity, stack, and stack for faults; the last one is followed by ~0.
    mrs     x0, mpidr_el1
    ldr     x2, =0xff00ffffff
    and     x0, x0, x2
1:  ldr     x3, [x1]
    cmp     x3, x0
    b.eq    2f
    cmn     x3, #1
    b.eq    __park
    add     x1, x1, #24
    b       1b
2:  ldp     x3, x4, [x1, #8]
    msr     tpidr_el2, x4
    msr     spsel, #1
    mov     sp, x3
    mov     x29, xzr
    mov     x30, xzr
    mov     x0, x1
    bl      mezzanine_secondary
    b       __park
    .ltorg
