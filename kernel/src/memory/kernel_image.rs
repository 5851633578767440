//! Where the kernel's own segments and stacks lie, as the linker script says.

use super::{PAGE_BYTES, PhysAddr, PhysRange};
use cloister_boot::paging::Access;

macro_rules! linked_range {
    ($(#[$doc:meta])* $name:ident, $start:ident, $end:ident) => {
        $(#[$doc])*
        pub fn $name() -> PhysRange {
            unsafe extern "C" {
                static $start: u8;
                static $end: u8;
            }
            let at = |symbol: *const u8| PhysAddr::new(symbol.expose_provenance() as u64);
            PhysRange::new(at(&raw const $start), at(&raw const $end))
                .expect("the linker script puts the start first")
        }
    };
}

linked_range!(
    /// Code.
    text, kernel_text_start, kernel_text_end
);
linked_range!(
    /// Constants.
    rodata, kernel_rodata_start, kernel_rodata_end
);
linked_range!(
    /// Variables.
    data, kernel_data_start, kernel_data_end
);
linked_range!(
    /// The stack that everything but exceptions runs on.
    main_stack, kernel_main_stack_start, kernel_main_stack_end
);
linked_range!(
    /// The stack of exceptions.
    exception_stack, kernel_exception_stack_start, kernel_exception_stack_end
);
linked_range!(
    /// The stack of the double fault.
    double_fault_stack, kernel_double_fault_stack_start, kernel_double_fault_stack_end
);

/// Every segment with what its pages may be used for. Nothing else of the kernel is mapped: the
/// pages between segments are guards.
pub fn segments() -> [(PhysRange, Access); 6] {
    [
        (text(), Access::Execute),
        (rodata(), Access::Read),
        (data(), Access::ReadWrite),
        (main_stack(), Access::ReadWrite),
        (exception_stack(), Access::ReadWrite),
        (double_fault_stack(), Access::ReadWrite),
    ]
}

/// Whether `address` lies in the guard page below a stack.
pub fn is_guard(address: PhysAddr) -> bool {
    [main_stack(), exception_stack(), double_fault_stack()]
        .into_iter()
        .any(|stack| {
            let start = stack.start().as_u64();
            (start - PAGE_BYTES..start).contains(&address.as_u64())
        })
}
