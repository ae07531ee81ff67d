//! Generates the Rust form of the `.proto` files, without any program from outside.

use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = ["vyr/control/v0/control.proto", "vyr/operator/v0/operator.proto"];
    let descriptors = protox::compile(files, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.binpb"), descriptors.encode_to_vec())?;
    // Payloads arrive as slices of the buffers they were received in.
    tonic_prost_build::configure().bytes(".vyr").compile_fds(descriptors)?;
    Ok(())
}
