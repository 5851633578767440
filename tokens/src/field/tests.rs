use super::*;
use crate::TOKEN_TYPE;
use std::string::ToString;

fn token() -> Token {
    Token {
        nonce: [1; 32],
        challenge_digest: [2; 32],
        token_key_id: [3; 32],
        authenticator: [4; 256],
    }
}

fn offer() -> Offer {
    let mut modulus = [0xff; 256];
    modulus[5] = 0;
    Offer {
        challenge: TokenChallenge::new("issuer.example", Some([7; 32]), "origin.example").unwrap(),
        token_key: TokenKey::from_modulus(&modulus).unwrap(),
        max_age_s: Some(3600),
    }
}

#[test]
fn a_token_is_read_quoted_or_not_and_among_nothing_else() {
    let field = write_token(&token());
    assert!(field.starts_with("PrivateToken token=\"AAIB"), "{field}");
    assert_eq!(read_token(field.as_bytes()), Ok(token()));
    let bare = field.replace('"', "");
    assert_eq!(read_token(bare.as_bytes()), Ok(token()));
    let spaced = field.replacen("PrivateToken ", "PRIVATETOKEN  ", 1) + " ,";
    assert_eq!(read_token(spaced.as_bytes()), Ok(token()));
    let refused = |text: &str| read_token(text.as_bytes()).unwrap_err();
    assert_eq!(refused(""), FieldError::Scheme);
    assert_eq!(refused("Bearer abc=="), FieldError::Scheme);
    assert_eq!(refused("PrivateToken"), FieldError::Parameter("token"));
    assert_eq!(refused(&format!("{field}, Basic x")), FieldError::Scheme);
    assert_eq!(
        refused(&format!("{field}, token=\"\"")),
        FieldError::Parameter("token")
    );
    assert_eq!(
        refused("PrivateToken token=\"AAIB\""),
        FieldError::Value("token")
    );
    assert_eq!(
        refused("PrivateToken token=\"AA+/\""),
        FieldError::Value("token")
    );
    assert_eq!(refused("PrivateToken token=\"AAIB"), FieldError::Syntax);
    assert_eq!(refused("PrivateToken token=\"A\"B"), FieldError::Syntax);
    assert_eq!(refused("token=\"AAIB\""), FieldError::Syntax);
    assert_eq!(refused("PrivateToken;token=\"AAIB\""), FieldError::Syntax);
    assert_eq!(refused("Privat\u{e9}Token token=x"), FieldError::Syntax);
    assert_eq!(refused(&"a ".repeat(5000)), FieldError::TooLong);
    let mut other_type = token().encode();
    other_type[1] = 1;
    let other_type = format!(
        "PrivateToken token=\"{}\"",
        Base64Url::encode_string(&other_type)
    );
    assert_eq!(refused(&other_type), FieldError::Value("token"));
}

#[test]
fn cut_fields_are_refused() {
    let field = write_token(&token());
    for length in 0..field.len() - 1 {
        assert!(read_token(&field.as_bytes()[..length]).is_err(), "{length}");
    }
}

#[test]
fn offers_are_found_among_other_schemes_and_types() {
    let field = offer().to_field();
    assert_eq!(read_offers(field.as_bytes()), Ok([offer()].to_vec()));
    let without_age = Offer {
        max_age_s: None,
        ..offer()
    };
    let of_type_1 = Base64Url::encode_string(&[0, 1, 0, 1, b'i', 0, 0, 0]);
    let many = format!(
        "Basic realm=\"a, b\", Negotiate abc==, PrivateToken challenge=\"{of_type_1}\", token-key=\"AAAA\", {}, {field}",
        without_age.to_field()
    );
    assert_eq!(
        read_offers(many.as_bytes()),
        Ok([without_age, offer()].to_vec())
    );
    assert_eq!(read_offers(b"Basic realm=\"x\""), Ok(Vec::new()));
    let refused = |text: String| read_offers(text.as_bytes()).unwrap_err();
    assert_eq!(
        refused(field.replace("challenge", "other")),
        FieldError::Parameter("challenge")
    );
    assert_eq!(
        refused(field.replace("token-key=\"MII", "token-key=\"AII")),
        FieldError::Value("token-key")
    );
    assert_eq!(
        refused(field.replace("3600", "soon")),
        FieldError::Value("max-age")
    );
    let seventeen = [field.as_str(); MAX_OFFERS + 1].join(", ");
    assert_eq!(
        read_offers(seventeen.as_bytes()).map(|all| all.len()),
        Ok(MAX_OFFERS)
    );
}

#[test]
fn errors_have_words() {
    for error in [
        FieldError::TooLong,
        FieldError::Syntax,
        FieldError::Scheme,
        FieldError::Parameter("token"),
        FieldError::Value("token"),
    ] {
        assert!(error.to_string().len() > 20);
    }
    assert_eq!(TOKEN_TYPE, 2);
}
