//! What a person, or a program, reads about an entry.

use cloister_transparency::release::time_text;
use cloister_transparency::{Checkpoint, Statement};
use serde_json::{Value, json};

use super::{Alarm, Look};
use crate::follow::ViewEntry;

/// An entry in one line.
pub fn line(entry: &ViewEntry) -> String {
    let says = match &entry.statement {
        Ok(Statement::Image(image)) => format!(
            "image {} of commit {}, {} measurements, valid from {} to {}",
            image.version,
            image.source.commit,
            image.snp.len(),
            time_text(image.period.not_before_s),
            time_text(image.period.not_after_s)
        ),
        Ok(Statement::Model(model)) => format!(
            "model {} of version {}, valid from {} to {}",
            model.model.name,
            model.version,
            time_text(model.period.not_before_s),
            time_text(model.period.not_after_s)
        ),
        Ok(Statement::Withdraw(withdrawal)) => format!(
            "withdraws {} from {} on: {}",
            withdrawal.withdraws,
            time_text(withdrawal.not_before_s),
            withdrawal.reason
        ),
        Ok(other) => format!("statement of the kind {}", other.kind()),
        Err(error) => format!("UNEXPECTED: {error}"),
    };
    one_line(&format!("entry {} {}: {says}", entry.index, entry.leaf))
}

/// An alarm in one line.
pub(super) fn alarm(alarm: &Alarm) -> String {
    match alarm {
        Alarm::Entry(entry) => line(entry),
        Alarm::Log(error) => one_line(&error.to_string()),
    }
}

/// Anyone can have written an entry: it cannot control the terminal, nor look like two lines.
pub(super) fn one_line(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

/// An entry for a program.
pub(super) fn document(entry: &ViewEntry) -> Value {
    let mut document = json!({ "index": entry.index, "leaf": entry.leaf.to_string() });
    let more = match &entry.statement {
        Ok(Statement::Image(image)) => json!({
            "kind": "image",
            "version": image.version,
            "commit": image.source.commit,
            "measurements": image.snp.len(),
            "not_before": time_text(image.period.not_before_s),
            "not_after": time_text(image.period.not_after_s),
        }),
        Ok(Statement::Model(model)) => json!({
            "kind": "model",
            "version": model.version,
            "model": model.model.name,
            "not_before": time_text(model.period.not_before_s),
            "not_after": time_text(model.period.not_after_s),
        }),
        Ok(Statement::Withdraw(withdrawal)) => json!({
            "kind": "withdraw",
            "withdraws": withdrawal.withdraws.to_string(),
            "reason": withdrawal.reason,
            "not_before": time_text(withdrawal.not_before_s),
        }),
        Ok(other) => json!({ "kind": other.kind() }),
        Err(error) => json!({ "kind": "unexpected", "error": error.to_string() }),
    };
    if let (Value::Object(document), Value::Object(more)) = (&mut document, more) {
        document.extend(more);
    }
    document
}

/// A look for a program.
pub(super) fn look_document(look: &Look, seen: Option<&Checkpoint>, entries: Vec<Value>) -> Value {
    let checkpoint = |checkpoint: &Checkpoint| json!({ "origin": checkpoint.origin, "size": checkpoint.size, "root": checkpoint.root.to_string() });
    let followed = look.followed.as_ref();
    let witnesses = followed.map_or(&[][..], |followed| &followed.witnesses);
    let witnesses: Vec<Value> = witnesses
        .iter()
        .map(|one| {
            let name = String::from_utf8_lossy(&one.witness);
            json!({ "name": name, "time": time_text(one.time_s) })
        })
        .collect();
    json!({
        "good": look.is_good(),
        "seen": seen.map(checkpoint),
        "checkpoint": followed.map(|followed| checkpoint(followed.checkpoint.checkpoint())),
        "witnesses": witnesses,
        "new": look.new,
        "entries": entries,
        "alarms": look.alarms.iter().map(alarm).collect::<Vec<_>>(),
        "unreachable": look.unreachable.as_ref().map(ToString::to_string),
    })
}
