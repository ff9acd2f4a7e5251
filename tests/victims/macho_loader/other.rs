//! The victims make Linux's system calls on x86-64.

pub(crate) fn run(_arguments: &[String], _stop: bool) -> anyhow::Result<()> {
    anyhow::bail!("the lab's victims run on x86-64 Linux only")
}
