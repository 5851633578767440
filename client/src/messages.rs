//! Reading the messages that shall be summarized, from a file or from standard input.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A file larger than this is refused before it is parsed; what the server takes is checked when the request is made.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// One message, as a file says it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileMessage {
    /// Who wrote it; empty if nobody is named.
    #[serde(default)]
    pub from: String,
    /// What was written.
    pub text: String,
}

/// How a file is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// JSON if the name ends in .json or the text begins with [ or {, else plain text.
    #[default]
    Auto,
    /// `[{"from": "Ana", "text": "..."}, ...]`, or the same list as the field `messages` of an object.
    Json,
    /// Each paragraph is a message without a sender; blank lines separate paragraphs.
    Text,
}

/// The messages cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum MessagesError {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is too large.
    #[error("{path}: larger than {} MiB", MAX_FILE_BYTES >> 20)]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// The file is not UTF-8.
    #[error("{path}: not UTF-8 text (first wrong byte at offset {offset})")]
    NotText {
        /// Which file.
        path: PathBuf,
        /// Where.
        offset: usize,
    },
    /// The file is not the JSON that is asked for.
    #[error("{path}, line {line}, column {column}: {reason}\n{JSON_HINT}")]
    Json {
        /// Which file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong.
        reason: String,
    },
}

const JSON_HINT: &str = "Expected [{\"from\": \"Ana\", \"text\": \"...\"}, ...] or {\"messages\": [...]}. \
                         For a file that is not JSON, add --format text.";

/// Reads `path`, or standard input if it is `-`.
pub fn read(path: &Path, format: Format) -> Result<Vec<FileMessage>, MessagesError> {
    let io = |source| MessagesError::Io {
        path: path.to_owned(),
        source,
    };
    let mut content = Vec::new();
    match path.as_os_str() == "-" {
        true => std::io::stdin()
            .lock()
            .take(MAX_FILE_BYTES + 1)
            .read_to_end(&mut content)
            .map_err(io)?,
        false => fs::File::open(path)
            .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content))
            .map_err(io)?,
    };
    if content.len() as u64 > MAX_FILE_BYTES {
        return Err(MessagesError::TooLarge {
            path: path.to_owned(),
        });
    }
    let text = String::from_utf8(content).map_err(|error| MessagesError::NotText {
        path: path.to_owned(),
        offset: error.utf8_error().valid_up_to(),
    })?;
    parse(&text, path, format)
}

/// Parses a file's text; `path` is for the choice of the format and for errors.
fn parse(text: &str, path: &Path, format: Format) -> Result<Vec<FileMessage>, MessagesError> {
    // Editors on some systems put a byte order mark first.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let named_json = path
        .extension()
        .is_some_and(|extension| extension == "json");
    let looks_like_json = named_json || text.trim_start().starts_with(['[', '{']);
    match format {
        Format::Text => Ok(paragraphs(text)),
        Format::Auto if !looks_like_json => Ok(paragraphs(text)),
        Format::Auto | Format::Json => parse_json(text).map_err(|error| json_error(&error, path)),
    }
}

fn parse_json(text: &str) -> serde_json::Result<Vec<FileMessage>> {
    #[derive(Deserialize)]
    struct Object {
        messages: Vec<FileMessage>,
    }
    // Not an untagged enum: its error would say only that nothing matched.
    match text.trim_start().starts_with('{') {
        true => serde_json::from_str::<Object>(text).map(|object| object.messages),
        false => serde_json::from_str(text),
    }
}

fn json_error(error: &serde_json::Error, path: &Path) -> MessagesError {
    let text = error.to_string();
    let reason = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(reason, _)| reason);
    MessagesError::Json {
        path: path.to_owned(),
        line: error.line(),
        column: error.column(),
        reason: reason.to_owned(),
    }
}

/// Each run of lines that are not blank is one message.
fn paragraphs(text: &str) -> Vec<FileMessage> {
    let mut messages: Vec<FileMessage> = Vec::new();
    let mut in_paragraph = false;
    for line in text.lines() {
        let blank = line.trim().is_empty();
        match messages.last_mut() {
            Some(message) if in_paragraph && !blank => {
                message.text.push('\n');
                message.text.push_str(line.trim_end());
            }
            _ if !blank => messages.push(FileMessage {
                from: String::new(),
                text: line.trim_end().to_owned(),
            }),
            _ => {}
        }
        in_paragraph = !blank;
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(from: &str, text: &str) -> FileMessage {
        FileMessage {
            from: from.to_owned(),
            text: text.to_owned(),
        }
    }

    fn auto(text: &str) -> Result<Vec<FileMessage>, MessagesError> {
        parse(text, Path::new("thread"), Format::Auto)
    }

    #[test]
    fn json_lists_and_objects() {
        let list = r#"[{"from":"Ana","text":"Hi"},{"text":"Anonymous"}]"#;
        let expected = [message("Ana", "Hi"), message("", "Anonymous")];
        assert_eq!(auto(list).expect("a list"), expected);
        assert_eq!(
            auto(&format!("\u{feff}\n {{\"messages\": {list}}}")).expect("an object"),
            expected
        );
        assert!(auto("[]").expect("an empty list").is_empty());
    }

    #[test]
    fn plain_text_is_split_at_blank_lines() {
        let text = "First line,\r\nsecond line.\n \n\nAnother paragraph.\n";
        let expected = [
            message("", "First line,\nsecond line."),
            message("", "Another paragraph."),
        ];
        assert_eq!(auto(text).expect("text"), expected);
        assert!(auto(" \n\n").expect("blank").is_empty());
    }

    #[test]
    fn errors_name_path_line_and_column() {
        let error = parse(
            "[\n  {\"from\": \"Ana\", \"txt\": \"Hi\"}\n]",
            Path::new("a/b.json"),
            Format::Auto,
        );
        let text = error.unwrap_err().to_string();
        assert!(text.starts_with("a/b.json, line 2, column "), "{text}");
        assert!(
            text.contains("unknown field `txt`") && text.contains("--format text"),
            "{text}"
        );
    }

    #[test]
    fn the_name_decides_before_the_content() {
        assert!(parse("no JSON", Path::new("a.json"), Format::Auto).is_err());
        let text =
            parse("[12:03] Ana: hi", Path::new("a.txt"), Format::Text).expect("forced to text");
        assert_eq!(text, [message("", "[12:03] Ana: hi")]);
    }

    #[test]
    fn files_that_cannot_be_read_are_named() {
        let folder = std::env::temp_dir().join(format!("cloister-messages-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("created");
        let path = folder.join("latin1.txt");
        std::fs::write(&path, b"caf\xe9").expect("written");
        assert!(matches!(
            read(&path, Format::Auto),
            Err(MessagesError::NotText { offset: 3, .. })
        ));
        let missing = read(&folder.join("missing"), Format::Auto).unwrap_err();
        assert!(missing.to_string().contains("missing"), "{missing}");
        std::fs::remove_dir_all(&folder).expect("removed");
    }
}
