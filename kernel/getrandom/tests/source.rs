//! Where random bytes come from, in one test: the source is the program's, not a thread's.

#[test]
fn the_first_source_that_is_set_is_used() {
    // Without the feature `os` there is nothing to fall back to.
    let unset = std::panic::catch_unwind(|| {
        let mut bytes = [0; 32];
        getrandom::getrandom(&mut bytes).map(|()| bytes)
    });
    match cfg!(feature = "os") {
        true => assert_ne!(unset.expect("the system's generator"), Ok([0; 32])),
        false => assert!(unset.is_err()),
    }
    getrandom::set_source(|bytes| bytes.fill(7));
    getrandom::set_source(|bytes| bytes.fill(8));
    let mut bytes = [0; 5];
    assert_eq!(getrandom::getrandom(&mut bytes), Ok(()));
    assert_eq!(bytes, [7; 5]);
}
