//! permessage-deflate (RFC 7692) without context: every message by itself, so a connection keeps
//! nothing for it, and what is deflated once is right for everybody.
//!
//! An inflater and a deflater are a core's, made when the first message wants one.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::decoder::Violation;
use super::frame;

/// What the server answers to an offer that it takes.
pub const ACCEPTED: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// Bytes that end a flush, which are not sent: RFC 7692, 7.2.1.
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Of a buffer that one large message has needed, so much is kept.
const KEPT_BYTES: usize = 64 * 1024;

/// Whether the client offers what the server can do, in the values of `Sec-WebSocket-Extensions`.
/// An offer with a parameter that is unknown, doubled or wrong is not taken: RFC 7692, 7.1.
pub fn is_offered<'h>(headers: impl IntoIterator<Item = &'h str>) -> bool {
    let mut offers = headers.into_iter().flat_map(|header| header.split(','));
    offers.any(|offer| {
        let mut parts = offer.split(';').map(str::trim);
        if !parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("permessage-deflate"))
        {
            return false;
        }
        let mut seen = Vec::new();
        parts.all(|parameter| {
            let (name, value) = match parameter.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
                None => (parameter, None),
            };
            if seen.contains(&name) {
                return false;
            }
            seen.push(name);
            match (name, value) {
                ("client_max_window_bits", Some(bits)) => is_window(bits),
                // The window of the deflater here cannot be made smaller.
                ("server_max_window_bits", bits) => bits == Some("15"),
                (
                    "client_max_window_bits"
                    | "server_no_context_takeover"
                    | "client_no_context_takeover",
                    None,
                ) => true,
                _ => false,
            }
        })
    })
}

fn is_window(bits: &str) -> bool {
    matches!(bits, "8" | "9" | "10" | "11" | "12" | "13" | "14" | "15")
}

/// Makes messages of clients whole again.
#[derive(Debug)]
pub struct Inflater {
    state: Decompress,
    text: Vec<u8>,
}

impl Default for Inflater {
    fn default() -> Self {
        Self {
            state: Decompress::new(false),
            text: Vec::new(),
        }
    }
}

impl Inflater {
    /// The message that was deflated to `bytes`, if it has no more than `bytes_max`.
    pub fn inflate(&mut self, bytes: &[u8], bytes_max: usize) -> Result<&str, Violation> {
        self.state.reset(false);
        self.text.clear();
        self.text.shrink_to(KEPT_BYTES);
        for part in [bytes, &TAIL] {
            if self.put(part, bytes_max)? == Status::StreamEnd {
                break;
            }
        }
        str::from_utf8(&self.text).map_err(|_| Violation::NotUtf8)
    }

    fn put(&mut self, part: &[u8], bytes_max: usize) -> Result<Status, Violation> {
        let before = self.state.total_in();
        loop {
            let done = usize::try_from(self.state.total_in() - before).unwrap_or(usize::MAX);
            let rest = part.get(done..).unwrap_or_default();
            // Room for one byte too many, which is how a message that is too long shows.
            let room = bytes_max + 1 - self.text.len();
            self.text
                .reserve(room.min(rest.len().saturating_mul(4).max(1024)));
            let held = (self.text.len(), self.state.total_in());
            let status = self
                .state
                .decompress_vec(rest, &mut self.text, FlushDecompress::Sync);
            let status = status.map_err(|_| Violation::BadDeflate)?;
            if self.text.len() > bytes_max {
                return Err(Violation::MessageTooLarge { bytes_max });
            }
            if status == Status::StreamEnd {
                return Ok(status);
            }
            let is_full = self.text.len() == self.text.capacity();
            if !is_full && held == (self.text.len(), self.state.total_in()) {
                let is_through = self.state.total_in() - before == part.len() as u64;
                return is_through.then_some(status).ok_or(Violation::BadDeflate);
            }
        }
    }
}

/// Makes messages to clients small.
#[derive(Debug)]
pub struct Deflater(Compress);

impl Default for Deflater {
    fn default() -> Self {
        // The fastest level: at 100 subscribers of an event the next is no gain for its time.
        Self(Compress::new(Compression::fast(), false))
    }
}

impl Deflater {
    /// Appends `event`, a whole text frame, as a frame with its body deflated. False, and nothing is
    /// appended, if that is not smaller.
    pub fn deflate(&mut self, event: &[u8], out: &mut Vec<u8>) -> bool {
        let body = frame::body(event);
        let start = out.len();
        self.0.reset();
        let is_smaller = frame::deflated(out, |out| {
            out.reserve(body.len() + 64);
            let deflated = self.0.compress_vec(body, out, FlushCompress::Sync);
            let is_whole = deflated.is_ok() && self.0.total_in() == body.len() as u64;
            let length = out.len();
            if is_whole && out.ends_with(&TAIL) {
                out.truncate(length - TAIL.len());
                return true;
            }
            false
        }) && out.len() - start < event.len();
        if !is_smaller {
            out.truncate(start);
        }
        is_smaller
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offer_is_taken_if_all_of_it_can_be_kept() {
        for (headers, is_taken) in [
            (&["permessage-deflate"][..], true),
            (&["permessage-deflate; client_max_window_bits"], true),
            (&["Permessage-Deflate;client_max_window_bits=\"10\""], true),
            (
                &["permessage-deflate; server_no_context_takeover; client_no_context_takeover"],
                true,
            ),
            (&["permessage-deflate; server_max_window_bits=15"], true),
            (&["x-webkit-deflate-frame, permessage-deflate"], true),
            (&["foo", "permessage-deflate"], true),
            // The second offer is what it can be instead.
            (
                &["permessage-deflate; server_max_window_bits=10, permessage-deflate"],
                true,
            ),
            (&["permessage-deflate; server_max_window_bits=10"], false),
            (&["permessage-deflate; client_max_window_bits=16"], false),
            (&["permessage-deflate; client_max_window_bits=08"], false),
            (&["permessage-deflate; server_no_context_takeover=1"], false),
            (
                &["permessage-deflate; server_no_context_takeover; server_no_context_takeover"],
                false,
            ),
            (&["permessage-deflate; unknown"], false),
            (&["permessage-deflate;"], false),
            (&["permessage-deflatex", ""], false),
            (&[], false),
        ] {
            assert_eq!(is_offered(headers.iter().copied()), is_taken, "{headers:?}");
        }
    }

    fn deflated(text: &str) -> Vec<u8> {
        let (mut event, mut out) = (Vec::new(), Vec::new());
        frame::text(&mut event, |out| out.extend_from_slice(text.as_bytes()));
        assert!(Deflater::default().deflate(&event, &mut out));
        assert_eq!(out[0], 0xc1, "FIN, RSV1, text");
        frame::body(&out).to_vec()
    }

    #[test]
    fn what_is_deflated_is_smaller_and_comes_back_message_by_message() {
        let (mut inflater, mut deflater) = (Inflater::default(), Deflater::default());
        for bytes in [200, 3000, 70_000, 300_000] {
            let text = r#"{"a":1,"b":"é"}"#.repeat(bytes / 15);
            let mut event = Vec::new();
            frame::text(&mut event, |out| out.extend_from_slice(text.as_bytes()));
            // The same each time: nothing is kept from one message for the next.
            for _ in 0..2 {
                let mut out = b"before".to_vec();
                assert!(deflater.deflate(&event, &mut out));
                assert!(out.len() < event.len() / 2);
                let came = inflater.inflate(frame::body(&out[6..]), text.len());
                assert_eq!(came, Ok(&*text));
            }
        }
        let mut event = Vec::new();
        frame::text(&mut event, |out| out.extend_from_slice(b"x7"));
        let mut out = b"before".to_vec();
        assert!(!deflater.deflate(&event, &mut out));
        assert_eq!(out, b"before");
    }

    #[test]
    fn a_message_is_bounded_while_it_is_inflated() {
        let mut inflater = Inflater::default();
        let bomb = deflated(&"0".repeat(50_000_000));
        assert!(bomb.len() < 500_000, "{}", bomb.len());
        let bytes_max = 65_536;
        let too_large = Err(Violation::MessageTooLarge { bytes_max });
        assert_eq!(inflater.inflate(&bomb, bytes_max), too_large);
        assert!(inflater.text.capacity() < 2 * bytes_max);
        let exact = deflated(&"0".repeat(bytes_max));
        assert_eq!(
            inflater.inflate(&exact, bytes_max).map(str::len),
            Ok(bytes_max)
        );
        let over = deflated(&"0".repeat(bytes_max + 1));
        assert_eq!(inflater.inflate(&over, bytes_max), too_large);
    }

    #[test]
    fn what_is_no_deflate_is_a_violation() {
        let mut inflater = Inflater::default();
        let whole = deflated(&"abc".repeat(100));
        for bytes in [&whole[..whole.len() / 2], &[0xff; 30], b"plain text"] {
            let broken = inflater.inflate(bytes, 1000);
            assert_eq!(broken, Err(Violation::BadDeflate), "{bytes:?}");
        }
        // Latin-1 in a stored block.
        let latin = [0, 1, 0, 0xfe, 0xff, 0xe9];
        assert_eq!(inflater.inflate(&latin, 1000), Err(Violation::NotUtf8));
        // An empty message, and one whose last block says so, by the examples of RFC 7692, 7.2.3.
        assert_eq!(inflater.inflate(&[0], 1000), Ok(""));
        let hello = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
        assert_eq!(inflater.inflate(&hello, 1000), Ok("Hello"));
        let plain = [
            0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
        ];
        assert_eq!(inflater.inflate(&plain, 1000), Ok("Hello"));
    }
}
