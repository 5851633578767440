//! Asks a witness to cosign the checkpoint that a log publishes, and prints the checkpoint with the cosignature.
//!
//! `cargo run -p cloister-client --example ask_witness -- LOG-FOLDER-OR-URL WITNESS-URL WITNESS-VKEY`

use std::error::Error;
use std::time::Duration;

use cloister_client::remote_log::{LogLocation, LogSource};
use cloister_client::witness::ask_witness;
use cloister_transparency::VerifierKey;
use cloister_transparency::witness::AddCheckpoint;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [log, url, key] = arguments.as_slice() else {
        return Err("expected: LOG-FOLDER-OR-URL WITNESS-URL WITNESS-VKEY".into());
    };
    let (location, key): (LogLocation, _) = (log.parse()?, VerifierKey::parse(key)?);
    let source = LogSource::new(&location)?;
    let mut reader = source.reader();
    let mut checkpoint = reader.checkpoint()?;
    let size = checkpoint.checkpoint().size;
    let mut request = |old_size| {
        Ok(AddCheckpoint {
            old_size,
            proof: reader.consistency_proof(old_size, size)?,
            checkpoint: checkpoint.clone(),
        })
    };
    let signatures = ask_witness(url, &key, Duration::from_secs(60), 0, &mut request)?;
    for signature in signatures {
        checkpoint.note_mut().add(signature)?;
    }
    print!("{checkpoint}");
    Ok(())
}
