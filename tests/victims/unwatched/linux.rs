//! The things that a tracer could get wrong on Linux.

#[path = "living.rs"]
mod living;

use std::ffi::{CString, OsStr};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, exit};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;
use std::{env, mem, ptr, thread};

use aftermach_handler::host::{Receiver, Task, linux};
use aftermach_handler::snapshot::{Death, Snapshot};
use aftermach_protocol::session::{self, Kind, Request, Status};

/// Where the service listens that this program is to ask to be watched, if it is.
const SOCKET: &str = "UNWATCHED_SOCKET";

pub(crate) fn main() {
    // Kept open, as a client does.
    let _service = env::var_os(SOCKET).map(|path| attach(&path));
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (what, number) = match &arguments[..] {
        [what] => (what.as_str(), 0),
        [what, number] => (what.as_str(), number.parse().expect("a number")),
        _ => panic!("usage: unwatched WHAT [NUMBER]"),
    };
    match what {
        "exit" => exit(number),
        "raise" => raise(number),
        "abort" => std::process::abort(),
        "null" => null_read(),
        "handled-usr1" => handled_usr1(number as u32),
        "handled-segv" => handled_segv(number as u32),
        "threads" => threads(number),
        "tree" => tree(number),
        "exec-from-thread" => exec_from_thread(number),
        "exec-among-dying" => exec_among_dying(number),
        "stop-child" => stop_child(),
        "stop-self" => stop_self(),
        "crash-among" => crash_among(number as usize),
        "crash-without-leader" => crash_without_leader(),
        "crash-together" => crash_together(number),
        "die-below" => die_below(number),
        "daemon" => daemon(),
        "leave-daemon" => leave_daemon(),
        "orphan-crashes" => orphan_crashes(),
        "sleep" => sleep_until_killed(),
        "killed-from-outside" => killed_from_outside(number),
        "handler-aborts" => handler_aborts(),
        "kill-busy" => kill_busy(number),
        "signals" => print!("{}", signal_state()),
        "filtered" => filtered(),
        "vfork-waits" => vfork_waits(),
        "count-signals" => count_signals(number),
        "echo" => echo(),
        "term-handler" => term_handler(),
        "attach-and-release" => attach_and_release(number),
        "stand-in" => stand_in(number),
        "living-blocked" => living::blocked(number),
        "living-ignored-signals" => living::ignored_signals(number),
        "living-handler" => living::interrupted_by_handler(number),
        "living-busy" => living::busy(number),
        "living-at-once" => living::at_once(number),
        "living-crashes" => living::crashes_meanwhile(),
        "living-executes" => living::executes_meanwhile(number),
        "living-released" => living::released_meanwhile(number),
        "living-stopped" => living::stopped(),
        "living-child" => living::forked_child_asks(),
        "ask" => println!("{:?}", ask(&mut other_service(), Kind::Attach)),
        other => panic!("unknown: {other}"),
    }
}

/// Asks to be watched. Programs that this one executes do not.
fn attach(path: &OsStr) -> UnixStream {
    let mut service = UnixStream::connect(path).expect("the service listens");
    assert_eq!(ask(&mut service, Kind::Attach), Status::Ok);
    // SAFETY: there is no other thread yet.
    unsafe { env::remove_var(SOCKET) };
    service
}

fn ask(service: &mut UnixStream, kind: Kind) -> Status {
    service.write_all(&session::encode_request(&Request { kind, about: 0 })).expect("the service reads");
    let mut reply = [0; session::REPLY_SIZE];
    service.read_exact(&mut reply).expect("the service answers");
    session::decode_reply(&reply).expect("it speaks our language")
}

/// Does what `aftermach run` does: runs a program, the victim itself, and ends as it ended.
fn stand_in(number: i32) {
    let what = env::var("STAND_IN_FOR").expect("what to do");
    let program = linux::Program::new(env::current_exe().expect("a path")).args([what, number.to_string()]);
    let options = linux::Options { relay_signals: true, ..Default::default() };
    let ending = linux::run(&program, &options, &mut Nobody).expect("it runs");
    ending.pass_on()
}

/// Makes no reports.
struct Nobody;

impl Receiver for Nobody {
    fn death(&mut self, _: Death, _: &dyn Task) -> Option<Box<Snapshot>> {
        None
    }

    fn released(&mut self, _: Box<Snapshot>, _: Duration) {}
}

fn other_service() -> UnixStream {
    UnixStream::connect(env::var("SERVICE").expect("a path")).expect("the service listens")
}

/// Asks to be watched with threads that come and go all the time, and to be released, again and again.
fn attach_and_release(times: i32) {
    for _ in 0..4 {
        thread::spawn(|| {
            loop {
                thread::spawn(|| thread::sleep(Duration::from_millis(1))).join().expect("no thread panics");
            }
        });
    }
    let mut service = other_service();
    for _ in 0..times {
        assert_eq!(ask(&mut service, Kind::Attach), Status::Ok);
        assert_eq!(tracer_of_each_thread(), [true]);
        assert_eq!(ask(&mut service, Kind::Attach), Status::AlreadyAttached);
        assert_eq!(ask(&mut service, Kind::Release), Status::Ok);
        assert_eq!(tracer_of_each_thread(), [false]);
    }
    println!("{times}");
}

/// Whether threads are traced: one answer if it is the same for all. A thread that is being born when the others are released
/// is traced until it has stopped once, so those that disagree are asked again.
fn tracer_of_each_thread() -> Vec<bool> {
    const TIMES: usize = 200;
    let mut traced = Vec::new();
    for _ in 0..TIMES {
        traced = tracers_now();
        if traced.len() == 1 {
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    traced
}

/// What they are at this moment. Threads that are ending are nobody's any more.
fn tracers_now() -> Vec<bool> {
    let threads = std::fs::read_dir("/proc/self/task").expect("a folder");
    let ends = |status: &str| ["State:\tZ", "State:\tX"].iter().any(|state| status.contains(state));
    let mut traced: Vec<bool> = threads
        .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("status")).ok())
        .filter(|status| !ends(status))
        .map(|status| !status.contains("TracerPid:\t0\n"))
        .collect();
    traced.sort_unstable();
    traced.dedup();
    traced
}

fn raise(signal: i32) {
    // SAFETY: sends this process a signal; Rust's runtime leaves those that are tested at their default, but for SIGSEGV and
    // SIGBUS, which are reset.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::kill(libc::getpid(), signal);
        libc::pause();
    }
}

#[inline(never)]
fn null_read() {
    default_fault_handlers();
    // SAFETY: none: this is the crash.
    unsafe { ptr::read_volatile(ptr::without_provenance::<u32>(8)) };
}

/// Rust's runtime has handlers of its own for stack overflows.
fn default_fault_handlers() {
    // SAFETY: sets default actions.
    unsafe {
        libc::signal(libc::SIGSEGV, libc::SIG_DFL);
        libc::signal(libc::SIGBUS, libc::SIG_DFL);
    }
}

fn handle(signal: i32, handler: extern "C" fn(i32)) {
    // SAFETY: the handlers below call nothing but async-signal-safe functions.
    unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = handler as *const () as usize;
        libc::sigaction(signal, &action, ptr::null_mut());
    }
}

static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: i32) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
}

fn handled_usr1(times: u32) {
    handle(libc::SIGUSR1, count);
    for _ in 0..times {
        // SAFETY: has a handler.
        unsafe { libc::raise(libc::SIGUSR1) };
    }
    println!("{}", HANDLED.load(Ordering::Relaxed));
}

static PAGE: AtomicUsize = AtomicUsize::new(0);

extern "C" fn allow(_: i32) {
    HANDLED.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the page mapped below.
    unsafe { libc::mprotect(PAGE.load(Ordering::Relaxed) as *mut _, 4096, libc::PROT_READ | libc::PROT_WRITE) };
}

/// What a garbage collector's write barrier does.
fn handled_segv(times: u32) {
    handle(libc::SIGSEGV, allow);
    // SAFETY: a new mapping; writes to it fault until the handler allows them.
    unsafe {
        let page = libc::mmap(ptr::null_mut(), 4096, libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
        PAGE.store(page as usize, Ordering::Relaxed);
        for value in 0..times {
            libc::mprotect(page, 4096, libc::PROT_NONE);
            page.cast::<u32>().write_volatile(value);
        }
        println!("{} {}", HANDLED.load(Ordering::Relaxed), page.cast::<u32>().read_volatile());
    }
}

fn threads(count: i32) {
    let mut sum = 0_u64;
    for index in 0..count {
        sum += thread::spawn(move || index as u64).join().expect("no thread panics");
    }
    println!("{sum}");
}

fn me() -> Command {
    Command::new(env::current_exe().expect("a path"))
}

/// As `make` does: processes made by fork and by vfork, each executing others.
fn tree(breadth: i32) {
    let mut sum = 0;
    for index in 0..breadth {
        let code = if index % 3 == 0 {
            // SAFETY: the child only exits.
            unsafe {
                let child = libc::fork();
                if child == 0 {
                    libc::_exit(index % 100);
                }
                wait_for(child) >> 8
            }
        } else if index % 3 == 1 {
            // Uses vfork or posix_spawn.
            me().args(["exit", &(index % 100).to_string()]).status().expect("it runs").code().expect("it exits")
        } else {
            // A shell that forks, and executes in its child.
            let script = format!("({} exit {}); exit $?", env::current_exe().expect("a path").display(), index % 100);
            Command::new("/bin/sh").args(["-c", &script]).status().expect("it runs").code().expect("it exits")
        };
        sum += code;
    }
    println!("{sum}");
}

fn wait_for(child: i32) -> i32 {
    let mut status = 0;
    // SAFETY: a live status.
    unsafe { libc::waitpid(child, &mut status, 0) };
    status
}

fn exec_from_thread(code: i32) {
    let idle: Vec<_> = (0..4).map(|_| thread::spawn(|| thread::sleep(Duration::from_secs(3600)))).collect();
    thread::spawn(move || panic!("{}", me().args(["exit", &code.to_string()]).exec())).join().ok();
    drop(idle);
}

/// Threads end by themselves while another executes a program.
fn exec_among_dying(rounds: i32) {
    if rounds == 0 {
        println!("done");
        return;
    }
    let ready = Arc::new(Barrier::new(17));
    for index in 0..16 {
        let ready = Arc::clone(&ready);
        thread::spawn(move || {
            ready.wait();
            if index == 7 {
                panic!("{}", me().args(["exec-among-dying", &(rounds - 1).to_string()]).exec());
            }
        });
    }
    ready.wait();
    thread::sleep(Duration::from_secs(3600));
}

/// What a shell with job control sees of its children.
fn stop_child() {
    let (mut go, told) = std::io::pipe().expect("a pipe");
    // SAFETY: the child only stops, reads and exits; this process has one thread.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            handle(libc::SIGCONT, count);
            for _ in 0..2 {
                libc::kill(libc::getpid(), libc::SIGSTOP);
                // Until the parent has seen it continued, which another stop or the end would undo.
                go.read_exact(&mut [0]).expect("the parent writes");
            }
            libc::_exit(40 + HANDLED.load(Ordering::Relaxed) as i32);
        }
        for _ in 0..2 {
            let mut status = 0;
            libc::waitpid(child, &mut status, libc::WUNTRACED);
            print!("{status:x} ");
            libc::kill(child, libc::SIGCONT);
            libc::waitpid(child, &mut status, libc::WCONTINUED);
            print!("{status:x} ");
            (&told).write_all(b"!").expect("the child reads");
        }
        println!("{:x}", wait_for(child));
    }
}

/// Stops with several threads, until a child continues it. (A tracee's stop shows as `t` in /proc, not as `T`.)
fn stop_self() {
    handle(libc::SIGCONT, count);
    let ticks = Arc::new(AtomicU32::new(0));
    for _ in 0..8 {
        let ticks = Arc::clone(&ticks);
        thread::spawn(move || {
            loop {
                ticks.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
        });
    }
    let pid = std::process::id();
    let mut helper = Command::new("/bin/sh")
        .args([
            "-c",
            &format!("kill -STOP {pid}; until grep -q '^State:.[Tt]' /proc/{pid}/status; do :; done; kill -CONT {pid}"),
        ])
        .spawn()
        .expect("a shell");
    let status = helper.wait().expect("it ends");
    let before = ticks.load(Ordering::Relaxed);
    while ticks.load(Ordering::Relaxed) == before {
        thread::sleep(Duration::from_millis(1));
    }
    println!("{status} {}", HANDLED.load(Ordering::Relaxed));
}

fn idle_threads(count: usize) {
    let ready = Arc::new(Barrier::new(count + 1));
    for _ in 0..count {
        let ready = Arc::clone(&ready);
        let idle = move || {
            ready.wait();
            thread::sleep(Duration::from_secs(3600));
        };
        thread::Builder::new().stack_size(64 << 10).spawn(idle).expect("a thread");
    }
    ready.wait();
}

fn crash_among(count: usize) {
    idle_threads(count);
    null_read();
}

/// `main` is over, other threads go on, and one of them crashes.
fn crash_without_leader() {
    thread::spawn(|| {
        let path = format!("/proc/self/task/{}/status", std::process::id());
        while !std::fs::read_to_string(&path).is_ok_and(|status| status.contains("State:\tZ")) {
            thread::sleep(Duration::from_millis(1));
        }
        null_read();
    });
    // SAFETY: ends this thread alone, without unwinding out of `main`; nothing needs what it owns.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
}

/// Children that all crash at once, each with some threads.
fn crash_together(count: i32) {
    let (mut read, write) = std::io::pipe().expect("a pipe");
    // SAFETY: this process has one thread, so its children may do as they like.
    let children: Vec<i32> = (0..count).map(|_| unsafe { libc::fork() }).take_while(|&pid| pid != 0).collect();
    if children.len() < count as usize {
        drop(write);
        idle_threads(3);
        // Ends as the parent closes its end.
        read.read_to_end(&mut Vec::new()).expect("the parent closes it");
        null_read();
        exit(1);
    }
    drop((read, write));
    let statuses: Vec<i32> = children.into_iter().map(wait_for).collect();
    println!("{} died of it", statuses.iter().filter(|status| *status & 0x7f == libc::SIGSEGV).count());
}

/// A child dies of a signal; its parent sees it and goes on.
fn die_below(signal: i32) {
    let status = me().args(["raise", &signal.to_string()]).status().expect("it runs");
    println!("{status}");
}

/// A daemon in the classic way: forks twice, and outlives whoever started it.
fn daemon() {
    let (mut read, write) = std::io::pipe().expect("a pipe");
    // SAFETY: one thread.
    unsafe {
        if libc::fork() == 0 {
            libc::setsid();
            if libc::fork() == 0 {
                while libc::getppid() != 1 && !is_reaped_elsewhere() {
                    libc::usleep(1000);
                }
                (&write).write_all(b"x").expect("the parent reads");
                libc::_exit(0);
            }
            libc::_exit(0);
        }
        let mut status = 0;
        libc::wait(&mut status);
    }
    drop(write);
    let mut bytes = Vec::new();
    read.read_to_end(&mut bytes).expect("the daemon writes");
    println!("{}", bytes.len());
}

/// Starts a daemon, says its number, and stays.
fn leave_daemon() {
    // SAFETY: one thread.
    let daemon = unsafe { libc::fork() };
    if daemon == 0 {
        // SAFETY: no memory is involved.
        unsafe { libc::setsid() };
    } else {
        println!("{daemon}");
    }
    thread::sleep(Duration::from_secs(3600));
}

/// Under a subreaper an orphan's parent is not process 1, but some process that did not make it.
fn is_reaped_elsewhere() -> bool {
    // SAFETY: no memory is involved.
    unsafe { libc::getppid() != libc::getpgrp() }
}

/// Leaves a child behind that crashes once this process is gone.
fn orphan_crashes() {
    // SAFETY: one thread.
    unsafe {
        let parent = libc::getpid();
        if libc::fork() == 0 {
            while libc::getppid() == parent {
                libc::usleep(1000);
            }
            null_read();
        }
    }
}

fn sleep_until_killed() {
    println!("{}", std::process::id());
    std::io::stdout().flush().expect("it is read");
    thread::sleep(Duration::from_secs(3600));
}

/// Kills busy children: some make threads and end them, others make processes.
fn kill_busy(times: i32) {
    let mut killed = 0;
    for index in 0..times {
        let what = if index % 2 == 0 { ["threads", "1000000"] } else { ["tree", "1000000"] };
        let mut child = me().args(what).spawn().expect("it starts");
        thread::sleep(Duration::from_millis(index as u64 % 13));
        child.kill().expect("it lives");
        killed += u32::from(child.wait().expect("it ends").code().is_none());
    }
    println!("{killed}");
}

/// A child waits; this process sends it a signal and tells how it ended.
fn killed_from_outside(signal: i32) {
    // SAFETY: one thread.
    unsafe {
        let child = libc::fork();
        if child == 0 {
            default_fault_handlers();
            libc::raise(libc::SIGSTOP);
            loop {
                libc::pause();
            }
        }
        let mut status = 0;
        libc::waitpid(child, &mut status, libc::WUNTRACED);
        libc::kill(child, signal);
        libc::kill(child, libc::SIGCONT);
        println!("{} {}", child, wait_for(child) & 0x7f);
    }
}

extern "C" fn abort(_: i32) {
    // SAFETY: async-signal-safe.
    unsafe { libc::abort() };
}

fn handler_aborts() {
    handle(libc::SIGSEGV, abort);
    // SAFETY: none: this is the crash.
    unsafe { ptr::read_volatile(ptr::without_provenance::<u32>(8)) };
}

/// The signals that are blocked and ignored.
fn signal_state() -> String {
    let status = Command::new("/bin/cat").arg("/proc/self/status").output().expect("cat").stdout;
    let status = String::from_utf8(status).expect("text");
    status
        .lines()
        .filter(|line| line.starts_with("Sig") && !line.starts_with("SigQ"))
        .map(|l| l.to_owned() + "\n")
        .collect()
}

/// Forbids itself to trace, as containers do, and then tries.
fn filtered() {
    let statement = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        // Loads the number of the call (struct seccomp_data.nr) and compares it with ptrace's.
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, libc::SYS_ptrace as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        statement(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: a live filter, and the call that takes it.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program), 0);
    }
    println!("{}", linux::probe().expect_err("it is refused"));
    let refused =
        linux::run(&linux::Program::new("true"), &Default::default(), &mut Nobody).expect_err("it is refused");
    println!("{refused}");
    exit(refused.exit_status().into());
}

/// A child made by vfork keeps its parent waiting in the kernel for a while, and then fails to execute.
fn vfork_waits() {
    let nothing = CString::new("/nowhere/nothing").expect("no NUL");
    let arguments = [nothing.as_ptr(), ptr::null()];
    // SAFETY: between vfork and _exit the child only sleeps and tries to execute.
    #[allow(deprecated, reason = "what it does is what is tested")]
    unsafe {
        let child = libc::vfork();
        if child == 0 {
            libc::usleep(20_000);
            libc::execv(nothing.as_ptr(), arguments.as_ptr());
            libc::_exit(9);
        }
        println!("{:x}", wait_for(child));
    }
}

extern "C" fn say_and_exit(signal: i32) {
    // SAFETY: async-signal-safe.
    unsafe { libc::_exit(50 + signal) };
}

/// Counts signals, one a line, until there have been enough.
fn count_signals(enough: i32) {
    handle(libc::SIGUSR1, count);
    println!("{}", std::process::id());
    let mut told = 0;
    while told < enough as u32 {
        let counted = HANDLED.load(Ordering::Relaxed);
        if counted > told {
            told += 1;
            println!("got {told}");
        }
        thread::sleep(Duration::from_millis(1));
    }
    // Long enough for one that comes twice.
    thread::sleep(Duration::from_millis(50));
    println!("{} in all", HANDLED.load(Ordering::Relaxed));
}

/// Reads lines from its terminal and repeats them.
fn echo() {
    println!("ready");
    for line in std::io::stdin().lines() {
        println!("<{}>", line.expect("text"));
    }
}

fn term_handler() {
    handle(libc::SIGTERM, say_and_exit);
    sleep_until_killed();
}
