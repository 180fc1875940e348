//! The compact form `header.claims.signature`: taking it apart, and making one. Runs on bytes straight from a peer;
//! of their JSON only the header is looked at here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use super::TokenError;
use super::claims;
use super::keys::Algorithm;

/// A token taken apart; nothing about it is verified.
pub(super) struct Jws<'a> {
    /// `None` = not one of HMAC.
    pub(super) algorithm: Option<Algorithm>,
    /// What the signature covers.
    pub(super) signed: &'a [u8],
    /// JSON, as far as we know.
    pub(super) claims: Vec<u8>,
    pub(super) signature: Vec<u8>,
}

impl<'a> Jws<'a> {
    pub(super) fn parse(token: &'a str) -> Result<Self, TokenError> {
        const MALFORMED: TokenError = TokenError::Invalid("not three segments of base64url");
        // What `{"` looks like in base64: no point in decoding anything else.
        if !token.starts_with("eyJ") {
            return Err(MALFORMED);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(MALFORMED)?;
        let (header, claims) = signed.split_once('.').ok_or(MALFORMED)?;
        let decode = |segment: &str| URL_SAFE_NO_PAD.decode(segment).map_err(|_| MALFORMED);
        let name = claims::algorithm_of(&decode(header)?)?;
        Ok(Self {
            algorithm: Algorithm::from_name(&name),
            signed: signed.as_bytes(),
            claims: decode(claims)?,
            signature: decode(signature)?,
        })
    }
}

/// Makes a token with these claims, which are taken as they are. For tools and tests: the node itself issues no tokens.
pub fn sign_hs256(secret: &str, claims_json: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let mut token = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims_json));
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&key, token.as_bytes()));
    token.push('.');
    token.push_str(&signature);
    token
}
