//! The prompt: instructions, one worked example as turns of the conversation, and the text.
//!
//! A worked example shows small models what to keep (decisions, dates, who does what) better than
//! any instruction does. It is short, because every token of it is paid for with each request.

use alloc::{string::String, vec::Vec};

use zeroize::Zeroizing;

use super::{Style, split::Line};
use crate::language::Language;
use crate::tokenizer::{Role, Tokenizer, Turn};

/// What is being summarized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Several messages.
    Thread,
    /// One message: a mail or an article.
    Text,
    /// Summaries of the parts of something longer.
    Parts,
}

impl Shape {
    pub(super) fn of(lines: &[Line]) -> Self {
        if lines.len() == 1 {
            Self::Text
        } else {
            Self::Thread
        }
    }

    const ALL: [Self; 3] = [Self::Thread, Self::Text, Self::Parts];
}

impl Style {
    const ALL: [Self; 3] = [Self::Bullets, Self::Paragraph, Self::Headline];
}

const SYSTEM: &str = "You write short, accurate summaries.";

/// One request to the model.
pub(super) struct Prompt<'t> {
    pub(super) shape: Shape,
    pub(super) style: Style,
    /// Lines, each with its end.
    pub(super) text: &'t str,
}

impl Prompt<'_> {
    /// The prompt's tokens; the model's answer comes next.
    pub(super) fn encode(&self, tokenizer: &Tokenizer<'_>) -> Zeroizing<Vec<u32>> {
        self.encode_in(Language::of(self.text), tokenizer)
    }

    fn encode_in(&self, language: Language, tokenizer: &Tokenizer<'_>) -> Zeroizing<Vec<u32>> {
        let words = Words::of(language);
        let (example, text) = (self.ask(words, words.example), self.ask(words, self.text));
        tokenizer.encode_chat(&[
            Turn {
                role: Role::System,
                text: SYSTEM,
            },
            Turn {
                role: Role::User,
                text: &example,
            },
            Turn {
                role: Role::Assistant,
                text: words.example_answer(self.style),
            },
            Turn {
                role: Role::User,
                text: &text,
            },
        ])
    }

    fn ask(&self, words: &Words, text: &str) -> Zeroizing<String> {
        let (before, after) = (words.before(self.shape), words.after(self.style));
        let mut out = Zeroizing::new(String::with_capacity(
            before.len() + text.len() + after.len(),
        ));
        out.push_str(before);
        out.push_str(text);
        out.push_str(after);
        out
    }
}

/// The words of a prompt in one language.
struct Words {
    /// What stands before the text, by shape.
    thread: &'static str,
    text: &'static str,
    parts: &'static str,
    /// What stands after it, by style.
    bullets: &'static str,
    paragraph: &'static str,
    headline: &'static str,
    /// The worked example: a thread, and its summary in each style.
    example: &'static str,
    example_bullets: &'static str,
    example_paragraph: &'static str,
    example_headline: &'static str,
}

impl Words {
    const fn of(language: Language) -> &'static Self {
        match language {
            Language::English => &ENGLISH,
            Language::German => &GERMAN,
            Language::Spanish => &SPANISH,
            Language::French => &FRENCH,
            Language::Italian => &ITALIAN,
            Language::Portuguese => &PORTUGUESE,
        }
    }

    fn before(&self, shape: Shape) -> &'static str {
        match shape {
            Shape::Thread => self.thread,
            Shape::Text => self.text,
            Shape::Parts => self.parts,
        }
    }

    fn after(&self, style: Style) -> &'static str {
        match style {
            Style::Bullets => self.bullets,
            Style::Paragraph => self.paragraph,
            Style::Headline => self.headline,
        }
    }

    fn example_answer(&self, style: Style) -> &'static str {
        match style {
            Style::Bullets => self.example_bullets,
            Style::Paragraph => self.example_paragraph,
            Style::Headline => self.example_headline,
        }
    }
}

const ENGLISH: Words = Words {
    thread: "Messages:\n",
    text: "Text:\n",
    parts: "Notes:\n",
    bullets: "\nSummarize in short bullet points: what was decided, when, and who will do what.",
    paragraph: "\nSummarize in two or three sentences: what was decided, when, and who will do what.",
    headline: "\nSummarize in one short headline.",
    example: "Mia: The printer on floor 2 is broken again.\n\
              Tom: I called the repair service, they come on Tuesday at 9.\n\
              Mia: Thanks! I will be away until Wednesday, can you let them in?\n\
              Tom: Sure. Until then please use the one on floor 3.\n",
    example_bullets: "- The printer on floor 2 is broken; until it is repaired, use the one on floor 3.\n\
                      - The repair service comes on Tuesday at 9.\n\
                      - Tom lets them in because Mia is away until Wednesday.",
    example_paragraph: "The printer on floor 2 is broken, and the repair service comes on Tuesday at 9. Tom lets them \
                        in because Mia is away until Wednesday. Until then, the printer on floor 3 is to be used.",
    example_headline: "Printer on floor 2 broken, repair on Tuesday at 9",
};

const GERMAN: Words = Words {
    thread: "Nachrichten:\n",
    text: "Text:\n",
    parts: "Notizen:\n",
    bullets: "\nFasse in kurzen Stichpunkten auf Deutsch zusammen: was beschlossen wurde, wann, und wer was macht.",
    paragraph: "\nFasse in zwei oder drei Sätzen auf Deutsch zusammen: was beschlossen wurde, wann, und wer was macht.",
    headline: "\nFasse in einer kurzen Überschrift auf Deutsch zusammen.",
    example: "Mia: Der Drucker im 2. Stock ist wieder kaputt.\n\
              Tom: Ich habe den Reparaturdienst angerufen, er kommt am Dienstag um 9.\n\
              Mia: Danke! Ich bin bis Mittwoch weg, kannst du ihn hereinlassen?\n\
              Tom: Klar. Nehmt bis dahin bitte den im 3. Stock.\n",
    example_bullets: "- Der Drucker im 2. Stock ist kaputt; bis zur Reparatur den im 3. Stock nehmen.\n\
                      - Der Reparaturdienst kommt am Dienstag um 9.\n\
                      - Tom lässt ihn herein, weil Mia bis Mittwoch weg ist.",
    example_paragraph: "Der Drucker im 2. Stock ist kaputt, und der Reparaturdienst kommt am Dienstag um 9. Tom lässt \
                        ihn herein, weil Mia bis Mittwoch weg ist. Bis dahin soll der Drucker im 3. Stock benutzt \
                        werden.",
    example_headline: "Drucker im 2. Stock kaputt, Reparatur am Dienstag um 9",
};

const SPANISH: Words = Words {
    thread: "Mensajes:\n",
    text: "Texto:\n",
    parts: "Notas:\n",
    bullets: "\nResume en español en puntos breves: qué se decidió, cuándo y quién hará qué.",
    paragraph: "\nResume en español en dos o tres frases: qué se decidió, cuándo y quién hará qué.",
    headline: "\nResume en español en un titular breve.",
    example: "Mia: La impresora del piso 2 está rota otra vez.\n\
              Tom: He llamado al servicio técnico, vienen el martes a las 9.\n\
              Mia: ¡Gracias! Estoy fuera hasta el miércoles, ¿puedes abrirles tú?\n\
              Tom: Claro. Hasta entonces usad la del piso 3, por favor.\n",
    example_bullets: "- La impresora del piso 2 está rota; hasta que la reparen, usar la del piso 3.\n\
                      - El servicio técnico viene el martes a las 9.\n\
                      - Tom les abre porque Mia está fuera hasta el miércoles.",
    example_paragraph: "La impresora del piso 2 está rota y el servicio técnico viene el martes a las 9. Tom les abre \
                        porque Mia está fuera hasta el miércoles. Hasta entonces hay que usar la del piso 3.",
    example_headline: "Impresora del piso 2 rota, reparación el martes a las 9",
};

const FRENCH: Words = Words {
    thread: "Messages :\n",
    text: "Texte :\n",
    parts: "Notes :\n",
    bullets: "\nRésume en français en points brefs : ce qui a été décidé, quand, et qui fera quoi.",
    paragraph: "\nRésume en français en deux ou trois phrases : ce qui a été décidé, quand, et qui fera quoi.",
    headline: "\nRésume en français en un titre court.",
    example: "Mia: L'imprimante du 2e étage est encore en panne.\n\
              Tom: J'ai appelé le réparateur, il vient mardi à 9 h.\n\
              Mia: Merci ! Je suis absente jusqu'à mercredi, tu peux lui ouvrir ?\n\
              Tom: Bien sûr. D'ici là, prenez celle du 3e étage.\n",
    example_bullets: "- L'imprimante du 2e étage est en panne ; d'ici la réparation, prendre celle du 3e.\n\
                      - Le réparateur vient mardi à 9 h.\n\
                      - Tom lui ouvre, car Mia est absente jusqu'à mercredi.",
    example_paragraph: "L'imprimante du 2e étage est en panne et le réparateur vient mardi à 9 h. Tom lui ouvre, car \
                        Mia est absente jusqu'à mercredi. D'ici là, il faut prendre celle du 3e étage.",
    example_headline: "Imprimante du 2e étage en panne, réparation mardi à 9 h",
};

const ITALIAN: Words = Words {
    thread: "Messaggi:\n",
    text: "Testo:\n",
    parts: "Appunti:\n",
    bullets: "\nRiassumi in italiano in punti brevi: che cosa è stato deciso, quando e chi farà che cosa.",
    paragraph: "\nRiassumi in italiano in due o tre frasi: che cosa è stato deciso, quando e chi farà che cosa.",
    headline: "\nRiassumi in italiano in un titolo breve.",
    example: "Mia: La stampante al piano 2 è di nuovo rotta.\n\
              Tom: Ho chiamato l'assistenza, vengono martedì alle 9.\n\
              Mia: Grazie! Sono via fino a mercoledì, puoi aprire tu?\n\
              Tom: Certo. Fino ad allora usate quella al piano 3.\n",
    example_bullets: "- La stampante al piano 2 è rotta; fino alla riparazione usare quella al piano 3.\n\
                      - L'assistenza viene martedì alle 9.\n\
                      - Apre Tom perché Mia è via fino a mercoledì.",
    example_paragraph: "La stampante al piano 2 è rotta e l'assistenza viene martedì alle 9. Apre Tom perché Mia è \
                        via fino a mercoledì. Fino ad allora si usa quella al piano 3.",
    example_headline: "Stampante al piano 2 rotta, riparazione martedì alle 9",
};

const PORTUGUESE: Words = Words {
    thread: "Mensagens:\n",
    text: "Texto:\n",
    parts: "Notas:\n",
    bullets: "\nResume em português em pontos curtos: o que foi decidido, quando e quem fará o quê.",
    paragraph: "\nResume em português em duas ou três frases: o que foi decidido, quando e quem fará o quê.",
    headline: "\nResume em português num título curto.",
    example: "Mia: A impressora do piso 2 avariou outra vez.\n\
              Tom: Já liguei à assistência, vêm na terça às 9.\n\
              Mia: Obrigada! Estou fora até quarta, podes abrir-lhes a porta?\n\
              Tom: Claro. Até lá usem a do piso 3, por favor.\n",
    example_bullets: "- A impressora do piso 2 está avariada; até à reparação, usar a do piso 3.\n\
                      - A assistência vem na terça às 9.\n\
                      - O Tom abre a porta porque a Mia está fora até quarta.",
    example_paragraph: "A impressora do piso 2 está avariada e a assistência vem na terça às 9. O Tom abre a porta \
                        porque a Mia está fora até quarta. Até lá deve usar-se a do piso 3.",
    example_headline: "Impressora do piso 2 avariada, reparação na terça às 9",
};

/// Tokens of the longest prompt without its text. Neither the text's lines nor what is around them
/// share a token, because each begins behind a line end.
pub(super) fn longest_frame(tokenizer: &Tokenizer<'_>) -> usize {
    let prompt = |shape, style| Prompt {
        shape,
        style,
        text: "",
    };
    let frames = Language::ALL.into_iter().flat_map(|language| {
        Shape::ALL.into_iter().flat_map(move |shape| {
            Style::ALL.map(|style| prompt(shape, style).encode_in(language, tokenizer).len())
        })
    });
    frames.max().unwrap_or(0)
}
