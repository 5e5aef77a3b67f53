#include "runners/start/old_config.hpp"

#include <algorithm>
#include <iterator>
#include <string_view>

#include "registry/merge.hpp"
#include "registry/text.hpp"
#include "runners/start/ensemble_config.hpp"
#include "runners/start/old_config_parts.hpp"
#include "runners/start/python_parts.hpp"
#include "runners/start/run_config.hpp"

namespace seg {
namespace {

/// The keys by which a config of 0.x is known, as paths; empty for all others.
std::vector<std::string> signs_of_old_config(const Config& tree, Origin& where) {
  // Each of these has another name in 1.x; a variable of one such name alone proves nothing.
  std::vector<std::string> found;
  const auto look_for = [&](const std::string& path) {
    const Config* value = tree.at_path(path);
    if (!value || value->is_null()) return;
    if (found.empty()) where = value->origin;
    found.push_back(path);
  };
  for (const char* path :
       {"data.samples_per_gpu", "data.train", "data.val", "data.test", "optimizer",
        "optimizer_config", "lr_config", "runner", "total_iters", "checkpoint_config", "evaluation",
        "log_config", "dist_params", "workflow"}) {
    look_for(path);
  }
  const bool is_new = tree.find("train_dataloader") || tree.find("optim_wrapper") ||
                      tree.find("val_dataloader") || tree.find("test_dataloader");
  if (found.size() < 2 || is_new) found.clear();
  return found;
}

bool is_old_key(const std::string& key) {
  const auto& keys = old_config_keys();
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

bool is_run_key(const std::string& key) {
  const auto& keys = run_config_keys();
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

/// An option of a part that has another name today, or none.
struct RenamedOption {
  const char *type, *old, *now;
};
constexpr RenamedOption kRenamedOptions[] = {
    {"VisionTransformer", "embed_dim", "embed_dims"},
    {"VisionTransformer", "depth", "num_layers"},
    {"VisionTransformer", "qk_scale", nullptr},
    {"VisionTransformer", "out_shape", nullptr},
    {"MixVisionTransformer", "pretrain_style", nullptr},
    {"InterpConv", "upsampe_cfg", "upsample_cfg"},
};

void rename_options(Config& part, const std::string& path, OldNotes& notes) {
  const std::string type = old_type(part);
  for (const RenamedOption& renamed : kRenamedOptions) {
    if (type != renamed.type) continue;
    Config::Item* item = part.find(renamed.old);
    if (!item) continue;
    if (renamed.now) {
      item->key = renamed.now;
      continue;
    }
    if (!item->value.is_null()) {
      notes.left_out(item->key_origin, text(path, ".", renamed.old), kNothingLikeIt);
    }
    std::erase_if(part.map, [&](const Config::Item& other) { return &other == item; });
  }
}

/// 0.x: 1 - mean over classes of (2 overlap + smooth) / (p^exponent + t^exponent + smooth).
void translate_dice_loss(Config& loss, const std::string& path, OldNotes& notes) {
  const Config old = loss;
  OldOptions options(&old, path);
  loss.map.clear();
  if (const Config* type = options.take("type")) loss.set("type", *type);
  loss.set("use_sigmoid", placed(false, loss.origin));
  notes.add(loss.origin, path, text(path, ".type"),
            "0.x computes this loss class by class and adds 'smooth' to both sides of the "
            "fraction; here it is computed over all classes together");
  const Config* smooth = options.take("smooth");
  const Config* exponent = options.take("exponent");
  const Config* weights = options.take("class_weight");
  if (smooth && old_number(smooth) != 1.0) {
    notes.left_out(smooth->origin, options.path("smooth"), kNothingLikeIt);
  }
  if (exponent && old_number(exponent) != 2.0) {
    notes.left_out(exponent->origin, options.path("exponent"), kNothingLikeIt);
  }
  if (weights) {
    notes.left_out(weights->origin, options.path("class_weight"), kNothingLikeIt);
  }
  options.move_rest(loss);
}

/// Parts of a model whose options or types changed.
void translate_old_parts(Config& part, const std::string& path, OldNotes& notes) {
  for (size_t i = 0; i < part.list.size(); ++i) {
    translate_old_parts(part.list[i], text(path, ".", i), notes);
  }
  for (Config::Item& item : part.map) {
    translate_old_parts(item.value, text(path, ".", item.key), notes);
  }
  constexpr std::string_view kOldScope = "mmcls.";
  Config::Item* type = part.find("type");
  if (type && type->value.scalar.starts_with(kOldScope)) {
    type->value.scalar = "mmpretrain." + type->value.scalar.substr(kOldScope.size());
  }
  rename_options(part, path, notes);
  if (old_type(part) == "DiceLoss") translate_dice_loss(part, path, notes);
}

void translate_old_model(const Config& old, Config& tree, OldNotes& notes) {
  const Config::Item* model = old.find("model");
  if (!model) return;
  tree.set("model", model->value);
  Config::Item& item = *tree.find("model");
  item.key_origin = model->key_origin;
  // The first versions had these beside the model.
  for (const char* key : {"train_cfg", "test_cfg"}) {
    const Config::Item* beside = old.find(key);
    if (beside && item.value.is_map() && !item.value.find(key)) {
      item.value.set(key, beside->value);
    }
  }
  translate_old_parts(item.value, "model", notes);
}

/// Keys that nothing uses are variables, unless they look like a slip: sections are mappings.
void warn_of_slips(const Config& old, Diagnostics& problems) {
  for (const Config::Item& item : old.map) {
    if (item.used || !item.value.is_map()) continue;
    if (is_old_key(item.key) || is_run_key(item.key)) continue;
    const std::string near = did_you_mean(item.key, old_config_keys());
    if (!near.empty()) {
      problems.warn(item.key_origin, item.key, text("nothing uses this key.", near));
    }
  }
}

void check_sections(const Config& old, OldNotes& notes) {
  for (const char* key : {"data", "optimizer", "optimizer_config", "lr_config", "runner",
                          "checkpoint_config", "evaluation", "log_config", "fp16"}) {
    const Config::Item* item = old.find(key);
    if (!item || item->value.is_null() || item->value.is_map()) continue;
    notes.error(item->value.origin, key, text("expected a mapping, got ", dump_flow(item->value)));
  }
}

Config translate_old_config(const Config& old, OldNotes& notes) {
  check_sections(old, notes);
  Config tree = placed_map(old.origin);
  tree.set("default_scope", placed("mmseg", old.origin));
  translate_old_model(old, tree, notes);
  translate_old_data(old, tree, notes);
  translate_old_schedule(old, tree, notes);
  translate_old_runtime(old, tree, notes);
  // Keys that both versions have, or that only this program has.
  for (const Config::Item& item : old.map) {
    const bool moved = item.key == "train_cfg" || item.key == "test_cfg";
    if (!is_run_key(item.key) || is_old_key(item.key) || moved || tree.find(item.key)) continue;
    tree.set(item.key, item.value);
    tree.find(item.key)->key_origin = item.key_origin;
  }
  return tree;
}

}  // namespace

const std::vector<std::string>& old_config_keys() {
  static const std::vector<std::string> keys{
      "data",        "optimizer",    "optimizer_config",  "lr_config",          "runner",
      "total_iters", "total_epochs", "checkpoint_config", "evaluation",         "log_config",
      "dist_params", "workflow",     "resume_from",       "auto_resume",        "cudnn_benchmark",
      "fp16",        "seed",         "deterministic",     "diff_seed",          "momentum_config",
      "device",      "gpu_ids",      "mp_start_method",   "opencv_num_threads", "ipu_options"};
  return keys;
}

Config load_any_config(const std::string& path, const std::vector<std::string>& overrides,
                       Diagnostics& problems, YamlComments* comments) {
  std::vector<std::string> known = run_config_keys();
  const auto translate = [&](Config& tree, Config& changes, Diagnostics& found) {
    Origin where;
    const auto signs = signs_of_old_config(tree, where);
    if (signs.empty()) return;
    constexpr size_t kShown = 3;
    std::vector<std::string> shown(signs.begin(), signs.begin() + std::min(signs.size(), kShown));
    if (signs.size() > kShown) shown.emplace_back("...");
    found.warn(where, "",
               text("this is a configuration of MMSegmentation 0.x (it has ", join(shown, ", "),
                    "), which is translated; 'tools/print_config ", path, "' prints the result"));
    known.insert(known.end(), old_config_keys().begin(), old_config_keys().end());
    detail::strip_delete(tree);
    Config early = placed_map(changes.origin);
    const auto first_old =
        std::stable_partition(changes.map.begin(), changes.map.end(),
                              [](const Config::Item& item) { return !is_old_key(item.key); });
    early.map.assign(std::make_move_iterator(first_old),
                     std::make_move_iterator(changes.map.end()));
    changes.map.erase(first_old, changes.map.end());
    detail::merge_into(tree, std::move(early), /*index_lists=*/true, found);
    warn_of_slips(tree, found);
    OldNotes notes(found);
    tree = translate_old_config(tree, notes);
    if (comments) *comments = notes.comments();
  };
  Config tree = load_config(path, overrides, problems, translate);
  check_variables(tree, overrides, known, problems);
  replace_python_parts(tree, path, problems);
  expand_ensemble(tree, problems);
  return tree;
}

Config load_any_config(const std::string& path, const std::vector<std::string>& overrides) {
  Diagnostics ignored;
  return load_any_config(path, overrides, ignored);
}

}  // namespace seg
