#include "runners/start/python_parts.hpp"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <vector>

#include "registry/file_text.hpp"
#include "registry/merge.hpp"
#include "registry/python_reader.hpp"
#include "registry/yaml.hpp"
#include "segcore/data/dataset_spec.hpp"

namespace seg {
namespace {

namespace fs = std::filesystem;

/// Packages whose types are ours, or reported by name.
constexpr const char* kKnownPackages[] = {"mmseg", "mmengine",   "mmcv",
                                          "mmdet", "mmpretrain", "mmcls"};

bool is_known_package(const std::string& module) {
  const std::string first = module.substr(0, module.find('.'));
  return std::ranges::find(kKnownPackages, first) != std::end(kKnownPackages);
}

struct ImportedModule {
  std::string name;
  Origin where;
  bool used = false;
};

/// `custom_imports: {imports: [a.b, c]}`, or a single name.
std::vector<ImportedModule> imported_modules(const Config& tree) {
  std::vector<ImportedModule> out;
  const Config* imports = tree.at_path("custom_imports.imports");
  if (!imports) return out;
  const auto add = [&](const Config& name) {
    if (name.kind == Config::Kind::kString) out.push_back({name.scalar, name.origin});
  };
  add(*imports);
  for (const Config& name : imports->list) add(name);
  return out;
}

/// A Python file that may define a type, and the module that names it.
struct SourceFile {
  fs::path path;
  ImportedModule* module = nullptr;
};

class PythonSources {
 public:
  PythonSources(const std::string& config, std::vector<ImportedModule>& modules) {
    const fs::path folder = fs::absolute(config).lexically_normal().parent_path();
    std::vector<fs::path> roots{fs::current_path()};
    for (fs::path root = folder; root.has_relative_path(); root = root.parent_path()) {
      roots.push_back(root);
    }
    for (ImportedModule& module : modules) {
      std::string relative = module.name;
      std::replace(relative.begin(), relative.end(), '.', '/');
      for (const fs::path& root : roots) {
        add(root / (relative + ".py"), &module);
        add_folder<fs::recursive_directory_iterator>(root / relative, &module);
      }
    }
    add_folder<fs::directory_iterator>(folder, nullptr);
    // Copies of MMSegmentation have the classes of a project among its own, without an import.
    for (const fs::path& root : roots) {
      add_folder<fs::recursive_directory_iterator>(root / "mmseg/datasets", nullptr);
    }
  }

  /// The files that may have a class of this name, or one that is registered under it.
  std::vector<const SourceFile*> naming(const std::string& name) const {
    std::vector<const SourceFile*> out;
    for (const SourceFile& file : files_) {
      const std::string text = file_text(file.path.string()).value_or("");
      const auto has = [&](const std::string& part) { return text.find(part) != text.npos; };
      if (has("class " + name) ||
          (has("register_module") && (has("'" + name + "'") || has("\"" + name + "\"")))) {
        out.push_back(&file);
      }
    }
    return out;
  }

 private:
  static constexpr size_t kMostFiles = 500;

  void add(const fs::path& path, ImportedModule* module) {
    std::error_code ignored;
    if (files_.size() >= kMostFiles || !fs::is_regular_file(path, ignored)) return;
    if (seen_.insert(path.lexically_normal().string()).second) files_.push_back({path, module});
  }
  template <typename Iterator>
  void add_folder(const fs::path& folder, ImportedModule* module) {
    std::error_code failure;
    std::vector<fs::path> found;
    for (Iterator it(folder, failure), end; !failure && it != end; it.increment(failure)) {
      if (it->path().extension() == ".py") found.push_back(it->path());
    }
    std::sort(found.begin(), found.end());
    for (const fs::path& path : found) add(path, module);
  }

  std::vector<SourceFile> files_;
  std::set<std::string> seen_;
};

bool is_registered_dataset(const std::string& type) {
  return Registry<Dataset>::instance().find(type) != nullptr;
}

/// METAINFO of its own takes the place of a published data set's classes; that one's other facts
/// stay, as defaults.
void leave_known_classes(detail::PythonReader::Class& own) {
  if (!own.metainfo) return;
  const auto& registry = Registry<Dataset>::instance();
  const auto options = registry.find(own.bases.at(0))->info().options;
  const auto has = [&](std::string_view name) {
    return std::ranges::count(options, name, &OptionDoc::name) > 0;
  };
  if (!has("img_suffix")) return;
  own.bases[0] = has("img_suffix2") ? "BaseCDDataset" : "BaseSegDataset";
  for (const OptionDoc& general : registry.find(own.bases[0])->info().options) {
    const auto known = std::ranges::find(options, general.name, &OptionDoc::name);
    if (known == options.end() || known->default_value == general.default_value) continue;
    if (own.options.find(general.name)) continue;
    Config value = parse_config(known->default_value);
    value.origin = own.where;
    own.options.map.push_back({general.name, own.where, std::move(value)});
  }
}

/// The names in `metainfo`; nothing where it has none, or the name of a file of them.
std::optional<std::vector<std::string>> names_of_classes(const Config& metainfo) {
  const auto* classes = metainfo.is_map() ? metainfo.find("classes") : nullptr;
  if (!classes || !classes->value.is_list()) return std::nullopt;
  std::vector<std::string> out;
  for (const Config& name : classes->value.list) out.push_back(name.scalar);
  return out;
}

class OwnDatasets {
 public:
  OwnDatasets(const std::string& config, std::vector<ImportedModule>& modules,
              Diagnostics& problems)
      : config_(config), modules_(modules), reader_(problems), problems_(problems) {}

  /// Visits a data set and those inside of it.
  void replace_in(Config& dataset) {
    replace(dataset);
    for_inner_datasets(dataset, [this](Config& inner) { replace_in(inner); });
  }

 private:
  using Class = detail::PythonReader::Class;

  void replace(Config& node) {
    const std::string type = detail::type_of_element(node);
    if (type.empty() || is_registered_dataset(type)) return;
    const std::optional<Class> own = find_class(type, Name::kOfConfig, kMostBases);
    if (!own) return;
    auto* named = node.find("type");
    if (!own->beyond.empty()) {
      report(type, *own, named->value.origin);
      // The line above says it all.
      named->value.scalar = "BaseSegDataset";
      return;
    }
    const Origin where = named->value.origin;
    named->value = Config::of(own->bases.at(0));
    named->value.origin = where;
    for (const Config::Item& option : own->options.map) {
      if (!node.find(option.key)) node.map.push_back(option);
    }
    if (own->metainfo) add_metainfo(node, type, *own->metainfo);
  }

  void report(const std::string& type, const Class& own, const Origin& where) {
    // Data sets that share a variable are wrong at one place.
    if (!reported_.insert(where.text()).second) return;
    problems_.error(where, "type",
                    text("the class ", type, " (", own.where.text(), ") ", join(own.beyond, ", "),
                         ", and Python code is not run here. Give BaseSegDataset its options "
                         "(metainfo, img_suffix, seg_map_suffix, reduce_zero_label, label_map, "
                         "ann_file), or write the class in C++"));
  }

  void add_metainfo(Config& node, const std::string& type, const Config& own) {
    if (const auto* given = node.find("metainfo"); !given || !given->value.is_map()) {
      if (!given) node.set("metainfo", own);
      return;
    }
    choose_classes(node, type, own);
    Config& given = node.find("metainfo")->value;
    for (const Config::Item& item : own.map) {
      if (!given.find(item.key)) given.map.push_back(item);
    }
  }

  /// `metainfo` of a config chooses among the classes that METAINFO has.
  void choose_classes(Config& node, const std::string& type, const Config& own) {
    const auto known = names_of_classes(own);
    const auto chosen = names_of_classes(node.find("metainfo")->value);
    if (!known || !chosen || *known == *chosen) return;
    const Config& where = node.find("metainfo")->value.find("classes")->value;
    for (size_t i = 0; i < chosen->size(); ++i) {
      if (std::ranges::count(*known, (*chosen)[i]) > 0) continue;
      problems_.error(where.list[i].origin, "metainfo.classes",
                      text("'", (*chosen)[i], "' is no class of ", type, ".",
                           did_you_mean((*chosen)[i], *known), " Known: ", join(*known, ", ")));
      return;
    }
    const auto* reduced = node.find("reduce_zero_label");
    if (reduced && reduced->value.scalar == "true") {
      problems_.error(where.origin, "metainfo.classes",
                      text("classes of ", type,
                           " cannot be chosen where reduce_zero_label maps "
                           "the labels, too; its classes are ",
                           join(*known, ", ")));
      return;
    }
    const auto* ignored = node.find("ignore_index");
    Config labels;
    labels.kind = Config::Kind::kMap;
    labels.origin = where.origin;
    for (size_t i = 0; i < known->size(); ++i) {
      const auto at = std::ranges::find(*chosen, (*known)[i]);
      const std::string label = at != chosen->end() ? text(at - chosen->begin())
                                : ignored           ? ignored->value.scalar
                                                    : "255";
      labels.set(text(i), parse_config(label));
    }
    if (!node.find("label_map")) node.set("label_map", labels);
    choose_palette(node.find("metainfo")->value, *known, *chosen, own);
  }

  /// Colours go with their classes.
  static void choose_palette(Config& given, const std::vector<std::string>& known,
                             const std::vector<std::string>& chosen, const Config& own) {
    const auto* palette = own.find("palette");
    if (given.find("palette") || !palette || palette->value.list.size() != known.size()) return;
    Config colors = palette->value;
    colors.list.clear();
    for (const std::string& name : chosen) {
      const auto at = std::ranges::find(known, name) - known.begin();
      colors.list.push_back(palette->value.list[static_cast<size_t>(at)]);
    }
    given.set("palette", colors);
  }

  /// A class for MMSegmentation 0.x: its base and the list of its samples have other names today.
  static void translate_old(Class& own) {
    if (!own.bases.empty() && own.bases[0] == "CustomDataset") own.bases[0] = "BaseSegDataset";
    auto* split = own.options.find("split");
    if (!split) return;
    if (split->value.is_null()) {
      std::erase_if(own.options.map, [&](const Config::Item& item) { return &item == split; });
    } else {
      split->key = "ann_file";
    }
  }

  enum class Name { kOfConfig, kOfClass };

  std::optional<Class> find_in_files(const std::string& name, Name kind) {
    // Looked for only where a config names a type that is not ours.
    if (!sources_) sources_.emplace(config_, modules_);
    for (const SourceFile* file : sources_->naming(name)) {
      const auto classes = reader_.classes(file->path, fs::proximate(file->path).string());
      if (!classes) return std::nullopt;
      const auto found = std::ranges::find_if(*classes, [&](const Class& one) {
        return kind == Name::kOfClass ? one.name == name
                                      : std::ranges::count(one.registered, name) > 0;
      });
      if (found == classes->end()) continue;
      if (file->module) file->module->used = true;
      return *found;
    }
    return std::nullopt;
  }

  /// A class and its own bases as one; nothing where there is none, or its file cannot be read.
  std::optional<Class> find_class(const std::string& name, Name kind, int depth) {
    std::optional<Class> found = depth > 0 ? find_in_files(name, kind) : std::nullopt;
    if (!found) return std::nullopt;
    Class out = std::move(*found);
    translate_old(out);
    const std::string base = out.bases.empty() ? "" : out.bases[0];
    if (is_registered_dataset(base)) {
      leave_known_classes(out);
      return out;
    }
    const auto inherited = find_class(base, Name::kOfClass, depth - 1);
    if (!inherited) {
      out.beyond.push_back(text("derives from ", base.empty() ? "nothing" : base));
      return out;
    }
    out.bases = inherited->bases;
    const bool own_classes = out.metainfo.has_value();
    if (!own_classes) out.metainfo = inherited->metainfo;
    for (const Config::Item& option : inherited->options.map) {
      if (!out.options.find(option.key)) out.options.map.push_back(option);
    }
    out.beyond.insert(out.beyond.end(), inherited->beyond.begin(), inherited->beyond.end());
    if (own_classes && !inherited->metainfo) leave_known_classes(out);
    return out;
  }

  static constexpr int kMostBases = 8;
  std::string config_;
  std::vector<ImportedModule>& modules_;
  std::optional<PythonSources> sources_;
  std::set<std::string> reported_;  // places
  detail::PythonReader reader_;
  Diagnostics& problems_;
};

/// Back ends that send values to other programs' Python packages.
constexpr const char* kTrackers[] = {"WandbVisBackend",   "MLflowVisBackend",  "ClearMLVisBackend",
                                     "NeptuneVisBackend", "DVCLiveVisBackend", "AimVisBackend"};

/// A run must not fail for a tracker that is not there.
void leave_out_trackers(Config& tree, Diagnostics& problems) {
  auto* visualizer = tree.find("visualizer");
  auto* backends = visualizer ? visualizer->value.find("vis_backends") : nullptr;
  if (!backends || !backends->value.is_list()) return;
  auto& list = backends->value.list;
  std::vector<std::string> left_out;
  std::erase_if(list, [&](const Config& backend) {
    const std::string type = detail::type_of_element(backend);
    const bool tracker = std::ranges::find(kTrackers, type) != std::end(kTrackers);
    if (tracker) left_out.push_back(type);
    return tracker;
  });
  if (left_out.empty()) return;
  problems.warn(backends->value.origin, "visualizer.vis_backends",
                text(join(left_out, ", "), left_out.size() == 1 ? " is" : " are",
                     " left out: the package is Python's. LocalVisBackend, CSVVisBackend and "
                     "TensorboardVisBackend record the same values in files"));
  if (list.empty()) list.push_back(parse_config("{type: LocalVisBackend}"));
}

/// An optimizer whose state the processes share out computes as the one that it wraps.
void unwrap_shared_optimizer(Config& tree, Diagnostics& problems) {
  auto* wrapper = tree.find("optim_wrapper");
  auto* item = wrapper ? wrapper->value.find("optimizer") : nullptr;
  Config* optimizer = item ? &item->value : nullptr;
  if (!optimizer || detail::type_of_element(*optimizer) != "ZeroRedundancyOptimizer") return;
  auto* type = optimizer->find("type");
  const Config* wrapped = optimizer->at_path("optimizer_type");
  const std::string path = "optim_wrapper.optimizer";
  if (!wrapped || wrapped->kind != Config::Kind::kString) {
    problems.error(type->value.origin, path,
                   "ZeroRedundancyOptimizer needs 'optimizer_type' (string): the optimizer that it "
                   "wraps");
    // The line above says it all.
    *optimizer = parse_config("{type: SGD}");
    return;
  }
  // By the name that torch.optim has for it.
  const std::string name = wrapped->scalar == "Adafactor" ? "TorchAdafactor" : wrapped->scalar;
  problems.warn(type->value.origin, path,
                text("ZeroRedundancyOptimizer computes as ", name,
                     ", and each process keeps the whole state here"));
  const Origin where = wrapped->origin;
  type->value = Config::of(name);
  type->value.origin = where;
  std::erase_if(optimizer->map, [](const Config::Item& option) {
    return option.key == "optimizer_type" || option.key == "process_group" ||
           option.key == "parameters_as_bucket_view" || option.key == "overlap_with_ddp";
  });
}

}  // namespace

void replace_python_parts(Config& tree, const std::string& path, Diagnostics& problems) {
  std::vector<ImportedModule> modules = imported_modules(tree);
  OwnDatasets own(path, modules, problems);
  for (const char* loader : {"train_dataloader", "val_dataloader", "test_dataloader"}) {
    auto* item = tree.find(loader);
    auto* dataset = item ? item->value.find("dataset") : nullptr;
    if (dataset) own.replace_in(dataset->value);
  }
  leave_out_trackers(tree, problems);
  unwrap_shared_optimizer(tree, problems);
  for (const ImportedModule& module : modules) {
    if (module.used || is_known_package(module.name)) continue;
    problems.warn(module.where, "custom_imports",
                  text("the Python module ", module.name,
                       " has no effect here: types that it registers are unknown"));
  }
}

}  // namespace seg
