//! The PROXY protocol, v1 and v2: a proxy says in front of everything else whom it speaks for.
//!
//! The header is taken off the socket to the byte, so that what follows it, a TLS handshake or a
//! request, finds the socket as if there had been no proxy.
//!
//! Specification: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>

use std::io;
use std::net::SocketAddr;

use ppp::{HeaderResult, v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// The longest header that is read: v1 has at most 107 bytes, v2 its addresses and what a proxy
/// adds to them.
const HEADER_BYTES_MAX: usize = 4096;

/// The longest of v1, with its end of the line.
const LINE_BYTES_MAX: usize = 107;

/// What v2 begins with: who it is, the command, and the length of the rest.
const FIXED_BYTES: usize = 16;

/// What tells the two versions apart, and is shorter than either.
const FIRST_BYTES: usize = 12;

/// Reads the header from `socket`. The client that it names, `None` where the proxy speaks for
/// itself or does not know.
pub(crate) async fn read(socket: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; FIRST_BYTES];
    socket.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        header.resize(FIXED_BYTES, 0);
        socket.read_exact(&mut header[FIRST_BYTES..]).await?;
        let rest = usize::from(u16::from_be_bytes([header[14], header[15]]));
        if FIXED_BYTES + rest > HEADER_BYTES_MAX {
            return Err(broken("it is too long"));
        }
        header.resize(FIXED_BYTES + rest, 0);
        socket.read_exact(&mut header[FIXED_BYTES..]).await?;
    } else if header.starts_with(b"PROXY ") {
        read_line(socket, &mut header).await?;
    } else {
        return Err(broken("there is none"));
    }
    client(&header)
}

/// Reads the rest of a line of v1, and nothing behind it.
async fn read_line(socket: &mut TcpStream, line: &mut Vec<u8>) -> io::Result<()> {
    let mut ahead = [0; LINE_BYTES_MAX];
    while !line.ends_with(b"\n") {
        let room = LINE_BYTES_MAX - line.len();
        if room == 0 {
            return Err(broken("its line is too long"));
        }
        let seen = socket.peek(&mut ahead[..room]).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = ahead[..seen].iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(seen, |end| end + 1);
        socket.read_exact(&mut ahead[..taken]).await?;
        line.extend_from_slice(&ahead[..taken]);
    }
    Ok(())
}

/// Whom a whole header names.
pub fn client(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    // ppp takes any white space in front of the last byte.
    if header.starts_with(b"PROXY") && !header.ends_with(b"\r\n") {
        return Err(broken("its line has no end"));
    }
    let client = match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(header)) => match header.addresses {
            v1::Addresses::Tcp4(of) => Some((of.source_address, of.source_port).into()),
            v1::Addresses::Tcp6(of) => Some((of.source_address, of.source_port).into()),
            v1::Addresses::Unknown => None,
        },
        HeaderResult::V2(Ok(header)) => match (header.command, header.addresses) {
            (v2::Command::Proxy, v2::Addresses::IPv4(of)) => {
                Some((of.source_address, of.source_port).into())
            }
            (v2::Command::Proxy, v2::Addresses::IPv6(of)) => {
                Some((of.source_address, of.source_port).into())
            }
            // The proxy speaks for itself, or does not know for whom.
            _ => None,
        },
        HeaderResult::V1(Err(error)) => return Err(broken(&error.to_string())),
        HeaderResult::V2(Err(error)) => return Err(broken(&error.to_string())),
    };
    Ok(client)
}

fn broken(why: &str) -> io::Error {
    let text = format!("no header of the PROXY protocol: {why}");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("short");
        let head = [
            v2::PROTOCOL_PREFIX,
            &[command, family],
            &length.to_be_bytes(),
        ];
        [head.concat(), body.to_vec()].concat()
    }

    #[test]
    fn both_versions_name_the_client() {
        let four = [192, 0, 2, 7, 10, 0, 0, 1, 0xC3, 0x50, 0x1F, 0x90];
        let mut six = [0; 36];
        six[..4].copy_from_slice(&[0x20, 1, 0x0D, 0xB8]);
        (six[15], six[32], six[33]) = (7, 0x01, 0xBB);
        for (header, client_is) in [
            (
                b"PROXY TCP4 192.0.2.7 10.0.0.1 50000 8080\r\n".to_vec(),
                Some("192.0.2.7:50000"),
            ),
            (
                b"PROXY TCP6 2001:db8::7 ::1 443 8080\r\n".to_vec(),
                Some("[2001:db8::7]:443"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ff:ff::1 x y z\r\n".to_vec(), None),
            (v2(0x21, 0x11, &four), Some("192.0.2.7:50000")),
            (v2(0x21, 0x21, &six), Some("[2001:db8::7]:443")),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0x11, &four), None),
            (v2(0x21, 0x00, &[]), None),
            // Behind the addresses may stand what a proxy likes to add.
            (
                v2(0x21, 0x11, &[&four[..], &[4, 0, 1, 0]].concat()),
                Some("192.0.2.7:50000"),
            ),
        ] {
            let named = client(&header).expect("a good header");
            let wanted = client_is.map(|text| text.parse().expect("an address"));
            assert_eq!(named, wanted, "{header:?}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for header in [
            b"PROXY TCP4 192.0.2.7 10.0.0.1 50000\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::7 10.0.0.1 1 2\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 70000 8080\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 1 2 \n".to_vec(),
            b"PROXY UDP4 192.0.2.7 10.0.0.1 1 2\r\n".to_vec(),
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            v2(0x31, 0x11, &[0; 12]),
            v2(0x2F, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 4]),
        ] {
            assert!(client(&header).is_err(), "{header:?}");
        }
    }
}
