//! A reply that is owed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use aftermach_protocol::exception::KernReturn;
use aftermach_protocol::message::{Contents, Header, PortName, Refusal, Reply, Request, encode_check_in_reply};

use super::kernel::Kernel;
use super::ports::{Group, Port, Rights};

/// What a reply answers.
#[derive(Clone)]
enum To {
    Request(Request),
    Header(Header),
}

/// A reply that is owed. It is sent once, by whoever comes first; unsent, the right is given back, and the kernel asks the
/// next handler.
pub(super) struct Pending {
    kernel: Arc<dyn Kernel>,
    state: Mutex<State>,
}

struct State {
    port: Option<Port>,
    to: To,
    sent: Option<(KernReturn, Instant)>,
    failed: Option<KernReturn>,
}

impl Pending {
    pub(super) fn new(
        kernel: Arc<dyn Kernel>,
        port: Option<Port>,
        header: Header,
        contents: &Result<Contents, Refusal>,
    ) -> Pending {
        let to = match contents {
            Ok(Contents::Exception(request)) => To::Request(request.clone()),
            _ => To::Header(header),
        };
        Pending { kernel, state: Mutex::new(State { port, to, sent: None, failed: None }) }
    }

    /// Sends `code` unless a reply has gone out already; says what was answered, and when. `None` if nobody waits, or nobody
    /// can be reached any more: the victim was killed meanwhile.
    pub(super) fn send(&self, code: KernReturn) -> Option<(KernReturn, Instant)> {
        let mut state = self.lock();
        let bytes = match &state.to {
            To::Request(request) => Reply::to(request, code).encode(),
            To::Header(header) => Reply::to_header(header, code).encode(),
        };
        self.transmit(&mut state, bytes, code)
    }

    /// Answers a client that checks in with a send right to its port.
    pub(super) fn send_port(&self, header: &Header, right: Port) -> Option<(KernReturn, Instant)> {
        let mut state = self.lock();
        let sent = self.transmit(&mut state, encode_check_in_reply(header, right.name()), KernReturn::SUCCESS);
        // A message that can't be sent gives the right back, if it had taken it: under the name of our port, as before.
        if sent.is_some() {
            let PortName(_) = right.give_away();
        }
        sent
    }

    fn transmit(&self, state: &mut State, mut bytes: Vec<u8>, code: KernReturn) -> Option<(KernReturn, Instant)> {
        let Some(port) = state.port.take() else { return state.sent };
        match self.kernel.send(&mut bytes) {
            Ok(()) => {
                let PortName(_) = port.give_away();
                state.sent = Some((code, Instant::now()));
            }
            // The right is still ours, and dropping the port returns it. The kernel hands a message back that it can't send; a
            // right that it had moved into the message already may have another name now.
            Err(code) => {
                state.failed = Some(code);
                if let Ok(header) = Header::decode(&bytes)
                    && header.remote != port.name()
                {
                    drop(port.renamed(header.remote));
                }
            }
        }
        state.sent
    }

    /// The same reply, owed for longer than the message is handled: its right is counted in `rights`. This one is owed no more.
    pub(super) fn hand_over(&self, rights: &Rights) -> Pending {
        let mut state = self.lock();
        let port = state.port.take().map(|port| port.recounted(rights, Group::ClientSessions));
        let to = state.to.clone();
        Pending { kernel: Arc::clone(&self.kernel), state: Mutex::new(State { port, to, sent: None, failed: None }) }
    }

    /// Whether it is still owed.
    pub(super) fn is_owed(&self) -> bool {
        self.lock().port.is_some()
    }

    /// Why the reply could not be sent.
    pub(super) fn failure(&self) -> Option<KernReturn> {
        self.lock().failed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
