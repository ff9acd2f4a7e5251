//! Truth, on x86-64: every frame at every instruction of every thread.
//!
//! `cargo test --release -p aftermach-handler --test lab -- --ignored --nocapture` prints the whole table.

use super::stepper::{Stepper, converted};
use super::support;
use crate::figures::Figures;
use crate::images::{X86_64, folder};
use crate::judge::Judge;

/// Steps through the tour of one build.
fn torture(build: &str) -> Figures {
    let loader = support::example("macho_loader");
    let (stepper, snapshot) = Stepper::start(&loader, &folder("x86_64", build).join("main"), "tour");
    let mut judge = Judge::new(snapshot);
    stepper.run(|moment| judge.judge(converted(moment.registers), moment.start, moment.bytes, moment.callers));
    judge.figures
}

fn check(builds: &[&str]) {
    if !support::ptrace_works("torture") {
        return;
    }
    println!("{}", Figures::HEADING);
    for build in builds {
        let figures = torture(build);
        println!("{}", figures.line(&format!("x86_64 {build}")));
        for wrong in figures.wrong() {
            println!("    {}: {}", wrong.place, wrong.what);
        }
        assert!(figures.steps() > 1000, "{build}: the tour is longer than that");
        assert_eq!(figures.wrong_steps(), 0, "{build}");
    }
}

#[test]
fn every_frame_is_right_at_every_instruction_of_an_optimised_build() {
    check(&["O2"]);
}

#[test]
#[ignore = "takes a minute without optimisation; docs/unwinding.md"]
fn every_frame_is_right_at_every_instruction_of_every_build() {
    check(&X86_64);
}
