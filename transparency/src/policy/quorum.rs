//! Whether a quorum is reached, and what two quorums have in common.

use super::{Member, Policy};
use alloc::vec::Vec;

pub(super) fn is_reached(policy: &Policy, cosigned: &[bool]) -> bool {
    let witness = |at: usize| cosigned.get(at).copied().unwrap_or(false);
    let Some(quorum) = policy.quorum else {
        return true;
    };
    // Groups stand behind their members, so that one pass will do.
    let mut reached: Vec<bool> = Vec::with_capacity(policy.groups.len());
    for group in &policy.groups {
        let agreed = group.members.iter().filter(|member| match member {
            Member::Witness(at) => witness(*at),
            Member::Group(at) => reached[*at],
        });
        reached.push(agreed.count() >= group.threshold);
    }
    match quorum {
        Member::Witness(at) => witness(at),
        Member::Group(at) => reached[at],
    }
}

/// Two choices of k out of n members have 2k - n of them in common at least, and in each of those both choices are
/// quorums again. As no name is a member twice, the least of the whole is the sum of the least ones.
pub(super) fn least_overlap(policy: &Policy) -> usize {
    let mut least: Vec<usize> = Vec::with_capacity(policy.groups.len());
    for group in &policy.groups {
        let of_members = group.members.iter().map(|member| match member {
            Member::Witness(_) => 1,
            Member::Group(at) => least[*at],
        });
        let mut of_members: Vec<usize> = of_members.collect();
        of_members.sort_unstable();
        let common = (2 * group.threshold).saturating_sub(group.members.len());
        least.push(of_members.iter().take(common).sum());
    }
    match policy.quorum {
        None => 0,
        Some(Member::Witness(_)) => 1,
        Some(Member::Group(at)) => least[at],
    }
}
