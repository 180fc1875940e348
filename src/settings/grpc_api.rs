//! The server API over gRPC as it is served: TLS read, words understood.

use anyhow::{Context as _, bail};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::redis::pem;
use crate::config::types::Config;

/// What a message may be where the configuration says nothing, as in other libraries.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// See the module.
pub(crate) struct GrpcApiSettings {
    pub(crate) address: String,
    pub(crate) port: u16,
    /// Empty = everybody may call.
    pub(crate) key: String,
    /// Errors are statuses.
    pub(crate) is_transport_mode: bool,
    pub(crate) has_reflection: bool,
    /// Of a request.
    pub(crate) message_bytes_max: usize,
    pub(crate) tls: Option<GrpcTls>,
}

/// PEM texts.
pub(crate) struct GrpcTls {
    pub(crate) cert_pem: Vec<u8>,
    pub(crate) key_pem: Vec<u8>,
    /// Set = clients must have a certificate by one of these.
    pub(crate) client_ca_pem: Option<Vec<u8>>,
}

impl GrpcApiSettings {
    /// `None` = it is not served.
    ///
    /// # Errors
    /// Certificates or a key that cannot be used.
    pub(crate) fn new(config: &Config) -> anyhow::Result<Option<Self>> {
        let api = &config.grpc_api;
        if !api.enabled {
            return Ok(None);
        }
        let tls = match api.tls.enabled {
            false => None,
            true => Some(GrpcTls::new(&api.tls.cert_pem, api.tls.key_pem.expose(), &api.tls.client_ca_pem)?),
        };
        Ok(Some(Self {
            address: api.address.clone(),
            port: api.port,
            key: api.key.expose().to_owned(),
            is_transport_mode: api.error_mode == "transport",
            has_reflection: api.reflection,
            message_bytes_max: match api.max_receive_message_size {
                0 => MESSAGE_BYTES_MAX,
                bytes => bytes as usize,
            },
            tls,
        }))
    }
}

impl GrpcTls {
    fn new(cert_pem: &str, key_pem: &str, client_ca_pem: &str) -> anyhow::Result<Self> {
        let text = |name: &str, value: &str| -> anyhow::Result<Vec<u8>> {
            let option = format!("tls.{name}");
            if value.is_empty() {
                bail!("grpc_api.{option}: is needed for TLS");
            }
            pem(&option, value).map_err(|mistake| mistake.in_section("grpc_api"))
        };
        let certificates = |name: &str, value: &str| -> anyhow::Result<Vec<u8>> {
            let pem = text(name, value)?;
            match CertificateDer::pem_slice_iter(&pem).next() {
                Some(Ok(_)) => Ok(pem),
                _ => bail!("grpc_api.tls.{name}: has no certificate in it"),
            }
        };
        let key = text("key_pem", key_pem)?;
        PrivateKeyDer::from_pem_slice(&key).ok().context("grpc_api.tls.key_pem: has no private key in it")?;
        Ok(Self {
            cert_pem: certificates("cert_pem", cert_pem)?,
            key_pem: key,
            client_ca_pem: match client_ca_pem {
                "" => None,
                value => Some(certificates("client_ca_pem", value)?),
            },
        })
    }
}
