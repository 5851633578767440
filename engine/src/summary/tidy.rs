//! From what the model said to a summary of the style that was asked for.

use alloc::{string::String, vec::Vec};

use zeroize::Zeroizing;

use super::Style;
use crate::generate::Finish;

/// The summary, or `None` if nothing is left. An answer that did not end by itself is trimmed to whole
/// sentences or bullets; if it has not even one, to whole words and an ellipsis; if it was cut off before its first
/// word, the ellipsis alone says so.
pub(super) fn tidy(style: Style, answer: &str, finish: Finish) -> Option<Zeroizing<String>> {
    let complete = finish == Finish::Stop;
    let text = match style {
        Style::Bullets => bullets(answer, complete),
        Style::Paragraph => paragraph(answer, complete),
        Style::Headline => headline(answer, complete),
    };
    match text.is_empty() {
        false => Some(text),
        true if complete => None,
        true => Some(Zeroizing::new(String::from(ELLIPSIS))),
    }
}

/// The beginning of the summary that no more words of the model can change: without the last line of bullets, or what
/// may not be a whole sentence. A headline is only known at its end.
pub(super) fn certain(style: Style, answer: &str) -> Zeroizing<String> {
    match style {
        Style::Bullets => {
            let whole_lines = &answer[..answer.rfind('\n').unwrap_or(0)];
            let text = bullets(whole_lines, true);
            // The last one may be the one that is trimmed at the end.
            Zeroizing::new(String::from(&text[..text.rfind('\n').unwrap_or(0)]))
        }
        Style::Paragraph => {
            let text = paragraph(answer, true);
            let end = last_end(&text, false).unwrap_or(0);
            Zeroizing::new(String::from(&text[..end]))
        }
        Style::Headline => Zeroizing::default(),
    }
}

const ELLIPSIS: char = '…';

fn bullets(answer: &str, complete: bool) -> Zeroizing<String> {
    let mut lines: Vec<&str> = Vec::new();
    for line in answer
        .lines()
        .map(without_mark)
        .filter(|line| !line.is_empty())
    {
        // Small models like to say a thing twice.
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    let last = if complete { None } else { lines.pop() };
    let trimmed = last.map(|last| whole_sentences(last, lines.is_empty()));
    let mut out = Zeroizing::new(String::with_capacity(answer.len() + 4 * lines.len() + 8));
    let lines = lines
        .into_iter()
        .chain(trimmed.as_ref().map(|last| last.as_str()));
    for line in lines.filter(|line| !line.is_empty()) {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str("- ");
        out.push_str(line);
    }
    out
}

/// A line without the mark of a list item: `-`, `*`, `•`, `1.`, `2)`.
fn without_mark(line: &str) -> &str {
    let line = line.trim();
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let numbered = rest
        .strip_prefix(['.', ')'])
        .filter(|after| rest.len() < line.len() && after.starts_with(' '));
    match numbered.or_else(|| line.strip_prefix(['-', '*', '•', '–'])) {
        Some(text) => text.trim(),
        None => line,
    }
}

fn paragraph(answer: &str, complete: bool) -> Zeroizing<String> {
    let mut out = Zeroizing::new(String::with_capacity(answer.len() + 4));
    for line in answer
        .lines()
        .map(without_mark)
        .filter(|line| !line.is_empty())
    {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(line);
    }
    if complete {
        out
    } else {
        whole_sentences(&out, true)
    }
}

fn headline(answer: &str, complete: bool) -> Zeroizing<String> {
    let mut lines = answer
        .lines()
        .map(without_mark)
        .filter(|line| !line.is_empty());
    let first = lines
        .next()
        .unwrap_or_default()
        .trim_matches(['"', '“', '”', '*', '#', ' ']);
    let cut = !complete && lines.next().is_none();
    let text = if cut {
        whole_words(first)
    } else {
        Zeroizing::new(String::from(first))
    };
    Zeroizing::new(String::from(
        text.strip_suffix(['.', '。']).unwrap_or(&text),
    ))
}

/// The text up to its last whole sentence. Without one: whole words and an ellipsis if `must_keep`,
/// else nothing.
fn whole_sentences(text: &str, must_keep: bool) -> Zeroizing<String> {
    match last_end(text, true) {
        Some(end) => Zeroizing::new(String::from(&text[..end])),
        None if must_keep => whole_words(text),
        None => Zeroizing::default(),
    }
}

/// Where the last whole sentence ends. Whether a full stop that nothing follows is one: the text may go on with `30`.
fn last_end(text: &str, is_complete: bool) -> Option<usize> {
    let ends = |(at, c): (usize, char)| {
        let after = at + c.len_utf8();
        let ended = match c {
            '。' | '！' | '？' | '।' | '۔' => true,
            '.' | '!' | '?' | '…' => {
                text[after..].starts_with(' ') || (is_complete && after == text.len())
            }
            _ => false,
        };
        ended.then_some(after)
    };
    text.char_indices().filter_map(ends).next_back()
}

/// The text without its last word, which may be half a word, and with an ellipsis.
fn whole_words(text: &str) -> Zeroizing<String> {
    let text = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
    let end = text.rfind(' ').unwrap_or(text.len());
    let mut out = Zeroizing::new(String::with_capacity(end + ELLIPSIS.len_utf8()));
    out.push_str(text[..end].trim_end_matches([' ', ',', ';', ':']));
    if !out.is_empty() {
        out.push(ELLIPSIS);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tidied(style: Style, answer: &str, finish: Finish) -> String {
        tidy(style, answer, finish)
            .map(|text| String::clone(&text))
            .unwrap_or_default()
    }

    #[test]
    fn bullets_have_one_mark_each_and_no_repetition() {
        let answer = "- Ana pays.\n\n* Bob drives\n1. Ana pays.\n12) 3 tickets\n2026 was good";
        let expected = "- Ana pays.\n- Bob drives\n- 3 tickets\n- 2026 was good";
        assert_eq!(tidied(Style::Bullets, answer, Finish::Stop), expected);
        assert_eq!(tidied(Style::Bullets, " - \n", Finish::Stop), "");
    }

    #[test]
    fn what_was_cut_off_ends_with_a_whole_bullet() {
        assert_eq!(
            tidied(Style::Bullets, "- Ana pays.\n- Bob dri", Finish::Cap),
            "- Ana pays."
        );
        assert_eq!(
            tidied(Style::Bullets, "- Ana pays. Bob dri", Finish::Cap),
            "- Ana pays."
        );
        assert_eq!(
            tidied(Style::Bullets, "- Ana pays the dri", Finish::Cap),
            "- Ana pays the…"
        );
    }

    #[test]
    fn what_was_cut_off_ends_with_a_whole_sentence() {
        assert_eq!(
            tidied(Style::Paragraph, "At 3.30 we go. Then w", Finish::Cap),
            "At 3.30 we go."
        );
        assert_eq!(
            tidied(Style::Paragraph, "At 3.30 we go.\nThen, well", Finish::Stop),
            "At 3.30 we go. Then, well"
        );
        assert_eq!(
            tidied(Style::Paragraph, "今天开会。明天", Finish::Cap),
            "今天开会。"
        );
        assert_eq!(
            tidied(
                Style::Paragraph,
                "no end, not",
                Finish::Loop {
                    period: 1,
                    repeats: 8
                }
            ),
            "no end…"
        );
        assert_eq!(tidied(Style::Paragraph, "word", Finish::Cap), "word…");
        assert_eq!(tidied(Style::Paragraph, "\u{FFFD}", Finish::Cap), "…");
        assert_eq!(tidied(Style::Bullets, "-", Finish::Cap), "…");
        assert_eq!(tidied(Style::Bullets, "-", Finish::Stop), "");
    }

    /// However an answer ends, and wherever, it begins with what was certain before.
    #[test]
    fn what_is_certain_stays() {
        let answers = [
            "- Ana pays.\n\n* Bob drives at 3.30. Really\n1. Ana pays.\n- Bob drives at 3.30. Really\n12) 3 tickets\n",
            "At 3.30 we go. Then, well! e.g. this\n- and so on? 今天开会。明天",
            "\"A headline.\"\nMore",
        ];
        for style in [Style::Bullets, Style::Paragraph, Style::Headline] {
            for answer in answers {
                let places = answer.char_indices().map(|(at, _)| at);
                let places: Vec<usize> = places.chain([answer.len()]).collect();
                for (index, &now) in places.iter().enumerate() {
                    let certain = certain(style, &answer[..now]);
                    for (&end, finish) in places[index..]
                        .iter()
                        .flat_map(|end| [(end, Finish::Stop), (end, Finish::Cap)])
                    {
                        let summary = tidied(style, &answer[..end], finish);
                        assert!(
                            summary.starts_with(certain.as_str()),
                            "{style:?} {:?}, {certain:?}: {summary:?}",
                            &answer[..end]
                        );
                    }
                }
            }
        }
        assert_eq!(
            *certain(Style::Bullets, answers[0]),
            "- Ana pays.\n- Bob drives at 3.30. Really"
        );
        assert_eq!(
            *certain(Style::Paragraph, "At 3.30 we go. Then w"),
            "At 3.30 we go."
        );
        assert_eq!(*certain(Style::Paragraph, "At 3.30 we go."), "");
    }

    #[test]
    fn a_headline_is_one_line() {
        assert_eq!(
            tidied(Style::Headline, "\"Ana wins.\"\nMore", Finish::Stop),
            "Ana wins"
        );
        assert_eq!(
            tidied(Style::Headline, "Ana wins the lo", Finish::Cap),
            "Ana wins the…"
        );
        assert_eq!(
            tidied(Style::Headline, "Ana wins\nMo", Finish::Cap),
            "Ana wins"
        );
    }
}
