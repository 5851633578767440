//! The language of a text, so that what is written of it can be in the same one.
//!
//! Small models answer in the language of the worked example, whatever the instructions say: so there is an example in
//! each language here. Texts in other languages get the English one; in scripts of their own (Chinese, Arabic, ...)
//! the models keep to the text's language by themselves.

/// A language that has a worked example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Language {
    English,
    German,
    Spanish,
    French,
    Italian,
    Portuguese,
}

/// Words looked at, at most: the beginning of a text tells its language.
const MAX_WORDS: usize = 400;
/// One word in so many must be a frequent one of the language, or the text is none of these.
const LEAST_SHARE: usize = 12;
/// And so many of them at least: one may be a name or a word of another language.
const LEAST_WORDS: usize = 2;

impl Language {
    pub(crate) const ALL: [Self; 6] = [
        Self::English,
        Self::German,
        Self::Spanish,
        Self::French,
        Self::Italian,
        Self::Portuguese,
    ];

    /// The language whose most frequent words occur most often; English if none does.
    pub(crate) fn of(text: &str) -> Self {
        let mut counts = [0; Self::ALL.len()];
        let mut words = 0;
        for word in text
            .split(|c: char| !c.is_alphabetic())
            .filter(|word| !word.is_empty())
            .take(MAX_WORDS)
        {
            words += 1;
            for (count, language) in counts.iter_mut().zip(Self::ALL) {
                let is_frequent = |frequent: &&str| same_word(word, frequent);
                *count += usize::from(language.frequent_words().iter().any(is_frequent));
            }
        }
        let english = counts[0];
        Self::ALL
            .into_iter()
            .zip(counts)
            .filter(|(_, count)| *count > english.max(LEAST_WORDS - 1))
            .filter(|(_, count)| *count * LEAST_SHARE >= words)
            .max_by_key(|(_, count)| *count)
            .map_or(Self::English, |(language, _)| language)
    }

    /// Words that are frequent in this language and mean little in the others. In lower case.
    fn frequent_words(self) -> &'static [&'static str] {
        match self {
            Self::English => &[
                "the", "and", "is", "to", "of", "you", "it", "that", "we", "for", "are", "with",
                "this", "have", "be", "will", "not", "on", "at",
            ],
            Self::German => &[
                "der", "die", "das", "und", "ist", "nicht", "ich", "wir", "ein", "eine", "zu",
                "mit", "auf", "den", "für", "dem", "sie", "auch", "noch", "bitte",
            ],
            Self::Spanish => &[
                "el", "los", "las", "y", "que", "es", "en", "una", "por", "para", "del", "al",
                "lo", "pero", "yo", "hay", "muy", "está", "qué",
            ],
            Self::French => &[
                "le", "les", "et", "est", "des", "une", "je", "nous", "vous", "dans", "pour",
                "pas", "du", "il", "on", "ce", "qui", "sur", "au", "avec", "c",
            ],
            Self::Italian => &[
                "il", "che", "è", "di", "gli", "della", "per", "una", "sono", "non", "con", "ma",
                "alle", "del", "ci", "anche", "io", "ho", "nel",
            ],
            Self::Portuguese => &[
                "o", "os", "as", "e", "que", "é", "não", "uma", "um", "para", "com", "em", "do",
                "da", "eu", "por", "mas", "você", "ao", "na", "no",
            ],
        }
    }
}

/// Whether `word` is `lower` in any case.
fn same_word(word: &str, lower: &str) -> bool {
    word.chars().flat_map(char::to_lowercase).eq(lower.chars())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_are_told_apart() {
        for (text, language) in [
            (
                "Ana: Can you send the report by Friday? Bob: Yes, I will.",
                Language::English,
            ),
            (
                "Katrin: Können wir die Demo auf Dienstag vorziehen? Oliver: Ja, aber der Export ist noch nicht fertig.",
                Language::German,
            ),
            (
                "Lucía: ¿Vamos en el tren de las 19:30? Marcos: Sí, pero hay que comprar los billetes hoy.",
                Language::Spanish,
            ),
            (
                "Luc : On se retrouve à la gare pour le train de 9 h ? Anne : Oui, je prends les billets avec vous.",
                Language::French,
            ),
            (
                "Gina: Ci vediamo alle otto? Paolo: Sì, ma non ho la macchina, la riunione è anche per te.",
                Language::Italian,
            ),
            (
                "Rui: Vamos ao cinema no sábado? Ana: Não posso, mas você pode ir com a Rita e o João.",
                Language::Portuguese,
            ),
            (
                "王敏: 下周三的产品评审会改到周四下午三点。",
                Language::English,
            ),
            (
                "Kaja: Spotkanie jest w piątek o dziesiątej rano.",
                Language::English,
            ),
            ("", Language::English),
            ("12:30 :-)", Language::English),
        ] {
            assert_eq!(Language::of(text), language, "{text}");
        }
    }

    #[test]
    fn one_foreign_word_changes_nothing() {
        let text = "The café opens at nine and we have a table for four, por favor be on time.";
        assert_eq!(Language::of(text), Language::English);
    }
}
