//! How a job stands, in words.

use std::fmt::Write;

use aftermach_launchd::{Program, Status};
use aftermach_protocol::product::Product;

/// Whether crashes would be caught.
pub(super) fn is_good(status: &Status) -> bool {
    status.installed
        && status.problems.is_empty()
        && status.loaded.is_some()
        && !status.outdated
        && status.program_problem.is_none()
}

/// A line for each thing that is asked about a job.
pub(super) fn text(product: &Product, status: &Status) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{name:<12}{}", value.replace(char::is_control, "?"));
    };
    line("job", &product.label());
    line("service", &product.service());
    let path = status.path.display().to_string();
    line("definition", &if status.installed { path } else { format!("none ({path})") });
    for problem in &status.problems {
        line("  problem", &problem.to_string());
    }
    match &status.loaded {
        None if status.installed => line("loaded", "no: `aftermach service install` loads it, as does the next login"),
        None => line("loaded", "no"),
        Some(loaded) => {
            let state = loaded.state.as_deref().unwrap_or("in a state that launchctl does not tell");
            let pid = loaded.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
            line("loaded", &format!("yes, {state}{pid}"));
            if let Some(exit) = &loaded.last_exit {
                line("last exit", exit);
            }
            if let Some(from) = loaded.path.as_ref().filter(|from| **from != status.path) {
                line("  from", &from.display().to_string());
            }
        }
    }
    if status.outdated {
        line("  problem", "its arguments are not those of the definition, which changed since: install with --replace");
    }
    match (&status.program, &status.program_problem) {
        (Some(Program::At(path)), None) => line("handler", &path.display().to_string()),
        (Some(Program::InBundle(path)), _) => line("handler", &format!("{path}, in its app's bundle")),
        (_, Some(problem)) => line("handler", &format!("can't be started: {problem}")),
        (None, None) => line("handler", "unknown"),
    }
    text
}

#[cfg(test)]
mod tests {
    use aftermach_launchd::Problem;
    use aftermach_launchd::launchctl::Loaded;

    use super::*;

    fn product() -> Product {
        Product::new("com.example", "Tunnel", "").unwrap()
    }

    fn status() -> Status {
        Status {
            path: "/h/x.plist".into(),
            installed: true,
            problems: Vec::new(),
            loaded: Some(Loaded { state: Some("running".to_owned()), pid: Some(7), ..Loaded::default() }),
            outdated: false,
            program: Some(Program::At("/opt/handler".into())),
            program_problem: None,
        }
    }

    #[test]
    fn a_job_that_would_catch_crashes_is_good() {
        assert!(is_good(&status()));
        let expected = "job         com.example.Tunnel.crashd\n\
                        service     com.example.Tunnel.crashd.v1\n\
                        definition  /h/x.plist\n\
                        loaded      yes, running, pid 7\n\
                        handler     /opt/handler\n";
        assert_eq!(text(&product(), &status()), expected);
    }

    #[test]
    fn each_thing_that_is_amiss_is_told_and_makes_it_bad() {
        let amiss = [
            (Status { installed: false, ..status() }, "none (/h/x.plist)"),
            (Status { problems: vec![Problem::KeepAlive], ..status() }, "KeepAlive is set"),
            (Status { loaded: None, ..status() }, "loaded      no"),
            (Status { outdated: true, ..status() }, "changed since"),
            (Status { program_problem: Some("gone".to_owned()), ..status() }, "can't be started: gone"),
        ];
        for (status, told) in amiss {
            assert!(!is_good(&status), "{told}");
            assert!(text(&product(), &status).contains(told), "{told}");
        }
    }

    #[test]
    fn what_a_definition_says_does_not_steer_the_terminal() {
        let problems = vec![Problem::RelativeProgram("\u{1b}[2J".to_owned()), Problem::Throttled("\u{1b}c".to_owned())];
        assert!(!text(&product(), &Status { problems, ..status() }).contains('\u{1b}'));
    }
}
