//! TLS on a connection to Redis, without I/O: what arrived is decrypted, what is to be sent is encrypted.
//!
//! On the thread of whoever has the connection; every core shares the configuration and nothing else. Buffers are bounded
//! by what is handed in and by what is taken out at a time. We say no goodbye: Redis needs none, and a connection that has
//! failed is given up at once. Must never put what a peer sent into a log line, but for the names in its certificate.

use std::io::{BufRead, Write};
use std::sync::Arc;

use rustls::client::{ClientConnection, Resumption};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig, Error};

use super::connection::Connection;
use super::failure::Failure;
use super::lane::Endpoint;
use crate::limits::{REDIS_FLUSH_BYTES, REDIS_KEEP_BYTES};

/// Bytes that are encrypted at a time. A record holds 16 KiB and adds less than a 64th of that, so what comes out is at
/// most `REDIS_FLUSH_BYTES`.
const PLAIN_BYTES: usize = REDIS_FLUSH_BYTES - REDIS_FLUSH_BYTES / 64;

/// How TLS is spoken with the servers of a shard.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    name: Option<ServerName<'static>>,
}

impl Tls {
    /// `name` is expected in every certificate; where it is `None`, the name or the address that was dialled.
    pub fn new(mut config: ClientConfig, name: Option<ServerName<'static>>) -> Self {
        // To resume sessions, the cores would have to share them under a lock, for a few connections in all.
        config.resumption = Resumption::disabled();
        Self { config: Arc::new(config), name }
    }

    /// TLS on a connection that was just established. None: Redis has no TLS on Unix sockets.
    pub(super) fn session(&self, endpoint: &Endpoint) -> Option<Result<Session, Failure>> {
        let name = match (&self.name, endpoint) {
            (_, Endpoint::Unix(_)) => return None,
            (Some(name), _) => Ok(name.clone()),
            (None, Endpoint::Internet(address)) => Ok(ServerName::IpAddress(address.ip().into())),
            (None, Endpoint::Named(name, _)) => ServerName::try_from(name.to_string())
                .map_err(|_| tls(format!("no certificate can be for the name {name}; set tls.server_name"))),
        };
        let session = name.and_then(|name| {
            let mut tls = ClientConnection::new(Arc::clone(&self.config), name).map_err(|error| failure(&error))?;
            // What is written is bounded here.
            tls.set_buffer_limit(None);
            Ok(Session { tls, sealed: Vec::new() })
        });
        Some(session)
    }
}

/// TLS on one connection.
pub(super) struct Session {
    tls: ClientConnection,
    /// Encrypted, and not taken yet.
    sealed: Vec<u8>,
}

impl Session {
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// Takes what arrived, in pieces of any size, and hands on what it means.
    pub(super) fn received(&mut self, mut data: &[u8], mut plain: impl FnMut(&[u8])) -> Result<(), Failure> {
        while !data.is_empty() {
            // Refuses only while something waits to be read, and below nothing is left.
            let taken = self.tls.read_tls(&mut data).map_err(|error| tls(error.to_string()))?;
            let result = self.tls.process_new_packets();
            // Before an error, too: Redis may have said why it closes the connection.
            let mut reader = self.tls.reader();
            while let Ok(bytes @ [_, ..]) = reader.fill_buf() {
                let length = bytes.len();
                plain(bytes);
                reader.consume(length);
            }
            let state = result.map_err(|error| failure(&error))?;
            if state.peer_has_closed() || taken == 0 {
                return Err(Failure::Closed);
            }
        }
        Ok(())
    }

    /// What is to be sent. Commands wait in `connection` until the handshake is over and all before them was taken.
    pub(super) fn output(&mut self, connection: &mut Connection) -> &[u8] {
        if self.sealed.is_empty() {
            let output = connection.output();
            let taken = output.len().min(PLAIN_BYTES);
            if taken > 0 && !self.tls.is_handshaking() && self.tls.writer().write_all(&output[..taken]).is_ok() {
                connection.output_taken(taken);
            }
            // Into memory: it takes all.
            while self.tls.wants_write() && self.tls.write_tls(&mut self.sealed).is_ok() {}
        }
        &self.sealed
    }

    pub(super) fn output_taken(&mut self, bytes: usize) {
        self.sealed.drain(..bytes.min(self.sealed.len()));
        if self.sealed.is_empty() {
            self.sealed.shrink_to(REDIS_KEEP_BYTES);
        }
    }

    pub(super) fn has_output(&self, connection: &Connection) -> bool {
        let has_commands = !self.tls.is_handshaking() && !connection.output().is_empty();
        !self.sealed.is_empty() || self.tls.wants_write() || has_commands
    }
}

fn tls(words: String) -> Failure {
    Failure::Tls(words.into())
}

/// What went wrong, and what can be done about it.
fn failure(error: &Error) -> Failure {
    tls(match error {
        Error::InvalidCertificate(error) => certificate(error),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "redis requires a certificate; set tls.cert_pem and tls.key_pem".to_owned()
        }
        Error::AlertReceived(alert) => format!(
            "redis refused the TLS connection ({alert:?}); check tls.cert_pem, and in redis' log what it does not accept"
        ),
        Error::InvalidMessage(_) => {
            "what answers does not speak TLS; check that the address is that of redis' TLS port, or do without TLS \
             (redis://, tls.enabled)"
                .to_owned()
        }
        error => format!("TLS with redis failed: {error}"),
    })
}

fn certificate(error: &CertificateError) -> String {
    match error {
        // The other is what an authority of the same name looks like.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "nobody who is trusted here has signed redis' certificate; set tls.server_ca_pem".to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            /// Names that are shown.
            const SHOWN: usize = 4;
            let names: Vec<&str> = presented.iter().take(SHOWN).map(String::as_str).collect();
            let more = if presented.len() > SHOWN { " and more" } else { "" };
            let (expected, names) = (expected.to_str(), names.join(", "));
            match names.as_str() {
                "" => format!("redis' certificate is for no name at all (subjectAltName), expected was {expected}"),
                names => format!("redis' certificate is not for {expected} but for {names}{more}; set tls.server_name"),
            }
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "redis' certificate has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "redis' certificate is not valid yet; check the clocks".to_owned()
        }
        CertificateError::Other(other) if format!("{other:?}").contains("UnsupportedCertVersion") => {
            "redis' certificate is of version 1, which is for no name; make one with a subjectAltName".to_owned()
        }
        CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "redis' certificate is its own authority; if it is the right one, set tls.server_ca_pem to it".to_owned()
        }
        error => format!("redis' certificate cannot be accepted: {error}"),
    }
}
