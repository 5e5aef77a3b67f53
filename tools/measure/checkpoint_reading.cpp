#include "tools/measure/checkpoint_reading.hpp"

#include <ATen/Functions.h>
#include <ATen/Parallel.h>
#include <stdlib.h>

#include <algorithm>
#include <array>
#include <cstdio>

#include "registry/error.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/weights.hpp"

namespace seg {
namespace {

/// The same as read_and_copy in Python, timed there: torch.load with its files mapped, and the
/// copy.
constexpr const char* kTorchLoad = R"(
import os, time, torch
path, rounds = os.environ["SEGCORE_FILE"], int(os.environ["SEGCORE_ROUNDS"])
def load():
    found = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    return found.get("state_dict", found)
torch.set_num_threads(int(os.environ["SEGCORE_THREADS"]))
target = {k: torch.ones_like(v) for k, v in load().items() if torch.is_tensor(v)}
times = []
for _ in range(rounds):
    begin = time.perf_counter()
    found = load()
    for k, v in target.items():
        v.copy_(found[k])
    times.append(time.perf_counter() - begin)
print(sorted(times)[len(times) // 2], min(times))
)";

/// Median and least seconds of torch.load in `python`.
std::array<double, 2> torch_load_seconds(const std::string& python, const std::string& path,
                                         int64_t rounds) {
  setenv("SEGCORE_FILE", path.c_str(), 1);
  setenv("SEGCORE_ROUNDS", std::to_string(rounds).c_str(), 1);
  setenv("SEGCORE_THREADS", std::to_string(at::get_num_threads()).c_str(), 1);
  FILE* pipe = popen(("'" + python + "' -c '" + kTorchLoad + "'").c_str(), "r");
  std::array<double, 2> out{};
  const bool read = pipe && fscanf(pipe, "%lf %lf", &out[0], &out[1]) == 2;
  if (pipe) pclose(pipe);
  if (!read) throw DataError(python + " could not load the file with torch.load");
  return out;
}

}  // namespace

Measured benchmark_checkpoint(const BenchmarkArguments& arguments) {
  const std::string& path = arguments.config;
  std::vector<std::pair<std::string, at::Tensor>> target;
  double bytes = 0;
  {
    const Value state = find_state_dict(read_checkpoint(path));
    for (const auto& [name, value] : state.as_dict()) {
      if (!value.is_tensor()) continue;
      target.emplace_back(name.as_string(), at::ones_like(value.as_tensor()));
      bytes += static_cast<double>(target.back().second.nbytes());
    }
  }
  std::vector<double> times;
  for (int64_t i = 0; i < arguments.iters; ++i) {
    const double begin = seconds_now();
    const Value state = find_state_dict(read_checkpoint(path));
    size_t next = 0;
    for (const auto& [name, value] : state.as_dict()) {
      if (value.is_tensor()) target[next++].second.copy_(value.as_tensor());
    }
    times.push_back(seconds_now() - begin);
  }
  std::sort(times.begin(), times.end());
  Measured out{{"megabytes", rounded(bytes / 1e6)},
               {"seconds", rounded(times[times.size() / 2])},
               {"least_seconds", rounded(times.front())}};
  if (!arguments.python.empty()) {
    const auto theirs = torch_load_seconds(arguments.python, path, arguments.iters);
    out["torch_load_seconds"] = rounded(theirs[0]);
    out["torch_load_least_seconds"] = rounded(theirs[1]);
    out["ratio"] = rounded(times[times.size() / 2] / theirs[0]);
  }
  return out;
}

}  // namespace seg
