/// The process of one run of a sweep: starts training, watches it, and keeps its state.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "runners/sweep/folder.hpp"
#include "runners/sweep/spec.hpp"

namespace seg {

/// The program of this name beside the one that runs.
std::string program_beside(const std::string& name);

/// The command that trains a run; `--resume` where its work dir has a checkpoint.
std::vector<std::string> train_command(const SweepSpec& spec, const SweepFolder& folder,
                                       const SweepRun& run);

/// Trains one run to its end, to the rung at which it waits, or to a signal, which is passed on.
/// Its state is recorded at the beginning and at the end. A run that another process trains, or
/// that ended, is left alone. Under Slurm a run that was warned of the end of its time is queued
/// again.
/// \return the exit code of its training; 0 where it waits at a rung.
int run_one(const SweepFolder& folder, size_t number);

/// Why a program failed: the signal that killed it, else the last line of its output that reports
/// an error, else the last line. \param status  of waitpid.
std::string failure_text(int status, const std::string& output);

}  // namespace seg
