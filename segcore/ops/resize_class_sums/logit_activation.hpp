/// How logits become probabilities.
#pragma once
#include <cstdint>

namespace seg {

enum class LogitActivation : int64_t { kNone, kSoftmax, kSigmoid };

}  // namespace seg
