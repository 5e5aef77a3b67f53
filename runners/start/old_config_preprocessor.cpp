// The data_preprocessor of models, from the steps of old pipelines that it replaces.
#include "registry/text.hpp"
#include "runners/start/old_config_parts.hpp"

namespace seg {
namespace {

void take_all(const Config* step, const std::string& path, std::initializer_list<const char*> keys,
              Config& to) {
  OldOptions options(step, path);
  for (const char* key : keys) {
    if (const Config* value = options.take(key)) to.set(key, *value);
  }
}

void compare_normalizations(const OldBatchSteps& train, const OldBatchSteps& test,
                            OldNotes& notes) {
  if (!train.normalize || !test.normalize) return;
  for (const char* key : {"mean", "std", "to_rgb"}) {
    const auto shown = [key](const Config& step) {
      const Config::Item* item = step.find(key);
      return item ? dump_flow(item->value) : std::string();
    };
    if (shown(*train.normalize) == shown(*test.normalize)) continue;
    notes.add(test.normalize->origin, test.path, "model.data_preprocessor.mean",
              text("the pipelines of training and test normalise differently (", key,
                   "); both get the values of training"));
    return;
  }
}

}  // namespace

void add_old_preprocessor(const OldBatchSteps& train, const OldBatchSteps& test, Config& tree,
                          OldNotes& notes) {
  const OldBatchSteps& first = train.normalize ? train : test;
  const Config* source = first.normalize ? first.normalize : train.pad ? train.pad : test.pad;
  Config::Item* model = tree.find("model");
  if (!source || !model || !model->value.is_map() || model->value.find("data_preprocessor")) {
    return;
  }
  const Origin origin = source->origin;
  Config out = typed_map("SegDataPreProcessor", origin);
  if (first.normalize) {
    take_all(first.normalize, first.path, {"mean", "std"}, out);
    const Config::Item* to_rgb = first.normalize->find("to_rgb");
    out.set("bgr_to_rgb", to_rgb ? to_rgb->value : placed(true, origin));
  }
  take_all(train.pad, train.path, {"pad_val", "seg_pad_val", "size", "size_divisor"}, out);
  if (test.pad) {
    Config padding = placed_map(test.pad->origin);
    take_all(test.pad, test.path, {"size", "size_divisor"}, padding);
    out.set("test_cfg", std::move(padding));
  }
  compare_normalizations(train, test, notes);
  auto& items = model->value.map;
  const bool has_type = !items.empty() && items[0].key == "type";
  items.insert(items.begin() + (has_type ? 1 : 0), {"data_preprocessor", origin, std::move(out)});
}

}  // namespace seg
