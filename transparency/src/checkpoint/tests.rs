//! Checkpoints and what is none.

use super::*;
use alloc::format;
use alloc::string::ToString;

const ROOT: &str = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";

#[test]
fn a_checkpoint_is_read_and_written() {
    for extensions in ["", "one\n", "one\ntwo\n"] {
        let text = format!("example.com/behind-the-sofa\n20852163\n{ROOT}\n{extensions}");
        let checkpoint = Checkpoint::parse(&text).expect("the specification's");
        assert_eq!(checkpoint.size, 20_852_163);
        assert_eq!(checkpoint.to_string(), text);
    }
}

#[test]
fn other_texts_are_refused_with_the_reason() {
    let refused = |text: &str, why: CheckpointError| {
        assert_eq!(Checkpoint::parse(text), Err(why), "{text:?}")
    };
    refused("", CheckpointError::Format);
    refused(&format!("o\n1\n{ROOT}"), CheckpointError::Format);
    refused("o\n1\n", CheckpointError::Format);
    refused(&format!("\n1\n{ROOT}\n"), CheckpointError::Format);
    refused(&format!("o\n1\n{ROOT}\n\n"), CheckpointError::Format);
    refused(&format!("o\n1\n{ROOT}\n\nmore\n"), CheckpointError::Format);
    for size in ["01", "+1", "-1", "1 ", "0x1", "9223372036854775808"] {
        refused(&format!("o\n{size}\n{ROOT}\n"), CheckpointError::Size);
    }
    refused("o\n1\nAAAA\n", CheckpointError::Root);
    refused(
        &format!("o\n1\n{}\n", ROOT.replace("I=", "J=")),
        CheckpointError::Root,
    );
    let bytes = MAX_ORIGIN_BYTES + 1;
    refused(
        &format!("{}\n1\n{ROOT}\n", "o".repeat(bytes)),
        CheckpointError::OriginTooLong { bytes },
    );
    let lines = "x\n".repeat(MAX_EXTENSION_LINES + 1);
    refused(
        &format!("o\n1\n{ROOT}\n{lines}"),
        CheckpointError::TooManyExtensions,
    );
}

/// A field with a newline would be two lines.
#[test]
fn a_checkpoint_that_is_not_what_it_reads_as_is_not_written() {
    let root = Hash([1; 32]);
    assert!(SignedCheckpoint::unsigned(&Checkpoint::new("o", 1, root)).is_ok());
    for origin in ["", "o\n1", "o\r"] {
        assert!(SignedCheckpoint::unsigned(&Checkpoint::new(origin, 1, root)).is_err());
    }
    let mut extended = Checkpoint::new("o", 1, root);
    extended.extensions = ["a\nb".into()].into();
    assert_eq!(
        SignedCheckpoint::unsigned(&extended),
        Err(CheckpointError::Format)
    );
}
