use super::*;
use crate::key::{KeyType, SigningKey};
use alloc::string::ToString;
use alloc::vec;

fn image() -> ImageRelease {
    ImageRelease {
        subjects: vec![
            Subject {
                name: "kernel.elf".into(),
                sha256: [0x11; 32],
            },
            Subject {
                name: "rom.bin".into(),
                sha256: [0x22; 32],
            },
        ],
        version: "0.1.0".into(),
        period: Period {
            not_before_s: 1_795_000_000,
            not_after_s: 1_795_000_000 + MAX_VALIDITY_S,
        },
        snp: vec![SnpLaunch {
            cpu: "EPYC-Genoa".into(),
            cpu_signature: 0x00a1_0f10,
            guest_features: 1,
            measurement: [0x33; 48],
            minimum_tcb: MinimumTcb {
                snp: 27,
                ..MinimumTcb::default()
            },
            policy: 0x3_0000,
            vcpus: 1,
            vmm: "qemu".into(),
        }],
        model: Some(Model {
            name: "tiny".into(),
            root: [0x44; 32],
            gguf: [0x55; 32],
            licence: None,
        }),
        log_policy: None,
        serving: None,
        token_issuer: None,
        source: Source {
            repository: "https://example.org/cloister".into(),
            commit: "a".repeat(40),
            tree: "b".repeat(40),
            modified: false,
            cargo_lock: [0x66; 32],
        },
        build: Build {
            rustc: "rustc 1.95.0 \"stable\"".into(),
            target: "x86_64-unknown-linux-gnu".into(),
            profile: "guest".into(),
            flags: vec!["-C".into()],
        },
        sbom: [0x77; 32],
    }
}

/// Written by hand after RFC 8785: names in order, no white space, the shortest escapes.
fn text() -> String {
    let d = |byte: &str, count: usize| byte.repeat(count);
    [
        r#"{"_type":"https://in-toto.io/Statement/v1","predicate":{"build":{"flags":["-C"],"profile":"guest","#,
        r#""rustc":"rustc 1.95.0 \"stable\"","target":"x86_64-unknown-linux-gnu"},"kind":"image","#,
        r#""model":{"gguf":{"sha256":""#, &d("55", 32),
        r#""},"name":"tiny","root":{"sha256":""#, &d("44", 32),
        r#""}},"notAfter":"2027-02-16T11:06:40Z","notBefore":"2026-11-18T11:06:40Z","sbom":{"sha256":""#, &d("77", 32),
        r#""},"snp":[{"cpu":"EPYC-Genoa","cpuSignature":10555152,"guestFeatures":1,"measurement":""#, &d("33", 48),
        r#"","minimumTcb":{"bootLoader":0,"fmc":0,"microcode":0,"snp":27,"tee":0},"policy":196608,"vcpus":1,"#,
        r#""vmm":"qemu"}],"source":{"cargoLock":{"sha256":""#, &d("66", 32),
        r#""},"commit":""#, &d("a", 40),
        r#"","repository":"https://example.org/cloister","tree":""#, &d("b", 40),
        r#""},"version":"0.1.0"},"predicateType":"urn:cloister:measured-release:v1","subject":[{"digest":{"sha256":""#,
        &d("11", 32),
        r#""},"name":"kernel.elf"},{"digest":{"sha256":""#, &d("22", 32),
        "\"},\"name\":\"rom.bin\"}]}\n",
    ]
    .concat()
}

fn withdrawal() -> Statement {
    Statement::Withdraw(Withdrawal {
        subjects: image().subjects,
        not_before_s: 1_795_000_001,
        reason: "a defect in the parser of messages".into(),
        withdraws: Hash([0x88; 32]),
    })
}

#[test]
fn a_statement_is_written_in_canonical_json_and_read_again() {
    let statement = Statement::Image(image());
    assert_eq!(statement.to_text(), text());
    assert_eq!(Statement::parse(&text()), Ok(statement));
    let model = Statement::Model(ModelRelease {
        subjects: image().subjects,
        version: "0.1.0".into(),
        period: image().period,
        model: image().model.expect("it has one"),
    });
    for statement in [model, withdrawal()] {
        assert_eq!(Statement::parse(&statement.to_text()), Ok(statement));
    }
}

/// What an image of another kind says: how it serves its port, and whose tokens it demands.
fn gated() -> ImageRelease {
    ImageRelease {
        serving: Some(Serving {
            epoch_s: 20,
            tls: true,
        }),
        token_issuer: Some(TokenIssuer {
            name: "issuer.example".into(),
            origin: "cloister.example".into(),
            token_key: vec![0x99; 4],
        }),
        ..image()
    }
}

#[test]
fn what_a_rebuild_needs_is_said_and_older_statements_say_nothing_of_it() {
    let statement = Statement::Image(gated());
    let expected = text()
        .replace(r#""snp":["#, r#""serving":{"epochSeconds":20,"tls":true},"snp":["#)
        .replace(
            r#""version":"0.1.0"}"#,
            r#""tokenIssuer":{"name":"issuer.example","origin":"cloister.example","tokenKey":"99999999"},"version":"0.1.0"}"#,
        );
    assert_eq!(statement.to_text(), expected);
    assert_eq!(Statement::parse(&expected), Ok(statement));
    let Ok(Statement::Image(old)) = Statement::parse(&text()) else {
        panic!("an image");
    };
    assert_eq!((old.serving, old.token_issuer), (None, None));
}

#[test]
fn what_a_rebuild_needs_has_bounds() {
    let text = Statement::Image(gated()).to_text();
    let long = |count: usize| format!("\"name\":\"{}\"", "i".repeat(count));
    for (from, to, field) in [
        (
            "\"epochSeconds\":20",
            "\"epochSeconds\":9",
            "serving.epochSeconds",
        ),
        (
            "\"epochSeconds\":20",
            "\"epochSeconds\":86401",
            "serving.epochSeconds",
        ),
        (
            "\"epochSeconds\":20",
            "\"epochSeconds\":4294967295",
            "serving.epochSeconds",
        ),
        ("issuer.example", "", "tokenIssuer.name"),
        ("issuer.example", "issuer\\nexample", "tokenIssuer.name"),
        (
            "\"name\":\"issuer.example\"",
            &long(256),
            "tokenIssuer.name",
        ),
        (
            "cloister.example",
            "cl\u{f6}ister.example",
            "tokenIssuer.origin",
        ),
        ("99999999", "", "tokenIssuer.tokenKey"),
        ("99999999", "9999999", "tokenIssuer.tokenKey"),
        ("99999999", "9999999A", "tokenIssuer.tokenKey"),
        ("99999999", &"99".repeat(513), "tokenIssuer.tokenKey"),
    ] {
        let other = text.replacen(from, to, 1);
        assert_ne!(other, text, "{to}");
        assert_eq!(
            Statement::parse(&other),
            Err(ReleaseError::Field(field)),
            "{to}"
        );
    }
    for (from, to) in [
        ("\"tls\":true", "\"tls\":1"),
        ("\"epochSeconds\":20", "\"epochSeconds\":4294967296"),
        ("\"epochSeconds\":20,", ""),
        ("\"origin\":\"cloister.example\",", ""),
        ("\"tls\":true", "\"tls\":true,\"x\":1"),
    ] {
        let other = text.replacen(from, to, 1);
        let error = Statement::parse(&other).expect_err(to);
        assert!(matches!(error, ReleaseError::Json { .. }), "{to}: {error}");
    }
    // Another kind has neither.
    let model = text.replacen("\"kind\":\"image\"", "\"kind\":\"withdraw\"", 1);
    assert!(Statement::parse(&model).is_err());
    let most = text.replacen("issuer.example", &"i".repeat(MAX_ISSUER_BYTES), 1);
    assert!(Statement::parse(&most).is_ok());
}

#[test]
fn there_is_one_text_for_a_statement() {
    for (from, to) in [
        (r#"{"_type""#, r#"{ "_type""#),
        (r#""vcpus":1,"vmm":"qemu""#, r#""vmm":"qemu","vcpus":1"#),
        ("tiny", "t\\u0069ny"),
        ("}]}\n", "}]}"),
        ("2026-11-18T11:06:40Z", "2026-11-18T11:06:40.0Z"),
    ] {
        let other = text().replacen(from, to, 1);
        assert_ne!(other, text(), "{from}");
        let error = Statement::parse(&other).expect_err(to);
        let named = matches!(
            error,
            ReleaseError::NotCanonical | ReleaseError::Field("notBefore")
        );
        assert!(named, "{to}: {error}");
    }
}

#[test]
fn fields_have_bounds() {
    use ReleaseError::Field;
    for (from, to, error) in [
        (r#""kind":"image""#, r#""kind":"other""#, Field("kind")),
        (r#""kind":"image""#, r#""kind":"model""#, Field("build")),
        (
            "2027-02-16T11:06:40Z",
            "2027-02-16T11:06:41Z",
            Field("notAfter"),
        ),
        (
            "2027-02-16T11:06:40Z",
            "2026-11-18T11:06:40Z",
            Field("notAfter"),
        ),
        (
            "2027-02-16T11:06:40Z",
            "2027-02-30T11:06:40Z",
            Field("notAfter"),
        ),
        (
            "\"policy\":196608",
            "\"policy\":9007199254740992",
            Field("snp.policy"),
        ),
        (
            "\"name\":\"kernel.elf\"",
            "\"name\":\"rom.bin\"",
            Field("subject"),
        ),
        (
            "\"name\":\"kernel.elf\"",
            "\"name\":\"zzz\"",
            Field("subject"),
        ),
        (&"33".repeat(48), &"3A".repeat(48), Field("snp.measurement")),
        (&"33".repeat(48), &"33".repeat(47), Field("snp.measurement")),
        (&"a".repeat(40), &"a".repeat(41), Field("source.commit")),
        (
            &"66".repeat(32),
            &"66".repeat(33),
            Field("source.cargoLock"),
        ),
    ] {
        let other = text().replacen(from, to, 1);
        assert_eq!(Statement::parse(&other), Err(error), "{to}");
    }
    let wrong = text().replacen("release:v1", "release:v2", 1);
    assert!(matches!(
        Statement::parse(&wrong),
        Err(ReleaseError::Type { .. })
    ));
    for (from, to) in [
        ("\"vmm\"", "\"wmm\""),
        ("\"vcpus\":1", "\"vcpus\":1.5"),
        ("\"vcpus\":1", "\"vcpus\":-1"),
        ("\"vcpus\":1,", "\"vcpus\":1,\"vcpus\":1,"),
        ("\"version\":", "\"verzion\":"),
    ] {
        let other = text().replacen(from, to, 1);
        let error = Statement::parse(&other).expect_err(to);
        assert!(matches!(error, ReleaseError::Json { .. }), "{to}: {error}");
    }
}

#[test]
fn what_is_in_no_commit_says_so() {
    let mut modified = image();
    modified.source.modified = true;
    modified.source.commit.clear();
    let statement = Statement::Image(modified.clone());
    assert_eq!(Statement::parse(&statement.to_text()), Ok(statement));
    modified.source.modified = false;
    let unnamed = Statement::Image(modified).check();
    assert_eq!(unnamed, Err(ReleaseError::Field("source.commit")));
}

#[test]
fn only_a_release_key_makes_an_entry_count() {
    let key = |name, byte| {
        SigningKey::from_seed(name, KeyType::Ed25519, &[byte; 32].into()).expect("a key")
    };
    let (release, other) = (key("example.org/release", 1), key("example.org/log", 2));
    let statement = Statement::Image(image());
    let mut note = Note::new(&statement.to_text()).expect("a text");
    note.sign(&release, 0).expect("room");
    let entry = note.to_string();
    let verify =
        |key: &SigningKey, entry: &str| Statement::verify(entry.as_bytes(), [key.verifier()]);
    assert_eq!(verify(&release, &entry), Ok(statement));
    assert_eq!(
        verify(&other, &entry),
        Err(ReleaseError::Note(NoteError::NoTrustedSignature))
    );
    let altered = entry.replacen("0.1.0", "0.1.1", 1);
    assert!(matches!(
        verify(&release, &altered),
        Err(ReleaseError::Note(NoteError::InvalidSignature { .. }))
    ));
    assert!(matches!(
        verify(&release, &"x".repeat(MAX_ENTRY_BYTES + 1)),
        Err(ReleaseError::TooLarge { .. })
    ));
}
