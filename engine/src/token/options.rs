//! What an operator can say about tokens: plain data, filled from `client.token` or `client.subscription_token` on the
//! control thread. No `Debug`: it holds secrets.

/// Settings of one [`Verifier`](super::Verifier). Empty texts switch their feature off.
#[derive(Clone, Default)]
pub struct TokenOptions {
    /// Enables HS256, HS384 and HS512.
    pub hmac_secret_key: String,
    /// Tried when `hmac_secret_key` does not fit; of no effect without one.
    pub hmac_previous_secret_key: String,
    /// Unix seconds after which the previous key is not tried, 0 = no end.
    pub hmac_previous_secret_key_valid_until: i64,
    /// `aud` must have this.
    pub audience: String,
    /// `aud` must have an item in which this Go pattern is found; excludes `audience`.
    pub audience_regex: String,
    /// `iss` must be this.
    pub issuer: String,
    /// This Go pattern must be found in `iss`; excludes `issuer`.
    pub issuer_regex: String,
    /// Claim with the user's id instead of `sub`.
    pub user_id_claim: String,
    /// Accept any signature and any algorithm. Claims are checked all the same.
    pub insecure_skip_signature_verify: bool,
}
