//! The security processor's firmware: messages of the guest, and what is made for it.

use crate::hostile::Hostile;
use crate::log::log;
use crate::machine::Exit;
use crate::{memory, signer};
use cloister_emulator::derived_key::{self, Identity, KEY_BYTES, KeyRequest};
use cloister_emulator::digest::DIGEST_BYTES;
use cloister_emulator::ghcb::{GhcbError, field};
use cloister_emulator::guest_message::{Firmware, ReportRequest};
use cloister_emulator::page::Page;
use cloister_emulator::report::{self, CHIP_ID, Contents, LaunchParameters, REPORT_BYTES, TCB};

/// Status of the firmware's command when its pages are not shared.
const INVALID_ADDRESS: u64 = 0x09;

/// What the firmware knows of the guest.
struct Psp<'a> {
    hostile: &'a mut Hostile,
    launch: LaunchParameters,
    measurement: [u8; DIGEST_BYTES],
    cpu_signature: u32,
}

impl Firmware for Psp<'_> {
    fn report(&mut self, request: &ReportRequest) -> [u8; REPORT_BYTES] {
        log!("report for privilege level {}", request.vmpl);
        let mut report_data = request.report_data;
        self.hostile.report_data(&mut report_data);
        let mut report = report::unsigned(&Contents {
            launch: self.launch,
            report_data,
            vmpl: request.vmpl,
            measurement: self.measurement,
            report_id: signer::report_id(&self.measurement),
            chip_id: CHIP_ID,
            cpu_signature: self.cpu_signature,
        });
        signer::sign(&mut report);
        report
    }

    fn derive_key(&mut self, request: &KeyRequest) -> [u8; KEY_BYTES] {
        log!("derived key: {request:x?}");
        let root = derived_key::root_key(&CHIP_ID, &TCB);
        let guest = Identity {
            policy: self.launch.policy(),
            measurement: self.measurement,
        };
        request.derive(&root, &guest)
    }
}

/// A message to the SNP firmware. Gives `SW_EXITINFO2`: the firmware's status in the low half.
pub(crate) fn guest_request(exit: &mut Exit<'_>, request: u64, response: u64) -> u64 {
    let pages = (
        exit.platform.host(request, false),
        exit.platform.host(response, false),
    );
    let aligned = (request | response) & 0xfff == 0 && request != response;
    let (Some(request), Some(response), true) = (pages.0, pages.1, aligned) else {
        log!("guest request with pages {request:#x} and {response:#x}: not shared, or not pages");
        return INVALID_ADDRESS;
    };
    if let Some(status) = exit.platform.hostile.message_status() {
        return status;
    }
    let message = memory::read_page(request);
    let platform = &mut *exit.platform;
    let mut firmware = Psp {
        hostile: &mut platform.hostile,
        launch: platform.options.launch,
        measurement: platform.measurement,
        cpu_signature: platform.cpu_signature,
    };
    let answer = platform.channel.answer(&message, &mut firmware);
    platform.log_statistics();
    let hostile = &mut platform.hostile;
    match answer {
        Ok(mut answer) => {
            if hostile.is_for_another_guest() {
                answer = platform.channel.for_another_guest(answer);
            }
            hostile.response(&mut answer);
            memory::write_page(response, &answer);
            0
        }
        Err(error) => {
            log!("guest message refused: {error:?}");
            error as u64
        }
    }
}

/// The same with certificates, of which there are none: an empty table, as KVM gives.
pub(crate) fn extended_guest_request(
    exit: &mut Exit<'_>,
    page: &Page,
    request: u64,
    response: u64,
) -> Result<u64, GhcbError> {
    const EMPTY_TABLE_BYTES: usize = 24;
    let (buffer, pages) = (page.u64(field::RAX), page.u64(field::RBX));
    if pages > 0 {
        let host = exit
            .platform
            .host(buffer, false)
            .filter(|_| buffer & 0xfff == 0);
        let host = host.ok_or(GhcbError::InvalidInput)?;
        memory::write(host, &[0; EMPTY_TABLE_BYTES]);
    }
    Ok(guest_request(exit, request, response))
}
