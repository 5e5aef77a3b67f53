#include "segcore/models/losses/class_choice.hpp"

#include "registry/error.hpp"

namespace seg {

void check_class_choice(const ClassChoice& classes, Problems& problems) {
  const auto* word = std::get_if<std::string>(&classes);
  if (!word) return;
  const auto wrong = Check<std::string>(one_of({"all", "present"})).test(*word);
  if (!wrong.empty()) problems.error("classes", wrong);
}

void check_class_choice(const ClassChoice& classes, int64_t channels) {
  const auto* list = std::get_if<std::vector<int64_t>>(&classes);
  if (!list) return;
  if (list->empty()) throw OptionError("classes", "must not be empty");
  for (const int64_t c : *list) {
    if (c < 0 || c >= channels) {
      throw OptionError("classes", text("names class ", c, " of ", channels));
    }
  }
}

}  // namespace seg
