//! Byte-pair merging of one word.

use alloc::{collections::BinaryHeap, vec::Vec};
use core::mem;

use zeroize::Zeroize;

use super::{Tokenizer, data::NO_TOKEN};

/// Marks the end of the list of symbols.
const NONE: u32 = u32::MAX;

/// Merges the bytes of words; keeps its memory between words and wipes it at the end.
///
/// The symbols of a word are a linked list in an array; a heap holds every pair that may merge, the
/// lowest rank first and of equal ranks the leftmost. An entry whose pair has changed since is
/// dropped when it comes up. A word of n bytes has fewer than 3 n entries in all, so a hostile word
/// costs O(n log n).
#[derive(Default)]
pub(super) struct Merger {
    symbols: Vec<Symbol>,
    /// `!(rank << 32 | position)`: the largest entry is the one to merge first.
    queue: BinaryHeap<u64>,
}

#[derive(Clone, Copy)]
struct Symbol {
    token: u32,
    previous: u32,
    next: u32,
}

impl Zeroize for Symbol {
    fn zeroize(&mut self) {
        self.token.zeroize();
        self.previous.zeroize();
        self.next.zeroize();
    }
}

impl Merger {
    /// Appends the tokens of a word to `out`.
    pub(super) fn encode(&mut self, tokenizer: &Tokenizer<'_>, word: &[u8], out: &mut Vec<u32>) {
        self.fill(tokenizer, word);
        while let Some(entry) = self.queue.pop() {
            let (rank, at) = ((!entry >> 32) as u32, !entry as u32);
            self.merge(tokenizer, rank, at);
        }
        let mut at = if self.symbols.is_empty() { NONE } else { 0 };
        while at != NONE {
            let symbol = self.symbols[at as usize];
            out.push(symbol.token);
            at = symbol.next;
        }
    }

    fn fill(&mut self, tokenizer: &Tokenizer<'_>, word: &[u8]) {
        self.reserve(word.len());
        for &byte in word {
            let token = tokenizer.byte_tokens.get(usize::from(byte));
            if token == NO_TOKEN {
                continue;
            }
            let at = self.symbols.len() as u32;
            if let Some(last) = self.symbols.last_mut() {
                last.next = at;
            }
            self.symbols.push(Symbol {
                token,
                previous: at.wrapping_sub(1),
                next: NONE,
            });
        }
        for at in 0..self.symbols.len() as u32 {
            self.enqueue(tokenizer, at);
        }
    }

    /// Empties the lists and gives them room for a word. New room is taken instead of growing the
    /// old, which would leave a copy of the text behind.
    fn reserve(&mut self, bytes: usize) {
        self.symbols.clear();
        self.queue.clear();
        if self.symbols.capacity() < bytes {
            self.wipe();
            let room = bytes.next_power_of_two().max(64);
            self.symbols = Vec::with_capacity(room);
            self.queue = BinaryHeap::with_capacity(2 * room);
        }
    }

    /// Queues the pair that begins at `at`, if it merges.
    fn enqueue(&mut self, tokenizer: &Tokenizer<'_>, at: u32) {
        if let Some((rank, _)) = self.merge_of(tokenizer, at) {
            self.queue.push(!(u64::from(rank) << 32 | u64::from(at)));
        }
    }

    fn merge_of(&self, tokenizer: &Tokenizer<'_>, at: u32) -> Option<(u32, u32)> {
        let symbol = self.symbols[at as usize];
        let next = self.symbols.get(symbol.next as usize)?;
        if symbol.token == NO_TOKEN {
            None
        } else {
            tokenizer.merge(symbol.token, next.token)
        }
    }

    /// Merges the pair at `at` if it is still the one that was queued with this rank.
    fn merge(&mut self, tokenizer: &Tokenizer<'_>, rank: u32, at: u32) {
        let Some((_, result)) = self.merge_of(tokenizer, at).filter(|&(now, _)| now == rank) else {
            return;
        };
        let right = self.symbols[at as usize].next as usize;
        let after = self.symbols[right].next;
        self.symbols[right].token = NO_TOKEN;
        self.symbols[at as usize].token = result;
        self.symbols[at as usize].next = after;
        if let Some(after) = self.symbols.get_mut(after as usize) {
            after.previous = at;
        }
        let before = self.symbols[at as usize].previous;
        if before != NONE {
            self.enqueue(tokenizer, before);
        }
        self.enqueue(tokenizer, at);
    }

    /// Wipes the lists over their whole capacity.
    fn wipe(&mut self) {
        self.symbols.zeroize();
        mem::take(&mut self.queue).into_vec().zeroize();
    }
}

impl Drop for Merger {
    fn drop(&mut self) {
        self.wipe();
    }
}
