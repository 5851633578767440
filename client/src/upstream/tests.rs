use super::*;

fn reason(url: &str) -> String {
    url.parse::<Origin>().unwrap_err().to_string()
}

#[test]
fn addresses_are_checked() {
    for (url, word) in [
        ("10.0.0.7:8080", "scheme"),
        ("https://h", "TLS"),
        ("ftp://h", "scheme"),
        ("http://h/?q=1", "query"),
        ("http://ana@h", "user"),
        ("http://", "empty"),
        ("", "empty"),
    ] {
        let text = reason(url);
        assert!(
            text.contains(word) && text.contains("http://HOST"),
            "{text}"
        );
    }
}

#[test]
fn a_path_is_kept_unless_it_is_none() {
    for (url, path, shown) in [
        ("http://h", None, "http://h"),
        ("http://h:81/", None, "http://h:81"),
        (
            "http://[::1]:8080/gateway",
            Some("/gateway"),
            "http://[::1]:8080/gateway",
        ),
    ] {
        let origin: Origin = url.parse().unwrap();
        assert_eq!(origin.path(), path);
        assert_eq!(origin.to_string(), shown);
    }
    let six: Origin = "http://[::1]:8080".parse().unwrap();
    assert_eq!(six.authority(), "[::1]:8080");
}
