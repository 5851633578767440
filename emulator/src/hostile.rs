//! Attacks of a hostile hypervisor on its guest, one at a time: L0's option `hostile=NAME`.
//!
//! They are what a hypervisor can do to an SNP guest: it answers calls, injects events, maps pages, keeps the time and
//! plays the devices. Where one goes beyond that and bends what the processor or the security processor would see to,
//! so that the guest's own check is reached, its description says so.
//!
//! Here are the lies, as changes of what L0 would say; L0 says when each is told.

use crate::checks::Check;

mod attacks;
pub mod card;
pub mod fw_cfg;
pub mod message;
pub mod requests;

pub use attacks::ATTACKS;

/// One attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attack {
    /// Its name in the option.
    pub name: &'static str,
    /// What L0 does.
    pub what: &'static str,
    /// What it does, for L0.
    pub deed: Deed,
    /// What the guest must do.
    pub expected: Outcome,
}

/// What a guest does under an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It stops by itself, with a line on its serial port: the reason's code, and words of the line.
    Stopped(u8, &'static str),
    /// It stops by itself, with a termination request alone: reason set and code.
    Terminated(u8, u8),
    /// Its processor cannot go on: L0's diagnosis, or words of it.
    Stuck(&'static str),
    /// It serves, but no client asks it: the check of its evidence that fails.
    Refused(&'static str),
    /// It serves, with true evidence and right answers.
    NoEffect,
}

/// What L0 does, by the interface that it misuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// An answer of the GHCB's MSR protocol.
    Msr(requests::MsrLie),
    /// The guest is launched with another value of SEV_STATUS.
    SevStatus(u64),
    /// The guest is launched at VMPL 1.
    Vmpl1,
    /// The CPUID page of the launch.
    CpuidPage(requests::CpuidPageLie),
    /// An answer in the GHCB.
    Ghcb(requests::GhcbLie),
    /// A page state change.
    PageState(requests::PageStateLie),
    /// The mapping of a private page, or its entry in the RMP.
    Page(PageDeed),
    /// An event that nothing caused.
    Inject(Moment, Event),
    /// A guest message.
    Message(message::MessageLie),
    /// fw_cfg: the directory and what is read byte by byte.
    Files(fw_cfg::FilesLie),
    /// fw_cfg: transfers by DMA.
    Transfer(fw_cfg::TransferLie),
    /// The network card.
    Card(card::CardLie),
    /// The clocks.
    Time(TimeLie),
    /// The second processor.
    Processor(ProcessorLie),
}

/// What L0 does with the guest's second processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessorLie {
    /// Its creation is refused.
    Refused,
    /// It is said to be created, and never runs.
    Never,
    /// It runs only once the guest has its first report.
    Late,
    /// It runs before the guest asks, from the state that was measured at the launch.
    Unasked,
    /// It gets an NMI, once the guest has its first report.
    Nmi,
}

/// What L0 does to the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeLie {
    /// The timestamp counter goes back to the launch, once the guest has its first report.
    Back,
    /// The timestamp counter goes forward by 2^44 ticks, once the guest has its first report.
    Forward,
    /// The battery-backed clock reads as ones.
    Date,
    /// The timer ends as soon as it was started.
    Timer,
}

/// What L0 does to a private page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PageDeed {
    /// Another frame is mapped at a validated page: the RMP does not call it validated.
    Exchange,
    /// A validated page becomes a shared one, and a private one again when it is missed.
    Share,
    /// A page is validated before the guest validates it.
    ValidateFirst,
    /// A page that the guest is about to rescind is not validated any more.
    RescindFirst,
}

/// When an event is injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// When the reset code reads SEV_STATUS.
    SevStatus,
    /// At the reset code's first CPUID, in place of its exception.
    ResetCpuid,
    /// When the boot program registers its GHCB.
    Boot,
    /// In the kernel, outside of a call to the host.
    Kernel,
    /// In the middle of a call of the kernel.
    KernelCall,
    /// At a CPUID of the kernel, in place of its exception.
    KernelCpuid,
}

/// An event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An external interrupt with this vector.
    Interrupt(u8),
    /// The non-maskable interrupt.
    Nmi,
    /// An exception with an error code.
    Exception(u8, u32),
    /// #VC with this exit code.
    Communication(u64),
}

impl Event {
    /// The VMCB's word for an injection; `None` for #VC, whose frame L0 writes itself.
    pub fn injection(self) -> Option<u64> {
        const VALID: u64 = 1 << 31;
        const NMI: u64 = 2 << 8;
        const EXCEPTION: u64 = 3 << 8;
        const HAS_ERROR: u64 = 1 << 11;
        const NMI_VECTOR: u64 = 2;
        match self {
            Self::Interrupt(vector) => Some(VALID | u64::from(vector)),
            Self::Nmi => Some(VALID | NMI | NMI_VECTOR),
            Self::Exception(vector, error) => {
                let what = VALID | EXCEPTION | HAS_ERROR | u64::from(vector);
                Some(u64::from(error) << 32 | what)
            }
            Self::Communication(_) => None,
        }
    }
}

impl Attack {
    /// The attack of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        ATTACKS.iter().find(|attack| attack.name == name)
    }

    /// How many processors the guest needs for it.
    pub fn cpus(&self) -> u32 {
        match self.deed {
            Deed::Processor(_) => 2,
            _ => 1,
        }
    }

    /// The rule that L0 would hold against the guest for what the attack brings about.
    pub fn relaxes(&self) -> Option<Check> {
        match self.deed {
            Deed::Page(PageDeed::Share) => Some(Check::CBit),
            Deed::Page(PageDeed::ValidateFirst) => Some(Check::DoubleValidation),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attack_has_its_own_name_and_deed() {
        for (index, attack) in ATTACKS.iter().enumerate() {
            let others = &ATTACKS[index + 1..];
            assert!(
                others
                    .iter()
                    .all(|other| (other.name, other.deed) != (attack.name, attack.deed)),
                "{}",
                attack.name
            );
            assert_eq!(Attack::find(attack.name), Some(attack));
            assert!(!attack.name.contains([' ', ',', '=']), "{}", attack.name);
        }
        assert_eq!(Attack::find("nothing"), None);
    }

    #[test]
    fn the_readme_has_every_attack() {
        let readme = include_str!("../README.md");
        for attack in ATTACKS {
            let row = format!("| `{}` | {} | ", attack.name, attack.what);
            assert!(readme.contains(&row), "{row}");
        }
        let (_, table) = readme.split_once("## Attacks").expect("the section");
        let rows = table.lines().filter(|line| line.starts_with("| `"));
        assert_eq!(rows.count(), ATTACKS.len());
    }

    #[test]
    fn events_are_injected_as_the_manual_says() {
        assert_eq!(Event::Interrupt(0x80).injection(), Some(0x8000_0080));
        assert_eq!(Event::Nmi.injection(), Some(0x8000_0202));
        assert_eq!(Event::Exception(13, 5).injection(), Some(0x5_8000_0b0d));
        assert_eq!(Event::Communication(0x72).injection(), None);
    }
}
