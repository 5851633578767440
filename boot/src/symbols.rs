//! What the compiler's prebuilt `core` expects from a C library, in assembly so that no function
//! can be compiled into a call of itself.
//!
//! 16-byte loads and stores: on hardware they run at cache speed, and under emulation they cost a
//! fraction of `rep movsb`, which QEMU carries out byte by byte. Arguments follow the System V ABI:
//! `rdi`, `rsi`, `rdx`; result in `rax`.

#[cfg(any(test, feature = "symbols"))]
macro_rules! memory_functions {
    ($prefix:literal) => {
        core::arch::global_asm!(
            concat!(
                ".pushsection .text.memory_functions, \"ax\"\n",
                ".p2align 4\n.globl ", $prefix, "memcpy\n", $prefix, "memcpy:\n",
                "    mov %rdi, %rax\n",
                // Up to 16 bytes: two possibly overlapping accesses of half the size.
                "2:  cmp $16, %rdx\n    jbe 5f\n",
                // The tail is loaded first and stored last, so that the loops need no exact end.
                "    movups -16(%rsi,%rdx), %xmm4\n",
                "    lea -16(%rdi,%rdx), %r8\n",
                "3:  cmp $80, %rdx\n    jb 4f\n",
                "    movups (%rsi), %xmm0\n    movups 16(%rsi), %xmm1\n",
                "    movups 32(%rsi), %xmm2\n    movups 48(%rsi), %xmm3\n",
                "    movups %xmm0, (%rdi)\n    movups %xmm1, 16(%rdi)\n",
                "    movups %xmm2, 32(%rdi)\n    movups %xmm3, 48(%rdi)\n",
                "    add $64, %rsi\n    add $64, %rdi\n    sub $64, %rdx\n    jmp 3b\n",
                "4:  cmp $16, %rdx\n    jbe 9f\n",
                "    movups (%rsi), %xmm0\n    movups %xmm0, (%rdi)\n",
                "    add $16, %rsi\n    add $16, %rdi\n    sub $16, %rdx\n    jmp 4b\n",
                "9:  movups %xmm4, (%r8)\n    ret\n",
                "5:  cmp $8, %edx\n    jb 6f\n",
                "    mov (%rsi), %rcx\n    mov -8(%rsi,%rdx), %r8\n",
                "    mov %rcx, (%rdi)\n    mov %r8, -8(%rdi,%rdx)\n    ret\n",
                "6:  cmp $4, %edx\n    jb 7f\n",
                "    mov (%rsi), %ecx\n    mov -4(%rsi,%rdx), %r8d\n",
                "    mov %ecx, (%rdi)\n    mov %r8d, -4(%rdi,%rdx)\n    ret\n",
                "7:  test %edx, %edx\n    jz 8f\n",
                "    movzbl (%rsi), %ecx\n    cmp $1, %edx\n    je 1f\n",
                "    movzwl -2(%rsi,%rdx), %r8d\n    mov %r8w, -2(%rdi,%rdx)\n",
                "1:  mov %cl, (%rdi)\n",
                "8:  ret\n",
                // Forward copying is right unless the target begins inside the source.
                ".p2align 4\n.globl ", $prefix, "memmove\n", $prefix, "memmove:\n",
                "    mov %rdi, %rax\n    mov %rdi, %rcx\n    sub %rsi, %rcx\n",
                "    cmp %rdx, %rcx\n    jae 2b\n",
                "    cmp $16, %rdx\n    jbe 5b\n",
                "    movups (%rsi), %xmm4\n",
                "3:  cmp $80, %rdx\n    jb 4f\n",
                "    movups -16(%rsi,%rdx), %xmm0\n    movups -32(%rsi,%rdx), %xmm1\n",
                "    movups -48(%rsi,%rdx), %xmm2\n    movups -64(%rsi,%rdx), %xmm3\n",
                "    movups %xmm0, -16(%rdi,%rdx)\n    movups %xmm1, -32(%rdi,%rdx)\n",
                "    movups %xmm2, -48(%rdi,%rdx)\n    movups %xmm3, -64(%rdi,%rdx)\n",
                "    sub $64, %rdx\n    jmp 3b\n",
                "4:  cmp $16, %rdx\n    jbe 9f\n",
                "    movups -16(%rsi,%rdx), %xmm0\n    movups %xmm0, -16(%rdi,%rdx)\n",
                "    sub $16, %rdx\n    jmp 4b\n",
                "9:  movups %xmm4, (%rdi)\n    ret\n",
                ".p2align 4\n.globl ", $prefix, "memset\n", $prefix, "memset:\n",
                "    mov %rdi, %rax\n",
                "    movzbl %sil, %ecx\n    mov $0x0101010101010101, %rsi\n    imul %rsi, %rcx\n",
                "    cmp $16, %rdx\n    jb 5f\n",
                "    movq %rcx, %xmm0\n    punpcklqdq %xmm0, %xmm0\n",
                "    movups %xmm0, -16(%rdi,%rdx)\n",
                "3:  cmp $64, %rdx\n    jb 4f\n",
                "    movups %xmm0, (%rdi)\n    movups %xmm0, 16(%rdi)\n",
                "    movups %xmm0, 32(%rdi)\n    movups %xmm0, 48(%rdi)\n",
                "    add $64, %rdi\n    sub $64, %rdx\n    jmp 3b\n",
                "4:  cmp $16, %rdx\n    jb 9f\n",
                "    movups %xmm0, (%rdi)\n    add $16, %rdi\n    sub $16, %rdx\n    jmp 4b\n",
                "9:  ret\n",
                "5:  cmp $8, %edx\n    jb 6f\n",
                "    mov %rcx, (%rdi)\n    mov %rcx, -8(%rdi,%rdx)\n    ret\n",
                "6:  cmp $4, %edx\n    jb 7f\n",
                "    mov %ecx, (%rdi)\n    mov %ecx, -4(%rdi,%rdx)\n    ret\n",
                "7:  test %edx, %edx\n    jz 8f\n",
                "    mov %cl, (%rdi)\n    mov %cl, -1(%rdi,%rdx)\n",
                "    shr $1, %edx\n    mov %cl, (%rdi,%rdx)\n",
                "8:  ret\n",
                ".p2align 4\n.globl ", $prefix, "bcmp\n", $prefix, "bcmp:\n",
                ".globl ", $prefix, "memcmp\n", $prefix, "memcmp:\n",
                "3:  cmp $8, %rdx\n    jb 4f\n",
                "    mov (%rdi), %rax\n    mov (%rsi), %rcx\n    cmp %rcx, %rax\n    jne 6f\n",
                "    add $8, %rdi\n    add $8, %rsi\n    sub $8, %rdx\n    jmp 3b\n",
                "4:  test %rdx, %rdx\n    jz 5f\n",
                "    movzbl (%rdi), %eax\n    movzbl (%rsi), %ecx\n    sub %ecx, %eax\n    jne 8f\n",
                "    inc %rdi\n    inc %rsi\n    dec %rdx\n    jmp 4b\n",
                "5:  xor %eax, %eax\n",
                "8:  ret\n",
                // The first differing byte is the most significant one after a byte swap.
                "6:  bswap %rax\n    bswap %rcx\n    cmp %rcx, %rax\n",
                "    sbb %eax, %eax\n    or $1, %eax\n    ret\n",
                ".popsection\n",
            ),
            options(att_syntax)
        );
    };
}

#[cfg(feature = "symbols")]
memory_functions!("");

// Named by the prebuilt libraries, never reached: the guest aborts instead of unwinding.
#[cfg(feature = "symbols")]
core::arch::global_asm!(
    ".pushsection .text.unwinding, \"ax\"",
    ".globl rust_eh_personality, _Unwind_Resume",
    "rust_eh_personality:",
    "_Unwind_Resume:",
    "    ud2",
    ".popsection",
);

#[cfg(test)]
mod tests;
