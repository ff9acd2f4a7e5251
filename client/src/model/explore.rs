//! Runs threads one at a time, in every order with at most so many preemptions.

use std::cell::{Cell, RefCell};
use std::format;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::string::String;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::thread_local;
use std::vec;
use std::vec::Vec;

/// What was explored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explored {
    /// Orders in which the threads were run.
    pub orders: u64,
    /// Moments at which the memory was looked at.
    pub looks: u64,
}

/// Runs `threads` in every order that has at most `preemptions` of them: places where a thread that could go on does not. Before
/// each order `begin` is called, after it `end`, and after each write to an atomic `look`, while every thread stands still. All
/// three run unobserved.
///
/// # Panics
/// Where any of them does; with the order in which it happened.
pub fn explore(
    preemptions: usize,
    begin: &dyn Fn(),
    threads: &[&(dyn Fn() + Sync)],
    look: &(dyn Fn() + Sync),
    end: &dyn Fn(),
) -> Explored {
    let mut explored = Explored { orders: 0, looks: 0 };
    let mut path = Vec::new();
    loop {
        begin();
        let mut state = State {
            running: None,
            done: vec![false; threads.len()],
            preemptions,
            path,
            at: 0,
            looks: 0,
            failure: None,
        };
        let first = state.choose(threads.len());
        state.running = Some(first);
        let run = Arc::new(Run { state: Mutex::new(state), turn: Condvar::new(), dirty: AtomicBool::new(true) });
        thread::scope(|scope| {
            for (index, body) in threads.iter().enumerate() {
                let run = Arc::clone(&run);
                scope.spawn(move || run.thread(index, *body, look));
            }
        });
        let mut state = run.lock();
        explored.orders += 1;
        explored.looks += state.looks;
        let order: Vec<usize> = state.path.iter().map(|choice| choice.taken).collect();
        if let Some(failure) = &state.failure {
            panic!("{failure}\nin order {order:?}, the {}th", explored.orders);
        }
        if let Err(panic) = catch_unwind(AssertUnwindSafe(end)) {
            panic!("{}\nat the end of order {order:?}, the {}th", message(&*panic), explored.orders);
        }
        path = std::mem::take(&mut state.path);
        // The next one differs in the last choice that has another.
        while path.pop_if(|choice| choice.taken + 1 == choice.options).is_some() {}
        match path.last_mut() {
            Some(choice) => choice.taken += 1,
            None => return explored,
        }
    }
}

/// A place where there was more than one thread to go on with.
#[derive(Clone, Copy)]
struct Choice {
    taken: usize,
    options: usize,
}

struct State {
    running: Option<usize>,
    done: Vec<bool>,
    /// That may still be made.
    preemptions: usize,
    path: Vec<Choice>,
    /// Choices made so far in this order.
    at: usize,
    looks: u64,
    failure: Option<String>,
}

impl State {
    /// One of so many, as the path says.
    fn choose(&mut self, options: usize) -> usize {
        if options < 2 {
            return 0;
        }
        if self.at == self.path.len() {
            self.path.push(Choice { taken: 0, options });
        }
        let choice = self.path[self.at];
        assert_eq!(choice.options, options, "the threads do the same each time");
        self.at += 1;
        choice.taken
    }

    fn others(&self, me: usize) -> Vec<usize> {
        (0..self.done.len()).filter(|index| *index != me && !self.done[*index]).collect()
    }
}

struct Run {
    state: Mutex<State>,
    turn: Condvar,
    /// Something was written since the memory was looked at.
    dirty: AtomicBool,
}

/// What a thread that is explored is part of.
struct Place {
    run: Arc<Run>,
    index: usize,
    look: *const (dyn Fn() + Sync),
}

thread_local! {
    static PLACE: RefCell<Option<Place>> = const { RefCell::new(None) };
    static UNOBSERVED: Cell<bool> = const { Cell::new(false) };
}

impl Run {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn await_turn(&self, index: usize) {
        let mut state = self.lock();
        while state.running != Some(index) {
            state = self.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn thread(self: &Arc<Run>, index: usize, body: &(dyn Fn() + Sync), look: &(dyn Fn() + Sync)) {
        // SAFETY: the pointer is used by this thread alone, which ends before the borrow does.
        let look: *const (dyn Fn() + Sync + 'static) = unsafe { std::mem::transmute(std::ptr::from_ref(look)) };
        PLACE.set(Some(Place { run: Arc::clone(self), index, look }));
        self.await_turn(index);
        let result = catch_unwind(AssertUnwindSafe(|| {
            body();
            self.look(look);
        }));
        PLACE.set(None);
        let mut state = self.lock();
        state.done[index] = true;
        if let Err(panic) = result {
            state.failure.get_or_insert(message(&*panic));
        }
        let others = state.others(index);
        let next = state.choose(others.len());
        state.running = others.get(next).copied();
        self.turn.notify_all();
    }

    fn look(&self, look: *const (dyn Fn() + Sync)) {
        if self.dirty.swap(false, Ordering::Relaxed) {
            self.lock().looks += 1;
            UNOBSERVED.set(true);
            // SAFETY: see `thread`.
            let result = catch_unwind(AssertUnwindSafe(|| unsafe { &*look }()));
            UNOBSERVED.set(false);
            result.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }

    /// Goes on with this thread or another.
    fn choose(&self, index: usize) {
        let mut state = self.lock();
        if state.preemptions == 0 || state.failure.is_some() {
            return;
        }
        let others = state.others(index);
        match state.choose(1 + others.len()) {
            0 => {}
            other => {
                state.preemptions -= 1;
                state.running = Some(others[other - 1]);
                self.turn.notify_all();
                drop(state);
                self.await_turn(index);
            }
        }
    }
}

/// Before an operation: another thread may get its turn.
pub(super) fn step() {
    if UNOBSERVED.get() {
        return;
    }
    let place =
        PLACE.with_borrow(|place| place.as_ref().map(|place| (Arc::clone(&place.run), place.index, place.look)));
    if let Some((run, index, look)) = place {
        run.look(look);
        run.choose(index);
    }
}

/// After an operation that may have written.
pub(super) fn wrote() {
    PLACE.with_borrow(|place| {
        if let Some(place) = place {
            place.run.dirty.store(true, Ordering::Relaxed);
        }
    });
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).into());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| format!("{panic:?}"))
}
