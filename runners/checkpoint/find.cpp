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

/// Progress of the run when it wrote a checkpoint of this name: {8, 0} for iter_8.pth and
/// epoch_8.pth, {8, 70} for epoch_8_iter_70.pth, nothing for other names.
std::optional<std::pair<int64_t, int64_t>> place_of_name(const fs::path& path) {
  static const std::regex names("(?:iter|epoch)_(\\d{1,18})(?:_iter_(\\d{1,18}))?\\.pth");
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
  std::vector<std::pair<std::pair<int64_t, int64_t>, std::string>> others;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(work_dir, ignored)) {
    if (const auto place = place_of_name(entry.path())) {
      others.emplace_back(*place, entry.path().string());
    }
  }
  std::sort(others.rbegin(), others.rend());
  // The names of checkpoints by epochs and by iterations do not compare; each group is in order.
  const bool named_is_there = !candidates.empty();
  for (const auto& [place, path] : others) add(path);
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
  for (const auto& path : candidates) {
    if (auto found = try_read(path)) return found;
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

std::optional<uint64_t> seed_of_checkpoint(const Value& checkpoint) {
  const Value* meta = checkpoint.find("meta");
  const Value* seed = meta ? meta->find("seed") : nullptr;
  if (!seed || !seed->is_int()) return std::nullopt;
  return static_cast<uint64_t>(seed->as_int());
}

}  // namespace seg
