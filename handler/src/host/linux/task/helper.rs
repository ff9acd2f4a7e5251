//! A second thread for large victims: their time is spent in system calls that don't depend on each other, and only ptrace
//! insists on the thread that seized.
//!
//! On a busy machine the second thread may not run for long, so the first never waits for it to start, only for what it has
//! begun.

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use super::system;

/// Runs `own` on this thread; meanwhile on another, if that is `worth` it and one is to be had, and then on both, does `work`
/// on each of `items`, of which `chunk` are taken at a time. Returns what `own` did and the items in their order.
///
/// Starting a thread takes as long as some twenty system calls.
pub(super) fn share<T: Send + 'static, A>(
    mut items: Vec<T>,
    chunk: usize,
    worth: bool,
    own: impl FnOnce() -> A,
    work: impl Fn(&mut T) + Send + Sync + 'static,
) -> (A, Vec<T>) {
    if !worth || system::facts().system.cpu_count < 2 {
        let result = own();
        items.iter_mut().for_each(work);
        return (result, items);
    }
    let job = Arc::new(Job { queue: Mutex::new(Queue::new(items, chunk)), returned: Condvar::new(), work });
    let for_helper = Arc::clone(&job);
    // Without a second thread this one does it all.
    let _ = thread::Builder::new().name("capture".into()).spawn(move || for_helper.drain());
    let result = own();
    job.drain();
    (result, job.results())
}

struct Job<T, F> {
    queue: Mutex<Queue<T>>,
    returned: Condvar,
    work: F,
}

struct Queue<T> {
    /// By descending index: the next is the last.
    waiting: Vec<(usize, Vec<T>)>,
    /// Chunks that a thread is at work on.
    taken: usize,
    done: Vec<(usize, Vec<T>)>,
}

impl<T> Queue<T> {
    fn new(items: Vec<T>, chunk: usize) -> Queue<T> {
        let mut items = items.into_iter();
        let mut waiting = Vec::with_capacity(items.len() / chunk.max(1) + 1);
        while items.len() > 0 {
            waiting.push((waiting.len(), items.by_ref().take(chunk.max(1)).collect()));
        }
        waiting.reverse();
        Queue { done: Vec::with_capacity(waiting.len()), waiting, taken: 0 }
    }
}

impl<T, F: Fn(&mut T)> Job<T, F> {
    fn drain(&self) {
        while let Some(mut chunk) = self.take() {
            chunk.items.iter_mut().for_each(&self.work);
        }
    }

    fn take(&self) -> Option<Chunk<'_, T, F>> {
        let mut queue = self.queue();
        let (index, items) = queue.waiting.pop()?;
        queue.taken += 1;
        Some(Chunk { job: self, index, items })
    }

    /// Waits for what the other thread has begun.
    fn results(&self) -> Vec<T> {
        let mut queue = self.queue();
        while queue.taken > 0 {
            queue = self.returned.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let mut done = mem::take(&mut queue.done);
        done.sort_unstable_by_key(|(index, _)| *index);
        done.into_iter().flat_map(|(_, items)| items).collect()
    }

    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Items that one thread is at work on. They go back however that ends, so that the other never waits in vain.
struct Chunk<'a, T, F: Fn(&mut T)> {
    job: &'a Job<T, F>,
    index: usize,
    items: Vec<T>,
}

impl<T, F: Fn(&mut T)> Drop for Chunk<'_, T, F> {
    fn drop(&mut self) {
        let mut queue = self.job.queue();
        queue.done.push((self.index, mem::take(&mut self.items)));
        queue.taken -= 1;
        self.job.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once_and_keeps_its_place() {
        for (chunk, worth) in [(1, false), (1, true), (8, false), (8, true)] {
            for count in [0, 1, 48, 1003] {
                let (own, items) = share((0..count).collect(), chunk, worth, || 7, |item| *item += 5000);
                assert_eq!((own, items), (7, (5000..5000 + count).collect()));
            }
        }
    }

    #[test]
    fn a_thread_that_fails_at_its_work_gives_back_what_it_had() {
        let job = Job {
            queue: Mutex::new(Queue::new(vec![1, 2, 3], 8)),
            returned: Condvar::new(),
            work: |item: &mut i32| {
                assert_ne!(*item, 2);
                *item = 0;
            },
        };
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job.drain())).is_err());
        assert_eq!(job.results(), [0, 2, 3]);
    }
}
