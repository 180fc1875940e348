//! What the codes of a server stand for, so that nobody has to look them up.
//!
//! Names of errors end in their code (`disconnect 3501`, `publish: http 401`); [`explained`] puts the words behind it,
//! wherever a person reads one: summary, violations, notes. Records keep the bare names, which programs compare. Pure.

/// The name of an error, and in brackets what its code means, where that is known.
#[must_use]
pub fn explained(error: &str) -> String {
    let (what, code) = error.rsplit_once(' ').unwrap_or_default();
    // `publish: connect: error 101` is of the kind `error`.
    let kind = what.rsplit(' ').next().unwrap_or_default();
    match meaning(kind, code) {
        "" => error.to_owned(),
        words => format!("{error} ({words})"),
    }
}

fn meaning(kind: &str, code: &str) -> &'static str {
    match (kind, code) {
        ("error", "100") => "internal server error",
        ("error", "101") => "unauthorized",
        ("error", "102") => "unknown channel",
        ("error", "103") => "permission denied",
        ("error", "104") => "method not found",
        ("error", "105") => "already subscribed",
        ("error", "106") => "limit exceeded",
        ("error", "107") => "bad request",
        ("error", "108") => "not available",
        ("error", "109") => "token expired",
        ("error", "110") => "expired",
        ("error", "111") => "too many requests",
        ("error", "112") => "unrecoverable position",
        ("unsubscribed", "2000") => "by the server API",
        ("unsubscribed", "2500") => "insufficient state",
        ("unsubscribed", "2501") => "subscription expired",
        ("disconnect" | "code", _) => closing(code),
        ("http", "400") => "bad request",
        ("http", "401") => "unauthorized",
        ("http", "403") => "forbidden",
        ("http", "404") => "not found",
        ("http", "405") => "method not allowed",
        ("http", "413") => "content too large",
        ("http", "429") => "too many requests",
        ("http", "500") => "internal server error",
        ("http", "502") => "bad gateway",
        ("http", "503") => "service unavailable",
        ("http", "504") => "gateway timeout",
        _ => "",
    }
}

/// Codes of close frames: those of RFC 6455, then those of the client protocol.
fn closing(code: &str) -> &'static str {
    match code {
        "1000" => "normal closure",
        "1001" => "going away",
        "1002" => "protocol error",
        "1003" => "unsupported data",
        "1005" => "no code given",
        "1007" => "text is not utf-8",
        "1008" => "policy violation",
        "1009" => "message too big",
        "1011" => "internal error",
        "1012" => "service restart",
        "1013" => "try again later",
        "3000" => "connection closed",
        "3001" => "shutdown",
        "3004" => "internal server error",
        "3005" => "connection expired",
        "3006" => "subscription expired",
        "3008" => "slow",
        "3009" => "write error",
        "3010" => "insufficient state",
        "3011" => "force reconnect",
        "3012" => "no pong",
        "3013" => "too many requests",
        "3014" => "state invalidated",
        "3500" => "invalid token",
        "3501" => "bad request",
        "3502" => "stale",
        "3503" => "force disconnect",
        "3504" => "connection limit",
        "3505" => "channel limit",
        "3506" => "inappropriate protocol",
        "3507" => "permission denied",
        "3508" => "not available",
        "3509" => "too many errors",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::explained;

    /// A code alone sends people to the documentation; a wrong word beside it would mislead them.
    #[test]
    fn codes_have_words() {
        for (error, words) in [
            ("disconnect 3500", "disconnect 3500 (invalid token)"),
            ("publish: disconnect 3001", "publish: disconnect 3001 (shutdown)"),
            ("subscribe: error 103", "subscribe: error 103 (permission denied)"),
            ("unsubscribed 2500", "unsubscribed 2500 (insufficient state)"),
            ("publish: http 401", "publish: http 401 (unauthorized)"),
            ("server broke the websocket protocol: code 1002", "protocol: code 1002 (protocol error)"),
            ("ended by disconnect 3008", "ended by disconnect 3008 (slow)"),
        ] {
            assert!(explained(error).ends_with(words), "{}", explained(error));
        }
        for bare in ["upgrade: http 103", "unsubscribed 102", "disconnect 4000", "connect: ECONNREFUSED", ""] {
            assert_eq!(explained(bare), bare);
        }
    }
}
