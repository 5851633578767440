//! Log policies (C2SP tlog-policy): which logs and witnesses are trusted, and how many of them are enough.

use crate::key::{KeyError, KeyId, VerifierKey};
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

mod parse;
mod quorum;
#[cfg(test)]
mod tests;

/// The most bytes of a policy.
pub const MAX_POLICY_BYTES: usize = 256 << 10;

/// The most logs, witnesses and groups, each; the specification recommends 32 at least.
pub const MAX_DEFINITIONS: usize = 64;

/// What is wrong with a line of a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LineError {
    /// It begins with none of `log`, `witness`, `group`, `quorum`.
    Keyword,
    /// It has too few or too many words.
    Words,
    /// A key is malformed, or of a kind that its role does not allow.
    Key(KeyError),
    /// The key is not UTF-8.
    KeyNotUtf8,
    /// A witness's key is not for cosignatures.
    NotACosigner,
    /// Two logs or two witnesses have the same public key.
    DuplicateKey,
    /// Two different keys have the same name and id, so that a signature does not say whose it is.
    AmbiguousKey {
        /// The id of both.
        key_id: KeyId,
    },
    /// The name is defined already, or is `none`.
    NameTaken,
    /// The name is not defined on a line before.
    UndefinedName,
    /// The name is a member of a group already.
    MemberTwice,
    /// The threshold is not `any`, `all` or a number from 1 to that of the members.
    Threshold,
    /// There is a quorum line already.
    SecondQuorum,
    /// There are more logs, witnesses or groups than the limit.
    TooMany,
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keyword => write!(f, "a line begins with log, witness, group or quorum"),
            Self::Words => write!(f, "too few or too many words"),
            Self::Key(error) => write!(f, "{error}"),
            Self::KeyNotUtf8 => write!(f, "the key is not UTF-8"),
            Self::NotACosigner => write!(f, "a witness's key is one of type 0x04"),
            Self::DuplicateKey => write!(f, "the same public key stands on another line"),
            Self::AmbiguousKey { key_id } => {
                write!(f, "another key has the same name and the same id, {key_id}")
            }
            Self::NameTaken => write!(f, "the name is taken"),
            Self::UndefinedName => write!(f, "the name is not defined on a line before"),
            Self::MemberTwice => write!(f, "a name can be a member once only"),
            Self::Threshold => {
                write!(
                    f,
                    "a threshold is any, all or a number from 1 to that of the members"
                )
            }
            Self::SecondQuorum => write!(f, "there is a quorum line already"),
            Self::TooMany => write!(f, "over {MAX_DEFINITIONS} of a kind"),
        }
    }
}

/// Why a policy was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyError {
    /// It has more bytes than the limit.
    TooLarge {
        /// Bytes of the policy.
        bytes: usize,
    },
    /// It has a control character other than tab and newline.
    ControlCharacter {
        /// Where, in bytes from the start.
        at: usize,
    },
    /// The last line has no newline: the end may be missing.
    Unterminated,
    /// A line is wrong.
    Line {
        /// Which, from 1.
        line: usize,
        /// What is wrong with it.
        error: LineError,
    },
    /// There is no quorum line.
    NoQuorum,
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { bytes } => {
                write!(f, "a policy of {bytes} bytes is over {MAX_POLICY_BYTES}")
            }
            Self::ControlCharacter { at } => {
                write!(f, "the policy has a control character at byte {at}")
            }
            Self::Unterminated => write!(f, "the last line of the policy has no newline"),
            Self::Line { line, error } => write!(f, "line {line} of the policy: {error}"),
            Self::NoQuorum => write!(f, "the policy has no quorum line"),
        }
    }
}

impl core::error::Error for PolicyError {}

/// A log that is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyLog {
    /// Its key, whose name is the log's origin.
    pub key: VerifierKey,
    /// Where it is, for those who want to read it.
    pub url: Option<Vec<u8>>,
}

/// A witness that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyWitness {
    /// What the policy calls it; bytes, not text.
    pub name: Vec<u8>,
    /// Its key.
    pub key: VerifierKey,
    /// Where it takes checkpoints.
    pub url: Option<Vec<u8>>,
}

/// Witnesses and groups of them, of which so many have to agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyGroup {
    /// What the policy calls it.
    pub name: Vec<u8>,
    /// How many members are enough.
    pub threshold: usize,
    /// Who belongs to it.
    pub members: Vec<Member>,
}

/// What a group or the quorum is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// A witness: its place in [`Policy::witnesses`].
    Witness(usize),
    /// A group: its place in [`Policy::groups`], before that of any group which it belongs to.
    Group(usize),
}

/// A policy that is well-formed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    groups: Vec<PolicyGroup>,
    quorum: Option<Member>,
}

impl Policy {
    /// Reads a policy.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        parse::policy(bytes)
    }

    /// The logs, any of which will do.
    pub fn logs(&self) -> &[PolicyLog] {
        &self.logs
    }

    /// The witnesses.
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// The groups, each behind those that belong to it.
    pub fn groups(&self) -> &[PolicyGroup] {
        &self.groups
    }

    /// Whose cosignatures are enough; `None`: none are asked for.
    pub fn quorum(&self) -> Option<Member> {
        self.quorum
    }

    /// Whether these witnesses are enough. `cosigned[n]` says whether witness `n` cosigned; witnesses beyond its end
    /// did not.
    pub fn is_quorum(&self, cosigned: &[bool]) -> bool {
        quorum::is_reached(self, cosigned)
    }

    /// The least number of witnesses that any two quorums have in common: so many would have to sign both of two trees
    /// that contradict each other. 0: two quorums can do without a common witness, and split views go unseen.
    pub fn least_overlap(&self) -> usize {
        quorum::least_overlap(self)
    }

    fn member_name(&self, member: Member) -> &[u8] {
        match member {
            Member::Witness(at) => &self.witnesses[at].name,
            Member::Group(at) => &self.groups[at].name,
        }
    }

    /// The policy as a file, without the comments of the one that was read.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for log in &self.logs {
            let key = alloc::format!("{}", log.key);
            push_line(&mut out, &[b"log", key.as_bytes()], log.url.as_deref());
        }
        for witness in &self.witnesses {
            let key = alloc::format!("{}", witness.key);
            let words = [&b"witness"[..], &witness.name, key.as_bytes()];
            push_line(&mut out, &words, witness.url.as_deref());
        }
        for group in &self.groups {
            let threshold: String = alloc::format!("{}", group.threshold);
            let mut words = vec![&b"group"[..], &group.name, threshold.as_bytes()];
            words.extend(group.members.iter().map(|member| self.member_name(*member)));
            push_line(&mut out, &words, None);
        }
        let quorum = self
            .quorum
            .map_or(parse::NONE, |member| self.member_name(member));
        push_line(&mut out, &[b"quorum", quorum], None);
        out
    }
}

fn push_line(out: &mut Vec<u8>, words: &[&[u8]], url: Option<&[u8]>) {
    let all: Vec<_> = words.iter().copied().chain(url).collect();
    out.extend_from_slice(&all.join(&b' '));
    out.push(b'\n');
}
