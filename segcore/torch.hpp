/// What the project uses of LibTorch's C++ interface: tensors, autograd, and modules as a base
/// class. In place of <torch/torch.h>, whose layers, optimisers and data loaders are instantiated
/// in every file that sees them and make it take three times as long to compile. A file that needs
/// one of them includes its header (torch/nn/modules/embedding.h).
#pragma once
#include <torch/autograd.h>
#include <torch/nn/init.h>
#include <torch/nn/module.h>
#include <torch/types.h>
#include <torch/utils.h>
