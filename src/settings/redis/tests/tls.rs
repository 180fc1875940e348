//! Options of TLS against servers with certificates that live as long as a test.

use std::fs::{self, File};
use std::io::Write;
use std::sync::Arc;

use gyre_io::redis::{Endpoint, Wire};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use super::super::{Auth, Mistake, Shard, TlsOptions, Topology};
use super::*;
use crate::config::types::Secret;

/// A certificate and its key, as PEM.
struct Identity {
    certificate: String,
    key: String,
}

fn params(name: &str, until: i32) -> CertificateParams {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    (params.not_before, params.not_after) = (date_time_ymd(2001, 1, 1), date_time_ymd(until, 1, 1));
    params
}

/// An authority of its own, as `openssl req -x509` makes it.
fn own_authority(name: &str, until: i32) -> Identity {
    let mut params = params(name, until);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    Identity { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

fn signed(authority: &Identity, name: &str) -> Identity {
    let mut params_of_authority = params("127.0.0.1", 2100);
    params_of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::new(params_of_authority, KeyPair::from_pem(&authority.key).unwrap());
    let key = KeyPair::generate().unwrap();
    let certificate = params(name, 2100).signed_by(&key, &issuer).unwrap();
    Identity { certificate: certificate.pem(), key: key.serialize_pem() }
}

fn options(change: impl FnOnce(&mut TlsOptions)) -> TlsOptions {
    let mut options = TlsOptions::default();
    change(&mut options);
    options
}

/// With `asks`, only clients with a certificate of this authority are served.
fn server(identity: &Identity, asks: Option<&Identity>) -> ServerConnection {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = match asks {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(certificates("test", &authority.certificate).unwrap().remove(0)).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = certificates("test", &identity.certificate).unwrap();
    let config = builder.with_single_cert(chain, private_key("test", &identity.key).unwrap()).unwrap();
    ServerConnection::new(Arc::new(config)).unwrap()
}

/// With a certificate that need not be readable, and the key of an identity.
fn server_with(certificate: &CertificateDer<'static>, identity: &Identity) -> ServerConnection {
    let key = any_supported_type(&private_key("test", &identity.key).unwrap()).unwrap();
    let shown = SingleCertAndKey::from(CertifiedKey::new(vec![certificate.clone()], key));
    let config = ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    ServerConnection::new(Arc::new(config)).unwrap()
}

/// What comes of these options with this server: `fine` once a command has arrived there.
fn outcome(options: &TlsOptions, mut server: ServerConnection) -> String {
    let tls = match options.client("tls") {
        Ok(tls) => tls,
        Err(Mistake { option, message }) => return format!("{option} {message}"),
    };
    let shard = Shard {
        option: "address.[0]".to_owned(),
        topology: Topology::Cluster { seeds: Vec::new() },
        auth: Auth { user: String::new(), password: Secret::new(String::new()) },
        db: 0,
        tls: None,
        client_name: String::new(),
        force_resp2: false,
        replica_client: false,
        connect_timeout_ms: 1,
        io_timeout_ms: 1,
    };
    let endpoint = Endpoint::Internet("127.0.0.1:1".parse().unwrap());
    let mut wire = Wire::new(shard.handshake(), 0, Some(&tls), &endpoint);
    let mut plain = [0; 5];
    while !wire.output().is_empty() {
        let output = wire.output().to_vec();
        wire.output_taken(output.len());
        let mut rest = &output[..];
        while !rest.is_empty() && server.read_tls(&mut rest).is_ok() && server.process_new_packets().is_ok() {}
        if std::io::Read::read(&mut server.reader(), &mut plain).is_ok_and(|read| read > 0) {
            return "fine".to_owned();
        }
        let mut answer = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut answer).unwrap();
        }
        wire.received(&answer, 0, &mut |_| {});
    }
    wire.failure().map_or_else(|| "nothing".to_owned(), ToString::to_string)
}

/// Whoever cannot verify a server must not talk to it, and whoever can must: each option changes who is believed.
#[test]
fn who_is_believed() {
    let authority = own_authority("127.0.0.1", 2100);
    let (by_address, by_name) = (signed(&authority, "127.0.0.1"), signed(&authority, "redis.example"));
    let (own, own_of_name) = (own_authority("127.0.0.1", 2100), own_authority("redis.example", 2100));
    let expired = own_authority("127.0.0.1", 2002);
    let trusting = |certificate: &str| options(|tls| tls.server_ca_pem = certificate.to_owned());
    let named = |certificate: &str, name: &str| {
        options(|tls| (tls.server_ca_pem, tls.server_name) = (certificate.to_owned(), name.to_owned()))
    };
    let blind = options(|tls| tls.insecure_skip_verify = true);
    let both = format!("{}\n{}", own.certificate, authority.certificate);
    let table = [
        (trusting(&authority.certificate), &by_address, "fine"),
        (trusting(&both), &by_address, "fine"),
        (trusting(&authority.certificate), &own, "its own authority; if it is the right one, set"),
        (trusting(&own.certificate), &by_address, "nobody who is trusted here"),
        (trusting(&authority.certificate), &by_name, "not for 127.0.0.1"),
        (named(&authority.certificate, "redis.example"), &by_name, "fine"),
        (named(&authority.certificate, "127.0.0.1"), &by_address, "fine"),
        (named(&authority.certificate, "other.example"), &by_name, "not for other.example"),
        (named(&authority.certificate, "not a name"), &by_name, "tls.server_name expected a host name"),
        // One certificate that is everything.
        (trusting(&own.certificate), &own, "fine"),
        (trusting(&own_of_name.certificate), &own_of_name, "not for 127.0.0.1"),
        (trusting(&expired.certificate), &expired, "has expired"),
        // Nothing that a host trusts has signed it, whether the host trusts anybody or not.
        (options(|_| {}), &by_address, "tls.server_ca_pem"),
        (blind, &expired, "fine"),
    ];
    for (number, (options, identity, expected)) in table.into_iter().enumerate() {
        let outcome = outcome(&options, server(identity, None));
        assert!(outcome.contains(expected), "{number}: expected {expected}: {outcome}");
    }
}

/// Any certificate may be fine, but not somebody who only has a copy of it.
#[test]
fn the_key_is_always_asked_for() {
    let (one, other) = (own_authority("127.0.0.1", 2100), own_authority("127.0.0.1", 2100));
    let server = server_with(&certificates("test", &one.certificate).unwrap()[0], &other);
    let blind = options(|tls| tls.insecure_skip_verify = true);
    assert!(outcome(&blind, server).contains("redis' certificate"));
}

/// The script that Redis brings for its tests makes certificates of version 1, good for nothing but blind trust.
#[test]
fn certificates_of_version_1() {
    let v3 = own_authority("127.0.0.1", 2100);
    let certificate = of_version_1(&certificates("test", &v3.certificate).unwrap()[0]);
    let blind = options(|tls| tls.insecure_skip_verify = true);
    assert_eq!(outcome(&blind, server_with(&certificate, &v3)), "fine");
    assert!(
        outcome(&blind, server_with(&certificate, &own_authority("127.0.0.1", 2100))).contains("redis' certificate")
    );
    let trusting = options(|tls| tls.server_ca_pem.clone_from(&v3.certificate));
    assert!(outcome(&trusting, server_with(&certificate, &v3)).contains("of version 1"));
}

/// Without version and extensions. Its signature is not good any more, but nobody looks.
fn of_version_1(certificate: &CertificateDer<'_>) -> CertificateDer<'static> {
    /// Content of the first element, and all of it, and what follows.
    fn first(der: &[u8]) -> (&[u8], &[u8], &[u8]) {
        let (head, length) = match der[1] {
            0x81 => (3, usize::from(der[2])),
            0x82 => (4, usize::from(der[2]) << 8 | usize::from(der[3])),
            short => (2, usize::from(short)),
        };
        (&der[head..head + length], &der[..head + length], &der[head + length..])
    }
    fn sequence(content: &[u8]) -> Vec<u8> {
        assert!(content.len() >= 128, "else the head is a shorter one");
        let [high, low] = (content.len() as u16).to_be_bytes();
        let head: &[u8] = if high == 0 { &[0x30, 0x81, low] } else { &[0x30, 0x82, high, low] };
        [head, content].concat()
    }
    let (outer, ..) = first(certificate);
    let (mut signed, _, signature) = first(outer);
    let mut kept = Vec::new();
    while !signed.is_empty() {
        let (_, element, rest) = first(signed);
        if element[0] & 0xc0 != 0x80 {
            kept.extend(element);
        }
        signed = rest;
    }
    CertificateDer::from(sequence(&[&sequence(&kept), signature].concat()))
}

/// PEM comes from files, environment variables and secrets of orchestrators: as text, in base64, or as a path.
#[test]
fn pem_in_all_its_forms() {
    let authority = own_authority("127.0.0.1", 2100);
    let (identity, ours) = (signed(&authority, "127.0.0.1"), signed(&authority, "gyre"));
    let directory = std::env::temp_dir().join(format!("gyre-tls-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let path = |name: &str, text: &str| {
        let path = directory.join(name);
        File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let in_lines = |text: &str| {
        let packed = STANDARD.encode(text);
        packed.as_bytes().chunks(76).map(|line| String::from_utf8_lossy(line) + "\n").collect::<String>()
    };
    // SEC 1 is what PKCS#8 has at its end: a sequence that begins with version 1 and 32 bytes of key.
    let der = KeyPair::from_pem(&ours.key).unwrap().serialize_der();
    let start = der.windows(5).position(|bytes| bytes == [2, 1, 1, 4, 32]).unwrap() - 2;
    let length = 2 + usize::from(der[start + 1]);
    let sec1 = format!(
        "-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----\n",
        STANDARD.encode(&der[start..start + length])
    );
    let chained = format!("some words\n{}{}", ours.certificate, authority.certificate);
    let table = [
        (authority.certificate.clone(), ours.certificate.clone(), ours.key.clone()),
        (STANDARD.encode(&authority.certificate), in_lines(&ours.certificate), in_lines(&ours.key)),
        (path("ca", &authority.certificate), path("cert", &chained), path("key", &ours.key)),
        (authority.certificate.clone(), chained, sec1),
    ];
    for (number, (server_ca_pem, cert_pem, key)) in table.into_iter().enumerate() {
        let options = TlsOptions { server_ca_pem, cert_pem, key_pem: Secret::new(key), ..TlsOptions::default() };
        assert_eq!(outcome(&options, server(&identity, Some(&authority))), "fine", "{number}");
    }
    fs::remove_dir_all(directory).unwrap();
}

/// The operator must see which option is wrong and how; nobody must see the key.
#[test]
fn mistakes_name_the_option_and_not_the_key() {
    let (one, other) = (own_authority("gyre", 2100), own_authority("gyre", 2100));
    let body = one.key.lines().nth(1).unwrap().to_owned();
    let with = |cert: &str, key: &str| {
        options(|tls| (tls.cert_pem, tls.key_pem) = (cert.to_owned(), Secret::new(key.to_owned())))
    };
    let certificate = &one.certificate;
    let nothing = "/dev/null";
    let table = [
        (with("/no/such/file", &one.key), "cert_pem", "nor the path of a file that can be read: No such file"),
        (with(nothing, &one.key), "cert_pem", "a file without PEM in it"),
        (with(&one.key, &one.key), "cert_pem", "no certificate in it"),
        (with(&certificate.replace("-----END", "---END"), &one.key), "cert_pem", "damaged"),
        (with(certificate, &body), "key_pem", "is neither PEM text"),
        (with(certificate, certificate), "key_pem", "no private key in it"),
        (with(certificate, &one.key.replace("PRIVATE", "ENCRYPTED PRIVATE")), "key_pem", "not encrypted"),
        (with(certificate, &one.key.replace(&body, &body[4..])), "key_pem", "cannot be used"),
        (with(certificate, &other.key), "key_pem", "is not the key of cert_pem"),
        (options(|tls| tls.server_ca_pem = "x".to_owned()), "server_ca_pem", "is neither PEM text"),
        (options(|tls| tls.server_ca_pem.clone_from(&one.key)), "server_ca_pem", "no certificate in it"),
        (
            options(|tls| {
                tls.server_ca_pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
            }),
            "server_ca_pem",
            "only certificates that are damaged",
        ),
    ];
    for (options, option, expected) in table {
        let options = TlsOptions { insecure_skip_verify: option != "server_ca_pem", ..options };
        let Err(mistake) = options.client("sentinel_tls") else { panic!("expected {expected}") };
        assert_eq!(mistake.option, format!("sentinel_tls.{option}"));
        assert!(mistake.message.contains(expected), "expected {expected}: {}", mistake.message);
        assert!(!mistake.message.contains(&body[10..20]), "{}", mistake.message);
    }
}
