//! How much work one step is.

use core::ops::Range;

/// Multiply-adds of one step, about: 50 to 100 ms where a processor is emulated in software (1 G/s), a millisecond and
/// less on a real one. The network waits for no more than that.
pub const STEP_PRODUCTS: usize = 64 << 20;
/// What is left below this part of a step is not worth another round of the workers.
const LEAST_PART: usize = 16;

/// What is left of a step.
#[derive(Debug)]
pub(super) struct Budget {
    all: usize,
    left: usize,
}

impl Budget {
    /// A step of so many products.
    pub(super) fn new(products: usize) -> Self {
        Self {
            all: products,
            left: products,
        }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left <= self.all / LEAST_PART
    }

    /// As many of the `units` as are affordable, at least one, where each takes so many products.
    pub(super) fn take(
        &mut self,
        units: Range<usize>,
        products: impl Fn(usize) -> usize,
    ) -> Range<usize> {
        let Range { start, end } = units;
        let mut taken = start;
        while taken < end {
            let cost = products(taken);
            if cost > self.left && taken > start {
                break;
            }
            self.left = self.left.saturating_sub(cost);
            taken += 1;
        }
        start..taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_takes_what_it_can_afford_and_something_always() {
        let mut budget = Budget::new(STEP_PRODUCTS);
        assert_eq!(budget.take(3..5, |_| STEP_PRODUCTS / 4), 3..5);
        assert_eq!(budget.take(5..9, |_| STEP_PRODUCTS / 3), 5..6);
        assert_eq!(budget.take(0..0, |_| 1), 0..0);
        assert!(!budget.is_spent());
        assert_eq!(budget.take(6..9, |_| 2 * STEP_PRODUCTS), 6..7);
        assert!(budget.is_spent());
    }
}
