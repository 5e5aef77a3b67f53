#include "segcore/data/datasets/metainfo.hpp"

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "registry/error.hpp"
#include "segcore/data/text_list.hpp"

namespace seg {
namespace {

/// The first class whose name an earlier one has, with that one.
std::optional<std::pair<size_t, size_t>> repeated_name(const std::vector<std::string>& names) {
  for (size_t i = 0; i < names.size(); ++i) {
    const auto first =
        std::find(names.begin(), names.begin() + static_cast<ptrdiff_t>(i), names[i]);
    const auto other = static_cast<size_t>(first - names.begin());
    if (other < i) return std::pair(i, other);
  }
  return std::nullopt;
}

std::string repeated_name_text(const std::string& name, size_t other) {
  return text("'", name, "' is already the name of class ", other,
              ". Give each class a name of its own");
}

/// A key of `metainfo` by its name of today; those of MMSegmentation 0.x are read with a warning.
std::string metainfo_key(const Config& info, const Config::Item& item, const std::string& path,
                         Diagnostics& problems) {
  const bool classes = item.key == "CLASSES";
  if (!classes && item.key != "PALETTE") return item.key;
  const std::string now = classes ? "classes" : "palette";
  if (info.find(now)) return item.key;
  problems.warn(item.key_origin, path,
                text("'", item.key, "' is read as '", now, "', its name since MMSegmentation 1.0"));
  return now;
}

}  // namespace

TypeDoc Convert<MetaInfo>::type() {
  auto options = std::make_shared<std::vector<OptionDoc>>();
  options->push_back({"classes",
                      Convert<std::variant<std::vector<std::string>, std::string>>::type(), "null",
                      "names of the classes in the order of their ids, or a file of them"});
  options->push_back({"palette", Convert<std::vector<std::array<int64_t, 3>>>::type(), "[]",
                      "one colour (red, green, blue) a class"});
  return {.kind = TypeDoc::Kind::kGroup,
          .name = "mapping",
          .items = {},
          .choices = {},
          .minimum = {},
          .maximum = {},
          .exclusive_minimum = false,
          .group = options};
}

std::optional<MetaInfo> Convert<MetaInfo>::from(const Config& c, const std::string& path,
                                                Diagnostics& problems) {
  if (!c.is_map()) {
    detail::wrong_type(c, path, "mapping", problems);
    return std::nullopt;
  }
  const size_t before = problems.error_count();
  MetaInfo out;
  for (const auto& item : c.map) {
    const std::string here = path + "." + item.key;
    const std::string key = metainfo_key(c, item, path, problems);
    if (key == "classes") {
      if (item.value.is_null()) continue;
      if (auto v = Convert<std::variant<std::vector<std::string>, std::string>>::from(
              item.value, here, problems)) {
        if (auto* names = std::get_if<std::vector<std::string>>(&*v)) {
          strip_class_names(*names);
          if (const auto repeated = repeated_name(*names)) {
            const auto [again, first] = *repeated;
            problems.error(item.value.list.at(again).origin, text(here, '.', again),
                           repeated_name_text((*names)[again], first));
          }
        }
        out.classes = std::move(*v);
      }
    } else if (key == "palette") {
      if (item.value.is_null()) continue;
      if (auto v = Convert<std::vector<std::array<int64_t, 3>>>::from(item.value, here, problems)) {
        for (const auto& color : *v) {
          for (const int64_t value : color) {
            if (value >= 0 && value <= 255) continue;
            problems.error(item.value.origin, here,
                           text("colours are numbers from 0 to 255, got ", value));
            return std::nullopt;
          }
        }
        out.palette = std::move(*v);
      }
    } else {
      problems.warn(
          item.key_origin, path,
          text("'", item.key, "' has no effect.", did_you_mean(item.key, {"classes", "palette"}),
               " Known: classes, palette"));
    }
  }
  if (problems.error_count() != before) return std::nullopt;
  return out;
}

std::string Convert<MetaInfo>::show(const MetaInfo&) { return "{}"; }

std::string seen_from(const std::string& path) {
  if (path.empty() || path[0] == '/') return {};
  const bool drive = path.size() > 2 && std::isalpha(static_cast<unsigned char>(path[0])) != 0 &&
                     path[1] == ':' && (path[2] == '\\' || path[2] == '/');
  if (drive || path.starts_with("\\\\")) return ", which is a path of Windows";
  if (path.find('\\') != std::string::npos) {
    return " (folders are separated by '/' here, not by '\\' as on Windows)";
  }
  std::error_code none;
  return " (seen from " + std::filesystem::current_path(none).string() + ")";
}

void strip_class_names(std::vector<std::string>& names) {
  for (std::string& name : names) {
    name.erase(name.find_last_not_of(' ') + 1);
    name.erase(0, name.find_first_not_of(' '));
  }
}

std::vector<std::string> class_names(const std::optional<MetaInfo>& info,
                                     const KnownClasses& known) {
  if (!info || !info->classes) return known.names;
  const auto* path = std::get_if<std::string>(&*info->classes);
  if (!path) return std::get<std::vector<std::string>>(*info->classes);
  std::vector<TextLine> lines;
  try {
    lines = read_text_list(*path);
  } catch (const DataError& e) {
    throw OptionError("metainfo.classes", text("must be a list of names or a file of them; ",
                                               e.what(), seen_from(*path)));
  }
  std::vector<std::string> names;
  for (TextLine& line : lines) names.push_back(std::move(line.text));
  if (const auto repeated = repeated_name(names)) {
    const auto [again, first] = *repeated;
    throw OptionError("metainfo.classes", text(*path, ":", lines[again].number, ": ",
                                               repeated_name_text(names[again], first)));
  }
  return names;
}

ResolvedClasses resolve_classes(const std::optional<MetaInfo>& info, const KnownClasses& known,
                                std::optional<int64_t> unlabelled, int64_t ignore_index) {
  ResolvedClasses out;
  out.names = class_names(info, known);
  out.palette = known.palette;
  bool own_palette = false;
  if (info && !info->palette.empty()) {
    own_palette = true;
    out.palette.clear();
    for (const auto& color : info->palette) {
      out.palette.push_back(
          {static_cast<int>(color[0]), static_cast<int>(color[1]), static_cast<int>(color[2])});
    }
  }
  const bool chosen = !known.names.empty() && out.names != known.names;
  if (chosen) {
    for (const auto& name : out.names) {
      if (std::find(known.names.begin(), known.names.end(), name) == known.names.end()) {
        throw OptionError("metainfo.classes", text("'", name, "' is no class of this data set.",
                                                   did_you_mean(name, known.names),
                                                   " Known: ", join(known.names, ", ")));
      }
    }
    // Colours go with the names; a palette of the config is already in the new order, or, being
    // as long as the old one, in the old order.
    const auto old_palette = out.palette;
    const bool reorder = !own_palette || out.palette.size() != out.names.size();
    if (reorder && old_palette.size() == known.names.size()) {
      out.palette.assign(out.names.size(), {});
    }
    for (size_t old_id = 0; old_id < known.names.size(); ++old_id) {
      const auto at = std::find(out.names.begin(), out.names.end(), known.names[old_id]);
      const bool kept = at != out.names.end();
      const auto new_id = at - out.names.begin();
      out.label_map.emplace_back(static_cast<int64_t>(old_id), kept ? new_id : ignore_index);
      if (kept && reorder && old_palette.size() == known.names.size()) {
        out.palette[static_cast<size_t>(new_id)] = old_palette[old_id];
      }
    }
  }
  if (unlabelled && *unlabelled != ignore_index) {
    out.label_map.emplace_back(*unlabelled, ignore_index);
  }
  if (!out.palette.empty() && out.palette.size() != out.names.size()) {
    throw OptionError("metainfo.palette", text("the palette has ", out.palette.size(),
                                               " colours for ", out.names.size(), " classes"));
  }
  return out;
}

}  // namespace seg
