#include "runners/train/beginning.hpp"

#include "registry/log.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/model_zoo.hpp"
#include "segcore/models/weights/load_pretrained.hpp"

namespace seg {
namespace {

/// The checkpoint of `load_from`; errors show the line that names it.
FoundCheckpoint read_load_from(const RunConfig& config) {
  try {
    std::string path = resolve_checkpoint(*config.load_from);
    Value contents = read_checkpoint(path);
    return {std::move(path), std::move(contents)};
  } catch (const CheckpointError& e) {
    const Config::Item* item = config.tree.find("load_from");
    if (!item) throw;
    Diagnostics problems;
    problems.error(item->value.origin, config.resume ? "" : "load_from", e.what());
    throw ConfigError(problems);
  }
}

}  // namespace

Beginning find_beginning(const RunConfig& config) {
  Beginning out;
  if (config.load_from) {
    (config.resume ? out.resumed : out.load_from) = read_load_from(config);
  } else if (config.resume) {
    out.resumed = find_checkpoint(config.output_folder());
  }
  return out;
}

void load_initial_weights(Segmentor& model, const Beginning& beginning) {
  if (!beginning.load_from) {
    load_pretrained_modules(model);
    return;
  }
  const auto& [file, contents] = *beginning.load_from;
  const Value weights = weights_for(model, contents, {.checkpoint = file});
  const LoadReport report = load_weights(model, weights, file);
  if (load_pretrained_modules(model, report.matched)) load_state_dict(model, weights, {}, file);
}

}  // namespace seg
