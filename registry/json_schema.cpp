#include "registry/json_schema.hpp"

#include <nlohmann/json.hpp>

#include "registry/registry.hpp"
#include "registry/yaml.hpp"
#include "registry/yaml_reader.hpp"
#include "registry/yaml_scalar.hpp"

namespace seg {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const Config& c) {
  switch (c.kind) {
    case Config::Kind::kNull:
      return nullptr;
    case Config::Kind::kBool:
      return c.scalar.starts_with('t') || c.scalar.starts_with('T');
    case Config::Kind::kInt:
      if (const auto value = detail::int_value(c.scalar)) return *value;
      return c.scalar;
    case Config::Kind::kFloat: {
      const auto value = detail::float_value(c.scalar);
      // JSON has no infinity.
      if (value && *value - *value == 0) return *value;
      return c.scalar;
    }
    case Config::Kind::kString:
      return c.scalar;
    case Config::Kind::kList: {
      Json out = Json::array();
      for (const Config& element : c.list) out.push_back(to_json(element));
      return out;
    }
    case Config::Kind::kMap: {
      Json out = Json::object();
      for (const auto& item : c.map) out[item.key] = to_json(item.value);
      return out;
    }
  }
  return nullptr;
}

Json reference(const std::string& definition) { return {{"$ref", "#/definitions/" + definition}}; }

/// Spaces would have to be escaped in a reference.
std::string definition_name(std::string category) {
  for (char& c : category) {
    if (c == ' ') c = '_';
  }
  return category;
}

/// Keys that any mapping may have.
Json merge_keys() {
  return {
      {"_delete_",
       {{"type", "boolean"},
        {"description", "true: this mapping replaces the base's instead of being merged into it"}}},
      {"_scope_", {{"type", "string"}, {"description", "accepted, without effect"}}}};
}

Json option_json(const OptionDoc& option);

Json options_json(const std::vector<OptionDoc>& options) {
  Json out = Json::object();
  for (const OptionDoc& option : options) out[option.name] = option_json(option);
  return out;
}

Json type_json(const TypeDoc& type) {
  using Kind = TypeDoc::Kind;
  Json out = Json::object();
  switch (type.kind) {
    case Kind::kAny:
      return out;
    case Kind::kNull:
      return {{"type", "null"}};
    case Kind::kBool:
      return {{"type", "boolean"}};
    case Kind::kInt:
    case Kind::kFloat:
      out["type"] = type.kind == Kind::kInt ? "integer" : "number";
      if (type.minimum)
        out[type.exclusive_minimum ? "exclusiveMinimum" : "minimum"] = *type.minimum;
      if (type.maximum) out["maximum"] = *type.maximum;
      return out;
    case Kind::kString:
      if (!type.choices.empty()) return {{"enum", type.choices}};
      // Texts are taken as written: `img_suffix: 1` is the text "1".
      return {{"type", Json::array({"string", "number", "boolean"})}};
    case Kind::kList:
      return {{"type", "array"}, {"items", type_json(type.items.at(0))}};
    case Kind::kTuple:
      return {{"type", "array"},
              {"items", type.items.empty() ? Json(true) : type_json(type.items[0])},
              {"minItems", type.items.size()},
              {"maxItems", type.items.size()}};
    case Kind::kMap:
      return {{"type", "object"},
              {"properties", merge_keys()},
              {"additionalProperties", type_json(type.items.at(0))}};
    case Kind::kOneOf: {
      Json any = Json::array();
      for (const TypeDoc& item : type.items) any.push_back(type_json(item));
      return {{"anyOf", any}};
    }
    case Kind::kComponent:
      return reference(definition_name(type.name));
    case Kind::kGroup: {
      Json properties = options_json(type.group ? *type.group : std::vector<OptionDoc>());
      properties.update(merge_keys());
      return {{"type", "object"}, {"properties", properties}, {"additionalProperties", false}};
    }
  }
  return out;
}

Json option_json(const OptionDoc& option) {
  Json out = Json::object();
  out["description"] = option.meaning + (option.required ? " (required)" : "");
  if (!option.required) {
    Diagnostics ignored;
    const Config shown = detail::read_yaml(option.default_value, "<default>", false, ignored);
    if (!ignored.has_errors()) out["default"] = to_json(shown);
  }
  Json type = type_json(option.type);
  if (type.empty()) return out;
  // An alternative of its own: every value may be a substitution.
  Json any = type.contains("anyOf") ? type["anyOf"] : Json::array({type});
  any.push_back(reference("substitution"));
  out["anyOf"] = any;
  return out;
}

std::string escaped_for_pattern(const std::string& name) {
  std::string out;
  for (char c : name) {
    if (std::string_view("\\^$.|?*+()[]{}").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

/// A component: its `type` decides which other keys it may have.
void add_category(const AnyRegistry& registry, Json& definitions) {
  const std::string category = definition_name(std::string(registry.category()));
  constexpr const char* kScope = "^([A-Za-z_]\\w*\\.)?";
  Json names = Json::array();
  Json alternatives = Json::array();
  std::vector<std::string> patterns;
  for (const auto& type : registry.types()) {
    names.push_back(type.name);
    const std::string pattern = escaped_for_pattern(type.name);
    patterns.push_back(pattern);
    const std::string definition = category + "." + type.name;
    Json properties = Json::object();
    properties["type"] = {{"type", "string"}};
    properties.update(options_json(type.options));
    properties.update(merge_keys());
    Json object = {
        {"description", type.summary + (type.source.empty() ? "" : " Source: " + type.source)},
        {"properties", properties},
        {"additionalProperties", false}};
    definitions[definition] = object;
    alternatives.push_back(
        {{"if",
          {{"properties", {{"type", {{"type", "string"}, {"pattern", kScope + pattern + "$"}}}}},
           {"required", Json::array({"type"})}}},
         {"then", reference(definition)}});
  }
  // A scope may stand before the name ("mmseg.FCNHead"); the bare names are what editors complete.
  const Json type_key = {
      {"description", text("which ", registry.category(), " it is")},
      {"anyOf", Json::array({Json{{"enum", names}},
                             Json{{"type", "string"},
                                  {"pattern", text(kScope, "(", join(patterns, "|"), ")$")}},
                             reference("substitution")})}};
  definitions[category] = {
      {"type", "object"}, {"properties", {{"type", type_key}}}, {"allOf", alternatives}};
}

}  // namespace

std::string json_schema(const std::vector<OptionDoc>& root, const std::string& title) {
  Json definitions = Json::object();
  definitions["substitution"] = {
      {"type", "string"},
      {"pattern", "\\{\\{.*\\}\\}"},
      {"description",
       "{{_base_.key}}, {{fileDirname}}, {{fileBasename}}, "
       "{{fileBasenameNoExtension}}, {{fileExtname}} or {{$NAME:default}}"}};
  for (const AnyRegistry* registry : AnyRegistry::all()) add_category(*registry, definitions);
  Json properties = Json::object();
  const Json path = {{"type", "string"}};
  properties["_base_"] = {{"description", "base files, relative to this one"},
                          {"anyOf", Json::array({path, Json{{"type", "array"}, {"items", path}}})}};
  properties.update(options_json(root));
  const Json schema = {{"$schema", "http://json-schema.org/draft-07/schema#"},
                       {"title", title},
                       {"type", "object"},
                       {"properties", properties},
                       {"additionalProperties", true},
                       {"definitions", definitions}};
  return schema.dump(1) + "\n";
}

}  // namespace seg
