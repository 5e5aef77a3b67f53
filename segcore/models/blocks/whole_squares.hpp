/// Images that networks cut into squares.
#pragma once
#include <string>

#include "segcore/models/nn/base_module.hpp"

namespace seg {

/// How many squares of `side` pixels images [N, C, H, W] consist of.
/// \param model  whose they are, for the message: "this Unet".
/// \throws DataError with what to do where a part of one is left.
Size2 whole_squares(const torch::Tensor& images, int64_t side, const std::string& model);

}  // namespace seg
