#include "runners/evaluate/soft_prediction_file.hpp"

#include <filesystem>

#include "registry/log.hpp"
#include "runners/evaluate/corrupt_samples.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

namespace fs = std::filesystem;

/// The file of a process; that of the first is the one that stays.
std::string rank_file(const std::string& path, int rank) {
  return rank == 0 ? path : text(path, ".rank", rank);
}

/// Enough for the names of all images, each character of which may be escaped.
uint64_t header_room(const Dataset& dataset) {
  constexpr uint64_t kShapeAndPlace = 120;
  uint64_t out = 0;
  for (size_t i = 0; i < dataset.size(); ++i) {
    out += 2 * dataset.output_name(i).size() + kShapeAndPlace;
  }
  return out;
}

std::string with_its_folder(const std::string& path) {
  make_folders(fs::path(path).parent_path().string());
  return path;
}

}  // namespace

SoftPredictionFile::SoftPredictionFile(const std::string& path, const Dataset& dataset,
                                       const Communicator& communicator)
    : path_(path),
      dataset_(dataset),
      writer_(with_its_folder(rank_file(path, communicator.rank())), header_room(dataset)) {}

void SoftPredictionFile::add(const Prediction& prediction, const SampleMeta& meta) {
  if (!prediction.scores.defined()) {
    throw DataError("--out-probs stores probabilities of classes, and this model predicts none");
  }
  // Samplers repeat images so that all processes have equally many.
  if (!indices_.insert(meta.index).second) return;
  if (writer_.has(meta.name)) {
    throw DataError(text(meta.img_path, ": another image is called '", meta.name,
                         "' too, and --out-probs stores predictions by these names"));
  }
  writer_.add(meta.name, prediction.scores.to(torch::kCPU).to(torch::kHalf));
}

void SoftPredictionFile::take_over(int rank) {
  const std::string file = rank_file(path_, rank);
  const Value contents = read_checkpoint(file);
  for (const auto& [name, value] : contents.as_dict()) {
    if (value.is_tensor() && !writer_.has(name.as_string())) {
      writer_.add(name.as_string(), value.as_tensor());
    }
  }
  fs::remove(file);
}

void SoftPredictionFile::write(Communicator& communicator) {
  if (communicator.rank() != 0) writer_.commit();
  const auto left_out = static_cast<size_t>(count_corrupt(dataset_, communicator));
  communicator.barrier();
  if (communicator.rank() != 0) return;
  for (int rank = 1; rank < communicator.size(); ++rank) take_over(rank);
  // One process finds that of its own images.
  if (const size_t all = dataset_.size() - left_out; writer_.size() < all) {
    throw DataError(text(all - writer_.size(), " of ", all,
                         " images are called as others are, and ",
                         "--out-probs stores predictions by their names"));
  }
  writer_.commit();
  log::info("probabilities of ", writer_.size(), " images are in ", path_);
}

}  // namespace seg
