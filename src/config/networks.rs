//! `TRUSTED_PROXIES`: networks whose word about clients counts.

use std::net::IpAddr;

use ipnet::IpNet;

/// Some networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<IpNet>);

impl Networks {
    /// Networks and addresses, comma separated; `None` where one of them is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let networks = text
            .split(',')
            .map(str::trim)
            .filter(|text| !text.is_empty());
        let network = |text: &str| {
            let whole = || text.parse::<IpAddr>().map(IpNet::from).ok();
            text.parse().ok().or_else(whole)
        };
        networks.map(network).collect::<Option<_>>().map(Self)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of them has `address`; a socket for both families shows IPv4 as a part of IPv6.
    pub fn have(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_their_addresses_and_no_others() {
        let networks = Networks::parse("10.0.0.0/8, 192.0.2.7,2001:db8::/32").expect("networks");
        for (address, is_in) in [
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
            ("::ffff:10.1.2.3", true),
        ] {
            let address = address.parse().expect("an address");
            assert_eq!(networks.have(address), is_in, "{address}");
        }
        assert!(Networks::parse(" , ").is_some_and(|networks| networks.is_empty()));
        for bad in ["10.0.0.0/33", "proxy.example", "10.0.0.0/8;::1"] {
            assert_eq!(Networks::parse(bad), None, "{bad}");
        }
    }
}
