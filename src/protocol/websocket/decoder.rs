//! Bytes of a client to WebSocket messages: RFC 6455, the server's side, to the letter.
//!
//! Called by the reader with every byte of the connection that is not consumed yet. It does no I/O, reads no clock and
//! keeps no copy of a whole message: a message in one frame is unmasked where it lies and lent out of the input. Only
//! the parts of an unfinished fragmented message are kept, and never more of them than `message_bytes_max`.
//!
//! Invariant: whatever the cut of the input into reads, the same messages and the same violation come out. No input
//! panics.

use thiserror::Error;

use crate::protocol::codes::CloseCode;

/// The decoder of one connection.
///
/// After a [`Violation`] or a [`Message::Close`] the stream is over: what follows means nothing, and the decoder is to
/// be dropped.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The fragments so far; after the last one the whole message, until the next call gives the memory back.
    joined: Vec<u8>,
    /// A fragmented message has begun and its final frame has not come.
    is_unfinished: bool,
    /// permessage-deflate was agreed on.
    takes_deflated: bool,
    /// The fragmented message is deflated.
    is_deflated: bool,
    /// Bytes of the frame at the start of the input, header and payload, once its header has been found legal.
    wanted: usize,
}

// One for each connection.
const _: () = assert!(size_of::<Decoder>() <= 40);

/// What one call to [`Decoder::decode`] has achieved.
///
/// Nothing consumed means that more bytes are needed. Something consumed without a message means that a fragment was
/// taken in, and that the next call may find more.
#[derive(Debug)]
pub struct Step<'a> {
    /// Bytes at the start of the input that are done with.
    pub consumed: usize,
    /// The message that they complete.
    pub message: Option<Message<'a>>,
}

/// A message of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message, or a binary one that holds UTF-8: the protocol makes no difference.
    Text(&'a str),
    /// The same, deflated: it is still to be checked, and its size too.
    Deflated(&'a [u8]),
    /// To be answered with a pong that carries the same bytes, at most 125.
    Ping(&'a [u8]),
    /// An answer to a ping, or a heartbeat. Its payload says nothing here.
    Pong,
    /// To be answered with a close frame that carries the same code, or none; then the socket is closed.
    Close(Option<u16>),
}

/// How a client has broken RFC 6455, or a limit. Its `Display` is the reason for the close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Violation {
    /// RSV1, RSV2 or RSV3 is set where no extension that was agreed on sets it.
    #[error("reserved bit set in a frame header")]
    ReservedBit,
    /// Opcodes 3 to 7 and 11 to 15.
    #[error("unknown opcode {0}")]
    UnknownOpcode(u8),
    /// A continuation frame where nothing is to be continued.
    #[error("continuation frame without a message to continue")]
    StrayContinuation,
    /// A text or binary frame before the final frame of a fragmented message.
    #[error("new message before the end of a fragmented one")]
    UnfinishedMessage,
    /// A close, ping or pong frame without the FIN bit.
    #[error("fragmented control frame")]
    FragmentedControl,
    /// A frame without a mask.
    #[error("client frame without a mask")]
    Unmasked,
    /// A close, ping or pong frame with more payload than 125 bytes.
    #[error("control frame over 125 bytes")]
    ControlTooLarge,
    /// A length in more bytes than it needs.
    #[error("frame length not in its shortest form")]
    LengthNotMinimal,
    /// A length of 2⁶³ or more.
    #[error("frame length over 63 bits")]
    LengthTooLarge,
    /// A message, all its fragments together, over the limit.
    #[error("message over the limit of {bytes_max} bytes")]
    MessageTooLarge {
        /// The limit.
        bytes_max: usize,
    },
    /// A message that is not UTF-8. Binary counts like text: it may only hold UTF-8 JSON, so 1007 names the fault best.
    #[error("message is not UTF-8")]
    NotUtf8,
    /// A message that was said to be deflated, and is not.
    #[error("message cannot be inflated")]
    BadDeflate,
    /// A close frame whose payload is a single byte: half a code.
    #[error("close frame with half a code")]
    CloseCodeCut,
    /// A close code that must not be sent, or that nobody has defined.
    #[error("illegal close code {0}")]
    IllegalCloseCode(u16),
    /// A close frame whose reason is not UTF-8.
    #[error("close reason is not UTF-8")]
    CloseReasonNotUtf8,
}

impl Violation {
    /// The code to close the connection with.
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::MessageTooLarge { .. } => CloseCode::TOO_BIG,
            Self::NotUtf8 | Self::CloseReasonNotUtf8 | Self::BadDeflate => CloseCode::INVALID_DATA,
            Self::ReservedBit
            | Self::UnknownOpcode(_)
            | Self::StrayContinuation
            | Self::UnfinishedMessage
            | Self::FragmentedControl
            | Self::Unmasked
            | Self::ControlTooLarge
            | Self::LengthNotMinimal
            | Self::LengthTooLarge
            | Self::CloseCodeCut
            | Self::IllegalCloseCode(_) => CloseCode::PROTOCOL_ERROR,
        }
    }
}

impl Decoder {
    /// A decoder at the start of a connection. It allocates nothing until a fragmented message comes.
    pub fn new() -> Self {
        Self::default()
    }

    /// A decoder for a connection on which permessage-deflate was agreed on, or not.
    pub fn with_deflate(takes_deflated: bool) -> Self {
        Self {
            takes_deflated,
            ..Self::default()
        }
    }

    /// Takes the next frame from the start of `input`: all unconsumed bytes of the connection.
    ///
    /// The frame's payload is unmasked in place. An incomplete frame is left as it is, to be offered again with more
    /// bytes behind it; what its header breaks is reported all the same, before the payload comes.
    ///
    /// The memory of a joined message is given back by the next call, whether or not there is input. A caller that
    /// calls until nothing is consumed leaves no memory behind on an idle connection.
    pub fn decode<'a>(
        &'a mut self,
        input: &'a mut [u8],
        message_bytes_max: usize,
    ) -> Result<Step<'a>, Violation> {
        if !self.is_unfinished {
            self.joined = Vec::new();
        }
        self.wanted = 0;
        let Some(header) = self.header(input, message_bytes_max)? else {
            return Ok(Step::STARVED);
        };
        self.wanted = header.payload_start + header.payload_bytes;
        let Some(payload) = input
            .get_mut(header.payload_start..)
            .and_then(|rest| rest.get_mut(..header.payload_bytes))
        else {
            return Ok(Step::STARVED);
        };
        let consumed = header.payload_start + payload.len();
        fastwebsockets::unmask(payload, header.mask);

        let message = match header.opcode {
            Opcode::Ping => Some(Message::Ping(payload)),
            Opcode::Pong => Some(Message::Pong),
            Opcode::Close => Some(Message::Close(close_code(payload)?)),
            Opcode::Data if header.is_final => Some(data(payload, header.is_deflated)?),
            Opcode::Data | Opcode::Continuation => {
                self.is_deflated = header.is_deflated;
                self.join(payload, bytes_max(message_bytes_max, header.is_deflated));
                self.is_unfinished = !header.is_final;
                if header.is_final {
                    Some(data(&self.joined, self.is_deflated)?)
                } else {
                    None
                }
            }
        };
        Ok(Step { consumed, message })
    }

    /// Bytes of the frame that the last call to [`decode`](Self::decode) found unfinished, header and payload, or 0
    /// if its header is unfinished too. Legal and within the limit: a buffer may be sized by it, as far as it has come.
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// The header at the start of `input` if all of it is there and it is legal here. Byte for byte, so that a fault
    /// shows as soon as its byte has come, and the same fault however the bytes come.
    fn header(&self, input: &[u8], message_bytes_max: usize) -> Result<Option<Header>, Violation> {
        let Some((&first, rest)) = input.split_first() else {
            return Ok(None);
        };
        let is_final = first & FIN != 0;
        let opcode = self.opcode(first)?;
        let is_deflated = match opcode {
            Opcode::Continuation => self.is_deflated,
            _ => first & RSV1 != 0,
        };

        let Some((&second, rest)) = rest.split_first() else {
            return Ok(None);
        };
        if second & MASKED == 0 {
            return Err(Violation::Unmasked);
        }
        if opcode.is_control() && second & LENGTH > CONTROL_BYTES_MAX {
            return Err(Violation::ControlTooLarge);
        }

        let Some((length, rest)) = split_length(second, rest) else {
            return Ok(None);
        };
        if length < length_min(second) {
            return Err(Violation::LengthNotMinimal);
        }
        if length > i64::MAX.unsigned_abs() {
            return Err(Violation::LengthTooLarge);
        }
        let payload_bytes = usize::try_from(length).unwrap_or(usize::MAX);
        let frames_max = bytes_max(message_bytes_max, is_deflated);
        let room = frames_max.saturating_sub(self.joined.len());
        if !opcode.is_control() && payload_bytes > room {
            let bytes_max = message_bytes_max;
            return Err(Violation::MessageTooLarge { bytes_max });
        }

        let Some((&mask, rest)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        Ok(Some(Header {
            is_final,
            is_deflated,
            opcode,
            mask,
            payload_start: input.len() - rest.len(),
            payload_bytes,
        }))
    }

    /// The opcode of a frame's first byte, if such a frame may come now.
    fn opcode(&self, first: u8) -> Result<Opcode, Violation> {
        // RSV1 says that a message is deflated, in its first frame: RFC 7692, section 6.
        let may_be_deflated = self.takes_deflated && matches!(first & OPCODE, 1 | 2);
        let reserved = if may_be_deflated {
            RESERVED & !RSV1
        } else {
            RESERVED
        };
        if first & reserved != 0 {
            return Err(Violation::ReservedBit);
        }
        let opcode = match first & OPCODE {
            0 if !self.is_unfinished => return Err(Violation::StrayContinuation),
            0 => Opcode::Continuation,
            1 | 2 if self.is_unfinished => return Err(Violation::UnfinishedMessage),
            1 | 2 => Opcode::Data,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            unknown => return Err(Violation::UnknownOpcode(unknown)),
        };
        if opcode.is_control() && first & FIN == 0 {
            return Err(Violation::FragmentedControl);
        }
        Ok(opcode)
    }

    /// Appends a fragment. The capacity doubles, so that tiny fragments cost no more than their bytes, but stops at the
    /// limit, which `Vec` alone would overshoot.
    fn join(&mut self, fragment: &[u8], message_bytes_max: usize) {
        let needed = self.joined.len() + fragment.len();
        if needed > self.joined.capacity() {
            let doubled = self.joined.capacity().saturating_mul(2);
            let capacity = doubled.min(message_bytes_max).max(needed);
            self.joined.reserve_exact(capacity - self.joined.len());
        }
        self.joined.extend_from_slice(fragment);
    }
}

impl Step<'_> {
    /// More bytes are needed.
    const STARVED: Self = Self {
        consumed: 0,
        message: None,
    };
}

/// A complete header whose frame is legal at this place.
struct Header {
    is_final: bool,
    /// Of a message that is.
    is_deflated: bool,
    opcode: Opcode,
    mask: [u8; 4],
    payload_start: usize,
    payload_bytes: usize,
}

#[derive(Clone, Copy)]
enum Opcode {
    Continuation,
    /// Text or binary.
    Data,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

// The first byte of a header.
const FIN: u8 = 0b1000_0000;
const RESERVED: u8 = 0b0111_0000;
const RSV1: u8 = 0b0100_0000;
const OPCODE: u8 = 0b0000_1111;

// The second byte of a header.
const MASKED: u8 = 0b1000_0000;
const LENGTH: u8 = 0b0111_1111;
const LENGTH_IN_2_BYTES: u8 = 126;
const LENGTH_IN_8_BYTES: u8 = 127;

const CONTROL_BYTES_MAX: u8 = 125;

/// The payload's length and what follows it, from a header's second byte and the `rest` behind.
fn split_length(second: u8, rest: &[u8]) -> Option<(u64, &[u8])> {
    match second & LENGTH {
        LENGTH_IN_2_BYTES => {
            let (bytes, rest) = rest.split_first_chunk()?;
            Some((u16::from_be_bytes(*bytes).into(), rest))
        }
        LENGTH_IN_8_BYTES => {
            let (bytes, rest) = rest.split_first_chunk()?;
            Some((u64::from_be_bytes(*bytes), rest))
        }
        length => Some((length.into(), rest)),
    }
}

/// The least length that the second byte's form is the shortest for.
fn length_min(second: u8) -> u64 {
    match second & LENGTH {
        LENGTH_IN_2_BYTES => 126,
        LENGTH_IN_8_BYTES => 65_536,
        _ => 0,
    }
}

/// Bytes of the frames of a message that may have `message_bytes_max`. Deflated, one that cannot be
/// made smaller takes five bytes more for every block.
fn bytes_max(message_bytes_max: usize, is_deflated: bool) -> usize {
    let more = if is_deflated {
        message_bytes_max / 1024 + 64
    } else {
        0
    };
    message_bytes_max + more
}

fn data(payload: &[u8], is_deflated: bool) -> Result<Message<'_>, Violation> {
    if is_deflated {
        return Ok(Message::Deflated(payload));
    }
    match str::from_utf8(payload) {
        Ok(text) => Ok(Message::Text(text)),
        Err(_) => Err(Violation::NotUtf8),
    }
}

/// The code in a close frame's payload, if it may be sent over the wire: RFC 6455 §7.4, and 1012 to 1014 from IANA's
/// registry. The reason behind it is checked, and dropped.
fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(Violation::CloseCodeCut),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Violation::IllegalCloseCode(code));
    }
    if str::from_utf8(reason).is_err() {
        return Err(Violation::CloseReasonNotUtf8);
    }
    Ok(Some(code))
}

#[cfg(test)]
mod tests;
