//! How strict the platform is, and the options that L0 is given.

use crate::hostile::Attack;
use crate::report::LaunchParameters;

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
    /// `policy=HEX`, `host-data=HEX`: what goes into the guest's reports.
    pub launch: LaunchParameters,
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
        } else if let Some(policy) = word.strip_prefix("policy=") {
            let policy = u64::from_str_radix(policy, 16).ok()?;
            self.launch.set_policy(policy)?;
        } else if let Some(data) = word.strip_prefix("host-data=") {
            self.launch.host_data = bytes(data)?;
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

/// As many bytes as there are digits for, in hexadecimal.
fn bytes<const N: usize>(digits: &str) -> Option<[u8; N]> {
    let (pairs, []) = digits.as_bytes().as_chunks::<2>() else {
        return None;
    };
    let mut bytes = [0; N];
    if pairs.len() != N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(pairs) {
        let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
        *byte = (high? << 4 | low?) as u8;
    }
    Some(bytes)
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
    fn a_launch_has_its_parameters() {
        let data = "0a".repeat(32);
        let text = format!("policy=b0000 host-data={data}");
        let options = Options::parse(&text).expect("known words");
        assert_eq!(options.launch.policy(), 0xb_0000);
        assert_eq!(options.launch.host_data, [10; 32]);
        assert_eq!(Options::default().launch.policy(), 0x3_0000);
        let short = "host-data=0a0a";
        for wrong in ["policy=0", "policy=x", short, "host-data=+1"] {
            assert_eq!(Options::parse(wrong), Err(UnknownOption(wrong)));
        }
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
