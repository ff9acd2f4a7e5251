//! The service tries uploads again that failed.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use aftermach_handler::service::{Service, Settings as ServiceSettings};
use aftermach_handler::triage::Scope;
use aftermach_handler::upload::{Consent, Profile, Settings};
use aftermach_protocol::product::Product;
use aftermach_protocol::report::{Report, Upload, UploadState};

use crate::servers::read_request;
use crate::support::{Stored, dump};

/// A test that waits for longer fails.
const PATIENCE: Duration = Duration::from_secs(60);

const REFUSAL: &str = "HTTP/1.1 503 Busy\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const ACCEPTANCE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n17";

/// A server that gives these answers, one a connection, and tells of each.
fn server(answers: Vec<&'static str>) -> (SocketAddr, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            read_request(&mut stream);
            stream.write_all(answer.as_bytes()).unwrap();
            // The test may have seen enough.
            let _ = sender.send(());
        }
    });
    (address, receiver)
}

/// A report that could not be sent to `profile`, `attempts` times, and may be again by now.
fn failed(profile: &Profile, attempts: u32) -> Stored {
    let upload = Upload {
        profile: profile.format().name().to_owned(),
        url: profile.to_string(),
        state: UploadState::Retry,
        attempts,
        next_attempt: Some("2026-01-02T03:05:05.006Z".to_owned()),
        ..Upload::default()
    };
    Stored::with(dump(&[3; 1000]), |report: &mut Report| {
        report.upload.push(upload);
        report.times.died = Some(now());
    })
}

fn now() -> String {
    aftermach_handler::time::rfc3339(std::time::SystemTime::now())
}

fn consent(stored: &Stored, consent: Consent) {
    let mut settings = Settings::load(stored.store.root());
    settings.consent = consent;
    settings.save(stored.store.root()).unwrap();
}

fn service(stored: &Stored, profile: Profile) -> Service {
    let product = Product::new("com.example", "Tunnel", "canary").unwrap();
    let scope = Scope::Product(product.clone());
    let store = stored.store.clone();
    Service::start(ServiceSettings { store, product, scope, upload_to: Some(profile), done: Box::new(|_| {}) }).unwrap()
}

fn profile(address: SocketAddr) -> Profile {
    Profile::parse(&format!("http://{address}/submit"), None).unwrap()
}

#[test]
fn what_failed_before_the_service_started_is_sent_until_the_server_takes_it() {
    let (address, answered) = server(vec![REFUSAL, REFUSAL, ACCEPTANCE]);
    let profile = profile(address);
    let stored = failed(&profile, 2);
    consent(&stored, Consent::Always);
    let service = service(&stored, profile);
    for _ in 0..3 {
        answered.recv_timeout(PATIENCE).expect("it is tried again");
    }
    // The upload that is under way ends before the service does.
    service.finish();
    let uploads = stored.uploads();
    let [upload] = uploads.as_slice() else { panic!("{uploads:?}") };
    assert_eq!((&upload.state, upload.attempts, upload.status), (&UploadState::Accepted, 5, Some(200)));
    assert_eq!((upload.server_id.as_deref(), &upload.next_attempt), (Some("17"), &None));
}

#[test]
fn without_consent_nothing_is_tried_again() {
    for asked in [Consent::Ask, Consent::Never] {
        let (address, answered) = server(vec![ACCEPTANCE]);
        let profile = profile(address);
        let stored = failed(&profile, 1);
        consent(&stored, asked);
        service(&stored, profile).finish();
        assert!(answered.try_recv().is_err(), "{asked:?}");
        assert_eq!((stored.uploads()[0].attempts, &stored.uploads()[0].state), (1, &UploadState::Retry));
    }
}

#[test]
fn the_twentieth_failure_is_the_last() {
    let (address, answered) = server(vec![REFUSAL, ACCEPTANCE]);
    let profile = profile(address);
    let stored = failed(&profile, 19);
    consent(&stored, Consent::Always);
    let service = service(&stored, profile);
    answered.recv_timeout(PATIENCE).expect("it is tried once more");
    service.finish();
    let upload = &stored.uploads()[0];
    assert_eq!((upload.attempts, &upload.state, &upload.next_attempt), (20, &UploadState::Retry, &None));
    assert!(answered.try_recv().is_err());
}
