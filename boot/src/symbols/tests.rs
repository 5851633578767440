memory_functions!("cloister_test_");

unsafe extern "C" {
    fn cloister_test_memcpy(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8;
    fn cloister_test_memmove(to: *mut u8, from: *const u8, bytes: usize) -> *mut u8;
    fn cloister_test_memset(to: *mut u8, value: i32, bytes: usize) -> *mut u8;
    fn cloister_test_memcmp(a: *const u8, b: *const u8, bytes: usize) -> i32;
    fn cloister_test_bcmp(a: *const u8, b: *const u8, bytes: usize) -> i32;
}

const LENGTHS: std::ops::Range<usize> = 0..200;
const ROOM: usize = 600;

fn pattern() -> Vec<u8> {
    (0..ROOM).map(|i| (i * 7 + i / 256) as u8).collect()
}

#[test]
fn copies_are_exact() {
    let from = pattern();
    for bytes in LENGTHS {
        for shift in [0, 1, 5] {
            let mut to = vec![0xaa; ROOM];
            // SAFETY: both vectors hold more than `shift + bytes` bytes and do not overlap.
            let returned =
                unsafe { cloister_test_memcpy(to[shift..].as_mut_ptr(), from.as_ptr(), bytes) };
            assert_eq!(returned, to[shift..].as_mut_ptr());
            assert_eq!(to[shift..shift + bytes], from[..bytes]);
            assert!(
                to[..shift]
                    .iter()
                    .chain(&to[shift + bytes..])
                    .all(|&b| b == 0xaa)
            );
        }
    }
}

#[test]
fn moves_are_exact_in_both_directions() {
    for bytes in LENGTHS {
        for (from, to) in [
            (100, 100),
            (100, 101),
            (101, 100),
            (100, 163),
            (163, 100),
            (9, 300),
        ] {
            let mut memory = pattern();
            let mut expected = pattern();
            expected.copy_within(from..from + bytes, to);
            let base = memory.as_mut_ptr();
            // SAFETY: both ranges lie inside `memory`, and `memmove` may overlap.
            unsafe { cloister_test_memmove(base.add(to), base.add(from), bytes) };
            assert_eq!(memory, expected, "{bytes} bytes from {from} to {to}");
        }
    }
}

#[test]
fn fills_are_exact() {
    for bytes in LENGTHS {
        let mut to = vec![0xaa; ROOM];
        // SAFETY: `to` holds more than `3 + bytes` bytes.
        unsafe { cloister_test_memset(to[3..].as_mut_ptr(), 0x1_23, bytes) };
        assert!(to[3..3 + bytes].iter().all(|&b| b == 0x23));
        assert!(to[..3].iter().chain(&to[3 + bytes..]).all(|&b| b == 0xaa));
    }
}

#[test]
fn comparisons_have_the_sign_of_the_first_difference() {
    let compare = |a: &[u8], b: &[u8], bytes: usize| {
        assert!(bytes <= a.len() && bytes <= b.len());
        // SAFETY: both slices hold at least `bytes` bytes.
        unsafe {
            let order = cloister_test_memcmp(a.as_ptr(), b.as_ptr(), bytes);
            let equal = cloister_test_bcmp(a.as_ptr(), b.as_ptr(), bytes);
            assert_eq!(order == 0, equal == 0);
            order.signum()
        }
    };
    let a = pattern();
    for bytes in LENGTHS {
        assert_eq!(compare(&a, &a, bytes), 0);
        for at in 0..bytes {
            let mut b = a.clone();
            b[at] = b[at].wrapping_add(0x81);
            b[at + 1] ^= 0xff;
            assert_eq!(compare(&a, &b, bytes), if a[at] < b[at] { -1 } else { 1 });
        }
    }
}
