#include "segcore/data/soft_predictions.hpp"

#include <filesystem>

#include "registry/error.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/value.hpp"

namespace seg {

SoftPredictions::SoftPredictions(const std::string& path) : path_(path) {
  std::error_code none;
  if (!std::filesystem::exists(path, none)) {
    throw DataError(text("there are no predictions ", path,
                         "; 'tools/test CONFIG CHECKPOINT --out-probs FILE' writes them"));
  }
  const Value contents = read_checkpoint(path);
  for (const auto& [name, value] : contents.as_dict()) {
    if (!value.is_tensor()) continue;  // what the file says of itself
    const at::Tensor& map = value.as_tensor();
    if (map.dim() != 3 || !map.is_floating_point()) {
      throw DataError(text(path, ": '", name.as_string(),
                           "' is no map of probabilities [classes, height, width]"));
    }
    maps_.emplace(name.as_string(), map);
  }
  if (maps_.empty()) throw DataError(text(path, ": holds no predictions"));
}

const at::Tensor* SoftPredictions::find(const std::string& name) const {
  const auto found = maps_.find(name);
  return found == maps_.end() ? nullptr : &found->second;
}

}  // namespace seg
