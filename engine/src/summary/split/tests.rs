//! Every character of every message is in exactly one part, and every part fits.

use super::*;
use crate::tokenizer::tests::Random;

/// Counts words and marks, roughly as a tokenizer would.
fn count(text: &str) -> usize {
    text.chars().filter(|c| !c.is_alphanumeric()).count() + text.len() / 4
}

fn line(name: &str, text: &str) -> Line {
    Line {
        name: clean::name(name),
        text: clean::text(text),
    }
}

#[test]
fn what_fits_is_one_part() {
    let lines = [line("Ana", "Hi."), line("", "No name.")];
    let parts = parts(&lines, 100, count);
    assert_eq!(
        parts.iter().map(|p| p.as_str()).collect::<Vec<_>>(),
        ["Ana: Hi.\nNo name.\n"]
    );
}

#[test]
fn a_long_message_is_cut_between_sentences() {
    let text =
        "The first sentence is here. The second one follows! Is there a third? Yes, there is.";
    let lines = [line("Ana", text)];
    let parts = parts(&lines, 28, count);
    assert_eq!(
        parts.iter().map(|p| p.as_str()).collect::<Vec<_>>(),
        [
            "Ana: The first sentence is here. The second one follows!\n",
            "Ana: Is there a third? Yes, there is.\n"
        ]
    );
}

#[test]
fn parts_are_of_about_equal_size() {
    let lines: Vec<Line> = (0..11)
        .map(|_| line("Ana", "one two three four five six seven"))
        .collect();
    let sizes: Vec<usize> = cut(
        &lines,
        10 * count("Ana: one two three four five six seven\n"),
        count,
    )
    .iter()
    .map(Vec::len)
    .collect();
    assert_eq!(sizes, [6, 5]);
}

#[test]
fn every_message_is_covered_exactly_once_and_every_part_fits() {
    let mut random = Random(4);
    for round in 0..400 {
        let lines: Vec<Line> = (0..1 + random.below(12))
            .map(|_| {
                let words = random.below(60);
                let glue = [" ", ". ", "! ", "", "。"][random.below(5)];
                let words: Vec<String> = (0..words).map(|_| random.text(8)).collect();
                line(&random.text(5), &words.join(glue))
            })
            .filter(|line| !line.text.is_empty())
            .collect();
        let budget = 40 + random.below(200);
        let pieces = cut(&lines, budget, count);
        let mut covered = vec![0; lines.len()];
        for piece in pieces.iter().flatten() {
            assert_eq!(
                piece.bytes.start, covered[piece.line],
                "round {round}: a gap or an overlap"
            );
            assert!(piece.bytes.end > piece.bytes.start);
            covered[piece.line] = piece.bytes.end;
        }
        let order: Vec<usize> = pieces.iter().flatten().map(|piece| piece.line).collect();
        assert!(order.is_sorted());
        assert!(
            covered
                .iter()
                .zip(&lines)
                .all(|(&end, line)| end == line.text.len())
        );
        for (part, text) in pieces.iter().zip(parts(&lines, budget, count)) {
            let single = part.len() == 1
                && lines[part[0].line].text[part[0].bytes.clone()]
                    .chars()
                    .count()
                    == 1;
            assert!(
                single || count(&text) <= budget + 1,
                "round {round}: {} over {budget}",
                count(&text)
            );
        }
    }
}
