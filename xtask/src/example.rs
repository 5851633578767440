//! The example thread of the demonstration and of benchmarks: our own, about nobody.

use cloister_protocol::api::summarize::{Message, Request, Style};

const THREAD: &str = include_str!("example.json");

/// The thread's messages.
pub fn messages() -> Vec<Message> {
    #[derive(serde::Deserialize)]
    struct Line {
        from: String,
        text: String,
    }
    let lines: Vec<Line> =
        serde_json::from_str(THREAD).expect("the example beside this file is JSON");
    lines
        .into_iter()
        .map(|line| Message::new(line.from, line.text))
        .collect()
}

/// A request for its summary.
pub fn request(style: Style, max_tokens: Option<u32>) -> Request {
    Request {
        messages: messages(),
        style,
        max_tokens,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloister_protocol::api::summarize::Limits;

    #[test]
    fn the_example_is_a_valid_request() {
        let request = request(Style::Bullets, Some(100));
        assert!(request.messages.len() > 5);
        assert_eq!(request.check(&Limits::DEFAULT), Ok(()));
    }
}
