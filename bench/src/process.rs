//! What a process has cost so far, as the kernel counts it.

use std::time::Duration;

use anyhow::{Context, Result};
use nix::time::ClockId;
use nix::unistd::Pid;

/// The processor time of all threads of a process, those that have ended included: utime and stime of `/proc/PID/stat`, in
/// nanoseconds instead of ticks.
pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let pid = Pid::from_raw(i32::try_from(pid)?);
    let time = ClockId::pid_cpu_clock_id(pid).and_then(|clock| clock.now());
    Ok(time.with_context(|| format!("process {pid} has ended"))?.into())
}

/// The memory of a process that is in use, in KiB.
pub(crate) fn resident_kib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS is told")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
