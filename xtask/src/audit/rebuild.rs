//! The part of an audit that builds: source, compiler, files, measurements.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cloister_boot::manifest::Serving;
use cloister_image::fixture;
use cloister_tokens::origin::Issuer;
use cloister_transparency::release::{ImageRelease, SnpLaunch};

use super::inputs::Inputs;
use super::report::Report;
use super::{AuditError, Audited, DigestRow};
use crate::digest;
use crate::guest_build::Environment;
use crate::image_build::{self, Image, ImageInputs};
use crate::models::{self, ModelChoice};
use crate::packs;
use crate::release::statement;
use crate::reproduce;
use crate::workspace::Workspace;

/// The most measurements that are named in a line.
const NAMED_LAUNCHES: usize = 3;

/// What is built, and what it is compared with.
pub(super) struct Rebuild<'a> {
    pub(super) workspace: &'a Workspace,
    /// What the log says.
    pub(super) release: &'a ImageRelease,
    /// The log policy of the one who audits.
    pub(super) log_policy: &'a Path,
    /// The image as its publisher hands it out.
    pub(super) published: Option<&'a Path>,
    /// The model's file, where its name says nothing.
    pub(super) model: Option<&'a Path>,
    /// The token issuer that the image names, where the release does not say.
    pub(super) token_issuer: Option<&'a Issuer>,
    /// How the image serves its port, where the release does not say.
    pub(super) serving: Serving,
}

impl Rebuild<'_> {
    /// Builds and compares.
    pub(super) fn run(&self, report: &mut Report, audited: &mut Audited) -> Result<(), AuditError> {
        let Some(model) = self.choose_model(report) else {
            return Ok(());
        };
        let told = Inputs {
            serving: self.serving,
            token_issuer: self.token_issuer.cloned(),
        };
        let Some(said) = Inputs::of(self.release, told, report) else {
            return Ok(());
        };
        let inputs = ImageInputs {
            model: &model,
            log_policy: self.log_policy()?,
            token_issuer: said.token_issuer,
            serving: said.serving,
            environment: Environment::of_this_process(),
        };
        let folder = self.workspace.cloister().join("audit").join("image");
        let image = image_build::build_from(self.workspace, &inputs, &folder)?;
        self.check_source(&image, report);
        self.check_build(&image, report);
        self.check_log_policy(&image, report);
        self.check_files(&image, report, audited)?;
        self.check_launches(&image, report)?;
        self.compare(&folder, report, audited)
    }

    /// The text of the policy that goes into the image, if the release's has one.
    fn log_policy(&self) -> Result<Option<String>, AuditError> {
        if self.release.log_policy.is_none() {
            return Ok(None);
        }
        let text = fs::read_to_string(self.log_policy).map_err(|source| AuditError::Io {
            path: self.log_policy.to_owned(),
            source,
        })?;
        Ok(Some(text))
    }

    /// The model of the release: a file that was named, else one that this program knows by its name.
    fn choose_model(&self, report: &mut Report) -> Option<ModelChoice> {
        const NAME: &str = "model";
        if let Some(path) = self.model {
            return Some(ModelChoice::File(path.to_owned()));
        }
        let Some(model) = &self.release.model else {
            return Some(ModelChoice::None);
        };
        // By its digest: a name can be anybody's.
        match models::with_digest(&digest::hex(&model.gguf)) {
            Some(model) => Some(ModelChoice::Named(model)),
            None if model.name == packs::manifest_name(fixture::NAME) => Some(ModelChoice::Fixture),
            None => {
                let advice = format!(
                    "{:?} is no model that this program can fetch; give its GGUF file with --model FILE. Nothing was \
                     built",
                    model.name
                );
                report.not_checked(NAME, advice);
                None
            }
        }
    }

    fn check_source(&self, image: &Image, report: &mut Report) {
        let (logged, here) = (&self.release.source, &image.facts().source);
        if logged.modified {
            report.fail(
                "source",
                "the release says itself that it was built from changes that are in no commit",
            );
        }
        let wrong = |found: &str, expected: &str| {
            format!("this checkout has {found}, the log says {expected}; check that commit out")
        };
        report.expect(
            "source commit",
            here.commit == logged.commit,
            logged.commit.clone(),
            wrong(&here.commit, &logged.commit),
        );
        report.expect(
            "source tree",
            here.tree == logged.tree && !here.modified,
            logged.tree.clone(),
            match here.modified {
                true => "this checkout has changes that are in no commit".to_owned(),
                false => wrong(&here.tree, &logged.tree),
            },
        );
        let lock = digest::hex(&logged.cargo_lock);
        report.expect(
            "Cargo.lock",
            here.cargo_lock_sha256 == lock,
            lock.clone(),
            wrong(&here.cargo_lock_sha256, &lock),
        );
    }

    fn check_build(&self, image: &Image, report: &mut Report) {
        let (logged, here) = (&self.release.build, &image.facts().build);
        report.expect(
            "compiler",
            here.rustc.version == logged.rustc && here.target == logged.target,
            format!("{} for {}", logged.rustc, logged.target),
            format!(
                "{} for {} here, {} for {} in the log",
                here.rustc.version, here.target, logged.rustc, logged.target
            ),
        );
        report.expect(
            "compiler flags",
            here.flags == logged.flags && here.profile == logged.profile,
            format!("profile {}, {} flags", logged.profile, logged.flags.len()),
            format!("{:?} here, {:?} in the log", here.flags, logged.flags),
        );
    }

    /// Under which policy the image was to be published: that of the one who audits, or none.
    fn check_log_policy(&self, image: &Image, report: &mut Report) {
        const NAME: &str = "log policy in ROM";
        let here = image.facts().log_policy.as_ref().map(|file| &file.sha256);
        match (&self.release.log_policy, here) {
            (None, _) => report.not_checked(NAME, "the release's image names no log policy"),
            (Some(logged), Some(here)) => {
                let logged = digest::hex(logged);
                report.expect(
                    NAME,
                    *here == logged,
                    "the image names the policy of this audit".to_owned(),
                    format!("the image names policy {logged}, this audit uses {here}"),
                );
            }
            (Some(_), None) => report.fail(NAME, "the image that was built here has none"),
        }
    }

    fn check_files(
        &self,
        image: &Image,
        report: &mut Report,
        audited: &mut Audited,
    ) -> Result<(), AuditError> {
        let built: BTreeMap<String, String> = statement::subjects(image)?
            .into_iter()
            .map(|subject| (subject.name, digest::hex(&subject.sha256)))
            .collect();
        for subject in &self.release.subjects {
            let row = DigestRow {
                file: subject.name.clone(),
                logged: digest::hex(&subject.sha256),
                built: built.get(&subject.name).cloned(),
            };
            match &row.built {
                Some(found) => report.expect(
                    &row.file,
                    *found == row.logged,
                    format!("sha256 {found}"),
                    format!("sha256 {found} here, {} in the log", row.logged),
                ),
                None => report.fail(&row.file, "no such file is built here"),
            }
            audited.digests.push(row);
        }
        let logged = |name: &&String| self.release.subjects.iter().all(|s| s.name != **name);
        for name in built.keys().filter(logged) {
            report.fail(name, "it is built here, and the log does not name it");
        }
        let sbom = digest::hex(&self.release.sbom);
        report.expect(
            "bill of materials",
            image.facts().sbom.sha256 == sbom,
            format!("sha256 {sbom}"),
            format!(
                "sha256 {} here, {sbom} in the log",
                image.facts().sbom.sha256
            ),
        );
        Ok(())
    }

    /// Computes every launch again, from the ROM that was built here.
    fn check_launches(&self, image: &Image, report: &mut Report) -> Result<(), AuditError> {
        const NAME: &str = "launch measurements";
        let here = statement::launches(image.facts())?;
        let logged = &self.release.snp;
        let differing: Vec<String> = logged
            .iter()
            .filter(|launch| !here.contains(launch))
            .map(describe)
            .collect();
        let missing = here
            .iter()
            .filter(|launch| !logged.contains(launch))
            .count();
        if differing.is_empty() && missing == 0 {
            report.pass(NAME, format!("all {} computed again", logged.len()));
            return Ok(());
        }
        let named = differing[..differing.len().min(NAMED_LAUNCHES)].join(", ");
        report.fail(
            NAME,
            format!(
                "{} of {} in the log are not computed here ({named}), {missing} computed here are not in the log",
                differing.len(),
                logged.len()
            ),
        );
        Ok(())
    }

    /// Byte for byte against what the publisher hands out, so that a difference has a name.
    fn compare(
        &self,
        built: &Path,
        report: &mut Report,
        audited: &mut Audited,
    ) -> Result<(), AuditError> {
        const NAME: &str = "published files";
        let Some(published) = self.published else {
            report.not_checked(NAME, "no folder was given with --image");
            return Ok(());
        };
        let differences = reproduce::compare(published, built)?;
        audited.differences = differences.iter().map(ToString::to_string).collect();
        match audited.differences.first() {
            None => report.pass(NAME, format!("{} has the same bytes", published.display())),
            Some(first) => report.fail(
                NAME,
                format!("{} differences; the first: {first}", differences.len()),
            ),
        }
        Ok(())
    }
}

fn describe(launch: &SnpLaunch) -> String {
    format!("{} {} x{}", launch.vmm, launch.cpu, launch.vcpus)
}
