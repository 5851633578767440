//! Which pages differ between two measurements.

use crate::page::{Measurement, Page};
use std::collections::HashMap;
use std::fmt;

/// How a page of one measurement differs from that of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageDifference {
    /// The page is in the first measurement only.
    Removed(Page),
    /// The page is in the second measurement only.
    Added(Page),
    /// Type or contents of the page at this address differ.
    Changed(Page, Page),
}

impl fmt::Display for PageDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mark, page) = match self {
            Self::Removed(page) => ('-', page),
            Self::Added(page) => ('+', page),
            Self::Changed(_, page) => ('~', page),
        };
        write!(
            f,
            "{mark} {:#014x} {:<10} {}",
            page.gpa, page.page_type, page.source
        )
    }
}

/// The pages that differ between two measurements, and the position at which their digests part:
/// `None` if all digests are equal. Pages in another order differ in the digests only.
pub fn compare_pages(
    first: &Measurement,
    second: &Measurement,
) -> (Option<usize>, Vec<PageDifference>) {
    let parting = first
        .pages()
        .iter()
        .zip(second.pages())
        .position(|(a, b)| a.digest != b.digest)
        .or_else(|| {
            let shorter = first.pages().len().min(second.pages().len());
            (first.digest() != second.digest()).then_some(shorter)
        });
    let mut before: HashMap<_, _> = keyed(first).into_iter().collect();
    let mut differences = vec![];
    for (key, page) in keyed(second) {
        match before.remove(&key) {
            None => differences.push(PageDifference::Added(page)),
            Some(old) if (old.page_type, old.contents) != (page.page_type, page.contents) => {
                differences.push(PageDifference::Changed(old, page));
            }
            Some(_) => {}
        }
    }
    let removed = keyed(first)
        .into_iter()
        .filter(|(key, _)| before.contains_key(key));
    differences.extend(removed.map(|(_, page)| PageDifference::Removed(page)));
    (parting, differences)
}

/// The pages with what tells them apart: the address and, as all vCPUs' states have the same, how
/// many pages before have it too.
fn keyed(measurement: &Measurement) -> Vec<((u64, u32), Page)> {
    let mut seen: HashMap<u64, u32> = HashMap::new();
    let pages = measurement.pages().iter().map(|measured| {
        let count = seen.entry(measured.page.gpa).or_default();
        *count += 1;
        ((measured.page.gpa, *count), measured.page)
    });
    pages.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LaunchConfig, VmmKind};
    use crate::cpu::CpuModel;
    use crate::page::PageType;
    use crate::snp::measure_rom;
    use crate::testing::sample_rom;

    #[test]
    fn pages_that_differ_are_listed() {
        let rom = sample_rom().build();
        let mut other = rom.clone();
        other[4096] ^= 1;
        let measure = |rom: &[u8], vcpus| {
            let config = LaunchConfig {
                vcpus,
                ..LaunchConfig::new(VmmKind::Qemu, 2, CpuModel::MILAN)
            };
            measure_rom(rom, &config).expect("a good image")
        };
        let (first, second) = (measure(&rom, 2), measure(&other, 3));
        let (parting, differences) = compare_pages(&first, &second);
        assert_eq!(parting, Some(1));
        let lines: Vec<_> = differences.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "~ 0x0000ffffe000 normal     image at offset 0x1000",
                "+ 0xfffffffff000 vmsa       vCPU 2",
            ]
        );
        let (parting, differences) = compare_pages(&second, &first);
        assert_eq!(parting, Some(1));
        assert!(matches!(
            differences[1],
            PageDifference::Removed(Page {
                page_type: PageType::Vmsa,
                ..
            })
        ));
        assert_eq!(compare_pages(&first, &first), (None, vec![]));
        let (parting, differences) = compare_pages(&first, &measure(&rom, 3));
        assert_eq!((parting, differences.len()), (Some(first.pages().len()), 1));
    }
}
