/// Where the values and pictures of a run go besides the log: scalars.json, CSV, TensorBoard.
#pragma once
#include <cstdint>
#include <memory>
#include <opencv2/core/mat.hpp>
#include <string>

#include "registry/registry.hpp"
#include "runners/log/scalars.hpp"

namespace seg {

/// What only the running program knows.
struct VisPlace {
  std::string folder;     ///< <work_dir>/<timestamp>/vis_data, exists
  std::string timestamp;  ///< scalars.json is also written as <timestamp>.json
};

/// One kind of record. Only rank 0 has any.
class VisBackend {
 public:
  virtual ~VisBackend() = default;
  /// The resolved configuration, as YAML.
  virtual void add_config(const std::string& /*yaml*/) {}
  /// One row. "iter", "epoch" and "memory" are whole numbers.
  virtual void add_scalars(const Scalars& scalars, int64_t step) = 0;
  /// \param image  H x W x 3, uint8, BGR.
  virtual void add_image(const std::string& /*name*/, const cv::Mat& /*image*/, int64_t /*step*/) {}
  /// Everything is on the disk after it.
  virtual void flush() {}
};

template <>
struct Category<VisBackend> {
  static constexpr std::string_view name = "visualizer_backend";
  using Signature = std::unique_ptr<VisBackend>(const VisPlace&);
};

/// Passes all to its back ends.
class Visualizer {
 public:
  virtual ~Visualizer() = default;
  virtual void add_config(const std::string& yaml) = 0;
  virtual void add_scalars(const Scalars& scalars, int64_t step) = 0;
  virtual void add_image(const std::string& name, const cv::Mat& image, int64_t step) = 0;
  virtual void flush() = 0;
  /// How strongly a class's colour covers the image in pictures, 0 to 1.
  virtual double alpha() const = 0;
};

template <>
struct Category<Visualizer> {
  static constexpr std::string_view name = "visualizer";
  using Signature = std::unique_ptr<Visualizer>(const VisPlace&);
};

}  // namespace seg
