//! What the host tells its receiver of itself: the port ledger, and how many messages it refused.

use std::sync::{Mutex, PoisonError};

use aftermach_protocol::exception::KernReturn;
use aftermach_protocol::reply::Occasion;

use super::ports::Rights;
use super::server::Handled;
use crate::host::{HostState, Receiver};

/// What has been told so far, by all servers of one port.
pub struct Told {
    rights: Rights,
    /// Messages refused so far. Held while the ledger is read and told, so that the last to be told is the newest.
    refused: Mutex<u64>,
}

impl Told {
    /// Before the first message: what the ledger is to return to.
    pub fn first(rights: &Rights, receiver: &mut dyn Receiver) -> Told {
        let told = Told { rights: rights.clone(), refused: Mutex::new(0) };
        told.tell(0, receiver);
        told
    }

    /// After a message. First chances are not told, nor what others answer to them: a JIT takes thousands in a second. While other servers are at work, the
    /// ledger has what they hold; the last of them tells it without.
    pub fn after(&self, handled: &Handled, receiver: &mut dyn Receiver) {
        let refused =
            matches!(handled.occasion, Occasion::Malformed(_)) || handled.answered == Some(KernReturn::DENIED);
        if refused
            || !matches!(handled.occasion, Occasion::FirstChance | Occasion::PassedOn)
            || !handled.outstanding.is_empty()
        {
            self.tell(u64::from(refused), receiver);
        }
    }

    fn tell(&self, more_refused: u64, receiver: &mut dyn Receiver) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused += more_refused;
        receiver.host_state(HostState { refused: *refused, ports: self.rights.ledger().groups() });
    }
}
