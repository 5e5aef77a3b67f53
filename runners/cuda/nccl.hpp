/// NCCL of the CUDA module.
#pragma once
#include "runners/dist/nccl.hpp"

namespace seg {

/// nullptr where the module was built without NCCL's header.
NcclFactory compiled_nccl_factory();

}  // namespace seg
