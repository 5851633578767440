//! Walking DER, element by element, without giving up the encoded bytes.

use der::asn1::{AnyRef, BitStringRef, GeneralizedTime, UtcTime};
use der::{Decode, Reader, SliceReader, Tag, TagNumber};

/// The bytes are not DER of the expected shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotDer;

impl From<der::Error> for NotDer {
    fn from(_: der::Error) -> Self {
        Self
    }
}

/// One element: tag, content, and both together as they were encoded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) tag: Tag,
    pub(crate) value: &'a [u8],
    pub(crate) whole: &'a [u8],
}

impl<'a> Element<'a> {
    /// The content, if the tag is this one.
    pub(crate) fn expect(self, tag: Tag) -> Result<&'a [u8], NotDer> {
        if self.tag == tag {
            Ok(self.value)
        } else {
            Err(NotDer)
        }
    }

    /// The elements inside, if the tag is this one.
    pub(crate) fn enter(self, tag: Tag) -> Result<Elements<'a>, NotDer> {
        Elements::new(self.expect(tag)?)
    }

    /// Decodes the whole element.
    pub(crate) fn decode<T: Decode<'a>>(self) -> Result<T, NotDer> {
        T::from_der(self.whole).map_err(|_| NotDer)
    }

    /// The bytes of a bit string of whole bytes.
    pub(crate) fn bits(self) -> Result<&'a [u8], NotDer> {
        self.decode::<BitStringRef<'_>>()?.as_bytes().ok_or(NotDer)
    }

    /// A time in seconds since 1970, UTC.
    pub(crate) fn time(self) -> Result<u64, NotDer> {
        let since_1970 = match self.tag {
            Tag::UtcTime => self.decode::<UtcTime>()?.to_unix_duration(),
            Tag::GeneralizedTime => self.decode::<GeneralizedTime>()?.to_unix_duration(),
            _ => return Err(NotDer),
        };
        Ok(since_1970.as_secs())
    }

    /// The bytes of an integer that is not negative, without the zero that only keeps the sign.
    pub(crate) fn unsigned(self) -> Result<&'a [u8], NotDer> {
        match self.expect(Tag::Integer)? {
            [0] => Ok(&[]),
            [0, rest @ ..] if rest[0] & 0x80 != 0 => Ok(rest),
            number @ [1..=0x7f, ..] => Ok(number),
            _ => Err(NotDer),
        }
    }
}

/// Elements that stand one behind the other.
#[derive(Clone, Debug)]
pub(crate) struct Elements<'a>(SliceReader<'a>);

impl<'a> Elements<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, NotDer> {
        Ok(Self(SliceReader::new(bytes)?))
    }

    /// The next element.
    pub(crate) fn next(&mut self) -> Result<Element<'a>, NotDer> {
        let whole = self.0.tlv_bytes()?;
        let any = AnyRef::from_der(whole)?;
        Ok(Element {
            tag: der::Tagged::tag(&any),
            value: any.value(),
            whole,
        })
    }

    /// The next element, if there is one and its tag is this one.
    pub(crate) fn next_if(&mut self, tag: Tag) -> Result<Option<Element<'a>>, NotDer> {
        if self.is_empty() || Tag::peek(&self.0)? != tag {
            return Ok(None);
        }
        self.next().map(Some)
    }

    /// Whether all were read.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_finished()
    }

    /// # Errors
    /// When elements are left.
    pub(crate) fn finish(self) -> Result<(), NotDer> {
        if self.is_empty() { Ok(()) } else { Err(NotDer) }
    }
}

/// The only element of `bytes`.
pub(crate) fn single(bytes: &[u8]) -> Result<Element<'_>, NotDer> {
    let mut elements = Elements::new(bytes)?;
    let element = elements.next()?;
    elements.finish()?;
    Ok(element)
}

/// The tag of an explicitly tagged field.
pub(crate) const fn explicit(number: u32) -> Tag {
    Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(number),
    }
}
