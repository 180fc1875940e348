//! Compiles the messages of the server API and of calls to backends. The services are compiled where they are served and
//! called.

use std::io;

const PACKAGE: &str = ".centrifugal.centrifugo.api";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=protos");
    let files = protox::compile(["protos/api.proto", "protos/proxy.proto"], ["protos"]).map_err(io::Error::other)?;
    let mut messages = prost_build::Config::new();
    messages.bytes(["."]).btree_map(["."]);
    // The client protocol has the same ones: what is kept for clients is answered to backends as it is.
    for shared in ["ClientInfo", "Disconnect", "FilterNode", "StreamPosition"] {
        messages.extern_path(format!("{PACKAGE}.{shared}"), format!("crate::client::{shared}"));
    }
    // Of their many fields one is set: inline, each command of a batch would take 2 KiB.
    messages.boxed(format!("{PACKAGE}.Command")).boxed(format!("{PACKAGE}.Reply"));
    messages.compile_fds(files)
}
