//! One place to dial: `host:port`, or the path of a Unix socket. Nothing is resolved or opened here.
//!
//! Error texts never quote what was written: in a URL with a character that should have been percent-encoded, a part of
//! the password stands where the host or the port is expected.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use super::decode::decoded;

/// Longest path that fits `sockaddr_un`: 108 bytes with the zero at its end.
const UNIX_PATH_BYTES_MAX: usize = 107;
/// Longest DNS name as text.
const HOST_BYTES_MAX: usize = 253;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Endpoint {
    /// `name` is a host name or an IP address, without brackets.
    Host { name: String, port: u16 },
    /// Absolute.
    Unix(PathBuf),
}

impl Endpoint {
    /// `host:port`; the port may be missing where there is another for that case.
    pub(super) fn host(text: &str, otherwise: Option<u16>) -> Result<Self, String> {
        let (name, port) = match text.strip_prefix('[') {
            Some(inner) => {
                let (name, rest) = inner.split_once(']').ok_or("an IPv6 address in brackets needs a ] at its end")?;
                if name.parse::<Ipv6Addr>().is_err() {
                    return Err("expected an IPv6 address between the brackets, such as [::1]:6379".to_owned());
                }
                match rest.strip_prefix(':') {
                    Some(port) => (name, Some(port)),
                    None if rest.is_empty() => (name, None),
                    None => return Err("expected :port behind the brackets".to_owned()),
                }
            }
            None => {
                let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
                if port.is_some_and(|port| port.contains(':')) {
                    return Err("expected host:port, with an IPv6 address in brackets: [::1]:6379".to_owned());
                }
                check_name(name)?;
                (name, port)
            }
        };
        let port = match port {
            Some(port) => port_of(port).ok_or("expected a port from 1 to 65535 behind the host")?,
            None => otherwise.ok_or("expected host:port, but there is no port")?,
        };
        Ok(Self::Host { name: name.to_owned(), port })
    }

    /// The path of a `unix://` URL, percent-encoded.
    pub(super) fn unix(text: &str) -> Result<Self, String> {
        let path = decoded(text)?;
        if !path.starts_with('/') || path.ends_with('/') {
            return Err("expected the path of a socket with three slashes: unix:///run/redis.sock".to_owned());
        }
        if path.len() > UNIX_PATH_BYTES_MAX {
            return Err(format!(
                "the path of a Unix socket has at most {UNIX_PATH_BYTES_MAX} bytes; link it to a shorter one"
            ));
        }
        if path.contains('\0') {
            return Err("the path of a Unix socket cannot hold a zero byte".to_owned());
        }
        Ok(Self::Unix(path.into()))
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host { name, port } if name.contains(':') => write!(f, "[{name}]:{port}"),
            Self::Host { name, port } => write!(f, "{name}:{port}"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

fn port_of(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| is_number && *port > 0)
}

/// Underscores are not for host names, but container networks have them.
fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("expected host:port, but there is no host".to_owned());
    }
    let labels = || name.strip_suffix('.').unwrap_or(name).split('.');
    let is_word =
        |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
    if name.len() > HOST_BYTES_MAX || !labels().all(is_word) {
        return Err("expected a host of letters, digits, dots and hyphens".to_owned());
    }
    let is_numeric = labels().next_back().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    if is_numeric && name.parse::<Ipv4Addr>().is_err() {
        return Err("expected a host name or an IPv4 address, but its last part is only digits".to_owned());
    }
    Ok(())
}
