# The way of a processor that is started to its first Rust instruction.
# `ap_environment` holds what the first processor has in its control registers.

# 16-bit code, copied to a page below 1 MiB: CS is that page, IP is 0. It leaves the page at once.
.pushsection .rodata.ap_real_mode, "a"
.code16
.globl ap_real_mode
ap_real_mode:
    cli
    cld
    lgdtl %cs:(ap_gdt_pointer - ap_real_mode)
    movl %cr0, %eax
    andl $0x9fffffff, %eax              # caches on: clear CD and NW
    orl $1, %eax                        # PE
    movl %eax, %cr0
    ljmpl $0x08, $ap_protected_mode
ap_gdt_pointer:
    .word ap_gdt_end - ap_gdt - 1
    .long ap_gdt
.globl ap_real_mode_end
ap_real_mode_end:

.p2align 3
ap_gdt:
    .quad 0
    .quad 0x00cf9b000000ffff            # 0x08: 32-bit code
    .quad 0x00cf93000000ffff            # 0x10: data
    .quad 0x00af9b000000ffff            # 0x18: 64-bit code
ap_gdt_end:
.popsection

.pushsection .text.ap, "ax"
.code32
ap_protected_mode:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl $1, %eax
    cpuid
    shrl $24, %ebx                      # initial APIC id: the processor's number
    movl %ebx, %edi
    cmpl ${max_cpus}, %edi
    jae not_expected
    movl ap_environment + {cr4}, %eax
    movl %eax, %cr4
    movl ap_environment + {cr3}, %eax
    movl %eax, %cr3
    movl $0xc0000080, %ecx              # EFER, without LMA, which the processor sets itself
    movl ap_environment + {efer}, %eax
    andl $0xfffffbff, %eax
    xorl %edx, %edx
    wrmsr
    movl ap_environment + {cr0}, %eax
    movl %eax, %cr0                     # paging, with this code where it was
    ljmpl $0x18, $ap_long_mode
not_expected:
    hlt
    jmp not_expected

.code64
ap_long_mode:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl %edi, %eax
    leaq ap_stack_ends(%rip), %rcx
    movq (%rcx,%rax,8), %rsp
    testq %rsp, %rsp
    jz not_wanted
# Here begin processors that start in 64-bit mode: number in edi, own stack.
.globl ap_start
ap_start:
    xorl %ebp, %ebp
    fninit
    pushq $0x1f80
    ldmxcsr (%rsp)
    popq %rax
    call ap_entry
    ud2
not_wanted:
    hlt
    jmp not_wanted
.popsection
