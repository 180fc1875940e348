//! Makes the gRPC services: the server API, which this node serves, and what application backends offer, which it calls.
//! Their messages are those of package gyre-proto.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto/protos");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut compiler = protox::Compiler::new(["proto/protos"])?;
    compiler.include_source_info(true).include_imports(true).open_file("api.proto")?;
    // What the node says of itself to callers that ask for it.
    fs::write(out.join("api.descriptor"), compiler.encode_file_descriptor_set())?;
    tonic_prost_build::configure()
        .build_client(false)
        .extern_path(".centrifugal.centrifugo.api", "::gyre_proto::api")
        .compile_fds(compiler.file_descriptor_set())?;
    let mut compiler = protox::Compiler::new(["proto/protos"])?;
    compiler.include_source_info(true).open_file("proxy.proto")?;
    tonic_prost_build::configure()
        .server_mod_attribute("CentrifugoProxy", "#[cfg(test)]")
        // It would make a function of the name of a method.
        .build_transport(false)
        .extern_path(".centrifugal.centrifugo.proxy", "::gyre_proto::proxy")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
