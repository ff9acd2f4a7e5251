//! Copies a held task into a [`Snapshot`]: everything here runs while the task is held, and nothing after it does.

use std::convert::Infallible;
use std::time::Instant;

use super::{Annotations, Death, Gap, Limits, Memory, Region, Snapshot, ThreadState, Times};
use super::{annotations, images, nearby, stacks};
use crate::host::Task;

/// Copies all that is needed of `task`, which died of `death`. What can't be read, or is cut by one of `limits`, is a
/// [`Gap`] and costs only its part. No file is opened but those that the host itself reads.
pub fn capture(task: &dyn Task, death: Death, limits: &Limits) -> Snapshot {
    let Ok(snapshot) = capture_unless(task, death, limits, |_| Ok::<(), Infallible>(()));
    snapshot
}

/// As [`capture`], unless `refuse` says by what the program says of itself that this is nobody's business: then no more is
/// copied.
///
/// # Errors
/// What `refuse` says.
pub fn capture_unless<E>(
    task: &dyn Task,
    death: Death,
    limits: &Limits,
    refuse: impl FnOnce(&Annotations) -> Result<(), E>,
) -> Result<Snapshot, E> {
    let started = Instant::now();
    let mut gaps = Vec::new();
    let threads = bounded_threads(task.threads(&mut gaps), death.thread, limits, &mut gaps);
    let mut regions = task.regions(&mut gaps);
    if regions.len() > limits.regions {
        gaps.push(Gap::new("regions", format!("{} mappings; the first {} were kept", regions.len(), limits.regions)));
        regions.truncate(limits.regions);
    }
    let mut capture =
        Capture { task, regions: &regions, limits, started, memory: Memory::default(), gaps, unwind_sections: 0 };
    let images::Found { images, records, messages, shared_cache } = images::list(&mut capture);
    let mut annotations = annotations::read(&mut capture, &records);
    annotations.messages = messages;
    refuse(&annotations)?;
    let crashed = death.thread;
    let threads = stacks::copy(&mut capture, threads, crashed);
    nearby::copy(&mut capture, &threads, crashed);
    images::copy_unwind_sections(&mut capture, &images, &threads);
    let Capture { memory, mut gaps, .. } = capture;
    let mut process = task.process(&mut gaps);
    for (file, bytes) in &mut process.linux_files {
        if bytes.len() > limits.system_file {
            gaps.push(Gap::new("process", format!("{file:?}: {} of {} bytes kept", limits.system_file, bytes.len())));
            bytes.truncate(limits.system_file);
        }
    }
    let system = task.system(&mut gaps);
    Ok(Snapshot {
        os: task.os(),
        cpu: task.cpu(),
        system,
        process,
        threads,
        images,
        shared_cache,
        regions,
        memory,
        annotations,
        gaps: summed_up(gaps, limits.gaps),
        times: Times {
            died: death.time,
            gathering: death.gathering,
            copying: started.elapsed(),
            held: death.gathering + started.elapsed(),
        },
        death,
    })
}

/// A capture under way.
pub(super) struct Capture<'a> {
    pub(super) task: &'a dyn Task,
    pub(super) regions: &'a [Region],
    pub(super) limits: &'a Limits,
    pub(super) started: Instant,
    pub(super) memory: Memory,
    pub(super) gaps: Vec<Gap>,
    /// Bytes of unwind sections copied so far.
    pub(super) unwind_sections: u64,
}

impl Capture<'_> {
    /// Notes that something is missing.
    pub(super) fn gap(&mut self, part: &'static str, what: impl Into<String>) {
        self.gaps.push(Gap::new(part, what));
    }

    /// Whether the victim has been held for so long that the rest has to stay behind.
    pub(super) fn out_of_time(&self) -> bool {
        self.started.elapsed() >= self.limits.time
    }

    /// The mapping that holds `address`.
    pub(super) fn region_at(&self, address: u64) -> Option<&Region> {
        self.regions.get(self.region_index(address)?)
    }

    /// Index of the mapping that holds `address`.
    pub(super) fn region_index(&self, address: u64) -> Option<usize> {
        let index = self.regions.partition_point(|region| region.end <= address);
        (self.regions.get(index)?.start <= address).then_some(index)
    }

    /// Reads up to `length` bytes at `address`: as many as there are.
    pub(super) fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let count = self.task.read(address, &mut bytes);
        bytes.truncate(count);
        bytes
    }

    /// Reads exactly `N` bytes at `address`.
    pub(super) fn read_array<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        (self.task.read(address, &mut bytes) == N).then_some(bytes)
    }

    /// Reads the bytes at `address` up to a NUL. `None` if none is found among `limit` bytes, or before memory ends.
    pub(super) fn read_c_string(&self, address: u64, limit: usize) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        while text.len() < limit {
            let chunk = self.read(address.checked_add(text.len() as u64)?, 256.min(limit - text.len()));
            if let Some(end) = chunk.iter().position(|byte| *byte == 0) {
                text.extend_from_slice(&chunk[..end]);
                return Some(text);
            }
            if chunk.is_empty() {
                return None;
            }
            text.extend_from_slice(&chunk);
        }
        None
    }

    /// Copies the bytes of all `ranges` (start and end) into the snapshot.
    pub(super) fn copy_all(&mut self, ranges: Vec<(u64, u64)>) {
        let length = |(start, end): (u64, u64)| Some((start, usize::try_from(end - start).ok()?));
        for block in self.task.read_all(merged(ranges).into_iter().filter_map(length).collect()) {
            self.memory.insert_shared(block.address, block.bytes);
        }
    }

    /// Copies the bytes from `start` to `end` into the snapshot; returns the address up to which they could be read.
    pub(super) fn copy(&mut self, start: u64, end: u64) -> u64 {
        let Ok(length) = usize::try_from(end.saturating_sub(start)) else { return start };
        if self.memory.slice(start, length).is_some() {
            return end;
        }
        let bytes = self.read(start, length);
        let end = start + bytes.len() as u64;
        self.memory.insert(start, bytes);
        end
    }
}

/// The same bytes in ranges that neither touch nor overlap, by ascending address: threads that wait usually wait in one
/// place, and nothing is to be read twice, however many stack pointers lie in one stack.
fn merged(mut ranges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    ranges.sort_unstable();
    let mut result: Vec<(u64, u64)> = Vec::new();
    for (start, end) in ranges.into_iter().filter(|(start, end)| start < end) {
        match result.last_mut() {
            Some(last) if start <= last.1 => last.1 = last.1.max(end),
            _ => result.push((start, end)),
        }
    }
    result
}

/// At most as many threads as the limits allow, the crashed one among them.
fn bounded_threads(
    mut threads: Vec<ThreadState>,
    crashed: Option<u64>,
    limits: &Limits,
    gaps: &mut Vec<Gap>,
) -> Vec<ThreadState> {
    let count = threads.len();
    if count <= limits.threads {
        return threads;
    }
    gaps.push(Gap::new("threads", format!("{count} threads; {} of them were kept", limits.threads)));
    if let Some(index) = threads.iter().position(|thread| Some(thread.id) == crashed)
        && let Some(last) = limits.threads.checked_sub(1).filter(|last| index > *last)
    {
        threads.swap(last, index);
    }
    threads.truncate(limits.threads);
    threads
}

/// At most `limit` gaps of each part, and how many more there were: a task with 10,000 broken threads has 10,000 gaps.
fn summed_up(gaps: Vec<Gap>, limit: usize) -> Vec<Gap> {
    let mut counts: Vec<(&'static str, usize)> = Vec::new();
    let mut kept = Vec::with_capacity(gaps.len().min(limit));
    for gap in gaps {
        let index = counts.iter().position(|(part, _)| *part == gap.part).unwrap_or_else(|| {
            counts.push((gap.part, 0));
            counts.len() - 1
        });
        counts[index].1 += 1;
        if counts[index].1 <= limit {
            kept.push(gap);
        }
    }
    let more = counts.into_iter().filter(|(_, count)| *count > limit);
    kept.extend(more.map(|(part, count)| Gap::new(part, format!("and {} more like these", count - limit))));
    kept
}
