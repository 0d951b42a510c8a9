//! Lists of networks whose peers are trusted. Not for: names; a list holds numbers only.

use crate::value::quoted;
use std::net::{IpAddr, Ipv4Addr};

/// An IP network. A single address is a network of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// A text that is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNetwork {
    /// It reads like nothing known.
    #[error("{0} does not appear to be an IPv4 or IPv6 network")]
    Unreadable(String),
    /// The address goes on behind the prefix, so that it is unclear which network was meant.
    #[error("{0} has host bits set")]
    HostBits(String),
}

impl Network {
    /// Reads an address, or an address with a prefix length or netmask behind a slash.
    ///
    /// # Errors
    /// When the text is no network, or names a host within one.
    pub fn parse(text: &str) -> Result<Network, BadNetwork> {
        let unreadable = || BadNetwork::Unreadable(quoted(text));
        let (address, prefix) = match text.split_once('/') {
            None => (text, None),
            Some((address, prefix)) => (address, Some(prefix)),
        };
        let address: IpAddr = without_zone(address).parse().map_err(|_| unreadable())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => width,
            Some(digits) => prefix_length(digits, address.is_ipv4(), width).ok_or_else(unreadable)?,
        };
        let network = Network { address, prefix };
        if bits(address) != network.masked(address) {
            return Err(BadNetwork::HostBits(text.to_owned()));
        }
        Ok(network)
    }

    /// Tells whether the address lies in the network; never for one of the other IP version.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.address.is_ipv4() == ip.is_ipv4() && self.masked(ip) == bits(self.address)
    }

    fn masked(&self, ip: IpAddr) -> u128 {
        let width = if ip.is_ipv4() { 32 } else { 128 };
        let host_bits = width - u32::from(self.prefix);
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        bits(ip) & mask
    }
}

fn bits(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// Drops the interface of an IPv6 address, as in `fe80::1%eth0`: peers are compared by number alone, as in Gunicorn.
fn without_zone(text: &str) -> &str {
    match text.split_once('%') {
        Some((address, zone)) if address.contains(':') && !zone.is_empty() => address,
        _ => text,
    }
}

/// Reads `8`, and for IPv4 also `255.0.0.0` and `0.255.255.255`.
fn prefix_length(text: &str, is_v4: bool, width: u8) -> Option<u8> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().filter(|prefix| *prefix <= width);
    }
    let mask = text.parse::<Ipv4Addr>().ok().filter(|_| is_v4)?.to_bits();
    let whole = |mask: u32| mask.leading_ones() + mask.trailing_zeros() >= 32;
    let netmask = if whole(mask) { mask } else { Some(!mask).filter(|mask| whole(*mask))? };
    u8::try_from(netmask.leading_ones()).ok()
}

/// Who may do something: everybody, or the peers in some networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowList {
    everybody: bool,
    networks: Vec<Network>,
}

impl AllowList {
    /// Reads networks; `*` stands for everybody.
    ///
    /// # Errors
    /// When one is no network.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<AllowList, BadNetwork> {
        let mut list = AllowList::default();
        for text in texts {
            if text == "*" {
                list.everybody = true;
            } else {
                list.networks.push(Network::parse(text)?);
            }
        }
        Ok(list)
    }

    /// Tells whether the peer at this address is on the list.
    pub fn allows(&self, ip: IpAddr) -> bool {
        self.everybody || self.networks.iter().any(|network| network.contains(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_allow_whom_they_name() {
        let table: [(&str, &[&str], &[&str]); 8] = [
            ("127.0.0.1 ::1", &["127.0.0.1", "::1"], &["127.0.0.2", "::2", "::ffff:127.0.0.1"]),
            ("10.0.0.0/8", &["10.0.0.1", "10.255.255.255"], &["11.0.0.0", "::a00:1"]),
            ("10.0.0.0/255.0.0.0", &["10.1.2.3"], &["11.0.0.0"]),
            ("10.0.0.0/0.255.255.255", &["10.1.2.3"], &["11.0.0.0"]),
            ("0.0.0.0/0 2001:db8::/32", &["1.2.3.4", "2001:db8:ffff::1"], &["2001:db9::1"]),
            ("fe80::1%eth0", &["fe80::1"], &["fe80::2"]),
            ("*", &["1.2.3.4", "::2"], &[]),
            ("", &[], &["127.0.0.1"]),
        ];
        for (texts, inside, outside) in table {
            let list = AllowList::parse(texts.split_whitespace()).expect(texts);
            for ip in inside {
                assert!(list.allows(ip.parse().expect("an address")), "{texts} {ip}");
            }
            for ip in outside {
                assert!(!list.allows(ip.parse().expect("an address")), "{texts} {ip}");
            }
        }
    }

    #[test]
    fn bad_networks_are_named() {
        let table = [
            ("192.168.1.1/24", "192.168.1.1/24 has host bits set"),
            ("localhost", "'localhost' does not appear to be an IPv4 or IPv6 network"),
            ("10.0.0.0/33", "'10.0.0.0/33' does not appear to be an IPv4 or IPv6 network"),
            ("10.0.0.1%eth0", "'10.0.0.1%eth0' does not appear to be an IPv4 or IPv6 network"),
            ("10.0.0.0/", "'10.0.0.0/' does not appear to be an IPv4 or IPv6 network"),
            ("10.0.0.0/255.0.255.0", "'10.0.0.0/255.0.255.0' does not appear to be an IPv4 or IPv6 network"),
            ("", "'' does not appear to be an IPv4 or IPv6 network"),
        ];
        for (text, message) in table {
            assert_eq!(Network::parse(text).expect_err(text).to_string(), message);
        }
    }
}
