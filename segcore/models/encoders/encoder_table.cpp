#include "segcore/models/encoders/encoder_table.hpp"

#include <utility>

#include "segcore/torch.hpp"

namespace seg {
namespace {

/// timm's encoders inside the models of segmentation_models_pytorch have names below "model.".
class NestedEncoder final : public Encoder {
 public:
  NestedEncoder(const std::string& name, std::shared_ptr<Encoder> inner,
                const EncoderOptions& options)
      : Encoder(inner->facts(), without_weights(options)),
        inner_(register_module(name, std::move(inner))) {
    init_cfg_.reset();
  }
  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    return inner_->forward(images);
  }
  std::vector<FeatureInfo> maps() const override { return inner_->maps(); }
  std::vector<StageNames> layers() const override { return inner_->layers(); }
  void init_weights() override { inner_->init_weights(); }
  void adapt_pretrained(Value& /*state*/) const override {}

 private:
  static EncoderOptions without_weights(EncoderOptions options) {
    options.weights.reset();
    return options;
  }

  std::shared_ptr<Encoder> inner_;
};

}  // namespace

EncoderTable& EncoderTable::instance() {
  static EncoderTable table;
  return table;
}

void EncoderTable::add(EncoderEntry entry, const char* file) {
  std::string name = entry.name;
  const auto [it, fresh] = entries_.emplace(std::move(name), Registered{std::move(entry), file});
  if (!fresh) {
    registration_problems().push_back(
        text("encoder '", it->first, "' is registered twice: ", it->second.file, " and ", file));
  }
}

const EncoderEntry* EncoderTable::find(const std::string& name) const {
  const auto it = entries_.find(name);
  return it == entries_.end() ? nullptr : &it->second.entry;
}

std::vector<std::string> EncoderTable::names() const {
  std::vector<std::string> out;
  for (const auto& [name, registered] : entries_) out.push_back(name);
  return out;
}

std::vector<AnyRegistry::TypeInfo> EncoderTable::types() const {
  std::vector<TypeInfo> out;
  for (const auto& [name, r] : entries_) {
    out.push_back({name, r.entry.summary, r.entry.source, r.file, {}});
  }
  return out;
}

std::shared_ptr<Encoder> build_plain_encoder(const std::string& name,
                                             const EncoderOptions& options) {
  const auto* entry = EncoderTable::instance().find(name);
  SEG_CHECK(entry, "no encoder is called '", name, "'");
  return entry->build(options);
}

std::shared_ptr<Encoder> build_deepest_encoder(const std::string& name, EncoderOptions options) {
  const auto* entry = EncoderTable::instance().find(name);
  SEG_CHECK(entry, "no encoder is called '", name, "'");
  options.depth = entry->depth;
  return entry->build(options);
}

std::shared_ptr<Encoder> build_encoder(const std::string& name, const EncoderOptions& options) {
  auto encoder = build_plain_encoder(name, options);
  if (!name.starts_with("tu-")) return encoder;
  return nested_encoder("model", std::move(encoder), options);
}

std::shared_ptr<Encoder> nested_encoder(const std::string& name, std::shared_ptr<Encoder> inner,
                                        const EncoderOptions& options) {
  return std::make_shared<NestedEncoder>(name, std::move(inner), options);
}

EncoderRegistrar::EncoderRegistrar(std::vector<EncoderEntry> (*entries)(), const char* file) {
  for (auto& entry : entries()) EncoderTable::instance().add(std::move(entry), file);
}

}  // namespace seg
