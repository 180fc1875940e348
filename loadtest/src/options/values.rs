//! Values of options: counts with suffixes, durations, endpoints, source addresses, the number of cores.
//!
//! Pure parsers. An error says what was expected; clap prints it with the option's name and ends with exit code 2.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use gyre_tuning::count::{grouped, parse};
use serde::{Serialize, Serializer};

/// No run comes near, and what is computed from counts (subscribers of all channels, twice over) fits into 64 bits.
const COUNT_MAX: u64 = 1_000_000_000;

/// A count, 0 included: `250`, `20k`, `1.5m`.
pub(super) fn count(text: &str) -> Result<u64, String> {
    within(0..=COUNT_MAX, text)
}

/// A count that is not 0.
pub(super) fn at_least_one(text: &str) -> Result<u64, String> {
    within(1..=COUNT_MAX, text)
}

/// Bytes of a payload. Below 64 the channel number, sequence and time do not fit; above 1 MiB no server's default does.
pub(super) fn size(text: &str) -> Result<u64, String> {
    within(64..=1_048_576, text)
}

/// Publications of one call. A call counts its replies in 16 bits.
pub(super) fn batch(text: &str) -> Result<u64, String> {
    within(1..=10_000, text)
}

/// Subscriptions of one client, which counts them in a byte.
pub(super) fn subscriptions(text: &str) -> Result<u64, String> {
    within(1..=u64::from(u8::MAX), text)
}

fn within(range: RangeInclusive<u64>, text: &str) -> Result<u64, String> {
    let value = parse(text)?;
    let (least, most) = (grouped(*range.start()), grouped(*range.end()));
    if range.contains(&value) { Ok(value) } else { Err(format!("must be between {least} and {most}")) }
}

/// A duration: numbers with the units h, m, s, ms, us: `500ms`, `30s`, `1h30m`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no duration; write 500ms, 30s, 10m or 1h30m");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let value: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let seconds = match &rest[..unit] {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" => 1e-6,
            _ => return Err(wrong()),
        };
        let part = Duration::try_from_secs_f64(value * seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = &rest[unit..];
    }
    if text.is_empty() || total > Duration::from_secs(30 * 86_400) { Err(wrong()) } else { Ok(total) }
}

/// Durations are recorded in milliseconds.
pub(super) fn as_millis<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{}ms", value.as_millis()))
}

/// Threads of the generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CoreCount {
    /// As many as the connections need, and at least one per two CPUs.
    Auto,
    /// So many.
    Count(usize),
}

impl FromStr for CoreCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(count @ 1..=256) => Ok(Self::Count(count)),
            _ if text == "auto" => Ok(Self::Auto),
            _ => Err("must be `auto` or a number from 1 to 256".to_owned()),
        }
    }
}

/// An endpoint: scheme, host, port and path of a `ws://` or `http://` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub host: String,
    pub port: u16,
    /// Path with its query, starting with `/`.
    pub path: String,
    scheme: &'static str,
}

impl Target {
    /// Value of the Host header.
    #[must_use]
    pub fn authority(&self) -> String {
        let brackets = self.host.contains(':');
        if brackets { format!("[{}]:{}", self.host, self.port) } else { format!("{}:{}", self.host, self.port) }
    }

    /// The HTTP endpoint of another path on the same host and port.
    #[must_use]
    pub fn with_path(&self, path: &str) -> Self {
        Self { path: path.to_owned(), scheme: "http", ..self.clone() }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = match text.split_once("://") {
            Some(("ws", rest)) => ("ws", rest),
            Some(("http", rest)) => ("http", rest),
            Some(("wss" | "https", _)) => {
                return Err("TLS is not supported; test behind it, at the plain port of the server".to_owned());
            }
            _ => return Err("must begin with ws:// or http://".to_owned()),
        };
        let (authority, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            // What is no port is refused below.
            Some((host, port)) => (host, Some(port.strip_prefix(':').unwrap_or(port))),
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let port = port.map_or(Ok(80), str::parse).map_err(|_| format!("`{authority}` has no valid port"))?;
        let is_visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if host.is_empty() || port == 0 || !is_visible(host) || !is_visible(path) {
            return Err("must be like ws://host:port/path".to_owned());
        }
        Ok(Self { host: host.to_owned(), port, path: path.to_owned(), scheme })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority(), self.path)
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Local addresses: networks and addresses, separated by commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sources {
    text: String,
    addresses: Vec<IpAddr>,
}

impl Sources {
    /// More would only cost memory: 4096 addresses carry 100 million connections to one port.
    const ADDRESSES_MAX: usize = 4096;

    /// The addresses, in order.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.addresses.clone()
    }
}

impl FromStr for Sources {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut addresses = Vec::new();
        for part in text.split(',') {
            match part.split_once('/') {
                None => addresses.push(part.parse().map_err(|_| format!("`{part}` is no IP address"))?),
                Some((address, bits)) => addresses.extend(network(part, address, bits)?),
            }
        }
        if addresses.len() > Self::ADDRESSES_MAX {
            return Err(format!("{} addresses; at most {}", addresses.len(), Self::ADDRESSES_MAX));
        }
        Ok(Self { text: text.to_owned(), addresses })
    }
}

/// Hosts of a network: without its first and last address, which IPv4 keeps for itself.
fn network(part: &str, address: &str, bits: &str) -> Result<Vec<IpAddr>, String> {
    let wrong = || format!("`{part}` is no network; write 127.0.0.0/26");
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let width: u32 = if address.is_ipv4() { 32 } else { 128 };
    let bits: u32 = bits.parse().ok().filter(|bits| *bits <= width).ok_or_else(wrong)?;
    let host_bits = width - bits;
    if host_bits > 12 {
        return Err(format!("`{part}` is too large; at most 4096 addresses: /{}", width - 12));
    }
    let mask = (1_u128 << host_bits) - 1;
    let first = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    } & !mask;
    let (skip_first, skip_last) = if host_bits >= 2 { (1, 1) } else { (0, 0) };
    let hosts = (first + skip_first)..=(first + mask - skip_last);
    let to_address = |bits: u128| match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(bits as u32)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    };
    Ok(hosts.map(to_address).collect())
}

impl Serialize for Sources {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts are multiplied and narrowed later: one that is too large would wrap into a small one.
    #[test]
    fn counts_have_bounds() {
        assert_eq!((count("0"), count("1.5m"), count("1g")), (Ok(0), Ok(1_500_000), Ok(COUNT_MAX)));
        for text in ["-1", "1001m", "99999999999999999999"] {
            assert!(count(text).is_err(), "{text}");
        }
        assert_eq!(at_least_one("0"), Err("must be between 1 and 1,000,000,000".to_owned()));
        assert_eq!((batch("10k"), subscriptions("255")), (Ok(10_000), Ok(255)));
        assert!(batch("65536").is_err() && subscriptions("256").is_err());
    }

    /// `10m` is ten minutes here and ten million beside it; neither may be taken for the other.
    #[test]
    fn durations() {
        for (text, ms) in [("500ms", 500), ("30s", 30_000), ("10m", 600_000), ("1h30m", 5_400_000), ("1.5s", 1_500)] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        let sum = "9999999999999999999s9999999999999999999s";
        for text in ["", "10", "s", "10x", "-1s", "1..5s", "1e9h", "99999999h", sum] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    /// A wrong Host header or path makes a server refuse every client.
    #[test]
    fn targets() {
        let target: Target = "ws://example.org:8000/connection/websocket?a=b".parse().unwrap();
        assert_eq!(
            (target.authority().as_str(), target.path.as_str()),
            ("example.org:8000", "/connection/websocket?a=b")
        );
        let target: Target = "http://[::1]:9/api".parse().unwrap();
        assert_eq!(target.to_string(), "http://[::1]:9/api");
        assert_eq!("ws://h".parse::<Target>().unwrap().to_string(), "ws://h:80/");
        for text in ["h:8000", "wss://h/", "ws://:8000/", "ws://h:0/", "ws://h:x/", "ws://h/a b", "ws://[::1]x/"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    /// Binding to a network's own address fails for one client in 64.
    #[test]
    fn networks() {
        let sources: Sources = "127.0.0.0/26,10.0.0.7".parse().unwrap();
        let addresses = sources.addresses();
        assert_eq!((addresses.len(), addresses[0].to_string().as_str()), (63, "127.0.0.1"));
        assert_eq!(addresses[61].to_string(), "127.0.0.62");
        assert_eq!("127.0.0.5/32".parse::<Sources>().unwrap().addresses().len(), 1);
        for text in ["", "127.0.0.0/33", "10.0.0.0/8", "x/24", "::/64"] {
            assert!(text.parse::<Sources>().is_err(), "{text}");
        }
    }
}
