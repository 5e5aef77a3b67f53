/// All encoders by name. A family is one file that describes its networks as data:
///
///   std::vector<EncoderEntry> vgg_encoders() { ... }
///   SEG_REGISTER_ENCODERS(vgg_encoders);
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "registry/registry.hpp"
#include "segcore/models/encoders/encoder.hpp"

namespace seg {

/// A network of a family. Its name tells whose tensor names it has: timm's begin with "tu-", as in
/// segmentation_models_pytorch, torchvision's with "tv-", all others are that library's own.
struct EncoderEntry {
  std::string name;
  std::string summary;
  std::string source;  ///< the paper
  std::function<std::shared_ptr<Encoder>(const EncoderOptions&)> build;
  int64_t depth = 5;  ///< the greatest: of plain transformers, the number of blocks
  bool huge = false;  ///< takes tens of gigabytes, so that tables are made without building it
};

/// The option `encoder_name`. Lists what was registered for tools/list.
class EncoderTable final : public AnyRegistry {
 public:
  static EncoderTable& instance();
  /// A name that is taken is noted in registration_problems().
  void add(EncoderEntry entry, const char* file);
  const EncoderEntry* find(const std::string& name) const;
  std::vector<std::string> names() const;
  std::string_view category() const override { return "encoder"; }
  std::vector<TypeInfo> types() const override;

 private:
  EncoderTable() = default;
  struct Registered {
    EncoderEntry entry;
    std::string file;
  };
  std::map<std::string, Registered> entries_;
};

/// Builds the encoder of a name under its library's tensor names.
/// \throws OptionError where the encoder lacks the depth, the weights or the dilation.
std::shared_ptr<Encoder> build_plain_encoder(const std::string& name,
                                             const EncoderOptions& options);
/// The same with all maps that it can give, whatever options.depth is.
std::shared_ptr<Encoder> build_deepest_encoder(const std::string& name, EncoderOptions options);
/// The same as the models of segmentation_models_pytorch have it: an encoder of timm is their
/// child `model`.
std::shared_ptr<Encoder> build_encoder(const std::string& name, const EncoderOptions& options);
/// An encoder that is the child `name` of the result.
std::shared_ptr<Encoder> nested_encoder(const std::string& name, std::shared_ptr<Encoder> inner,
                                        const EncoderOptions& options);

/// Adds what `entries` returns when the program starts.
struct EncoderRegistrar {
  EncoderRegistrar(std::vector<EncoderEntry> (*entries)(), const char* file);
};

}  // namespace seg

/// Makes the networks of a family known. In the .cpp only.
#define SEG_REGISTER_ENCODERS(entries) \
  static const ::seg::EncoderRegistrar SEG_CONCAT(seg_encoders_, __COUNTER__) { entries, __FILE__ }
