/// Sentences about a thing of which only the name is left open.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace seg {

/// Where a prompt takes the name.
constexpr std::string_view kPromptPlace = "{}";

/// The prompts of "imagenet" (Radford et al. 2021, arXiv:2103.00020) or "vild" (Gu et al. 2022,
/// arXiv:2104.13921); none for another name.
std::vector<std::string> known_prompts(const std::string& name);

/// A prompt with a name in its place.
std::string prompt_of(const std::string& prompt, const std::string& name);

}  // namespace seg
