/// Annotations that are no pictures of class ids: colours, polygons, run lengths.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "segcore/data/label_reader.hpp"
#include "segcore/data/palette.hpp"
#include "segcore/image/image_io.hpp"

namespace seg {

struct Sample;

/// How the annotations of a data set code classes. Several threads may use it.
class LabelCoding {
 public:
  virtual ~LabelCoding() = default;
  /// The class ids of a sample; pixels of no class are missing.
  /// \throws DataError naming the file and what is wrong with it.
  virtual RawLabels decode(const Sample& sample, const ReadOptions& options) const = 0;
};

/// Pictures in the colours of the classes. Other colours are missing, and reported with their file.
std::unique_ptr<LabelCoding> color_coding(const Palette& palette);

/// The shapes of LabelMe, a JSON file for each image: polygons, rectangles, circles and masks,
/// later ones over earlier ones. Pixels that none covers are of the class "background" or
/// "_background_", if there is one, else missing; so is the label "__ignore__".
std::unique_ptr<LabelCoding> labelme_coding(const std::vector<std::string>& classes);

/// The objects of a COCO file: polygons and run lengths, later ones over earlier ones; pixels that
/// none covers as with LabelMe. Categories that are no classes are left out with a warning.
/// \throws DataError naming the file and what is wrong with it.
std::unique_ptr<LabelCoding> coco_coding(const std::string& path,
                                         const std::vector<std::string>& classes);
/// The names of the images of a COCO file, in its order. \throws DataError as above.
std::vector<std::string> coco_images(const std::string& path);

}  // namespace seg
