//! The log that a release must be in, what is known of that log, and why a release does not count.

use crate::product::Product;
use crate::reason::WhichTcb;
use crate::report::PolicyBit;
use crate::tcb::Component;
use crate::text::{Date, Hex, Safe};
use alloc::string::String;
use alloc::vec::Vec;
use cloister_transparency::merkle::Frontier;
use cloister_transparency::release::ReleaseError;
use cloister_transparency::{AppraisalError, Freshness, Hash, Policy, VerifierKey};
use core::fmt;

/// Which releases are accepted: signed by whom, in which logs, as seen by how many witnesses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPolicy {
    /// The logs, the witnesses, and how many of these are enough.
    pub policy: Policy,
    /// Who may sign releases; one of them must have. Empty: nothing is accepted.
    pub release_keys: Vec<VerifierKey>,
    /// The most seconds since the witnesses saw the log that has the release. `None`: any age; then the release's own
    /// dates are the bound.
    pub max_age_s: Option<u64>,
    /// Seconds that the clocks of witnesses and of the one who released may be ahead.
    pub clock_skew_s: u64,
    /// Whether log and witnesses are for tests, as when one user runs all of them. Every output then says so.
    pub test: bool,
}

impl LogPolicy {
    /// Any age, clocks as elsewhere, not for tests.
    pub fn new(policy: Policy, release_keys: Vec<VerifierKey>) -> Self {
        Self {
            policy,
            release_keys,
            max_age_s: None,
            clock_skew_s: crate::policy::CLOCK_SKEW_S,
            test: false,
        }
    }

    /// How old what witnesses saw may be, now.
    pub fn freshness(&self, now_s: u64) -> Freshness {
        Freshness {
            now_s,
            max_age_s: self.max_age_s,
            clock_skew_s: self.clock_skew_s,
        }
    }
}

/// What a guest shows of its image's release. Nothing of it is believed until it is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Release {
    /// The entry of the log: a signed note that is a [`cloister_transparency::release`].
    pub note: Vec<u8>,
    /// The proof that a log has it (C2SP tlog-proof).
    pub proof: Vec<u8>,
}

/// What the one who asks found by reading the log itself: every entry up to a checkpoint, whose signatures the reader has
/// checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogView {
    /// The log's name.
    pub origin: String,
    /// Hashes of all entries, in the order of the log. They lead to the checkpoint's root, and to that of every tree which
    /// the log had before: a proof that is of another tree is of another history.
    pub leaves: Vec<Hash>,
    /// Leaf hashes of entries that are withdrawn in that tree, by an entry that a release key signed and that is in
    /// force; and why.
    pub withdrawn: Vec<(Hash, String)>,
}

impl LogView {
    /// How many entries were read.
    pub fn size(&self) -> u64 {
        self.leaves.len() as u64
    }

    /// The root of the tree when it had `size` entries; `None` if it has fewer.
    pub fn root_at(&self, size: u64) -> Option<Hash> {
        let leaves = self.leaves.get(..usize::try_from(size).ok()?)?;
        let mut tree = Frontier::default();
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        Some(tree.root())
    }
}

/// Why a release does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReleaseReason {
    /// The evidence has no release, and the policy asks for one.
    Missing,
    /// The entry is no statement by a release key.
    Note(ReleaseError),
    /// The entry says something else than that an image is released.
    Kind {
        /// What it is about.
        found: &'static str,
    },
    /// It is not valid yet.
    NotYetValid {
        /// From when.
        from_s: u64,
    },
    /// It is not valid any more.
    Expired {
        /// Until when.
        until_s: u64,
    },
    /// No launch of the release has the report's measurement.
    NotALaunch {
        /// The measurement.
        found: [u8; 48],
    },
    /// The release was launched on a product that its least TCB version is not for.
    Product {
        /// The product that the release is for.
        release: Product,
        /// The product that runs it.
        machine: Product,
    },
    /// A level is below what the release asks for.
    Tcb {
        /// Of which TCB version.
        tcb: WhichTcb,
        /// Which level.
        component: Component,
        /// The level.
        found: u8,
        /// The least that the release accepts.
        minimum: u8,
    },
    /// The guest was launched with a permission that the release does not give.
    Permission(PolicyBit),
    /// There is no proof with the release.
    NoProof,
    /// The proof does not show that a log of the policy has the release.
    Proof(AppraisalError),
    /// The log that was read is not the one of the proof.
    OtherLog {
        /// Origin of the proof's checkpoint.
        proof: String,
        /// Origin of the one that was read.
        read: String,
    },
    /// The log had fewer entries when it was read than in the proof.
    OldView {
        /// Entries in the proof's tree.
        proof: u64,
        /// Entries that were read.
        read: u64,
    },
    /// The log that was read had another tree than the proof's when it was of that size: it shows different things to
    /// different people.
    SplitView {
        /// Entries of both trees.
        size: u64,
    },
    /// The release is withdrawn.
    Withdrawn {
        /// Why, in the words of the one who released it.
        reason: String,
    },
}

impl fmt::Display for ReleaseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing | Self::Note(_) | Self::Kind { .. } => self.fmt_note(f),
            Self::NoProof
            | Self::Proof(_)
            | Self::OtherLog { .. }
            | Self::OldView { .. }
            | Self::SplitView { .. }
            | Self::Withdrawn { .. } => self.fmt_log(f),
            _ => self.fmt_contents(f),
        }
    }
}

impl ReleaseReason {
    fn fmt_note(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Note(error) => write!(
                f,
                "{}; only an entry that a release key of the policy signed counts",
                SafeDisplay(error)
            ),
            Self::Kind { found } => write!(
                f,
                "the entry is of kind {found}, not a released image; the server must send its image's"
            ),
            _ => write!(
                f,
                "there is no release note; the server must send it (its operator publishes the image), or \
                 --release-note name it; --without-log does without"
            ),
        }
    }

    /// Reasons that lie in what the release says.
    fn fmt_contents(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYetValid { from_s } => write!(
                f,
                "the release is valid from {} only; is the clock right?",
                Date(*from_s)
            ),
            Self::Expired { until_s } => write!(
                f,
                "the release expired at {}; the server needs a newer one",
                Date(*until_s)
            ),
            Self::NotALaunch { found } => write!(
                f,
                "the guest runs {}, which is no launch of the release",
                Hex(found)
            ),
            Self::Product { release, machine } => write!(
                f,
                "the release's least TCB is that of {release}, the machine is {machine}, whose levels are others"
            ),
            Self::Tcb {
                tcb,
                component,
                found,
                minimum,
            } => write!(
                f,
                "the {tcb} TCB has {component} {found:#04x}, below {minimum:#04x}, the release's least"
            ),
            Self::Permission(bit) => write!(
                f,
                "the guest was launched with {bit}, which the release does not permit"
            ),
            _ => Ok(()),
        }
    }

    /// Reasons that lie in the proof and in the log.
    fn fmt_log(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proof(error @ AppraisalError::Quorum { .. }) => write!(
                f,
                "{error}; the server's operator must let the witnesses cosign again"
            ),
            Self::Proof(error) => write!(
                f,
                "not shown to be in a log of the policy: {}",
                SafeDisplay(error)
            ),
            Self::OtherLog { proof, read } => write!(
                f,
                "the log that was read is {}, the proof is of {}",
                Safe(read),
                Safe(proof)
            ),
            Self::OldView { proof, read } => write!(
                f,
                "the log had {read} entries when it was read, the proof is of {proof}: the view is old or rolled \
                 back; read the log again"
            ),
            Self::SplitView { size } => write!(
                f,
                "the log shows two different trees of {size} entries: it lies to someone; keep both and report it"
            ),
            Self::Withdrawn { reason } => write!(f, "the release is withdrawn: {}", Safe(reason)),
            _ => write!(
                f,
                "there is no proof with the release note; the server must send it, or --release-proof name it"
            ),
        }
    }
}

/// What writes itself, without what could control a terminal.
struct SafeDisplay<'a, T>(&'a T);

impl<T: fmt::Display> fmt::Display for SafeDisplay<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Safe(&alloc::format!("{}", self.0)).fmt(f)
    }
}
