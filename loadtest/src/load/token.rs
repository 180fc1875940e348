//! Connection tokens: the same for all clients, or one per client signed with the server's HS256 secret.
//!
//! A client's token is made when it dials (about a microsecond) and not kept: a million tokens would be 150 MB.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

/// Where the tokens of the clients come from.
pub(crate) enum Tokens {
    /// Clients connect without one.
    None,
    /// All present this one.
    Fixed(String),
    /// Each has its own, whose user is the client's number.
    Signed(hmac::Key),
}

/// `{"alg":"HS256","typ":"JWT"}` in base64url, with the dot after it.
const HEADER: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.";

impl Tokens {
    pub(crate) fn signed(secret: &str) -> Self {
        Self::Signed(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()))
    }

    /// Replaces the content of `out` with the token of a client; empty for none.
    pub(crate) fn write(&self, client: u64, out: &mut String) {
        out.clear();
        match self {
            Self::None => {}
            Self::Fixed(token) => out.push_str(token),
            Self::Signed(key) => {
                let mut number = itoa::Buffer::new();
                let claims = ["{\"sub\":\"", number.format(client), "\"}"].concat();
                out.push_str(HEADER);
                URL_SAFE_NO_PAD.encode_string(claims, out);
                let signature = hmac::sign(key, out.as_bytes());
                out.push('.');
                URL_SAFE_NO_PAD.encode_string(signature, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server refuses every client if the token is not a JWT of its secret.
    #[test]
    fn is_a_jwt() {
        let mut token = String::new();
        Tokens::signed("secret").write(42, &mut token);
        let parts: Vec<_> = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
        assert_eq!(parts[0], br#"{"alg":"HS256","typ":"JWT"}"#);
        assert_eq!(parts[1], br#"{"sub":"42"}"#);
        let signed = token.rsplit_once('.').unwrap().0;
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        assert!(hmac::verify(&key, signed.as_bytes(), &parts[2]).is_ok());
        Tokens::None.write(1, &mut token);
        assert_eq!(token, "");
    }
}
