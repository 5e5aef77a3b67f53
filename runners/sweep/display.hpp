/// Shows a sweep while it runs.
#pragma once
#include <memory>
#include <vector>

#include "runners/sweep/engine.hpp"

namespace seg {

/// A table that is drawn anew each second where standard output is a terminal, else a line of the
/// log for each run that begins or ends.
std::unique_ptr<SweepDisplay> make_display(const SweepSpec& spec);

/// Shows the table of a sweep: once, or on a terminal as long as one of its runs is running.
void show_table(const SweepFolder& folder, const SweepSpec& spec);

}  // namespace seg
