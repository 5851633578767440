//! `cargo xtask measure`: what a launch of the image will be measured as.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use cloister_measure::{
    Explanation, LaunchConfig, LaunchDigest, Observed, SearchSpace, explain, igvm, measure_igvm,
    measure_rom, measure_tdx,
};
use serde_json::{Value, json};

use super::CommandError;
use crate::cli::{MeasureArgs, MeasuredTee, Outcome};
use crate::image_build::Image;
use crate::workspace::Workspace;

/// The first bytes of an IGVM file.
const IGVM_MAGIC: &[u8] = b"IGVM";
/// Explanations that are printed; more are of no help.
const SHOWN_EXPLANATIONS: usize = 10;

/// A measured image.
struct Measured {
    digest: LaunchDigest,
    /// One line a page, and the same for programs.
    trace: Vec<String>,
    trace_json: Vec<Value>,
}

impl Measured {
    fn new<P: fmt::Display + serde::Serialize>(digest: LaunchDigest, pages: &[P]) -> Self {
        Self {
            digest,
            trace: pages.iter().map(ToString::to_string).collect(),
            trace_json: pages.iter().map(|page| json!(page)).collect(),
        }
    }
}

/// Computes the digest; the last line of the text is nothing else.
pub fn run(workspace: &Workspace, arguments: &MeasureArgs) -> Result<Outcome, CommandError> {
    let path = image_file(workspace, arguments.image.as_deref())?;
    let image = read(&path)?;
    let config = LaunchConfig {
        features: arguments.features,
        ..LaunchConfig::new(arguments.vmm, arguments.vcpus, arguments.cpu)
    };
    let measured = measure(&path, &image, arguments.tee, &config)?;
    let launch = match arguments.tee {
        MeasuredTee::Tdx => "TDX, MRTD".to_owned(),
        MeasuredTee::Snp if image.starts_with(IGVM_MAGIC) => {
            "SEV-SNP, the vCPUs of the IGVM file".to_owned()
        }
        MeasuredTee::Snp => format!(
            "SEV-SNP, {} vCPU{} {}, launched by {}, guest features {}",
            config.vcpus,
            if config.vcpus == 1 { "" } else { "s" },
            config.cpu,
            config.vmm,
            config.features
        ),
    };
    let mut text = format!(
        "{}: {launch}, {} pages\n",
        path.display(),
        measured.trace.len()
    );
    if arguments.trace {
        for line in &measured.trace {
            let _ = writeln!(text, "{line}");
        }
    }
    let mut json = json!({
        "image": path,
        "tee": arguments.tee.name(),
        "vcpus": config.vcpus,
        "cpu": config.cpu.to_string(),
        "vmm": config.vmm.to_string(),
        "guest_features": config.features.0,
        "pages": measured.trace.len(),
        "digest": measured.digest.to_string(),
    });
    if arguments.trace {
        json["trace"] = json!(measured.trace_json);
    }
    let mut success = true;
    if let Some(report) = &arguments.diff {
        let difference = compare(report, &image, &config, &measured, arguments.tee)?;
        success = difference.equal;
        text += &difference.text;
        json["diff"] = difference.json;
    }
    let _ = writeln!(text, "{}", measured.digest);
    Ok(Outcome {
        text,
        json,
        success,
    })
}

/// The file to measure: the ROM of an image's folder, or the file that was named.
fn image_file(workspace: &Workspace, named: Option<&Path>) -> Result<PathBuf, CommandError> {
    match named {
        Some(path) if path.is_file() => Ok(path.to_owned()),
        Some(folder) => Ok(Image::open(folder)?.rom()),
        None => match Image::open(&workspace.image()) {
            Ok(image) => Ok(image.rom()),
            Err(error) => Err(CommandError::Failed(format!(
                "there is no image to measure ({error}); build one with `cargo xtask image`, or name one with --image"
            ))),
        },
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    std::fs::read(path).map_err(|source| CommandError::Io {
        path: path.to_owned(),
        source,
    })
}

fn measure(
    path: &Path,
    image: &[u8],
    tee: MeasuredTee,
    config: &LaunchConfig,
) -> Result<Measured, CommandError> {
    let failed =
        |error: &dyn fmt::Display| CommandError::Failed(format!("{}: {error}", path.display()));
    let is_igvm = image.starts_with(IGVM_MAGIC);
    match tee {
        MeasuredTee::Snp => {
            let measurement = if is_igvm {
                measure_igvm(image).map_err(|error| failed(&error))?
            } else {
                measure_rom(image, config).map_err(|error| failed(&error))?
            };
            Ok(Measured::new(measurement.digest(), measurement.pages()))
        }
        MeasuredTee::Tdx => {
            let measurement = if is_igvm {
                igvm::measure_igvm_tdx(image).map_err(|error| failed(&error))?
            } else {
                measure_tdx(image).map_err(|error| failed(&error))?
            };
            Ok(Measured::new(measurement.digest, &measurement.pages))
        }
    }
}

/// What was said about an observed digest.
struct Comparison {
    equal: bool,
    text: String,
    json: Value,
}

/// Compares with the digest in a report or a text, and searches for inputs that explain a difference.
fn compare(
    report: &Path,
    image: &[u8],
    config: &LaunchConfig,
    measured: &Measured,
    tee: MeasuredTee,
) -> Result<Comparison, CommandError> {
    let observed = Observed::parse(&read(report)?)
        .map_err(|error| CommandError::Failed(format!("{}: {error}", report.display())))?;
    let found = format!(
        "{} ({}, its signature was not checked): {}",
        report.display(),
        observed.found_in,
        observed.digest
    );
    if observed.digest == measured.digest {
        return Ok(Comparison {
            equal: true,
            text: format!("SAME     {found}\n"),
            json: json!({ "equal": true, "observed": observed.digest.to_string() }),
        });
    }
    let (explanations, tried) = if tee == MeasuredTee::Snp && !image.starts_with(IGVM_MAGIC) {
        search(&observed, image, config)?
    } else {
        (Vec::new(), 0)
    };
    let mut text = format!("DIFFERS  {found}\n");
    for explanation in explanations.iter().take(SHOWN_EXPLANATIONS) {
        let _ = writeln!(text, "         explained by: {explanation}");
    }
    if explanations.is_empty() {
        let _ = writeln!(
            text,
            "         none of {tried} other launches of this image explains it: it is another image"
        );
    }
    Ok(Comparison {
        equal: false,
        text,
        json: json!({
            "equal": false, "observed": observed.digest.to_string(), "explanations": explanations, "tried": tried,
        }),
    })
}

fn search(
    observed: &Observed,
    rom: &[u8],
    config: &LaunchConfig,
) -> Result<(Vec<Explanation>, u64), CommandError> {
    let mut space = SearchSpace::around(config);
    // `-cpu host` shows the guest the processor that the report names.
    space.cpus.extend(observed.host_cpu);
    let search = explain(observed.digest, rom, config, &space)
        .map_err(|error| CommandError::Failed(error.to_string()))?;
    Ok((search.explanations, search.tried))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;
    use cloister_measure::{CpuModel, VmmKind};

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: MeasureArgs,
    }

    /// A ROM with SEV metadata, and nothing else in it.
    fn rom() -> Vec<u8> {
        let mut rom = vec![0; 64 << 10];
        cloister_image::sev_metadata::write(&mut rom);
        rom
    }

    fn measure_with(words: &[&str]) -> Result<Outcome, CommandError> {
        let workspace = Workspace::find().expect("the tests run in the checkout");
        let line = Line::parse_from(["measure"].iter().chain(words));
        run(&workspace, &line.arguments)
    }

    #[test]
    fn the_digest_is_the_last_line_and_depends_on_the_launch() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("rom.bin");
        std::fs::write(&path, rom()).expect("written");
        let path = path.to_str().expect("a plain name");
        let digest = |words: &[&str]| {
            let outcome = measure_with(&[&["--image", path], words].concat()).expect("measured");
            let last = outcome.text.lines().last().expect("a line").to_owned();
            assert_eq!(outcome.json["digest"], last);
            assert!(last.len() == 96 && last.bytes().all(|byte| byte.is_ascii_hexdigit()));
            last
        };
        let milan = digest(&[]);
        assert_eq!(milan, digest(&["--cpu", "EPYC-Milan", "--trace"]));
        assert_ne!(milan, digest(&["--cpu", "EPYC-Genoa"]));
        assert_ne!(milan, digest(&["--vcpus", "2"]));
        assert_ne!(milan, digest(&["--features", "0x21"]));
    }

    #[test]
    fn an_igvm_file_has_a_digest_of_its_own() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("cloister.igvm");
        let igvm = cloister_measure::igvm_of_rom(&rom()).expect("a good ROM");
        std::fs::write(&path, &igvm).expect("written");
        let path = path.to_str().expect("a plain name");
        let outcome = measure_with(&["--image", path, "--vcpus", "3"]).expect("measured");
        let expected = measure_igvm(&igvm).expect("a good file").digest();
        assert_eq!(outcome.json["digest"], expected.to_string());
        assert!(outcome.text.contains("the vCPUs of the IGVM file"));
    }

    #[test]
    fn a_differing_digest_is_explained() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [rom_path, seen] = ["rom.bin", "seen"].map(|name| folder.path().join(name));
        std::fs::write(&rom_path, rom()).expect("written");
        let config = LaunchConfig::new(VmmKind::Qemu, 4, CpuModel::GENOA);
        let digest = measure_rom(&rom(), &config).expect("measured").digest();
        std::fs::write(&seen, digest.to_string()).expect("written");
        let [rom_path, seen] = [&rom_path, &seen].map(|path| path.to_str().expect("plain"));
        let words = ["--image", rom_path, "--diff", seen];
        let outcome = measure_with(&words).expect("measured");
        assert!(!outcome.success);
        assert!(
            outcome
                .text
                .contains("4 vCPUs instead of 1; CPU model EPYC-Genoa instead of EPYC-Milan"),
            "{}",
            outcome.text
        );
        let right = [&words[..], &["--vcpus", "4", "--cpu", "EPYC-Genoa"]].concat();
        assert!(measure_with(&right).expect("measured").success);
    }

    #[test]
    fn what_cannot_be_measured_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("rom.bin");
        std::fs::write(&path, vec![0; 64 << 10]).expect("written");
        let path = path.to_str().expect("a plain name");
        let error = measure_with(&["--image", path]).map(drop);
        assert!(error.is_err_and(|error| error.to_string().contains("rom.bin")));
        let error = measure_with(&["--image", path, "--tee", "tdx"]).map(drop);
        assert!(error.is_err());
    }
}
