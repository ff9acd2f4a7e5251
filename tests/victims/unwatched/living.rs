//! Programs that ask for a report of themselves and go on. Each prints what it saw of it: nothing, if all is well.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::time::{Duration, Instant};
use std::{env, io, mem, process, ptr, thread};

use aftermach_protocol::session::{self, Kind, Request, Status};

use super::{ask, count, handle, me, null_read, other_service, wait_for};

/// Asks for a report on a connection of its own, as the client does.
fn snapshot() -> Status {
    ask_about(&mut other_service(), tid() as u64)
}

fn ask_about(service: &mut UnixStream, thread: u64) -> Status {
    let request = Request { kind: Kind::Snapshot, about: thread };
    // A process with too many connections is told so, and hung up on, before it asks.
    let asked = service.write_all(&session::encode_request(&request));
    let mut reply = [0; session::REPLY_SIZE];
    match (service.read_exact(&mut reply), asked) {
        (Err(_), Err(_)) => Status::Busy,
        (read, _) => {
            read.expect("the service answers");
            session::decode_reply(&reply).expect("it speaks our language")
        }
    }
}

fn tid() -> i32 {
    // SAFETY: no memory is involved.
    unsafe { libc::gettid() }
}

/// A thread in one blocking call, and how it is woken.
struct Blocked {
    name: &'static str,
    tid: Arc<AtomicI32>,
    wake: Box<dyn FnOnce(i32)>,
    thread: thread::JoinHandle<Result<(), String>>,
}

/// Starts a thread that blocks in `call`; `wake` gets its id.
fn block(
    name: &'static str,
    call: impl FnOnce() -> Result<(), String> + Send + 'static,
    wake: impl FnOnce(i32) + 'static,
) -> Blocked {
    let tid_of = Arc::new(AtomicI32::new(0));
    let told = Arc::clone(&tid_of);
    let body = move || {
        told.store(tid(), Ordering::Release);
        call()
    };
    let thread = thread::Builder::new().name(name.to_owned()).spawn(body).expect("a thread");
    Blocked { name, tid: tid_of, wake: Box::new(wake), thread }
}

/// What a call answered, which is to be `expected`.
fn check(result: i64, expected: i64) -> Result<(), String> {
    match result == expected {
        true => Ok(()),
        false => Err(format!("{result}: {}", io::Error::last_os_error())),
    }
}

/// Waits until the thread sleeps in the kernel, or has ended.
fn until_asleep(tid: &AtomicI32) {
    loop {
        let id = tid.load(Ordering::Acquire);
        let sleeps = |stat: String| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('S'));
        if id != 0 && fs::read_to_string(format!("/proc/self/task/{id}/stat")).map_or(true, sleeps) {
            return;
        }
        thread::yield_now();
    }
}

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().expect("sockets")
}

fn eventfd() -> i32 {
    // SAFETY: no memory is involved.
    unsafe { libc::eventfd(0, 0) }
}

fn signal_event(fd: i32) {
    // SAFETY: eight readable bytes.
    unsafe { libc::write(fd, 1_u64.to_ne_bytes().as_ptr().cast(), 8) };
}

fn epoll(fd: i32) -> i32 {
    let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 7 };
    // SAFETY: a live event.
    unsafe {
        let epoll = libc::epoll_create1(0);
        assert_eq!(libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event), 0);
        epoll
    }
}

/// A time span that no test lasts for.
const LONG: libc::timespec = libc::timespec { tv_sec: 600, tv_nsec: 0 };

fn everything_that_blocks() -> Vec<Blocked> {
    let mut all = Vec::new();
    all.extend(descriptors());
    all.extend(polls());
    all.extend(waits());
    all.extend(sleeps());
    all
}

fn descriptors() -> Vec<Blocked> {
    let (mut read, mut write) = io::pipe().expect("a pipe");
    let pipe = block(
        "read",
        move || read.read_exact(&mut [0]).map_err(|error| error.to_string()),
        move |_| write.write_all(b"!").expect("it is read"),
    );
    let socket = |name, timeout: bool| {
        let (near, mut far) = pair();
        if timeout {
            near.set_read_timeout(Some(Duration::from_secs(600))).expect("a time");
        }
        let receive = move || {
            let mut byte = [0_u8];
            // SAFETY: one writable byte.
            check(unsafe { libc::recv(near.as_raw_fd(), byte.as_mut_ptr().cast(), 1, 0) } as i64, 1)
        };
        block(name, receive, move |_| far.write_all(b"!").expect("it is read"))
    };
    let path = env::temp_dir().join(format!("aftermach-accept-{}", process::id()));
    let listener = UnixListener::bind(&path).expect("a socket");
    let accept = block(
        "accept",
        move || {
            // SAFETY: the address is not asked for.
            let fd = unsafe { libc::accept(listener.as_raw_fd(), ptr::null_mut(), ptr::null_mut()) };
            check(i64::from(fd >= 0), 1)
        },
        move |_| {
            UnixStream::connect(&path).expect("it listens");
            fs::remove_file(&path).expect("it is there");
        },
    );
    let file = env::temp_dir().join(format!("aftermach-lock-{}", process::id()));
    let (holder, waiter) = (fs::File::create(&file).expect("a file"), fs::File::create(&file).expect("a file"));
    fs::remove_file(&file).expect("it is there");
    // SAFETY: no memory is involved.
    assert_eq!(unsafe { libc::flock(holder.as_raw_fd(), libc::LOCK_EX) }, 0);
    let flock = block(
        "flock",
        // SAFETY: as above.
        move || check(unsafe { libc::flock(waiter.as_raw_fd(), libc::LOCK_EX) }.into(), 0),
        move |_| drop(holder),
    );
    vec![pipe, socket("recv", false), socket("recv-with-timeout", true), accept, flock]
}

fn polls() -> Vec<Blocked> {
    let with_event = |name, call: fn(i32) -> i64| {
        let event = eventfd();
        block(name, move || check(call(event), 1), move |_| signal_event(event))
    };
    vec![
        // SAFETY: structures on the stack of the thread that calls.
        with_event("poll", |fd| unsafe {
            libc::poll(&mut libc::pollfd { fd, events: libc::POLLIN, revents: 0 }, 1, 600_000).into()
        }),
        // SAFETY: structures on the stack of the thread that calls.
        with_event("ppoll", |fd| unsafe {
            libc::ppoll(&mut libc::pollfd { fd, events: libc::POLLIN, revents: 0 }, 1, &LONG, ptr::null()).into()
        }),
        // SAFETY: structures on the stack of the thread that calls.
        with_event("select", |fd| unsafe {
            let mut set: libc::fd_set = mem::zeroed();
            libc::FD_SET(fd, &mut set);
            libc::select(fd + 1, &mut set, ptr::null_mut(), ptr::null_mut(), ptr::null_mut()).into()
        }),
        // SAFETY: structures on the stack of the thread that calls.
        with_event("epoll_wait", |fd| unsafe {
            libc::epoll_wait(epoll(fd), &mut libc::epoll_event { events: 0, u64: 0 }, 1, -1).into()
        }),
        // SAFETY: structures on the stack of the thread that calls.
        with_event("epoll_wait-with-timeout", |fd| unsafe {
            libc::epoll_wait(epoll(fd), &mut libc::epoll_event { events: 0, u64: 0 }, 1, 600_000).into()
        }),
        // SAFETY: structures on the stack of the thread that calls.
        with_event("epoll_pwait", |fd| unsafe {
            let mut mask: libc::sigset_t = mem::zeroed();
            libc::sigaddset(&mut mask, libc::SIGUSR2);
            libc::epoll_pwait(epoll(fd), &mut libc::epoll_event { events: 0, u64: 0 }, 1, -1, &mask).into()
        }),
    ]
}

fn waits() -> Vec<Blocked> {
    let locks = Arc::new((Mutex::new(false), Condvar::new()));
    let waiter = Arc::clone(&locks);
    let futex = block(
        "futex",
        move || {
            let (lock, changed) = &*waiter;
            let mut done = lock.lock().map_err(|error| error.to_string())?;
            while !*done {
                done = changed.wait(done).map_err(|error| error.to_string())?;
            }
            Ok(())
        },
        move |_| {
            *locks.0.lock().expect("nobody panics") = true;
            locks.1.notify_one();
        },
    );
    // SAFETY: a set of semaphores of this process alone, removed below.
    let set = unsafe { libc::semget(libc::IPC_PRIVATE, 1, 0o600) };
    // SAFETY: one operation, which lives for the call.
    let operate = move |by| unsafe {
        let mut operation = libc::sembuf { sem_num: 0, sem_op: by, sem_flg: 0 };
        i64::from(libc::semop(set, &mut operation, 1))
    };
    let semaphore = block(
        "semop",
        move || {
            let result = check(operate(-1), 0);
            // SAFETY: as above.
            unsafe { libc::semctl(set, 0, libc::IPC_RMID) };
            result
        },
        move |_| assert_eq!(operate(1), 0),
    );
    let wait_for_signal = block(
        "sigtimedwait",
        // SAFETY: sets on the stack; the signal is blocked in this thread, and sent to no other.
        || unsafe {
            let mut set: libc::sigset_t = mem::zeroed();
            libc::sigaddset(&mut set, libc::SIGUSR2);
            libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut());
            check(libc::sigtimedwait(&set, ptr::null_mut(), &LONG).into(), libc::SIGUSR2.into())
        },
        // SAFETY: to a thread of this process, which waits for it.
        |tid| _ = unsafe { libc::syscall(libc::SYS_tgkill, process::id(), tid, libc::SIGUSR2) },
    );
    // Ends with its input, also if this process is killed.
    let mut command = me();
    command.args(["echo"]).stdin(process::Stdio::piped()).stdout(process::Stdio::null());
    #[allow(clippy::zombie_processes, reason = "a thread waits for it, by its number")]
    let mut child = command.spawn().expect("it starts");
    let (input, child) = (child.stdin.take(), child.id() as i32);
    let wait = block("waitpid", move || check(wait_for(child).into(), 0), move |_| drop(input));
    vec![futex, semaphore, wait_for_signal, wait]
}

fn sleeps() -> Vec<Blocked> {
    // They end by themselves, and not before their time.
    const SLEEP: Duration = Duration::from_secs(2);
    let sleep = |name, flags| {
        let call = move || {
            let start = Instant::now();
            let mut time = libc::timespec { tv_sec: SLEEP.as_secs() as i64, tv_nsec: 0 };
            // SAFETY: live times.
            let result = unsafe {
                if flags == libc::TIMER_ABSTIME {
                    let mut now = time;
                    libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now);
                    time = libc::timespec { tv_sec: now.tv_sec + time.tv_sec, tv_nsec: now.tv_nsec };
                }
                libc::clock_nanosleep(libc::CLOCK_MONOTONIC, flags, &time, ptr::null_mut())
            };
            let slept = start.elapsed();
            match (result, slept >= SLEEP) {
                (0, true) => Ok(()),
                _ => Err(format!("{result} after {slept:?}")),
            }
        };
        block(name, call, |_| {})
    };
    vec![sleep("nanosleep", 0), sleep("nanosleep-until", libc::TIMER_ABSTIME)]
}

/// Asks `times` while a thread waits in each call that blocks; then ends each wait as it should end.
pub(super) fn blocked(times: i32) {
    let blocked = everything_that_blocks();
    for _ in 0..times {
        blocked.iter().for_each(|blocked| until_asleep(&blocked.tid));
        println!("{:?}", snapshot());
    }
    for Blocked { name, tid, wake, thread } in blocked {
        wake(tid.load(Ordering::Acquire));
        if let Err(error) = thread.join().expect("no thread panics") {
            println!("{name}: {error}");
        }
    }
}

/// Sends signals that are ignored by default, and one that is ignored by choice, to a thread that waits for events: without a
/// tracer they would not even wake it.
pub(super) fn ignored_signals(times: i32) {
    // SAFETY: runs no code.
    unsafe { libc::signal(libc::SIGUSR1, libc::SIG_IGN) };
    let event = eventfd();
    // SAFETY: a live event.
    let wait = move || unsafe {
        check(libc::epoll_wait(epoll(event), &mut libc::epoll_event { events: 0, u64: 0 }, 1, -1).into(), 1)
    };
    let blocked = block("epoll_wait", wait, move |_| signal_event(event));
    for _ in 0..times {
        for signal in [libc::SIGWINCH, libc::SIGCHLD, libc::SIGURG, libc::SIGUSR1] {
            until_asleep(&blocked.tid);
            // SAFETY: to a thread of this process.
            unsafe { libc::syscall(libc::SYS_tgkill, process::id(), blocked.tid.load(Ordering::Acquire), signal) };
        }
    }
    (blocked.wake)(0);
    println!("{:?}", blocked.thread.join().expect("no thread panics"));
}

/// A call that a handled signal interrupts fails, as it does without us, also if a report is asked for at that moment.
pub(super) fn interrupted_by_handler(times: i32) {
    handle(libc::SIGUSR1, count);
    let asking = Arc::new(AtomicBool::new(true));
    let asks = Arc::clone(&asking);
    let asker = thread::spawn(move || {
        while asks.load(Ordering::Relaxed) {
            assert_eq!(snapshot(), Status::Ok);
        }
    });
    for _ in 0..times {
        let event = eventfd();
        // SAFETY: a live event.
        let wait = move || unsafe {
            check(libc::epoll_wait(epoll(event), &mut libc::epoll_event { events: 0, u64: 0 }, 1, -1).into(), 1)
        };
        let blocked = block("epoll_wait", wait, |_| {});
        until_asleep(&blocked.tid);
        // SAFETY: to a thread of this process, which has a handler.
        unsafe { libc::syscall(libc::SYS_tgkill, process::id(), blocked.tid.load(Ordering::Acquire), libc::SIGUSR1) };
        let error = blocked.thread.join().expect("no thread panics").expect_err("a handler ran");
        assert!(error.starts_with("-1: Interrupted system call"), "{error}");
    }
    asking.store(false, Ordering::Relaxed);
    asker.join().expect("no thread panics");
    println!("{}", super::HANDLED.load(Ordering::Relaxed));
}

/// Asks all the time while threads come and go, children are made, and signals are handled; each of these does what it does
/// without.
pub(super) fn busy(times: i32) {
    handle(libc::SIGUSR1, count);
    let ready = Arc::new(Barrier::new(2));
    let begin = Arc::clone(&ready);
    let asker = thread::spawn(move || {
        begin.wait();
        let answers: Vec<Status> = (0..times).map(|_| snapshot()).collect();
        answers.iter().filter(|answer| **answer == Status::Ok).count()
    });
    ready.wait();
    let (mut threads, mut children, mut signals) = (0, 0, 0);
    while !asker.is_finished() {
        threads += thread::spawn(|| 1).join().expect("no thread panics");
        // SAFETY: the child only exits.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: as above.
            unsafe { libc::_exit(3) };
        }
        assert_eq!(wait_for(child), 3 << 8);
        let executed = me().args(["exit", "4"]).status().expect("it runs");
        assert_eq!(executed.code(), Some(4));
        children += 1;
        // SAFETY: has a handler.
        unsafe { libc::raise(libc::SIGUSR1) };
        signals += 1;
    }
    assert!(threads > 0 && children > 0);
    assert_eq!(super::HANDLED.load(Ordering::Relaxed), signals);
    println!("{}", asker.join().expect("no thread panics"));
}

/// Several threads ask at once: each is told whether it got its report.
pub(super) fn at_once(times: i32) {
    let askers: Vec<_> = (0..3)
        .map(|_| {
            thread::spawn(move || {
                let answers: Vec<Status> = (0..times).map(|_| snapshot()).collect();
                assert!(answers.iter().all(|answer| matches!(answer, Status::Ok | Status::Busy)), "{answers:?}");
                answers.into_iter().filter(|answer| *answer == Status::Ok).count()
            })
        })
        .collect();
    let reports: usize = askers.into_iter().map(|asker| asker.join().expect("no thread panics")).sum();
    println!("{reports}");
}

/// One thread asks without end, another crashes.
pub(super) fn crashes_meanwhile() {
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    thread::spawn(move || {
        loop {
            snapshot();
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    while asked.load(Ordering::Relaxed) < 3 {
        thread::yield_now();
    }
    null_read();
}

/// One thread asks without end, another executes a program.
pub(super) fn executes_meanwhile(code: i32) {
    let asked = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&asked);
    thread::spawn(move || {
        loop {
            snapshot();
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    while asked.load(Ordering::Relaxed) < 3 {
        thread::yield_now();
    }
    panic!("{}", me().args(["exit", &code.to_string()]).exec());
}

/// One thread asks without end, another asks not to be watched any more, and to be watched again.
pub(super) fn released_meanwhile(times: i32) {
    let asking = Arc::new(AtomicBool::new(true));
    let asks = Arc::clone(&asking);
    let asker = thread::spawn(move || {
        while asks.load(Ordering::Relaxed) {
            let answer = snapshot();
            assert!(matches!(answer, Status::Ok | Status::Busy | Status::NotAttached), "{answer:?}");
        }
    });
    let mut service = other_service();
    for _ in 0..times {
        assert_eq!(ask(&mut service, Kind::Release), Status::Ok);
        assert_eq!(ask(&mut service, Kind::Attach), Status::Ok);
    }
    asking.store(false, Ordering::Relaxed);
    asker.join().expect("no thread panics");
    println!("{:?}", snapshot());
}

fn sleep_a_millisecond() -> bool {
    thread::sleep(Duration::from_millis(1));
    false
}

/// Is stopped while a report is asked for in its name, and stays so.
pub(super) fn stopped() {
    let ticks = Arc::new(AtomicU32::new(0));
    let ticking = Arc::clone(&ticks);
    thread::spawn(move || {
        loop {
            ticking.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(1));
        }
    });
    let mut service = other_service();
    let (asker, pid) = (tid() as u64, process::id() as i32);
    // SAFETY: the child calls what needs no lock of another thread, but for the heap, which glibc keeps usable in it.
    let helper = unsafe { libc::fork() };
    if helper == 0 {
        let stat = || fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
        let is_stopped = || stat().rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['t', 'T']));
        // SAFETY: the parent waits for this process.
        unsafe { libc::kill(pid, libc::SIGSTOP) };
        while !is_stopped() {
            thread::yield_now();
        }
        // The connection is the parent's, whoever writes.
        let answer = ask_about(&mut service, asker);
        // It may yet go once more from the stop that it was read in to the one that it had been in, without running.
        let soon = (0..2000).any(|_| is_stopped() || sleep_a_millisecond());
        let stopped = soon && (0..20).all(|_| !sleep_a_millisecond() && is_stopped());
        // SAFETY: as above.
        unsafe {
            libc::kill(pid, libc::SIGCONT);
            libc::_exit(match (answer, stopped) {
                (Status::Ok, true) => 0,
                (Status::Ok, false) => 1,
                _ => 2,
            });
        }
    }
    let status = wait_for(helper);
    let before = ticks.load(Ordering::Relaxed);
    while ticks.load(Ordering::Relaxed) == before {
        thread::sleep(Duration::from_millis(1));
    }
    println!("{status:x}");
}

/// A forked child asks with what it has of its parent.
pub(super) fn forked_child_asks() {
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        process::exit(i32::from(snapshot() != Status::NotAttached));
    }
    println!("{:x} {:?}", wait_for(child), snapshot());
}
