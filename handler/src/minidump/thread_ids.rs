//! Thread ids of 32 bits, which is all that a minidump has for them.
//!
//! macOS numbers threads with 64 bits since boot. An id that fits is kept, so that it can be joined with Apple's report; of
//! one that does not, the low half is taken if it is free, else the first free number. The ids as they were are in a stream
//! of our own. 0 is never given: LLDB takes it for "no thread".

use std::collections::HashSet;

use crate::snapshot::Snapshot;

/// The dump's ids of the snapshot's threads.
pub(super) struct ThreadIds {
    ids: Vec<u32>,
    exception: u32,
}

impl ThreadIds {
    /// One id for each thread, all different.
    pub(super) fn new(snapshot: &Snapshot) -> ThreadIds {
        let dead = snapshot.death.thread;
        let listed = dead.and_then(|id| snapshot.threads.iter().position(|thread| thread.state.id == id));
        // A dead thread that is not in the list needs an id of its own: no other thread may be taken for it.
        let unlisted = dead.filter(|_| listed.is_none());
        let system: Vec<u64> = snapshot.threads.iter().map(|thread| thread.state.id).chain(unlisted).collect();

        let mut taken = HashSet::from([0]);
        let mut ids: Vec<Option<u32>> =
            system.iter().map(|id| u32::try_from(*id).ok().filter(|id| taken.insert(*id))).collect();
        let mut next = 1;
        for (id, system) in ids.iter_mut().zip(&system).filter(|(id, _)| id.is_none()) {
            let low = *system as u32;
            *id = if taken.insert(low) { Some(low) } else { first_free(&mut taken, &mut next) };
        }
        // More threads than there are numbers can't be in memory.
        let mut ids: Vec<u32> = ids.into_iter().map(Option::unwrap_or_default).collect();
        let exception = match listed {
            Some(index) => ids[index],
            None if unlisted.is_some() => ids.pop().unwrap_or_default(),
            None => 0,
        };
        ThreadIds { ids, exception }
    }

    /// The id of the thread with this index in the snapshot.
    pub(super) fn of(&self, index: usize) -> u32 {
        self.ids.get(index).copied().unwrap_or_default()
    }

    /// The id of the thread that died; 0 if it is not known.
    pub(super) fn exception(&self) -> u32 {
        self.exception
    }
}

fn first_free(taken: &mut HashSet<u32>, next: &mut u32) -> Option<u32> {
    while !taken.insert(*next) {
        *next = next.checked_add(1)?;
    }
    Some(*next)
}
