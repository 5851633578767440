//! Devices under the hypervisor's hand: what the guest reads of fw_cfg, the clock and the network card.

use super::Hostile;
use crate::machine::Exit;
use crate::{cpu, memory};
use cloister_emulator::ghcb::{Event as Request, Io, field};
use cloister_emulator::hostile::card::{CardLie, Queue};
use cloister_emulator::hostile::fw_cfg::{Transfer, TransferLie};
use cloister_emulator::hostile::{Deed, TimeLie};
use cloister_emulator::page::Page;
use cloister_emulator::vmcb::control;

const TIMER_STATE: u16 = 0x61;
const TIMER_ENDED: u32 = 1 << 5;
const DATE_DATA: u16 = 0x71;
const FILE_SELECTOR: u16 = 0x510;
const FILE_DATA: u16 = 0x511;
/// The second write starts the transfer.
const TRANSFER_ADDRESS: [u16; 2] = [0x514, 0x518];
const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;

/// Before a request is handled. True: it is not handled at all.
pub(crate) fn before(exit: &mut Exit<'_>, page: &Page, request: Request) -> bool {
    let hostile = &mut exit.platform.hostile;
    overwrite(hostile);
    match request {
        Request::Io(io) if !io.input => {
            let value = page.u64(field::RAX) as u32;
            write_port(hostile, io.port, value)
        }
        _ => false,
    }
}

fn write_port(hostile: &mut Hostile, port: u16, value: u32) -> bool {
    let [high, low] = TRANSFER_ADDRESS;
    match port {
        FILE_SELECTOR => hostile.reading.select(value as u16),
        CONFIG_ADDRESS => hostile.card.select_config(value),
        CONFIG_DATA => hostile.card.write_config(value),
        _ if port == high => hostile.transfers.high = value.swap_bytes(),
        _ if port == low => return start_transfer(hostile, value.swap_bytes()),
        _ => {}
    }
    false
}

/// The guest starts a transfer. True: it does not take place.
fn start_transfer(hostile: &mut Hostile, low: u32) -> bool {
    let Some(Deed::Transfer(lie)) = hostile.deed() else {
        return false;
    };
    let at = u64::from(hostile.transfers.high) << 32 | u64::from(low);
    let mut request = [0; Transfer::BYTES];
    memory::read(at, &mut request);
    let transfer = Transfer::parse(&request);
    let transfers = &mut hostile.transfers;
    transfers.count += 1;
    transfers.unread = Some(transfer);
    transfers.item = transfer.item().unwrap_or(transfers.item);
    let (count, item) = (transfers.count, transfers.item);
    let replace = |control: u32| memory::write(at, &control.to_be_bytes());
    match lie {
        TransferLie::Error => replace(Transfer::FAILED),
        TransferLie::Never => {}
        TransferLie::FromTheBeginning if count == 2 => {
            replace(transfer.selecting(item));
            hostile.done(format_args!("transfer 2 begins item {item:#x} anew"));
            return false;
        }
        _ => return false,
    }
    hostile.done(format_args!("transfer {count}: {lie:?}"));
    true
}

/// What a transfer brought is overwritten, once the guest has read it: it has, when it asks for anything else.
fn overwrite(hostile: &mut Hostile) {
    if hostile.deed() != Some(Deed::Transfer(TransferLie::Afterwards)) {
        return;
    }
    if let Some(Transfer { bytes, address, .. }) = hostile.transfers.unread.take() {
        (0..u64::from(bytes)).for_each(|at| memory::write(address + at, &[0xee]));
        hostile.done(format_args!("{bytes} bytes at {address:#x} overwritten"));
    }
}

/// After a request was handled.
pub(crate) fn after(exit: &mut Exit<'_>, page: &mut Page, request: Request) {
    let hostile = &mut exit.platform.hostile;
    match request {
        Request::Io(io) if io.input => {
            let value = page.u64(field::RAX) as u32;
            if let Some(told) = read_port(hostile, io, value) {
                page.set_u64(field::RAX, told.into());
                hostile.done(format_args!(
                    "port {:#x}: {told:#x}, not {value:#x}",
                    io.port
                ));
            }
        }
        Request::Io(io) if io.port == TRANSFER_ADDRESS[1] => flip(hostile),
        Request::ReadMmio(address, bytes, at) => {
            let value = data(page, at, bytes);
            if let Some(Deed::Card(lie)) = hostile.deed()
                && let Some(told) = hostile.card.read(lie, address, bytes, value)
            {
                page.set(at, &told.to_le_bytes()[..bytes]);
                hostile.done(format_args!(
                    "register {address:#x}: {told:#x}, not {value:#x}"
                ));
            }
        }
        Request::WriteMmio(address, bytes, at) => {
            let notified = hostile.card.write(address, data(page, at, bytes));
            if let Some(queue) = notified {
                after_notification(exit, queue);
            }
        }
        _ => {}
    }
}

fn data(page: &Page, at: usize, bytes: usize) -> u64 {
    let mut value = [0; 8];
    value[..bytes].copy_from_slice(&page.bytes()[at..at + bytes]);
    u64::from_le_bytes(value)
}

/// What is told in place of a port's true value.
fn read_port(hostile: &mut Hostile, io: Io, value: u32) -> Option<u32> {
    match (io.port, hostile.deed()?) {
        (FILE_DATA, _) => {
            let (item, offset) = hostile.reading.advance();
            let byte = hostile.forgery.as_ref()?.byte(item, offset)?;
            Some(byte.into())
        }
        (CONFIG_DATA, Deed::Card(lie)) => hostile.card.read_config(lie, value),
        (DATE_DATA, Deed::Time(TimeLie::Date)) => Some(0xff),
        (TIMER_STATE, Deed::Time(TimeLie::Timer)) => Some(value | TIMER_ENDED),
        _ => None,
    }
}

/// One bit of what a transfer brought.
fn flip(hostile: &mut Hostile) {
    let wanted = match hostile.deed() {
        Some(Deed::Transfer(TransferLie::Head)) => 1,
        Some(Deed::Transfer(TransferLie::Bit)) => 2,
        _ => return,
    };
    let Some(transfer) = hostile.transfers.unread.take() else {
        return;
    };
    if hostile.transfers.count == wanted {
        let at = transfer.address + u64::from(transfer.bytes / 2);
        let mut byte = [0];
        memory::read(at, &mut byte);
        memory::write(at, &[byte[0] ^ 1]);
        hostile.done(format_args!(
            "transfer {wanted}: one bit at {at:#x} flipped"
        ));
    }
}

/// The guest has told the card that a queue has something new.
fn after_notification(exit: &mut Exit<'_>, notified: u16) {
    let hostile = &mut exit.platform.hostile;
    hostile.after_first_report();
    match hostile.deed() {
        Some(Deed::Card(CardLie::Links)) => {
            hostile.card.queues().for_each(link_beyond);
            hostile.done(format_args!("all links of descriptors are 65535"));
        }
        Some(Deed::Card(lie)) => {
            if let (Some(queue), false) = (hostile.card.receive_queue(notified), hostile.is_done) {
                use_buffer(hostile, lie, queue);
            }
        }
        Some(Deed::Time(lie)) if hostile.responses > 0 && !hostile.is_done => {
            shift_clock(exit, lie);
        }
        _ => {}
    }
}

/// From now on the guest's timestamp counter is another one.
fn shift_clock(exit: &mut Exit<'_>, lie: TimeLie) {
    const FORWARD_TICKS: u64 = 1 << 44;
    let now = cpu::ticks();
    let offset = match lie {
        TimeLie::Back => exit.platform.started.wrapping_sub(now),
        TimeLie::Forward => FORWARD_TICKS,
        TimeLie::Date | TimeLie::Timer => return,
    };
    let then = now.wrapping_add(offset);
    let hostile = &mut exit.platform.hostile;
    hostile.done(format_args!("the counter goes on at {then}, not {now}"));
    exit.cpu.vmcb_mut().set_u64(control::TSC_OFFSET, offset);
}

fn link_beyond(queue: Queue) {
    const DESCRIPTOR_BYTES: u64 = 16;
    const NEXT: u64 = 14;
    for index in 0..u64::from(queue.size) {
        let next = queue.descriptors + index * DESCRIPTOR_BYTES + NEXT;
        memory::write(next, &[0xff; 2]);
    }
}

/// Gives a buffer back to the guest in the ring of used ones.
fn use_buffer(hostile: &mut Hostile, lie: CardLie, queue: Queue) {
    const INDEX: u64 = 2;
    const RING: u64 = 4;
    let mut index = [0; 2];
    memory::read(queue.used + INDEX, &mut index);
    let index = u16::from_le_bytes(index);
    if let Some((element, next)) = lie.used(index) {
        let slot = u64::from(index % queue.size.max(1));
        memory::write(queue.used + RING + slot * 8, &element);
        memory::write(queue.used + INDEX, &next.to_le_bytes());
        hostile.done(format_args!("used ring {index} to {next}: {element:x?}"));
    }
}
