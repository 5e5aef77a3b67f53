#include "registry/python_reader.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "registry/python_json.hpp"
#include "registry/python_process.hpp"
#include "registry/python_script.hpp"
#include "registry/yaml_reader.hpp"

namespace seg::detail {
namespace {

using Json = nlohmann::json;
namespace fs = std::filesystem;
using Kind = Config::Kind;

/// Python interrupts the config's code itself after that, and then knows the line.
constexpr std::chrono::seconds kGraceForPython{2};

// A node is [kind, file, line, column, value]: python/read_config.py writes and reads the same.
constexpr size_t kKindAt = 0, kFileAt = 1, kValueAt = 4;

const std::map<std::string, Kind>& python_kinds() {
  static const std::map<std::string, Kind> kinds{{"null", Kind::kNull},  {"bool", Kind::kBool},
                                                 {"int", Kind::kInt},    {"float", Kind::kFloat},
                                                 {"str", Kind::kString}, {"list", Kind::kList},
                                                 {"tuple", Kind::kList}, {"map", Kind::kMap}};
  return kinds;
}

std::string python_kind(const Config& config) {
  if (config.is_list()) return config.is_tuple ? "tuple" : "list";
  for (const auto& [name, kind] : python_kinds()) {
    if (kind == config.kind) return name;
  }
  return "null";
}

/// Names of files, each once, shared by all origins.
class FileTable {
 public:
  FileTable() = default;
  explicit FileTable(const std::vector<std::string>& names) {
    for (const auto& name : names) files_.push_back(std::make_shared<const std::string>(name));
  }
  Origin origin(const Json& node, size_t at) const {
    Origin out;
    const auto file = node.at(at).get<size_t>();
    if (file < files_.size()) out.file = files_[file];
    out.line = node.at(at + 1);
    out.column = node.at(at + 2);
    return out;
  }
  /// Of an object with "file", "line" and "column".
  Origin origin_of(const Json& object) const {
    return origin({object.at("file"), object.at("line"), object.at("column")}, 0);
  }
  size_t index(const Origin& origin) {
    for (size_t i = 0; i < files_.size(); ++i) {
      if (origin.file && (files_[i] == origin.file || *files_[i] == *origin.file)) return i;
    }
    files_.push_back(origin.file ? origin.file : std::make_shared<const std::string>());
    return files_.size() - 1;
  }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& file : files_) out.push_back(*file);
    return out;
  }

 private:
  std::vector<std::shared_ptr<const std::string>> files_;
};

/// A float of Python's repr as YAML has it: 1e-05 would be read as a string.
std::string float_in_yaml(std::string number) {
  if (number == "inf") return ".inf";
  if (number == "-inf") return "-.inf";
  if (number == "nan") return ".nan";
  const size_t exponent = number.find('e');
  if (exponent != std::string::npos && number.find('.') == std::string::npos) {
    number.insert(exponent, ".0");
  }
  return number;
}

std::string float_in_python(const std::string& number) {
  if (number.ends_with("inf") || number.ends_with(".Inf") || number.ends_with(".INF")) {
    return number[0] == '-' ? "-inf" : "inf";
  }
  if (number.find_first_of("0123456789") == std::string::npos) return "nan";
  return number;
}

Config config_of(const Json& node, const FileTable& files) {
  Config out;
  const std::string kind = node.at(kKindAt);
  out.kind = python_kinds().at(kind);
  out.origin = files.origin(node, kFileAt);
  const Json& value = node.at(kValueAt);
  switch (out.kind) {
    case Kind::kNull:
      break;
    case Kind::kBool:
      out.scalar = value.get<bool>() ? "true" : "false";
      break;
    case Kind::kFloat:
      out.scalar = float_in_yaml(value);
      break;
    case Kind::kInt:
    case Kind::kString:
      out.scalar = value;
      break;
    case Kind::kList:
      out.is_tuple = kind == "tuple";
      for (const Json& element : value) out.list.push_back(config_of(element, files));
      break;
    case Kind::kMap:
      for (const Json& item : value) {
        Config::Item one;
        one.key = item.at(0);
        one.key_origin = files.origin(item, 1);
        one.value = config_of(item.at(4), files);
        out.map.push_back(std::move(one));
      }
      break;
  }
  return out;
}

Json node_of(const Config& config, FileTable& files) {
  Json value;
  switch (config.kind) {
    case Kind::kNull:
      break;
    case Kind::kBool:
      value = config.scalar.starts_with('t') || config.scalar.starts_with('T');
      break;
    case Kind::kFloat:
      value = float_in_python(config.scalar);
      break;
    case Kind::kInt:
    case Kind::kString:
      value = config.scalar;
      break;
    case Kind::kList:
      value = Json::array();
      for (const Config& element : config.list) value.push_back(node_of(element, files));
      break;
    case Kind::kMap:
      value = Json::array();
      for (const Config::Item& item : config.map) {
        const Origin& at = item.key_origin;
        value.push_back(
            {item.key, files.index(at), at.line, at.column, node_of(item.value, files)});
      }
      break;
  }
  const Origin& at = config.origin;
  return {python_kind(config), files.index(at), at.line, at.column, std::move(value)};
}

/// A file that Python came upon: as the user named it, or as seen from the current folder.
std::string shown_file(const std::string& name, const std::string& asked_for,
                       const std::string& shown) {
  if (name == asked_for) return shown;
  if (!fs::path(name).is_absolute()) return name;
  std::error_code ignored;
  const fs::path near = fs::relative(name, fs::current_path(ignored), ignored);
  return near.empty() || *near.begin() == ".." ? name : near.string();
}

std::vector<std::string> shown_files(const Json& names, const std::string& asked_for,
                                     const std::string& shown) {
  std::vector<std::string> out;
  for (const Json& name : names) out.push_back(shown_file(name, asked_for, shown));
  return out;
}

/// A file can change values of its bases in place, as their variables are its own: `_base_.model`
/// and the bases are one object. What is as before keeps its history.
void take_changes(Config& bases, Config changed) {
  for (Config::Item& item : changed.map) {
    Config::Item* old = bases.find(item.key);
    if (!old) {
      bases.map.push_back(item);
    } else if (python_json(old->value) != python_json(item.value)) {
      item.value.history = old->value.history;
      old->value = std::move(item.value);
    }
  }
  std::erase_if(bases.map, [&](const Config::Item& item) { return !changed.find(item.key); });
}

/// What Python opens, wherever it is.
std::string whole_path(const fs::path& file) { return fs::absolute(file).lexically_normal(); }

}  // namespace

PythonReader::PythonReader(Diagnostics& problems, std::chrono::seconds patience)
    : problems_(problems), patience_(patience) {}
PythonReader::~PythonReader() = default;

std::optional<Config> PythonReader::bases(const fs::path& file, const std::string& shown) {
  const auto answer = ask(file, shown, {{"do", "bases"}});
  if (!answer) return std::nullopt;
  Config out;
  out.kind = Kind::kList;
  const auto name = std::make_shared<const std::string>(shown);
  for (const Json& base : answer->at("bases")) {
    Config one = Config::of(base.at("name").get<std::string>());
    one.origin = {name, base.at("line"), base.at("column")};
    out.list.push_back(std::move(one));
  }
  return out;
}

std::optional<Config> PythonReader::run(const fs::path& file, const std::string& shown,
                                        Config& bases) {
  FileTable known;
  Json question{{"do", "run"}, {"bases", node_of(bases, known)}};
  question["files"] = known.names();
  const auto answer = ask(file, shown, question);
  if (!answer) return std::nullopt;
  const FileTable files(shown_files(answer->at("files"), whole_path(file), shown));
  Config out = config_of(answer->at("tree"), files);
  if (const Json& changed = answer->at("bases"); !changed.is_null()) {
    take_changes(bases, config_of(changed, files));
  }
  for (const Json& key : answer->at("referred")) {
    if (auto* item = bases.find(key.get<std::string>())) item->used = item->referred = true;
  }
  for (const Json& key : answer->at("used")) {
    if (auto* item = out.find(key.get<std::string>())) item->used = true;
  }
  for (const Json& variable : answer->at("left_out")) {
    problems_.warn(files.origin_of(variable), variable.at("name"),
                   text(variable.at("message").get<std::string>(), "; it is left out"));
  }
  if (const Json& advice = answer->at("deprecated"); !advice.is_null()) {
    problems_.warn(out.origin, "", text("this config is deprecated: ", advice.get<std::string>()));
  }
  if (count_values(out) > kMaxConfigValues) {
    problems_.error(out.origin, "", text("more than ", kMaxConfigValues, " values"));
    return std::nullopt;
  }
  return out;
}

std::optional<std::vector<PythonReader::Class>> PythonReader::classes(const fs::path& file,
                                                                      const std::string& shown) {
  const auto answer = ask(file, shown, {{"do", "classes"}});
  if (!answer) return std::nullopt;
  const FileTable files({shown});
  std::vector<Class> out;
  for (const Json& found : answer->at("classes")) {
    Class one;
    one.name = found.at("name");
    one.registered = found.at("registered").get<std::vector<std::string>>();
    one.where = files.origin_of(found);
    one.bases = found.at("bases").get<std::vector<std::string>>();
    if (!found.at("metainfo").is_null()) one.metainfo = config_of(found.at("metainfo"), files);
    one.options.kind = Kind::kMap;
    for (const Json& option : found.at("options")) {
      Config value = config_of(option.at(1), files);
      const Origin where = value.origin;
      one.options.map.push_back({option.at(0), where, std::move(value)});
    }
    one.beyond = found.at("beyond").get<std::vector<std::string>>();
    out.push_back(std::move(one));
  }
  return out;
}

std::optional<Json> PythonReader::ask(const fs::path& file, const std::string& shown,
                                      const Json& question) {
  Json whole = question;
  whole["file"] = whole_path(file);
  whole["patience"] = patience_.count();
  Origin here{std::make_shared<const std::string>(shown), 0, 0};
  try {
    if (!process_) process_ = std::make_unique<PythonProcess>(python_script());
    const std::string line =
        whole.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
    Json answer = Json::parse(process_->ask(line, patience_, kGraceForPython));
    if (!answer.contains("error")) return answer;
    report(answer["error"], file, shown);
  } catch (const PythonFailed& e) {
    problems_.error(here, "", e.what());
    process_.reset();
  } catch (const Json::exception& e) {
    problems_.error(here, "", text("Python gave an answer that cannot be read: ", e.what()));
    process_.reset();
  }
  return std::nullopt;
}

void PythonReader::report(const Json& error, const fs::path& file, const std::string& shown) {
  Origin where{
      std::make_shared<const std::string>(shown_file(error.at("file"), whole_path(file), shown)),
      error.at("line"), error.at("column")};
  problems_.error(std::move(where), "", error.at("message"));
}

}  // namespace seg::detail
