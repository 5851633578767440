use super::*;
use crate::rmp::RmpError;
use crate::termination::{Reason, Termination};
use crate::testing::{Host, ModelRmp, TestHypervisor, TestMemory, gfn};

fn range(first: u64, frames: u64) -> FrameRange {
    FrameRange::new(gfn(first), frames).unwrap()
}

fn ghcb() -> Ghcb<TestHypervisor, TestMemory> {
    let mut host = Host::default();
    let hypervisor = TestHypervisor::new(move |msr, memory| host.exit(msr, memory));
    let page = hypervisor.pages(1, 1);
    Ghcb::register(hypervisor, page).unwrap()
}

#[test]
fn pages_become_private_by_validation_and_shared_after_rescission() {
    let (mut ghcb, mut rmp) = (ghcb(), ModelRmp::default());
    make_private(&mut ghcb, &mut rmp, range(0x100, 0x500)).unwrap();
    assert_eq!(rmp.validated.len(), 0x500);
    make_shared(&mut ghcb, &mut rmp, range(0x180, 0x10)).unwrap();
    assert_eq!(rmp.validated.len(), 0x4f0);
}

#[test]
fn a_page_that_is_validated_already_is_not_made_private_again() {
    let (mut ghcb, mut rmp) = (ghcb(), ModelRmp::default());
    rmp.validated.insert(0x105);
    let error = make_private(&mut ghcb, &mut rmp, range(0x100, 0x10)).unwrap_err();
    assert_eq!(
        Termination::from(error),
        Termination::from(Reason::DoubleValidation)
    );
}

#[test]
fn nothing_is_shared_that_was_not_the_guests() {
    let (mut ghcb, mut rmp) = (ghcb(), ModelRmp::default());
    let exits = ghcb.hypervisor().exits.len();
    let error = make_shared(&mut ghcb, &mut rmp, range(0x100, 1)).unwrap_err();
    assert!(matches!(error, PageStateError::Pvalidate(_)));
    assert_eq!(
        ghcb.hypervisor().exits.len(),
        exits,
        "the host was not asked"
    );
}

#[test]
fn the_first_pages_change_by_the_msr_protocol() {
    let mut host = Host::default();
    let mut hypervisor = TestHypervisor::new(move |msr, memory| host.exit(msr, memory));
    let mut rmp = ModelRmp::default();
    make_page_private(&mut hypervisor, &mut rmp, gfn(5)).unwrap();
    assert!(rmp.validated.contains(&5));
    make_page_shared(&mut hypervisor, &mut rmp, gfn(5)).unwrap();
    assert!(rmp.validated.is_empty());
    assert_eq!(
        hypervisor.exits,
        [0x0010_0000_0000_5014, 0x0020_0000_0000_5014]
    );
    let error = make_page_shared(&mut hypervisor, &mut rmp, gfn(5)).unwrap_err();
    let twice = PvalidateError {
        page: gfn(5),
        error: RmpError::Unchanged,
    };
    assert_eq!(error, PageStateError::Pvalidate(twice));
    assert_eq!(hypervisor.exits.len(), 2, "the host was not asked");
}

#[test]
fn a_page_that_the_host_refuses_is_not_validated() {
    let mut rmp = ModelRmp::default();
    for answer in [0, 0x014, 1 << 32 | 0x015] {
        let mut hypervisor = TestHypervisor::fixed(answer);
        let result = make_page_private(&mut hypervisor, &mut rmp, gfn(5));
        assert!(matches!(result, Err(PageStateError::Msr(_))));
        assert_eq!(rmp.pvalidates, 0);
    }
    let mut claiming = TestHypervisor::new(|msr, memory| match msr & 0xfff {
        0 => {
            for index in [0x398 / 8, 0x3a0 / 8] {
                memory.set(1, index, 5);
            }
            0
        }
        _ => msr + 1,
    });
    let page = claiming.pages(1, 1);
    let mut ghcb = Ghcb::register(&mut claiming, page).unwrap();
    let result = make_private(&mut ghcb, &mut rmp, range(3, 4));
    assert!(matches!(result, Err(PageStateError::Psc(_))));
    assert_eq!(rmp.pvalidates, 0);
}
