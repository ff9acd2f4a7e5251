//! Truth, on x86-64: every frame at every instruction of every thread.
//!
//! docs/unwinding.md says how to have the whole table.

use std::path::Path;

use super::stepper::{Stepper, converted};
use super::support;
use crate::dumps::{self, Dumps};
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

/// Leaves dumps of some moments of a build, each at a new address.
fn leave_moments(into: &Path, build: &str) {
    let loader = support::example("macho_loader");
    let (stepper, snapshot) = Stepper::start(&loader, &folder("x86_64", build).join("main"), "tour");
    let mut judge = Judge::new(snapshot, 1);
    let mut dumps = Dumps::new(into, build);
    stepper.run(|moment| {
        let pc = moment.registers.rip;
        if let Some(name) = dumps.wanted(pc) {
            let truth: Vec<u64> = [pc].into_iter().chain(moment.callers.iter().rev().copied()).collect();
            judge.stand(converted(moment.registers), moment.start, moment.bytes);
            dumps.leave(&name, &judge.snapshot, &truth);
        }
    });
}

#[test]
#[ignore = "leaves dumps for other readers; tests/readers/lab_unwinders"]
fn dumps_of_some_moments_of_every_build_are_left() {
    let Some(folder) = dumps::folder() else { return };
    if !support::ptrace_works("dumps_of_some_moments_of_every_build_are_left") {
        return;
    }
    for build in X86_64.into_iter().chain(CXX).chain(SMALL).chain([RUST]) {
        leave_moments(&folder, build);
    }
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
