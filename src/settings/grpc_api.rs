//! The server API over gRPC as it is served: TLS read, words understood.

use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

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
    pub(crate) tls: Option<Arc<ServerConfig>>,
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
            true => Some(tls(&api.tls.cert_pem, api.tls.key_pem.expose(), &api.tls.client_ca_pem)?.into()),
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

/// With `client_ca_pem`, clients must have a certificate by one of these.
fn tls(cert_pem: &str, key_pem: &str, client_ca_pem: &str) -> anyhow::Result<ServerConfig> {
    let text = |name: &str, value: &str| -> anyhow::Result<Vec<u8>> {
        let option = format!("tls.{name}");
        if value.is_empty() {
            bail!("grpc_api.{option}: is needed for TLS");
        }
        pem(&option, value).map_err(|mistake| mistake.in_section("grpc_api"))
    };
    let certificates = |name: &str, value: &str| -> anyhow::Result<Vec<CertificateDer<'static>>> {
        let pem = text(name, value)?;
        match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
            Ok(certificates) if !certificates.is_empty() => Ok(certificates),
            _ => bail!("grpc_api.tls.{name}: has no certificate in it"),
        }
    };
    let chain = certificates("cert_pem", cert_pem)?;
    let key = PrivateKeyDer::from_pem_slice(&text("key_pem", key_pem)?);
    let key = key.ok().context("grpc_api.tls.key_pem: has no private key in it")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match client_ca_pem {
        "" => builder.with_no_client_auth(),
        value => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates("client_ca_pem", value)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
            let verifier = verifier.map_err(|error| anyhow!("grpc_api.tls.client_ca_pem: cannot be used: {error}"))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_single_cert(chain, key);
    let mut config = config.map_err(|error| anyhow!("grpc_api.tls.key_pem: cannot be used with cert_pem: {error}"))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
