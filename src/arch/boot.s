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

    adrp    x0, __boot_stack_top
    add     x0, x0, :lo12:__boot_stack_top
    msr     spsel, #1
    mov     sp, x0
    mov     x29, xzr                    // where backtraces end
    mov     x30, xzr
    mov     x0, x20
    mov     x1, x21
    mrs     x2, currentel
    lsr     x2, x2, #2
    bl      mezzanine_boot
park:
    wfi
    b       park
