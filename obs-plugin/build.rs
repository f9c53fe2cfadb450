//! Link options of the plugin.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // ONNX Runtime keeps its threads and a log callback into this library until the program ends, so OBS must not unmap
    // it when it closes its modules.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "linux") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
