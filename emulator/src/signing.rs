//! The channel between L0 and the program on the host that signs reports.
//!
//! L0 holds no signing key. It sends [`REQUEST`] and the report's signed part, and gets back the
//! report's signature field (R and S as 72 little-endian bytes each, then zeros).

use crate::report::{SIGNATURE_BYTES, SIGNED_BYTES};

/// What comes before every report.
pub const REQUEST: &[u8; 4] = b"SIGN";

/// The part of a report that is signed.
pub type Signed = [u8; SIGNED_BYTES];
/// The signature's field.
pub type Signature = [u8; SIGNATURE_BYTES];

/// Answers requests until the stream ends.
#[cfg(all(feature = "std", not(feature = "l0")))]
pub fn serve<S: std::io::Read + std::io::Write>(
    mut stream: S,
    mut sign: impl FnMut(&Signed) -> Signature,
) -> std::io::Result<()> {
    use std::io::{Error, ErrorKind};
    loop {
        let mut request = [0; REQUEST.len()];
        match stream.read_exact(&mut request) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
        if request != *REQUEST {
            return Err(Error::new(ErrorKind::InvalidData, "not a request of L0"));
        }
        let mut report = [0; SIGNED_BYTES];
        stream.read_exact(&mut report)?;
        stream.write_all(&sign(&report))?;
        stream.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Cursor, Read, Write};

    struct Both(Cursor<Vec<u8>>, Vec<u8>);

    impl Read for Both {
        fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
            self.0.read(bytes)
        }
    }

    impl Write for Both {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.1.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_report_gets_its_signature() {
        let mut input = REQUEST.to_vec();
        input.resize(4 + SIGNED_BYTES, 7);
        let mut stream = Both(Cursor::new(input.repeat(2)), Vec::new());
        serve(&mut stream, |report| [report[0]; SIGNATURE_BYTES]).expect("two requests");
        assert_eq!(stream.1, [7; 2 * SIGNATURE_BYTES]);
        let mut wrong = Both(Cursor::new(vec![0; 4]), Vec::new());
        assert!(serve(&mut wrong, |_| [0; SIGNATURE_BYTES]).is_err());
    }
}
