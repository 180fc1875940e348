//! The command line as operators and their scripts meet it: what is printed, what is written, exit codes.

#![allow(clippy::unwrap_used)] // in what tests share

use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An empty working directory, removed at the end.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        static PLACES: AtomicUsize = AtomicUsize::new(0);
        let number = PLACES.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gyre-cli-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn with(file: &str, content: &str) -> Self {
        let place = Self::new();
        fs::write(place.path(file), content).unwrap();
        place
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap()
    }

    fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
        let output = Command::new(env!("CARGO_BIN_EXE_gyre"))
            .args(arguments)
            .current_dir(&self.0)
            .env_clear()
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        Outcome {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn run(&self, arguments: &[&str]) -> Outcome {
        self.run_with(arguments, &[])
    }

    /// Runs a command that must succeed.
    fn fine(&self, arguments: &[&str]) -> String {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, 0, "{arguments:?}: {} {}", outcome.stdout, outcome.stderr);
        outcome.stdout
    }

    /// Runs a command that must fail, and say this.
    fn fails(&self, arguments: &[&str], expected: &str) {
        let outcome = self.run(arguments);
        assert_eq!(outcome.code, 1, "{arguments:?}: {}", outcome.stdout);
        assert!(outcome.stdout.contains(expected), "{arguments:?}: {}", outcome.stdout);
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Scripts look at the version and the exit code.
#[test]
fn version_and_help() {
    let place = Place::new();
    let version = place.fine(&["version"]);
    assert!(version.starts_with(concat!("Gyre v", env!("CARGO_PKG_VERSION"))), "{version}");
    assert_eq!(version.lines().count(), 1);
    let help = place.fine(&["--help"]);
    for command in [
        "genconfig",
        "checkconfig",
        "defaultconfig",
        "defaultenv",
        "configdoc",
        "gentoken",
        "gensubtoken",
        "checktoken",
        "checksubtoken",
        "version",
        "--http_server.port",
        "--log.level",
        "--dev",
    ] {
        assert!(help.contains(command), "{command}");
    }
    let outcome = place.run(&["--nonsense"]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.stderr.contains("--nonsense"), "{}", outcome.stderr);
}

/// The first command of a new operator: keys that nobody else can read, and never over an existing file.
#[test]
fn genconfig() {
    for name in ["config.json", "config.yaml", "config.yml", "config.toml"] {
        let place = Place::new();
        assert_eq!(place.fine(&["genconfig", "-c", name]), "");
        assert_eq!(mode(&place.path(name)), 0o600);
        let before = place.read(name);
        assert_eq!(place.fine(&["checkconfig", "--strict", "-c", name]), "");
        place.fails(&["genconfig", "-c", name], "error: output config file already exists");
        assert_eq!(place.read(name), before);
    }
    let place = Place::new();
    place.fine(&["genconfig"]);
    let tree: Value = serde_json::from_str(&place.read("config.json")).unwrap();
    let length = |pointer: &str| tree.pointer(pointer).and_then(Value::as_str).map(str::len);
    // 64 and 16 bytes in base64 without padding.
    assert_eq!(length("/client/token/hmac_secret_key"), Some(86));
    assert_eq!(length("/http_api/key"), Some(86));
    assert_eq!(length("/admin/secret"), Some(86));
    assert_eq!(length("/admin/password"), Some(22));
    place.fails(&["genconfig", "-c", "config.txt"], "unknown format");
}

/// A mistake must be found before the node is restarted with it.
#[test]
fn checkconfig() {
    let place = Place::new();
    place.fails(&["checkconfig"], "config file not found");
    let check = |content: &str, arguments: &[&str], expected: &str| {
        let place = Place::with("config.json", content);
        let arguments = [&["checkconfig"], arguments].concat();
        if expected.is_empty() { assert_eq!(place.fine(&arguments), "") } else { place.fails(&arguments, expected) }
    };
    check("{}", &["-s"], "");
    check("{", &[], "error getting config: config.json:1: not valid JSON");
    check(r#"{"client": {"ping_interval": "10"}}"#, &[], "client.ping_interval");
    let half = r#"{"channel": {"namespaces": [{"name": "chat", "history_size": 10}]}}"#;
    check(
        r#"{"sockjs": true}"#,
        &["--strict"],
        "unknown keys in config: sockjs (SockJS is not supported; use WebSocket)",
    );
    check(r#"{"gyre": {"cores": 9999}}"#, &[], "gyre.cores: 9999 is too large, the most is 8192");
    // Whether this machine has such CPUs is not the question.
    check(r#"{"gyre": {"cores": "numa:7,no-smt", "reserved_cores": 1}}"#, &["-s"], "");
    check(half, &[], "error validating config: ");
    check(half, &[], "namespace \"chat\"");
    check(r#"{"channel": {"without_namespace": {"channel_regex": "("}}}"#, &[], "channel_regex");
    let slip = r#"{"channel": {"namespaces": [{"name": "chat", "presense": true}]}, "x": 1}"#;
    check(slip, &[], "");
    check(slip, &["--strict"], "unknown keys in config: channel.namespaces.[0].presense (did you mean presence?), x");
}

/// The three formats mean the same, and the printed defaults are accepted.
#[test]
fn defaultconfig() {
    let place = Place::new();
    let printed = place.fine(&["defaultconfig", "--dry-run"]);
    assert!(!place.path("config.json").exists());
    place.fine(&["defaultconfig"]);
    assert_eq!(place.read("config.json"), printed);
    assert_eq!(mode(&place.path("config.json")), 0o600);
    assert_eq!(place.fine(&["checkconfig", "--strict"]), "");
    place.fails(&["defaultconfig"], "error: target file already exists");

    let bases = [
        (
            "a.json",
            r#"{"http_server": {"port": 8001}, "channel": {"namespaces": [{"name": "chat", "presence": true}]}}"#,
        ),
        ("a.yaml", "http_server:\n  port: 8001\nchannel:\n  namespaces:\n    - name: chat\n      presence: true\n"),
        ("a.toml", "[http_server]\nport = 8001\n[[channel.namespaces]]\nname = \"chat\"\npresence = true\n"),
    ];
    let merged = bases.map(|(name, content)| {
        let place = Place::with(name, content);
        place.fine(&["defaultconfig", "-b", name, "-d", "-c", "out.json"])
    });
    assert!(merged[0].contains("\"port\": 8001") && merged[0].contains("\"chat\""));
    assert_eq!(merged[0], merged[1]);
    assert_eq!(merged[0], merged[2]);
}

/// A configuration printed for another place has what the node would use here; the plain defaults do not depend on it.
#[test]
fn the_environment_lies_over_a_base_file() {
    let place = Place::with("base.json", r#"{"http_server": {"port": 8001}}"#);
    let variables = [("CENTRIFUGO_HTTP_SERVER_PORT", "8002"), ("CENTRIFUGO_HEALTH_ENABLED", "true")];
    let port = |arguments: &[&str]| {
        let outcome = place.run_with(arguments, &variables);
        assert_eq!(outcome.code, 0, "{}", outcome.stdout);
        let tree: Value = serde_json::from_str(&outcome.stdout).unwrap();
        (tree["http_server"]["port"].clone(), tree["health"]["enabled"].clone())
    };
    assert_eq!(port(&["defaultconfig", "-d", "-b", "base.json"]), (json!(8002), json!(true)));
    assert_eq!(port(&["defaultconfig", "-d"]), (json!(8000), json!(false)));
    let printed = place.run_with(&["defaultenv", "-b", "base.json", "--base-non-zero-only"], &variables).stdout;
    assert_eq!(printed, "CENTRIFUGO_HTTP_SERVER_PORT=8002\n");
}

/// A cause that is printed twice makes people look for two mistakes.
#[test]
fn causes_are_told_once() {
    let place = Place::new();
    fs::create_dir(place.path("config.json")).unwrap();
    let text = place.run(&["checkconfig"]).stdout;
    assert_eq!(text.matches("Is a directory").count(), 1, "{text}");
}

#[test]
fn defaultenv() {
    let place = Place::with(
        "base.json",
        r#"{"client": {"allowed_origins": ["https://a", "https://b"], "ping_interval": "20s"}}"#,
    );
    let all = place.fine(&["defaultenv"]);
    assert!(all.contains("CENTRIFUGO_CLIENT_PING_INTERVAL=25s\n"));
    assert!(all.contains("CENTRIFUGO_HTTP_SERVER_PORT=8000\n"));
    assert!(all.contains("CENTRIFUGO_CLIENT_ALLOWED_ORIGINS=\"\"\n"));
    let lines: Vec<&str> = all.lines().collect();
    assert!(lines.is_sorted());
    assert_eq!(
        place.fine(&["defaultenv", "-b", "base.json", "--base-non-zero-only"]),
        "CENTRIFUGO_CLIENT_ALLOWED_ORIGINS=\"https://a https://b\"\nCENTRIFUGO_CLIENT_PING_INTERVAL=20s\n"
    );
}

#[test]
fn configdoc() {
    let text = Place::new().fine(&["configdoc", "-m", "-s", "http_server.port"]);
    assert!(text.starts_with("## `http_server.port`"), "{text}");
    assert!(text.contains("CENTRIFUGO_HTTP_SERVER_PORT") && text.contains("8000"), "{text}");
}

const KEYS: &str = r#"{"client": {"token": {"hmac_secret_key": "first"}}}"#;
const TWO_KEYS: &str = r#"{"client": {"token": {"hmac_secret_key": "first"}, "subscription_token": {"enabled": true, "hmac_secret_key": "second"}}}"#;

/// What gentoken makes, checktoken accepts; a changed token it does not.
#[test]
fn connection_tokens() {
    let place = Place::with("config.json", KEYS);
    let token = place.fine(&["gentoken", "-u", "42", "-q"]);
    assert!(!token.ends_with('\n'));
    let text = place.fine(&["gentoken", "-u", "42"]);
    assert!(text.starts_with("HMAC SHA-256 JWT for user \"42\" with expiration TTL 168h0m0s:\neyJ"), "{text}");
    assert!(
        place.fine(&["gentoken", "-t", "-1"]).starts_with("HMAC SHA-256 JWT for anonymous user without expiration:\n")
    );

    let checked = place.fine(&["checktoken", &token]);
    let payload = checked.strip_prefix("valid token for user 42\npayload: ").expect("a verdict");
    let claims: Value = serde_json::from_str(payload).unwrap();
    assert_eq!(claims["sub"], json!("42"));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 604_800);
    let anonymous = place.fine(&["gentoken", "-q", "-t", "-1"]);
    assert!(place.fine(&["checktoken", &anonymous]).starts_with("valid token for anonymous user\n"));

    let (head, signature) = token.rsplit_once('.').unwrap();
    let other = if signature.starts_with('A') { 'B' } else { 'A' };
    let flipped = format!("{head}.{other}{}", &signature[1..]);
    place.fails(&["checktoken", &flipped], "error: token with algorithm HS256 and claims {");
    place.fails(&["checktoken", "nonsense"], "error: ");
    place.fails(&["checksubtoken", &token], "error: ");
}

/// Subscription tokens are made with their own key where there is one.
#[test]
fn subscription_tokens() {
    for (config, other) in [(KEYS, TWO_KEYS), (TWO_KEYS, KEYS)] {
        let place = Place::with("config.json", config);
        let token = place.fine(&["gensubtoken", "-u", "42", "-s", "$news", "-q"]);
        let checked = place.fine(&["checksubtoken", &token]);
        assert!(
            checked.starts_with("valid subscription token for user \"42\" and channel \"$news\"\npayload: {"),
            "{checked}"
        );
        place.fails(&["checktoken", &token], "error: ");
        fs::write(place.path("other.json"), other).unwrap();
        place.fails(&["checksubtoken", "-c", "other.json", &token], "error: ");
    }
    let place = Place::with("config.json", KEYS);
    place.fails(&["gensubtoken", "-u", "42"], "channel is required");
    let text = place.fine(&["gensubtoken", "-u", "42", "-s", "news"]);
    assert!(
        text.starts_with("HMAC SHA-256 JWT for user \"42\" and channel \"news\" with expiration TTL 168h0m0s:\n"),
        "{text}"
    );
}

#[test]
fn tokens_need_a_key() {
    let place = Place::new();
    place.fails(&["gentoken"], "client.token.hmac_secret_key is not set");
    let outcome = place.run_with(&["gentoken", "-q"], &[("CENTRIFUGO_CLIENT_TOKEN_HMAC_SECRET_KEY", "k")]);
    assert_eq!(outcome.code, 0, "{}", outcome.stdout);
}

/// A node that is told nonsense does not start, says why, and does not repeat secrets.
#[test]
fn refused_starts() {
    for (content, arguments, expected) in [
        (r#"{"channel": {"without_namespace": {"history_size": 1}}}"#, &[][..], "history_ttl is not"),
        ("{", &[], "config.json:1: not valid JSON"),
        ("{}", &["--http_server.port", "x"], "flag --http_server.port: \"x\" is not an integer"),
        ("{}", &["--dev", "--http_server.address", "0.0.0.0"], "serves 127.0.0.1 only"),
        (r#"{"http_api": {"key": ["s3cret"]}}"#, &[], "http_api.key: expected string"),
    ] {
        let outcome = Place::with("config.json", content).run(arguments);
        assert_eq!(outcome.code, 1, "{content}: {}", outcome.stderr);
        assert!(!outcome.stderr.contains("s3cret"), "{}", outcome.stderr);
        // Log collectors read lines of JSON.
        assert_eq!(outcome.stderr.lines().count(), 1, "{}", outcome.stderr);
        let line: Value = serde_json::from_str(&outcome.stderr).unwrap();
        let message = line["message"].as_str().unwrap();
        assert_eq!(line["level"], json!("fatal"));
        assert!(message.starts_with("cannot start: ") && message.contains(expected), "{content}: {message}");
    }
    let outcome = Place::with(".env", "nonsense\n").run(&[]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains(".env:1: expected NAME=value"), "{}", outcome.stderr);
}
