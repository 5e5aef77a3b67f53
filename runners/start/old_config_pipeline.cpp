// Pipelines of MMSegmentation 0.x: normalisation and padding were steps of each sample, tests had
// their steps inside MultiScaleFlipAug, and the labels of tests were read outside of pipelines.
#include <algorithm>

#include "registry/text.hpp"
#include "runners/start/old_config_parts.hpp"

namespace seg {
namespace {

/// Longer than any side, where 0.x sets no limit.
constexpr int64_t kAnyLength = 1'000'000;

bool is_pair(const Config& value) {
  return value.is_list() && value.list.size() == 2 && !value.list[0].is_list();
}

/// Files are read from the disk, which 0.x writes as an option.
void drop_file_client(OldOptions& options, OldNotes& notes) {
  const Config* client = options.take("file_client_args");
  if (!client) return;
  const Config::Item* backend = client->find("backend");
  if (backend && backend->value.scalar == "disk") return;
  notes.left_out(client->origin, options.path("file_client_args"),
                 "files are read from the file system");
}

class PipelineTranslation {
 public:
  PipelineTranslation(std::string old_path, std::string now, const Config* annotations,
                      OldNotes& notes)
      : old_path_(std::move(old_path)),
        now_(std::move(now)),
        annotations_(annotations),
        notes_(notes) {}

  OldPipeline translate(const Config& steps) {
    out_.steps = placed_list(steps.origin);
    out_.batch_steps.path = old_path_;
    for (size_t i = 0; i < steps.list.size(); ++i) {
      translate_step(steps.list[i], text(old_path_, ".", i));
    }
    return std::move(out_);
  }

 private:
  /// A scale of test-time augmentation: a size, or a factor of the image's.
  struct TestScale {
    const char* option;
    Config value;
    bool original;  ///< neither enlarged nor reduced
  };

  void translate_step(const Config& step, const std::string& path) {
    const std::string type = old_type(step);
    OldOptions options(&step, path);
    if (type == "MultiScaleFlipAug") {
      translate_test(step, options);
    } else if (type == "LoadImageFromFile" || type == "LoadAnnotations") {
      if (type == "LoadAnnotations") out_.annotations = &step;
      drop_file_client(options, notes_);
      push(moved(options, step.origin));
    } else if (type == "Resize") {
      translate_resize(options, step.origin);
    } else if (type == "AlignResize") {
      translate_align_resize(options, step.origin);
    } else if (type == "RandomFlip") {
      Config flip = placed_map(step.origin);
      if (const Config* kind = options.take("type")) flip.set("type", *kind);
      if (const Config* ratio = options.take("flip_ratio")) flip.set("prob", *ratio);
      options.move_rest(flip);
      push(std::move(flip));
    } else if (type == "Normalize") {
      out_.batch_steps.normalize = &step;
    } else if (type == "Pad") {
      translate_pad(step, options);
    } else if (type == "Collect") {
      pack(options, step.origin);
    } else if (type != "DefaultFormatBundle" && type != "ImageToTensor" && type != "ToTensor" &&
               type != "ToDataContainer" && type != "Transpose") {
      push_other(step, path, type);
    }
  }

  void push_other(const Config& step, const std::string& path, const std::string& type) {
    if (out_.batch_steps.normalize && !type.empty()) {
      notes_.add(step.origin, path, text(place_of_next(), ".type"),
                 text("0.x runs ", type,
                      " after Normalize, on normalised values; here values are normalised last, "
                      "by data_preprocessor"));
    }
    push(step);
  }

  void translate_resize(OldOptions& options, const Origin& origin) {
    options.ignore({"type"});
    const Config* scale = options.take("img_scale");
    const std::string mode = options.take_text("multiscale_mode");
    const Config* range = options.take("ratio_range");
    const Config* min_size = options.take("min_size");
    const Config keep = taken_keep_ratio(options, origin);
    const bool many = scale && scale->is_list() && !is_pair(*scale);
    if (many && scale->list.size() == 1) scale = &scale->list[0];
    if (!scale) {
      notes_.error(origin, options.path(),
                   "a Resize without img_scale takes its scale from the size of each image, which "
                   "no step does here. Write img_scale");
      return;
    }
    Config out = placed_map(origin);
    if (many && scale->is_list() && !is_pair(*scale) && mode == "value") {
      out = typed_map("RandomChoiceResize", origin);
      out.set("scales", *scale);
    } else if (range || (scale->is_list() && !is_pair(*scale))) {
      out = typed_map("RandomResize", origin);
      out.set("scale", *scale);
      if (range) out.set("ratio_range", *range);
    } else {
      push_single_resize("scale", *scale, keep, min_size, origin, options);
      return;
    }
    if (min_size) {
      notes_.left_out(min_size->origin, options.path("min_size"),
                      "a Resize to several scales has no least size here");
    }
    out.set("keep_ratio", keep);
    options.move_rest(out);
    push(std::move(out));
  }

  static Config taken_keep_ratio(OldOptions& options, const Origin& origin) {
    const Config* keep = options.take("keep_ratio");
    return keep ? *keep : placed(true, origin);
  }

  /// \param option  "scale" or "scale_factor".
  void push_single_resize(const char* option, const Config& scale, const Config& keep,
                          const Config* min_size, const Origin& origin, OldOptions& options) {
    Config out = single_resize(option, scale, keep, min_size, origin);
    options.move_rest(out);
    push(std::move(out));
  }

  static Config single_resize(const std::string& option, const Config& scale, const Config& keep,
                              const Config* min_size, const Origin& origin) {
    const auto least = old_number(min_size);
    if (least && is_pair(scale) && old_true(&keep)) {
      // 0.x brings the shorter side to this length, however long the other becomes.
      double shorter = *least;
      const double sides =
          std::min(old_number(&scale.list[0]).value_or(0), old_number(&scale.list[1]).value_or(0));
      shorter = std::max(shorter, sides);
      Config out = typed_map("ResizeShortestEdge", origin);
      out.set("scale", placed(static_cast<int64_t>(shorter), min_size->origin));
      out.set("max_size", placed(kAnyLength, min_size->origin));
      return out;
    }
    Config out = typed_map("Resize", origin);
    out.set(option, scale);
    out.set("keep_ratio", keep);
    return out;
  }

  /// NVlabs' SegFormer: a Resize whose sides are then brought to multiples of a number.
  void translate_align_resize(OldOptions& options, const Origin& origin) {
    const Config* divisor = options.take("size_divisor");
    translate_resize(options, origin);
    Config align = typed_map("ResizeToMultiple", origin);
    if (divisor) align.set("size_divisor", *divisor);
    push(std::move(align));
  }

  /// After Normalize, padding is a matter of the batch.
  void translate_pad(const Config& step, OldOptions& options) {
    if (out_.batch_steps.normalize) {
      out_.batch_steps.pad = &step;
      return;
    }
    Config out = placed_map(step.origin);
    if (const Config* kind = options.take("type")) out.set("type", *kind);
    if (const Config* size = options.take("size")) {
      // Height and width in 0.x, width and height here.
      Config turned = *size;
      if (is_pair(turned)) std::swap(turned.list[0], turned.list[1]);
      out.set("size", std::move(turned));
    }
    Config value = placed_map(step.origin);
    if (const Config* img = options.take("pad_val")) value.set("img", *img);
    if (const Config* seg = options.take("seg_pad_val")) value.set("seg", *seg);
    if (!value.map.empty()) out.set("pad_val", std::move(value));
    options.move_rest(out);
    push(std::move(out));
  }

  void pack(OldOptions& options, const Origin& origin) {
    if (!out_.annotations && annotations_) push(*annotations_);
    Config out = typed_map("PackSegInputs", origin);
    if (const Config* meta = options.take("meta_keys")) out.set("meta_keys", *meta);
    push(std::move(out));
  }

  static std::vector<TestScale> scales_of(OldOptions& options) {
    const Config* size = options.take("img_scale");
    const auto ratios = one_or_more(options.take("img_ratios"));
    std::vector<TestScale> out;
    if (size && !is_pair(*size)) {
      for (const Config* one : one_or_more(size)) out.push_back({"scale", *one, out.empty()});
    } else if (!size) {
      for (const Config* ratio : ratios) {
        out.push_back({"scale_factor", *ratio, old_number(ratio) == 1.0});
      }
    } else if (ratios.empty()) {
      out.push_back({"scale", *size, true});
    } else {
      for (const Config* ratio : ratios) {
        Config scaled = *size;
        for (Config& side : scaled.list) {
          const double length = old_number(&side).value_or(0) * old_number(ratio).value_or(1);
          side = placed(static_cast<int64_t>(length), ratio->origin);
        }
        out.push_back({"scale", std::move(scaled), old_number(ratio) == 1.0});
      }
    }
    return out;
  }

  void translate_test(const Config& step, OldOptions& options) {
    const std::vector<TestScale> scales = scales_of(options);
    const bool flip = old_true(options.take("flip"));
    const Config* direction = options.take("flip_direction");
    const Config* inner = options.take("transforms");
    options.ignore({"type"});
    options.leave_out_rest(notes_);
    if (!inner || !inner->is_list()) return;
    if (scales.empty()) {
      notes_.error(step.origin, options.path(), "needs img_scale or img_ratios");
      return;
    }
    const std::string path = options.path("transforms");
    const Config* resize = nullptr;
    for (const Config& t : inner->list) {
      if (old_type(t) == "Resize") resize = &t;
    }
    const size_t before = out_.steps.list.size();
    const Config* plain = nullptr;
    size_t resized_at = before;
    for (size_t i = 0; i < inner->list.size(); ++i) {
      const Config& t = inner->list[i];
      if (&t == resize) {
        const TestScale* scale = &scales.at(0);
        for (const TestScale& s : scales) {
          if (s.original) scale = &s;
        }
        resized_at = out_.steps.list.size();
        push(resize_of(t, *scale));
        plain = &t;
      } else if (old_type(t) != "RandomFlip") {
        translate_step(t, text(path, ".", i));
      }
    }
    if (scales.size() < 2 && !flip) return;
    const Config* place = plain ? plain : &step;
    notes_.add(place->origin, options.path(), text(now_, ".", resized_at, ".type"),
               text("0.x averages ", scales.size(), scales.size() == 1 ? " scale" : " scales",
                    flip ? " and their mirror images" : "",
                    " in every validation and test; here only tests with --tta do, by "
                    "tta_pipeline"));
    augment(before, resized_at, plain, scales, flip, direction, step.origin);
  }

  static Config resize_of(const Config& step, const TestScale& scale) {
    OldOptions options(&step, "");
    options.ignore({"type", "img_scale", "multiscale_mode", "ratio_range"});
    const Config keep = taken_keep_ratio(options, step.origin);
    return single_resize(scale.option, scale.value, keep, options.take("min_size"), step.origin);
  }

  /// The steps before the augmentation, and TestTimeAug over all scales and flips.
  void augment(size_t before, size_t resized_at, const Config* resize,
               const std::vector<TestScale>& scales, bool flip, const Config* direction,
               const Origin& origin) {
    const auto& steps = out_.steps.list;
    Config choices = placed_list(origin);
    if (resize) {
      Config sizes = placed_list(origin);
      for (const TestScale& scale : scales) sizes.list.push_back(resize_of(*resize, scale));
      choices.list.push_back(std::move(sizes));
    }
    if (flip) {
      Config flips = placed_list(origin);
      const auto flip_step = [&](double prob, const Config* way) {
        Config out = typed_map("RandomFlip", origin);
        out.set("prob", placed(prob, origin));
        if (way) out.set("direction", *way);
        flips.list.push_back(std::move(out));
      };
      const Config horizontal = placed("horizontal", origin);
      auto ways = one_or_more(direction);
      if (ways.empty()) ways.push_back(&horizontal);
      flip_step(0, ways[0]);
      for (const Config* way : ways) flip_step(1, way);
      choices.list.push_back(std::move(flips));
    }
    for (size_t i = before; i < steps.size(); ++i) {
      if (!resize || i != resized_at) choices.list.push_back(placed_list(origin, {steps[i]}));
    }
    Config aug = typed_map("TestTimeAug", origin);
    aug.set("transforms", std::move(choices));
    out_.tta_steps = placed_list(origin);
    for (size_t i = 0; i < before; ++i) out_.tta_steps.list.push_back(steps[i]);
    out_.tta_steps.list.push_back(std::move(aug));
  }

  static Config moved(OldOptions& options, const Origin& origin) {
    Config out = placed_map(origin);
    options.move_rest(out);
    return out;
  }

  std::string place_of_next() const { return text(now_, ".", out_.steps.list.size()); }
  void push(Config step) { out_.steps.list.push_back(std::move(step)); }

  std::string old_path_, now_;
  const Config* annotations_;
  OldNotes& notes_;
  OldPipeline out_;
};

}  // namespace

OldPipeline translate_old_pipeline(const Config& steps, const std::string& old_path,
                                   const std::string& now, const Config* annotations,
                                   OldNotes& notes) {
  return PipelineTranslation(old_path, now, annotations, notes).translate(steps);
}

}  // namespace seg
