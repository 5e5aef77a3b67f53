/// Where libraries publish the weights of their encoders.
#pragma once
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include "segcore/models/encoders/encoder.hpp"

namespace seg {

/// The address of weights by their name; a file's is its path.
/// \throws OptionError (`option`) for a name that is not published for the model.
std::string published_address(const std::string& model, const std::string& weights,
                              const std::vector<EncoderWeights>& published,
                              const std::string& option);

/// Of segmentation_models_pytorch, at a commit of their repository.
inline EncoderWeights smp_weights(const std::string& encoder, const std::string& name,
                                  const std::string& revision) {
  return {name, text("https://huggingface.co/smp-hub/", encoder, ".", name, "/resolve/", revision,
                     "/model.safetensors")};
}

/// Of timm, by their tags ("a1_in1k"). The first is what timm takes where none is named, and is
/// "imagenet" here as well.
inline std::vector<EncoderWeights> timm_weights(const std::string& model,
                                                const std::vector<std::string>& tags) {
  std::vector<EncoderWeights> out;
  for (const auto& tag : tags) {
    const auto address =
        text("https://huggingface.co/timm/", model, ".", tag, "/resolve/main/model.safetensors");
    if (out.empty()) out.push_back({"imagenet", address});
    out.push_back({tag, address});
  }
  return out;
}

/// The same, tags separated by spaces; none: no weights.
inline std::vector<EncoderWeights> timm_weights_of_tags(const std::string& model,
                                                        const std::string& tags) {
  std::istringstream words(tags);
  return timm_weights(model, {std::istream_iterator<std::string>(words), {}});
}

/// Of torchvision. \param digest  the beginning of the file's SHA-256, which is part of its name.
inline EncoderWeights torchvision_weights(const std::string& model, const std::string& digest,
                                          const std::string& name = "imagenet") {
  return {name, text("https://download.pytorch.org/models/", model, "-", digest, ".pth")};
}

/// Of torchvision's models with several versions: digests separated by spaces, oldest first. The
/// newest is "imagenet"; each has torchvision's name as well ("IMAGENET1K_V1").
inline std::vector<EncoderWeights> torchvision_versions(const std::string& model,
                                                        const std::string& digests) {
  std::istringstream words(digests);
  std::vector<EncoderWeights> out;
  for (std::string digest; words >> digest;) {
    out.push_back(torchvision_weights(model, digest, text("IMAGENET1K_V", out.size() + 1)));
  }
  if (!out.empty()) out.insert(out.begin(), {"imagenet", out.back().address});
  return out;
}

}  // namespace seg
