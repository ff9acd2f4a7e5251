//! What the tests share: a collector in a temporary folder, a report in a store, a dump, and HTTP by hand.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aftermach_handler::collector::{Config, Limits, Running, StartError, start};
use aftermach_handler::store::{Location, MINIDUMP, REPORT_JSON, Store};
use aftermach_handler::upload::{Options, Timeouts};
use aftermach_protocol::product::Product;
use aftermach_protocol::report::{self, Report};

/// A test that gets no answer fails after this long instead of hanging.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that goes with the test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("aftermach-delivery-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A collector on a free port.
pub(crate) struct Collector {
    pub(crate) running: Running,
    pub(crate) folder: Folder,
}

impl Collector {
    pub(crate) fn new() -> Collector {
        Collector::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Collector {
        let folder = Folder::new();
        let running = collector_in(&folder.path("crashes"), limits).unwrap();
        Collector { running, folder }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.address()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    pub(crate) fn crashes(&self) -> PathBuf {
        self.folder.path("crashes")
    }

    pub(crate) fn dump_of(&self, id: &str) -> Vec<u8> {
        fs::read(self.crashes().join(id).join("minidump.dmp")).unwrap()
    }

    /// Names of the crashes that are kept. Everything that lies in the store besides is a failure: nothing half-written.
    pub(crate) fn kept(&self) -> Vec<String> {
        let names = |path: &Path| -> Vec<String> {
            fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
        };
        let mut kept = names(&self.crashes());
        kept.retain(|name| !matches!(name.as_str(), ".lock" | ".incoming"));
        for id in &kept {
            let mut files = names(&self.crashes().join(id));
            files.retain(|name| name != "report.json");
            files.sort();
            assert_eq!(files, ["fields.json", "meta.json", "minidump.dmp"], "{id}");
        }
        kept
    }

    /// Waits until no upload is in progress: a connection that broke off is noticed a moment later.
    pub(crate) fn settle(&self) {
        let incoming = self.crashes().join(".incoming");
        for _ in 0..1000 {
            if fs::read_dir(&incoming).unwrap().next().is_none() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("an upload that failed left its files");
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.get_as(path, &self.address().to_string())
    }

    pub(crate) fn get_as(&self, path: &str, host: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes())
    }

    /// Sends bytes and reads the answer.
    pub(crate) fn send(&self, request: &[u8]) -> Answer {
        let mut stream = connect(self.address());
        // A refused body may not be read to its end: then writing fails, and the answer counts.
        let _ = stream.write_all(request);
        Answer::read(&mut stream)
    }

    pub(crate) fn post(&self, path: &str, content_type: &str, body: &[u8]) -> Answer {
        self.send(&post(self.address(), path, content_type, body))
    }

    /// Posts a good upload, and checks that it is kept: the service goes on.
    pub(crate) fn still_works(&self) {
        let dump = dump(b"still works");
        let answer =
            self.post("/submit", FORM, &form(&[("prod", None, b"P"), ("upload_file_minidump", Some("x"), &dump)]));
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(self.dump_of(answer.text().trim()), dump);
        fs::remove_dir_all(self.crashes().join(answer.text().trim())).unwrap();
    }
}

pub(crate) fn collector_in(store: &Path, limits: Limits) -> Result<Running, StartError> {
    start(Config { listen: "127.0.0.1:0".parse().unwrap(), store: store.to_owned(), allow_remote: false, limits })
}

pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

pub(crate) fn post(address: SocketAddr, path: &str, content_type: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n"
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// 0 if it closed the connection without a word.
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn read(stream: &mut TcpStream) -> Answer {
        let mut bytes = Vec::new();
        // A reset after the answer does not take back what was read.
        let _ = stream.read_to_end(&mut bytes);
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
        Answer { status, head, body: bytes[end..].to_vec() }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }
}

pub(crate) const FORM: &str = "multipart/form-data; boundary=BOUNDARY";

/// A form as curl writes it: name, file name, content.
pub(crate) fn form(parts: &[(&str, Option<&str>, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (name, file_name, content) in parts {
        body.extend_from_slice(format!("--BOUNDARY\r\nContent-Disposition: form-data; name=\"{name}\"").as_bytes());
        if let Some(file_name) = file_name {
            let kind = "Content-Type: application/octet-stream";
            body.extend_from_slice(format!("; filename=\"{file_name}\"\r\n{kind}").as_bytes());
        }
        body.extend_from_slice(b"\r\n\r\n");
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--BOUNDARY--\r\n");
    body
}

/// The smallest dump that says anything (minidumpapiset.h): a header, a directory of two streams, SystemInfo of Linux on
/// x86-64, an exception (SIGSEGV, SEGV_MAPERR at 0xdeadbeef, thread 42), and then whatever `tail` makes it differ by.
pub(crate) fn dump(tail: &[u8]) -> Vec<u8> {
    let word = |value: u32| value.to_le_bytes();
    let mut system = vec![0; 56];
    system[0] = 9;
    system[8] = 6;
    system[20..24].copy_from_slice(&word(0x8201));
    let mut exception = vec![0; 168];
    exception[0] = 42;
    exception[8] = 11;
    exception[12] = 1;
    exception[24..28].copy_from_slice(&word(0xdead_beef));
    let at = 32 + 24;
    let mut bytes: Vec<u8> =
        [0x504d_444d, 0xa793, 2, 32, 0, 1_700_000_000, 0, 0].iter().flat_map(|w| word(*w)).collect();
    bytes.extend([word(7), word(56), word(at)].concat());
    bytes.extend([word(6), word(168), word(at + 56)].concat());
    bytes.extend(system);
    bytes.extend(exception);
    bytes.extend_from_slice(tail);
    bytes
}

/// A store with one report in it.
pub(crate) struct Stored {
    pub(crate) folder: Folder,
    pub(crate) store: Store,
    pub(crate) location: Location,
    pub(crate) dump: Vec<u8>,
}

impl Stored {
    pub(crate) fn new(dump: Vec<u8>) -> Stored {
        Stored::with(dump, |_| {})
    }

    pub(crate) fn with(dump: Vec<u8>, change: impl FnOnce(&mut Report)) -> Stored {
        let folder = Folder::new();
        let store = Store::open(folder.path("store")).unwrap();
        let pending = store.create(&Product::new("com.example", "Tunnel", "canary").unwrap()).unwrap();
        let mut report = Report {
            schema: report::SCHEMA,
            report_id: pending.id().to_owned(),
            product: Some(report::Product {
                name: "Tunnel".into(),
                channel: "canary".into(),
                version: Some("1.2.3".into()),
                ..report::Product::default()
            }),
            times: report::Times { died: Some("2026-01-02T03:04:05.006Z".into()), ..report::Times::default() },
            ..Report::default()
        };
        change(&mut report);
        let id = report.report_id.clone();
        pending.write(MINIDUMP, &dump).unwrap();
        pending.write(REPORT_JSON, &report.to_bytes()).unwrap();
        pending.commit().unwrap();
        let location = store.find(&id).unwrap();
        Stored { folder, store, location, dump }
    }

    pub(crate) fn uploads(&self) -> Vec<report::Upload> {
        self.store.load(&self.location.id).unwrap().upload
    }
}

/// Somebody said yes.
pub(crate) fn yes() -> Options {
    Options { confirmed: true, attach_report: true, timeouts: Timeouts::default() }
}
