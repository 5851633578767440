# From reset to long mode. QEMU starts the processor here in 16-bit real mode, CS base 0xffff0000.
# Accesses before paging are private on a machine with memory encryption, and so are the tables.

.pushsection .reset_vector, "ax"
.code16
.globl reset_vector
reset_vector:
    .byte 0xe9                          # near jump, so that its length is known
    .word (0xf000 - 0xfff3) & 0xffff    # to offset 0xf000: reset_page
    .fill 13, 1, 0x90
.popsection

# Processors that a launcher starts unasked: the kernel starts those that it wants, at another place.
.pushsection .ap_parking, "ax"
.code16
    cli
parked:
    hlt
    jmp parked
.popsection

.pushsection .reset_page, "ax"
.code16
reset_page:
    cli
    cld
    # The first byte on the serial port: an empty line, so that whoever waits sees life.
    movw $0x3f8, %dx
    movb $0x0a, %al
    outb %al, %dx
    rdtsc
    movl %eax, %edi
    movl %edx, %ebp
    lgdtl %cs:(0xf000 + (gdt_pointer - reset_page))
    movl %cr0, %eax
    andl $0x9fffffff, %eax              # caches on: clear CD and NW
    orl $1, %eax                        # PE
    movl %eax, %cr0
    ljmpl $0x08, $protected_mode

.p2align 3
gdt:
    .quad 0
    .quad 0x00cf9b000000ffff            # 0x08: 32-bit code
    .quad 0x00cf93000000ffff            # 0x10: data
    .quad 0x00af9b000000ffff            # 0x18: 64-bit code
gdt_pointer:
    .word gdt_pointer - gdt - 1
    .long gdt

.code32
protected_mode:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    movl %edi, {reset_ticks}
    movl %ebp, {reset_ticks} + 4
    cmpl %edi, {reset_ticks}
    jne no_ram

    # Long mode and no-execute pages are a must.
    movl $0x80000000, %eax
    cpuid
    cmpl $0x80000001, %eax
    jb processor_too_old
    movl $0x80000001, %eax
    cpuid
    andl $0x20100000, %edx              # bits 29 (LM) and 20 (NX)
    cmpl $0x20100000, %edx
    jne processor_too_old

    # High half of the encryption mask: none on a plain machine. All entries below take it.
    xorl %esi, %esi

    # Four tables: root, pointers, RAM directory, ROM directory.
    movl ${tables}, %edi
    xorl %eax, %eax
    movl $4096, %ecx
    rep stosl
    movl ${tables}, %edi
    movl $({tables} + 0x1003), (%edi)
    movl %esi, 4(%edi)
    movl $({tables} + 0x2003), 0x1000(%edi)
    movl %esi, 0x1004(%edi)
    movl $({tables} + 0x3003), 0x1018(%edi)
    movl %esi, 0x101c(%edi)
    # RAM from 2 MiB on: readable, writable, not executable.
    movl $1, %ecx
ram_entry:
    movl %ecx, %eax
    shll $21, %eax
    orl $0xe3, %eax
    movl %eax, 0x2000(%edi,%ecx,8)
    movl %esi, %eax
    orl $0x80000000, %eax
    movl %eax, 0x2004(%edi,%ecx,8)
    incl %ecx
    cmpl ${large_pages_end}, %ecx
    jb ram_entry
    # The last 16 MiB below 4 GiB: readable and executable, not writable.
    movl $504, %ecx
rom_entry:
    movl %ecx, %eax
    shll $21, %eax
    orl $0xc00000e1, %eax
    movl %eax, 0x3000(%edi,%ecx,8)
    movl %esi, 0x3004(%edi,%ecx,8)
    incl %ecx
    cmpl $512, %ecx
    jb rom_entry

    movl %cr4, %eax
    orl $0x620, %eax                    # PAE, OSFXSR, OSXMMEXCPT
    movl %eax, %cr4
    movl %edi, %cr3
    movl $0xc0000080, %ecx
    rdmsr
    orl $0x900, %eax                    # LME, NXE; what else is set stays
    wrmsr
    movl %cr0, %eax
    andl $0xfffffff3, %eax              # clear EM and TS
    orl $0x80010022, %eax               # PG, WP, NE, MP
    movl %eax, %cr0
    ljmpl $0x18, $long_mode

processor_too_old:
    movl $too_old_text, %esi
    movl $0x24, %ebx
    jmp stop
no_ram:
    movl $no_ram_text, %esi
    movl $0x42, %ebx
stop:                                   # esi = line, ebx = reason code
    movw $0x3f8, %dx
next_character:
    movb (%esi), %al
    testb %al, %al
    jz stopped
    outb %al, %dx
    incl %esi
    jmp next_character
stopped:
    movl %ebx, %eax
    movw $0xf4, %dx
    outl %eax, %dx
    hlt
    jmp stopped
too_old_text:
    .asciz "cloister: stopped: 24 cpu-unsupported: no long mode or no NX\n"
no_ram_text:
    .asciz "cloister: stopped: 42 too-little-memory: no RAM at 2 MiB: give the machine more (-m)\n"

.code64
long_mode:
    movw $0x10, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    xorl %eax, %eax
    movw %ax, %fs
    movw %ax, %gs
    movl ${stack_top}, %esp
    shlq $32, %rsi
    movq %rsi, %r12                     # encryption mask; CPUID changes rbx

    # Vector state before any Rust code: x87, SSE, and what the processor has of AVX, AVX-512, AMX.
    fninit
    pushq $0x1f80
    ldmxcsr (%rsp)
    popq %rax
    movl $1, %eax
    xorl %ecx, %ecx
    cpuid
    btl $26, %ecx                       # XSAVE
    jnc vectors_done
    movq %cr4, %rax
    orq $0x40000, %rax                  # OSXSAVE
    movq %rax, %cr4
    movl $0x0d, %eax
    xorl %ecx, %ecx
    cpuid
    andl $0x600e7, %eax
    xorl %edx, %edx
    xorl %ecx, %ecx
    xsetbv
vectors_done:
    movq %r12, %rdi
    movq {reset_ticks}, %rsi
    xorl %ebp, %ebp
    call boot_start
    ud2
.popsection
