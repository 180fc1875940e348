//! Names of backends, looked up on threads that may wait for as long as the system's resolver does.
//!
//! One look-up per backend at a time, for all calls that want it: a resolver that hangs would otherwise get a thread for each
//! call, until there is none left for other backends. Whoever asks may go; the look-up ends when it ends.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::vec::IntoIter;

use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tower::Service;

/// Looks up the names of one backend.
#[derive(Clone)]
pub(super) struct Names {
    look_up: fn(&str) -> io::Result<Vec<SocketAddr>>,
    /// Locked while one is under way.
    latest: Arc<Mutex<Option<Found>>>,
}

/// What came of a look-up.
struct Found {
    name: String,
    at: Instant,
    /// Without addresses, what was wrong.
    addresses: Result<Vec<SocketAddr>, (io::ErrorKind, String)>,
}

impl Names {
    pub(super) fn new() -> Self {
        Self { look_up: |name| Ok((name, 0).to_socket_addrs()?.collect()), latest: Arc::default() }
    }

    async fn addresses(self, name: String) -> io::Result<IntoIter<SocketAddr>> {
        let asked = Instant::now();
        let mut latest = self.latest.lock_owned().await;
        // What was found while this one waited is for it, too.
        if latest.as_ref().is_none_or(|found| found.at < asked || found.name != name) {
            let looked = tokio::task::spawn_blocking(move || {
                let addresses = (self.look_up)(&name).map_err(|error| (error.kind(), error.to_string()));
                *latest = Some(Found { name, at: Instant::now(), addresses });
                latest
            });
            latest = looked.await?;
        }
        match latest.as_ref().map(|found| &found.addresses) {
            Some(Ok(addresses)) => Ok(addresses.clone().into_iter()),
            Some(Err((kind, text))) => Err(io::Error::new(*kind, text.clone())),
            // Not reached: there is one by now.
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Service<Name> for Names {
    type Response = IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<IntoIter<SocketAddr>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(self.clone().addresses(name.as_str().to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    static LOOKED_UP: AtomicUsize = AtomicUsize::new(0);

    /// A resolver that hangs would get a thread per call, and other backends would find none left.
    #[tokio::test(flavor = "current_thread")]
    async fn one_at_a_time() {
        let look_up = |name: &str| {
            std::thread::sleep(Duration::from_millis(300));
            LOOKED_UP.fetch_add(1, Ordering::Relaxed);
            if name == "missing" { Err(io::Error::other("no such name")) } else { Ok(vec![([127, 0, 0, 1], 0).into()]) }
        };
        let names = Names { look_up, latest: Arc::default() };
        let ask = |name: &str| tokio::spawn(names.clone().addresses(name.to_owned()));
        let gone: Vec<_> = (0..50).map(|_| ask("slow")).collect();
        tokio::time::sleep(Duration::from_millis(1)).await;
        gone.iter().for_each(tokio::task::JoinHandle::abort);
        // They join the one that nobody waits for any more.
        let waiting: Vec<_> = (0..50).map(|_| ask("slow")).collect();
        for waiting in waiting {
            assert_eq!(waiting.await.unwrap().unwrap().collect::<Vec<_>>(), [([127, 0, 0, 1], 0).into()]);
        }
        assert_eq!(LOOKED_UP.load(Ordering::Relaxed), 1);
        // Other names and later calls are looked up anew: addresses change.
        assert_eq!(ask("missing").await.unwrap().unwrap_err().to_string(), "no such name");
        assert!(ask("slow").await.unwrap().is_ok());
        assert_eq!(LOOKED_UP.load(Ordering::Relaxed), 3);
    }
}
