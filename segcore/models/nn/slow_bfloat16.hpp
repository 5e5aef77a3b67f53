/// Whether bfloat16 costs time on this CPU instead of saving it.
#pragma once
#include <optional>
#include <string>

namespace seg {

/// Whether oneDNN, which does LibTorch's products and convolutions, trains in bfloat16 by
/// instructions of the CPU. Without them it widens each number, or takes plain loops. True where it
/// is not known: on other CPUs than x86.
/// \param most  what ONEDNN_MAX_CPU_ISA allows it; null: all that the CPU has.
bool has_bfloat16_instructions(const char* most);

/// How many times as long a convolution takes in bfloat16 as in float32 on this CPU, by a trial of
/// a tenth of a second; none where the CPU has instructions for it or does it no slower.
std::optional<double> slowdown_by_bfloat16();

/// Warns, once, of a slowdown. \param switch_off  what to do about it: "Train without --amp".
void warn_of_slow_bfloat16(const std::string& switch_off);

}  // namespace seg
