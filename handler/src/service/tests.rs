use std::fs;
use std::time::SystemTime;

use aftermach_protocol::exception::{LinuxSignal, MachException};

use super::*;
use crate::snapshot::Exception;
use crate::snapshot::test_task::TestTask;

/// A service whose store is removed at the end of the test.
struct Served {
    root: PathBuf,
    service: Option<Service>,
}

impl Served {
    fn new(name: &str) -> Served {
        let root = std::env::temp_dir().join(format!("aftermach-service-{name}-{}", std::process::id()));
        let product = Product::new("com.example", "Tunnel", "").unwrap();
        let (store, scope) = (Store::open(&root).unwrap(), Scope::Product(product.clone()));
        let settings = Settings { store, product, scope, upload_to: None, done: Box::new(|_| {}) };
        Served { root, service: Some(Service::start(settings).unwrap()) }
    }

    fn receiver(&self) -> &Service {
        self.service.as_ref().unwrap()
    }

    /// How many reports there are once all are made.
    fn reports(&mut self) -> usize {
        self.service.take().unwrap().finish();
        Store::open(&self.root).unwrap().list(None).unwrap().entries.len()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.root).unwrap();
    }
}

fn death(exception: Exception) -> Death {
    let gathering = Duration::ZERO;
    Death { pid: 7, thread: Some(1), exception, signal: 11, time: SystemTime::now(), gathering }
}

const CRASH: Exception = Exception::Mach(MachException::new(10, 0x0B10_0001, 0x10));

fn hidden() -> TestTask {
    TestTask { readable: false, ..TestTask::default() }
}

#[test]
fn a_task_that_the_system_hides_is_reported_and_one_without_the_client_is_not() {
    let mut served = Served::new("hidden");
    let mut receiver = served.receiver();
    let snapshot = receiver.death(death(CRASH), &hidden()).unwrap();
    assert!(snapshot.gaps.iter().any(|gap| gap.what.contains("whether it is a client")), "{:?}", snapshot.gaps);
    assert!(receiver.death(death(CRASH), &TestTask::default()).is_none());
    receiver.released(snapshot, Duration::from_millis(1));
    assert_eq!(served.reports(), 1);
}

#[test]
fn several_threads_capture_at_a_time_and_every_report_is_made() {
    let mut served = Served::new("several");
    let signal = LinuxSignal { signal: 11, code: 1, address: Some(0), sender: None };
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut receiver = served.receiver();
                for _ in 0..5 {
                    let snapshot = receiver.death(death(Exception::Linux(signal)), &hidden()).unwrap();
                    receiver.released(snapshot, Duration::from_millis(1));
                }
            });
        }
    });
    assert_eq!(served.reports(), 20);
}

#[test]
fn what_the_host_tells_and_every_crash_is_in_the_handlers_file() {
    use crate::host::PortGroup;
    let mut served = Served::new("state");
    let mut receiver = served.receiver();
    let snapshot = receiver.death(death(CRASH), &hidden()).unwrap();
    assert!(receiver.death(death(CRASH), &TestTask::default()).is_none());
    receiver.released(snapshot, Duration::from_millis(1));
    let host =
        HostState { refused: 3, ports: vec![PortGroup { name: "threads".into(), held: 1, ..PortGroup::default() }] };
    receiver.host_state(host.clone());
    assert_eq!(served.reports(), 1);
    let found = Store::open_existing(&served.root).unwrap().handlers().unwrap().remove(0);
    let state = HandlerState::from_bytes(&found.bytes.unwrap()).unwrap();
    assert_eq!((state.crashes, state.strangers, state.failures, state.host), (1, 1, 0, Some(host)));
    assert_eq!((state.group.as_str(), state.name.as_str(), state.pid), ("com.example", "Tunnel", std::process::id()));
    assert!(state.ended.is_some(), "it said that it ended");
}
