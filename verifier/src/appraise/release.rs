//! The image's release: who signed it, what it says, whether a log has it and has not withdrawn it.

use super::{Appraiser, Evidence, Finding, NO_REPORT, launch};
use crate::appraisal::CheckName;
use crate::policy::Policy;
use crate::product::Product;
use crate::reason::Reason;
use crate::release::{LogPolicy, LogView, ReleaseReason};
use crate::report::{Cpuid, GuestPolicy, PolicyBit, Report};
use crate::tcb::Tcb;
use crate::text::{Date, Hex, Safe};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use cloister_transparency::release::{ImageRelease, MinimumTcb, SnpLaunch};
use cloister_transparency::{LoggedEntry, Statement, appraise};

/// The checks that are made of what a release says.
const OF_CONTENTS: [CheckName; 3] = [
    CheckName::ReleaseDates,
    CheckName::ReleaseTcb,
    CheckName::ReleasePolicy,
];

const NO_LOG: &str = "no log policy is given";
const NO_RELEASE: &str = "there is no release to check";
const NOT_LOGGED: &str = "the release is not shown to be in a log";

/// What the evidence's release says, once a release key has signed it. Nothing to read without a policy for it.
pub(super) fn read(evidence: &Evidence, policy: &Policy) -> Option<Result<ImageRelease, Reason>> {
    let (log, release) = (policy.log.as_ref()?, evidence.release.as_ref()?);
    let statement = Statement::verify(&release.note, &log.release_keys);
    Some(match statement {
        Ok(Statement::Image(image)) => Ok(image),
        Ok(other) => Err(ReleaseReason::Kind {
            found: other.kind(),
        }
        .into()),
        Err(error) => Err(ReleaseReason::Note(error).into()),
    })
}

/// The launches of a release with this measurement.
fn launches(image: &ImageRelease, measurement: [u8; 48]) -> impl Iterator<Item = &SnpLaunch> {
    let has = move |launch: &&SnpLaunch| launch.measurement == measurement;
    image.snp.iter().filter(has)
}

/// Which launch of the release has this measurement.
pub(super) fn launch_of(image: &ImageRelease, found: [u8; 48]) -> Finding {
    let launch = launches(image, found).next();
    let launch = launch.ok_or(ReleaseReason::NotALaunch { found })?;
    let SnpLaunch {
        cpu, vcpus, vmm, ..
    } = launch;
    let version = Safe(&image.version);
    Ok(format!(
        "{}: release {version}, {}, {vcpus} vCPU, {}",
        Hex(&found),
        Safe(cpu),
        Safe(vmm)
    ))
}

impl<'a> Appraiser<'a> {
    pub(super) fn check_release(&mut self) {
        let policy = self.policy;
        let Some(log) = &policy.log else {
            return self.without_log();
        };
        let Some(release) = self.release else {
            return self.without_release();
        };
        match release {
            Ok(image) => {
                self.found(CheckName::Release, Ok(signed_by(image)));
                self.check_contents(image, log);
            }
            Err(reason) => {
                self.found(CheckName::Release, Err(reason.clone()));
                for name in OF_CONTENTS {
                    self.not_checked(name, NO_RELEASE, true);
                }
            }
        }
        let logged = self.check_log(log);
        self.check_withdrawn(logged.as_ref());
    }

    fn without_log(&mut self) {
        self.not_checked(CheckName::Release, NO_LOG, false);
        for name in OF_CONTENTS {
            self.not_checked(name, NO_LOG, false);
        }
        let required = self.policy.require_log;
        let advice = match required {
            true => {
                "no log policy is given; name one with --log-policy and --release-key or in the policy file, or do \
                 --without-log"
            }
            false => {
                "NOT IN A LOG (--without-log): it is not asked whether anyone else can see this image"
            }
        };
        self.not_checked(CheckName::Log, advice, required);
        self.not_checked(CheckName::Withdrawn, NO_LOG, false);
    }

    fn without_release(&mut self) {
        let required = self.policy.require_log;
        match required {
            true => self.found(CheckName::Release, Err(ReleaseReason::Missing.into())),
            false => self.not_checked(CheckName::Release, NO_RELEASE, false),
        }
        for name in OF_CONTENTS {
            self.not_checked(name, NO_RELEASE, required);
        }
        self.not_checked(CheckName::Log, NO_RELEASE, required);
        self.not_checked(CheckName::Withdrawn, NO_RELEASE, false);
    }

    fn check_contents(&mut self, image: &'a ImageRelease, log: &LogPolicy) {
        match self.context.now_s {
            Some(now_s) => self.found(CheckName::ReleaseDates, dates(image, log, now_s)),
            None => self.not_checked(CheckName::ReleaseDates, "the time is not known", true),
        }
        if self.policy.require_release_tcb {
            match self.product() {
                Some(product) => {
                    self.on_launches(CheckName::ReleaseTcb, image, |report, launches| {
                        tcb(product, report, launches)
                    })
                }
                None => self.not_checked(CheckName::ReleaseTcb, "the product is not known", true),
            }
        } else {
            let why = "the policy does not ask for it: an emulated platform has no firmware whose level means anything";
            self.not_checked(CheckName::ReleaseTcb, why, false);
        }
        self.on_launches(CheckName::ReleasePolicy, image, permissions);
    }

    /// A check of the launches that have the report's measurement: of all of them, should there be more than one, since
    /// nothing tells which of them it was.
    fn on_launches(
        &mut self,
        name: CheckName,
        image: &ImageRelease,
        check: impl FnOnce(&Report, &[&SnpLaunch]) -> Finding,
    ) {
        let Ok(report) = self.report else {
            return self.not_checked(name, NO_REPORT, true);
        };
        let launches: Vec<_> = launches(image, report.measurement).collect();
        match launches.is_empty() {
            true => self.not_checked(name, "no launch of the release has the measurement", true),
            false => self.found(name, check(report, &launches)),
        }
    }

    /// The entry, if the proof holds.
    fn check_log(&mut self, log: &LogPolicy) -> Option<LoggedEntry> {
        let release = self.evidence.release.as_ref()?;
        let Some(now_s) = self.context.now_s else {
            self.not_checked(CheckName::Log, "the time is not known", true);
            return None;
        };
        if release.proof.is_empty() {
            self.found(CheckName::Log, Err(ReleaseReason::NoProof.into()));
            return None;
        }
        let freshness = log.freshness(now_s);
        let logged = appraise(&release.note, &release.proof, &log.policy, &freshness);
        let finding = match &logged {
            Ok(entry) => Ok(seen_by(entry, log)),
            Err(error) => Err(ReleaseReason::Proof(error.clone()).into()),
        };
        self.found(CheckName::Log, finding);
        logged.ok()
    }

    fn check_withdrawn(&mut self, logged: Option<&LoggedEntry>) {
        let name = CheckName::Withdrawn;
        match (self.context.log_view, logged) {
            (None, _) => self.not_checked(
                name,
                "the log itself was not read; name it with --log to know",
                false,
            ),
            (_, None) => self.not_checked(name, NOT_LOGGED, true),
            (Some(view), Some(entry)) => self.found(name, withdrawn(view, entry)),
        }
    }
}

fn signed_by(image: &ImageRelease) -> String {
    format!(
        "image, version {}, signed by a release key",
        Safe(&image.version)
    )
}

/// Clocks may differ at the beginning of the time, not at its end.
fn dates(image: &ImageRelease, log: &LogPolicy, now_s: u64) -> Finding {
    let (from_s, until_s) = (image.period.not_before_s, image.period.not_after_s);
    if now_s.saturating_add(log.clock_skew_s) < from_s {
        return Err(ReleaseReason::NotYetValid { from_s }.into());
    }
    if now_s > until_s {
        return Err(ReleaseReason::Expired { until_s }.into());
    }
    Ok(format!("valid until {}", Date(until_s)))
}

fn tcb(machine: Product, report: &Report, launches: &[&SnpLaunch]) -> Finding {
    let mut least = Tcb::default();
    for launch in launches {
        let minimum = levels(&launch.minimum_tcb);
        let release = Product::from_cpuid(Cpuid::from_signature(launch.cpu_signature));
        // Levels of one product mean nothing for another.
        if let Some(release) = release
            && release != machine
            && minimum != Tcb::default()
        {
            return Err(ReleaseReason::Product { release, machine }.into());
        }
        least = least.highest(minimum);
    }
    match launch::first_below(machine, report, &least)? {
        None => Ok(format!("at least {least}")),
        Some((tcb, component, found)) => Err(ReleaseReason::Tcb {
            tcb,
            component,
            found,
            minimum: least.level(component),
        }
        .into()),
    }
}

fn levels(minimum: &MinimumTcb) -> Tcb {
    let MinimumTcb {
        boot_loader,
        fmc,
        microcode,
        snp,
        tee,
    } = *minimum;
    Tcb {
        fmc,
        boot_loader,
        tee,
        snp,
        microcode,
    }
}

/// What is permitted at launch must be permitted by the release. A launch may be stricter.
fn permissions(report: &Report, launches: &[&SnpLaunch]) -> Finding {
    for launch in launches {
        let released = GuestPolicy(launch.policy);
        let exceeds = |bit: &PolicyBit| report.policy.has(*bit) && !released.has(*bit);
        if let Some(bit) = PolicyBit::PERMISSIONS.into_iter().find(exceeds) {
            return Err(ReleaseReason::Permission(bit).into());
        }
    }
    Ok(format!("{:#x} permits no more", report.policy.0))
}

/// Where the entry is, and who saw it there.
fn seen_by(entry: &LoggedEntry, log: &LogPolicy) -> String {
    let (index, size) = (entry.index, entry.checkpoint.size);
    let origin = Safe(&entry.checkpoint.origin);
    let mark = if log.test { "TEST WITNESSES: " } else { "" };
    let oldest_s = entry.witnesses.iter().map(|witness| witness.time_s).min();
    let seen = match oldest_s {
        None => "no witness is asked for".into(),
        Some(oldest_s) => {
            let names = entry.witnesses.iter();
            let names: Vec<_> = names
                .map(|witness| String::from_utf8_lossy(&witness.witness))
                .collect();
            let names = names.join(", ");
            format!("cosigned by {} since {}", Safe(&names), Date(oldest_s))
        }
    };
    format!("{mark}entry {index} of {size} in {origin}, {seen}")
}

fn withdrawn(view: &LogView, entry: &LoggedEntry) -> Finding {
    let proof = &entry.checkpoint;
    if proof.origin != view.origin {
        return Err(ReleaseReason::OtherLog {
            proof: proof.origin.clone(),
            read: view.origin.clone(),
        }
        .into());
    }
    let Some(root) = view.root_at(proof.size) else {
        return Err(ReleaseReason::OldView {
            proof: proof.size,
            read: view.size(),
        }
        .into());
    };
    // A view of another history says nothing about this entry.
    if root != proof.root {
        return Err(ReleaseReason::SplitView { size: proof.size }.into());
    }
    let found = view.withdrawn.iter().find(|(leaf, _)| *leaf == entry.leaf);
    match found {
        None => Ok(format!("not withdrawn in {} entries", view.size())),
        Some((_, reason)) => Err(ReleaseReason::Withdrawn {
            reason: reason.clone(),
        }
        .into()),
    }
}
