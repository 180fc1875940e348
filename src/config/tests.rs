//! Layers, precedence, typing and warnings, seen through `Config::load`.

mod refused;

use super::types::{Cores, DataFormat, LogLevel};
use super::*;
use serde_json::json;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

type Variables<'a> = &'a [(&'a str, &'a str)];

fn sources(file: &str, extension: &str, variables: Variables<'_>, flags: Variables<'_>) -> Sources {
    static FILES: AtomicUsize = AtomicUsize::new(0);
    let number = FILES.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("gyre-config-{}-{number}.{extension}", std::process::id()));
    fs::write(&path, file).unwrap();
    let flag = |(path, value): &(&str, &str)| Flag { path: (*path).to_owned(), value: (*value).to_owned() };
    Sources {
        file: path,
        environment: variables.iter().copied().collect(),
        flags: flags.iter().map(flag).collect(),
        ..Sources::default()
    }
}

/// Most tests have no API key; the warning about that has a test of its own.
fn load_all(sources: Sources) -> Result<(Config, Vec<Warning>), Error> {
    let path = sources.file.clone();
    let result = Config::load(sources);
    let _ = fs::remove_file(path);
    result.map(|(config, warnings)| (config, warnings.into_iter().filter(|one| !is_about_api_key(one)).collect()))
}

fn is_about_api_key(warning: &Warning) -> bool {
    matches!(warning, Warning::Note(note) if note.ends_with("until http_api.key is set"))
}

fn load(file: Value, variables: Variables<'_>, flags: Variables<'_>) -> (Config, Vec<Warning>) {
    load_all(sources(&file.to_string(), "json", variables, flags)).unwrap()
}

fn refused(file: Value, variables: Variables<'_>) -> String {
    load_all(sources(&file.to_string(), "json", variables, &[])).unwrap_err().to_string()
}

fn warnings(file: Value, variables: Variables<'_>) -> Vec<String> {
    load(file, variables, &[]).1.iter().map(ToString::to_string).collect()
}

/// A node without any configuration starts with the documented defaults.
#[test]
fn nothing_configured() {
    let sources = Sources { file: PathBuf::from("/nonexistent/config.json"), ..Sources::default() };
    let (config, warnings) = Config::load(sources).unwrap();
    assert_eq!(config.http_server.port, 8000);
    assert_eq!(config.client.ping_interval, Some(Duration::from_secs(25)));
    assert_eq!(config.client.channel_limit, Some(128));
    assert_eq!(config.channel.history_meta_ttl, Duration::from_secs(720 * 3600));
    assert_eq!(config.websocket.handler_prefix, "/connection/websocket");
    assert_eq!(config.gyre.cores, Cores::AUTO);
    assert!(config.node.name.ends_with("_8000"), "{}", config.node.name);
    assert!(matches!(&warnings[0], Warning::FileMissing { .. }), "{warnings:?}");
    assert!(warnings.len() == 2 && is_about_api_key(&warnings[1]), "{warnings:?}");
}

/// The order that operators of the reference rely on.
#[test]
fn flags_beat_variables_beat_the_file_beats_defaults() {
    let file = || json!({"http_server": {"port": 8001}});
    let variable: Variables<'_> = &[("CENTRIFUGO_HTTP_SERVER_PORT", "8002")];
    assert_eq!(load(file(), &[], &[]).0.http_server.port, 8001);
    assert_eq!(load(file(), variable, &[]).0.http_server.port, 8002);
    assert_eq!(load(file(), variable, &[("http_server.port", "8003")]).0.http_server.port, 8003);
    assert_eq!(load(file(), &[("CENTRIFUGO_HTTP_SERVER_PORT", "")], &[]).0.http_server.port, 8001);
    let both: Variables<'_> = &[("CENTRIFUGO_HTTP_SERVER_PORT", "1"), ("GYRE_HTTP_SERVER_PORT", "2")];
    assert_eq!(load(file(), both, &[]).0.http_server.port, 2);
    assert_eq!(load(json!({}), &[("GYRE_CORES", "3")], &[]).0.gyre.cores, Cores::Count(3));
    assert_eq!(load(json!({}), &[("GYRE_RESERVED_CORES", "2")], &[]).0.gyre.reserved_cores, 2);
}

/// A zero in a file means the default; one in a variable stays, unless the option has a meaning of its own for it.
#[test]
fn zeros() {
    let file = json!({"client": {"channel_limit": 0, "ping_interval": "0s", "history_max_publication_limit": 0}});
    let client = load(file, &[], &[]).0.client;
    assert_eq!(client.channel_limit, Some(128));
    assert_eq!(client.ping_interval, Some(Duration::from_secs(25)));
    assert_eq!(client.history_max_publication_limit, Some(300));
    let variables: Variables<'_> = &[
        ("CENTRIFUGO_CLIENT_CHANNEL_LIMIT", "0"),
        ("CENTRIFUGO_CLIENT_STALE_CLOSE_DELAY", "0s"),
        ("CENTRIFUGO_CLIENT_HISTORY_MAX_PUBLICATION_LIMIT", "0"),
        ("CENTRIFUGO_CLIENT_PONG_TIMEOUT", "-1"),
    ];
    let client = load(json!({}), variables, &[]).0.client;
    assert_eq!(client.channel_limit, Some(128));
    assert_eq!(client.stale_close_delay, Some(Duration::from_secs(15)));
    assert_eq!(client.history_max_publication_limit, None);
    assert_eq!(client.pong_timeout, None);
    assert_eq!(load(json!({"client": {"channel_limit": -1}}), &[], &[]).0.client.channel_limit, None);
}

#[test]
fn lists_in_variables_are_separated_by_spaces() {
    let variables: Variables<'_> = &[("CENTRIFUGO_CLIENT_ALLOWED_ORIGINS", "https://a.x https://b.x")];
    assert_eq!(load(json!({}), variables, &[]).0.client.allowed_origins, ["https://a.x", "https://b.x"]);
}

/// Namespaces: JSON replaces, names add, and each can be refined.
#[test]
fn namespaces_from_variables() {
    let file = || json!({"channel": {"namespaces": [{"name": "from-file", "join_leave": true}]}});
    let names = |config: &Config| config.channel.namespaces.iter().map(|one| one.name.clone()).collect::<Vec<_>>();

    let replaced: Variables<'_> = &[
        ("CENTRIFUGO_CHANNEL_NAMESPACES", r#"[{"name":"env","presence":true}]"#),
        ("CENTRIFUGO_CHANNEL_NAMESPACES_ENV_HISTORY_SIZE", "10"),
        ("CENTRIFUGO_CHANNEL_NAMESPACES_ENV_HISTORY_TTL", "60s"),
    ];
    let (config, warnings) = load(file(), replaced, &[]);
    assert_eq!(names(&config), ["env"]);
    assert!(config.channel.namespaces[0].options.presence);
    assert_eq!(config.channel.namespaces[0].options.history_size, 10);
    assert!(warnings.is_empty(), "{warnings:?}");

    let added: Variables<'_> =
        &[("CENTRIFUGO_CHANNEL_NAMESPACES", "one two"), ("CENTRIFUGO_CHANNEL_NAMESPACES_FROM_FILE_PRESENCE", "true")];
    let (config, warnings) = load(file(), added, &[]);
    assert_eq!(names(&config), ["from-file", "one", "two"]);
    let options = &config.channel.namespaces[0].options;
    assert!(options.presence && options.join_leave);
    assert!(warnings.is_empty(), "{warnings:?}");

    let twice: Variables<'_> = &[("CENTRIFUGO_CHANNEL_NAMESPACES", "from-file")];
    assert!(refused(file(), twice).contains("channel.namespaces.[1].name: \"from-file\" is used twice"));
}

/// A namespace without own value has the general one, and a printed configuration does not show that.
#[test]
fn namespaces_inherit() {
    let file = json!({"channel": {
        "history_meta_ttl": "10h", "publication_data_format": "json",
        "namespaces": [{"name": "one"}, {"name": "two", "history_meta_ttl": "1h", "publication_data_format": "binary"}],
    }});
    let channel = load(file, &[], &[]).0.channel;
    assert_eq!(channel.without_namespace.history_meta_ttl, Duration::from_secs(36_000));
    assert_eq!(channel.namespaces[0].options.history_meta_ttl, Duration::from_secs(36_000));
    assert_eq!(channel.namespaces[0].options.publication_data_format, DataFormat::Json);
    assert_eq!(channel.namespaces[1].options.history_meta_ttl, Duration::from_secs(3600));
    assert_eq!(channel.namespaces[1].options.publication_data_format, DataFormat::Binary);
}

/// A slip in a key must be found by reading the log, not by wondering why presence is empty.
#[test]
fn unknown_names_warn_with_what_was_meant() {
    let file = json!({
        "channel": {"namespaces": [{"name": "chat", "presense": true}]},
        "Http_Server": {"prot": 1}, "client": {"proxy": {"connect": {"http": {"static_headers": {"whatever": "x"}}}}},
    });
    let variables: Variables<'_> = &[
        ("CENTRIFUGO_HTTP_SERVER_PROT", "1"),
        ("CENTRIFUGO_PORT_8000_TCP", "tcp://10.0.0.1"),
        ("CENTRIFUGO_SERVICE_HOST", "10.0.0.1"),
        ("CENTRIFUGO_VAR_X", "1"),
        ("OTHER", "1"),
        ("CENTRIFUGO_CONSUMERS", r#"[{"name":"one","tpye":"kafka"}]"#),
    ];
    let found = warnings(file, variables);
    for expected in [
        "unknown key in configuration file: channel.namespaces.[0].presense; did you mean presence?",
        "unknown key in configuration file: http_server.prot; did you mean port?",
        "unknown var in environment: CENTRIFUGO_HTTP_SERVER_PROT; did you mean CENTRIFUGO_HTTP_SERVER_PORT?",
        "unknown var in environment: CENTRIFUGO_CONSUMERS: consumers.[0].tpye; did you mean type?",
    ] {
        assert!(found.iter().any(|warning| warning == expected), "{expected}: {found:?}");
    }
    assert_eq!(found.iter().filter(|warning| warning.starts_with("unknown")).count(), 4, "{found:?}");
}

/// Options that do nothing yet are named, but only when that makes a difference.
#[test]
fn options_without_effect_warn() {
    let file = json!({
        "admin": {"enabled": false, "password": "x", "secret": "y"},
        "sse": {"enabled": true}, "engine": {"redis": {"prefix": "centrifugo"}},
        "channel": {"without_namespace": {"force_recovery_mode": "stream", "delta_publish": true}},
        "client": {"concurrency": 5},
    });
    let mut found = warnings(file, &[]);
    found.sort();
    let expected = ["channel.without_namespace.delta_publish", "client.concurrency", "sse.enabled"];
    assert_eq!(found.len(), 3, "{found:?}");
    for (warning, key) in found.iter().zip(expected) {
        assert!(warning.starts_with(&format!("{key} is not supported yet")), "{warning}");
    }
}

#[test]
fn old_names_work_and_warn() {
    let (config, warnings) = load(json!({"log_level": "DEBUG"}), &[], &[]);
    assert_eq!(config.log.level, LogLevel::Debug);
    assert!(matches!(&warnings[..], [Warning::OldKey { modern: "log.level", .. }]), "{warnings:?}");
}

/// Either half of the heartbeat may be off.
#[test]
fn disabled_heartbeats() {
    let client = load(json!({"client": {"ping_interval": "-1"}}), &[], &[]).0.client;
    assert_eq!((client.ping_interval, client.pong_timeout), (None, Some(Duration::from_secs(8))));
}

/// Every call of a backend would fail, and its author would look for the mistake there.
#[test]
fn a_server_api_without_a_key_warns() {
    for (section, is_noted) in [
        (json!({}), true),
        (json!({"key": "k"}), false),
        (json!({"insecure": true}), false),
        (json!({"disabled": true}), false),
    ] {
        let sources = sources(&json!({"http_api": section}).to_string(), "json", &[], &[]);
        let noted = Config::load(sources.clone()).unwrap().1.iter().any(is_about_api_key);
        let noted_in_dev =
            Config::load(Sources { dev: true, ..sources.clone() }).unwrap().1.iter().any(is_about_api_key);
        let _ = fs::remove_file(&sources.file);
        assert_eq!((noted, noted_in_dev), (is_noted, false), "{section}");
    }
}

/// Logs and errors are shown to people who must not know the keys.
#[test]
fn secrets_are_not_shown() {
    let file = json!({
        "client": {"token": {"hmac_secret_key": "s3cret"}}, "http_api": {"key": "s3cret"},
        "engine": {"redis": {"address": "redis://user:s3cret@host:6379", "password": "s3cret"}},
        "client.proxy.connect.endpoint": "http://u:s3cret@h/",
    });
    let (config, warnings) = load(file, &[("CENTRIFUGO_ADMIN_PASSWORD", "s3cret")], &[]);
    assert_eq!(config.http_api.key.expose(), "s3cret");
    assert!(!format!("{config:?} {warnings:?}").contains("s3cret"));
    let message = refused(json!({"http_api": {"key": ["s3cret"]}}), &[]);
    assert!(!message.contains("s3cret"), "{message}");
}

/// `--dev` opens the node, and therefore only on the loopback interface.
#[test]
fn dev() {
    let dev = |sources: Sources| load_all(Sources { dev: true, ..sources });
    let (config, warnings) = dev(sources("{}", "json", &[], &[])).unwrap();
    assert_eq!(config.http_server.address, "127.0.0.1");
    assert!(config.client.insecure && config.http_api.insecure && config.prometheus.enabled);
    assert_eq!(config.client.allowed_origins, ["*"]);
    assert_eq!(config.channel.without_namespace.history_size, 100);
    assert!(warnings.iter().any(|warning| matches!(warning, Warning::Insecure { .. })));
    let (config, _) = dev(sources("{}", "json", &[], &[("http_server.address", "::1")])).unwrap();
    assert_eq!(config.http_server.address, "::1");
    let message = dev(sources("{}", "json", &[], &[("http_server.address", "0.0.0.0")])).unwrap_err().to_string();
    assert!(message.contains("serves 127.0.0.1 only"), "{message}");
}

/// A reload sees the file's new content and the old environment and flags.
#[test]
fn reload_reads_the_same_sources() {
    let sources = sources(
        r#"{"client": {"channel_limit": 1}}"#,
        "json",
        &[("CENTRIFUGO_LOG_LEVEL", "warn")],
        &[("http_server.port", "9000")],
    );
    let path = sources.file.clone();
    let (config, _) = Config::load(sources).unwrap();
    fs::write(&path, r#"{"client": {"channel_limit": 2}}"#).unwrap();
    let reloaded = Config::load(config.sources.clone()).unwrap().0;
    fs::write(&path, "{").unwrap();
    assert!(Config::load(config.sources.clone()).is_err());
    fs::remove_file(&path).unwrap();
    assert_eq!(reloaded.client.channel_limit, Some(2));
    assert_eq!(reloaded.http_server.port, 9000);
    assert_eq!(reloaded.log.level, LogLevel::Warn);
}

/// What `defaultconfig` writes is accepted without a warning, in every format, and says the same again.
#[test]
fn printed_defaults_load_back() {
    let printed = print::Printable::new(None, &Environment::default()).unwrap();
    let json = printed.file(Format::Json).unwrap();
    for (format, extension) in [(Format::Json, "json"), (Format::Yaml, "yaml"), (Format::Toml, "toml")] {
        let text = printed.file(format).unwrap();
        let sources = sources(&text, extension, &[], &[]);
        let again = print::Printable::new(Some(&sources.file), &Environment::default()).unwrap();
        assert_eq!(again.file(Format::Json).unwrap(), json, "{extension}");
        let (_, warnings) = load_all(sources).unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
    }
    assert!(json.contains("\"ping_interval\": \"25s\""));
    assert!(!json.contains("redisnats"));
}

/// What `defaultenv` prints is accepted without a warning and says the same again.
#[test]
fn printed_variables_load_back() {
    let base = json!({
        "http_server": {"port": 8001}, "client": {"allowed_origins": ["https://a", "https://b"]},
        "channel": {"namespaces": [{"name": "a-b", "presence": true}, {"name": "cd", "history_size": 3, "history_ttl": "3s"}]},
    });
    let sources = sources(&base.to_string(), "json", &[], &[]);
    let printed = print::Printable::new(Some(&sources.file), &Environment::default()).unwrap();
    let _ = fs::remove_file(&sources.file);
    let few = printed.variables(true);
    let expected = "CENTRIFUGO_CHANNEL_NAMESPACES=\"a-b cd\"\n\
        CENTRIFUGO_CHANNEL_NAMESPACES_A_B_NAME=\"a-b\"\n\
        CENTRIFUGO_CHANNEL_NAMESPACES_A_B_PRESENCE=true\n\
        CENTRIFUGO_CHANNEL_NAMESPACES_CD_HISTORY_SIZE=3\n\
        CENTRIFUGO_CHANNEL_NAMESPACES_CD_HISTORY_TTL=3s\n\
        CENTRIFUGO_CHANNEL_NAMESPACES_CD_NAME=\"cd\"\n\
        CENTRIFUGO_CLIENT_ALLOWED_ORIGINS=\"https://a https://b\"\n\
        CENTRIFUGO_HTTP_SERVER_PORT=8001\n";
    assert_eq!(few, expected);

    let all = printed.variables(false);
    let path = std::env::temp_dir().join(format!("gyre-variables-{}", std::process::id()));
    fs::write(&path, &all).unwrap();
    let mut environment = Environment::default();
    environment.add_dotenv(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let sources = Sources { file: PathBuf::from("/nonexistent"), environment, ..Sources::default() };
    let (config, warnings) = load_all(sources).unwrap();
    assert!(matches!(&warnings[..], [Warning::FileMissing { .. }]), "{warnings:?}");
    assert_eq!(config.channel.namespaces[1].options.history_ttl, Duration::from_secs(3));
    assert_eq!(config.http_server.port, 8001);
}
