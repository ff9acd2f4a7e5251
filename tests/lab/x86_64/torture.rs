//! Truth, on x86-64: every frame at every instruction of every thread.
//!
//! docs/unwinding.md says how to have the whole table.

use super::stepper::{Stepper, converted};
use super::support;
use crate::figures::Figures;
use crate::images::{CXX, RUST, RUST_DEBUG, SMALL, X86_64, folder, is_built};
use crate::judge::Judge;

/// Steps through the tour of one build.
fn torture(build: &str, times: u32) -> Figures {
    let loader = support::example("macho_loader");
    let (stepper, snapshot) = Stepper::start(&loader, &folder("x86_64", build).join("main"), "tour");
    let mut judge = Judge::new(snapshot, times);
    stepper.run(|moment| judge.judge(converted(moment.registers), moment.start, moment.bytes, moment.callers));
    judge.figures
}

fn check(builds: &[&str], times: u32) {
    if !support::ptrace_works("torture") {
        return;
    }
    println!("{}", Figures::HEADING);
    let mut wrong = 0;
    for build in builds {
        let figures = torture(build, times);
        println!("{}", figures.line(&format!("x86_64 {build}")));
        for wrong in figures.wrong().take(100) {
            println!("    {}: {}", wrong.place, wrong.what);
        }
        assert!(figures.steps() > 400, "{build}: the tour is longer than that");
        wrong += figures.wrong_steps();
    }
    assert_eq!(wrong, 0, "steps at which a frame was wrong");
}

#[test]
fn every_frame_is_right_at_every_instruction_of_an_optimised_build() {
    check(&["O2"], 1);
}

#[test]
fn every_frame_is_right_at_every_instruction_of_exceptions_signals_and_lazy_binding() {
    check(&["cxx-O2", "signal", "lazy"], 1);
}

#[test]
#[ignore = "takes minutes without optimisation; docs/unwinding.md"]
fn every_frame_is_right_at_every_instruction_of_every_build() {
    let all = X86_64.into_iter().chain(CXX).chain(SMALL).chain([RUST, RUST_DEBUG]);
    check(&all.filter(|build| is_built("x86_64", build)).collect::<Vec<_>>(), u32::MAX);
}
