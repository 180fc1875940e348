//! From the endpoint of a configuration, or of what a server tells about others, to addresses that can be dialled.
//!
//! On the threads of discovery: asking the name service may block for as long as it is set up to. Nothing is kept, so an
//! answer is as new as the name service has it.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use gyre_io::redis::Endpoint;

use super::trouble::{Trouble, What};
use crate::settings::redis;

/// All addresses of an endpoint, without repeats. Not empty.
pub(super) fn places(what: What, endpoint: &redis::Endpoint) -> Result<Vec<Endpoint>, Trouble> {
    let (name, port) = match endpoint {
        redis::Endpoint::Unix(path) => return Ok(vec![Endpoint::Unix(path.clone())]),
        redis::Endpoint::Host { name, port } => (&**name, *port),
    };
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(vec![Endpoint::Internet(SocketAddr::new(address, port))]);
    }
    let trouble = |cause| Trouble::Name { what, at: endpoint.to_string(), cause };
    let addresses = (name, port).to_socket_addrs().map_err(trouble)?;
    let name: Arc<str> = name.into();
    let mut places: Vec<Endpoint> = Vec::new();
    for address in addresses {
        let place = Endpoint::Named(Arc::clone(&name), address);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    match places.is_empty() {
        true => Err(trouble(io::Error::other("the name has no address"))),
        false => Ok(places),
    }
}

/// Whether there is nothing to resolve, now or later.
pub(super) fn is_fixed(endpoint: &redis::Endpoint) -> bool {
    match endpoint {
        redis::Endpoint::Unix(_) => true,
        redis::Endpoint::Host { name, .. } => name.parse::<IpAddr>().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(name: &str) -> redis::Endpoint {
        redis::Endpoint::Host { name: name.to_owned(), port: 6379 }
    }

    /// An address must not be sent to a name service that may not be there, and errors must show what was configured.
    #[test]
    fn addresses_and_names() {
        let of = |name: &str| places(What::Redis, &host(name)).map(|places| places[0].to_string());
        assert_eq!(of("10.1.2.3").unwrap(), "10.1.2.3:6379");
        assert_eq!(of("::1").unwrap(), "[::1]:6379");
        assert!(of("localhost").unwrap().starts_with("localhost ("));
        let text = of("name.invalid").unwrap_err().to_string();
        assert!(text.starts_with("cannot resolve the name of redis at name.invalid:6379: "), "{text}");
        assert!(is_fixed(&host("::1")) && !is_fixed(&host("localhost")));
    }
}
