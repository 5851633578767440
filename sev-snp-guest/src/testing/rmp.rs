//! A model of the RMP: which frames are the guest's, which are validated, and where the host keeps 2 MiB entries.

use crate::address::{Gfn, PageSize};
use crate::rmp::{Rmp, RmpAdjust, RmpError, Vmpl};
use std::collections::BTreeSet;

#[derive(Default)]
pub(crate) struct ModelRmp {
    /// Validated 4 KiB frames.
    pub(crate) validated: BTreeSet<u64>,
    /// First frames of 2 MiB entries.
    pub(crate) large: BTreeSet<u64>,
    pub(crate) vmsas: BTreeSet<u64>,
    /// The VMPL that the guest runs at.
    pub(crate) vmpl: u8,
    /// How often PVALIDATE ran.
    pub(crate) pvalidates: u32,
    /// What PVALIDATE of this frame fails with.
    pub(crate) failing: Option<(u64, RmpError)>,
}

impl Rmp for ModelRmp {
    fn pvalidate(&mut self, page: Gfn, size: PageSize, validate: bool) -> Result<(), RmpError> {
        self.pvalidates += 1;
        let first = page.number();
        if let Some((frame, error)) = self.failing
            && frame == first
        {
            return Err(error);
        }
        if size == PageSize::Size2M {
            assert!(page.is_large_aligned());
            if !self.large.contains(&first) {
                return Err(RmpError::SizeMismatch);
            }
        }
        let mut changed = false;
        for frame in first..first + size.frames() {
            changed |= if validate {
                self.validated.insert(frame)
            } else {
                self.validated.remove(&frame)
            };
        }
        if changed {
            Ok(())
        } else {
            Err(RmpError::Unchanged)
        }
    }

    fn rmpadjust(&mut self, page: Gfn, size: PageSize, target: RmpAdjust) -> Result<(), RmpError> {
        assert_eq!(size, PageSize::Size4K);
        if target.vmpl <= Vmpl::Vmpl0 {
            return Err(RmpError::Input);
        }
        if self.vmpl != 0 {
            return Err(RmpError::Permission);
        }
        if target.vmsa {
            self.vmsas.insert(page.number());
        } else {
            self.vmsas.remove(&page.number());
        }
        Ok(())
    }
}
