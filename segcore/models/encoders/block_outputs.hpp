/// Outputs of the blocks of transformers by name, for comparisons with Python.
#pragma once
#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "registry/error.hpp"
#include "registry/text.hpp"

namespace seg {

/// Those of the outputs of "blocks.0", "blocks.1", ... that are named.
/// \throws Error for another name.
inline std::vector<at::Tensor> chosen_blocks(const std::string& encoder,
                                             const std::vector<std::string>& names,
                                             const std::vector<at::Tensor>& outputs) {
  std::vector<at::Tensor> out;
  for (const auto& name : names) {
    size_t i = 0;
    while (i < outputs.size() && name != text("blocks.", i)) ++i;
    if (i == outputs.size()) throw Error(text(encoder, " has no block '", name, "'"));
    out.push_back(outputs[i]);
  }
  return out;
}

}  // namespace seg
