/// Weights of a checkpoint under other names, and weights for a model that is used unchanged.
#pragma once
#include <array>
#include <functional>
#include <string>
#include <vector>

#include "segcore/io/weights.hpp"

namespace seg {

/// A regular expression and what replaces its matches in names.
using KeyMapping = std::vector<std::array<std::string, 2>>;

/// The error in a mapping of names, as a message; "" for none.
std::string key_mapping_problem(const KeyMapping& mapping);

/// The weights of a checkpoint under the names that the options give: name -> tensor.
/// \param where  the file, for messages.
/// \param fits   whether a name is one that is looked for: where none is, and some are without a
///              leading "model.", that is removed.
/// \throws CheckpointError where there are none, or none under the prefix.
Value named_weights(const Value& checkpoint, const LoadOptions& options,
                    const std::string& where = "",
                    const std::function<bool(const std::string&)>& fits = {});

/// load_state_dict for a model that is not trained further: only parts that training alone needs
/// (auxiliary heads) may be missing. Unexpected weights are reported.
/// \throws WeightsMismatch where a weight is missing or of another shape.
LoadReport load_whole_model(torch::nn::Module& model, const Value& checkpoint,
                            const std::string& where);

}  // namespace seg
