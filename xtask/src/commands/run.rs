//! `cargo xtask run`.

use std::fs;
use std::iter;
use std::path::Path;
use std::time::Duration;

use cloister_image::image_json::TokenIssuerEntry;
use cloister_tokens::origin::Issuer;
use cloister_transparency::{Statement, VerifierKey};
use serde_json::json;

use super::{CommandError, model_or_default, platform};
use crate::attestation;
use crate::cli::{Outcome, RunArgs, SnpArgs, Tee};
use crate::image_build::{self, Image};
use crate::local_issuer::IssuerFiles;
use crate::qemu::{self, Accelerator, Guest, GuestError, GuestOptions, Platform, Qemu, SnpLaunch};
use crate::release::deployment::Deployment;
use crate::workspace::Workspace;

/// A model of several GB takes that long to copy and check under emulation.
pub(super) const READY_TIMEOUT: Duration = Duration::from_secs(300);

/// Boots an image and serves until the guest or the user ends it.
pub fn run(
    workspace: &Workspace,
    arguments: &RunArgs,
    json_wanted: bool,
) -> Result<Outcome, CommandError> {
    let platform = match arguments.tee {
        Tee::Snp => Platform::Snp(snp_launch(&arguments.snp)?),
        tee => {
            refuse_snp_arguments(&arguments.snp)?;
            platform(workspace, tee)?
        }
    };
    let accelerator = platform.accelerator();
    let image = open_or_build(workspace, arguments, accelerator)?;
    let mut options = image.guest_options(platform.clone());
    options.certificates.clone_from(&arguments.snp.certs);
    options.port = Some(arguments.port);
    options.cpus = arguments.smp;
    options.memory_mib = arguments.memory.unwrap_or(options.memory_mib);
    options.echo = true;
    let trust = trust(workspace, &platform, &image, options.cpus)?;
    if arguments.snp.print {
        return Ok(printed(&options, arguments.port, &trust));
    }
    let qemu = Qemu::find_or_install()?;
    if arguments.tee == Tee::Snp {
        qemu::check_qemu(&qemu)?;
    }
    eprintln!(
        "QEMU {}, platform {}, {}, {} MiB",
        qemu.version(),
        platform.name(),
        accelerator.describe(),
        options.memory_mib
    );
    let mut guest = Guest::start(&qemu, &options)?;
    let ready = guest.wait_ready(READY_TIMEOUT)?;
    let url = guest.url();
    eprintln!("Serving at {url}. Ctrl-C ends it. Ask it with:");
    eprintln!(
        "  cargo run --release -p cloister-client -- ask --server {url} {trust} --messages FILE"
    );
    if let Some(named) = &image.facts().token_issuer {
        let own = IssuerFiles::below(&workspace.issuer());
        eprintln!("{}", token_advice(&own, named));
    }
    if json_wanted {
        println!(
            "{}",
            json!({
                "url": url, "platform": platform.name(), "model": ready.model, "times": guest.times(), "trust": trust,
            })
        );
    }
    let status = guest.wait_end().map_err(GuestError::Start)?;
    match guest.wait_stopped(Duration::ZERO) {
        Ok((stop, _)) => Err(GuestError::Stopped(stop).into()),
        Err(_) => Err(CommandError::Failed(format!("QEMU ended ({status})"))),
    }
}

/// The launch that was asked for, on a host that can do it; with `--print`, on any.
fn snp_launch(arguments: &SnpArgs) -> Result<SnpLaunch, CommandError> {
    if !arguments.print {
        qemu::check_host()?;
        arguments
            .certs
            .as_deref()
            .map_or(Ok(()), qemu::check_certificates)?;
    }
    let SnpArgs {
        id_block, id_auth, ..
    } = arguments.clone();
    Ok(SnpLaunch {
        cpu: arguments.cpu.map_or_else(qemu::host_cpu, Ok)?,
        policy: arguments.policy.unwrap_or(qemu::DEFAULT_POLICY),
        host_data: arguments.host_data.clone(),
        id_block: id_block.zip(id_auth).map(<[String; 2]>::from),
    })
}

fn refuse_snp_arguments(arguments: &SnpArgs) -> Result<(), CommandError> {
    match *arguments == SnpArgs::default() {
        true => Ok(()),
        false => Err(CommandError::Usage(
            "--cpu, --certs, --policy, --host-data, --id-block, --id-auth and --print are for --tee snp".to_owned(),
        )),
    }
}

/// QEMU's command line as a shell takes it.
fn printed(options: &GuestOptions, port: u16, trust: &str) -> Outcome {
    let words = options.command_line(port);
    let words = words.iter().map(|word| word.to_string_lossy());
    let words: Vec<String> = iter::once("qemu-system-x86_64".into())
        .chain(words)
        .map(|word| quoted(&word))
        .collect();
    let line = words.join(" ");
    Outcome {
        json: json!({ "command": line, "trust": trust }),
        text: format!("{line}\n"),
        success: true,
    }
}

/// A word as it is, or in quotes where a shell would read it in another way.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+,.:/@%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// What a client has to be told to accept this guest.
fn trust(
    workspace: &Workspace,
    platform: &Platform,
    image: &Image,
    vcpus: u32,
) -> Result<String, CommandError> {
    let Some(measurement) = attestation::measurement(platform, image, vcpus)? else {
        return Ok("--insecure-no-attestation".to_owned());
    };
    let root = match platform {
        Platform::SnpEmulated(emulated) => {
            let root = emulated.keys().root();
            format!("--trust-emulated-root {} ", root.display())
        }
        _ => String::new(),
    };
    let options = image.guest_options(platform.clone());
    let log = match (&options.release_note, &options.release_proof) {
        (Some(note), Some(_)) => log(&Deployment::demonstration(workspace), note),
        _ => "--without-log".to_owned(),
    };
    Ok(format!("{root}--measurement {measurement} {log}"))
}

/// Where the tokens come from that the image demands. Where its issuer is not the one whose files these are, whoever runs
/// it knows.
fn token_advice(own: &IssuerFiles, named: &TokenIssuerEntry) -> String {
    let text = fs::read(own.description()).unwrap_or_default();
    let is_own = Issuer::from_json(&text)
        .is_ok_and(|issuer| image_build::token_issuer_entry(&issuer) == *named);
    let [clients, key, credential] =
        [&own.clients, &own.key, &own.credential].map(|path| quoted(&path.to_string_lossy()));
    let advice = match is_own {
        true => format!(
            "start it with:\n  cargo run --release -p cloister-client -- issuer --listen 127.0.0.1:7010 --clients \
             {clients} --key {key}\nand add to the other: --issuer http://127.0.0.1:7010 --credential {credential}"
        ),
        false => "add what it gave you: --issuer URL --credential FILE".to_owned(),
    };
    format!(
        "The image demands anonymous tokens of {}; {advice}",
        named.name
    )
}

/// What a client has to be told of the log that the image is in. Where it is not the demonstration's, whoever published the
/// image knows which one it was.
fn log(own: &Deployment, note: &Path) -> String {
    let is_by = |key: &VerifierKey| {
        let note = fs::read(note).unwrap_or_default();
        Statement::verify(&note, [key]).is_ok()
    };
    match own.release_key() {
        Ok(key) if is_by(&key) => own.client_arguments(&key),
        _ => "--log-policy FILE --release-key VKEY".to_owned(),
    }
}

fn open_or_build(
    workspace: &Workspace,
    arguments: &RunArgs,
    accelerator: Accelerator,
) -> Result<Image, CommandError> {
    match &arguments.image {
        Some(folder) => Ok(Image::open(folder)?),
        None if workspace.image().join(image_build::IMAGE_JSON).is_file() => {
            Ok(Image::open(&workspace.image())?)
        }
        None => {
            let model = model_or_default(None, accelerator);
            Ok(image_build::build(workspace, &model, &workspace.image())?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_build::RELEASE_NOTE;
    use crate::local_issuer::LocalIssuer;
    use crate::release::publish;
    use crate::release::testing::{Setup, VALID_S};
    use clap::Parser as _;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: SnpArgs,
    }

    fn parse(words: &[&str]) -> Result<SnpArgs, clap::Error> {
        Line::try_parse_from(["run"].iter().chain(words)).map(|line| line.arguments)
    }

    #[test]
    fn the_demonstrations_issuer_is_recognized() {
        let folder = tempfile::tempdir().expect("a folder");
        let issuer = LocalIssuer::start(folder.path(), 1).expect("it starts");
        let own = IssuerFiles::below(folder.path());
        let named = image_build::token_issuer_entry(issuer.named());
        let advice = token_advice(&own, &named);
        assert!(advice.contains("start it with"), "{advice}");
        assert!(advice.contains(&own.credential.display().to_string()));
        let other = TokenIssuerEntry {
            token_key_id: "00".repeat(32),
            ..named
        };
        let advice = token_advice(&own, &other);
        assert!(!advice.contains("start it with"), "{advice}");
        assert!(advice.contains("--issuer URL"), "{advice}");
    }

    #[test]
    fn a_launch_is_what_was_asked_for() {
        let data = format!("{}=", "A".repeat(43));
        let (block, auth) = ("B".repeat(128), format!("{}==", "C".repeat(5462)));
        let words = [
            ["--cpu", "EPYC-Turin"],
            ["--policy", "0x20000"],
            ["--host-data", &data],
            ["--id-block", &block],
            ["--id-auth", &auth],
        ];
        let arguments = parse(&[&words.concat()[..], &["--print"]].concat()).expect("good");
        let launch = snp_launch(&arguments).expect("nothing is looked for");
        assert_eq!(launch.cpu.to_string(), "EPYC-Turin");
        assert_eq!((launch.policy, launch.host_data), (0x2_0000, Some(data)));
        assert_eq!(launch.id_block, Some([block, auth]));
        assert!(refuse_snp_arguments(&arguments).is_err());
        assert!(refuse_snp_arguments(&parse(&[]).expect("good")).is_ok());
    }

    #[test]
    fn what_cannot_be_launched_is_wrong_usage() {
        for words in [
            ["--policy", "0x10000"],
            ["--policy", "0xb0000"],
            ["--policy", "x"],
            ["--host-data", "AAAA"],
            [
                "--host-data",
                "AAAAAAAAAAAAAAAAAAAAA,id-auth=AAAAAAAAAAAAAA=",
            ],
            ["--cpu", "host"],
        ] {
            assert!(parse(&words).is_err(), "{words:?}");
        }
        let block = "B".repeat(128);
        assert!(parse(&["--id-block", &block]).is_err(), "without ID auth");
    }

    #[test]
    fn a_client_is_told_the_log_that_the_image_is_in() {
        let (own, other) = (Setup::new(), Setup::new());
        let image = own.image(b"rom");
        publish::image(&own.deployment, &image, VALID_S).expect("published");
        let note = image.path(RELEASE_NOTE);
        let told = log(&own.deployment, &note);
        let key = own.deployment.release_key().expect("a key").to_string();
        assert!(
            told.contains(&key) && told.contains("log-policy.txt"),
            "{told}"
        );
        assert!(log(&other.deployment, &note).contains("VKEY"));
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("file=a,,b.pack"), "file=a,,b.pack");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
