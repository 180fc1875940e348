//! Weak typing: from what a file or a variable holds to the one form that an option has in the normalised tree.
//!
//! A duration becomes an integer of nanoseconds, a list of strings an array, a map an object of strings. Messages say
//! what was expected; they show the value only where no secret can stand (numbers, durations, booleans).

use super::Environment;
use super::duration;
use super::schema::{Field, Kind};
use serde_json::{Map, Number, Value, json};

/// Values in files and in JSON: lenient. Objects and lists of objects are not for this function.
pub(super) fn from_file(field: &Field, value: &Value, environment: &Environment) -> Result<Value, String> {
    let expected = || format!("expected {} but found {}", field.type_name(), type_of(value));
    match field.kind {
        Kind::Text(_) | Kind::Pem => scalar(value).map(Value::String).ok_or_else(expected),
        Kind::Int(_) => match value {
            Value::Number(number) => in_range(field, whole(number)?),
            Value::Bool(flag) => in_range(field, i64::from(*flag)),
            Value::String(text) if text.is_empty() => Ok(json!(0)),
            Value::String(text) => from_text(field, text, environment),
            _ => Err(expected()),
        },
        Kind::Bool => match value {
            Value::Bool(_) => Ok(value.clone()),
            Value::Number(number) => Ok(json!(number.as_f64() != Some(0.0))),
            Value::String(text) if text.is_empty() => Ok(json!(false)),
            Value::String(text) => from_text(field, text, environment),
            _ => Err(expected()),
        },
        Kind::Duration(_) => match value {
            Value::Number(number) => Ok(json!(number.as_i64().map_or_else(|| whole(number), Ok)?)),
            Value::String(text) if text.is_empty() => Ok(json!(0)),
            Value::String(text) => from_text(field, text, environment),
            _ => Err(expected()),
        },
        Kind::Texts(_) => match value {
            Value::Array(items) => {
                let items: Option<Vec<_>> = items.iter().map(scalar).collect();
                items.map(|items| json!(items)).ok_or_else(|| "expected a list of strings".to_owned())
            }
            Value::String(text) if text.is_empty() => Ok(json!([])),
            value => scalar(value).map(|one| json!([one])).ok_or_else(expected),
        },
        Kind::Map => pairs(value, true, environment),
        Kind::Pairs => pairs(value, false, environment),
        Kind::Opaque => Ok(value.clone()),
        Kind::Object(_) | Kind::Inline(_) | Kind::Items(_) | Kind::Named(_) => Err(expected()),
    }
}

/// Values of variables and flags: text in Go's notation. Never called for objects.
pub(super) fn from_text(field: &Field, text: &str, environment: &Environment) -> Result<Value, String> {
    match field.kind {
        Kind::Text(_) | Kind::Pem => Ok(json!(text)),
        Kind::Int(_) => {
            integer(text).map_or_else(|| Err(format!("{text:?} is not an integer")), |int| in_range(field, int))
        }
        Kind::Bool => match text {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(json!(true)),
            "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(json!(false)),
            _ => Err(format!("{text:?} is neither true nor false")),
        },
        Kind::Duration(_) => Ok(json!(duration::parse(text)?)),
        Kind::Texts(_) => Ok(json!(text.split(' ').filter(|item| !item.is_empty()).collect::<Vec<_>>())),
        Kind::Map | Kind::Pairs => {
            let value = serde_json::from_str(text).map_err(|_| "expected a JSON object of strings".to_owned())?;
            pairs(&value, true, environment)
        }
        _ => serde_json::from_str(text).map_err(|_| "expected JSON".to_owned()),
    }
}

/// Zero of its type: what a file cannot set where there is a default.
pub(super) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

pub(super) fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(if *flag { "1" } else { "0" }.to_owned()),
        _ => None,
    }
}

fn whole(number: &Number) -> Result<i64, String> {
    // A float up to 2^53 is exact; JSON and YAML writers produce 8000.0 and 1e6 for integers.
    let float =
        || number.as_f64().filter(|float| float.fract() == 0.0 && float.abs() <= 9.0e15).map(|float| float as i64);
    number.as_i64().or_else(float).ok_or_else(|| format!("{number} is not an integer"))
}

fn in_range(field: &Field, int: i64) -> Result<Value, String> {
    let (min, max) = field.range;
    match int {
        int if int < min => Err(format!("{int} is too small, the least is {min}")),
        int if int > max => Err(format!("{int} is too large, the most is {max}")),
        int => Ok(json!(int)),
    }
}

/// Decimal, `0x`, `0b`, `0o`, and octal after a leading zero.
fn integer(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', b'b' | b'B', ..] => (2, &digits[2..]),
        [b'0', b'o' | b'O', ..] => (8, &digits[2..]),
        [b'0', _, ..] => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let size = i128::from_str_radix(digits, radix).ok()?;
    i64::try_from(if negative { -size } else { size }).ok()
}

/// An object of strings, or a list of `{key, value}`; `${CENTRIFUGO_VAR_X}` in values is replaced.
fn pairs(value: &Value, is_object_fine: bool, environment: &Environment) -> Result<Value, String> {
    let mut found = Map::new();
    match value {
        Value::Object(fields) if is_object_fine => {
            for (key, value) in fields {
                let value = scalar(value).ok_or_else(|| {
                    format!("the value of {key} must be a string; for a key with dots use a list of {{key, value}}")
                })?;
                found.insert(key.clone(), json!(expand(&value, environment)?));
            }
        }
        Value::Array(items) => {
            for item in items {
                let part = |name: &str| item.get(name).and_then(scalar);
                let (Some(key), Some(value)) = (part("key"), part("value")) else {
                    return Err("expected a list of objects with key and value".to_owned());
                };
                if found.insert(key.clone(), json!(expand(&value, environment)?)).is_some() {
                    return Err(format!("the key {key} is there twice"));
                }
            }
        }
        _ if is_object_fine => return Err("expected an object of strings, or a list of key and value".to_owned()),
        _ => return Err("expected a list of key and value".to_owned()),
    }
    Ok(Value::Object(found))
}

fn expand(text: &str, environment: &Environment) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let end = from.find('}').map(|end| &from[2..end]);
        match end.filter(|name| name.starts_with("CENTRIFUGO_VAR_") || name.starts_with("GYRE_VAR_")) {
            Some(name) => {
                let value = environment.value(name).ok_or_else(|| format!("environment variable {name} is not set"))?;
                out.push_str(value);
                rest = &from[name.len() + 3..];
            }
            None => {
                out.push_str("${");
                rest = &from[2..];
            }
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::at;

    fn file(path: &str, value: Value) -> Result<Value, String> {
        let environment = Environment::from_iter([("CENTRIFUGO_VAR_KEY", "s3cret")]);
        from_file(at(path).unwrap(), &value, &environment)
    }

    fn text(path: &str, text: &str) -> Result<Value, String> {
        from_text(at(path).unwrap(), text, &Environment::default())
    }

    /// Configurations written for the reference have ports in quotes and single strings for lists.
    #[test]
    fn files_are_read_leniently() {
        assert_eq!(file("http_server.port", json!("8001")), Ok(json!(8001)));
        assert_eq!(file("http_server.port", json!(8001.0)), Ok(json!(8001)));
        assert_eq!(file("http_server.internal_port", json!(9000)), Ok(json!("9000")));
        assert_eq!(file("health.enabled", json!("true")), Ok(json!(true)));
        assert_eq!(file("health.enabled", json!(1)), Ok(json!(true)));
        assert_eq!(file("engine.redis.address", json!("a:1,b:2")), Ok(json!(["a:1,b:2"])));
        assert_eq!(file("client.ping_interval", json!("1h30m")), Ok(json!(5_400_000_000_000_i64)));
        assert_eq!(file("client.ping_interval", json!(-1)), Ok(json!(-1)));
        assert_eq!(file("client.ping_interval", json!("-1")), Ok(json!(-1)));
    }

    #[test]
    fn mistakes_say_what_was_expected() {
        assert_eq!(file("http_server.port", json!(70000)).unwrap_err(), "70000 is too large, the most is 65535");
        assert_eq!(file("http_server.port", json!([1])).unwrap_err(), "expected integer but found a list");
        assert_eq!(file("http_api.key", json!({"a": "secret"})).unwrap_err(), "expected string but found an object");
        assert_eq!(file("client.ping_interval", json!("10")).unwrap_err(), "\"10\" has no unit; write 10s or 10ms");
        assert_eq!(text("health.enabled", "yes").unwrap_err(), "\"yes\" is neither true nor false");
    }

    #[test]
    fn integers_have_a_base() {
        for (written, int) in [("0x10", 16), ("0b11", 3), ("0o17", 15), ("017", 15), ("-5", -5), ("0", 0), ("+7", 7)] {
            assert_eq!(text("client.channel_limit", written), Ok(json!(int)), "{written}");
        }
        for written in ["", "08", "0x", "1_000", "0x-1", "--1", "99999999999999999999"] {
            assert!(text("client.channel_limit", written).is_err(), "{written}");
        }
    }

    #[test]
    fn maps_come_in_two_forms_and_expand_variables() {
        let path = "client.proxy.connect.http.static_headers";
        assert_eq!(file(path, json!({"a": "x${CENTRIFUGO_VAR_KEY}${HOME}"})), Ok(json!({"a": "xs3cret${HOME}"})));
        assert_eq!(file(path, json!([{"key": "A.b", "value": 1}])), Ok(json!({"A.b": "1"})));
        assert!(file(path, json!([{"key": "a", "value": "1"}, {"key": "a", "value": "2"}])).is_err());
        let missing = file(path, json!({"a": "${CENTRIFUGO_VAR_NONE}"})).unwrap_err();
        assert_eq!(missing, "environment variable CENTRIFUGO_VAR_NONE is not set");
        assert_eq!(text(path, r#"{"a":"b"}"#), Ok(json!({"a": "b"})));
    }
}
