/// Rewrites checkpoints: between formats, for publishing, and from other repositories' names.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iomanip>
#include <iostream>
#include <unordered_set>

#include "registry/yaml.hpp"
#include "runners/start/old_config.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/model_zoo.hpp"
#include "segcore/io/named_weights.hpp"
#include "segcore/io/sha256.hpp"
#include "segcore/io/weight_map.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/models/weights/adapts_pretrained.hpp"
#include "segcore/torch.hpp"
#include "tools/common/command_line.hpp"
#include "tools/common/help.hpp"

namespace {

namespace fs = std::filesystem;

struct ConvertArguments {
  std::string in, out, map, key, check;
  std::vector<std::string> renames;  ///< pattern, replacement, pattern ...
  bool strip = false;
};

/// What a Python without MMEngine can read: objects that are only known by name are left out.
seg::Value plain_part(const seg::Value& value) {
  if (value.is_dict()) {
    seg::ValueDict out;
    for (const auto& [key, item] : value.as_dict()) {
      if (!key.is_opaque() && !item.is_opaque()) out.emplace_back(key, plain_part(item));
    }
    return seg::Value::dict(std::move(out));
  }
  if (value.is_list() || value.is_tuple()) {
    seg::ValueList out;
    for (const auto& item : value.as_list()) {
      if (!item.is_opaque()) out.push_back(plain_part(item));
    }
    if (value.is_tuple()) return seg::Value::tuple(std::move(out));
    const seg::Value::List& list = value.as_list_of_kind();
    return seg::Value::list_of_kind(std::move(out), list.kind, list.limit);
  }
  return value;
}

/// The metadata of a safetensors file, or a `meta` that such a file can hold; null for none.
const seg::Value* texts_of(const seg::Value& contents) {
  if (const seg::Value* texts = contents.find(seg::kSafetensorsMetadata)) return texts;
  const seg::Value* meta = contents.find("meta");
  if (!meta || !meta->is_dict() || meta->as_dict().empty()) return nullptr;
  const auto& items = meta->as_dict();
  const bool only_texts = std::all_of(items.begin(), items.end(), [](const auto& item) {
    return item.first.is_string() && item.second.is_string();
  });
  return only_texts ? meta : nullptr;
}

std::string weights_summary(const seg::Value& state) {
  double bytes = 0;
  for (const auto& [name, value] : state.as_dict()) {
    bytes += static_cast<double>(value.as_tensor().nbytes());
  }
  std::ostringstream out;
  out << state.as_dict().size() << " tensors, " << std::fixed << std::setprecision(1) << bytes / 1e6
      << " MB";
  return out.str();
}

/// The model of a configuration that the weights are checked against.
class CheckedModel {
 public:
  explicit CheckedModel(const std::string& config_path) : path_(config_path) {
    const seg::Config config = seg::load_any_config(config_path);
    const seg::Config* tree = config.at_path("model");
    if (!tree) throw seg::DataError(config_path + ": has no 'model'");
    seg::Diagnostics problems;
    const auto spec = seg::Spec<seg::Segmentor>::parse(*tree, "model", problems);
    if (problems.has_errors()) throw seg::ConfigError(problems);
    model_ = spec->build();
    const seg::Value state = seg::state_dict(*model_);
    for (const auto& [name, tensor] : state.as_dict()) names_.insert(name.as_string());
  }

  /// Whether a name is one of the model, or of its backbone alone.
  bool has(const std::string& name) const {
    return names_.contains(name) || names_.contains(kBackbone + name);
  }

  /// Compares the weights with the model, or with its backbone where no name is one of a whole
  /// model.
  /// \throws seg::WeightsMismatch where a weight is not among them, or has another shape
  void check(const seg::Value& state, const std::vector<std::string>& absent,
             const std::string& where) const {
    std::shared_ptr<torch::nn::Module> module = model_;
    const auto& items = state.as_dict();
    const bool whole = std::any_of(items.begin(), items.end(), [](const auto& item) {
      return item.first.as_string().starts_with(kBackbone);
    });
    if (!whole) {
      for (const auto& child : module->named_children()) {
        if (child.key() == "backbone") module = child.value();
      }
    }
    seg::Value given = seg::Value::dict(seg::ValueDict(items));
    if (const auto* adapts = dynamic_cast<const seg::AdaptsPretrained*>(module.get())) {
      adapts->adapt_pretrained(given);
    }
    const seg::LoadReport report = seg::load_state_dict(*module, given, {.ignore = absent}, where);
    const std::string part = whole ? "the model" : "the backbone";
    if (!report.missing.empty() || !report.mismatched.empty()) {
      throw seg::WeightsMismatch(
          seg::text(where, ": does not fit ", part, " of ", path_, "\n", report.text()));
    }
    std::cout << "fits " << part << " of " << path_ << ": " << report.matched.size()
              << " tensors are taken";
    if (!report.unexpected.empty()) {
      std::cout << ", not used: " << seg::join(report.unexpected, ", ");
    }
    std::cout << std::endl;
  }

 private:
  static constexpr const char* kBackbone = "backbone.";
  std::string path_;
  std::shared_ptr<seg::Segmentor> model_;
  std::unordered_set<std::string> names_;
};

/// The name of a published file: stem-<8 digits of its SHA-256>.pth.
fs::path published_name(const fs::path& out, const std::string& digest) {
  return out.parent_path() /
         (out.stem().string() + "-" + digest.substr(0, 8) + out.extension().string());
}

/// A checkpoint and what is to be written of it.
class Conversion {
 public:
  explicit Conversion(const ConvertArguments& arguments) : arguments_(arguments) {
    const std::string extension = fs::path(arguments.out).extension().string();
    safetensors_ = extension == ".safetensors";
    if (!safetensors_ && extension != ".pth" && extension != ".pt") {
      throw seg::UsageError(
          seg::text("OUT must end in .pth, .pt or .safetensors, got '", arguments.out, "'"));
    }
    // Rules first: a mistake in them shows before a large file is read.
    if (!arguments.map.empty()) map_.emplace(arguments.map);
    for (size_t i = 0; i + 1 < arguments.renames.size(); i += 2) {
      options_.revise_keys.emplace_back(arguments.renames[i], arguments.renames[i + 1]);
    }
    options_.use_all_rules = true;
    seg::KeyMapping mapping;
    for (const auto& [from, to] : options_.revise_keys) mapping.push_back({from, to});
    const std::string problem = seg::key_mapping_problem(mapping);
    if (!problem.empty()) throw seg::UsageError("--rename: " + problem);
    if (!arguments.check.empty()) model_.emplace(arguments.check);
    in_ = seg::resolve_checkpoint(arguments.in);
    contents_ = seg::read_checkpoint(in_);
    whole_ = !arguments.strip && !map_ && arguments.key.empty() && arguments.renames.empty() &&
             !safetensors_ && !contents_.find(seg::kSafetensorsMetadata);
  }

  void run() {
    find_weights();
    if (model_ && state_.is_dict()) {
      model_->check(state_, map_ ? map_->absent() : std::vector<std::string>(), in_);
    }
    const seg::Value result = whole_ ? whole_file() : kept_part();
    const std::string out = write(result);
    std::cout << out << ": " << (state_.is_dict() ? weights_summary(state_) : "no weights")
              << std::endl;
    if (!left_out_.empty()) {
      std::cout << "left out: " << seg::join(left_out_, ", ") << std::endl;
    }
  }

 private:
  /// Whether a name needs no removal of words in front of it.
  bool is_wanted(const std::string& name) const {
    if (map_ && map_->fits(name)) return true;
    if (model_) return model_->has(name);
    if (map_) return false;
    // The first modules of segmentors here and in segmentation_models_pytorch.
    return name.starts_with("backbone.") || name.starts_with("encoder.");
  }

  void find_weights() {
    try {
      found_ = seg::find_state_dict(contents_, arguments_.key);
      state_ = seg::named_weights(found_, options_, in_,
                                  [this](const std::string& name) { return is_wanted(name); });
      if (state_.as_dict().empty()) {
        throw seg::CheckpointError(seg::text("there are no weights under '", arguments_.key, "'"));
      }
      if (map_) state_ = map_->apply(state_);
    } catch (const seg::CheckpointError& error) {
      // A file without weights may still be rewritten whole.
      if (whole_) return;
      std::string what = error.what();
      const std::string none = "there are no weights in it";
      if (const size_t at = what.find(none); !arguments_.key.empty() && at != std::string::npos) {
        what.replace(at, none.size(),
                     seg::text("there are no weights under '", arguments_.key, "'"));
      }
      throw seg::CheckpointError(what.starts_with(in_) ? what : in_ + ": " + what);
    }
  }

  /// All of the file, the weights under the names that they have without wrappers.
  seg::Value whole_file() const {
    if (!state_.is_dict() || !contents_.is_dict()) return contents_;
    const auto& items = state_.as_dict();
    const bool same = std::all_of(items.begin(), items.end(), [&](const auto& item) {
      return found_.find(item.first.as_string()) != nullptr;
    });
    if (same) return contents_;
    seg::ValueDict weights(items);
    for (const auto& [name, value] : found_.as_dict()) {
      if (!value.is_tensor()) weights.emplace_back(name, value);
    }
    const seg::Value renamed = seg::Value::dict(std::move(weights));
    if (&found_.as_dict() == &contents_.as_dict()) return renamed;
    seg::ValueDict out;
    for (const auto& [key, value] : contents_.as_dict()) {
      const bool found = value.is_dict() && &value.as_dict() == &found_.as_dict();
      out.emplace_back(key, found ? renamed : value);
    }
    return seg::Value::dict(std::move(out));
  }

  /// The weights, and what belongs to them; the rest is listed as left out.
  seg::Value kept_part() {
    if (!contents_.is_dict()) return state_;
    const seg::Value* texts = texts_of(contents_);
    const bool has_meta = contents_.find("meta") && contents_.find("state_dict");
    seg::Value result = state_;
    if (safetensors_ && texts) {
      result = seg::Value::dict(seg::ValueDict(state_.as_dict()));
      result.set(seg::kSafetensorsMetadata, *texts);
    } else if (!safetensors_ && (texts || has_meta)) {
      result = seg::Value::dict();
      result.set("meta", texts ? *texts : plain_part(contents_.at("meta")));
      result.set("state_dict", state_);
    }
    const bool keeps_meta = safetensors_ ? texts != nullptr : has_meta;
    for (const auto& [key, value] : contents_.as_dict()) {
      if (!key.is_string() || value.is_tensor() || key.as_string() == seg::kSafetensorsMetadata) {
        continue;
      }
      const bool weights = value.is_dict() && &value.as_dict() == &found_.as_dict();
      if (!weights && !(keeps_meta && key.as_string() == "meta")) {
        left_out_.push_back(key.as_string());
      }
    }
    // Of the weights themselves: a sparse tensor, an object of Python.
    if (&found_.as_dict() != &contents_.as_dict()) {
      for (const auto& [name, value] : found_.as_dict()) {
        if (name.is_string() && !value.is_tensor()) left_out_.push_back(name.as_string());
      }
    }
    return result;
  }

  /// \return the name of the file
  std::string write(const seg::Value& result) const {
    const std::string written = arguments_.strip ? arguments_.out + ".unnamed" : arguments_.out;
    try {
      safetensors_ ? seg::write_safetensors(written, result)
                   : seg::write_checkpoint(written, result);
    } catch (const seg::CheckpointError& error) {
      const std::string what = error.what();
      const bool opaque = whole_ && what.find("only known by name") != what.npos;
      throw seg::CheckpointError(opaque ? what + "; --strip keeps the weights without it" : what);
    }
    if (!arguments_.strip) return arguments_.out;
    const fs::path out = published_name(arguments_.out, seg::sha256_of_file(written));
    fs::rename(written, out);
    return out.string();
  }

  const ConvertArguments& arguments_;
  std::optional<seg::WeightMap> map_;
  std::optional<CheckedModel> model_;
  seg::LoadOptions options_;
  bool safetensors_ = false, whole_ = false;
  std::string in_;
  seg::Value contents_, found_, state_;
  std::vector<std::string> left_out_;
};

}  // namespace

int main(int argc, char** argv) {
  seg::run_main(
      argc, argv,
      "Rewrites a checkpoint: .pth (any that torch.save wrote) or .safetensors to .pth or "
      ".safetensors, for publishing, or from another repository's names.",
      [](CLI::App& app) {
        seg::add_help(
            app,
            {.example =
                 "tools/convert work_dirs/first/iter_800.pth work_dirs/first/weights.safetensors",
             .exit_codes = {}});
        auto arguments = std::make_shared<ConvertArguments>();
        app.add_option("in", arguments->in, "checkpoint, or open-mmlab://NAME and the like")
            ->required();
        app.add_option("out", arguments->out, "what to write: .pth, .pt or .safetensors")
            ->required();
        app.add_flag("--strip", arguments->strip,
                     "keep only the weights and `meta`, in a file called as published ones are: "
                     "<stem of OUT>-<8 digits of its SHA-256>.pth");
        app.add_option("--map", arguments->map, "rules for names and layouts: configs/weights/*")
            ->type_name("FILE");
        app.add_option("--key", arguments->key,
                       "the weights under this key of the checkpoint (ema_state_dict)")
            ->type_name("KEY");
        app.add_option("--check", arguments->check,
                       "write nothing unless the model of this configuration, or its backbone, "
                       "finds all its weights")
            ->type_name("CONFIG");
        app.add_option("--rename", arguments->renames,
                       "changes names, before --map: each match of the regular expression FROM is "
                       "replaced by TO ('^net\\.' ''); may be given several times")
            ->type_name("FROM TO")
            ->type_size(2)
            ->expected(1, 1 << 20)
            ->allow_extra_args(false);
        return [arguments] {
          Conversion(*arguments).run();
          return 0;
        };
      });
}
