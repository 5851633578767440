use super::*;
use crate::ghcb::Ghcb;
use crate::termination::{General, Reason};
use crate::testing::{Host, Rng, TestHypervisor, gfn};

fn honest() -> TestHypervisor {
    let mut host = Host::default();
    TestHypervisor::new(move |msr, memory| host.exit(msr, memory))
}

#[test]
fn an_honest_host_is_understood() {
    let mut host = honest();
    let info = negotiate(&mut host).unwrap();
    assert_eq!((info.min_version, info.max_version, info.c_bit), (1, 2, 51));
    let result = cpuid(&mut host, 0x8000_001f).unwrap();
    let low = 0x0000_01f0;
    assert_eq!((result.eax, result.ebx), (low, low | 1));
    assert_eq!((result.ecx, result.edx), (low | 2, low | 3));
    assert_eq!(preferred_ghcb(&mut host), Ok(None));
    assert_eq!(ap_reset_hold(&mut host), Ok(true));
    assert_eq!(features(&mut host).map(HypervisorFeatures::bits), Ok(3));
    register_ghcb(&mut host, gfn(0x123)).unwrap();
    page_state_change(&mut host, gfn(0x456), PageState::Shared).unwrap();
    let requests = [
        0x002,
        0x8000_001f_0000_0004,
        0x8000_001f_4000_0004,
        0x8000_001f_8000_0004,
        0x8000_001f_c000_0004,
        0x010,
        0x006,
        0x080,
        0x12_3012,
        0x0020_0000_0045_6014,
    ];
    assert_eq!(host.exits, requests);
}

/// Every function, and whether it accepted what `answer` said.
fn accepted(answer: u64) -> [bool; 7] {
    let host = &mut TestHypervisor::fixed(answer);
    [
        negotiate(host).is_ok(),
        cpuid(host, 0).is_ok(),
        ap_reset_hold(host).is_ok(),
        preferred_ghcb(host).is_ok(),
        register_ghcb(host, gfn(1)).is_ok(),
        page_state_change(host, gfn(1), PageState::Private).is_ok(),
        features(host).is_ok(),
    ]
}

#[test]
fn an_answer_fits_one_request_only() {
    let codes = [0x001, 0x005, 0x007, 0x011, 0x013, 0x015, 0x081];
    let mut rng = Rng(2);
    for code in 0..0x1000 {
        let fields = rng.next() & !0xfff;
        for (request, own) in accepted(fields | code).into_iter().zip(codes) {
            assert!(!request || code == own, "{code:#x} to request {own:#x}");
        }
    }
}

#[test]
fn the_request_sent_back_is_no_answer() {
    let echo = &mut TestHypervisor::new(|msr, _| msr);
    let error = MsrProtocolError::Response {
        request: 2,
        response: 2,
    };
    assert_eq!(negotiate(echo), Err(error));
    assert!(cpuid(echo, 1).is_err());
    assert!(register_ghcb(echo, gfn(1)).is_err());
    assert!(page_state_change(echo, gfn(1), PageState::Private).is_err());
    assert!(features(echo).is_err());
}

#[test]
fn one_register_of_cpuid_left_out_is_an_error() {
    for bad in 0..4 {
        let mut count = 0;
        let host = &mut TestHypervisor::new(move |_, _| {
            count += 1;
            if count - 1 == bad { 0x007 } else { 0x005 }
        });
        assert!(cpuid(host, 1).is_err());
    }
}

#[test]
fn version_2_must_be_in_the_range() {
    for (min, max) in [(0, 0), (1, 1), (3, 4), (3, 1), (2, 1), (u16::MAX, 2)] {
        let answer = u64::from(max) << 48 | u64::from(min) << 32 | 51 << 24 | 1;
        assert_eq!(
            negotiate(&mut TestHypervisor::fixed(answer)),
            Err(MsrProtocolError::VersionUnsupported { min, max })
        );
    }
    for (min, max) in [(2_u64, 2_u64), (1, 9), (0, 2)] {
        let answer = max << 48 | min << 32 | 1;
        assert!(negotiate(&mut TestHypervisor::fixed(answer)).is_ok());
    }
}

#[test]
fn another_ghcb_is_not_registered() {
    let asked = gfn(0x77);
    for answered in [0, 0x78, 0x76, 0x10_0000_0000_0077, 0xf_ffff_ffff_ffff] {
        let answered = answered & 0xf_ffff_ffff_ffff;
        if answered == 0x77 {
            continue;
        }
        let host = &mut TestHypervisor::fixed(answered << 12 | 0x013);
        let error = MsrProtocolError::Registration { asked, answered };
        assert_eq!(register_ghcb(host, asked), Err(error));
    }
    let host = TestHypervisor::fixed(0x013);
    let page = host.pages(0x77, 1);
    assert!(Ghcb::register(host, page).is_err());
}

#[test]
fn a_preferred_ghcb_is_a_frame_that_exists() {
    let host = &mut TestHypervisor::fixed(0x1234_5011);
    assert_eq!(preferred_ghcb(host), Ok(Some(gfn(0x1_2345))));
    let host = &mut TestHypervisor::fixed(0xfff0_0000_0000_0011);
    assert!(preferred_ghcb(host).is_err());
}

#[test]
fn a_page_state_change_fails_with_the_hosts_error() {
    let page = gfn(5);
    let host = &mut TestHypervisor::fixed(7 << 32 | 0x015);
    assert_eq!(
        page_state_change(host, page, PageState::Private),
        Err(MsrProtocolError::PageState { page, error: 7 })
    );
    let reserved_bit = &mut TestHypervisor::fixed(1 << 12 | 0x015);
    assert!(page_state_change(reserved_bit, page, PageState::Private).is_err());
}

#[test]
#[should_panic(expected = "terminated: 0x85c100")]
fn termination_tells_the_reason() {
    terminate(&mut honest(), Reason::DoubleValidation);
}

#[test]
#[should_panic(expected = "asked a third time")]
fn termination_does_not_come_back() {
    let mut count = 0;
    let mut stubborn = TestHypervisor::new(move |msr, _| {
        assert_eq!(msr, 0x1_0100);
        count += 1;
        assert!(count < 3, "asked a third time");
        0
    });
    terminate(&mut stubborn, General::ProtocolUnsupported);
}
