/// Encoders beside their fixtures, which are classifiers: all but the classifier is compared.
#pragma once
#include <torch/nn/module.h>

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "segcore/io/value.hpp"
#include "segcore/models/encoders/encoder.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/testing/reference_compare.hpp"

namespace seg::reference {

/// Name of the encoder in EncoderTable that a fixture is of; "" where it is of none.
std::string encoder_name(const nlohmann::json& fixture);
/// Builds the encoder of a fixture, with random weights.
std::shared_ptr<Encoder> fixture_encoder(const nlohmann::json& fixture);
/// The state dict, to which the tensors of the classifier are added as the fixture names them.
void compare_encoder_state(Comparer& compare, const nlohmann::json& fixture,
                           const Encoder& encoder);
/// The maps that Python's fixture lists: those the encoder gives, or outputs of its layers by name.
std::vector<torch::Tensor> fixture_maps(const nlohmann::json& fixture, Encoder& encoder,
                                        const torch::Tensor& x);
/// Features in evaluation; then the loss `weighted_square` of those in training, its gradients, and
/// the buffers that the pass moved.
/// \param features    computes them in the mode that the module is in.
/// \param classifier  beginnings of the names of tensors that the module lacks.
void compare_features(Comparer& compare, const nlohmann::json& fixture, torch::nn::Module& module,
                      const std::function<std::vector<torch::Tensor>()>& features,
                      const std::vector<std::string>& classifier);

/// The state dict of a model of transformers as its fixture has it: without the shares of masked
/// queries, which become 1.
Value state_without_annealing(Segmentor& model);
/// What the queries of such a model predict, and its scores.
void compare_queries(Comparer& compare, const nlohmann::json& fixture, Segmentor& model,
                     const torch::Tensor& x);

}  // namespace seg::reference
