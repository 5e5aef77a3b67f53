#include "runners/train/global_batch.hpp"

#include <optional>

#include "registry/yaml.hpp"
#include "runners/checkpoint/save.hpp"

namespace seg {
namespace {

/// The batches of the run that wrote a checkpoint.
struct SavedBatches {
  int64_t each = 0, world = 0;  ///< samples of a process, processes
  int64_t in_config = 0;        ///< `train_dataloader.batch_size`, from which `each` may differ
};

std::optional<int64_t> configured_batch_size(const Config& tree) {
  const Config* size = tree.at_path("train_dataloader.batch_size");
  if (!size || size->kind != Config::Kind::kInt) return std::nullopt;
  return std::stoll(size->scalar);
}

/// Nothing where the checkpoint is another program's.
std::optional<SavedBatches> saved_batches(const Value* checkpoint) {
  const Value* own = checkpoint ? checkpoint->find(kOwnKey) : nullptr;
  const Value* each = own ? own->find("batch_size") : nullptr;
  const Value* world = own ? own->find("world_size") : nullptr;
  if (!each || !world) return std::nullopt;
  SavedBatches out{each->as_int(), world->as_int(), each->as_int()};
  const Value* meta = checkpoint->find("meta");
  const Value* config = meta ? meta->find("cfg") : nullptr;
  if (!config || !config->is_string()) return out;
  try {
    const Config tree = parse_config(config->as_string());
    out.in_config = configured_batch_size(tree).value_or(out.each);
  } catch (const ConfigError&) {
    // Edited by hand; the sizes in use are known all the same.
  }
  return out;
}

[[noreturn]] void throw_unequal_shares(const RunConfig& config, int world) {
  const int64_t wanted = *config.global_batch, less = wanted / world * world;
  Diagnostics problems;
  problems.error(config.tree.find("global_batch")->value.origin, "global_batch",
                 text(world, " processes cannot share ", wanted, " samples equally. Write ",
                      less > 0 ? text(less, " or ") : "", less + world));
  throw ConfigError(problems);
}

}  // namespace

BatchRemarks share_batches(RunConfig& config, int world, const Value* resumed) {
  BatchRemarks out;
  if (!config.train_dataloader) return out;
  int64_t& each = config.train_dataloader->batch_size;
  const std::optional<SavedBatches> saved = saved_batches(resumed);
  const int64_t before = saved ? saved->each * saved->world : 0;
  if (config.global_batch) {
    if (*config.global_batch % world != 0) throw_unequal_shares(config, world);
    each = *config.global_batch / world;
  } else if (saved && saved->world != world && saved->in_config == each && before % world == 0) {
    if (each * world != before) {
      out.info =
          text("the global batch stays ", before, " samples as in the checkpoint: ", before / world,
               " for each of ", world, " processes (--global-batch N sets it)");
    }
    each = before / world;
  }
  if (saved && each * world != before) {
    out.warning =
        text("a step of the checkpoint's run had ", before, " samples (", saved->world, " x ",
             saved->each, "), one of this run has ", each * world, " (", world, " x ", each,
             "): the order of samples and the schedules are no longer the same; ",
             before % world == 0 ? text("--global-batch ", before, " keeps them")
                                 : text("--global-batch ", before,
                                        " keeps them on a number of processes "
                                        "that divides it"));
  }
  return out;
}

}  // namespace seg
