//! Page state changes of many pages (GHCB specification, "SNP page state change").
//!
//! The list of pages lies in the shared buffer: a header {u16 current, u16 last, u32 reserved} and up to 253 entries
//! {current page in bits 11:0, frame in 51:12, operation in 55:52, 2 MiB page in 56}. The hypervisor may stop anywhere
//! and leaves the place in the header and in the entry that it stopped in; the guest then exits again.

use super::layout::{SHARED_BUFFER_BYTES, SHARED_BUFFER_INDEX};
use super::{Ghcb, NaeError, PageState};
use crate::address::{FrameRange, Gfn, PageSize};
use crate::hypervisor::{Hypervisor, SharedMemory};
use core::fmt;

const PAGE_STATE_CHANGE: u64 = 0x8000_0010;

/// Entries that the shared buffer has room for.
pub(super) const MAX_ENTRIES: usize = 253;
/// Exits for one list that may change nothing at all.
pub(super) const MAX_IDLE_EXITS: u32 = 16;

const CURRENT_PAGE: u64 = 0xfff;
const LARGE: u64 = 1 << 56;

const _: () = assert!(8 + 8 * MAX_ENTRIES == SHARED_BUFFER_BYTES);

/// Why a page state change failed. Some of the pages may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PscError {
    /// The event itself failed.
    Nae(NaeError),
    /// The hypervisor refused: SW_EXITINFO2, with 1 in the high half and 1 (header) or 2 (entry) in the low one, or
    /// with 0x100 in the high half for anything else.
    Refused(u64),
    /// The header has another last entry or reserved bits: what was read.
    HeaderChanged(u64),
    /// The current entry went back.
    Backwards {
        /// Where it had been.
        from: u16,
        /// Where it is now.
        to: u16,
    },
    /// The current entry is more than one beyond the last.
    Overrun {
        /// The current entry.
        current: u16,
        /// The last entry.
        last: u16,
    },
    /// The entry that the hypervisor stopped in is not what the guest wrote, or went back, or beyond its page.
    EntryChanged {
        /// What the guest wrote.
        written: u64,
        /// What was read.
        read: u64,
    },
    /// Too many exits changed nothing.
    NoProgress,
}

impl From<NaeError> for PscError {
    fn from(error: NaeError) -> Self {
        Self::Nae(error)
    }
}

impl fmt::Display for PscError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nae(error) => error.fmt(f),
            Self::Refused(info) => write!(f, "page state change refused: {info:#x}"),
            Self::HeaderChanged(header) => {
                write!(f, "the list of page state changes has header {header:#x}")
            }
            Self::Backwards { from, to } => {
                write!(f, "page state change went back from entry {from} to {to}")
            }
            Self::Overrun { current, last } => {
                write!(f, "page state change is at entry {current} of {last}")
            }
            Self::EntryChanged { written, read } => write!(
                f,
                "the entry of a page state change was {written:#x} and is {read:#x}"
            ),
            Self::NoProgress => f.write_str("page state change does not get on"),
        }
    }
}

impl core::error::Error for PscError {}

impl<H: Hypervisor, M: SharedMemory> Ghcb<H, M> {
    /// Changes the state of all pages of a range, 2 MiB at a time where that is possible.
    ///
    /// A page that becomes private is worth nothing until PVALIDATE has changed it, and one that becomes shared must
    /// have been rescinded before: see [`page_state`](crate::page_state).
    ///
    /// # Errors
    /// The hypervisor refused, or left something in the list that cannot be.
    pub fn page_state_change(
        &mut self,
        range: FrameRange,
        state: PageState,
    ) -> Result<(), PscError> {
        let mut pages = range.pages();
        let mut entries = [0; MAX_ENTRIES];
        loop {
            let mut count = 0;
            for (slot, (page, size)) in entries.iter_mut().zip(pages.by_ref()) {
                *slot = entry(page, size, state);
                count += 1;
            }
            if count == 0 {
                return Ok(());
            }
            self.change_listed(&mut entries[..count])?;
            if count < MAX_ENTRIES {
                return Ok(());
            }
        }
    }

    /// Goes through one list. `entries` is the guest's copy, the only one that is believed.
    fn change_listed(&mut self, entries: &mut [u64]) -> Result<(), PscError> {
        let last = entries.len() as u16 - 1;
        let mut current = 0;
        let mut idle_exits = 0;
        loop {
            let header = u64::from(current) | u64::from(last) << 16;
            self.page.store(SHARED_BUFFER_INDEX, header);
            for (index, &entry) in entries.iter().enumerate().skip(usize::from(current)) {
                self.page.store(SHARED_BUFFER_INDEX + 1 + index, entry);
            }
            let scratch = self.scratch();
            let answer = self.exit(PAGE_STATE_CHANGE, 0, 0, &[scratch])?;
            match answer.info_2()? {
                0 => {}
                info_2 => return Err(PscError::Refused(info_2)),
            }
            let reached = self.read_place(current, last)?;
            let Some(written) = entries.get_mut(usize::from(reached)) else {
                return Ok(());
            };
            let read = self
                .page
                .load(SHARED_BUFFER_INDEX + 1 + usize::from(reached));
            let moved = check_entry(*written, read)?;
            if reached == current && !moved {
                idle_exits += 1;
                if idle_exits == MAX_IDLE_EXITS {
                    return Err(PscError::NoProgress);
                }
            }
            *written = read;
            current = reached;
        }
    }

    /// The current entry after an exit, from `from` to one beyond `last`.
    fn read_place(&self, from: u16, last: u16) -> Result<u16, PscError> {
        let header = self.page.load(SHARED_BUFFER_INDEX);
        let current = header as u16;
        if header >> 16 != u64::from(last) {
            return Err(PscError::HeaderChanged(header));
        }
        if current < from {
            return Err(PscError::Backwards { from, to: current });
        }
        if current > last + 1 {
            return Err(PscError::Overrun { current, last });
        }
        Ok(current)
    }
}

fn entry(page: Gfn, size: PageSize, state: PageState) -> u64 {
    let large = match size {
        PageSize::Size4K => 0,
        PageSize::Size2M => LARGE,
    };
    page.address() | (state as u64) << 52 | large
}

/// Compares an entry that the hypervisor stopped in with what the guest wrote. Whether its current page moved on.
fn check_entry(written: u64, read: u64) -> Result<bool, PscError> {
    let pages = if written & LARGE != 0 {
        PageSize::Size2M.frames()
    } else {
        PageSize::Size4K.frames()
    };
    let (before, after) = (written & CURRENT_PAGE, read & CURRENT_PAGE);
    let same = written & !CURRENT_PAGE == read & !CURRENT_PAGE;
    if same && (before..=pages).contains(&after) {
        Ok(after > before)
    } else {
        Err(PscError::EntryChanged { written, read })
    }
}
