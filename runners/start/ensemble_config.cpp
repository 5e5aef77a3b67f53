#include "runners/start/ensemble_config.hpp"

#include <filesystem>

#include "registry/error.hpp"
#include "registry/text.hpp"
#include "runners/checkpoint/find.hpp"
#include "runners/start/old_config.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/model_zoo.hpp"
#include "segcore/io/named_weights.hpp"

namespace fs = std::filesystem;

namespace seg {
namespace {

constexpr const char* kEnsembleType = "EnsembleSegmentor";
constexpr const char* kOfMembers = "members";

/// The list of members; null for another model.
const Config* ensemble_members(const Config& tree) {
  const Config* type = tree.at_path("model.type");
  if (!type || type->scalar != kEnsembleType) return nullptr;
  const Config* members = tree.at_path("model.members");
  return members && members->is_list() ? members : nullptr;
}

/// A path as that of the file that names it; addresses stay.
std::string beside_its_file(const Config& value) {
  const std::string file = value.origin.file ? *value.origin.file : "";
  if (file.empty() || file.starts_with("--") || value.scalar.find("://") != std::string::npos) {
    return value.scalar;
  }
  return (fs::path(file).parent_path() / value.scalar).lexically_normal().string();
}

void expand_member(Config& member, const std::string& path, Diagnostics& problems) {
  if (!member.is_map()) return;  // the model's own options report it
  if (auto* checkpoint = member.find("checkpoint");
      checkpoint && checkpoint->value.kind == Config::Kind::kString) {
    checkpoint->value.scalar = beside_its_file(checkpoint->value);
  }
  const Config::Item* named = member.find("config");
  if (!named) return;
  if (member.find("model")) {
    problems.error(named->value.origin, path + ".config", "give a config or a model, not both");
    return;
  }
  Diagnostics found;
  const std::string file = beside_its_file(named->value);
  std::error_code none;
  if (!fs::is_regular_file(file, none)) {
    problems.error(named->value.origin, path + ".config", text("there is no file '", file, "'"));
    return;
  }
  const Config tree = load_any_config(file, {}, found);
  const Config::Item* model = tree.find("model");
  problems.add(found);
  if (!model) {
    problems.error(named->value.origin, path + ".config", text(file, " has no 'model'"));
    return;
  }
  Config copy = model->value;
  std::erase_if(member.map, [](const Config::Item& item) { return item.key == "config"; });
  member.set("model", std::move(copy));
}

}  // namespace

void expand_ensemble(Config& tree, Diagnostics& problems) {
  if (!ensemble_members(tree)) return;
  auto& members = tree.find("model")->value.find("members")->value.list;
  for (size_t i = 0; i < members.size(); ++i) {
    expand_member(members[i], text("model.members.", i), problems);
  }
}

Value weights_of_command(const Config& tree, const std::string& checkpoint) {
  if (checkpoint != kOfMembers) return read_checkpoint(resolve_checkpoint(checkpoint));
  const Config* members = ensemble_members(tree);
  if (!members) {
    throw DataError(text("'", kOfMembers,
                         "' stands for the checkpoints of an ensemble's members, "
                         "and this model is none: name a checkpoint"));
  }
  Value weights = Value::dict(), meta = Value::dict();
  for (size_t i = 0; i < members->list.size(); ++i) {
    const Config::Item* named = members->list[i].find("checkpoint");
    if (!named || named->value.is_null()) {
      throw DataError(text(members->list[i].origin.text(), ": model.members.", i,
                           ": has no checkpoint, which a test by the weights of members needs"));
    }
    std::string path = named->value.scalar;
    std::error_code none;
    path = fs::is_directory(path, none) ? best_checkpoint(path) : resolve_checkpoint(path);
    const Value contents = read_checkpoint(path);
    if (const Value* own = contents.find("meta"); own && i == 0) meta = *own;
    const Value named_as = named_weights(contents, {}, path);
    for (const auto& [name, tensor] : named_as.as_dict()) {
      weights.set(text(kOfMembers, '.', i, '.', name.as_string()), tensor);
    }
  }
  Value out = Value::dict();
  out.set("meta", meta);
  out.set("state_dict", weights);
  return out;
}

}  // namespace seg
