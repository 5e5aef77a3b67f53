/// Has Slurm queue a job again that a signal has ended.
#pragma once

namespace seg {

/// Warns where `--requeue` cannot do anything, since this is no job of Slurm.
void check_requeue();

/// Asks Slurm to queue this job again, after a signal has ended the run with a checkpoint; reports
/// what came of it. Whoever presses Ctrl-C or cancels the job wants the run to stop.
void requeue_job();

}  // namespace seg
