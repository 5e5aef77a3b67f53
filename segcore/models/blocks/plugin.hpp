/// Layers that a backbone's `plugins` option puts into its blocks.
#pragma once
#include "segcore/models/nn/base_module.hpp"

namespace seg {

struct PluginParams {
  std::string postfix;
};

/// Keeps the shape of a map.
class PluginLayer : public Layer {
 public:
  static Schema<PluginParams> base_schema() {
    return Schema<PluginParams>("").optional("postfix", &PluginParams::postfix,
                                             "end of the child's name; needed if one type is "
                                             "used twice");
  }
  /// The name of a block's child, with the postfix: "context_block1".
  virtual std::string child_name() const = 0;
};

template <>
struct Category<PluginLayer> {
  static constexpr std::string_view name = "plugin";
  using Signature = std::shared_ptr<PluginLayer>(int64_t in_channels);
};

/// One entry of the option `plugins`.
struct PluginEntry {
  Spec<PluginLayer> cfg;
  std::string position;
  std::optional<std::vector<bool>> stages;

  static Schema<PluginEntry> schema() {
    return Schema<PluginEntry>("A layer inside residual blocks.")
        .required("cfg", &PluginEntry::cfg, "the layer")
        .required("position", &PluginEntry::position, "after which convolution of a block",
                  one_of({"after_conv1", "after_conv2", "after_conv3"}))
        .optional("stages", &PluginEntry::stages, "which stages have it; null: all");
  }
};

}  // namespace seg
