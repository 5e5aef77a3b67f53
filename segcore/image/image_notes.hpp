/// Warnings about pictures that are read all the same.
#pragma once
#include <functional>
#include <string>

namespace seg::detail {

enum class ImageNote {
  kNoEndMarker,
  kImagePages,
  kLabelPages,
  kNoDataValue,
  kFewBitsUsed,
  kWholeForWindow
};

/// Warns of the first picture of a kind, and again at the 10th, the 100th and so on with their
/// count: one line tells of a file, and thousands of files give five. A picture counts once in a
/// process, however often it is read.
/// \param what  makes the text that follows the picture's name; called only where it is written.
void note_image(ImageNote kind, const std::string& name, const std::function<std::string()>& what);

/// Forgets the pictures seen, so that tests in one process do not depend on each other.
void forget_image_notes();

}  // namespace seg::detail
