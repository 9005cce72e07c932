//! Tells the files that this crate shares with the broker where they are: their own tests want real threads.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(broker_loom)");
    println!("cargo::rustc-cfg=broker_loom");
    println!("cargo::rerun-if-changed=build.rs");
}
