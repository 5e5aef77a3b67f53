/// What the heads of DDRNet and PIDNet share.
#pragma once
#include <array>
#include <string>

#include "segcore/models/decode_head.hpp"

namespace seg {

/// A 3x3 convolution after its norm and activation, then a norm and an activation again.
/// \param names  of the three children.
/// \throws OptionError if the head has no norm or no activation.
std::shared_ptr<Sequential> pre_norm_block(const DecodeHeadParams& p, int64_t in, int64_t out,
                                           const std::array<std::string, 3>& names);

/// Checks for heads that take all maps of the backbone and a loss for each of their results.
/// \param losses  what the losses are of, in order.
void check_head_of_branches(const DecodeHeadParams& p, const std::vector<std::string>& losses,
                            Problems& problems);

/// \throws OptionError unless the last of the maps has `in` channels and the `auxiliary` ones
/// before
///         it half as many.
void check_branches(const std::string& head, const std::vector<FeatureInfo>& inputs, int64_t in,
                    size_t auxiliary);

}  // namespace seg
