//! Processor time, user and system, as the kernel counts it for whole processes.

use procfs::{ProcResult, process::Process, ticks_per_second};

/// Seconds that these processes have used, all threads of theirs, those that have ended included.
pub(crate) fn seconds(processes: &[i32]) -> ProcResult<f64> {
    let mut ticks = 0;
    for &process in processes {
        let stat = Process::new(process)?.stat()?;
        ticks += stat.utime + stat.stime;
    }
    Ok(ticks as f64 / ticks_per_second() as f64)
}
