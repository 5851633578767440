//! The prompt: instructions, one worked example in the language of the text, and the text.

use alloc::{string::String, vec::Vec};

use zeroize::Zeroizing;

use super::Tone;
use crate::language::Language;
use crate::tokenizer::{Role, Tokenizer, Turn};

const SYSTEM: &str =
    "You rewrite messages. You answer with the new message only, in the language of the message.";

/// The prompt's tokens; the model's answer comes next.
pub(super) fn encode(text: &str, tone: Tone, tokenizer: &Tokenizer<'_>) -> Zeroizing<Vec<u32>> {
    let example = Example::of(Language::of(text));
    let ask = |text: &str| {
        let instruction = instruction(tone);
        let mut out = Zeroizing::new(String::with_capacity(instruction.len() + text.len()));
        out.push_str(instruction);
        out.push_str(text);
        out
    };
    let (example_text, text) = (ask(example.text), ask(text));
    let turn = |role, text| Turn { role, text };
    tokenizer.encode_chat(&[
        turn(Role::System, SYSTEM),
        turn(Role::User, &example_text),
        turn(Role::Assistant, example.answer(tone)),
        turn(Role::User, &text),
    ])
}

fn instruction(tone: Tone) -> &'static str {
    match tone {
        Tone::Friendly => "Rewrite this message in a friendly tone:\n",
        Tone::Formal => "Rewrite this message in a formal tone:\n",
        Tone::Shorter => "Rewrite this message in fewer words:\n",
        Tone::Fix => "Correct the spelling and grammar of this message, and change nothing else:\n",
    }
}

/// A message, and what becomes of it.
struct Example {
    text: &'static str,
    friendly: &'static str,
    formal: &'static str,
    shorter: &'static str,
    fix: &'static str,
}

impl Example {
    fn of(language: Language) -> &'static Self {
        match language {
            Language::English => &ENGLISH,
            Language::German => &GERMAN,
            Language::Spanish => &SPANISH,
            Language::French => &FRENCH,
            Language::Italian => &ITALIAN,
            Language::Portuguese => &PORTUGUESE,
        }
    }

    fn answer(&self, tone: Tone) -> &'static str {
        match tone {
            Tone::Friendly => self.friendly,
            Tone::Formal => self.formal,
            Tone::Shorter => self.shorter,
            Tone::Fix => self.fix,
        }
    }
}

const ENGLISH: Example = Example {
    text: "send me teh report today i need it now",
    friendly: "Hi! Could you please send me the report today? I need it soon. Thank you!",
    formal: "Please send me the report today, as I need it urgently.",
    shorter: "Send me the report now.",
    fix: "Send me the report today. I need it now.",
};

const GERMAN: Example = Example {
    text: "schick mir denn Bericht heute ich brauch ihn jetzt",
    friendly: "Hallo! Könntest du mir den Bericht bitte heute schicken? Ich brauche ihn bald. Danke!",
    formal: "Bitte senden Sie mir den Bericht heute zu, da ich ihn dringend benötige.",
    shorter: "Schick mir jetzt den Bericht.",
    fix: "Schick mir den Bericht heute. Ich brauche ihn jetzt.",
};

const SPANISH: Example = Example {
    text: "mandame el informe hoy lo nesecito ya",
    friendly: "¡Hola! ¿Podrías enviarme el informe hoy, por favor? Lo necesito pronto. ¡Gracias!",
    formal: "Le ruego que me envíe el informe hoy, ya que lo necesito con urgencia.",
    shorter: "Mándame ya el informe.",
    fix: "Mándame el informe hoy. Lo necesito ya.",
};

const FRENCH: Example = Example {
    text: "envoi moi le raport aujourd'hui j'en ai besoin maintenant",
    friendly: "Bonjour ! Pourrais-tu m'envoyer le rapport aujourd'hui, s'il te plaît ? J'en ai bientôt besoin. Merci !",
    formal: "Je vous prie de m'envoyer le rapport aujourd'hui, car j'en ai besoin d'urgence.",
    shorter: "Envoie-moi le rapport maintenant.",
    fix: "Envoie-moi le rapport aujourd'hui. J'en ai besoin maintenant.",
};

const ITALIAN: Example = Example {
    text: "mandami il raporto oggi mi serve subbito",
    friendly: "Ciao! Potresti mandarmi il rapporto oggi, per favore? Mi serve presto. Grazie!",
    formal: "La prego di inviarmi il rapporto oggi, poiché mi occorre con urgenza.",
    shorter: "Mandami subito il rapporto.",
    fix: "Mandami il rapporto oggi. Mi serve subito.",
};

const PORTUGUESE: Example = Example {
    text: "manda-me o relatorio hoje preciso dele ja",
    friendly: "Olá! Podes enviar-me o relatório hoje, por favor? Preciso dele em breve. Obrigado!",
    formal: "Peço que me envie o relatório hoje, pois necessito dele com urgência.",
    shorter: "Manda-me já o relatório.",
    fix: "Manda-me o relatório hoje. Preciso dele já.",
};
