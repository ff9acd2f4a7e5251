//! What the client's calls take. The fake service is a thread that answers at once, so that its own time is small; an
//! installation where there is no service shows the client's part alone.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use aftermach_client::{Options, ProductRef};
use aftermach_protocol::session::{Status, encode_reply};

const ROUNDS: usize = 2001;

/// The median and the 99th percentile of `body`'s times; `after` runs untimed.
fn measure(what: &str, mut body: impl FnMut() -> bool, mut after: impl FnMut()) {
    let mut times: Vec<Duration> = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let start = Instant::now();
        let as_expected = std::hint::black_box(body());
        times.push(start.elapsed());
        if !as_expected {
            println!("{what:<44} not measured: it did not do what it should");
            return;
        }
        after();
    }
    times.sort();
    let at = |index: usize| times.get(index).copied().unwrap_or_default().as_secs_f64() * 1e6;
    println!("{what:<44} {:>9.3} us median {:>9.3} us 99th percentile", at(ROUNDS / 2), at(ROUNDS * 99 / 100));
}

fn main() -> std::io::Result<()> {
    let folder = std::env::temp_dir().join(format!("aftermach-calls-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let path = folder.join("s.sock");
    let listener = UnixListener::bind(&path)?;
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 16];
            if stream.read_exact(&mut request).is_ok() && stream.write_all(&encode_reply(Status::Ok)).is_ok() {
                open.push(stream);
                open.drain(..open.len().saturating_sub(2));
            }
        }
    });
    let (present, absent) = (path.to_string_lossy().into_owned(), folder.join("none").to_string_lossy().into_owned());
    let Ok(product) = ProductRef::new("com.example", "Bench", "") else { return Ok(()) };
    let install = |service: &str| aftermach_client::install(&product, &Options::new().service(service)).is_ok();
    measure("install, no service", || !install(&absent), || ());
    measure(
        "install, service that answers at once",
        || install(&present),
        || {
            let _ = aftermach_client::uninstall();
        },
    );
    let value = "x".repeat(40);
    measure("set, 40 bytes, among 1 key", || aftermach_client::set("state", &value).is_ok(), || ());
    for index in 0..62 {
        let _ = aftermach_client::set(&format!("key {index}"), "value");
    }
    measure("set, 40 bytes, the last of 64 keys", || aftermach_client::set("last", &value).is_ok(), || ());
    let breadcrumb = || {
        aftermach_client::breadcrumb(&value);
        true
    };
    measure("breadcrumb, 40 bytes", breadcrumb, || ());
    std::fs::remove_dir_all(&folder)
}
