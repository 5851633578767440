//! How strict the platform is, and the options that L0 is given.

use crate::hostile::Attack;

/// A rule whose breach ends the guest with a diagnosis. Each can be relaxed by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// An access to a page that was not validated. Strict: the guest gets #VC 0x404, as from
    /// hardware. Relaxed: the page is validated, and the access counted.
    Unvalidated,
    /// An access with a C-bit that contradicts the page's state. Strict: stop. Relaxed: the page
    /// changes its state, as KVM would do.
    CBit,
    /// A validation that changes nothing. Strict: stop. Relaxed: the carry flag, as on hardware.
    DoubleValidation,
    /// A GHCB that was not registered. Strict: stop. Relaxed: it is used.
    GhcbRegistration,
    /// A page that is shared while it is still validated. Strict: stop. Relaxed: as on hardware.
    Rescind,
}

impl Check {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Unvalidated,
        Self::CBit,
        Self::DoubleValidation,
        Self::GhcbRegistration,
        Self::Rescind,
    ];

    /// The name in options and diagnoses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unvalidated => "unvalidated",
            Self::CBit => "c-bit",
            Self::DoubleValidation => "double-validation",
            Self::GhcbRegistration => "ghcb-registration",
            Self::Rescind => "rescind",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// What L0 is told in the fw_cfg file `opt/cloister/l0`: words separated by spaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    relaxed: u8,
    /// `selftest`: end after the self-test.
    pub selftest_only: bool,
    /// `launch-only`: end after the launch digest.
    pub launch_only: bool,
    /// `trace`: log every exit.
    pub trace: bool,
    /// `hostile=NAME`: attack the guest.
    pub hostile: Option<&'static Attack>,
}

/// A word that is no option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownOption<'a>(pub &'a str);

impl Options {
    /// Reads the words.
    pub fn parse(text: &str) -> Result<Self, UnknownOption<'_>> {
        let mut options = Self::default();
        for word in text.split_ascii_whitespace() {
            match word {
                "selftest" => options.selftest_only = true,
                "launch-only" => options.launch_only = true,
                "trace" => options.trace = true,
                _ => options.named(word).ok_or(UnknownOption(word))?,
            }
        }
        Ok(options)
    }

    /// Options with a name in them.
    fn named(&mut self, word: &str) -> Option<()> {
        if let Some(name) = word.strip_prefix("hostile=") {
            let attack = Attack::find(name)?;
            self.hostile = Some(attack);
            self.relaxed |= attack.relaxes().map_or(0, Check::bit);
        } else {
            let name = word.strip_prefix("relax=")?;
            let check = Check::ALL.into_iter().find(|check| check.name() == name)?;
            self.relaxed |= check.bit();
        }
        Some(())
    }

    /// Whether a rule's breach ends the guest.
    pub fn is_strict(&self, check: Check) -> bool {
        self.relaxed & check.bit() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_strict_until_it_is_named() {
        let options = Options::parse("trace relax=unvalidated").expect("known words");
        assert!(options.trace && !options.is_strict(Check::Unvalidated));
        assert!(options.is_strict(Check::CBit));
        assert_eq!(Options::parse("relax=all"), Err(UnknownOption("relax=all")));
    }

    #[test]
    fn an_attack_is_named_and_relaxes_what_it_would_be_stopped_by() {
        let options = Options::parse("hostile=share").expect("a known attack");
        assert!(options.hostile.is_some_and(|attack| attack.name == "share"));
        assert!(!options.is_strict(Check::CBit) && options.is_strict(Check::Rescind));
        let unknown = Err(UnknownOption("hostile=all"));
        assert_eq!(Options::parse("hostile=all"), unknown);
    }
}
