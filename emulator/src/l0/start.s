// From QEMU's PVH entry (32-bit, paging off) to long mode with five levels of tables, and on to the
// code above 4 GiB. Other CPUs come from the real-mode code at the end, copied to {ap_code}.

    .pushsection .note.pvh, "a", @note
    .long 4, 8, 18
    .asciz "Xen"
    .quad l0_entry32
    .popsection

    .pushsection .low, "awx"
    .code32
    .globl l0_entry32
l0_entry32:
    cli
    cld
    xor %ebp, %ebp
l0_start32:
    // PAE, OSFXSR, OSXMMEXCPT, LA57, OSXSAVE
    mov ${cr4}, %eax
    mov %eax, %cr4
    mov $low_level5, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    // SCE, LME, NXE, SVME
    or $0x1901, %eax
    wrmsr
    // PG, WP, NE, ET, MP, PE
    mov $0x80010033, %eax
    mov %eax, %cr0
    lgdt low_gdt_pointer
    ljmp $8, $1f
    .code64
1:  mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    movabs $l0_high, %rax
    jmp *%rax

    .p2align 4
low_gdt:
    .quad 0, 0x00af9b000000ffff, 0x00cf93000000ffff
low_gdt_pointer:
    .word 23
    .long low_gdt

    .globl l0_ap_code, l0_ap_code_end
    .p2align 4
    .code16
l0_ap_code:
    cli
    cld
    lgdtl %cs:(ap_gdt_pointer - l0_ap_code)
    mov $1, %eax
    mov %eax, %cr0
    ljmpl $8, $({ap_code} + 2f - l0_ap_code)
    .code32
2:  mov $16, %eax
    mov %eax, %ds
    mov %eax, %ss
    mov $1, %ebp
    mov $l0_start32, %eax
    jmp *%eax
    .p2align 3
ap_gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
ap_gdt_pointer:
    .word 23
    .long {ap_code} + ap_gdt - l0_ap_code
l0_ap_code_end:

    // The first 8 GiB, identically, in pages of 1 GiB.
    .p2align 12
low_level5:
    .quad low_level4 + 7
    .fill 511, 8, 0
low_level4:
    .quad low_level3 + 7
    .fill 511, 8, 0
low_level3:
    .set gigabyte, 0
    .rept 8
    .quad gigabyte * 0x40000000 + 0x87
    .set gigabyte, gigabyte + 1
    .endr
    .fill 504, 8, 0
    .popsection

    .code64
    .pushsection .text.l0_high, "ax"
l0_high:
    lea high_level5(%rip), %rax
    mov %rax, %cr3
    // The CPU's number is in ebp: its stack is the one that ends after its own.
    lea 1(%rbp), %eax
    imul ${stack_bytes}, %rax, %rax
    lea l0_stacks(%rip), %rsp
    add %rax, %rsp
    mov %ebp, %edi
    xor %ebp, %ebp
    call l0_entry
    ud2
    .popsection

    // The first 2 TiB, identically: the tables that stay.
    .pushsection .data.l0_tables, "aw"
    .p2align 12
high_level5:
    .quad high_level4 + 3
    .fill 511, 8, 0
high_level4:
    .quad high_level3 + 3, high_level3 + 0x1003, high_level3 + 0x2003, high_level3 + 0x3003
    .fill 508, 8, 0
high_level3:
    .set gigabyte, 0
    .rept 2048
    .quad gigabyte * 0x40000000 + 0x83
    .set gigabyte, gigabyte + 1
    .endr
    .popsection

    .pushsection .bss.l0_stacks, "aw", @nobits
    .p2align 12
l0_stacks:
    .skip {stack_bytes} * {cpus}
    .popsection
