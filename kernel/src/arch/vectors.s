# One entry stub for each of the 256 vectors, 16 bytes apart, and the common part that
# all but one end in.
# The processor has switched to an exception stack; prebuilt code uses the red zone of the old one.

.pushsection .text.exceptions, "ax"
.p2align 4
.globl exception_vectors
exception_vectors:
.set vector, 0
.rept 256
    .p2align 4
    # Vectors for which the processor pushes an error code; a zero takes its place for the others.
    .if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17) || (vector == 21) || (vector == 29) || (vector == 30)
    .else
    pushq $0
    .endif
    pushq $vector
    .if vector == 29
    jmp vmm_communication
    .else
    jmp exception_common
    .endif
    .set vector, vector + 1
.endr

exception_common:
    cld
    movq %rsp, %rdi
    andq $-16, %rsp
    xorl %ebp, %ebp
    call exception_entry
    ud2

# The one exception that can return. Its handler is compiled code, so all that such code changes is
# saved: general registers and the state of SSE. (It uses no wider vectors.)
vmm_communication:
    cld
    pushq %r15
    pushq %r14
    pushq %r13
    pushq %r12
    pushq %r11
    pushq %r10
    pushq %r9
    pushq %r8
    pushq %rbp
    pushq %rdi
    pushq %rsi
    pushq %rdx
    pushq %rcx
    pushq %rbx
    pushq %rax
    movq %rsp, %rdi
    movq %rsp, %rbx
    subq $512, %rsp
    andq $-16, %rsp
    fxsave64 (%rsp)
    # The handler would save these on its stack.
    xorl %ebp, %ebp
    xorl %r12d, %r12d
    xorl %r13d, %r13d
    xorl %r14d, %r14d
    xorl %r15d, %r15d
    call vmm_communication_entry
    fxrstor64 (%rsp)
    # Registers may hold keys: nothing of them stays here.
    movq %rsp, %rdi
    movq %rbx, %rcx
    subq %rsp, %rcx
    shrq $3, %rcx
    xorl %eax, %eax
    rep stosq
    movq %rbx, %rsp
    .irp register, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
    popq %\register
    movq $0, -8(%rsp)
    .endr
    addq $16, %rsp                      # vector and error code
    iretq
.popsection
