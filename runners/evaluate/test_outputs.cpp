#include "runners/evaluate/test_outputs.hpp"

#include <ATen/Functions.h>

#include <filesystem>

#include "registry/log.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/io/atomic_file.hpp"
#include "segcore/ops/class_histogram/class_histogram.hpp"

namespace seg {
namespace {

/// \param folder  of the pictures and of the page.
std::string page_of_pictures(const std::vector<ScoredImage>& images, const Dataset& dataset,
                             const std::string& folder) {
  std::vector<std::string> pictures;
  for (const ScoredImage& image : images) {
    const std::string picture =
        fitting_path(folder + "/" + dataset.output_name(image.index), ".png");
    pictures.push_back(picture.substr(folder.size() + 1));
  }
  return scores_page("Predictions, worst first", images, pictures, dataset.meta().classes);
}

}  // namespace

TestOutputs::TestOutputs(const TestOptions& options, const Dataset& dataset,
                         const Communicator& communicator)
    : options_(options),
      dataset_(dataset),
      classes_(static_cast<int64_t>(dataset.meta().classes.size())) {
  if (options.per_image || options.show_dir) scores_.emplace(dataset.size(), classes_);
  if (options.confusion) confusion_.emplace(classes_);
  if (options.out_probs) probabilities_.emplace(*options.out_probs, dataset, communicator);
}

void TestOutputs::add(const Prediction& prediction, const PackedSample& truth,
                      int64_t ignore_index) {
  const bool comparable = truth.labels.defined() && prediction.ids.defined() &&
                          truth.labels.sizes() == prediction.ids.sizes();
  if (!comparable && (options_.per_image || options_.confusion)) {
    throw DataError(text(truth.meta.img_path,
                         ": has no labels of its size to compare the prediction with, as ",
                         options_.per_image ? "--per-image" : "--confusion", " needs"));
  }
  if (scores_) {
    const auto index = static_cast<size_t>(truth.meta.index);
    scores_->add(index, comparable
                            ? class_histogram(prediction.ids, truth.labels, classes_, ignore_index)
                            : at::zeros({3, classes_ + 1}, at::kLong));
  }
  if (confusion_) confusion_->add(prediction.ids, truth.labels, ignore_index);
  if (probabilities_) probabilities_->add(prediction, truth.meta);
}

void TestOutputs::write(Communicator& communicator) {
  const bool main = communicator.rank() == 0;
  if (scores_) {
    const auto images = scores_->gather(dataset_, communicator);
    if (main && options_.per_image) {
      write_file_atomically(*options_.per_image, scores_csv(images, dataset_.meta().classes));
      log::info("scores of ", images.size(), " images are in ", *options_.per_image);
    }
    if (main && options_.show_dir) {
      const std::string page = *options_.show_dir + "/index.html";
      write_file_atomically(page, page_of_pictures(images, dataset_, *options_.show_dir));
      log::info("pictures, worst first, are in ", page);
    }
  }
  if (probabilities_) probabilities_->write(communicator);
  if (confusion_) {
    const at::Tensor counts = confusion_->gather(communicator);
    if (!main) return;
    const auto& classes = dataset_.meta().classes;
    if (options_.confusion->ends_with(".csv")) {
      write_file_atomically(*options_.confusion, confusion_csv(counts, classes));
    } else {
      write_image(*options_.confusion, confusion_picture(counts, classes));
    }
    log::info("the confusion matrix is in ", *options_.confusion);
  }
}

}  // namespace seg
