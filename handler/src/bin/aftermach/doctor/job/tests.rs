//! Jobs that were made up.

use aftermach_launchd::Problem;

use super::super::finding::{Verdict, worst};
use super::*;

fn job() -> JobFacts {
    let loaded = Loaded { state: Some("not running".into()), last_exit: Some("0".into()), ..Loaded::default() };
    JobFacts {
        product: Product::new("TEAM.com.example", "Tunnel", "canary").unwrap(),
        user: 501,
        agent: Ok(Status {
            path: "/u/x.plist".into(),
            installed: true,
            problems: Vec::new(),
            loaded: Some(loaded),
            outdated: false,
            program: Some(Program::At("/opt/handler".into())),
            program_problem: None,
        }),
        daemon: Ok(None),
        daemon_file: None,
        name: Name::Found,
        remote: false,
        signature: Some(Ok(HandlerSignature {
            cpus: vec!["arm64".into()],
            ad_hoc: true,
            ..HandlerSignature::default()
        })),
    }
}

fn with(change: impl FnOnce(&mut Status)) -> JobFacts {
    let mut job = job();
    change(job.agent.as_mut().unwrap());
    job
}

#[track_caller]
fn expect(job: &JobFacts, check: &str, verdict: Verdict, words: &str) {
    let findings = judge(job);
    let finding = findings.iter().find(|finding| finding.check == check).unwrap();
    assert_eq!(finding.verdict, verdict, "{finding:?}");
    assert!(finding.found.contains(words), "{finding:?}");
}

#[test]
fn whether_apple_reports_as_well_is_told_by_the_jobs_arguments() {
    expect(&job(), "system-report", Verdict::Ok, "is made beside ours");
    let off = with(|status| {
        status.loaded.as_mut().unwrap().arguments = Some(vec!["/opt/handler".into(), "--no-system-report".into()]);
    });
    expect(&off, "system-report", Verdict::Ok, "Apple makes no report");
}

#[test]
fn a_job_that_would_catch_crashes_is_fine() {
    assert_eq!(worst(&judge(&job())), Verdict::Ok, "{:?}", judge(&job()));
}

#[test]
fn each_thing_that_is_amiss_with_a_job_is_told() {
    expect(&with(|status| status.problems = vec![Problem::KeepAlive]), "job-definition", Verdict::Failed, "KeepAlive");
    expect(&with(|status| status.loaded = None), "job-loaded", Verdict::Failed, "Login Items");
    expect(&with(|status| status.outdated = true), "job-loaded", Verdict::Failed, "not those of the definition");
    let failed = with(|status| status.loaded.as_mut().unwrap().last_exit = Some("70: EX_SOFTWARE".into()));
    expect(&failed, "job-loaded", Verdict::Warning, "last exit 70");
    let gone = with(|status| status.program_problem = Some("/opt/handler: not found".into()));
    expect(&gone, "handler-program", Verdict::Failed, "not found");
    let unsigned =
        HandlerSignature { cpus: vec!["arm64".into()], unsigned: vec!["arm64".into()], ..HandlerSignature::default() };
    let unsigned = JobFacts { signature: Some(Ok(unsigned)), ..job() };
    expect(&unsigned, "handler-signature", Verdict::Failed, "kills it at once");
}

/// Linked by LLD, which signs for Apple silicon.
#[test]
fn a_handlers_signature_is_read_from_its_file() {
    let main = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/lab/bin/arm64/O2/main");
    let expected = HandlerSignature { cpus: vec!["arm64".into()], ad_hoc: true, ..HandlerSignature::default() };
    assert_eq!(signature_of(&main), Ok(expected));
    let this = signature_of(&std::env::current_exe().unwrap());
    assert!(this.is_err(), "a Linux program has none: {this:?}");
}

#[test]
fn nothing_at_all_says_how_to_install_the_product_with_its_channel() {
    let nothing = with(|status| (status.installed, status.loaded) = (false, None));
    let nothing = JobFacts { name: Name::Unknown, ..nothing };
    for check in ["job-definition", "job-loaded", "service-name", "job-domain"] {
        expect(&nothing, check, Verdict::Failed, "");
    }
    let advice = &judge(&nothing)[0].advice;
    assert_eq!(advice, "`aftermach service install --group TEAM.com.example --name Tunnel --channel canary`");
}

#[test]
fn the_domain_decides_who_finds_the_service() {
    expect(&job(), "job-domain", Verdict::Ok, "gui/501");
    assert!(judge(&job())[2].lines[0].contains("system extensions do not"));
    let daemon = with(|status| (status.installed, status.loaded) = (false, None));
    let daemon = JobFacts { daemon: Ok(Some(Loaded::default())), ..daemon };
    expect(&daemon, "job-domain", Verdict::Ok, "the system's");
    assert_eq!(worst(&judge(&daemon)), Verdict::Ok);
    expect(&JobFacts { daemon: Ok(Some(Loaded::default())), ..job() }, "job-domain", Verdict::Warning, "both");
}

#[test]
fn a_daemons_definition_must_be_right_roots_and_loaded() {
    let file = |problems: &[&str], owner, mode| DaemonFile {
        path: "/Library/LaunchDaemons/x.plist".into(),
        problems: problems.iter().map(|problem| (*problem).to_owned()).collect(),
        owner,
        mode,
    };
    for (file, is_loaded, verdict) in [
        (file(&[], 0, 0o644), true, Verdict::Ok),
        (file(&[], 0, 0o644), false, Verdict::Failed),
        (file(&[], 501, 0o644), true, Verdict::Failed),
        (file(&[], 0, 0o664), true, Verdict::Failed),
        (file(&["KeepAlive is set"], 0, 0o644), true, Verdict::Failed),
    ] {
        let finding = daemon_definition(&file, is_loaded);
        assert_eq!(finding.verdict, verdict, "{finding:?}");
    }
    // As root sees it, who has no agents.
    let daemon = Ok(Some(Loaded::default()));
    let root = JobFacts { agent: Err("root".into()), daemon, daemon_file: Some(file(&[], 0, 0o644)), ..job() };
    assert_eq!(worst(&judge(&root)), Verdict::Ok, "{:?}", judge(&root));
}

#[test]
fn a_name_that_is_not_found_is_told_from_one_that_is_forbidden_and_from_a_remote_session() {
    let named = |name| JobFacts { name, ..job() };
    expect(&named(Name::Unknown), "service-name", Verdict::Failed, "though the job is loaded");
    expect(&JobFacts { remote: true, ..named(Name::Unknown) }, "service-name", Verdict::Unknown, "over the network");
    expect(&named(Name::NotPrivileged), "service-name", Verdict::Failed, "may not be looked up");
    expect(&named(Name::Other("odd".into())), "service-name", Verdict::Unknown, "odd");
}
