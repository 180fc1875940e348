//! What is said before the first command: which protocol, who we are, which database.
//!
//! On a core's thread, once per connection. Two round trips: `HELLO 3` with user, password and name, then whatever else is
//! asked for with a `PING` behind it, which shows whether Redis takes commands at all. Where Redis, or a proxy in front
//! of it, knows no `HELLO`, the older protocol and its commands are used. Must never let a command of the caller out
//! before it has succeeded: Redis would answer it for the wrong user or the wrong database.

use std::collections::VecDeque;

use super::command::Command;
use super::failure::Failure;
use super::reply::{Reply, ReplyError};

/// What a connection begins with.
#[derive(Clone)]
pub struct Handshake {
    /// Empty: the user `default`.
    pub user: String,
    /// Empty: none.
    pub password: String,
    /// Database; a cluster has only 0.
    pub db: u32,
    /// Shown by `CLIENT LIST`. Empty: none.
    pub client_name: String,
    /// Use the older protocol.
    pub force_resp2: bool,
    /// Read from a replica of a cluster (`READONLY`).
    pub replica: bool,
    /// Time for all of this, and for the answer to a keep-alive.
    pub io_timeout_ms: u64,
}

/// What Redis said about itself. All of it unknown under RESP2.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Greeting {
    /// Version, such as `7.4.1`.
    pub version: String,
    /// It is a node of a cluster.
    pub cluster: bool,
    /// It is a replica.
    pub replica: bool,
}

/// The handshake while it runs.
pub(super) struct Opening {
    handshake: Handshake,
    pub(super) resp3: bool,
    pub(super) deadline_ms: u64,
    pub(super) output: Vec<u8>,
    pub(super) greeting: Greeting,
    /// What is not answered yet.
    steps: VecDeque<Step>,
}

#[derive(Clone, Copy, PartialEq)]
enum Step {
    Hello,
    Auth,
    SetName,
    Select,
    ReadOnly,
    Ping,
}

impl Opening {
    pub(super) fn new(handshake: Handshake, now_ms: u64) -> Self {
        let mut opening = Self {
            resp3: !handshake.force_resp2,
            deadline_ms: now_ms.saturating_add(handshake.io_timeout_ms),
            output: Vec::new(),
            greeting: Greeting::default(),
            steps: VecDeque::new(),
            handshake,
        };
        if opening.resp3 {
            opening.hello();
        } else {
            opening.introduce();
        }
        opening
    }

    /// Takes the answer to the oldest step. True once all are answered.
    pub(super) fn answer(&mut self, reply: Reply) -> Result<bool, Failure> {
        let Some(step) = self.steps.pop_front() else {
            return Err(Failure::Malformed("a reply to no command"));
        };
        match (step, reply.into_result()) {
            (Step::Hello, Ok(reply)) => {
                self.greeting = greeting(reply);
                self.choose();
            }
            (Step::Hello, Err(error)) if self.knows_no_hello(&error) => {
                self.resp3 = false;
                self.introduce();
            }
            (_, Ok(_)) => {}
            // A name is a comfort; READONLY means nothing outside a cluster; a PING that is not allowed is answered.
            (Step::SetName, Err(_)) => {}
            (Step::ReadOnly, Err(error)) if error.code() == "ERR" => {}
            (Step::Ping, Err(error)) if error.code() == "NOPERM" => {}
            (step, Err(error)) => return Err(Failure::of(step.name(), &error)),
        }
        Ok(self.steps.is_empty())
    }

    /// Whether `HELLO` was refused for what it is, and not for who we are or for the state of Redis.
    fn knows_no_hello(&self, error: &ReplyError) -> bool {
        match error.code() {
            // With `AUTH` in it this word is the answer of somebody who did not read that far.
            "NOAUTH" => !self.handshake.password.is_empty(),
            "NOPROTO" => true,
            "ERR" => matches!(Failure::of("HELLO", error), Failure::Refused { .. }),
            _ => false,
        }
    }

    fn hello(&mut self) {
        let Handshake { user, password, client_name, .. } = &self.handshake;
        let auth = !(user.is_empty() && password.is_empty());
        let parts = 2 + if auth { 3 } else { 0 } + if client_name.is_empty() { 0 } else { 2 };
        let mut command = Command::new(&mut self.output, parts);
        command.arg(b"HELLO").arg(b"3");
        if auth {
            let user = if user.is_empty() { "default" } else { user };
            command.arg(b"AUTH").arg(user.as_bytes()).arg(password.as_bytes());
        }
        if !client_name.is_empty() {
            command.arg(b"SETNAME").arg(client_name.as_bytes());
        }
        self.steps.push_back(Step::Hello);
    }

    /// Everything that `HELLO` would have done, and what follows it.
    fn introduce(&mut self) {
        let Handshake { user, password, client_name, .. } = &self.handshake;
        match (user.as_str(), password.as_str()) {
            ("", "") => {}
            // Redis before 6 knows no users.
            ("", password) => {
                Command::new(&mut self.output, 2).arg(b"AUTH").arg(password.as_bytes());
                self.steps.push_back(Step::Auth);
            }
            (user, password) => {
                Command::new(&mut self.output, 3).arg(b"AUTH").arg(user.as_bytes()).arg(password.as_bytes());
                self.steps.push_back(Step::Auth);
            }
        }
        if !client_name.is_empty() {
            Command::new(&mut self.output, 3).arg(b"CLIENT").arg(b"SETNAME").arg(client_name.as_bytes());
            self.steps.push_back(Step::SetName);
        }
        self.choose();
    }

    fn choose(&mut self) {
        if self.handshake.db != 0 {
            Command::new(&mut self.output, 2).arg(b"SELECT").int(i64::from(self.handshake.db));
            self.steps.push_back(Step::Select);
        }
        if self.handshake.replica {
            Command::new(&mut self.output, 1).arg(b"READONLY");
            self.steps.push_back(Step::ReadOnly);
        }
        Command::new(&mut self.output, 1).arg(b"PING");
        self.steps.push_back(Step::Ping);
    }
}

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Hello => "HELLO",
            Self::Auth => "AUTH",
            Self::SetName => "CLIENT SETNAME",
            Self::Select => "SELECT",
            Self::ReadOnly => "READONLY",
            Self::Ping => "PING",
        }
    }
}

fn greeting(reply: Reply) -> Greeting {
    let mut greeting = Greeting::default();
    let Reply::Map(pairs) = reply else { return greeting };
    for (key, value) in pairs {
        let (Some(key), Some(value)) = (key.as_bytes(), value.as_bytes()) else { continue };
        match &**key {
            b"version" => greeting.version = String::from_utf8_lossy(value).into_owned(),
            b"mode" => greeting.cluster = value == "cluster",
            b"role" => greeting.replica = value == "replica" || value == "slave",
            _ => {}
        }
    }
    greeting
}
