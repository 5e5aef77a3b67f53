#include "registry/config_loader.hpp"

#include <algorithm>
#include <memory>
#include <system_error>
#include <utility>

#include "registry/convert.hpp"
#include "registry/file_text.hpp"
#include "registry/merge.hpp"
#include "registry/yaml_reader.hpp"

namespace seg::detail {
namespace {

namespace fs = std::filesystem;

constexpr uintmax_t kMaxConfigBytes = 16 << 20;
constexpr size_t kMaxBaseDepth = 50;

/// The path as people would write it, without "a/../"; as it is where a link makes that another
/// file.
std::string shown_path(const fs::path& path) {
  std::error_code ignored;
  const fs::path normal = path.lexically_normal();
  return fs::weakly_canonical(path, ignored) == fs::weakly_canonical(normal, ignored)
             ? normal.string()
             : path.string();
}

/// " Did you mean 'x'?" for a missing file.
std::string nearest_file(const fs::path& path) {
  std::error_code failure;
  std::vector<std::string> names;
  const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
  if (!fs::is_directory(folder, failure)) {
    return seg::text(" The folder ", shown_path(folder), " does not exist.");
  }
  for (fs::directory_iterator it(folder, failure), end; !failure && it != end;
       it.increment(failure)) {
    names.push_back(it->path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return did_you_mean(path.filename().string(), names);
}

/// Why a path cannot be a configuration file; "" where it may be one.
std::string config_file_problem(const fs::path& path) {
  std::error_code failure;
  const auto status = fs::status(path, failure);
  if (!fs::exists(status)) return "there is no such file." + nearest_file(path);
  if (fs::is_directory(status)) return "this is a folder, not a configuration file";
  if (fs::is_regular_file(status) && fs::file_size(path, failure) > kMaxConfigBytes) {
    return "larger than 16 MiB; this is not a configuration file";
  }
  return {};
}

Config empty_map() {
  Config out;
  out.kind = Config::Kind::kMap;
  return out;
}

}  // namespace

std::optional<Config> ConfigLoader::load(const fs::path& path, const Config* from) {
  const std::string shown = shown_path(path);
  std::error_code ignored;
  const std::string identity = fs::weakly_canonical(path, ignored).string();
  if (const auto cycle = std::find(open_.begin(), open_.end(), identity); cycle != open_.end()) {
    std::vector<std::string> chain(open_shown_.begin() + (cycle - open_.begin()),
                                   open_shown_.end());
    chain.push_back(shown);
    problems_.error(from->origin, kBaseKey, "circular _base_: " + join(chain, " -> "));
    return std::nullopt;
  }
  if (open_.size() >= kMaxBaseDepth) {
    problems_.error(from->origin, kBaseKey,
                    seg::text("more than ", kMaxBaseDepth, " files in a chain of _base_"));
    return std::nullopt;
  }
  if (const auto done = done_.find(identity); done != done_.end()) return done->second;
  open_.push_back(identity);
  open_shown_.push_back(shown);
  std::optional<Config> tree = load_new(path, shown, from);
  open_.pop_back();
  open_shown_.pop_back();
  done_.emplace(identity, tree);
  return tree;
}

std::optional<Config> ConfigLoader::load_new(const fs::path& path, const std::string& shown,
                                             const Config* from) {
  Origin here;
  here.file = std::make_shared<const std::string>(shown);
  // Python reads its files itself.
  const bool python = path.extension() == ".py";
  std::string wrong = config_file_problem(path);
  const auto text = wrong.empty() && !python ? file_text(path.string()) : std::string();
  if (!text) wrong = "the file cannot be read";
  if (!wrong.empty()) {
    if (from) {
      problems_.error(from->origin, kBaseKey, seg::text(shown, ": ", wrong));
    } else {
      problems_.error(here, "", wrong);
    }
    return std::nullopt;
  }
  auto layers = python ? python_layers(path, shown) : yaml_layers(path, shown, *text);
  if (!layers) return std::nullopt;
  auto& [child, tree] = *layers;
  if (const Config::Item* item = child.find(kDeleteKey)) {
    problems_.error(item->key_origin, kDeleteKey,
                    "there is nothing to delete at the top level; leave out '_base_'");
  }
  tree.origin = child.origin;
  merge_into(tree, std::move(child), /*index_lists=*/false, problems_);
  if (!keep_deletes_) strip_delete(tree);
  if (depth_of(tree) > kMaxConfigDepth) {
    problems_.error(here, "", "lists and mappings are nested too deeply");
    return std::nullopt;
  }
  return std::move(tree);
}

std::optional<ConfigLoader::Layers> ConfigLoader::yaml_layers(const fs::path& path,
                                                              const std::string& shown,
                                                              const std::string& text) {
  const size_t before = problems_.error_count();
  Config child = read_yaml(text, shown, /*templates=*/true, problems_);
  if (child.is_null() && problems_.error_count() != before) return std::nullopt;
  if (child.is_null()) {  // an empty file, or comments alone
    child = empty_map();
    child.origin.file = std::make_shared<const std::string>(shown);
  }
  if (!child.is_map()) {
    problems_.error(child.origin, "", "the file must hold a mapping (key: value)");
    return std::nullopt;
  }
  templates_.fill_in_place(child, "", path);
  const Config::Item* names = child.find(kBaseKey);
  const bool has_bases = names != nullptr;
  std::optional<Config> bases = load_bases(names ? &names->value : nullptr, path);
  std::erase_if(child.map, [](const auto& item) { return item.key == kBaseKey; });
  templates_.fill_from_base(child, "", bases ? &*bases : nullptr, has_bases);
  if (!has_bases && child.find("default_scope") && child.find("model")) {
    // A whole config that MMEngine dumped keeps the variables that its file was written with.
    for (Config::Item& item : child.map) item.used = true;
  }
  return Layers{std::move(child), bases ? std::move(*bases) : empty_map()};
}

std::optional<ConfigLoader::Layers> ConfigLoader::python_layers(const fs::path& path,
                                                                const std::string& shown) {
  const std::optional<Config> names = python_.bases(path, shown);
  if (!names) return std::nullopt;
  std::optional<Config> bases = load_bases(&*names, path);
  // What it computes with its bases cannot be known without them.
  if (!bases) return std::nullopt;
  std::optional<Config> child = python_.run(path, shown, *bases);
  if (!child) return std::nullopt;
  return Layers{std::move(*child), std::move(*bases)};
}

std::optional<Config> ConfigLoader::load_bases(const Config* names, const fs::path& path) {
  Config all = empty_map();
  if (!names) return all;
  std::vector<fs::path> seen;
  if (!names->is_list()) {
    if (!add_base(all, *names, path, seen)) return std::nullopt;
    return all;
  }
  bool good = true;
  for (const Config& name : names->list) good = add_base(all, name, path, seen) && good;
  if (!good) return std::nullopt;
  return all;
}

bool ConfigLoader::add_base(Config& all, const Config& name, const fs::path& path,
                            std::vector<fs::path>& seen) {
  if (name.kind != Config::Kind::kString) {
    wrong_type(name, kBaseKey, "the path of a file, or a list of paths", problems_);
    return false;
  }
  if (name.scalar.find("::") != std::string::npos) {
    problems_.error(name.origin, kBaseKey,
                    seg::text("configs of installed packages ('", name.scalar,
                              "') are not supported; give the path of a file"));
    return false;
  }
  const fs::path base_path = path.parent_path() / name.scalar;
  std::error_code ignored;
  const fs::path identity = fs::weakly_canonical(base_path, ignored);
  if (std::find(seen.begin(), seen.end(), identity) != seen.end()) {
    problems_.error(name.origin, kBaseKey, seg::text(shown_path(base_path), " is listed twice"));
    return true;
  }
  seen.push_back(identity);
  std::optional<Config> base = load(base_path, &name);
  if (!base) return false;
  for (Config::Item& fresh : base->map) {
    if (const Config::Item* other = all.find(fresh.key)) {
      problems_.error(name.origin, fresh.key,
                      seg::text("two bases define this key: ", other->key_origin.text(), " and ",
                                fresh.key_origin.text()));
    } else {
      all.map.push_back(std::move(fresh));
    }
  }
  return true;
}

}  // namespace seg::detail
