#include "segcore/image/image_notes.hpp"

#include <map>
#include <mutex>
#include <unordered_set>

#include "registry/log.hpp"

namespace seg::detail {
namespace {

struct ImageNotes {
  std::mutex mutex;
  std::map<ImageNote, std::unordered_set<std::string>> names;
};

ImageNotes& image_notes() {
  static ImageNotes notes;
  return notes;
}

bool is_power_of_ten(size_t count) {
  while (count % 10 == 0) count /= 10;
  return count == 1;
}

}  // namespace

void note_image(ImageNote kind, const std::string& name, const std::function<std::string()>& what) {
  size_t count = 0;
  {
    ImageNotes& notes = image_notes();
    const std::lock_guard lock(notes.mutex);
    auto& names = notes.names[kind];
    if (!names.insert(name).second) return;
    count = names.size();
  }
  if (!is_power_of_ten(count)) return;
  log::warn(name, ": ", what(), count > 1 ? text(" (", count, " such files so far)") : "");
}

void forget_image_notes() {
  ImageNotes& notes = image_notes();
  const std::lock_guard lock(notes.mutex);
  notes.names.clear();
}

}  // namespace seg::detail
