// extern "sysv64" fn l0_run(cpu: *mut Cpu): runs the guest CPU until its next exit.
//
// Layout of `Cpu`: general registers by number at 0 (RAX and RSP are in the VMCB), VMCB address,
// guest XCR0, L0's XCR0, and the extended state at {state}.

    .pushsection .text.l0_run, "ax"
    .globl l0_run
l0_run:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    push %rdi
    mov $-1, %eax
    mov $-1, %edx
    xrstor64 {state}(%rdi)
    xor %ecx, %ecx
    mov {guest_xcr0}(%rdi), %eax
    mov {guest_xcr0}+4(%rdi), %edx
    xsetbv
    mov {vmcb}(%rdi), %rax
    mov 0x08(%rdi), %rcx
    mov 0x10(%rdi), %rdx
    mov 0x18(%rdi), %rbx
    mov 0x28(%rdi), %rbp
    mov 0x30(%rdi), %rsi
    mov 0x40(%rdi), %r8
    mov 0x48(%rdi), %r9
    mov 0x50(%rdi), %r10
    mov 0x58(%rdi), %r11
    mov 0x60(%rdi), %r12
    mov 0x68(%rdi), %r13
    mov 0x70(%rdi), %r14
    mov 0x78(%rdi), %r15
    mov 0x38(%rdi), %rdi
    vmload %rax
    vmrun %rax
    vmsave %rax
    xchg %rdi, (%rsp)
    mov %rcx, 0x08(%rdi)
    mov %rdx, 0x10(%rdi)
    mov %rbx, 0x18(%rdi)
    mov %rbp, 0x28(%rdi)
    mov %rsi, 0x30(%rdi)
    mov %r8, 0x40(%rdi)
    mov %r9, 0x48(%rdi)
    mov %r10, 0x50(%rdi)
    mov %r11, 0x58(%rdi)
    mov %r12, 0x60(%rdi)
    mov %r13, 0x68(%rdi)
    mov %r14, 0x70(%rdi)
    mov %r15, 0x78(%rdi)
    pop %rax
    mov %rax, 0x38(%rdi)
    xor %ecx, %ecx
    xgetbv
    mov %eax, {guest_xcr0}(%rdi)
    mov %edx, {guest_xcr0}+4(%rdi)
    mov {host_xcr0}(%rdi), %eax
    mov {host_xcr0}+4(%rdi), %edx
    xsetbv
    mov $-1, %eax
    mov $-1, %edx
    xsave64 {state}(%rdi)
    // The ABI wants the control words as they were; the guest's are saved.
    fninit
    push $0x1f80
    ldmxcsr (%rsp)
    pop %rax
    cld
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
    .popsection
