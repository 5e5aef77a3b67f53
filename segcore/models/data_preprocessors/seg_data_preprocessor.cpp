#include <c10/core/Event.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>

#include "segcore/models/data_preprocessor.hpp"
#include "segcore/models/nn/base_module.hpp"
#include "segcore/models/nn/kept_constant.hpp"
#include "segcore/torch.hpp"

namespace seg {

/// To which size images are padded in testing.
struct PadCfg {
  std::optional<Size2> size;
  std::optional<int64_t> size_divisor;
  static Schema<PadCfg> schema() {
    return Schema<PadCfg>("Padding in testing.")
        .optional("size", &PadCfg::size, "height and width")
        .optional("size_divisor", &PadCfg::size_divisor, "number that both sides are multiples of",
                  at_least(1));
  }
};

struct SegDataPreProcessorParams {
  std::optional<std::vector<double>> mean;
  std::optional<std::vector<double>> std;
  std::optional<Size2> size;
  std::optional<int64_t> size_divisor;
  double pad_val = 0;
  int64_t seg_pad_val = 255;
  std::string padding_mode = "constant";
  bool bgr_to_rgb = false;
  bool rgb_to_bgr = false;
  std::optional<PadCfg> test_cfg;
};

/// Turns BGR to RGB, normalises, pads at the right and below, stacks.
class SegDataPreProcessor final : public DataPreProcessor {
 public:
  using Params = SegDataPreProcessorParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("Orders the bands, normalises, pads at the right and below.")
        .optional("mean", &P::mean, "of each band, subtracted; null: no normalisation")
        .optional("std", &P::std, "of each band, divides")
        .optional("size", &P::size, "height and width that training images are padded to")
        .optional("size_divisor", &P::size_divisor,
                  "number that both sides of training images become multiples of", at_least(1))
        .optional("pad_val", &P::pad_val, "value of padding, after normalisation")
        .optional("seg_pad_val", &P::seg_pad_val, "label of padding")
        .optional("padding_mode", &P::padding_mode, "how padding is filled", one_of({"constant"}))
        .optional("bgr_to_rgb", &P::bgr_to_rgb, "turn images of three bands from BGR to RGB")
        .optional("rgb_to_bgr", &P::rgb_to_bgr, "turn images of three bands from RGB to BGR")
        .accepted("batch_augments", "has no effect, as in MMSegmentation")
        .accepted("non_blocking", "has no effect: copies to a GPU are always asynchronous")
        .optional("test_cfg", &P::test_cfg, "padding in testing; null: none")
        .validate([](const P& p, Problems& problems) {
          if (p.mean.has_value() != p.std.has_value()) {
            problems.error(p.mean ? "mean" : "std", "mean and std must be given together");
          } else if (p.mean && p.mean->size() != p.std->size()) {
            problems.error("std",
                           text("has ", p.std->size(), " values, mean has ", p.mean->size()));
          }
          if (p.std && std::ranges::any_of(*p.std, [](double v) { return v == 0; })) {
            problems.error("std", "must not contain 0");
          }
          if (p.bgr_to_rgb && p.rgb_to_bgr) {
            problems.error("rgb_to_bgr", "cannot be set together with bgr_to_rgb");
          }
          if (p.size && p.size_divisor) {
            problems.error("size_divisor", "cannot be set together with size");
          }
          if (p.test_cfg && p.test_cfg->size && p.test_cfg->size_divisor) {
            problems.error("test_cfg", "takes size or size_divisor, not both");
          }
        });
  }

  explicit SegDataPreProcessor(const Params& p) : params_(p) {}

  ModelInput operator()(const Batch& batch, bool training, c10::Device device) const override {
    if (batch.samples.empty()) throw DataError("a batch without images");
    ModelInput out;
    const Size2 size = padded_size(batch, training);
    std::vector<Size2> targets;
    for (const auto& sample : batch.samples) {
      check(sample, batch.samples.front(), training);
      const Size2 own{sample.image.size(1), sample.image.size(2)};
      targets.push_back({std::max(size.h, own.h), std::max(size.w, own.w)});
      out.metas.push_back(sample.meta);
      out.metas.back().img_shape = {own.h, own.w};
      out.metas.back().pad_shape = {targets.back().h, targets.back().w};
    }
    for (size_t i = 0; i < targets.size(); ++i) {
      if (targets[i] != targets[0]) {
        throw DataError(text("images of one batch differ in size: ", name(batch.samples[0]), " is ",
                             shape(targets[0]), ", ", name(batch.samples[i]), " is ",
                             shape(targets[i]),
                             training ? ". Set data_preprocessor.size, or crop to one size"
                                      : ". Test with batch_size 1, or resize to one size"));
      }
    }
    Uploaded on_device = upload(batch, device);
    for (auto& part : on_device.images) {
      // Padding keeps the order of memory.
      part = pad(normalised(part, device).contiguous(format_), targets[0], params_.pad_val);
    }
    const auto& images = on_device.images;
    for (auto* maps : {&on_device.labels, &on_device.edges, &on_device.depths}) {
      for (auto& part : *maps) {
        // Labels travel as they are and widen on the device.
        if (maps != &on_device.depths) part = part.to(torch::kLong);
        if (training) {
          part = pad(part.contiguous(), targets[0], static_cast<double>(params_.seg_pad_val));
        }
      }
    }
    out.images = images.size() == 1 ? images[0] : torch::cat(images);
    out.labels = joined(on_device.labels, batch);
    out.label_values = label_values(batch, targets[0]);
    out.edges = joined(on_device.edges, batch);
    out.depth = joined(on_device.depths, batch);
    return out;
  }
  std::optional<Size2> train_size() const override { return params_.size; }

 private:
  /// Maps of a batch, [n, ...] each: one tensor where the samples are alike, else one a sample.
  struct Uploaded {
    std::vector<torch::Tensor> images, labels, edges, depths;
  };

  /// Of each image, with that of padding; empty: not known of all.
  std::vector<std::vector<int64_t>> label_values(const Batch& batch, Size2 padded) const {
    std::vector<std::vector<int64_t>> out;
    for (const auto& sample : batch.samples) {
      if (sample.label_values.empty()) return {};
      out.push_back(sample.label_values);
      if (Size2(sample.image.size(1), sample.image.size(2)) != padded) {
        out.back().push_back(params_.seg_pad_val);
      }
    }
    return out;
  }

  static std::string name(const PackedSample& sample) {
    return sample.meta.img_path.empty() ? text("sample ", sample.meta.index) : sample.meta.img_path;
  }
  static std::string shape(const torch::Tensor& image) {
    return text(image.size(-2), "x", image.size(-1));
  }
  static std::string shape(Size2 size) { return text(size.h, "x", size.w); }

  void check(const PackedSample& sample, const PackedSample& first, bool training) const {
    const auto& image = sample.image;
    if (!image.defined() || image.dim() != 3) {
      throw DataError(text(name(sample), ": expected an image [bands, height, width]"));
    }
    const int64_t bands = image.size(0);
    if (params_.mean && static_cast<int64_t>(params_.mean->size()) != bands &&
        params_.mean->size() != 1) {
      throw DataError(text(name(sample), ": has ", bands, bands == 1 ? " band" : " bands",
                           ", but data_preprocessor.mean and std have ", params_.mean->size(),
                           " values"));
    }
    if (bands != first.image.size(0)) {
      throw DataError(text(name(sample), ": has ", bands, " bands, ", name(first), " has ",
                           first.image.size(0)));
    }
    if (!training) return;
    if (!sample.labels.defined() && !sample.depth.defined()) {
      throw DataError(text(name(sample), ": has no labels to train on"));
    }
    const auto check_size = [&](const torch::Tensor& map, const char* what) {
      if (!map.defined() || shape(map) == shape(image)) return;
      throw DataError(
          text(name(sample), ": the image is ", shape(image), ", its ", what, shape(map)));
    };
    check_size(sample.labels, "labels are ");
    check_size(sample.depth, "map of depth is ");
  }

  /// The size that all images are padded to; 0 for as they are.
  Size2 padded_size(const Batch& batch, bool training) const {
    std::optional<Size2> size = training ? params_.size : std::nullopt;
    std::optional<int64_t> divisor = training ? params_.size_divisor : std::nullopt;
    if (!training && params_.test_cfg) {
      size = params_.test_cfg->size;
      divisor = params_.test_cfg->size_divisor;
    }
    if (size) return *size;
    if (!divisor) return 0;
    Size2 largest = 0;
    for (const auto& sample : batch.samples) {
      if (!sample.image.defined() || sample.image.dim() != 3) continue;
      largest.h = std::max(largest.h, sample.image.size(1));
      largest.w = std::max(largest.w, sample.image.size(2));
    }
    const auto up = [&](int64_t n) { return (n + *divisor - 1) / *divisor * *divisor; };
    return {up(largest.h), up(largest.w)};
  }

  /// All to the device. A GPU copies on a side stream, while it still computes the step before.
  Uploaded upload(const Batch& batch, c10::Device device) const {
    Uploaded out;
    std::optional<c10::StreamGuard> on_side;
    std::optional<c10::Stream> main;
    if (!device.is_cpu()) {
      const c10::impl::VirtualGuardImpl streams(device.type());
      main = streams.getStream(device);
      if (!side_ || side_->device() != main->device()) {
        side_ = streams.getStreamFromGlobalPool(main->device());
      }
      on_side.emplace(*side_);
    }
    const auto copied = [&](auto member, std::vector<torch::Tensor>& to) {
      std::vector<torch::Tensor> from;
      for (const auto& sample : batch.samples) {
        if ((sample.*member).defined()) from.push_back(sample.*member);
      }
      to = on_device(from, device);
    };
    copied(&PackedSample::image, out.images);
    copied(&PackedSample::labels, out.labels);
    copied(&PackedSample::edges, out.edges);
    copied(&PackedSample::depth, out.depths);
    if (!main) return out;
    c10::Event done(device.type());
    done.record(*side_);
    on_side.reset();
    done.block(*main);
    for (const auto* parts : {&out.images, &out.labels, &out.edges, &out.depths}) {
      for (const auto& part : *parts) part.record_stream(*main);
    }
    return out;
  }

  static std::vector<torch::Tensor> on_device(const std::vector<torch::Tensor>& from,
                                              c10::Device device) {
    bool alike = !from.empty();
    for (const auto& one : from) {
      alike = alike && one.scalar_type() == from[0].scalar_type() &&
              one.sizes() == from[0].sizes() && one.strides() == from[0].strides() &&
              one.is_non_overlapping_and_dense();
    }
    std::vector<torch::Tensor> out;
    if (!alike) {
      for (const auto& one : from) {
        out.push_back(one.to(device, /*non_blocking=*/true).unsqueeze(0));
      }
      return out;
    }
    // In the order of memory that the samples have: else each would be put in order on the CPU.
    std::vector<int64_t> sizes{static_cast<int64_t>(from.size())}, strides{from[0].numel()};
    sizes.insert(sizes.end(), from[0].sizes().begin(), from[0].sizes().end());
    strides.insert(strides.end(), from[0].strides().begin(), from[0].strides().end());
    out.push_back(at::empty_strided(sizes, strides, from[0].options().device(device)));
    for (size_t i = 0; i < from.size(); ++i) {
      out[0].select(0, static_cast<int64_t>(i)).copy_(from[i], /*non_blocking=*/true);
    }
    return out;
  }

  /// float32 of [n, bands, H, W] on the device. Small integers travel as they are and widen there.
  torch::Tensor normalised(const torch::Tensor& images, c10::Device device) const {
    auto x = images.to(torch::kFloat32);
    if ((params_.bgr_to_rgb || params_.rgb_to_bgr) && x.size(1) == 3) x = x.flip({1});
    if (params_.mean) {
      const auto options = at::TensorOptions(device).dtype(torch::kFloat32);
      x = (x - mean_.of(*params_.mean, options).view({-1, 1, 1})) /
          std_.of(*params_.std, options).view({-1, 1, 1});
    }
    return x;
  }

  static torch::Tensor pad(const torch::Tensor& x, Size2 size, double value) {
    const int64_t bottom = std::max<int64_t>(size.h - x.size(-2), 0);
    const int64_t right = std::max<int64_t>(size.w - x.size(-1), 0);
    if (bottom == 0 && right == 0) return x;
    return at::constant_pad_nd(x, {0, right, 0, bottom}, value);
  }

  /// Nothing where not all samples have labels, or where their sizes differ (testing compares each
  /// with its own).
  static torch::Tensor joined(const std::vector<torch::Tensor>& maps, const Batch& batch) {
    int64_t count = 0;
    for (const auto& map : maps) {
      count += map.size(0);
      if (map.sizes().slice(1) != maps[0].sizes().slice(1)) return {};
    }
    if (maps.empty() || count != static_cast<int64_t>(batch.size())) return {};
    return maps.size() == 1 ? maps[0] : torch::cat(maps);
  }

  Params params_;
  // Kept between calls, which come one after another.
  KeptConstant mean_, std_;
  mutable std::optional<c10::Stream> side_;
};

SEG_REGISTER(DataPreProcessor, SegDataPreProcessor);
SEG_REGISTER_AS(DataPreProcessor, SegDataPreProcessor, "BaseDataPreprocessor");

}  // namespace seg
