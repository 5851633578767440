// From the reset vector to 64-bit mode with the C-bit, and the tables that a launcher looks for.

    .pushsection .reset_vector, "ax"
    .code16
    .globl probe_reset
probe_reset:
    jmp reset16
    .p2align 4
    .popsection

    .pushsection .reset_page, "awx"
    .code16
reset16:
    cli
    lgdtl %cs:(gdt_pointer - 0xffff0000)
    mov $0x33, %eax
    mov %eax, %cr0
    ljmpl $8, $1f
    .code32
1:  mov $16, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    // PAE, OSFXSR, OSXMMEXCPT
    mov $0x660, %eax
    mov %eax, %cr4
    mov $level4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x100, %eax
    wrmsr
    mov $0x80000033, %eax
    mov %eax, %cr0
    ljmpl $24, $2f
    .code64
2:  mov ${stack}, %esp
    mov $main, %eax
    jmp *%rax

main:
    call probe_main
    ud2

    .p2align 4
gdt:
    .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00af9b000000ffff
gdt_pointer:
    .word 31
    .long gdt

    // CPUID says that the processor can do nothing: then nothing that depends on it is used.
    .globl probe_vc
probe_vc:
    add $8, %rsp
    xor %eax, %eax
    xor %ebx, %ebx
    xor %ecx, %ecx
    xor %edx, %edx
    addq $2, (%rsp)
    iretq

    .globl probe_ap
probe_ap:
    movl $0x600d, {flag}
1:  pause
    jmp 1b

    // The GUIDed table ends 32 bytes before the image does.
    .org 0xf00
metadata:
    .ascii "ASEV"
    .long 52, 1, 3
    .long {cpuid}, 0x1000, 3
    .long {secrets}, 0x1000, 2
    .long {ram}, {ram_bytes}, 1
    .org 0xfd0 - 2 - 44
    .long 0xfffff000 + reset16 - reset16
    .word 22
    .byte 0xde, 0x71, 0xf7, 0x00, 0x7e, 0x1a, 0xcb, 0x4f, 0x89, 0x0e, 0x68, 0xc7, 0x7e, 0x2f, 0xb4, 0x4e
    .long 0x1000 - 0xf00
    .word 22
    .byte 0x66, 0x65, 0x88, 0xdc, 0x4a, 0x98, 0x98, 0x47, 0xa7, 0x5e, 0x55, 0x85, 0xa7, 0xbf, 0x67, 0xcc
    .word 44 + 18
    .byte 0xde, 0x82, 0xb5, 0x96, 0xb2, 0x1f, 0xf7, 0x45, 0xba, 0xea, 0xa3, 0x66, 0xc5, 0x5a, 0x08, 0x2d
    .popsection

    // 2 MiB in small pages, private but for {shared_count} shared ones; 2 MiB more; the image.
    .pushsection .tables, "aw"
    .p2align 12
    .globl level4
level4:
    .quad level3 + {c_bit} + 3
    .fill 511, 8, 0
level3:
    .quad level2 + {c_bit} + 3, 0, 0, level2_rom + {c_bit} + 3
    .fill 508, 8, 0
level2:
    .quad level1 + {c_bit} + 3, 0x200000 + {c_bit} + 0x83
    .fill 510, 8, 0
level2_rom:
    .fill 511, 8, 0
    .quad 0xffe00000 + {c_bit} + 0x83
level1:
    .set page, 0
    .rept 512
    .if page >= {shared} && page < {shared} + {shared_count} * 4096
    .quad page + 3
    .else
    .quad page + {c_bit} + 3
    .endif
    .set page, page + 4096
    .endr
    .popsection
