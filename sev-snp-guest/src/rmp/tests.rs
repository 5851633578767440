use super::*;
use crate::testing::{ModelRmp, Rng, gfn};

fn range(first: u64, frames: u64) -> FrameRange {
    FrameRange::new(gfn(first), frames).unwrap()
}

#[test]
fn statuses_have_their_meaning() {
    assert_eq!(pvalidate_result(0, false), Ok(()));
    assert_eq!(pvalidate_result(0, true), Err(RmpError::Unchanged));
    assert_eq!(pvalidate_result(1, false), Err(RmpError::Input));
    assert_eq!(pvalidate_result(6, false), Err(RmpError::SizeMismatch));
    assert_eq!(pvalidate_result(6, true), Err(RmpError::SizeMismatch));
    assert_eq!(pvalidate_result(2, true), Err(RmpError::Unknown(2)));
    assert_eq!(rmpadjust_result(0), Ok(()));
    assert_eq!(rmpadjust_result(1), Err(RmpError::Input));
    assert_eq!(rmpadjust_result(2), Err(RmpError::Permission));
    assert_eq!(rmpadjust_result(6), Err(RmpError::SizeMismatch));
    assert_eq!(rmpadjust_result(9), Err(RmpError::Unknown(9)));
}

#[test]
fn the_operand_of_rmpadjust_has_its_fields() {
    let adjust = RmpAdjust {
        vmpl: Vmpl::Vmpl2,
        permissions: Permissions::READ.union(Permissions::EXECUTE_SUPERVISOR),
        vmsa: true,
    };
    assert_eq!(adjust.operand(), 0x1_0902);
}

#[test]
fn large_pages_are_validated_at_once() {
    let mut rmp = ModelRmp::default();
    rmp.large.extend([512, 1024]);
    validate(&mut rmp, range(510, 2 + 1024 + 1)).unwrap();
    assert_eq!(rmp.pvalidates, 2 + 2 + 1);
    assert!(rmp.validated.iter().copied().eq(510..1537));
}

#[test]
fn a_size_mismatch_falls_back_to_small_pages() {
    let mut rmp = ModelRmp::default();
    rmp.large.insert(1024);
    validate(&mut rmp, range(512, 1024)).unwrap();
    assert_eq!(rmp.pvalidates, 1 + 512 + 1);
    assert!(rmp.validated.iter().copied().eq(512..1536));
    rescind(&mut rmp, range(512, 1024)).unwrap();
    assert!(rmp.validated.is_empty());
}

#[test]
fn double_validation_is_found_wherever_it_is() {
    for large in [false, true] {
        for twice in [512, 700, 1023, 1024] {
            let mut rmp = ModelRmp::default();
            if large {
                rmp.large.insert(512);
                rmp.validated
                    .extend(if twice < 1024 { 512..1024 } else { 1024..1025 });
            } else {
                rmp.validated.insert(twice);
            }
            let error = validate(&mut rmp, range(512, 513)).unwrap_err();
            let page = if large && twice < 1024 { 512 } else { twice };
            let expected = PvalidateError {
                page: gfn(page),
                error: RmpError::Unchanged,
            };
            assert_eq!(error, expected);
        }
    }
}

#[test]
fn rescinding_what_is_not_validated_is_an_error_too() {
    let error = rescind(&mut ModelRmp::default(), range(3, 1)).unwrap_err();
    assert_eq!(error.error, RmpError::Unchanged);
}

#[test]
fn a_size_mismatch_of_a_small_page_is_an_error() {
    let mut rmp = ModelRmp {
        failing: Some((600, RmpError::SizeMismatch)),
        ..ModelRmp::default()
    };
    let expected = PvalidateError {
        page: gfn(600),
        error: RmpError::SizeMismatch,
    };
    assert_eq!(validate(&mut rmp, range(512, 512)), Err(expected));
}

#[test]
fn any_mixture_of_page_sizes_validates_every_frame_once() {
    let mut rng = Rng(5);
    for _ in 0..50 {
        let mut rmp = ModelRmp::default();
        rmp.large.extend(
            (0..8)
                .filter(|_| rng.below(2) == 0)
                .map(|large| large * 512),
        );
        let first = rng.below(1024) as u64;
        let frames = rng.below(2048) as u64;
        validate(&mut rmp, range(first, frames)).unwrap();
        assert!(rmp.validated.iter().copied().eq(first..first + frames));
        rescind(&mut rmp, range(first, frames)).unwrap();
        assert!(rmp.validated.is_empty());
    }
}

#[test]
fn only_vmpl_0_makes_save_areas() {
    let mut rmp = ModelRmp::default();
    assert_eq!(runs_at_vmpl0(&mut rmp, gfn(9)), Ok(true));
    set_vmsa(&mut rmp, gfn(9)).unwrap();
    assert!(rmp.vmsas.contains(&9));
    clear_vmsa(&mut rmp, gfn(9)).unwrap();
    assert!(rmp.vmsas.is_empty());
    rmp.vmpl = 1;
    assert_eq!(runs_at_vmpl0(&mut rmp, gfn(9)), Ok(false));
    assert_eq!(set_vmsa(&mut rmp, gfn(9)), Err(RmpError::Permission));
}
