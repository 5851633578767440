//! What goes into an image besides its code and its model: the release says it, but for those of earlier times.

use cloister_boot::manifest::Serving;
use cloister_tokens::origin::Issuer;
use cloister_tokens::{TokenChallenge, TokenKey};
use cloister_transparency::release::{ImageRelease, TokenIssuer};

use super::report::Report;

const SERVING: &str = "serving";
const TOKEN_ISSUER: &str = "token issuer";

/// How an image serves its port, and whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Inputs {
    pub(super) serving: Serving,
    pub(super) token_issuer: Option<Issuer>,
}

impl Inputs {
    /// As the release says; `told` counts where it does not. `None` for what no image can be built with.
    pub(super) fn of(release: &ImageRelease, told: Self, report: &mut Report) -> Option<Self> {
        let Some(serving) = release.serving else {
            report.not_checked(
                SERVING,
                format!(
                    "the release does not say; built with {}, {} (--tls, --epoch-s, --token-issuer)",
                    serving_text(told.serving),
                    issuer_text(told.token_issuer.as_ref())
                ),
            );
            return Some(told);
        };
        let said = Self {
            serving: Serving {
                tls: serving.tls,
                epoch_s: serving.epoch_s,
            },
            token_issuer: release
                .token_issuer
                .as_ref()
                .map(issuer)
                .transpose()
                .map_err(|why| report.fail(TOKEN_ISSUER, format!("{why}. Nothing was built")))
                .ok()?,
        };
        let other = told.token_issuer.is_some() && told.token_issuer != said.token_issuer;
        if other {
            report.fail(
                TOKEN_ISSUER,
                format!(
                    "the release says {}, and --token-issuer is {}. Nothing was built",
                    issuer_text(said.token_issuer.as_ref()),
                    issuer_text(told.token_issuer.as_ref())
                ),
            );
            return None;
        }
        report.pass(
            SERVING,
            format!("{}, as the release says", serving_text(said.serving)),
        );
        report.pass(
            TOKEN_ISSUER,
            format!(
                "{}, as the release says",
                issuer_text(said.token_issuer.as_ref())
            ),
        );
        Some(said)
    }
}

/// The issuer of a release, if it can be one.
fn issuer(said: &TokenIssuer) -> Result<Issuer, String> {
    let wrong = |what: &str, why: &dyn std::fmt::Display| {
        format!("the release's {what} cannot be used: {why}")
    };
    let token_key = TokenKey::from_spki(&said.token_key);
    let names = TokenChallenge::new(&said.name, None, &said.origin);
    names.map_err(|error| wrong("issuer and origin", &error))?;
    Ok(Issuer {
        name: said.name.clone(),
        token_key: token_key.map_err(|error| wrong("token key", &error))?,
        origin_info: said.origin.clone(),
    })
}

fn serving_text(serving: Serving) -> String {
    let scheme = if serving.tls { "TLS" } else { "plain HTTP" };
    format!("{scheme}, key epochs of {} s", serving.epoch_s)
}

fn issuer_text(issuer: Option<&Issuer>) -> String {
    issuer.map_or_else(
        || "no token issuer".to_owned(),
        |issuer| format!("tokens of {:?} for {:?}", issuer.name, issuer.origin_info),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::statement;
    use crate::release::testing::Setup;
    use cloister_transparency::Statement;
    use cloister_transparency::release::{Period, Serving as Said};

    fn release() -> ImageRelease {
        let period = Period {
            not_before_s: 1_795_000_000,
            not_after_s: 1_795_086_400,
        };
        match statement::of_image(&Setup::new().image(b"rom"), period) {
            Ok(Statement::Image(release)) => release,
            other => panic!("{other:?}"),
        }
    }

    fn an_issuer(name: &str) -> Issuer {
        Issuer {
            name: name.to_owned(),
            token_key: TokenKey::from_modulus(&[0xff; 256]).expect("odd, 2048 bits"),
            origin_info: String::new(),
        }
    }

    fn told(token_issuer: Option<Issuer>) -> Inputs {
        Inputs {
            serving: Serving {
                tls: true,
                epoch_s: 77,
            },
            token_issuer,
        }
    }

    fn said(name: &str) -> TokenIssuer {
        TokenIssuer {
            name: name.to_owned(),
            origin: String::new(),
            token_key: an_issuer(name).token_key.spki().to_vec(),
        }
    }

    #[test]
    fn the_release_says_it_and_nobody_has_to_be_told() {
        let mut release = release();
        release.serving = Some(Said {
            epoch_s: 20,
            tls: true,
        });
        release.token_issuer = Some(said("issuer.example"));
        for given in [None, Some(an_issuer("issuer.example"))] {
            let mut report = Report::default();
            let inputs = Inputs::of(&release, told(given), &mut report).expect("good");
            let serving = Serving {
                tls: true,
                epoch_s: 20,
            };
            assert_eq!(inputs.serving, serving);
            assert_eq!(inputs.token_issuer, Some(an_issuer("issuer.example")));
            assert!(report.is_passed(), "{report}");
        }
    }

    #[test]
    fn an_earlier_release_is_built_as_one_is_told() {
        let mut release = release();
        release.serving = None;
        let mut report = Report::default();
        let given = told(Some(an_issuer("issuer.example")));
        assert_eq!(
            Inputs::of(&release, given.clone(), &mut report),
            Some(given)
        );
        let text = report.to_string();
        assert!(
            text.contains("NOT CHECKED  serving") && text.contains("77 s"),
            "{text}"
        );
    }

    #[test]
    fn what_no_image_can_have_is_refused() {
        let mut wrong_key = release();
        wrong_key.token_issuer = Some(TokenIssuer {
            token_key: vec![0x30; 342],
            ..said("issuer.example")
        });
        let mut other = release();
        other.token_issuer = Some(said("issuer.example"));
        let none = release();
        for (release, given, why) in [
            (wrong_key, None, "token key cannot be used"),
            (other, Some(an_issuer("another.example")), "another.example"),
            (none, Some(an_issuer("another.example")), "no token issuer"),
        ] {
            let mut report = Report::default();
            assert_eq!(Inputs::of(&release, told(given), &mut report), None);
            let text = report.to_string();
            assert!(!report.is_passed() && text.contains(why), "{text}");
        }
    }
}
