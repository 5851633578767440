//! The committed code, built twice: the same bytes, whoever builds it, where, and with what in the environment.

use cloister_tests::guests::workspace;
use xtask::models::ModelChoice;
use xtask::reproduce;

#[test]
#[ignore = "builds the guest programs twice"]
fn two_builds_give_the_same_image() {
    let result = reproduce::twice(workspace(), &ModelChoice::Fixture, false)
        .unwrap_or_else(|error| panic!("{error}"));
    let lines: Vec<String> = result.differences.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "first | second:\n{}", lines.join("\n"));
    assert_eq!(result.commit.len(), 40, "a commit was built");
    eprintln!("varied: {}", result.varied.join("; "));
    eprintln!("NOT varied: {}", result.not_varied.join("; "));
    eprintln!("the builds took {:?}", result.took);
}
