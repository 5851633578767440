//! Differences of JSON files, by the paths of their fields.

use serde_json::Value;

use super::Difference;

/// So many characters of a value are shown.
const SHOWN_CHARS: usize = 100;

/// Differences of two JSON files. If one of them is none, or only the spaces differ, the whole file is named.
pub(super) fn compare(file: &str, first: &[u8], second: &[u8]) -> Vec<Difference> {
    let mut found = Vec::new();
    let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    if let (Some(first), Some(second)) = (parse(first), parse(second)) {
        values(file, "", Some(&first), Some(&second), &mut found);
    }
    if found.is_empty() {
        let text = |bytes: &[u8]| start(&String::from_utf8_lossy(bytes));
        let part = "the text, but no field";
        found.push(entry(file, part, text(first), text(second)));
    }
    found
}

fn values(
    file: &str,
    path: &str,
    first: Option<&Value>,
    second: Option<&Value>,
    found: &mut Vec<Difference>,
) {
    match (first, second) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                let dot = if path.is_empty() { "" } else { "." };
                let path = format!("{path}{dot}{key}");
                values(file, &path, a.get(key), b.get(key), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for index in 0..a.len().max(b.len()) {
                let path = format!("{path}[{index}]");
                values(file, &path, a.get(index), b.get(index), found);
            }
        }
        (a, b) if a == b => {}
        (a, b) => {
            let text = |value: Option<&Value>| {
                start(&value.map_or_else(|| "nothing".to_owned(), ToString::to_string))
            };
            found.push(entry(file, &format!("field {path}"), text(a), text(b)));
        }
    }
}

fn entry(file: &str, part: &str, first: String, second: String) -> Difference {
    Difference {
        file: file.to_owned(),
        part: part.to_owned(),
        place: None,
        first,
        second,
    }
}

fn start(text: &str) -> String {
    match text.chars().count() > SHOWN_CHARS {
        true => text.chars().take(SHOWN_CHARS).collect::<String>() + "...",
        false => text.to_owned(),
    }
}
