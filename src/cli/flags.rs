//! Flags of the node itself: names are paths of options, types and texts come from the schema.

use crate::config::schema::{self, Kind};
use crate::config::{Flag, Sources};
use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use std::path::PathBuf;

/// Options that have a flag, with its short form. None of them holds a secret.
const FLAGS: [(&str, Option<char>); 33] = [
    ("http_server.address", Some('a')),
    ("http_server.port", Some('p')),
    ("http_server.internal_address", None),
    ("http_server.internal_port", None),
    ("pid_file", None),
    ("gyre.cores", None),
    ("gyre.reserved_cores", None),
    ("engine.type", None),
    ("broker.enabled", None),
    ("broker.type", None),
    ("presence_manager.enabled", None),
    ("presence_manager.type", None),
    ("map_broker.type", None),
    ("log.level", None),
    ("log.file", None),
    ("debug.enabled", None),
    ("admin.enabled", None),
    ("admin.external", None),
    ("admin.insecure", None),
    ("prometheus.enabled", None),
    ("swagger.enabled", None),
    ("health.enabled", None),
    ("init.enabled", None),
    ("uni_websocket.enabled", None),
    ("uni_sse.enabled", None),
    ("uni_http_stream.enabled", None),
    ("sse.enabled", None),
    ("http_stream.enabled", None),
    ("client.insecure", None),
    ("http_api.insecure", None),
    ("http_api.external", None),
    ("grpc_api.enabled", None),
    ("uni_grpc.enabled", None),
];

/// Those that are numbers and come after the switches they belong to in the help text.
const PORTS: [(&str, Option<char>); 2] = [("grpc_api.port", None), ("uni_grpc.port", None)];

/// What was given to the program when it was started without a command.
#[derive(Debug)]
pub(super) struct ServeFlags {
    pub(super) config: PathBuf,
    pub(super) flags: Vec<Flag>,
    pub(super) dev: bool,
}

fn each() -> impl Iterator<Item = (&'static str, Option<char>)> {
    FLAGS.into_iter().chain(PORTS)
}

fn option((path, short): (&'static str, Option<char>)) -> Arg {
    let field = schema::at(path);
    let arg = Arg::new(path).long(path).short(short).help(field.map(|field| field.about.trim_end_matches('.')));
    // Names without the section are left over in documents of older versions.
    let arg = match path {
        "http_server.address" => arg.alias("address"),
        "http_server.port" => arg.alias("port"),
        _ => arg,
    };
    match field.map(|field| field.kind) {
        Some(Kind::Bool) => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("BOOL")
            .hide_possible_values(true),
        Some(Kind::Int(_)) => arg.value_name("NUMBER"),
        _ => arg.value_name("TEXT"),
    }
}

impl clap::Args for ServeFlags {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .short('c')
            .long("config")
            .value_name("FILE")
            .value_parser(value_parser!(PathBuf))
            .default_value("config.json")
            .help("Configuration file: .json, .yaml, .yml or .toml");
        let dev = Arg::new("dev")
            .long("dev")
            .action(ArgAction::SetTrue)
            .help("For trying things out: no keys, no tokens, any origin, on 127.0.0.1 only");
        command.arg(config).arg(dev).args(each().map(option))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for ServeFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = |(path, _): (&'static str, _)| {
            let is_given = matches.value_source(path) == Some(ValueSource::CommandLine);
            let value = is_given.then(|| matches.get_one::<String>(path)).flatten()?;
            Some(Flag { path: path.to_owned(), value: value.clone() })
        };
        Ok(Self {
            config: matches.get_one::<PathBuf>("config").cloned().unwrap_or(Sources::default().file),
            flags: each().filter_map(given).collect(),
            dev: matches.get_flag("dev"),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A flag that is no option would be accepted and do nothing.
    #[test]
    fn every_flag_is_an_option() {
        for (path, _) in each() {
            assert!(schema::at(path).is_some_and(|field| field.children().is_none()), "{path}");
        }
    }
}
