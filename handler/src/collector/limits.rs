//! Every limit of the collector, with its reason.

use std::time::Duration;

/// What one upload, and all of them together, may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a dump. 200 MB is what Sentry takes after decompression.
    pub dump: u64,
    /// Bytes of the report that goes along, which is our own; the uploader's limit.
    pub report: u64,
    /// Bytes of everything in a body that is neither: fields, other attachments (read over, not kept), headers of parts.
    pub rest: u64,
    /// Bytes of one text field: the longest value of a client's record.
    pub field: usize,
    /// Bytes of Sentry's event, which is a text field but one megabyte by Sentry's own rule.
    pub event: usize,
    /// Bytes of all text fields together, names included.
    pub fields_total: usize,
    /// Text fields.
    pub fields: usize,
    /// Parts of any kind.
    pub parts: usize,
    /// Bytes of one part's headers; ours have 200.
    pub part_head: usize,
    /// Connections at a time. More wait in the system's queue.
    pub connections: usize,
    /// Dumps that are checked at a time: each is in memory meanwhile.
    pub checks: usize,
    /// Time without a single byte from a sender.
    pub idle: Duration,
    /// Time for one upload: 200 MB in ten minutes are 3 Mbit/s.
    pub upload: Duration,
    /// Time for one connection, whatever happens on it.
    pub connection: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            dump: 200_000_000,
            report: crate::upload::MAX_REPORT,
            rest: 32 << 20,
            field: 20 * 1024,
            event: 1 << 20,
            fields_total: 2 << 20,
            fields: 256,
            parts: 300,
            part_head: 8 * 1024,
            connections: 128,
            checks: 2,
            idle: Duration::from_secs(30),
            upload: Duration::from_secs(10 * 60),
            connection: Duration::from_secs(20 * 60),
        }
    }
}

impl Limits {
    /// Bytes of a whole body, after decompression.
    pub(super) fn body(&self) -> u64 {
        self.dump.saturating_add(self.report).saturating_add(self.rest)
    }
}
