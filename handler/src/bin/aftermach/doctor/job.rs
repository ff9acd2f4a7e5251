//! macOS: the product's job in launchd, as an agent or a daemon, and who finds its service.

use std::path::Path;

use aftermach_launchd::launchctl::Loaded;
use aftermach_launchd::{Program, Status};
use aftermach_protocol::product::Product;

use super::finding::Finding;
use super::program;

/// What a look-up of the service's name brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Name {
    Found,
    Unknown,
    NotPrivileged,
    Other(String),
}

/// What was found of one product's job.
#[derive(Debug)]
pub(super) struct JobFacts {
    pub(super) product: Product,
    pub(super) user: u32,
    /// The job in the user's graphical session.
    pub(super) agent: Result<Status, String>,
    /// The job in the system's domain.
    pub(super) daemon: Result<Option<Loaded>, String>,
    /// The definition that it has in /Library/LaunchDaemons, if any.
    pub(super) daemon_file: Option<DaemonFile>,
    pub(super) name: Name,
    /// This process came over the network: it stands outside the graphical session.
    pub(super) remote: bool,
    /// What is known of the handler program's signature, or why nothing is.
    pub(super) signature: Option<Result<HandlerSignature, String>>,
}

/// A daemon's definition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DaemonFile {
    pub(super) path: String,
    pub(super) problems: Vec<String>,
    pub(super) owner: u32,
    pub(super) mode: u32,
}

/// A handler program's signature.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HandlerSignature {
    /// CPUs that it has code for.
    pub(super) cpus: Vec<String>,
    /// Those of them whose code is not signed.
    pub(super) unsigned: Vec<String>,
    /// The signature is ad hoc: of nobody in particular.
    pub(super) ad_hoc: bool,
    /// Its team, if it says one.
    pub(super) team: Option<String>,
}

/// What the signature of the program at `path` says.
pub(super) fn signature_of(path: &Path) -> Result<HandlerSignature, String> {
    let mut summary = HandlerSignature::default();
    for (cpu, signed) in program::signatures(path)? {
        match signed {
            None => summary.unsigned.push(cpu.clone()),
            Some((team, ad_hoc)) => {
                summary.team = summary.team.or(team);
                summary.ad_hoc |= ad_hoc;
            }
        }
        summary.cpus.push(cpu);
    }
    Ok(summary)
}

pub(super) fn judge(facts: &JobFacts) -> Vec<Finding> {
    let agent = facts.agent.as_ref();
    let mut findings = vec![definition(facts)];
    findings.extend(facts.daemon_file.as_ref().map(|file| daemon_definition(file, is_in(&facts.daemon))));
    findings.extend([loaded(facts), domain(facts), name(facts)]);
    if let Ok(status) = agent
        && (status.installed || status.loaded.is_some())
    {
        findings.push(handler_program(status));
        findings.extend(facts.signature.as_ref().map(signature));
    }
    if agent_is_loaded(facts) || is_in(&facts.daemon) {
        findings.push(system_report(facts));
    }
    let stem = facts.product.stem();
    findings.into_iter().map(|finding| finding.about(&stem)).collect()
}

fn install(product: &Product) -> String {
    let channel = match product.channel() {
        "" => String::new(),
        channel => format!(" --channel {channel}"),
    };
    format!("aftermach service install --group {} --name {}{channel}", product.group(), product.name())
}

fn is_in(found: &Result<Option<Loaded>, String>) -> bool {
    matches!(found, Ok(Some(_)))
}

fn agent_is_loaded(facts: &JobFacts) -> bool {
    facts.agent.as_ref().is_ok_and(|status| status.loaded.is_some())
}

/// The handler's option by which Apple's reporter is kept out (`Policy::system_report`).
const NO_SYSTEM_REPORT: &str = "--no-system-report";

/// Whether the service answers so that the system goes on to its own report.
fn system_report(facts: &JobFacts) -> Finding {
    const CHECK: &str = "system-report";
    let agent = facts.agent.as_ref().ok().and_then(|status| status.loaded.as_ref());
    let jobs = [agent, facts.daemon.as_ref().ok().and_then(Option::as_ref)].into_iter().flatten();
    let mut arguments = jobs.filter_map(|job| job.arguments.as_ref());
    let is_off = arguments.any(|arguments| arguments.iter().any(|argument| argument == NO_SYSTEM_REPORT));
    if is_off {
        Finding::ok(CHECK, format!("Apple makes no report of crashes that are reported here ({NO_SYSTEM_REPORT})"))
            .and(["nor does an app's CrashReportExtension (macOS 27)".to_owned()])
    } else {
        Finding::ok(CHECK, "Apple's own report of each crash is made beside ours").and([
            "of this user's programs in ~/Library/Logs/DiagnosticReports, of root's in /Library/Logs/DiagnosticReports"
                .to_owned(),
        ])
    }
    .with("on", !is_off)
}

fn definition(facts: &JobFacts) -> Finding {
    const CHECK: &str = "job-definition";
    let status = match &facts.agent {
        Err(_) if facts.daemon_file.is_some() || is_in(&facts.daemon) => {
            return Finding::ok(CHECK, "agents were not looked for; there is a daemon");
        }
        Err(why) => {
            return Finding::unknown(CHECK, why.clone(), "run this as the user who runs the clients, without sudo");
        }
        Ok(status) => status,
    };
    let path = status.path.display().to_string();
    let finding = match (status.installed, status.problems.first()) {
        (false, _) if is_in(&facts.daemon) => Finding::ok(CHECK, "no agent is installed; a daemon is loaded"),
        // An app registers its own job with SMAppService, and its definition stays in the bundle.
        (false, _) if status.loaded.is_some() => {
            Finding::ok(CHECK, format!("none at {path}: the job was loaded from elsewhere"))
        }
        (false, _) => Finding::failed(CHECK, format!("none at {path}"), format!("`{}`", install(&facts.product))),
        (true, None) => Finding::ok(CHECK, format!("{path} is as it should be")),
        (true, Some(first)) => Finding::failed(
            CHECK,
            format!("{path}: {first}"),
            format!("`{} --replace`, once the clients have ended", install(&facts.product)),
        )
        .and(status.problems.iter().skip(1).map(ToString::to_string)),
    };
    finding.with("path", path)
}

/// launchd takes a daemon's definition only if it is root's and nobody else may write it (launchctl: "Path had bad
/// ownership/permissions").
fn daemon_definition(file: &DaemonFile, is_loaded: bool) -> Finding {
    const CHECK: &str = "job-daemon";
    let DaemonFile { path, problems, owner, mode } = file;
    if let Some(first) = problems.first() {
        let advice = "write it anew from `aftermach service print`, once the clients have ended";
        return Finding::failed(CHECK, format!("{path}: {first}"), advice).and(problems.iter().skip(1).cloned());
    }
    if *owner != 0 || mode & 0o022 != 0 {
        let found = format!("{path} belongs to user {owner} with mode {mode:04o}: launchd does not load it");
        return Finding::failed(CHECK, found, format!("`sudo chown root:wheel '{path}'; sudo chmod 644 '{path}'`"));
    }
    if is_loaded {
        Finding::ok(CHECK, format!("{path} is as it should be, and loaded"))
    } else {
        Finding::failed(CHECK, format!("{path} is not loaded"), format!("`sudo launchctl bootstrap system '{path}'`"))
    }
}

fn loaded(facts: &JobFacts) -> Finding {
    const CHECK: &str = "job-loaded";
    let status = match &facts.agent {
        Err(_) if is_in(&facts.daemon) => return Finding::ok(CHECK, "as a daemon"),
        Err(why) => return Finding::unknown(CHECK, why.clone(), "see `launchctl print` of the job"),
        Ok(status) => status,
    };
    let Some(loaded) = &status.loaded else {
        return match (&facts.daemon, status.installed) {
            (Ok(Some(_)), _) => Finding::ok(CHECK, "as a daemon"),
            (_, true) => Finding::failed(
                CHECK,
                "launchd has not loaded it: it was switched off in Login Items, or this user has not logged in since",
                format!("`{}`; see System Settings, Login Items", install(&facts.product)),
            ),
            (_, false) => Finding::failed(CHECK, "launchd has no such job", format!("`{}`", install(&facts.product))),
        };
    };
    let state = loaded.state.as_deref().unwrap_or("in a state that launchctl does not tell");
    let process = loaded.pid.map(|pid| format!(", process {pid}")).unwrap_or_default();
    let exit = loaded.last_exit.as_ref().map(|exit| format!("; last exit {exit}")).unwrap_or_default();
    let told = format!("{state}{process}{exit}");
    if status.outdated {
        let advice = format!("`{} --replace`, once the clients have ended", install(&facts.product));
        return Finding::failed(CHECK, format!("{told}; its arguments are not those of the definition"), advice);
    }
    // 0 is idle or told to end; "(never exited)" is fine too.
    match loaded.last_exit.as_deref().and_then(|exit| exit.split(':').next()?.trim().parse::<i32>().ok()) {
        Some(0) | None => Finding::ok(CHECK, told),
        Some(_) => Finding::warning(CHECK, told, "the handler ended with an error: 77 is a refusal by launchd, 70 a capture that hung; otherwise look for Apple's own report \
             of it. To keep what it says, set StandardErrorPath in the definition"),
    }
    .with("state", state)
    .with("pid", loaded.pid)
}

fn domain(facts: &JobFacts) -> Finding {
    const CHECK: &str = "job-domain";
    let user = facts.user;
    let finding = match (agent_is_loaded(facts), &facts.daemon) {
        (true, Ok(Some(_))) => Finding::warning(
            CHECK,
            format!(
                "both in gui/{user} and in the system's domain: this user's programs find the agent, root's the daemon"
            ),
            "look for reports in both stores",
        ),
        (true, _) => {
            Finding::ok(CHECK, format!("gui/{user}: this user's apps, their XPC services and app extensions find it"))
                .and([
                    "daemons and system extensions do not: they run as root, outside this session, and need a daemon"
                        .to_owned(),
                ])
        }
        (false, Ok(Some(_))) => {
            Finding::ok(CHECK, "the system's: everybody finds it, root's daemons and system extensions too")
        }
        (false, Ok(None)) => Finding::failed(CHECK, "none", "load the job"),
        (false, Err(why)) => Finding::unknown(CHECK, why.clone(), "see `launchctl print` of the job"),
    };
    finding.with("agent", agent_is_loaded(facts)).with("daemon", is_in(&facts.daemon))
}

fn name(facts: &JobFacts) -> Finding {
    const CHECK: &str = "service-name";
    let service = facts.product.service();
    let loaded = agent_is_loaded(facts) || is_in(&facts.daemon);
    match &facts.name {
        Name::Found => Finding::ok(CHECK, format!("{service} is found from this process")),
        Name::NotPrivileged => Finding::failed(
            CHECK,
            format!("{service} may not be looked up from this process"),
            "run this outside any sandbox; a client in one needs the app group (`aftermach doctor --program`)",
        ),
        Name::Unknown if loaded && facts.remote => Finding::unknown(
            CHECK,
            format!("{service} is not found from this process, which came over the network"),
            "run this in a terminal of the graphical session",
        ),
        Name::Unknown if loaded => Finding::failed(
            CHECK,
            format!("{service} is not found from this process, though the job is loaded"),
            "is MachServices of the loaded job another product's or version's? Install it again",
        ),
        Name::Unknown => Finding::failed(CHECK, format!("{service} is not found"), "load the job"),
        Name::Other(why) => {
            Finding::unknown(CHECK, format!("{service}: {why}"), "try again; launchd gave an odd answer")
        }
    }
    .with("service", service)
}

fn handler_program(status: &Status) -> Finding {
    const CHECK: &str = "handler-program";
    match (&status.program, &status.program_problem) {
        (_, Some(why)) => {
            Finding::failed(CHECK, why.clone(), "put the handler there, or install the job with another --handler")
        }
        (Some(Program::At(path)), None) => Finding::ok(CHECK, format!("{} is there, and executable", path.display())),
        (Some(Program::InBundle(path)), None) => {
            Finding::unknown(CHECK, format!("{path}, in its app's bundle"), "see that the app was not moved or deleted")
        }
        (None, None) => Finding::failed(CHECK, "the job names no program", "install the job again"),
    }
}

fn signature(signature: &Result<HandlerSignature, String>) -> Finding {
    const CHECK: &str = "handler-signature";
    let signature = match signature {
        Err(why) => return Finding::unknown(CHECK, why.clone(), "`codesign -dv` of the handler may say more"),
        Ok(signature) => signature,
    };
    let cpus = signature.cpus.join(", ");
    if signature.unsigned.iter().any(|cpu| cpu.starts_with("arm64")) {
        return Finding::failed(
            CHECK,
            format!("not signed for {}: Apple silicon kills it at once", signature.unsigned.join(", ")),
            "sign it: `codesign -s - PATH` for this machine, with a Developer ID to ship it",
        );
    }
    let by = match (&signature.team, signature.ad_hoc, signature.unsigned.is_empty()) {
        (Some(team), ..) => format!("signed by team {team} ({cpus})"),
        (None, true, _) => format!("signed ad hoc ({cpus}): good for this machine"),
        (None, false, false) => format!("not signed ({cpus}): good for Intel"),
        (None, false, true) => format!("signed, by no team ({cpus})"),
    };
    Finding::ok(CHECK, format!("{by}; only its form was looked at: `codesign --verify` proves it"))
}

#[cfg(test)]
mod tests;
