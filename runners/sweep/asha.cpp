#include "runners/sweep/asha.hpp"

#include <algorithm>

namespace seg {
namespace {

/// The value that a run is compared by at a rung: the last one up to it, once it has one at or
/// beyond it.
std::optional<double> value_at_rung(const RunResult& result, int64_t stop) {
  std::optional<double> out;
  for (const auto& [step, value] : result.metrics) {
    if (step <= stop) out = value;
    if (step >= stop) return out ? out : std::optional(value);
  }
  return std::nullopt;
}

}  // namespace

void check_rungs(const SweepSpec& spec, const RunConfig& config, Diagnostics& problems) {
  const auto max_iters = config.train_cfg->facts().max_iters;
  const Config::Item* asha = spec.tree.find("asha");
  const Origin where = asha ? asha->value.origin : Origin();
  if (!max_iters) {
    problems.error(config.train_cfg->place_of("max_epochs").origin, "train_cfg",
                   "'method: asha' compares runs by iterations; give 'max_iters' in place of "
                   "'max_epochs'");
    return;
  }
  if (spec.asha.grace >= *max_iters) {
    problems.error(
        where, "asha.grace",
        text("must be below the ", *max_iters, " iterations of training, got ", spec.asha.grace));
  }
  const Config* interval = config.tree.at_path("train_cfg.val_interval");
  const int64_t every = interval ? std::stoll(interval->scalar) : 1000;
  if (spec.asha.grace % every != 0) {
    problems.error(where, "asha.grace",
                   text("runs are validated every ", every,
                        " iterations (train_cfg.val_interval), "
                        "and can be compared only then; ",
                        spec.asha.grace, " is no multiple of it"));
  }
}

std::vector<int64_t> rungs_of(const SweepSpec& spec, int64_t max_iters) {
  std::vector<int64_t> out;
  for (int64_t stop = spec.asha.grace; stop < max_iters; stop *= spec.asha.eta) {
    out.push_back(stop);
  }
  return out;
}

AshaRule::AshaRule(const SweepSpec& spec, const std::vector<RunReport>& reports)
    : greater_(spec.greater_is_better()), eta_(spec.asha.eta) {
  for (const RunReport& report : reports) {
    Entry entry{report.status, report.state.rung, {}, {}};
    if (report.result.max_iters) entry.stops = rungs_of(spec, *report.result.max_iters);
    for (const int64_t stop : entry.stops) {
      const auto value = value_at_rung(report.result, stop);
      if (!value) break;
      entry.values.push_back(*value);
    }
    entries_.push_back(std::move(entry));
  }
}

std::optional<int64_t> AshaRule::next_stop(size_t run) const {
  const Entry& entry = entries_[run];
  const auto rung = static_cast<size_t>(entry.rung);
  if (rung >= entry.stops.size()) return std::nullopt;
  return entry.stops[rung];
}

bool AshaRule::reached(size_t run) const {
  return static_cast<int64_t>(entries_[run].values.size()) > entries_[run].rung;
}

bool AshaRule::promotable(size_t run) const {
  if (!next_stop(run) || !reached(run)) return false;
  const auto rung = static_cast<size_t>(entries_[run].rung);
  const double mine = entries_[run].values[rung];
  int64_t compared = 0, ahead = 0;
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].values.size() <= rung) continue;
    ++compared;
    const double other = entries_[i].values[rung];
    // Of equal ones the first is ahead.
    if (i != run && (better(other, mine) || (other == mine && i < run))) ++ahead;
  }
  return ahead < compared / eta_;
}

std::optional<size_t> AshaRule::next_promotion() const {
  return best_paused([&](size_t run) { return promotable(run); });
}

std::optional<size_t> AshaRule::last_promotion() const {
  const bool ended = std::any_of(entries_.begin(), entries_.end(), [](const Entry& entry) {
    return entry.status == RunStatus::kEnded;
  });
  if (ended) return std::nullopt;
  return best_paused([&](size_t run) { return reached(run); });
}

template <class Wanted>
std::optional<size_t> AshaRule::best_paused(const Wanted& wanted) const {
  std::optional<size_t> best;
  const auto value = [&](size_t run) {
    return entries_[run].values[static_cast<size_t>(entries_[run].rung)];
  };
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (entries_[i].status != RunStatus::kPaused || !wanted(i)) continue;
    const int64_t higher = best ? entries_[i].rung - entries_[*best].rung : 1;
    if (higher > 0 || (higher == 0 && better(value(i), value(*best)))) best = i;
  }
  return best;
}

}  // namespace seg
