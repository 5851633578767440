use super::fake::Host;
use super::*;
use crate::memory::shared::SharedPool;

fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * 31 + i / 1000) as u8).collect()
}

fn pool() -> &'static SharedPool {
    SharedPool::for_tests(BOUNCE_PAGES + 1)
}

#[test]
fn only_the_right_signature_is_a_device() {
    assert!(FwCfg::new(Host::default().platform()).is_ok());
    let other = Host {
        signature: Some([0xff; 4]),
        ..Host::default()
    };
    assert_eq!(
        FwCfg::new(other.platform()).err(),
        Some(FwCfgError::NoDevice)
    );
}

#[test]
fn files_are_found_by_their_whole_name() {
    let mut host = Host::with("opt/a", b"first");
    host.files.push(("opt/ab".into(), 6, b"second".to_vec()));
    host.files.push(("x".repeat(NAME_BYTES), 1, b"!".to_vec()));
    let device = host.device();
    let mut buffer = [0; 16];
    let file = device.find("opt/ab").unwrap().unwrap();
    assert_eq!(device.read_small(file, &mut buffer).unwrap(), b"second");
    assert!(device.find("opt/").unwrap().is_none());
    assert!(device.find("opt/abc").unwrap().is_none());
    assert!(device.find(&"x".repeat(NAME_BYTES)).unwrap().is_some());
    let both = device.find_all(["opt/", "opt/ab"]).unwrap();
    assert_eq!(both, [None, Some(file)]);
    assert!(device.find(&"x".repeat(NAME_BYTES + 1)).unwrap().is_none());
}

#[test]
fn a_directory_that_lies_about_its_length_is_bounded() {
    let host = Host {
        count: Some(u32::MAX),
        ..Host::with("a", b"")
    };
    assert_eq!(
        host.device().find("a"),
        Err(FwCfgError::TooManyFiles(u32::MAX))
    );
    let host = Host {
        count: Some(FILES_MAX),
        ..Host::with("a", b"")
    };
    assert_eq!(host.device().find("b"), Ok(None));
    let host = Host {
        count: Some(0),
        ..Host::with("a", b"")
    };
    assert_eq!(host.device().find("a"), Ok(None));
}

#[test]
fn an_item_that_no_file_has_is_refused() {
    let host = Host {
        first_item: Some(ITEM_DIRECTORY),
        ..Host::with("a", b"x")
    };
    assert_eq!(
        host.device().find("a"),
        Err(FwCfgError::Item(ITEM_DIRECTORY))
    );
}

#[test]
fn a_small_file_must_fit() {
    let mut host = Host::with("a", b"1234");
    host.files[0].1 = 5;
    let device = host.device();
    let file = device.find("a").unwrap().unwrap();
    assert_eq!(
        device.read_small(file, &mut [0; 4]).unwrap_err(),
        FwCfgError::TooLong(5)
    );
    assert_eq!(device.read_small(file, &mut [0; 5]).unwrap(), b"1234\0");
}

#[test]
fn an_empty_file_is_empty() {
    let device = Host::with("a", b"").device();
    let file = device.find("a").unwrap().unwrap();
    assert_eq!(file.bytes, 0);
    let mut reader = device.open(file, pool()).unwrap();
    assert_eq!(reader.read(&mut []), Ok(()));
    assert_eq!(reader.read(&mut [0]), Err(FwCfgError::BeyondEnd));
}

#[test]
fn large_files_come_in_pieces_and_in_order() {
    let content = content(3 * BOUNCE_PAGES * PAGE_BYTES as usize / 2 + 77);
    let device = Host::with("big", &content).device();
    let file = device.find("big").unwrap().unwrap();
    let mut reader = device.open(file, pool()).unwrap();
    let mut copy = vec![0; content.len()];
    let (head, rest) = copy.split_at_mut(1000);
    reader.read(head).unwrap();
    reader.read(rest).unwrap();
    assert_eq!(copy, content);
    assert_eq!(reader.read(&mut [0]), Err(FwCfgError::BeyondEnd));
}

#[test]
fn a_device_that_fails_or_never_ends_is_noticed() {
    for (dma_outcome, error) in [
        (DMA_ERROR, FwCfgError::Device),
        (u32::MAX, FwCfgError::Device),
        (2, FwCfgError::Stuck),
    ] {
        let device = Host {
            dma_outcome,
            ..Host::with("a", &content(100))
        }
        .device();
        let file = device.find("a").unwrap().unwrap();
        let mut reader = device.open(file, pool()).unwrap();
        assert_eq!(reader.read(&mut [0; 100]), Err(error));
    }
}

#[test]
fn a_full_pool_is_an_error() {
    let device = Host::with("a", b"x").device();
    let file = device.find("a").unwrap().unwrap();
    let outcome = device.open(file, SharedPool::for_tests(BOUNCE_PAGES));
    assert_eq!(outcome.err(), Some(FwCfgError::NoBuffer));
}
