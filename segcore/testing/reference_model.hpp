/// What of a model is compared with its fixture: the state dict, the outputs of evaluation, and the
/// losses, gradients and buffers of a step of training.
#pragma once
#include <torch/nn/module.h>

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "segcore/io/value.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/testing/reference_compare.hpp"

namespace seg::reference {

/// Names, shapes and types of the state dict, and the sum of what it holds.
void compare_state(Comparer& compare, const nlohmann::json& expected, const Value& state);
/// Features and logits.
/// \param x  images of the model's precision, [N, C, H, W].
/// \param smp  the model is one of segmentation_models_pytorch.
void compare_evaluation(Comparer& compare, const nlohmann::json& fixture, Segmentor& model,
                        const torch::Tensor& x, bool smp);
/// Losses, norms of gradients, and the buffers that a forward pass in training moves.
void compare_training(Comparer& compare, const nlohmann::json& fixture, Segmentor& model,
                      const torch::Tensor& x, const Targets& targets, bool smp);
/// The buffers of a model by name, as they are now.
std::map<std::string, torch::Tensor> copied_buffers(const torch::nn::Module& model);
/// Norms of the gradients, and of the buffers that differ from those of `before`.
/// \param lacking  beginnings of the names of tensors that Python's model has besides.
void compare_gradients_and_buffers(Comparer& compare, const nlohmann::json& fixture,
                                   const torch::nn::Module& model,
                                   const std::map<std::string, torch::Tensor>& before,
                                   const std::vector<std::string>& lacking = {});

}  // namespace seg::reference
