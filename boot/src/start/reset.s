# From reset to long mode. QEMU starts the processor here in 16-bit real mode, CS base 0xffff0000.
# Accesses before paging are private on a machine with memory encryption, and so are the tables.
# In an SEV-SNP guest CPUID, IN and OUT raise #VC: no port is used before the machine is known.

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
    movl ${stack_top}, %esp
    lidt idt_pointer

    # Is this an SEV-SNP guest? CPUID is the host's word. It cannot lie silently: in a guest with
    # SEV-ES or SNP, CPUID that is not the processor's own answer comes by #VC, which sets ebp.
    # After that nothing but a full SNP guest goes on. Without SEV-ES a host can hide SEV, and then
    # this is a plain machine, whose keys no report vouches for.
    xorl %ebp, %ebp
    xorl %esi, %esi                     # high half of the encryption mask: none on a plain machine
    movl $0x80000000, %eax
    cpuid
    cmpl $0x8000001f, %eax
    jb plain
    movl $0x8000001f, %eax
    cpuid
    testl $2, %eax                      # SEV
    jz plain
    # A #GP here, on a machine that lied about SEV, ends it: a fault never means "not SEV".
    movl $0xc0010131, %ecx              # SEV_STATUS, which the host cannot intercept
    rdmsr
    testl %edx, %edx
    jnz unsupported
    testl %eax, %eax
    jz plain
    testl ${sev_refused}, %eax
    jnz unsupported
    andl $7, %eax
    cmpl $7, %eax                       # SEV, SEV-ES, SEV-SNP
    jne unsupported
    # A first guess of the C-bit: it is tried out below before anything is written through it.
    movl %ebx, %ecx
    andl $0x3f, %ecx
    subl $32, %ecx
    jb wrong_c_bit
    cmpl $19, %ecx
    ja wrong_c_bit
    movl $1, %esi
    shll %cl, %esi
    jmp detected
plain:
    testl %ebp, %ebp
    jnz unsupported
    # The first byte on the serial port: an empty line, so that whoever waits sees life.
    movw $0x3f8, %dx
    movb $0x0a, %al
    outb %al, %dx
detected:
    cmpl %edi, {reset_ticks}
    jne no_ram
    xorl %eax, %eax
    testl %esi, %esi
    setnz %al
    movl %eax, {console}

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

    # Without paging every access is private. A random number is left in memory, to be found again
    # through the C-bit: a host that named another bit shows a page of its own there, and cannot
    # know the number.
    testl %esi, %esi
    jz make_tables
    movl $100, %ecx
first_random:
    rdrandl %ebx
    jc second_random
    loop first_random
    jmp wrong_c_bit
second_random:
    rdrandl %ebp
    jc left_to_find
    loop second_random
    jmp wrong_c_bit
left_to_find:
    movl %ebx, {probe}
    movl %ebp, {probe} + 4

make_tables:
    # Four tables: root, pointers, RAM directory, ROM directory. Entries take the encryption mask.
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
    # The first large page once more, without the mask: for what the host is to see of it.
    movl $0x2000e3, 0x2000 + 511 * 8(%edi)
    movl $0x80000000, 0x2004 + 511 * 8(%edi)
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
    # Instruction fetches and table walks are private whatever the mask is. Before any other memory is
    # relied on, descriptors and the stack included, the mask must find the number.
    testl %esi, %esi
    jz mask_is_right
    cmpl %ebx, {probe}
    jne wrong_c_bit
    cmpl %ebp, {probe} + 4
    jne wrong_c_bit
mask_is_right:
    ljmpl $0x18, $long_mode

processor_too_old:
    movl $too_old_text, %ecx
    movl $0x24, %ebx
    jmp stop
no_ram:
    movl $no_ram_text, %ecx
    movl $0x42, %ebx
stop:                                   # ecx = line, ebx = reason code
    movl %ebx, %eax
    shll $16, %eax
    orl ${own_termination}, %eax
    testl %esi, %esi
    jnz terminate
    movw $0x3f8, %dx
next_character:
    movb (%ecx), %al
    testb %al, %al
    jz stopped
    outb %al, %dx
    incl %ecx
    jmp next_character
stopped:
    movl %ebx, %eax
    movw $0xf4, %dx
    outl %eax, %dx
    hlt
    jmp stopped

unsupported:
    movl ${unsupported_termination}, %eax
    jmp terminate
wrong_c_bit:
    movl ${c_bit_termination}, %eax
# Ends an SEV guest by the GHCB's MSR protocol, eax = request.
terminate:
    movl $0xc0010130, %ecx
    xorl %edx, %edx
    wrmsr
    .byte 0xf3, 0x0f, 0x01, 0xd9        # rep vmmcall
    jmp terminate

# #VC in 32-bit code: error code, eip, cs, eflags on the stack. Only CPUID causes it here; it is
# answered by the MSR protocol, one register at a time.
vmm_communication:
    cmpl $0x72, (%esp)
    jne unsupported
    movl 4(%esp), %edx
    cmpw $0xa20f, (%edx)
    jne unsupported
    pushl %esi
    movl %eax, %ebx                     # leaf
    movl $4, %esi                       # request: register in bits 31:30
next_register:
    movl $0xc0010130, %ecx
    movl %esi, %eax
    movl %ebx, %edx
    wrmsr
    .byte 0xf3, 0x0f, 0x01, 0xd9        # rep vmmcall
    rdmsr
    andl $0xfff, %eax
    cmpl $5, %eax
    jne unsupported
    pushl %edx
    addl $0x40000000, %esi
    jnc next_register
    popl %edx
    popl %ecx
    popl %ebx
    popl %eax
    popl %esi
    movl $1, %ebp
    addl $4, %esp
    addl $2, (%esp)
    iretl

.p2align 3
idt:
    .fill 29, 8, 0
    .word 0xf000 + (vmm_communication - reset_page), 0x08, 0x8e00, 0xffff
idt_pointer:
    .word idt_pointer - idt - 1
    .long idt

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
    movq %rsi, %rdi                     # encryption mask

    # SSE state for Rust code; wider vectors are turned on there.
    fninit
    pushq $0x1f80
    ldmxcsr (%rsp)
    popq %rax
    movq {reset_ticks}, %rsi
    xorl %ebp, %ebp
    call boot_start
    ud2
.popsection
