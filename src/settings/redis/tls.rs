//! What TLS with a Redis or a backend is to be like, from the options of a `tls` object: certificates and keys as rustls takes them.
//!
//! On the control thread, at start and when a configuration is checked; reads files, and the certificates that the host
//! trusts where no others are given. Errors name the option and what it lacks. Must never put a value of `key_pem` into an
//! error, nor a part of it: what is taken for a path may be a key that was cut.

use std::fs;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gyre_io::redis::Tls;
use rustls::client::WantsClientCert;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ConfigBuilder, Error, InconsistentKeys};

use super::trust::{Anybody, Trusted};
use super::{Mistake, TlsOptions, mistake};

impl TlsOptions {
    /// TLS with a Redis by these options, which stand in `object`: `tls` or `sentinel_tls`.
    ///
    /// # Errors
    /// The first option that cannot be used.
    pub(crate) fn client(&self, object: &str) -> Result<Tls, Mistake> {
        let (config, name) = self.client_config(object)?;
        Ok(Tls::new(config, name))
    }

    /// TLS with any server by these options, which stand in `object`; and the name that is expected in its certificate,
    /// unless it is the one that is dialled.
    ///
    /// # Errors
    /// The first option that cannot be used.
    pub(crate) fn client_config(&self, object: &str) -> Result<(ClientConfig, Option<ServerName<'static>>), Mistake> {
        let option = |name: &str| format!("{object}.{name}");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = self.trusting(provider, &option("server_ca_pem"))?;
        let config = match self.cert_pem.as_str() {
            "" => builder.with_no_client_auth(),
            cert_pem => {
                let chain = certificates(&option("cert_pem"), cert_pem)?;
                let key = private_key(&option("key_pem"), self.key_pem.expose())?;
                builder.with_client_cert_resolver(Arc::new(identity(&option("key_pem"), chain, key)?))
            }
        };
        let name = match self.server_name.as_str() {
            "" => None,
            name => match ServerName::try_from(name.to_owned()) {
                Ok(name) => Some(name),
                Err(_) => return mistake(&option("server_name"), "expected a host name or an IP address"),
            },
        };
        Ok((config, name))
    }

    fn trusting(
        &self,
        provider: Arc<CryptoProvider>,
        option: &str,
    ) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, Mistake> {
        let verifier: Arc<dyn ServerCertVerifier> = match (self.insecure_skip_verify, self.server_ca_pem.as_str()) {
            (true, _) => Arc::new(Anybody(Arc::clone(&provider))),
            (false, "") => {
                let certificates = rustls_native_certs::load_native_certs().certs;
                match Trusted::new(certificates, Arc::clone(&provider)) {
                    Some(trusted) => Arc::new(trusted),
                    None => {
                        return mistake(option, "is empty, and the host has no certificates that it trusts; set it");
                    }
                }
            }
            (false, server_ca_pem) => match Trusted::new(certificates(option, server_ca_pem)?, Arc::clone(&provider)) {
                Some(trusted) => Arc::new(trusted),
                None => return mistake(option, "has only certificates that are damaged"),
            },
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            // Not reached: the provider has what both versions need.
            .or_else(|error| mistake(option, &error.to_string()))?;
        Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
    }
}

fn certificates(option: &str, value: &str) -> Result<Vec<CertificateDer<'static>>, Mistake> {
    match CertificateDer::pem_slice_iter(&pem(option, value)?).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => mistake(option, "is PEM but has no certificate in it"),
        Err(_) => mistake(option, "has PEM in it that is damaged"),
    }
}

fn private_key(option: &str, value: &str) -> Result<PrivateKeyDer<'static>, Mistake> {
    let pem = pem(option, value)?;
    PrivateKeyDer::from_pem_slice(&pem).or_else(|_| {
        mistake(option, "has no private key in it; expected PKCS#8, PKCS#1 or SEC 1 as PEM, not encrypted")
    })
}

fn identity(
    option: &str,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<SingleCertAndKey, Mistake> {
    let Ok(key) = any_supported_type(&key) else {
        return mistake(option, "cannot be used; expected RSA of 2048 bits or more, P-256, P-384 or Ed25519");
    };
    let identity = CertifiedKey::new(chain, key);
    // A certificate of version 1 cannot be compared, but shown: whether it is good is for the server to say.
    match identity.keys_match() {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => mistake(option, "is not the key of cert_pem"),
        _ => Ok(identity.into()),
    }
}

/// The PEM text that a value is, in the order in which the reference looks.
pub(crate) fn pem(option: &str, value: &str) -> Result<Vec<u8>, Mistake> {
    if is_pem(value.as_bytes()) {
        return Ok(value.as_bytes().to_vec());
    }
    // As `base64` prints it: in lines.
    let packed: String = value.split_ascii_whitespace().collect();
    if let Ok(text) = STANDARD.decode(packed)
        && is_pem(&text)
    {
        return Ok(text);
    }
    match fs::read(value) {
        Ok(text) if is_pem(&text) => Ok(text),
        Ok(_) => mistake(option, "is the path of a file without PEM in it"),
        Err(error) => mistake(
            option,
            &format!("is neither PEM text nor base64 of it, nor the path of a file that can be read: {error}"),
        ),
    }
}

fn is_pem(text: &[u8]) -> bool {
    const BEGIN: &[u8] = b"-----BEGIN ";
    text.windows(BEGIN.len()).any(|bytes| bytes == BEGIN)
}

#[cfg(test)]
#[path = "tests/tls.rs"]
mod tests;
