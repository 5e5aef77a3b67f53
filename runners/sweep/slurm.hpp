/// The runs of a sweep as tasks of Slurm: one array job, whose task numbers are those of the runs.
#pragma once
#include <string>
#include <vector>

#include "runners/sweep/folder.hpp"
#include "runners/sweep/results.hpp"
#include "runners/sweep/spec.hpp"

namespace seg {

/// The task of Slurm that this process belongs to, "12_3"; "" for none.
std::string slurm_task();

/// Has Slurm queue this task again if `signal` is the warning before the end of its time
/// (`sbatch --signal`). After SIGTERM Slurm itself knows what it wants: it queues preempted tasks
/// and those of failed nodes again, but not cancelled ones.
void requeue_slurm_task(const std::string& task, int signal);

/// Submits an array job of all runs that are left to do and not in the queue, and a job that
/// writes the summary after them. Jobs are found by their name, which the sweep's path gives, so
/// that nothing is lost if this process dies at any point.
/// \return what was done, for people.
/// \throws DataError if Slurm's programs are missing or refuse.
std::string submit_to_slurm(const SweepFolder& folder, const SweepSpec& spec);

/// Submits the runs that successive halving lets go on now; where the queue is empty, the one that
/// goes on at the end.
void promote_in_slurm(const SweepFolder& folder, const SweepSpec& spec);

/// Runs that are recorded as running, but whose tasks are not in Slurm's queue any more, count as
/// queued. Where there is no Slurm to ask, all stay as recorded.
void settle_by_queue(const SweepFolder& folder, std::vector<RunReport>& reports);

/// The numbers of runs that are in Slurm's queue, pending or running. \throws DataError
std::vector<size_t> runs_in_slurm(const SweepFolder& folder);

}  // namespace seg
