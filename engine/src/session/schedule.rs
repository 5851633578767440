//! Who gets the rows of the next pass.

use super::MAX_SEQUENCES;
use crate::simd::MAX_BLOCK_TOKENS;

/// Half of the rows are left to those who read, however many write.
const _: () = assert!(MAX_SEQUENCES <= MAX_BLOCK_TOKENS / 2);

/// A sequence with tokens to process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    pub(super) slot: usize,
    /// Queued tokens, 1 or more. With one it writes: a pass takes it to its next token. With more it reads.
    pub(super) queued: usize,
    /// When it last had its turn; each turn has a number of its own.
    pub(super) last_turn: u64,
}

/// Rows of the next pass for each slot, [`MAX_BLOCK_TOKENS`] in all at most.
///
/// Everyone who writes has one, and those who read share the rest. Of these, those whose last turn is longest ago come
/// first, so that nobody waits for ever. The claims are left in the order in which this pass counts as their turn:
/// those with more rows than others come last.
pub(super) fn share(claims: &mut [Claim]) -> [usize; MAX_SEQUENCES] {
    claims.sort_unstable_by_key(|claim| claim.last_turn);
    let mut rows = [0; MAX_SEQUENCES];
    let to_read: usize = claims
        .iter()
        .filter(|claim| claim.queued > 1)
        .map(|claim| claim.queued)
        .sum();
    let mut left = MAX_BLOCK_TOKENS;
    for claim in claims.iter().filter(|claim| claim.queued == 1) {
        rows[claim.slot] = 1;
        left -= 1;
    }
    let mut for_reading = left.min(to_read);
    while for_reading > 0 {
        for claim in claims.iter().filter(|claim| claim.queued > 1) {
            if for_reading > 0 && rows[claim.slot] < claim.queued {
                rows[claim.slot] += 1;
                for_reading -= 1;
            }
        }
    }
    claims.sort_unstable_by_key(|claim| (rows[claim.slot], claim.last_turn));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of each sequence in each of so many passes, when all go on for ever.
    fn passes(queued: &[usize], count: u64) -> Vec<[usize; MAX_SEQUENCES]> {
        let mut last: Vec<u64> = (0..queued.len() as u64).collect();
        let mut turns = queued.len() as u64;
        (0..count)
            .map(|_| {
                let mut claims: Vec<Claim> = queued
                    .iter()
                    .enumerate()
                    .map(|(slot, &queued)| Claim {
                        slot,
                        queued,
                        last_turn: last[slot],
                    })
                    .collect();
                let rows = share(&mut claims);
                for claim in claims.iter().filter(|claim| rows[claim.slot] > 0) {
                    last[claim.slot] = turns;
                    turns += 1;
                }
                rows
            })
            .collect()
    }

    #[test]
    fn one_that_reads_gets_all_rows_and_no_more_than_it_has_tokens() {
        assert_eq!(passes(&[100], 1)[0][0], MAX_BLOCK_TOKENS);
        assert_eq!(passes(&[5], 1)[0][0], 5);
    }

    #[test]
    fn those_who_write_have_a_row_in_every_pass() {
        for rows in passes(&[1; MAX_SEQUENCES], 20) {
            assert_eq!(rows, [1; MAX_SEQUENCES]);
        }
        let rows = passes(&[1, 300, 1, 2], 1)[0];
        assert_eq!(rows[..4], [1, MAX_BLOCK_TOKENS - 4, 1, 2]);
    }

    #[test]
    fn nobody_starves() {
        for readers in 0..=MAX_SEQUENCES {
            let mut queued = [1; MAX_SEQUENCES];
            queued[..readers].fill(1000);
            let passes = passes(&queued, 160);
            let mut sums = [0; MAX_SEQUENCES];
            let expected = if readers == 0 {
                MAX_SEQUENCES
            } else {
                MAX_BLOCK_TOKENS
            };
            for rows in &passes {
                assert_eq!(rows.iter().sum::<usize>(), expected);
                sums.iter_mut()
                    .zip(rows)
                    .for_each(|(sum, rows)| *sum += rows);
            }
            for part in [&sums[..readers], &sums[readers..]] {
                let (least, most) = (part.iter().min(), part.iter().max());
                let (least, most) = (least.unwrap_or(&160), most.unwrap_or(&160));
                assert!(
                    *least >= 100 && most - least <= 160 / 10,
                    "{readers}: {sums:?}"
                );
            }
        }
    }
}
