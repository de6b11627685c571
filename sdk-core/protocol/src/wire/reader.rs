//! Reading the protobuf encoding straight from a slice: no copies, no panics, nothing allocated
//! before it is known to be there. Driven by the decoders of this module only.

use super::fault::Fault;

/// How a field is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireType {
    Varint,
    Fixed64,
    Length,
    StartGroup,
    EndGroup,
    Fixed32,
}

/// The number of a field and how it is laid out.
pub(super) type Tag = (u32, WireType);

/// What is left of a message.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8]) -> Reader<'a> {
        Reader { rest: message }
    }

    /// The next field, or none at the end of the message.
    #[inline]
    pub(super) fn tag(&mut self) -> Result<Option<Tag>, Fault> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = u32::try_from(self.varint()?)
            .map_err(|_| Fault::malformed("a field number is too large"))?;
        let number = key >> 3;
        if number == 0 {
            return Err(Fault::malformed("a field has the number 0"));
        }
        let wire_type = match key & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Length,
            3 => WireType::StartGroup,
            4 => WireType::EndGroup,
            5 => WireType::Fixed32,
            _ => return Err(Fault::malformed("a wire type is unknown")),
        };
        Ok(Some((number, wire_type)))
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, Fault> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Fault> {
        let mut value = 0;
        for (index, byte) in self.rest.iter().take(10).enumerate() {
            // The tenth byte holds the one bit that is left of 64.
            if index == 9 && *byte > 1 {
                return Err(Fault::malformed("a number has more than 64 bits"));
            }
            value |= u64::from(byte & 0x7F) << (7 * index);
            if *byte < 0x80 {
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(Fault::malformed("a number does not end"))
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or_else(truncated)?;
        self.rest = rest;
        Ok(*bytes)
    }

    /// A field's `uint64`.
    #[inline]
    pub(super) fn uint64(&mut self, wire_type: WireType) -> Result<u64, Fault> {
        expect(wire_type, WireType::Varint)?;
        self.varint()
    }

    /// A field's `uint32`; like every decoder, it keeps the low bits of a larger number.
    pub(super) fn uint32(&mut self, wire_type: WireType) -> Result<u32, Fault> {
        Ok(self.uint64(wire_type)? as u32)
    }

    pub(super) fn boolean(&mut self, wire_type: WireType) -> Result<bool, Fault> {
        Ok(self.uint64(wire_type)? != 0)
    }

    /// A field's `sint64`, in zigzag.
    pub(super) fn sint64(&mut self, wire_type: WireType) -> Result<i64, Fault> {
        let raw = self.uint64(wire_type)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    pub(super) fn fixed64(&mut self, wire_type: WireType) -> Result<u64, Fault> {
        expect(wire_type, WireType::Fixed64)?;
        self.fixed().map(u64::from_le_bytes)
    }

    pub(super) fn double(&mut self, wire_type: WireType) -> Result<f64, Fault> {
        self.fixed64(wire_type).map(f64::from_bits)
    }

    /// A field's bytes.
    #[inline]
    pub(super) fn bytes(&mut self, wire_type: WireType) -> Result<&'a [u8], Fault> {
        expect(wire_type, WireType::Length)?;
        let length = usize::try_from(self.varint()?).map_err(|_| truncated())?;
        let (bytes, rest) = self.rest.split_at_checked(length).ok_or_else(truncated)?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A field's text.
    #[inline]
    pub(super) fn text(&mut self, wire_type: WireType) -> Result<&'a str, Fault> {
        str::from_utf8(self.bytes(wire_type)?).map_err(|_| Fault::invalid("a text is not UTF-8"))
    }

    /// A field's message.
    #[inline]
    pub(super) fn message(&mut self, wire_type: WireType) -> Result<Reader<'a>, Fault> {
        self.bytes(wire_type).map(Reader::new)
    }

    /// Passes over a field that we do not know.
    pub(super) fn skip(&mut self, (number, wire_type): Tag) -> Result<(), Fault> {
        match wire_type {
            WireType::Varint => self.varint().map(drop),
            WireType::Fixed64 => self.fixed::<8>().map(drop),
            WireType::Length => self.bytes(wire_type).map(drop),
            WireType::Fixed32 => self.fixed::<4>().map(drop),
            WireType::StartGroup => self.skip_group(number),
            WireType::EndGroup => Err(Fault::malformed("a group ends that did not begin")),
        }
    }

    /// Without recursion: groups may be nested as deep as the frame is long.
    fn skip_group(&mut self, number: u32) -> Result<(), Fault> {
        let mut open = vec![number];
        while let Some(innermost) = open.last().copied() {
            match self.tag()?.ok_or_else(truncated)? {
                (number, WireType::StartGroup) if open.len() < MAX_GROUPS => open.push(number),
                (_, WireType::StartGroup) => {
                    return Err(Fault::malformed("groups are nested too deep"));
                }
                (number, WireType::EndGroup) if number == innermost => drop(open.pop()),
                tag => self.skip(tag)?,
            }
        }
        Ok(())
    }
}

/// Nobody sends groups any more.
const MAX_GROUPS: usize = 100;

fn expect(found: WireType, expected: WireType) -> Result<(), Fault> {
    if found == expected {
        return Ok(());
    }
    Err(Fault::malformed(format!("a field is {found:?} and should be {expected:?}")))
}

fn truncated() -> Fault {
    Fault::malformed("it ends in the middle of a field")
}
