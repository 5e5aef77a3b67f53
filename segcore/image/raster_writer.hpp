/// Writes a GeoTIFF block by block, so that it may be larger than memory.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <opencv2/core/mat.hpp>
#include <optional>
#include <string>
#include <vector>

#include "segcore/image/georeference.hpp"

namespace seg {

struct RasterForm {
  int height = 0, width = 0;
  int type = CV_8UC1;  ///< depth (uint8, uint16 or float32) and bands, as OpenCV writes it
  int block = 256;     ///< side of the tiles, a multiple of 16
  /// RGB, of one band of uint8; empty: grey values.
  std::vector<std::array<int, 3>> palette = {};
  std::optional<double> nodata = {};  ///< the value that is declared as "no data"
  GeoReference georeference = {};
};

/// The file, deflated and in tiles, as it is being written: under a temporary name until `commit`.
/// A raster of more than 4 GB becomes a BigTIFF.
class RasterWriter {
 public:
  /// \throws FileError
  RasterWriter(const std::string& path, const RasterForm& form);
  ~RasterWriter();
  RasterWriter(const RasterWriter&) = delete;
  RasterWriter& operator=(const RasterWriter&) = delete;

  /// Each block is written once, in any order.
  /// \param column, row  multiples of the block.
  /// \param pixels  of the form's type, bands in the order that the file is to have; their sides
  ///                are multiples of the block, or end where the raster does.
  /// \throws FileError
  void write(int column, int row, const cv::Mat& pixels);
  /// Makes the file visible under its name. Blocks that were not written have no data.
  /// \throws FileError
  void commit();

 private:
  struct File;
  RasterForm form_;
  std::unique_ptr<File> file_;
};

/// All at once; creates its folder. \throws FileError
void write_raster(const std::string& path, const cv::Mat& pixels, RasterForm form);

}  // namespace seg
