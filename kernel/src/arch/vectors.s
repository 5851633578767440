# One entry stub for each of the 256 vectors, 16 bytes apart, and the common part that all end in.
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
    jmp exception_common
    .set vector, vector + 1
.endr

exception_common:
    cld
    movq %rsp, %rdi
    andq $-16, %rsp
    xorl %ebp, %ebp
    call exception_entry
    ud2
.popsection
