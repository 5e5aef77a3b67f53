/// Rewrites checkpoints: between formats, for publishing, and from other repositories' names.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <iomanip>
#include <iostream>

#include "registry/yaml.hpp"
#include "segcore/io/checkpoint.hpp"
#include "segcore/io/model_zoo.hpp"
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
    return value.is_tuple() ? seg::Value::tuple(std::move(out)) : seg::Value(std::move(out));
  }
  return value;
}

seg::Value only_tensors(const seg::Value& state) {
  seg::ValueDict out;
  for (const auto& [name, value] : state.as_dict()) {
    if (name.is_string() && value.is_tensor() && value.as_tensor().defined()) {
      seg::check_name_length(name.as_string());
      out.emplace_back(name, value);
    }
  }
  return seg::Value::dict(std::move(out));
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

/// Compares the weights with the model of a configuration, or with its backbone where no name is
/// one of a whole model.
/// \throws seg::WeightsMismatch where a weight of the model is not among them, or has another shape
void check_weights(const seg::Value& state, const std::vector<std::string>& absent,
                   const std::string& config_path, const std::string& where) {
  const seg::Config config = seg::load_config(config_path);
  const seg::Config* tree = config.at_path("model");
  if (!tree) throw seg::DataError(config_path + ": has no 'model'");
  seg::Diagnostics problems;
  const auto spec = seg::Spec<seg::Segmentor>::parse(*tree, "model", problems);
  if (problems.has_errors()) throw seg::ConfigError(problems);
  std::shared_ptr<torch::nn::Module> module = spec->build();
  const auto& items = state.as_dict();
  const bool whole = std::any_of(items.begin(), items.end(), [](const auto& item) {
    return item.first.as_string().starts_with("backbone.");
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
        seg::text(where, ": does not fit ", part, " of ", config_path, "\n", report.text()));
  }
  std::cout << "fits " << part << " of " << config_path << ": " << report.matched.size()
            << " tensors are taken";
  if (!report.unexpected.empty()) {
    std::cout << ", not used: " << seg::join(report.unexpected, ", ");
  }
  std::cout << std::endl;
}

/// The name of a published file: stem-<8 digits of its SHA-256>.pth.
fs::path published_name(const fs::path& out, const std::string& digest) {
  return out.parent_path() /
         (out.stem().string() + "-" + digest.substr(0, 8) + out.extension().string());
}

int convert(const ConvertArguments& arguments) {
  fs::path out = arguments.out;
  const std::string extension = out.extension().string();
  const bool safetensors = extension == ".safetensors";
  if (!safetensors && extension != ".pth" && extension != ".pt") {
    throw seg::UsageError(
        seg::text("OUT must end in .pth, .pt or .safetensors, got '", arguments.out, "'"));
  }
  // Rules first: a mistake in them shows before a large file is read.
  std::optional<seg::WeightMap> map;
  if (!arguments.map.empty()) map.emplace(arguments.map);
  const std::string in = seg::resolve_checkpoint(arguments.in);
  const seg::Value contents = seg::read_checkpoint(in);
  const bool whole = !arguments.strip && !map && arguments.key.empty() && !safetensors;
  seg::Value found, state;
  try {
    found = seg::find_state_dict(contents, arguments.key);
    state = only_tensors(found);
    if (state.as_dict().empty()) {
      throw seg::CheckpointError(seg::text("there are no weights under '", arguments.key, "'"));
    }
    if (map) state = map->apply(state);
  } catch (const seg::CheckpointError& error) {
    // A file without weights may still be rewritten whole.
    if (!whole) throw seg::CheckpointError(in + ": " + error.what());
  }
  if (!arguments.check.empty() && state.is_dict()) {
    check_weights(state, map ? map->absent() : std::vector<std::string>(), arguments.check, in);
  }

  std::vector<std::string> left_out;
  seg::Value result = state;
  if (whole) {
    result = contents;
  } else if (contents.is_dict()) {
    const bool has_meta = !safetensors && contents.find("meta") && contents.find("state_dict");
    if (has_meta) {
      result = seg::Value::dict();
      result.set("meta", plain_part(contents.at("meta")));
      result.set("state_dict", state);
    }
    for (const auto& [key, value] : contents.as_dict()) {
      if (!key.is_string() || value.is_tensor()) continue;
      const bool weights = value.is_dict() && &value.as_dict() == &found.as_dict();
      if (!weights && !(has_meta && key.as_string() == "meta")) left_out.push_back(key.as_string());
    }
    // Of the weights themselves: a sparse tensor, an object of Python.
    if (&found.as_dict() != &contents.as_dict()) {
      for (const auto& [name, value] : found.as_dict()) {
        if (name.is_string() && !value.is_tensor()) left_out.push_back(name.as_string());
      }
    }
  }
  const std::string written = arguments.strip ? arguments.out + ".unnamed" : arguments.out;
  try {
    safetensors ? seg::write_safetensors(written, result) : seg::write_checkpoint(written, result);
  } catch (const seg::CheckpointError& error) {
    const std::string what = error.what();
    const bool opaque = whole && what.find("only known by name") != what.npos;
    throw seg::CheckpointError(opaque ? what + "; --strip keeps the weights without it" : what);
  }
  if (arguments.strip) {
    out = published_name(out, seg::sha256_of_file(written));
    fs::rename(written, out);
  }
  std::cout << out.string() << ": " << (state.is_dict() ? weights_summary(state) : "no weights")
            << std::endl;
  if (!left_out.empty()) std::cout << "left out: " << seg::join(left_out, ", ") << std::endl;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return seg::run_main(
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
        return [arguments] { return convert(*arguments); };
      });
}
