//! Every form of address with what becomes of it, and every mistake with what its operator is told.

use super::*;
use crate::config::schema;
use serde_json::{Value, json};

mod leaks;
mod partitions;

/// The `engine.redis` object that a configuration with these options has; durations are nanoseconds.
fn redis(options: Value) -> Redis {
    let mut tree = schema::at("engine.redis").unwrap().default_value();
    overlay(&mut tree, options);
    serde_json::from_value(tree).unwrap()
}

fn overlay(tree: &mut Value, options: Value) {
    match (tree, options) {
        (Value::Object(tree), Value::Object(options)) => {
            for (key, value) in options {
                overlay(tree.get_mut(&key).unwrap_or_else(|| panic!("no option {key}")), value);
            }
        }
        (tree @ Value::Array(_), Value::String(one)) => *tree = json!([one]),
        (tree, value) => *tree = value,
    }
}

fn at(address: &str) -> Value {
    json!({ "address": address })
}

/// What differs from a plain server with nothing configured.
fn shown(shard: &Shard) -> String {
    let mut parts = match &shard.topology {
        Topology::Standalone(endpoint) => vec![place(endpoint)],
        Topology::Cluster { seeds } => vec!["cluster".to_owned(), places(seeds)],
        Topology::Sentinel(Sentinels { master_name, endpoints, auth, tls, client_name }) => {
            let mut parts = vec![format!("sentinel {master_name} {}", places(endpoints))];
            parts.extend(who("sentinel_", auth, client_name));
            parts.extend(tls.as_ref().map(|tls| format!("sentinel_{}", encryption(tls))));
            parts
        }
    };
    parts.extend(who("", &shard.auth, &shard.client_name));
    parts.extend((shard.db > 0).then(|| format!("db={}", shard.db)));
    parts.extend(shard.tls.as_ref().map(encryption));
    parts.extend(shard.force_resp2.then(|| "resp2".to_owned()));
    parts.extend(shard.replica_client.then(|| "replicas".to_owned()));
    parts.extend((shard.connect_timeout_ms != 1000).then(|| format!("connect={}", shard.connect_timeout_ms)));
    parts.extend((shard.io_timeout_ms != 4000).then(|| format!("io={}", shard.io_timeout_ms)));
    parts.join(" ")
}

fn who(prefix: &str, auth: &Auth, client_name: &str) -> impl Iterator<Item = String> {
    let parts = [("user", &*auth.user), ("password", auth.password.expose()), ("name", client_name)];
    let parts = parts.into_iter().filter(|(_, value)| !value.is_empty());
    parts.map(|(name, value)| format!("{prefix}{name}={value}")).collect::<Vec<_>>().into_iter()
}

fn encryption(tls: &TlsOptions) -> String {
    let TlsOptions { cert_pem, key_pem, server_ca_pem, insecure_skip_verify, server_name } = tls;
    let blind = if *insecure_skip_verify { "blind" } else { "" };
    let parts = [cert_pem, key_pem.expose(), server_ca_pem, blind, server_name];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    if parts.is_empty() { "tls".to_owned() } else { format!("tls({})", parts.join(",")) }
}

fn places(endpoints: &[Endpoint]) -> String {
    endpoints.iter().map(place).collect::<Vec<_>>().join(",")
}

fn place(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Host { name, port } => format!("{name} {port}"),
        Endpoint::Unix(path) => path.display().to_string(),
    }
}

/// A shard that is read in another way than the reference reads it is another Redis, or none.
#[test]
fn addresses() {
    let long = format!("unix:///{}", "s".repeat(106));
    for (address, expected) in [
        ("localhost:6379", "localhost 6379"),
        ("  localhost:6379 ", "localhost 6379"),
        ("10.0.0.1:1", "10.0.0.1 1"),
        ("[::1]:65535", "::1 65535"),
        ("redis-1.my_net.local.:6379", "redis-1.my_net.local. 6379"),
        ("tcp://a:7000", "a 7000"),
        ("tcp://:p@a:7000/3", "a 7000 password=p db=3"),
        ("redis://a:7000", "a 7000"),
        ("REDIS://A:7000", "A 7000"),
        ("redis://a", "a 6379"),
        ("redis://a/", "a 6379"),
        ("redis://a:7000/15", "a 7000 db=15"),
        ("redis://[2001:db8::7]", "2001:db8::7 6379"),
        ("redis://[2001:db8::7]:7000/2", "2001:db8::7 7000 db=2"),
        ("redis://user:p@a:7000", "a 7000 user=user password=p"),
        ("redis://:p@a", "a 6379 password=p"),
        ("redis://user@a", "a 6379 user=user"),
        ("redis://@a", "a 6379"),
        ("redis://us%3Aer:p%40%2F%3f%25%20%C3%A9@a", "a 6379 user=us:er password=p@/?% é"),
        ("redis://u:a:b@c@d+e@a", "a 6379 user=u password=a:b@c@d+e"),
        ("rediss://a:7000", "a 7000 tls"),
        ("rediss://u:p@a?tls_enabled=true", "a 6379 user=u password=p tls"),
        ("redis://a?tls_enabled=1&force_resp2=T", "a 6379 tls resp2"),
        ("redis://a?tls_enabled=false&force_resp2=0&", "a 6379"),
        ("redis://a/1?connect_timeout=300ms&io_timeout=1.5s", "a 6379 db=1 connect=300 io=1500"),
        ("redis://a?connect_timeout=1500us&io_timeout=0", "a 6379 connect=2"),
        ("redis://a?replica_client_enabled=true", "a 6379 replicas"),
        ("redis://a:1?addr=b:2&addr=[::1]:3", "cluster a 1,b 2,::1 3"),
        ("redis://a?addr=b", "cluster a 6379,b 6379"),
        ("unix:///run/redis.sock", "/run/redis.sock"),
        ("unix://u:p@/run/my%20redis.sock?io_timeout=2s", "/run/my redis.sock user=u password=p io=2000"),
        (&*long, &long[7..]),
        ("redis+sentinel://a:7000?sentinel_master_name=m", "sentinel m a 7000"),
        ("redis+sentinel://a?sentinel_master_name=my+master", "sentinel my master a 26379"),
        ("redis+sentinel://a:1,b,[::1]:3?sentinel_master_name=m&addr=d:4", "sentinel m a 1,b 26379,::1 3,d 4"),
        (
            "redis+sentinel://u:p@a/5?sentinel_master_name=m&sentinel_user=su&sentinel_password=s%26p",
            "sentinel m a 26379 sentinel_user=su sentinel_password=s&p user=u password=p db=5",
        ),
        ("redis+sentinel://a?sentinel_master_name=m&sentinel_tls_enabled=true", "sentinel m a 26379 sentinel_tls"),
        ("redis+sentinel://a?sentinel_master_name=m&tls_enabled=true", "sentinel m a 26379 tls"),
        ("rediss+sentinel://a?sentinel_master_name=m", "sentinel m a 26379 sentinel_tls tls"),
        ("rediss+sentinel://a?sentinel_master_name=m&sentinel_tls_enabled=false", "sentinel m a 26379 tls"),
        ("redis://a:7000?sentinel_master_name=m", "sentinel m a 7000"),
        ("rediss://a?sentinel_master_name=m", "sentinel m a 26379 sentinel_tls tls"),
        ("redis://a?sentinel_master_name=", "a 6379"),
        ("redis+cluster://u:p@a:7000", "cluster a 7000 user=u password=p"),
        ("redis+cluster://a:7000/0", "cluster a 7000"),
        ("redis+cluster://a,b:2?addr=c:3&tls_enabled=true", "cluster a 6379,b 2,c 3 tls"),
        ("rediss+cluster://a", "cluster a 6379 tls"),
    ] {
        let options = RedisOptions::new(&redis(at(address))).unwrap_or_else(|mistake| panic!("{address}: {mistake:?}"));
        assert_eq!(options.shards.iter().map(shown).collect::<Vec<_>>(), [expected], "{address}");
    }
}

/// What a URL says counts for its shard, what it leaves open comes from the options, in the reference's order of lists.
#[test]
fn options_and_lists() {
    let auth = json!({"user": "ou", "password": "op", "db": 4, "client_name": "on"});
    let sentinel = json!({
        "sentinel_user": "su", "sentinel_password": "sp", "sentinel_client_name": "sn", "sentinel_master_name": "sm",
    });
    let tls = json!({
        "enabled": true, "cert_pem": "cert", "key_pem": "key", "server_ca_pem": "ca", "server_name": "n",
        "insecure_skip_verify": true,
    });
    let left_behind = json!({"insecure_skip_verify": true, "cert_pem": "cert"});
    let with = |mut options: Value, more: &Value| {
        let (Value::Object(options), Value::Object(more)) = (&mut options, more) else { unreachable!() };
        options.extend(more.clone());
        json!(options)
    };
    for (options, expected) in [
        (json!({}), "127.0.0.1 6379"),
        (json!({"address": ["a:1", "redis+cluster://b:2", "redis://c/1"]}), "a 1; cluster b 2; c 6379 db=1"),
        (with(at("a:1"), &auth), "a 1 user=ou password=op name=on db=4"),
        (with(at("redis://u:p@a/7"), &auth), "a 6379 user=u password=p name=on db=7"),
        (with(at("redis://u@a/0"), &auth), "a 6379 user=u password=op name=on"),
        (with(at("redis://:@a"), &auth), "a 6379 user=ou name=on db=4"),
        (with(at("unix:///s"), &auth), "/s user=ou password=op name=on db=4"),
        (with(at("redis+cluster://a"), &auth), "cluster a 6379 user=ou password=op name=on"),
        (with(at("redis://a?addr=b"), &auth), "cluster a 6379,b 6379 user=ou password=op name=on"),
        (with(at("a:1"), &sentinel), "a 1"),
        (
            with(at("redis+sentinel://a"), &sentinel),
            "sentinel sm a 26379 sentinel_user=su sentinel_password=sp sentinel_name=sn",
        ),
        (
            with(at("redis+sentinel://a?sentinel_master_name=m&sentinel_user=u&sentinel_password="), &sentinel),
            "sentinel m a 26379 sentinel_user=u sentinel_name=sn",
        ),
        (json!({"address": "rediss://a", "tls": tls}), "a 6379 tls(cert,key,ca,blind,n)"),
        (
            json!({"address": ["a:1", "redis://b?tls_enabled=false"], "tls": tls}),
            "a 1 tls(cert,key,ca,blind,n); b 6379",
        ),
        (json!({"address": "rediss://a", "tls": left_behind}), "a 6379 tls"),
        (json!({"address": "redis://a", "tls": left_behind, "sentinel_tls": tls}), "a 6379"),
        (
            json!({"address": "redis+sentinel://a?sentinel_master_name=m", "sentinel_tls": tls}),
            "sentinel m a 26379 sentinel_tls(cert,key,ca,blind,n)",
        ),
        (
            json!({
                "address": ["a:1", "redis://b?force_resp2=false&io_timeout=1s&replica_client_enabled=false"],
                "force_resp2": true, "replica_client": {"enabled": true}, "io_timeout": 2_000_000_000_i64,
                "connect_timeout": 5_000_000,
            }),
            "a 1 resp2 replicas connect=5 io=2000; b 6379 connect=5 io=1000",
        ),
        (json!({"connect_timeout": 0, "io_timeout": 0}), "127.0.0.1 6379"),
        (json!({"cluster_address": "a:1"}), "cluster a 1"),
        (
            json!({"cluster_address": ["a:1, [::1]:2", "c:3"], "address": "x", "db": 3}),
            "cluster a 1,::1 2; cluster c 3",
        ),
        (json!({"cluster_address": ["a:1"], "sentinel_address": ["b:1"]}), "cluster a 1"),
        (
            with(
                json!({"sentinel_address": ["a:1,b:2", "c:3"], "address": "x", "password": "p", "tls": tls}),
                &sentinel,
            ),
            "sentinel sm a 1,b 2 sentinel_user=su sentinel_password=sp sentinel_name=sn password=p \
             tls(cert,key,ca,blind,n); sentinel sm c 3 sentinel_user=su sentinel_password=sp sentinel_name=sn password=p \
             tls(cert,key,ca,blind,n)",
        ),
    ] {
        let found =
            RedisOptions::new(&redis(options.clone())).unwrap_or_else(|mistake| panic!("{options}: {mistake:?}"));
        let found: Vec<String> = found.shards.iter().map(shown).collect();
        assert_eq!(found.join("; "), expected, "{options}");
    }
}

/// A wrong time to live empties presence between two refreshes; a wrong prefix is another installation.
#[test]
fn what_is_not_about_shards() {
    let options = RedisOptions::new(&redis(json!({}))).unwrap();
    assert_eq!((&*options.prefix, options.presence_ttl_s), ("centrifugo", 60));
    assert!(!options.history_use_lists && !options.presence_hash_field_ttl && !options.presence_user_mapping);
    let options = RedisOptions::new(&redis(json!({
        "prefix": "p", "history_use_lists": true, "presence_ttl": 1_500_000_000, "presence_hash_field_ttl": true,
        "presence_user_mapping": true,
    })));
    let options = options.unwrap();
    assert_eq!((&*options.prefix, options.presence_ttl_s), ("p", 2));
    assert!(options.history_use_lists && options.presence_hash_field_ttl && options.presence_user_mapping);
    // A broker has no options of presence, a presence manager none of history.
    for path in ["broker.redis", "presence_manager.redis"] {
        let redis = serde_json::from_value(schema::at(path).unwrap().default_value()).unwrap();
        assert_eq!(RedisOptions::new(&redis).map(|options| options.presence_ttl_s), Ok(60), "{path}");
    }
}

/// Operators recognise their set-up in the log by this word.
#[test]
fn modes() {
    for (list, expected) in [
        (json!(["a:1"]), "standalone"),
        (json!(["unix:///s"]), "standalone"),
        (json!(["redis+sentinel://a?sentinel_master_name=m"]), "sentinel"),
        (json!(["redis+cluster://a"]), "cluster"),
        (json!(["a:1", "b:1"]), "sharded(2):standalone-x2"),
        (json!(["a:1", "redis+cluster://b"]), "sharded(2):standalone,cluster"),
        (
            json!(["a:1", "redis+cluster://b", "rediss+cluster://c", "d:1", "e:1"]),
            "sharded(5):standalone,cluster-x2,standalone-x2",
        ),
    ] {
        let options = RedisOptions::new(&redis(json!({ "address": list }))).unwrap();
        assert_eq!(options.mode(), expected, "{list}");
    }
}

/// Whoever made a mistake must find it by option, number of the entry and what was expected.
#[test]
fn mistakes() {
    let long = format!("unix:///{}", "s".repeat(107));
    let long_name = format!("{}:1", "a.".repeat(127));
    let master = "a?sentinel_master_name=m";
    for (address, expected) in [
        ("", "is empty"),
        ("   ", "is empty"),
        ("localhost", "there is no port"),
        (":6379", "there is no host"),
        ("localhost:", "a port from 1 to 65535"),
        ("localhost:0", "a port from 1 to 65535"),
        ("localhost:65536", "a port from 1 to 65535"),
        ("localhost:+1", "a port from 1 to 65535"),
        ("localhost:six", "a port from 1 to 65535"),
        ("::1:6379", "IPv6 address in brackets: [::1]:6379"),
        ("[::1]", "there is no port"),
        ("[::1", "needs a ] at its end"),
        ("[::1]6379", "expected :port behind the brackets"),
        ("[localhost]:6379", "an IPv6 address between the brackets"),
        ("[fe80::1%eth0]:6379", "an IPv6 address between the brackets"),
        ("256.0.0.1:6379", "last part is only digits"),
        ("a..b:1", "letters, digits, dots and hyphens"),
        ("hôst:1", "letters, digits, dots and hyphens"),
        (&*long_name, "letters, digits, dots and hyphens"),
        ("a:1,b:2", "give each shard an entry of its own"),
        ("a:1 b:2", "give each shard an entry of its own"),
        ("redis://a:1,b:2", "redis+cluster:// for the seeds of one cluster"),
        ("/run/redis.sock", "unix:// in front"),
        ("user:p@a:6379", "write redis:// in front"),
        ("a:6379/1", "write redis:// in front"),
        ("a:6379?io_timeout=1s", "write redis:// in front"),
        ("http://a:1", "expected host:port or a URL that starts with redis://"),
        ("redis+unix://a", "expected host:port or a URL"),
        ("://a", "expected host:port or a URL"),
        ("redis://", "there is no host"),
        ("redis://:6379", "there is no host"),
        ("redis://u:p@", "there is no host"),
        ("redis://a:b:6379", "expected host:port"),
        ("redis://a/x", "the number of a database"),
        ("redis://a/-1", "the number of a database"),
        ("redis://a/1/", "the number of a database"),
        ("redis://a//1", "the number of a database"),
        ("redis://a/2147483648", "the number of a database"),
        ("redis://u:p/w@a", "write that percent-encoded"),
        ("redis://u:p?w@a", "write that percent-encoded"),
        ("redis://u:p@w/w@a", "write that percent-encoded"),
        ("redis://u:p#w@a", "write it as %23"),
        ("redis://u:%p@a", "two hexadecimal digits"),
        ("redis://u%4:p@a", "two hexadecimal digits"),
        ("redis://u:%+1@a", "two hexadecimal digits"),
        ("redis://u:%FF@a", "must be UTF-8"),
        ("redis+cluster://a/1", "no other database than 0"),
        ("redis://a/1?addr=b", "no other database than 0"),
        ("redis+cluster://a?sentinel_master_name=m", "a cluster has no Sentinels"),
        ("redis+cluster://a,", "there is no host"),
        ("redis+sentinel://a", "Sentinels need sentinel_master_name"),
        ("redis+sentinel://a?sentinel_master_name=", "Sentinels need sentinel_master_name"),
        ("redis://a?sentinel_user=u", "no sentinel_master_name"),
        ("redis+cluster://a?sentinel_tls_enabled=true", "no sentinel_master_name"),
        ("rediss://a?tls_enabled=false", "remove one"),
        ("redis://a?addr=b:x", "a port from 1 to 65535"),
        ("redis://a?addr=", "there is no host"),
        ("redis://a?tls_enabled=yes", "tls_enabled: expected true or false"),
        ("redis://a?force_resp2", "force_resp2: expected true or false"),
        ("redis://a?replica_client_enabled=2", "replica_client_enabled: expected true or false"),
        (&*format!("redis://{master}&sentinel_tls_enabled=on"), "sentinel_tls_enabled: expected true or false"),
        ("redis://a?connect_timeout=5", "connect_timeout: expected a duration"),
        ("redis://a?io_timeout=", "io_timeout: expected a duration"),
        ("redis://a?io_timeout=-1s", "io_timeout: cannot be negative"),
        ("redis://a?io_timeout=1us", "io_timeout: 1µs is too short"),
        ("redis://a?io_timeout=1s&io_timeout=2s", "io_timeout is there twice"),
        ("redis://a?io_timeout=%", "two hexadecimal digits"),
        ("redis://a?io_timeout=1s&io_timout=1s", "parameter 2 is unknown; did you mean io_timeout?"),
        ("redis://a?colour=red", "parameter 1 is unknown; there are addr, connect_timeout, "),
        ("unix://run/redis.sock", "three slashes"),
        ("unix://", "three slashes"),
        ("unix:///", "three slashes"),
        ("unix:///run%00", "a zero byte"),
        ("unix:///run/my redis.sock", "a space itself as %20"),
        (&*long, "at most 107 bytes"),
        ("unix:///s?sentinel_master_name=m", "leads to one server"),
        ("unix:///s?addr=b:1", "leads to one server"),
        ("unix:///s?tls_enabled=true", "no TLS on a Unix socket"),
    ] {
        let mistake = RedisOptions::new(&redis(json!({"address": ["a:1", address]}))).unwrap_err();
        assert_eq!(mistake.option, "address.[1]", "{address}");
        assert!(mistake.message.contains(expected), "{address}: {}", mistake.message);
    }
}

/// The same for options around the addresses.
#[test]
fn mistakes_in_options() {
    let no_key = json!({"enabled": true, "cert_pem": "c"});
    for (options, option, expected) in [
        (json!({"address": []}), "address", "is empty"),
        (json!({"cluster_address": [""]}), "cluster_address.[0]", "there is no host"),
        (json!({"cluster_address": ["a:1", "b:1,c"]}), "cluster_address.[1]", "host 2: expected host:port"),
        (json!({"cluster_address": ["redis://a:1"]}), "cluster_address.[0]", "URLs are for the option address"),
        (json!({"cluster_address": ["a"]}), "cluster_address.[0]", "expected host:port, but there is no port"),
        (json!({"sentinel_address": ["a:1"]}), "sentinel_address.[0]", "Sentinels need sentinel_master_name"),
        (
            json!({"sentinel_address": ["a:1,"], "sentinel_master_name": "m"}),
            "sentinel_address.[0]",
            "host 2: expected host:port, but there is no host",
        ),
        (json!({"db": -1}), "db", "the number of a database"),
        (json!({"db": 1_i64 << 31}), "db", "the number of a database"),
        (json!({"client_name": "my node"}), "client_name", "no spaces"),
        (json!({"sentinel_client_name": "ä"}), "sentinel_client_name", "printable ASCII"),
        (json!({"connect_timeout": 30}), "connect_timeout", "30ns is too short, the least is 1ms"),
        (json!({"io_timeout": -1}), "io_timeout", "cannot be negative"),
        (json!({"presence_ttl": -1}), "presence_ttl", "cannot be negative"),
        (json!({"tls": no_key}), "tls.key_pem", "is needed with cert_pem"),
        (json!({"sentinel_tls": {"enabled": true, "key_pem": "k"}}), "sentinel_tls.cert_pem", "is needed with key_pem"),
        (json!({"address": "unix:///s", "tls": {"enabled": true}}), "address.[0]", "no TLS on a Unix socket"),
    ] {
        let mistake = RedisOptions::new(&redis(options.clone())).unwrap_err();
        assert_eq!(mistake.option, option, "{options}");
        assert!(mistake.message.contains(expected), "{options}: {}", mistake.message);
    }
}
