/// Encoders that are layers in a row, some of whose outputs are the maps.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "segcore/models/encoders/encoder.hpp"

namespace seg {

/// A layer that strides inside, and what it computes before it does.
class LayerWithInnerMap : public Layer {
 public:
  struct Outputs {
    torch::Tensor inner;  ///< the last map of the input's size
    torch::Tensor last;
  };
  virtual Outputs forward_both(const torch::Tensor& x) = 0;
  /// The parts of the layer that the inner map does not depend on.
  virtual std::vector<std::shared_ptr<torch::nn::Module>> behind_inner_map() const { return {}; }
  torch::Tensor forward(const torch::Tensor& x) final { return forward_both(x).last; }
};

/// Families add their layers in order and mark where the levels end; the passes are written here.
class ChainEncoder : public Encoder {
 public:
  std::vector<torch::Tensor> forward(const torch::Tensor& images) override;
  std::vector<torch::Tensor> outputs_of(const std::vector<std::string>& names,
                                        const torch::Tensor& images) override;

 protected:
  ChainEncoder(EncoderFacts facts, const EncoderOptions& options);
  /// Adds a layer under its dotted name below the encoder ("features.3"); modules between are made
  /// as needed. Layers after the last map that is given are not trained.
  /// \return the layer.
  template <class L>
  std::shared_ptr<L> add(const std::string& name, std::shared_ptr<L> layer) {
    add_layer(name, layer);
    return layer;
  }
  /// Adds a function without parameters.
  void add(const std::string& name, std::function<torch::Tensor(const torch::Tensor&)> f) {
    add_layer(name, std::make_shared<Lambda>(std::move(f)));
  }
  /// Adds a layer that is no child itself: its children become the encoder's, their names behind a
  /// prefix, for networks without modules between the encoder and its convolutions.
  void add_children_of(const std::string& prefix, std::shared_ptr<Layer> layer);
  /// The output of the last layer, or this function of it, is the map of the next level: first,
  /// where the encoder has one, that at the images' size, then those of 1/2, 1/4, ...
  void end_level(std::function<torch::Tensor(const torch::Tensor&)> map = {});
  /// Adds a layer whose inner map is that of the next level. If no later map is given, what is
  /// behind it is not trained.
  void add_with_inner_map(const std::string& name, std::shared_ptr<LayerWithInnerMap> layer);
  /// Runs one level more than is given, as torchvision's MobileNetV2 does in
  /// segmentation_models_pytorch: its norms count the batch.
  void run_one_level_more() { runs_one_more_ = true; }

 private:
  enum class Map { kNone, kOutput, kInner };
  struct Step {
    std::string name;
    std::shared_ptr<Layer> layer;
    int64_t level = 0;
    bool is_block = false;  ///< that may be recomputed as a whole
    Map map = Map::kNone;
    std::function<torch::Tensor(const torch::Tensor&)> map_of_output;  ///< empty: the output
  };
  void add_layer(const std::string& name, const std::shared_ptr<Layer>& layer);
  void add_step(const std::string& name, const std::shared_ptr<Layer>& layer);

  std::vector<Step> steps_;
  int64_t level_;
  bool runs_one_more_ = false;
};

}  // namespace seg
