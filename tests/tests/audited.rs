//! A release of this checkout, audited: the image is built again and compared with what a log says of it.

use std::fs;
use std::path::Path;

use cloister_boot::manifest::Serving;
use cloister_client::remote_log::LogLocation;
use cloister_tests::guests::workspace;
use cloister_tokens::TokenKey;
use cloister_tokens::origin::Issuer;
use cloister_transparency::Freshness;
use xtask::audit::{self, Audited, Request};
use xtask::digest;
use xtask::guest_build::Environment;
use xtask::image_build::{self, IMAGE_JSON, Image, ImageInputs};
use xtask::models::ModelChoice;
use xtask::release::deployment::Deployment;
use xtask::release::keys::KeyFolder;
use xtask::release::publish::{self, now_s};

const DAY_S: u64 = 86_400;

/// The names of the checks that failed, but for those that changes in no commit fail: developers run this too.
fn failed(request: &Request, modified: bool) -> (Vec<String>, Audited) {
    let (report, audited) = audit::run(workspace(), request).expect("an audit");
    let failed = report
        .checks()
        .iter()
        .filter(|check| check.outcome.status() == "FAIL")
        .map(|check| check.name.clone())
        .filter(|name| !(modified && ["source", "source tree"].contains(&name.as_str())));
    (failed.collect(), audited)
}

fn flip_a_byte(path: &Path) {
    let mut bytes = fs::read(path).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("written");
}

#[test]
#[ignore = "builds the guest programs"]
fn a_release_is_built_again_and_what_differs_is_named() {
    let root = tempfile::tempdir().expect("a folder");
    let path = |name: &str| root.path().join(name);
    let keys = KeyFolder::new(&path("keys"), None);
    let deployment = Deployment::new(&path("log"), &path("state"), keys, None);
    deployment.create("example.org/log", 2).expect("made");
    // All that a release has to say for a rebuild; the audit is told nothing of it.
    let inputs = ImageInputs {
        model: &ModelChoice::Fixture,
        log_policy: None,
        token_issuer: Some(Issuer {
            name: "issuer.example".to_owned(),
            token_key: TokenKey::from_modulus(&[0xff; 256]).expect("odd, 2048 bits"),
            origin_info: "cloister.example".to_owned(),
        }),
        serving: Serving {
            tls: true,
            epoch_s: 20,
        },
        environment: Environment::of_this_process(),
    };
    let image = image_build::build_from(workspace(), &inputs, &path("image"));
    let image = image.expect("an image");
    let modified = image.facts().source.modified;
    publish::image(&deployment, &image, DAY_S).expect("published");
    let mut request = Request {
        log: LogLocation::Directory(deployment.folders.log.clone()),
        policy: (
            deployment.policy.clone(),
            deployment.policy().expect("a policy"),
        ),
        release_keys: vec![deployment.release_key().expect("a key")],
        test: true,
        entry: Some(0),
        freshness: Freshness {
            now_s: now_s(),
            max_age_s: Some(DAY_S),
            clock_skew_s: 300,
        },
        state: path("seen"),
        rebuild: true,
        published: Some(path("image")),
        model: None,
        token_issuer: None,
        serving: Serving::default(),
    };
    let (failures, audited) = failed(&request, modified);
    assert_eq!(failures, Vec::<String>::new());
    assert_eq!(audited.digests.len(), 7);
    assert!(
        audited
            .digests
            .iter()
            .all(|row| row.built.as_ref() == Some(&row.logged))
    );

    // What is handed out is not what was published.
    flip_a_byte(&path("image/kernel.elf"));
    let (failures, audited) = failed(&request, modified);
    assert_eq!(failures, ["published files"]);
    let [difference] = &audited.differences[..] else {
        panic!("{:?}", audited.differences);
    };
    assert!(
        difference.contains("kernel.elf") && difference.contains('.'),
        "{difference}"
    );

    // And what was published is not what this source gives.
    let json = fs::read_to_string(path("image").join(IMAGE_JSON)).expect("a file");
    let altered = digest::of_file(&path("image/kernel.elf")).expect("a file");
    let json = json.replace(&image.facts().kernel_elf.sha256, &altered);
    fs::write(path("image").join(IMAGE_JSON), json).expect("written");
    let image = Image::open(&path("image")).expect("an image");
    publish::image(&deployment, &image, DAY_S).expect("published");
    (request.entry, request.published) = (Some(1), None);
    let (failures, _) = failed(&request, modified);
    assert_eq!(failures, ["image.json", "kernel.elf"]);
}
