//! A header of the PROXY protocol: whatever is taken for one names what a plain reading of the
//! specification names, and nothing panics.
#![no_main]

use std::net::SocketAddr;

use libfuzzer_sys::fuzz_target;
use shardcast::wire::proxy::client;

/// The client of a header in version 1, read word by word.
fn of_line(line: &str) -> Option<SocketAddr> {
    let words: Vec<_> = line.strip_suffix("\r\n")?.split(' ').collect();
    let ["PROXY", family, source, _, port, _] = words.as_slice() else {
        return None;
    };
    let address: std::net::IpAddr = source.parse().ok()?;
    let is_its = match *family {
        "TCP4" => address.is_ipv4(),
        "TCP6" => address.is_ipv6(),
        _ => false,
    };
    Some((address, port.parse().ok().filter(|_| is_its)?).into())
}

fuzz_target!(|header: &[u8]| {
    let Ok(named) = client(header) else {
        return;
    };
    if let Ok(line) = str::from_utf8(header)
        && line.starts_with("PROXY TCP")
    {
        let line = line.split_inclusive('\n').next().unwrap_or_default();
        assert_eq!(named, of_line(line), "{line:?}");
    }
});
