//! Brings the host's files into private memory. Of the model pack nothing is believed that the image's
//! manifest does not name by its digest; what goes with the evidence is passed on unread.

use crate::device::fw_cfg::{File, FwCfg, FwCfgError, Reader};
use crate::memory::shared::SharedPool;
use crate::stop::Reason;
use alloc::vec;
use alloc::vec::Vec;
use cloister_boot::manifest::ModelRef;
use cloister_engine::pack::format::CHUNK_BYTES;
use cloister_engine::pack::{Head, PackError};
use cloister_engine::workers::Workers;
use cloister_protocol::evidence::{Enclosures, MAX_ENCLOSURE_BYTES};
use core::{fmt, mem};

/// Name of the host's file with the model pack.
pub const FILE: &str = "opt/cloister/model";
/// Name of the host's file with the certificates that go with the guest's reports.
pub const CERTIFICATES_FILE: &str = "opt/cloister/certificates";
/// Name of the host's file with the image's entry in a transparency log.
pub const RELEASE_NOTE_FILE: &str = "opt/cloister/release-note";
/// Name of the host's file with the proof that the log has it.
pub const RELEASE_PROOF_FILE: &str = "opt/cloister/release-proof";

/// Why the model was not loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoadError {
    /// The host has no such file.
    Missing,
    /// The file is shorter than the manifest says: has, needs, in bytes.
    Truncated(u64, u64),
    /// The file is longer than the manifest says: has, needs, in bytes.
    TooLong(u64, u64),
    /// The head is not the one that the manifest names.
    OtherImage,
    /// The head has the right digest and contradicts the manifest: a mistake when the image was
    /// built.
    Head,
    /// The bytes of this chunk (from 0) have another digest.
    Altered(usize),
    /// The host's device failed.
    Device(FwCfgError),
}

impl LoadError {
    /// The reason that the guest stops with.
    pub fn reason(self) -> Reason {
        match self {
            Self::Missing => Reason::ModelMissing,
            Self::Truncated(..) => Reason::ModelTruncated,
            Self::OtherImage => Reason::ModelOtherImage,
            Self::TooLong(..) | Self::Altered(_) => Reason::ModelAltered,
            Self::Head => Reason::ModelInvalid,
            Self::Device(_) => Reason::FirmwareConfig,
        }
    }
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Missing => write!(
                f,
                "this image needs its model pack: start with -fw_cfg name={FILE},file=model.pack"
            ),
            Self::Truncated(has, needs) => {
                write!(
                    f,
                    "the model pack has {has} of {needs} bytes: copy it again"
                )
            }
            Self::TooLong(has, needs) => {
                write!(f, "the model pack has {has} bytes instead of {needs}")
            }
            Self::OtherImage => f.write_str(
                "the model pack's head is not the one that this image names: it was built for \
                 another ROM or altered",
            ),
            Self::Head => f.write_str("the model pack's head contradicts the image's manifest"),
            Self::Altered(chunk) => {
                write!(f, "chunk {chunk} of the model pack differs from its digest")
            }
            Self::Device(error) => write!(f, "the firmware configuration device: {error:?}"),
        }
    }
}

impl From<FwCfgError> for LoadError {
    fn from(error: FwCfgError) -> Self {
        Self::Device(error)
    }
}

/// Chunks for each worker that are read in one go and then checked.
const BATCH_CHUNKS: usize = 8;

/// Fills the beginning of `memory` (at least `model.pack_bytes` long) with the model pack. Every
/// chunk is hashed where it then stays, in private memory: by all workers, while the first one, who
/// calls, has the host copy the next ones. `progress` hears now and then how many chunks of how many
/// are done.
pub fn model(
    model: &ModelRef,
    device: FwCfg<'_>,
    pool: &'static SharedPool,
    memory: &mut [u8],
    workers: &dyn Workers,
    progress: impl FnMut(usize, usize),
) -> Result<(), LoadError> {
    let file = device.find(FILE)?.ok_or(LoadError::Missing)?;
    let has = u64::from(file.bytes);
    if has < u64::from(model.head_bytes) {
        return Err(LoadError::Truncated(has, model.pack_bytes));
    }
    let pack_bytes = usize::try_from(model.pack_bytes).map_err(|_| LoadError::Head)?;
    let pack = memory.get_mut(..pack_bytes).ok_or(LoadError::Head)?;
    let (head, body) = pack
        .split_at_mut_checked(model.head_bytes as usize)
        .ok_or(LoadError::Head)?;
    let mut reader = device.open(file, pool)?;
    reader.read(head)?;
    if Head::root_of(head) != model.root {
        return Err(LoadError::OtherImage);
    }
    let head = Head::parse(head, &model.root).map_err(|_| LoadError::Head)?;
    if head.pack_bytes() != model.pack_bytes || head.head_bytes() != model.head_bytes as usize {
        return Err(LoadError::Head);
    }
    if has < model.pack_bytes {
        return Err(LoadError::Truncated(has, model.pack_bytes));
    }
    if has > model.pack_bytes {
        return Err(LoadError::TooLong(has, model.pack_bytes));
    }
    chunks(&head, body, &mut reader, workers, progress)
}

/// What the host hands the guest to go with its evidence; empty where it has no such file. It is not measured, and not
/// read here: a client judges it.
pub fn enclosures(device: FwCfg<'_>, pool: &'static SharedPool) -> Result<Enclosures, FwCfgError> {
    let names = [CERTIFICATES_FILE, RELEASE_NOTE_FILE, RELEASE_PROOF_FILE];
    let [certificates, release_note, release_proof] = device.find_all(names)?;
    let enclosure = |file| enclosure(device, pool, file);
    Ok(Enclosures {
        certificates: enclosure(certificates)?,
        release_note: enclosure(release_note)?,
        release_proof: enclosure(release_proof)?,
    })
}

fn enclosure(
    device: FwCfg<'_>,
    pool: &'static SharedPool,
    file: Option<File>,
) -> Result<Vec<u8>, FwCfgError> {
    let Some(file) = file else {
        return Ok(Vec::new());
    };
    if file.bytes > MAX_ENCLOSURE_BYTES as u32 {
        return Err(FwCfgError::TooLong(file.bytes));
    }
    let mut bytes = vec![0; file.bytes as usize];
    device.open(file, pool)?.read(&mut bytes)?;
    Ok(bytes)
}

fn chunks(
    head: &Head,
    body: &mut [u8],
    reader: &mut Reader<'_>,
    workers: &dyn Workers,
    mut progress: impl FnMut(usize, usize),
) -> Result<(), LoadError> {
    if (body.len() as u64).checked_add(head.head_bytes() as u64) != Some(head.pack_bytes()) {
        return Err(LoadError::Head);
    }
    // One processor alone hashes what it has just copied and still has in its cache.
    let batch_chunks = match workers.count() {
        1 => 1,
        count => count * BATCH_CHUNKS,
    };
    let (mut rest, mut here, mut checked) = (body, &[][..], 0);
    loop {
        let length = rest.len().min(batch_chunks * CHUNK_BYTES);
        let (coming, behind) = mem::take(&mut rest).split_at_mut(length);
        rest = behind;
        let mut outcome = Ok(());
        let sound = head.check_chunks(workers, checked, here, || outcome = reader.read(coming));
        // What arrived first is judged first, as if there were no others.
        sound.map_err(|error| match error {
            PackError::Chunk { index } => LoadError::Altered(index),
            _ => LoadError::Head,
        })?;
        outcome?;
        if !here.is_empty() {
            checked += here.len().div_ceil(CHUNK_BYTES);
            progress(checked, head.chunks());
        }
        if coming.is_empty() {
            break;
        }
        here = coming;
    }
    match checked == head.chunks() {
        true => Ok(()),
        false => Err(LoadError::Head),
    }
}

#[cfg(test)]
mod tests;
