/// Where libraries publish the weights of their encoders.
#pragma once
#include <string>
#include <vector>

#include "segcore/models/encoders/encoder.hpp"

namespace seg {

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

/// Of torchvision. \param digest  the beginning of the file's SHA-256, which is part of its name.
inline EncoderWeights torchvision_weights(const std::string& model, const std::string& digest,
                                          const std::string& name = "imagenet") {
  return {name, text("https://download.pytorch.org/models/", model, "-", digest, ".pth")};
}

}  // namespace seg
