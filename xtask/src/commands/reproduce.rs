//! `cargo xtask reproduce`.

use serde_json::{Value, json};

use super::CommandError;
use crate::cli::{Outcome, ReproduceArgs};
use crate::reproduce::{self, Difference, Reproduction};
use crate::workspace::Workspace;

/// Builds twice and compares.
pub fn run(workspace: &Workspace, arguments: &ReproduceArgs) -> Result<Outcome, CommandError> {
    let result = reproduce::twice(workspace, &arguments.model, arguments.keep)?;
    Ok(Outcome {
        text: describe(&result, arguments.keep),
        json: to_json(&result, arguments.keep),
        success: result.differences.is_empty(),
    })
}

fn describe(result: &Reproduction, kept: bool) -> String {
    let mut text = format!("commit {}\n", result.commit);
    if result.modified {
        text += "  the checkout has changes that are not committed: they were NOT built\n";
    }
    for what in &result.varied {
        text += &format!("  other for the second build: {what}\n");
    }
    for what in &result.not_varied {
        text += &format!("  NOT VARIED: {what}\n");
    }
    let [first, second] = result.took.map(|took| took.as_secs_f64());
    text += &format!("  the builds took {first:.0} s and {second:.0} s\n");
    if kept {
        let [first, second] = &result.images;
        text += &format!("  kept: {} and {}\n", first.display(), second.display());
    }
    match result.differences.as_slice() {
        [] => {
            text += &format!(
                "PASS: both images are the same, rom.bin sha256 {}\n",
                result.rom_sha256
            )
        }
        found => {
            text += &format!("FAIL: {} differences, first | second:\n", found.len());
            found.iter().for_each(|one| text += &format!("  {one}\n"));
        }
    }
    text
}

fn to_json(result: &Reproduction, kept: bool) -> Value {
    let entry = |one: &Difference| {
        json!({
            "file": one.file, "part": one.part, "offset": one.place.map(|place| place.0),
            "bytes": one.place.map(|place| place.1), "first": one.first, "second": one.second,
        })
    };
    json!({
        "same": result.differences.is_empty(),
        "commit": result.commit,
        "uncommitted_changes": result.modified,
        "rom_sha256": result.rom_sha256,
        "varied": result.varied,
        "not_varied": result.not_varied,
        "seconds": result.took.map(|took| took.as_secs_f64()),
        "images": kept.then_some(&result.images),
        "differences": result.differences.iter().map(entry).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_difference_fails_and_is_told() {
        let mut result = Reproduction {
            commit: "1".repeat(40),
            modified: true,
            varied: vec!["user".to_owned()],
            not_varied: vec!["clock: none".to_owned()],
            differences: vec![],
            images: ["a".into(), "b".into()],
            rom_sha256: "22".repeat(32),
            took: [Duration::from_secs(1); 2],
        };
        let text = describe(&result, false);
        assert!(
            text.contains("PASS") && text.contains("NOT VARIED: clock"),
            "{text}"
        );
        assert!(
            text.contains("NOT built") && !text.contains("kept"),
            "{text}"
        );
        result.differences.push(Difference {
            file: "rom.bin".to_owned(),
            part: "kernel".to_owned(),
            place: Some((4, 2)),
            first: "00".to_owned(),
            second: "01".to_owned(),
        });
        let text = describe(&result, true);
        assert!(
            text.contains("rom.bin: kernel, 2 bytes from offset 0x4: 00 | 01"),
            "{text}"
        );
        assert_eq!(to_json(&result, true)["differences"][0]["offset"], 4);
        assert_eq!(to_json(&result, true)["same"], false);
    }
}
