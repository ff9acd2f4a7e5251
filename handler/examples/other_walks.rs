//! The stacks in minidumps as rust-minidump's unwinder finds them, a line of JSON for each dump.
//!
//!     cargo run --release --example other_walks -- FOLDER-WITH-SYMBOLS|- DUMP...
//!
//! A frame is `[address, trust]`: the pc or the return address.

use std::path::PathBuf;
use std::process::ExitCode;

use minidump::Minidump;
use minidump_unwind::{Symbolizer, simple_symbol_supplier};
use serde_json::json;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(symbols) = arguments.next() else {
        eprintln!("usage: other_walks FOLDER-WITH-SYMBOLS|- DUMP...");
        return ExitCode::from(2);
    };
    let folders = if symbols == "-" { Vec::new() } else { vec![PathBuf::from(symbols)] };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return ExitCode::FAILURE;
    };
    for path in arguments {
        let provider = Symbolizer::new(simple_symbol_supplier(folders.clone()));
        let walked = Minidump::read_path(&path).map_err(|error| error.to_string()).and_then(|dump| {
            let state = runtime.block_on(minidump_processor::process_minidump(&dump, &provider));
            state.map_err(|error| error.to_string())
        });
        match walked {
            Ok(state) => {
                let threads = state.threads.iter().map(|thread| {
                    let frames = thread.frames.iter();
                    let frames: Vec<_> =
                        frames.map(|frame| json!([frame.resume_address, frame.trust.as_str()])).collect();
                    json!({"id": thread.thread_id, "frames": frames})
                });
                println!("{}", json!({"dump": path, "threads": threads.collect::<Vec<_>>()}));
            }
            Err(error) => {
                eprintln!("{path}: {error}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
