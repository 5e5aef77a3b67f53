#include "runners/checkpoint/find.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <regex>

#include "registry/log.hpp"
#include "segcore/io/checkpoint.hpp"

namespace fs = std::filesystem;

namespace seg {
namespace {

/// Progress of the run when it wrote a checkpoint of this name: {8, 0} for iter_8.pth,
/// iter_8-loss_0.4312.pth and epoch_8.pth, {8, 70} for epoch_8_iter_70.pth, nothing for other
/// names.
std::optional<std::pair<int64_t, int64_t>> place_of_name(const fs::path& path) {
  static const std::regex names("(?:iter|epoch)_(\\d{1,18})(?:_iter_(\\d{1,18}))?(?:-.*)?\\.pth");
  std::smatch found;
  const std::string name = path.filename().string();
  if (!std::regex_match(name, found, names)) return std::nullopt;
  return std::pair(std::stoll(found[1]), found[2].matched ? std::stoll(found[2]) : 0);
}

std::optional<FoundCheckpoint> try_read(const std::string& path) {
  try {
    FoundCheckpoint found{path, read_checkpoint(path)};
    found.contents.at("meta").at("iter").as_int();
    found.contents.at("state_dict").as_dict();
    return found;
  } catch (const CheckpointError& e) {
    log::warn("skipping this checkpoint: ", e.what());
    return std::nullopt;
  }
}

/// Where a checkpoint stands among those of its run.
using CheckpointPlace = std::pair<int64_t, int64_t>;

/// The iteration of a checkpoint whose name does not say it (`filename_tmpl`). Nothing for other
/// files of weights: pretrained and published ones, and the best, which is not the newest.
std::optional<CheckpointPlace> place_in_contents(const fs::path& path) {
  const std::string name = path.filename().string(), ending = path.extension().string();
  if (name.starts_with("best_") || (ending != ".pth" && ending != ".pt" && ending != ".ckpt")) {
    return std::nullopt;
  }
  try {
    const Value contents = read_checkpoint(path.string());
    const Value* meta = contents.find("meta");
    const Value* iter = meta ? meta->find("iter") : nullptr;
    const bool resumable = contents.find("state_dict") &&
                           (contents.find("optimizer") || contents.find("param_schedulers"));
    if (!resumable || !iter || !iter->is_int()) return std::nullopt;
    return CheckpointPlace(iter->as_int(), 0);
  } catch (const CheckpointError& e) {
    log::warn("skipping this file: ", e.what());
    return std::nullopt;
  }
}

/// The checkpoints of a folder, newest first.
std::vector<std::string> checkpoints_in(const fs::path& folder) {
  std::vector<std::pair<CheckpointPlace, std::string>> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    auto place = place_of_name(entry.path());
    if (!place && entry.is_regular_file(ignored)) place = place_in_contents(entry.path());
    if (place) found.emplace_back(*place, entry.path().string());
  }
  // The names of checkpoints by epochs and by iterations do not compare; each group is in order.
  std::sort(found.rbegin(), found.rend());
  std::vector<std::string> out;
  for (auto& [place, path] : found) out.push_back(std::move(path));
  return out;
}

}  // namespace

std::optional<FoundCheckpoint> find_checkpoint(const std::string& work_dir) {
  std::vector<std::string> candidates;
  const auto add = [&](const std::string& path) {
    std::error_code ignored;
    if (!fs::exists(path, ignored)) return;
    for (const auto& known : candidates) {
      if (fs::equivalent(known, path, ignored)) return;
    }
    candidates.push_back(path);
  };
  std::ifstream pointer(work_dir + "/last_checkpoint");
  std::string named;
  if (std::getline(pointer, named) && !named.empty()) {
    add(named);
    add(work_dir + "/" + fs::path(named).filename().string());
  }
  const bool named_is_there = !candidates.empty();
  for (const auto& path : candidates) {
    if (auto found = try_read(path)) return found;
  }
  // Files of other names show only inside how far the run was: they are read when they may serve.
  const size_t tried = candidates.size();
  for (const std::string& path : checkpoints_in(work_dir)) add(path);
  // `out_dir` of the hook keeps checkpoints in a folder of their own.
  if (const fs::path folder = fs::path(named).parent_path(); !folder.empty()) {
    for (const std::string& path : checkpoints_in(folder)) add(path);
  }
  if (!named.empty() && !named_is_there) {
    const std::string what =
        text(work_dir, "/last_checkpoint names ", named, ", which does not exist");
    if (candidates.empty()) {
      throw CheckpointError(text(what, ", and no other checkpoint is in ", work_dir,
                                 ": leave out "
                                 "--resume to start from the beginning"));
    }
    log::warn(what, ": using the newest checkpoint beside it");
  }
  for (size_t i = tried; i < candidates.size(); ++i) {
    if (auto found = try_read(candidates[i])) return found;
  }
  if (!candidates.empty()) {
    throw CheckpointError(text("none of the ", candidates.size(), " checkpoints in ", work_dir,
                               " can be read: leave out --resume to start from the beginning"));
  }
  return std::nullopt;
}

std::string newest_checkpoint_name(const std::string& work_dir) {
  std::pair<std::pair<int64_t, int64_t>, std::string> newest;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(work_dir, ignored)) {
    if (const auto place = place_of_name(entry.path())) {
      newest = std::max(newest, std::pair(*place, entry.path().filename().string()));
    }
  }
  return newest.second;
}

std::string best_checkpoint(const std::string& work_dir) {
  std::string best;
  std::error_code none;
  fs::file_time_type newest;
  for (const auto& entry : fs::directory_iterator(work_dir, none)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("best_") || !name.ends_with(".pth")) continue;
    if (!best.empty() && entry.last_write_time(none) <= newest) continue;
    newest = entry.last_write_time(none);
    best = entry.path().string();
  }
  if (!best.empty()) return best;
  const auto found = find_checkpoint(work_dir);
  if (!found) throw DataError(text(work_dir, ": holds no checkpoint"));
  return found->path;
}

std::optional<uint64_t> seed_of_checkpoint(const Value& checkpoint) {
  const Value* meta = checkpoint.find("meta");
  const Value* seed = meta ? meta->find("seed") : nullptr;
  if (!seed || !seed->is_int()) return std::nullopt;
  return static_cast<uint64_t>(seed->as_int());
}

}  // namespace seg
