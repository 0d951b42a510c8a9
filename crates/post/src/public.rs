//! Which addresses are anybody's in public: those at which a URL that a stranger has named may be looked up. Not for: names, which
//! may lead anywhere; what counts is where they lead when a connection is made.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Tells whether an address is reachable from everywhere, by the registries of special-purpose addresses (IANA; RFC 6890): no
/// loopback, no private network, no link, no multicast, no address that stands for another of those.
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let special = match (a, b, c) {
        // This network, private, loopback.
        (0 | 10 | 127, ..) => true,
        // Shared by carriers (RFC 6598).
        (100, 64..=127, _) => true,
        // The link, where clouds answer for their machines' secrets (RFC 3927).
        (169, 254, _) => true,
        (172, 16..=31, _) | (192, 168, _) => true,
        // Protocols, examples, relays of 6to4.
        (192, 0, 0 | 2) | (192, 88, 99) | (198, 51, 100) | (203, 0, 113) => true,
        // Benchmarks (RFC 2544).
        (198, 18..=19, _) => true,
        // Multicast, reserved, broadcast.
        (224..=255, ..) => true,
        _ => false,
    };
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    if let Some(ip) = meant(ip) {
        return is_public_v4(ip);
    }
    let [first, second, ..] = ip.segments();
    let is_example = first == 0x2001 && second == 0xdb8 || first & 0xfff0 == 0x3ff0;
    // Protocols (RFC 2928), Teredo among them.
    let is_protocol = first == 0x2001 && second < 0x200;
    // Global unicast is 2000::/3; whatever else there is, is none.
    first & 0xe000 == 0x2000 && !is_example && !is_protocol
}

/// Returns the address of version 4 that one of version 6 leads to.
fn meant(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match (a, b, c, d, e, f) {
        // Mapped, translated (RFC 6052).
        (0, 0, 0, 0, 0, 0xffff) | (0x64, 0xff9b, 0, 0, 0, 0) => Some(of(g, h)),
        // 6to4.
        (0x2002, ..) => Some(of(b, c)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_of_a_machine_or_its_networks_is_public() {
        let public = [
            "8.8.8.8",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
            "2002:808:808::1",
        ];
        let special = [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::a00:1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
        ];
        for (addresses, expected) in [(&public[..], true), (&special, false)] {
            for address in addresses {
                assert_eq!(is_public(address.parse().expect(address)), expected, "{address}");
            }
        }
    }
}
