/// Errors of a model that its input explains.
#pragma once
#include <c10/util/Exception.h>

#include "segcore/data/sample.hpp"

namespace seg {

class Segmentor;

/// Reports an input with another number of bands than the model takes.
/// \throws DataError naming the image.
void check_bands(const Segmentor& model, const ModelInput& input);

/// The same, and an image so small that no map is left of it.
/// \throws DataError naming the image; returns where the input may not be the reason.
void check_failed_input(const Segmentor& model, const ModelInput& input, const c10::Error& error);

/// Runs a prediction and, where LibTorch fails in it, explains the error by the input if it can.
template <class Predict>
auto with_input_errors(const Segmentor& model, const ModelInput& input, const Predict& predict) {
  try {
    return predict();
  } catch (const c10::Error& e) {
    check_failed_input(model, input, e);
    throw;
  }
}

}  // namespace seg
