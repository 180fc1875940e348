//! Backends behind TLS, with certificates that live as long as a test.

use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::settings::redis::TlsOptions;

/// A certificate for a name and its key, as PEM.
pub(super) fn certificate(name: &str) -> (String, String) {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn acceptor(certificate: &str, key: &str) -> TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    TlsAcceptor::from(Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap()))
}

/// The port of a server that answers `{}` to whoever trusts it; and the names that were asked for.
async fn server(acceptor: TlsAcceptor) -> (u16, Rc<RefCell<Vec<Option<String>>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let names = Rc::<RefCell<Vec<_>>>::default();
    let all = Rc::clone(&names);
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(stream) = acceptor.accept(stream).await else { continue };
            all.borrow_mut().push(stream.get_ref().1.server_name().map(ToOwned::to_owned));
            tokio::task::spawn_local(serve(stream, 0, Rc::new(|_, _| ok("{}")), Rc::default()));
        }
    });
    (port, names)
}

fn proxy(url: String, options: TlsOptions) -> Proxy {
    let mut proxy = http_proxy(url);
    let Endpoint::Http { tls, .. } = &mut proxy.endpoint else { panic!() };
    *tls = Some(options);
    proxy
}

/// A backend that cannot prove who it is must not see what clients send; one that can is served, under its own name or
/// the one that is configured.
#[test]
fn https() {
    run(async {
        let (pem, key) = certificate("backend.test");
        let (port, names) = server(acceptor(&pem, &key)).await;
        let url = format!("https://localhost:{port}/");
        let trusting = TlsOptions { server_ca_pem: pem, ..TlsOptions::default() };
        let named = TlsOptions { server_name: "backend.test".into(), ..trusting.clone() };
        let careless = TlsOptions { insecure_skip_verify: true, ..TlsOptions::default() };
        assert_eq!(ask(&backends(proxy(url.clone(), trusting)), rpc("1")).await, BackendReply::Failed);
        assert_eq!(ask(&backends(proxy(url.clone(), named)), rpc("1")).await, BackendReply::NoResult);
        assert_eq!(ask(&backends(proxy(url.clone(), careless)), rpc("1")).await, BackendReply::NoResult);
        assert_eq!(*names.borrow(), [Some("backend.test".to_owned()), Some("localhost".to_owned())]);
        let plain = url.replace("https", "http");
        assert_eq!(ask(&backends(http_proxy(plain)), rpc("1")).await, BackendReply::Failed);
    });
}

/// A certificate that cannot be read is found at start, with the option that names it.
#[test]
fn bad_options() {
    run(async {
        let options = TlsOptions { server_ca_pem: "/nowhere".into(), ..TlsOptions::default() };
        let list = vec![proxy("https://localhost/".into(), options)];
        let error = Backends::new(&Arc::new(Proxies { list })).err().expect("an error").to_string();
        assert!(error.starts_with("rpc.proxy.http.tls.server_ca_pem: "), "{error}");
    });
}
