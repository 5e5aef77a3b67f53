/// Weights from files: `init_cfg: {type: Pretrained}` and `load_from`.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "registry/schema.hpp"
#include "segcore/io/named_weights.hpp"
#include "segcore/io/value.hpp"
#include "segcore/models/weights/init.hpp"

namespace seg {

/// A file of weights, and how its names become those of the model.
struct PretrainedParams {
  std::string checkpoint;
  std::optional<std::string> prefix;
  std::string map_location = "cpu";
  KeyMapping key_mapping;
  static Schema<PretrainedParams> schema();
};

/// A rule that loads the weights of a file whose names begin with a prefix, "" for all.
Spec<Initializer> pretrained_below(const std::string& checkpoint, const std::string& prefix);

/// The weights of a file under the names of a module: name -> tensor. Modules resize their position
/// embeddings and tables. The stem of a backbone for images with other than three bands gets the
/// weights for three, repeated and scaled by 3 / bands, or summed for one (timm's rule). Both are
/// logged.
/// \throws CheckpointError naming the file.
Value weights_for(const torch::nn::Module& module, const PretrainedParams& params);
/// The same for a checkpoint that was read already; `params.checkpoint` names it in messages.
Value weights_for(const torch::nn::Module& module, const Value& checkpoint,
                  const PretrainedParams& params);

/// Loads weights into a module and logs which fitted. Names that only classifiers have are ignored.
/// \param in_config  whether `init_cfg` names the file, so that its options can change names.
/// \throws WeightsMismatch naming the file, if nothing fits.
LoadReport load_weights(torch::nn::Module& module, const Value& weights, const std::string& file,
                        bool in_config = false);

/// Reads the files that the modules of a model name in their `init_cfg`, children first. For the
/// start of a training that is not resumed.
/// \param kept  names of weights that another file sets afterwards: a module whose weights are all
///              among them reads nothing.
/// \return whether any file was read.
bool load_pretrained_modules(torch::nn::Module& model, const std::vector<std::string>& kept = {});

/// The weights of a convolution for images of `bands` bands, from those for three.
/// \param weight  [out_channels, 3, kh, kw]
at::Tensor stem_for_bands(const at::Tensor& weight, int64_t bands);

}  // namespace seg
