//! Linux: whether programs may be traced, and whether the product's service answers.

use super::finding::Finding;

/// The oldest kernel on which all threads of a dying process can be held together.
const OLDEST: (u32, u32) = (5, 16);

/// What was found of the system.
#[derive(Debug)]
pub(super) struct TracingFacts {
    /// `/proc/sys/kernel/osrelease`
    pub(super) release: String,
    /// `/proc/sys/kernel/yama/ptrace_scope`, where there is a Yama.
    pub(super) yama: Option<String>,
    /// `Seccomp` of `/proc/self/status`: 0 none, 1 strict, 2 filtered.
    pub(super) seccomp: Option<u8>,
    /// Why a trial of tracing a child failed, if it did.
    pub(super) probe: Result<(), String>,
}

/// Who is at a product's socket.
#[derive(Debug)]
pub(super) enum Socket {
    /// The product's name is too long for one.
    NoPlace(String),
    /// There is none.
    Missing,
    /// It can't be connected to.
    Closed(String),
    /// Somebody listens.
    Open {
        pid: i32,
        uid: u32,
        /// What the answer was, or why there was none.
        answer: Result<Reply, String>,
    },
}

/// What the service said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reply {
    Fine,
    NotPermitted,
    Busy,
    Odd,
}

/// A product's socket.
#[derive(Debug)]
pub(super) struct SocketFacts {
    pub(super) product: String,
    pub(super) path: String,
    pub(super) user: u32,
    pub(super) socket: Socket,
}

pub(super) fn judge(facts: &TracingFacts) -> Vec<Finding> {
    vec![kernel(facts), yama(facts), filter(facts), probe(facts)]
}

fn kernel(facts: &TracingFacts) -> Finding {
    const CHECK: &str = "tracing-kernel";
    let release = facts.release.trim();
    let mut parts = release.split(|letter: char| !letter.is_ascii_digit());
    let mut number = || parts.next()?.parse::<u32>().ok();
    match (number(), number()) {
        (Some(major), Some(minor)) if (major, minor) < OLDEST => Finding::failed(
            CHECK,
            format!("Linux {release} can't hold all threads of a dying process"),
            "use Linux 5.16 or later",
        ),
        (Some(_), Some(_)) => Finding::ok(CHECK, format!("Linux {release}")),
        _ => Finding::unknown(CHECK, format!("this kernel calls itself {release:?}"), "Linux 5.16 or later is needed"),
    }
    .with("release", release)
}

fn yama(facts: &TracingFacts) -> Finding {
    const CHECK: &str = "tracing-yama";
    let Some(scope) = &facts.yama else { return Finding::ok(CHECK, "Yama is not in this kernel") };
    let scope = scope.trim();
    match scope {
        "0" | "1" => {
            Finding::ok(CHECK, format!("ptrace_scope is {scope}: one's own children and clients that allow it"))
        }
        "2" if facts.probe.is_ok() => Finding::ok(CHECK, "ptrace_scope is 2, and this process may trace all the same"),
        "2" => Finding::failed(
            CHECK,
            "ptrace_scope is 2: only administrators may trace",
            "`sysctl kernel.yama.ptrace_scope=1`, or run with CAP_SYS_PTRACE",
        ),
        "3" => Finding::failed(
            CHECK,
            "ptrace_scope is 3: nobody may trace until the next boot",
            "put kernel.yama.ptrace_scope=1 into /etc/sysctl.d and boot",
        ),
        _ => Finding::unknown(CHECK, format!("ptrace_scope is {scope:?}"), "see kernel.org's page on Yama"),
    }
    .with("ptrace_scope", scope)
}

fn filter(facts: &TracingFacts) -> Finding {
    const CHECK: &str = "tracing-filter";
    match (facts.seccomp, &facts.probe) {
        (Some(0), _) => Finding::ok(CHECK, "no system call filter is in force"),
        (Some(_), Ok(())) => Finding::ok(CHECK, "a system call filter is in force, and lets ptrace through"),
        (Some(_), Err(_)) => Finding::warning(
            CHECK,
            "a system call filter is in force, usually a container's, and may be what forbids ptrace",
            "start the container with `--cap-add=SYS_PTRACE`, or a profile that allows ptrace and process_vm_readv",
        ),
        (None, _) => {
            Finding::unknown(CHECK, "/proc does not say whether a system call filter is in force", "mount /proc")
        }
    }
}

fn probe(facts: &TracingFacts) -> Finding {
    const CHECK: &str = "tracing-trial";
    match &facts.probe {
        Ok(()) => Finding::ok(CHECK, "a child was traced to its death and read"),
        Err(why) => Finding::failed(CHECK, why.clone(), "change what that says: without it nothing is caught"),
    }
}

pub(super) fn judge_socket(facts: &SocketFacts) -> Vec<Finding> {
    let (socket, answer) = match &facts.socket {
        Socket::NoPlace(why) => (Finding::failed("service-socket", why.clone(), "choose shorter names"), None),
        Socket::Missing => (
            Finding::failed(
                "service-socket",
                format!("{} is not there: no service of this product runs as user {}", facts.path, facts.user),
                "start it: `aftermach-handler serve --group … --name …`, with the clients' XDG_RUNTIME_DIR",
            ),
            None,
        ),
        Socket::Closed(why) => (
            Finding::failed(
                "service-socket",
                format!("{}: {why}", facts.path),
                "nobody listens there any more: start `aftermach-handler serve` again, which replaces the socket",
            ),
            None,
        ),
        Socket::Open { pid, uid, .. } if *uid != facts.user && *uid != 0 => (
            Finding::failed(
                "service-socket",
                format!(
                    "{} belongs to process {pid} of user {uid}: clients of user {} take it for an impostor",
                    facts.path, facts.user
                ),
                "run the service as the clients' user, or as root with --every-user",
            ),
            None,
        ),
        Socket::Open { pid, uid, answer } => (
            Finding::ok("service-socket", format!("{}: process {pid} of user {uid} listens", facts.path))
                .with("pid", *pid)
                .with("uid", *uid),
            Some(self::answer(answer)),
        ),
    };
    let findings = [Some(socket.with("path", facts.path.clone())), answer].into_iter().flatten();
    findings.map(|finding| finding.about(&facts.product)).collect()
}

fn answer(answer: &Result<Reply, String>) -> Finding {
    const CHECK: &str = "service-answer";
    match answer {
        Ok(Reply::Fine) => Finding::ok(CHECK, "it answers"),
        Ok(Reply::NotPermitted) => Finding::failed(
            CHECK,
            "it serves other users than this one",
            "run it as this user, or start root's with --every-user",
        ),
        Ok(Reply::Busy) => {
            Finding::warning(CHECK, "it has too many clients to take another", "try again; see what connects so often")
        }
        Ok(Reply::Odd) => Finding::failed(
            CHECK,
            "it answers in another way than this version expects",
            "update the service, or this tool, to the other's version",
        ),
        Err(why) => Finding::failed(
            CHECK,
            format!("it does not answer: {why}"),
            "see its log; if it hangs, end it: its clients run on, and register again when they start next",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::{Verdict, worst};
    use super::*;

    fn good() -> TracingFacts {
        TracingFacts { release: "6.1.0-13-amd64\n".into(), yama: Some("1\n".into()), seccomp: Some(0), probe: Ok(()) }
    }

    #[track_caller]
    fn verdict(facts: &TracingFacts, check: &str) -> Verdict {
        judge(facts).iter().find(|finding| finding.check == check).unwrap().verdict
    }

    #[test]
    fn a_system_that_lets_us_trace_is_fine() {
        assert_eq!(worst(&judge(&good())), Verdict::Ok);
        assert_eq!(worst(&judge(&TracingFacts { yama: None, seccomp: Some(2), ..good() })), Verdict::Ok);
    }

    #[test]
    fn each_thing_that_forbids_tracing_is_named() {
        let refused = || TracingFacts { probe: Err("ptrace is refused".into()), ..good() };
        assert_eq!(verdict(&refused(), "tracing-trial"), Verdict::Failed);
        for (scope, expected) in [("2", Verdict::Failed), ("3", Verdict::Failed), ("9", Verdict::Unknown)] {
            assert_eq!(verdict(&TracingFacts { yama: Some(scope.into()), ..refused() }, "tracing-yama"), expected);
        }
        assert_eq!(verdict(&TracingFacts { yama: Some("2".into()), ..good() }, "tracing-yama"), Verdict::Ok);
        assert_eq!(verdict(&TracingFacts { seccomp: Some(2), ..refused() }, "tracing-filter"), Verdict::Warning);
        for (release, expected) in [
            ("5.15.0-generic", Verdict::Failed),
            ("5.16.1", Verdict::Ok),
            ("odd", Verdict::Unknown),
            ("", Verdict::Unknown),
        ] {
            assert_eq!(
                verdict(&TracingFacts { release: release.into(), ..good() }, "tracing-kernel"),
                expected,
                "{release}"
            );
        }
    }

    #[test]
    fn a_service_is_found_by_its_socket_its_owner_and_its_answer() {
        let verdicts = |socket| {
            let facts = SocketFacts { product: "p".into(), path: "/run/p.sock".into(), user: 1000, socket };
            judge_socket(&facts).iter().map(|finding| finding.verdict).collect::<Vec<_>>()
        };
        let open = |uid, answer| Socket::Open { pid: 7, uid, answer };
        use Verdict::{Failed, Ok as Fine, Warning};
        assert_eq!(verdicts(open(1000, Ok(Reply::Fine))), [Fine, Fine]);
        assert_eq!(verdicts(open(0, Ok(Reply::NotPermitted))), [Fine, Failed]);
        assert_eq!(verdicts(open(1000, Ok(Reply::Busy))), [Fine, Warning]);
        assert_eq!(verdicts(open(1000, Ok(Reply::Odd))), [Fine, Failed]);
        assert_eq!(verdicts(open(1000, Err("no answer".into()))), [Fine, Failed]);
        assert_eq!(verdicts(open(1001, Ok(Reply::Fine))), [Failed]);
        assert_eq!(verdicts(Socket::Missing), [Failed]);
        assert_eq!(verdicts(Socket::Closed("refused".into())), [Failed]);
        assert_eq!(verdicts(Socket::NoPlace("too long".into())), [Failed]);
    }
}
