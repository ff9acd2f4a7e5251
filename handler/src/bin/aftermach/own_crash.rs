//! A crash of our own, caught as every other is: to show the way, and to try it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aftermach_handler::host::{self, Ending, HostState, Options, Program, Receiver, Task};
use aftermach_handler::service::{self, Made, ProduceError, Service};
use aftermach_handler::snapshot::{Death, Snapshot};
use aftermach_handler::store::Store;
use aftermach_handler::triage::Scope;
use anyhow::Context;

use crate::run::any_program;

/// What came of it.
pub(crate) struct OwnCrash {
    /// The report.
    pub(crate) made: Made,
    /// What the host told of itself, before the crash and after; nothing on systems whose host has nothing to tell.
    pub(crate) states: Vec<HostState>,
}

/// The program ended, but not by a crash.
#[derive(Debug)]
pub(crate) struct NoCrash(Ending);

impl fmt::Display for NoCrash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the program ended without a crash: {}", self.0)
    }
}

impl std::error::Error for NoCrash {}

/// Runs `aftermach crash KIND`, and puts its report into `store`.
pub(crate) fn catch(store: &Store, kind: &str) -> anyhow::Result<OwnCrash> {
    let outcomes: Arc<Mutex<Vec<Result<Made, ProduceError>>>> = Arc::default();
    let collected = Arc::clone(&outcomes);
    let service = Service::start(service::Settings {
        store: store.clone(),
        product: any_program()?,
        scope: Scope::Everything,
        upload_to: None,
        done: Box::new(move |outcome| collected.lock().unwrap_or_else(PoisonError::into_inner).push(outcome)),
    })?;
    let this = std::env::current_exe().context("finding this program")?;
    let program = Program::new(this).args(["crash", kind, "--after", "20"]);
    let mut watched = Watched { service, states: Vec::new() };
    let ending = host::run(&program, &Options::default(), &mut watched);
    watched.service.finish();
    let ending = ending?;
    let outcome = outcomes.lock().unwrap_or_else(PoisonError::into_inner).pop();
    Ok(OwnCrash { made: outcome.ok_or(NoCrash(ending))??, states: watched.states })
}

/// The service, and what the host tells it of itself.
struct Watched {
    service: Service,
    states: Vec<HostState>,
}

impl Receiver for Watched {
    fn death(&mut self, death: Death, task: &dyn Task) -> Option<Box<Snapshot>> {
        (&self.service).death(death, task)
    }

    fn released(&mut self, snapshot: Box<Snapshot>, held: Duration) {
        (&self.service).released(snapshot, held);
    }

    fn host_state(&mut self, state: HostState) {
        self.states.push(state);
    }
}
