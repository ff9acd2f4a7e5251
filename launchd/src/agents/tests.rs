//! Over a stand-in that keeps jobs as launchd does: what it read at load is what it has, until bootout.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use super::*;

/// A launchd of one domain. Statuses: launchctl(1) and `launchctl error`.
#[derive(Debug, Default)]
struct Launchd {
    /// Label to the arguments it was loaded with.
    jobs: BTreeMap<String, Vec<String>>,
    /// What it was told, but for questions.
    told: Vec<String>,
    /// How many questions a job outlives its bootout.
    lingering: u32,
    leaving: Option<(String, u32)>,
    /// How many times a label can't be loaded after its job has gone.
    draining: u32,
    /// Statuses of commands that fail.
    failing: BTreeMap<&'static str, i32>,
}

impl Launchctl for Launchd {
    fn call(&mut self, arguments: &[&OsStr]) -> io::Result<Answer> {
        let arguments: Vec<&str> = arguments.iter().map(|argument| argument.to_str().unwrap()).collect();
        let answer =
            |status, output: String| Answer { status: Some(status), output, errors: format!("error {status}\n") };
        if arguments[0] != "print" {
            self.told.push(arguments.join(" "));
        }
        if let Some(status) = self.failing.get(arguments[0]) {
            return Ok(answer(*status, String::new()));
        }
        let label = arguments[1].strip_prefix("gui/501/").unwrap_or_default().to_owned();
        match arguments[0] {
            "print" => {
                if let Some((leaving, left)) = &mut self.leaving {
                    if *left == 0 {
                        self.jobs.remove(leaving);
                        self.leaving = None;
                    } else {
                        *left -= 1;
                    }
                }
                let Some(job) = self.jobs.get(&label) else { return Ok(answer(113, String::new())) };
                let job = job.iter().map(|argument| format!("\t\t{argument}\n")).collect::<String>();
                Ok(answer(0, format!("gui/501/{label} = {{\n\tstate = not running\n\targuments = {{\n{job}\t}}\n}}\n")))
            }
            "bootout" => {
                self.leaving = Some((label, self.lingering));
                Ok(answer(if self.lingering > 0 { 36 } else { 0 }, String::new()))
            }
            "bootstrap" => {
                assert_eq!(arguments[1], "gui/501");
                let path = Path::new(arguments[2]);
                let label = path.file_stem().unwrap().to_str().unwrap().to_owned();
                if self.draining > 0 {
                    self.draining -= 1;
                    return Ok(answer(5, String::new()));
                }
                if self.jobs.contains_key(&label) {
                    return Ok(answer(5, String::new()));
                }
                let job = plist::Value::from_reader_xml(File::open(path)?).unwrap();
                let arguments = job.as_dictionary().unwrap()["ProgramArguments"].as_array().unwrap();
                let arguments = arguments.iter().map(|text| text.as_string().unwrap().to_owned()).collect();
                self.jobs.insert(label, arguments);
                Ok(answer(0, String::new()))
            }
            other => panic!("{other}"),
        }
    }
}

/// A home folder with a program in it, removed when it goes.
struct Home(PathBuf);

impl Home {
    fn new(name: &str) -> Home {
        let home = std::env::temp_dir().join(format!("aftermach-agents-{}-{name}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join("handler"), "").unwrap();
        fs::set_permissions(home.join("handler"), fs::Permissions::from_mode(0o755)).unwrap();
        Home(home)
    }

    fn agents(&self) -> Agents<Launchd> {
        let mut agents = Agents::new(&self.0, 501, Launchd::default()).unwrap();
        agents.asking = Duration::ZERO;
        agents
    }

    fn definition(&self) -> Definition {
        Definition::new(product(), &self.0.join("handler")).unwrap()
    }

    fn other(&self) -> Definition {
        self.definition().with_store(Path::new("/elsewhere")).unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn product() -> Product {
    Product::new("com.example", "Tunnel", "").unwrap()
}

#[test]
fn a_job_is_written_loaded_described_and_removed() {
    let home = Home::new("whole");
    let mut agents = home.agents();
    let path = home.0.join("Library/LaunchAgents/com.example.Tunnel.crashd.plist");
    assert_eq!(agents.install(&home.definition(), false).unwrap(), Installed::Loaded { overwrote: false });
    assert_eq!(fs::read(&path).unwrap(), home.definition().to_xml().unwrap());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o022, 0);
    assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);

    let status = agents.status(&product()).unwrap();
    assert_eq!((status.installed, status.problems.as_slice()), (true, [].as_slice()));
    assert_eq!(status.loaded.unwrap().state.as_deref(), Some("not running"));
    assert_eq!(status.program, Some(Program::At(home.0.join("handler"))));
    assert_eq!(status.program_problem, None);

    let removed = agents.uninstall(&product()).unwrap();
    assert_eq!(removed, Uninstalled { was_loaded: true, had_definition: true });
    assert!(!path.exists());
    let bootstrap = format!("bootstrap gui/501 {}", path.display());
    assert_eq!(agents.launchctl.told, [bootstrap.as_str(), "bootout gui/501/com.example.Tunnel.crashd"]);

    let status = agents.status(&product()).unwrap();
    assert_eq!((status.installed, status.loaded, status.program), (false, None, None));
    let nothing = agents.uninstall(&product()).unwrap();
    assert_eq!(nothing, Uninstalled { was_loaded: false, had_definition: false });
}

#[test]
fn installing_the_same_again_leaves_the_running_job_alone() {
    let home = Home::new("again");
    let mut agents = home.agents();
    agents.install(&home.definition(), false).unwrap();
    assert_eq!(agents.install(&home.definition(), true).unwrap(), Installed::Already);
    assert_eq!(agents.launchctl.told.len(), 1);
}

#[test]
fn a_loaded_job_of_another_definition_is_replaced_only_when_told_so() {
    let home = Home::new("other");
    let mut agents = home.agents();
    agents.install(&home.definition(), false).unwrap();
    let before = fs::read(agents.path(&product())).unwrap();
    let refused = agents.install(&home.other(), false).unwrap_err();
    assert!(matches!(&refused, AgentError::OtherLoaded(target) if target == "gui/501/com.example.Tunnel.crashd"));
    assert!(refused.to_string().contains("--replace"), "{refused}");
    assert_eq!(fs::read(agents.path(&product())).unwrap(), before);
    assert_eq!(agents.launchctl.told.len(), 1);

    agents.launchctl.lingering = 3;
    assert_eq!(agents.install(&home.other(), true).unwrap(), Installed::Replaced);
    assert_eq!(agents.launchctl.jobs["com.example.Tunnel.crashd"], home.other().arguments());
}

#[test]
fn a_file_that_changed_since_it_was_loaded_does_not_hide_what_runs() {
    let home = Home::new("changed");
    let mut agents = home.agents();
    agents.install(&home.definition(), false).unwrap();
    assert!(!agents.status(&product()).unwrap().outdated);
    fs::write(agents.path(&product()), home.other().to_xml().unwrap()).unwrap();
    assert!(agents.status(&product()).unwrap().outdated);
    assert!(matches!(agents.install(&home.other(), false), Err(AgentError::OtherLoaded(_))));
}

#[test]
fn a_definition_that_is_not_loaded_is_overwritten_and_said() {
    let home = Home::new("stale");
    let mut agents = home.agents();
    let path = agents.path(&product());
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, "old").unwrap();
    let status = agents.status(&product()).unwrap();
    assert!(matches!(status.problems.as_slice(), [Problem::Unreadable(_)]));
    assert_eq!(agents.install(&home.definition(), false).unwrap(), Installed::Loaded { overwrote: true });
}

#[test]
fn a_job_that_does_not_go_is_not_overwritten() {
    let home = Home::new("stays");
    let mut agents = home.agents();
    agents.install(&home.definition(), false).unwrap();
    let before = fs::read(agents.path(&product())).unwrap();
    agents.launchctl.lingering = u32::MAX;
    assert!(matches!(agents.install(&home.other(), true), Err(AgentError::StillThere(_))));
    assert!(matches!(agents.uninstall(&product()), Err(AgentError::StillThere(_))));
    assert_eq!(fs::read(agents.path(&product())).unwrap(), before);
}

#[test]
fn what_launchctl_refuses_is_passed_on_in_its_words() {
    let home = Home::new("refused");
    let mut agents = home.agents();
    let text = |error: AgentError| error.to_string();
    agents.launchctl.failing.insert("bootstrap", 125);
    let refused = text(agents.install(&home.definition(), false).unwrap_err());
    assert!(refused.ends_with("com.example.Tunnel.crashd.plist failed with status 125: error 125"), "{refused}");
    // It stays for the next login.
    assert!(agents.path(&product()).exists());

    agents.launchctl.failing.clear();
    agents.install(&home.definition(), false).unwrap();
    agents.launchctl.failing.insert("bootout", 1);
    assert!(matches!(agents.uninstall(&product()), Err(AgentError::Refused { status: Some(1), .. })));
    assert!(agents.path(&product()).exists());

    // Whether it is loaded is not known then, so nothing is done.
    agents.launchctl.failing.insert("print", 112);
    assert!(matches!(agents.status(&product()), Err(AgentError::Refused { status: Some(112), .. })));
    assert!(matches!(agents.install(&home.other(), true), Err(AgentError::Refused { status: Some(112), .. })));
}

#[test]
fn a_handler_that_can_not_be_started_is_not_installed() {
    let home = Home::new("handler");
    let mut agents = home.agents();
    let of = |path: &Path| Definition::new(product(), path).unwrap();
    assert!(matches!(agents.install(&of(&home.0.join("none")), false), Err(AgentError::Program(_))));
    assert!(matches!(agents.install(&of(&home.0), false), Err(AgentError::Program(_))));
    fs::set_permissions(home.0.join("handler"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(agents.install(&home.definition(), false), Err(AgentError::Program(_))));
    assert!(!agents.path(&product()).exists());
}

#[test]
fn a_handler_that_went_away_shows_in_the_status() {
    let home = Home::new("gone");
    let mut agents = home.agents();
    agents.install(&home.definition(), false).unwrap();
    fs::remove_file(home.0.join("handler")).unwrap();
    let problem = agents.status(&product()).unwrap().program_problem.unwrap();
    assert!(problem.contains("handler"), "{problem}");
}

#[test]
fn root_has_no_agents() {
    assert!(matches!(Agents::new(Path::new("/var/root"), 0, Launchd::default()), Err(AgentError::Root)));
}

#[test]
fn a_label_that_is_still_draining_is_loaded_as_soon_as_it_can_be() {
    let home = Home::new("draining");
    let mut agents = home.agents();
    agents.launchctl.draining = 4;
    assert_eq!(agents.install(&home.definition(), false).unwrap(), Installed::Loaded { overwrote: false });
    assert!(agents.is_loaded(&product()).unwrap());
    assert_eq!(agents.launchctl.told.len(), 5);
}

#[test]
fn a_job_that_launchd_never_takes_is_an_error_after_some_tries() {
    let home = Home::new("refused-for-good");
    let mut agents = home.agents();
    agents.launchctl.draining = u32::MAX;
    let error = agents.install(&home.definition(), false).unwrap_err();
    assert!(matches!(error, AgentError::Refused { status: Some(5), .. }), "{error}");
    assert_eq!(agents.launchctl.told.len(), 1 + LOADED as usize);
}
