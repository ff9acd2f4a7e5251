//! A message that was received, with every right in it owned.

use aftermach_protocol::dump_message;
use aftermach_protocol::message::{
    Contents, Disposition, Header, Notification, PortName, Previous, Received, Refusal, Subject, Trailer,
};

use super::kernel::Kernel;
use super::ports::{Group, Port, Right, Rights};

/// A received message. Whatever becomes of it, what it brought is given back.
pub(super) struct Incoming {
    pub(super) header: Header,
    pub(super) trailer: Trailer,
    pub(super) contents: Result<Contents, Refusal>,
    /// To answer with, if somebody waits.
    pub(super) reply: Option<Port>,
    /// The sender's voucher: the importance it lends lasts as long as this is held.
    pub(super) voucher: Option<Port>,
    /// Thread and task, or the identity token: of an understood exception.
    pub(super) carried: Carried,
}

/// The rights in an exception message.
#[derive(Default)]
pub(super) struct Carried {
    pub(super) thread: Option<Port>,
    pub(super) task: Option<Port>,
    pub(super) token: Option<Port>,
    /// Of a client that checks in, by row: whom its exceptions went to before.
    pub(super) previous: Vec<Option<Port>>,
}

impl Incoming {
    /// Takes over a message from the receive buffer: header, body and trailer. The voucher is counted in `session`, since it
    /// is held beyond the rest, everything else in `crash`.
    ///
    /// Errors: bytes that no kernel delivers. They own nothing.
    pub(super) fn take(
        kernel: &dyn Kernel,
        session: &Rights,
        crash: &Rights,
        buffer: &mut [u8],
    ) -> Result<Incoming, Refusal> {
        let received = Received::split(buffer)?;
        let (header, trailer, contents) = (received.header, received.trailer, received.contents());
        let reply = right_of(header.remote_disposition());
        let reply = reply.and_then(|right| crash.adopt(Group::Replies, right, header.remote));
        let voucher = right_of(header.voucher_disposition());
        let voucher = voucher.and_then(|right| session.adopt(Group::Vouchers, right, header.voucher));
        let mut carried = Carried::default();
        match &contents {
            Ok(Contents::Exception(request)) => {
                let send = |name| crash.adopt(Group::Messages, Right::Send, name);
                match request.subject {
                    Subject::Nobody => {}
                    Subject::Ports { thread, task } => {
                        (carried.thread, carried.task) = (send(thread), send(task));
                    }
                    Subject::Identity { token, .. } => carried.token = send(token),
                }
            }
            Ok(Contents::Dump(request)) => match request.subject {
                dump_message::Subject::IdentityToken(name) => {
                    carried.token = crash.adopt(Group::Messages, Right::Send, PortName(name));
                }
                dump_message::Subject::Task(name) => {
                    carried.task = crash.adopt(Group::Messages, Right::Send, PortName(name));
                }
            },
            Ok(Contents::CheckIn(request)) => {
                // They outlive the message.
                let adopt = |row: &Previous| session.adopt(Group::ClientSessions, Right::Send, row.port);
                carried.previous = request.previous.iter().map(adopt).collect();
            }
            Ok(Contents::Notification(notification)) => take_notification(crash, *notification, &trailer),
            Err(_) => destroy_rest(kernel, header, buffer),
        }
        Ok(Incoming { header, trailer, contents, reply, voucher, carried })
    }
}

fn right_of(disposition: Disposition) -> Option<Right> {
    match disposition {
        Disposition::SEND => Some(Right::Send),
        Disposition::SEND_ONCE => Some(Right::SendOnce),
        _ => None,
    }
}

/// A receive right that comes back is in the message, whoever sent it. A dead name is a mere number: only when the kernel
/// says so has it become a reference of ours, and giving back one that a forger names would take away one that we need.
fn take_notification(rights: &Rights, notification: Notification, trailer: &Trailer) {
    let taken = match notification {
        Notification::PortDestroyed(name) => rights.adopt(Group::Notifications, Right::Receive, name),
        Notification::DeadName(name) if trailer.from_kernel() => {
            rights.adopt(Group::Notifications, Right::DeadName, name)
        }
        _ => None,
    };
    drop(taken);
}

/// Destroys what a message carries besides the rights in its header, which are owned already.
pub(super) fn destroy_rest(kernel: &dyn Kernel, header: Header, buffer: &mut [u8]) {
    let bare = Header { remote: PortName::NULL, voucher: PortName::NULL, ..header };
    let size = header.size as usize;
    let Some(message) = buffer.get_mut(..size) else { return };
    if let Some(place) = message.first_chunk_mut::<{ Header::SIZE }>() {
        *place = bare.encode();
        kernel.destroy_message(message);
    }
}
