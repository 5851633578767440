//! Reading a policy file.

use super::{
    LineError, MAX_DEFINITIONS, MAX_POLICY_BYTES, Member, Policy, PolicyError, PolicyGroup,
    PolicyLog, PolicyWitness,
};
use crate::key::{KeyType, VerifierKey};
use alloc::vec::Vec;

/// The quorum of a policy that asks for no witness; nothing else can have this name.
pub(super) const NONE: &[u8] = b"none";

/// The most words that are looked at: a group with every witness and every other group.
const MAX_WORDS: usize = 3 + 2 * MAX_DEFINITIONS;

pub(super) fn policy(bytes: &[u8]) -> Result<Policy, PolicyError> {
    if bytes.len() > MAX_POLICY_BYTES {
        return Err(PolicyError::TooLarge { bytes: bytes.len() });
    }
    let control = |byte: &u8| matches!(byte, 0..=8 | 0x0b..=0x1f | 0x7f);
    if let Some(at) = bytes.iter().position(control) {
        return Err(PolicyError::ControlCharacter { at });
    }
    if !bytes.is_empty() && !bytes.ends_with(b"\n") {
        return Err(PolicyError::Unterminated);
    }
    let mut parser = Parser::default();
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let read = parser.line(line);
        read.map_err(|error| PolicyError::Line {
            line: at + 1,
            error,
        })?;
    }
    let Parser {
        logs,
        witnesses,
        groups,
        quorum,
        ..
    } = parser;
    let quorum = quorum.ok_or(PolicyError::NoQuorum)?;
    Ok(Policy {
        logs,
        witnesses,
        groups,
        quorum,
    })
}

#[derive(Default)]
struct Parser {
    logs: Vec<PolicyLog>,
    witnesses: Vec<PolicyWitness>,
    groups: Vec<PolicyGroup>,
    /// What has been a member of a group.
    members: Vec<Member>,
    quorum: Option<Option<Member>>,
}

impl Parser {
    fn line(&mut self, line: &[u8]) -> Result<(), LineError> {
        let separated = line.split(|byte| matches!(byte, b' ' | b'\t'));
        let mut words = separated.filter(|word| !word.is_empty());
        let Some(keyword) = words.next().filter(|word| !word.starts_with(b"#")) else {
            return Ok(());
        };
        let words: Vec<_> = words.take(MAX_WORDS).collect();
        match keyword {
            b"log" => self.log(&words),
            b"witness" => self.witness(&words),
            b"group" => self.group(&words),
            b"quorum" => self.quorum(&words),
            _ => Err(LineError::Keyword),
        }
    }

    fn log(&mut self, words: &[&[u8]]) -> Result<(), LineError> {
        let (key, url) = match words {
            [key] => (key, None),
            [key, url] => (key, Some(url.to_vec())),
            _ => return Err(LineError::Words),
        };
        let key = read_key(key)?;
        check_room(self.logs.len())?;
        self.check_key(&key, self.logs.iter().map(|log| &log.key))?;
        self.logs.push(PolicyLog { key, url });
        Ok(())
    }

    fn witness(&mut self, words: &[&[u8]]) -> Result<(), LineError> {
        let (name, key, url) = match words {
            [name, key] => (name, key, None),
            [name, key, url] => (name, key, Some(url.to_vec())),
            _ => return Err(LineError::Words),
        };
        let key = read_key(key)?;
        if key.key_type() != KeyType::CosignatureV1 {
            return Err(LineError::NotACosigner);
        }
        check_room(self.witnesses.len())?;
        self.check_key(&key, self.witnesses.iter().map(|witness| &witness.key))?;
        self.check_new_name(name)?;
        self.witnesses.push(PolicyWitness {
            name: name.to_vec(),
            key,
            url,
        });
        Ok(())
    }

    fn group(&mut self, words: &[&[u8]]) -> Result<(), LineError> {
        let [name, threshold, names @ ..] = words else {
            return Err(LineError::Words);
        };
        if names.is_empty() {
            return Err(LineError::Words);
        }
        check_room(self.groups.len())?;
        self.check_new_name(name)?;
        let mut members = Vec::new();
        for name in names {
            let member = self.find(name).ok_or(LineError::UndefinedName)?;
            if self.members.contains(&member) {
                return Err(LineError::MemberTwice);
            }
            self.members.push(member);
            members.push(member);
        }
        let threshold = read_threshold(threshold, members.len()).ok_or(LineError::Threshold)?;
        self.groups.push(PolicyGroup {
            name: name.to_vec(),
            threshold,
            members,
        });
        Ok(())
    }

    fn quorum(&mut self, words: &[&[u8]]) -> Result<(), LineError> {
        let [name] = words else {
            return Err(LineError::Words);
        };
        let member = match *name {
            NONE => None,
            name => Some(self.find(name).ok_or(LineError::UndefinedName)?),
        };
        if self.quorum.replace(member).is_some() {
            return Err(LineError::SecondQuorum);
        }
        Ok(())
    }

    fn find(&self, name: &[u8]) -> Option<Member> {
        let witness = self
            .witnesses
            .iter()
            .position(|witness| witness.name == name);
        let group = self.groups.iter().position(|group| group.name == name);
        witness.map(Member::Witness).or(group.map(Member::Group))
    }

    fn check_new_name(&self, name: &[u8]) -> Result<(), LineError> {
        if name == NONE || self.find(name).is_some() {
            Err(LineError::NameTaken)
        } else {
            Ok(())
        }
    }

    /// Refuses a key that others of its role have, and one whose signatures could be taken for those of any other key.
    fn check_key<'k>(
        &self,
        key: &VerifierKey,
        mut same_role: impl Iterator<Item = &'k VerifierKey>,
    ) -> Result<(), LineError> {
        if same_role.any(|other| other.public() == key.public()) {
            return Err(LineError::DuplicateKey);
        }
        let logs = self.logs.iter().map(|log| &log.key);
        let mut all = logs.chain(self.witnesses.iter().map(|witness| &witness.key));
        // A log that is its own witness has one key in both roles, which is not ambiguous.
        let ambiguous = |other: &VerifierKey| {
            other.name() == key.name() && other.id() == key.id() && other != key
        };
        if all.any(ambiguous) {
            return Err(LineError::AmbiguousKey { key_id: key.id() });
        }
        Ok(())
    }
}

fn check_room(defined: usize) -> Result<(), LineError> {
    if defined == MAX_DEFINITIONS {
        Err(LineError::TooMany)
    } else {
        Ok(())
    }
}

fn read_key(word: &[u8]) -> Result<VerifierKey, LineError> {
    let text = core::str::from_utf8(word).map_err(|_| LineError::KeyNotUtf8)?;
    VerifierKey::parse(text).map_err(LineError::Key)
}

fn read_threshold(word: &[u8], members: usize) -> Option<usize> {
    let threshold = match word {
        b"any" => 1,
        b"all" => members,
        digits => {
            let number = crate::decimal::parse(core::str::from_utf8(digits).ok()?)?;
            usize::try_from(number).ok()?
        }
    };
    (1..=members).contains(&threshold).then_some(threshold)
}
