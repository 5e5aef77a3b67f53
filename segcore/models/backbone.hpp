/// The interface of feature extractors.
#pragma once
#include <algorithm>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "segcore/models/layer_order.hpp"
#include "segcore/models/nn/base_module.hpp"
#include "segcore/models/nn/recomputation_plan.hpp"

namespace seg {

/// Width of a feature map and its stride to the input image.
struct FeatureInfo {
  int64_t channels = 0;
  int64_t stride =
      1;  ///< 0: no map but a class token [N, channels], which belongs to the map before
  bool is_token() const { return stride == 0; }
};

/// Makes a list of feature maps from a batch of images.
class Backbone : public BaseModule {
 public:
  using BaseModule::BaseModule;
  /// \param images  float [N, bands, H, W], normalised.
  /// \return maps [N, C_i, ~H/s_i, ~W/s_i], one for each entry of features().
  virtual std::vector<torch::Tensor> forward(const torch::Tensor& images) = 0;
  virtual std::vector<FeatureInfo> features() const = 0;
  /// Which layer each parameter belongs to, for learning rates that shrink layer by layer. Without
  /// layers where the backbone has no natural order.
  virtual LayerOrder layer_order() const { return {}; }

  /// `with_cp` of types without such an option of their own.
  void recompute_blocks() { recomputed_ = blocks_of(*this); }
  /// What Segmentor::loss recomputes.
  const BlockSet& recomputed_blocks() const { return recomputed_; }

 private:
  BlockSet recomputed_;
};

/// Whether the map of a stage is among those that `out_indices` asks for.
inline bool gives_stage(const std::vector<int64_t>& out_indices, size_t stage) {
  return std::find(out_indices.begin(), out_indices.end(), static_cast<int64_t>(stage)) !=
         out_indices.end();
}

template <>
struct Category<Backbone> {
  static constexpr std::string_view name = "backbone";
  using Signature = std::shared_ptr<Backbone>();
};

/// Gives all backbones the option `with_cp`.
template <class T>
struct Registrar<Backbone, T, std::shared_ptr<Backbone>()> {
  static_assert(std::is_base_of_v<Backbone, T>, "SEG_REGISTER(Backbone, T): T must be a Backbone");
  struct Params : T::Params {
    bool recomputes_blocks = false;
  };
  static Schema<Params> schema() {
    const auto own = T::schema();
    Schema<Params> out(own.summary());
    out.source(own.source_text()).include(own);
    const auto& fields = own.fields();
    if (std::none_of(fields.begin(), fields.end(), [](const auto& field) {
          // The second is SeMask's name for it.
          return field.doc.name == "with_cp" || field.doc.name == "use_checkpoint";
        })) {
      out.optional("with_cp", &Params::recomputes_blocks,
                   "recompute blocks in the backward pass to save memory");
    }
    return out;
  }
  Registrar(const char* name, const char* file) {
    Registry<Backbone>::instance().add(
        name, {.where = file,
               .info =
                   [] {
                     const auto options = schema();
                     return AnyRegistry::TypeInfo{
                         {}, options.summary(), options.source_text(), {}, options.docs()};
                   },
               .parse = [](const Config& c, const std::string& path, const std::string& type,
                           Diagnostics& problems) -> std::shared_ptr<const void> {
                 return std::make_shared<const Params>(schema().parse(c, path, type, problems));
               },
               .create = [](const void* given) -> std::shared_ptr<Backbone> {
                 const auto& params = *static_cast<const Params*>(given);
                 auto out = std::make_shared<T>(static_cast<const typename T::Params&>(params));
                 if (params.recomputes_blocks) out->recompute_blocks();
                 return out;
               },
               .facts = nullptr});
  }
};

}  // namespace seg
