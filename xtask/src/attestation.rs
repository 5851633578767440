//! What a guest that was started here must show before it is asked anything.

use std::fs;
use std::io;
use std::path::PathBuf;

use cloister_client::Policy;
use cloister_measure::LaunchDigest;
use cloister_verifier::RootError;
use cloister_verifier::release::LogPolicy;

use crate::image_build::Image;
use crate::qemu::Platform;

/// The processor of the emulated platform, as `image.json` names it.
const EMULATED_CPU: &str = "EPYC-Milan";

/// There is nothing that evidence could be judged by.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// The image was not measured for this machine.
    #[error(
        "image.json foretells no launch digest for {cpu} with {vcpus} CPUs; choose another --smp or --cpu"
    )]
    NoMeasurement {
        /// The processor.
        cpu: String,
        /// How many of it.
        vcpus: u32,
    },
    /// The root's certificate cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is none.
    #[error("{path}: {source}")]
    Root {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: RootError,
    },
}

/// The policy for `image` on `platform` with so many CPUs. Its reference value is what `image.json` foretells, never
/// what a guest says.
/// With a log, the image has to be in it too.
pub fn policy(
    platform: &Platform,
    image: &Image,
    vcpus: u32,
    log: Option<LogPolicy>,
) -> Result<Policy, ReferenceError> {
    let Some(measurement) = measurement(platform, image, vcpus)? else {
        return Ok(Policy {
            accept_unattested: true,
            ..Policy::default()
        });
    };
    let snp = cloister_verifier::Policy {
        measurements: vec![measurement.0],
        require_nonce: true,
        // An image that was built here can do without: whoever started it knows its measurement.
        require_log: log.is_some(),
        log,
        ..snp_policy(platform)?
    };
    Ok(Policy {
        snp,
        ..Policy::default()
    })
}

/// What is asked of reports on `platform` beside a measurement.
fn snp_policy(platform: &Platform) -> Result<cloister_verifier::Policy, ReferenceError> {
    let Platform::SnpEmulated(emulated) = platform else {
        return Ok(cloister_verifier::Policy::new());
    };
    let path = emulated.keys().root();
    let root = fs::read(&path).map_err(|source| ReferenceError::Io {
        path: path.clone(),
        source,
    })?;
    cloister_verifier::Policy::emulated(&root)
        .map_err(|source| ReferenceError::Root { path, source })
}

/// What `image.json` foretells for `platform` with so many CPUs; nothing for one that does not measure.
pub fn measurement(
    platform: &Platform,
    image: &Image,
    vcpus: u32,
) -> Result<Option<LaunchDigest>, ReferenceError> {
    match platform {
        Platform::Plain(_) => Ok(None),
        Platform::SnpEmulated(_) => emulated_measurement(image, vcpus).map(Some),
        Platform::Snp(launch) => foretold(image, launch.cpu.to_string(), vcpus).map(Some),
    }
}

/// What `image.json` foretells for the emulated platform with so many CPUs.
pub fn emulated_measurement(image: &Image, vcpus: u32) -> Result<LaunchDigest, ReferenceError> {
    foretold(image, EMULATED_CPU.to_owned(), vcpus)
}

fn foretold(image: &Image, cpu: String, vcpus: u32) -> Result<LaunchDigest, ReferenceError> {
    image
        .measurement(&cpu, vcpus)
        .ok_or(ReferenceError::NoMeasurement { cpu, vcpus })
}
