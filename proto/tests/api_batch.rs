//! Several commands in one body, as `cent` and `gocent` spell them and as nobody should.

use gyre_proto::api::{self, Batch, Command, DecodeError, LegacyCall, LegacyCalls};
use prost::Message;

fn batch(body: &str) -> Batch {
    api::decode(body.as_bytes()).unwrap_or_else(|_| panic!("{body}"))
}

fn publish(channel: &str, data: &'static str) -> Command {
    let request = api::PublishRequest { channel: channel.into(), data: data.into(), ..Default::default() };
    Command { publish: Some(Box::new(request)), ..Default::default() }
}

/// A command that is missed or moved gives every later reply to the wrong caller.
#[test]
fn commands_of_a_batch() {
    let read = batch(
        r#"{"parallel":true,"commands":[{"publish":{"channel":"a","data":{"x": [1]}}},null,{},{"send_push":{"a":1}},
            {"Get_User_Status":{"users":["u",null]}},{"info":{}},{"publish":null}]}"#,
    );
    let users = api::GetUserStatusRequest { users: vec!["u".into(), String::new()] };
    let expected = vec![
        Some(publish("a", r#"{"x": [1]}"#)),
        None,
        Some(Command::default()),
        Some(Command::default()),
        Some(Command { get_user_status: Some(Box::new(users)), ..Default::default() }),
        Some(Command { info: Some(Box::default()), ..Default::default() }),
        Some(Command::default()),
    ];
    assert_eq!(read, Batch { commands: expected, parallel: true });
    assert_eq!(batch("{}"), Batch::default());
    assert_eq!(batch(r#"{"commands":null,"parallel":null}"#), Batch::default());
    let request = api::BatchRequest { commands: vec![publish("a", "1")], parallel: true };
    assert_eq!(Batch::from(request), batch(r#"{"commands":[{"publish":{"channel":"a","data":1}}],"parallel":true}"#));
}

/// A call with one wrong command is refused before any is carried out.
#[test]
fn wrong_types_fail_the_batch() {
    for body in [
        r#"{"commands":{}}"#,
        r#"{"commands":[[]]}"#,
        r#"{"commands":["publish"]}"#,
        r#"{"commands":[{"publish":[]}]}"#,
        r#"{"commands":[{"publish":{"channel":"a"}},{"publish":{"channel":5}}]}"#,
        r#"{"parallel":1}"#,
        "[]",
    ] {
        assert_eq!(api::decode::<Batch>(body.as_bytes()), Err(DecodeError), "{body}");
    }
}

/// Every method that a batch knows is also one that can be asked for; one that is not read is answered with 104.
#[test]
fn every_method_is_read() {
    let requests = [
        "publish",
        "broadcast",
        "subscribe",
        "unsubscribe",
        "disconnect",
        "presence",
        "presence_stats",
        "history",
        "history_remove",
        "info",
        "rpc",
        "refresh",
        "channels",
        "update_user_status",
        "get_user_status",
        "delete_user_status",
    ];
    for name in requests {
        let read = batch(&format!(r#"{{"commands":[{{"{name}":{{}}}}]}}"#));
        let command = read.commands[0].as_ref().expect("a command");
        // An empty message takes its number and a length.
        assert!(matches!(command.encoded_len(), 2 | 3), "{name}");
    }
}

fn calls(body: &str) -> Vec<Result<LegacyCall, DecodeError>> {
    // Whoever reads on after a mistake reads it again.
    let mut read: Vec<_> = LegacyCalls::new(body.as_bytes()).take(9).collect();
    let mistake = read.iter().position(Result::is_err);
    read.truncate(mistake.map_or(read.len(), |at| at + 1));
    read
}

/// This is what `gocent` sends for every call.
#[test]
fn objects_one_after_another() {
    let expected = vec![
        Ok(LegacyCall { id: 1, command: Some(publish("a", "{}")) }),
        Ok(LegacyCall { id: 0, command: Some(publish("b", "null")) }),
        Ok(LegacyCall { id: 2, command: Some(Command { info: Some(Box::default()), ..Default::default() }) }),
    ];
    let body = concat!(
        r#"{"id":1,"method":"publish","params":{"channel":"a","data":{}}}"#,
        "\n",
        r#"{"params":{"channel":"b","data":null},"obsolete":true}{"id":2,"method":"INFO","params":[7]}"#,
        " \r\n"
    );
    assert_eq!(calls(body), expected);
    assert_eq!(calls(&format!("\t{body}")), expected);
}

/// Which command it was decides whom the error goes to.
#[test]
fn mistakes_in_objects() {
    for body in ["", " \n", "[]", "7", "{", r#"{"id":-1}"#, r#"{"id":"1"}"#, r#"{"id":4294967296}"#] {
        assert_eq!(calls(body), [Err(DecodeError)], "{body}");
    }
    for method in [r#""nonsense""#, r#""""#, "1.5", "[]", "{}", "true", "4294967296"] {
        assert_eq!(calls(&format!(r#"{{"method":{method}}}"#)), [Err(DecodeError)], "{method}");
    }
    let good = r#"{"params":{"channel":"a","data":1}}"#;
    let read = calls(&format!("{good}\n{{bad\n{good}"));
    assert_eq!(read.len(), 2);
    assert_eq!(read[0], Ok(LegacyCall { id: 0, command: Some(publish("a", "1")) }));
    // Parameters that are missing or wrong are the affair of their command alone.
    for call in [r#"{"id":3}"#, r#"{"id":3,"params":[]}"#, r#"{"id":3,"method":4,"params":{"channel":5}}"#] {
        assert_eq!(calls(call), [Ok(LegacyCall { id: 3, command: None })], "{call}");
    }
    // So are methods of other editions, and numbers of none.
    for method in ["13", "-1", "14", "99", r#""block_user""#, r#""MAP_publish""#] {
        let call = LegacyCall { id: 0, command: Some(Command::default()) };
        assert_eq!(calls(&format!(r#"{{"method":{method}}}"#)), [Ok(call)], "{method}");
    }
}

/// The numbers are on the wire of every old client.
#[test]
fn methods_by_number_and_by_name() {
    let names = [
        (0, "publish"),
        (1, "broadcast"),
        (2, "unsubscribe"),
        (3, "disconnect"),
        (4, "presence"),
        (5, "presence_stats"),
        (6, "history"),
        (7, "history_remove"),
        (8, "channels"),
        (9, "info"),
        (10, "rpc"),
        (11, "subscribe"),
        (12, "refresh"),
        (15, "update_user_status"),
        (16, "get_user_status"),
        (17, "delete_user_status"),
    ];
    for (number, name) in names {
        let in_batch = batch(&format!(r#"{{"commands":[{{"{name}":{{}}}}]}}"#)).commands.remove(0);
        let expected = [Ok(LegacyCall { id: 0, command: in_batch })];
        assert_eq!(calls(&format!(r#"{{"method":{number},"params":{{}}}}"#)), expected, "{number}");
        assert_eq!(calls(&format!(r#"{{"method":"{name}","params":null}}"#)), expected, "{name}");
    }
}
