// Schemas and registries, on toy types: every message that a wrong option gives.
#include "registry/schema.hpp"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "registry/json_schema.hpp"
#include "registry/listing.hpp"
#include "registry/registry.hpp"
#include "registry/yaml.hpp"
#include "tests/support/config_errors.hpp"

namespace seg {

struct ToyPart {
  virtual ~ToyPart() = default;
  virtual double area() const = 0;
};
template <>
struct Category<ToyPart> {
  static constexpr std::string_view name = "toy part";
  using Signature = std::unique_ptr<ToyPart>(double scale);
};

struct ToyBorder {
  int64_t width = 1;
  std::string color = "black";
  static Schema<ToyBorder> schema() {
    return Schema<ToyBorder>("A border.")
        .optional("width", &ToyBorder::width, "in pixels", at_least(0))
        .optional("color", &ToyBorder::color, "of the line", one_of({"black", "white"}));
  }
};

struct ToyBaseParams {
  double opacity = 1.0;
  static Schema<ToyBaseParams> schema() {
    return Schema<ToyBaseParams>("Base.").optional("opacity", &ToyBaseParams::opacity,
                                                   "how much shows", in_range(0, 1));
  }
};

struct ToySquareParams : ToyBaseParams {
  double side = 0;
  std::optional<int64_t> count;
  std::vector<int64_t> dilations{1, 6};
  std::array<int64_t, 2> size{2, 3};
  std::variant<int64_t, std::vector<int64_t>> stride = int64_t{1};
  std::map<std::string, double> weights;
  ToyBorder border;
  OneOrMany<Spec<ToyPart>> parts;
  bool filled = true;
  std::string label = "a: b";
  Config anything;
};

class ToySquare final : public ToyPart {
 public:
  using Params = ToySquareParams;
  static Schema<Params> schema() {
    return Schema<Params>("A square | of parts.")
        .source("Euclid, Elements, book 1")
        .optional("count", &Params::count, "how many", at_least(1))
        .required("side", &Params::side, "length of a side", above(0))
        .optional("dilations", &Params::dilations, "rates", at_least(1))
        .optional("size", &Params::size, "height and width")
        .optional("stride", &Params::stride, "of both sides, or of each")
        .optional("weights", &Params::weights, "by name")
        .optional("border", &Params::border, "around it")
        .optional("parts", &Params::parts, "what is inside")
        .optional("filled", &Params::filled, "whether it is filled")
        .optional("label", &Params::label, "what is written on it")
        .optional("anything", &Params::anything, "kept as it is")
        .accepted("old", "it had an effect once")
        .include(ToyBaseParams::schema())
        .validate([](const Params& p, Problems& problems) {
          if (p.count && *p.count > 3 && !p.filled) {
            problems.error("count", "must be at most 3 unless 'filled' is true");
          }
          if (problems.given("old")) problems.warn("old", "has no effect");
        });
  }
  ToySquare(const Params& p, double scale) : params_(p), scale_(scale) {
    if (p.side > 100) throw OptionError("side", text("too long for scale ", scale));
    if (p.border.width > 50) throw OptionError("border.width", "too wide");
  }
  double area() const override { return params_.side * params_.side * scale_; }

 private:
  Params params_;
  double scale_;
};
SEG_REGISTER(ToyPart, ToySquare);

struct ToyDotParams {};
class ToyDot final : public ToyPart {
 public:
  using Params = ToyDotParams;
  static Schema<Params> schema() { return Schema<Params>("A dot."); }
  ToyDot(const Params&, double) {}
  double area() const override { return 0; }
};
SEG_REGISTER(ToyPart, ToyDot);

namespace {

using test::spec_error;

std::string error_lines(const std::string& yaml) {
  std::string found = spec_error<ToyPart>(yaml);
  const std::string one = "\n1 error in the configuration";
  return found.ends_with(one) ? found.substr(0, found.size() - one.size()) : found;
}

TEST(Registry, BuildsFromText) {
  const auto spec = Spec<ToyPart>::of("{type: ToySquare, side: 2}");
  EXPECT_EQ(spec.type(), "ToySquare");
  EXPECT_EQ(spec.build(3.0)->area(), 12.0);
  EXPECT_EQ(
      Spec<ToyPart>::of("{type: mmseg.ToySquare, side: 1, _scope_: mmseg}").build(1.0)->area(),
      1.0);
  EXPECT_FALSE(static_cast<bool>(Spec<ToyPart>()));
  EXPECT_THROW(Spec<ToyPart>().build(1.0), Error);
}

TEST(Registry, ReportsWrongTypeNames) {
  const struct {
    const char* yaml;
    const char* message;
  } table[] = {
      {"{type: ToySqare}",
       "<default>:1:8: error: no toy part is called 'ToySqare'. Did you mean 'ToySquare'? Known: "
       "ToyDot, ToySquare"},
      {"{type: mmdet.Mask}",
       "<default>:1:8: error: no toy part is called 'Mask'. Known: ToyDot, ToySquare"},
      {"{side: 1}", "<default>:1:1: error: a toy part needs 'type'. Known: ToyDot, ToySquare"},
      {"{type: [ToyDot]}",
       "<default>:1:8: error: .type: expected the name of a type, got [ToyDot]"},
      {"ToyDot", "<default>:1:1: error: expected a toy part (a mapping with 'type'), got 'ToyDot'"},
      {"[1]", "<default>:1:1: error: expected a toy part (a mapping with 'type'), got [1]"},
  };
  for (const auto& row : table) EXPECT_EQ(error_lines(row.yaml), row.message);
}

TEST(Schema, ReportsWrongOptions) {
  const struct {
    const char* options;
    const char* message;
  } table[] = {
      {"sid: 1",
       "<default>:1:19: error: ToySquare has no option 'sid'. Did you mean 'side'? Known: count, "
       "side, dilations, size, stride, weights, border, parts, filled, label, anything, old, "
       "opacity\n"
       "<default>:1:1: error: ToySquare needs 'side' (float): length of a side\n"
       "2 errors in the configuration"},
      {"side: 1, count: two", "<default>:1:35: error: count: expected int, got 'two'"},
      {"side: 1, count: 0", "<default>:1:35: error: count: must be at least 1, got 0"},
      {"side: 1, count: 2.5", "<default>:1:35: error: count: expected int, got 2.5"},
      {"side: 0", "<default>:1:25: error: side: must be above 0, got 0"},
      {"side: '2'",
       "<default>:1:25: error: side: expected float, got '2', which is a string because of its "
       "quotes"},
      {"side: 6e-5x", "<default>:1:25: error: side: expected float, got '6e-5x'"},
      {"side: null", "<default>:1:25: error: side: expected float, got null"},
      {"side: 1, dilations: 3", "<default>:1:39: error: dilations: expected list of int, got 3"},
      {"side: 1, dilations: [1, x]", "<default>:1:43: error: dilations.1: expected int, got 'x'"},
      {"side: 1, dilations: [0]", "<default>:1:39: error: dilations: must be at least 1, got 0"},
      {"side: 1, size: [1]", "<default>:1:34: error: size: expected 2 values of type int, got [1]"},
      {"side: 1, stride: x", "<default>:1:36: error: stride: expected int or list of int, got 'x'"},
      {"side: 1, stride: [x]", "<default>:1:37: error: stride.0: expected int, got 'x'"},
      {"side: 1, weights: [1]",
       "<default>:1:37: error: weights: expected mapping to float, got [1]"},
      {"side: 1, weights: {a: x}", "<default>:1:41: error: weights.a: expected float, got 'x'"},
      {"side: 1, border: 3", "<default>:1:36: error: border: expected mapping, got 3"},
      {"side: 1, border: {widht: 3}",
       "<default>:1:37: error: border: there is no option 'widht'. Did you mean 'width'? Known: "
       "width, color"},
      {"side: 1, border: {color: blak}",
       "<default>:1:44: error: border.color: unknown value 'blak'. Did you mean 'black'? Known: "
       "black, white"},
      {"side: 1, parts: [{type: ToyDot}, {type: ToyDt}]",
       "<default>:1:59: error: parts.1: no toy part is called 'ToyDt'. Did you mean 'ToyDot'? "
       "Known: ToyDot, ToySquare"},
      {"side: 1, parts: {type: ToyDot, x: 1}",
       "<default>:1:50: error: parts: ToyDot has no option 'x'. It has none."},
      {"side: 1, filled: yes", "<default>:1:36: error: filled: expected true or false, got 'yes'"},
      {"side: 1, label: [x]", "<default>:1:35: error: label: expected string, got [x]"},
      {"side: 1, opacity: 1.5", "<default>:1:37: error: opacity: must be between 0 and 1, got 1.5"},
      {"side: 1, count: 5, filled: false",
       "<default>:1:35: error: count: must be at most 3 unless 'filled' is true"},
      {"side: 1, count: 99999999999999999999",
       "<default>:1:35: error: count: the number 99999999999999999999 is too large"},
  };
  for (const auto& row : table) {
    EXPECT_EQ(error_lines(text("{type: ToySquare, ", row.options, "}")), row.message);
  }
}

TEST(Schema, ShortensLongValuesInMessages) {
  std::string list = "1";
  for (int i = 0; i < 100; ++i) list += ", 1";
  EXPECT_EQ(error_lines("{type: ToySquare, side: [" + list + "]}"),
            "<default>:1:25: error: side: expected float, got [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, "
            "1, 1, 1, 1, 1, 1, 1,...");
}

TEST(Schema, AcceptsWhatItDescribes) {
  for (const char* options :
       {"side: 1", "side: 1e-3", "side: 2, count: null", "side: 2, count: 2.0",
        "side: 1, stride: [1, 2]", "side: 1, parts: {type: ToyDot}", "side: 1, label: 3",
        "side: 1, weights: {a.b: 1, c: 0}", "side: 1, anything: [1, {x: y}]",
        "side: 1, old: [1]"}) {
    EXPECT_EQ(error_lines(text("{type: ToySquare, ", options, "}")), "no error") << options;
  }
}

TEST(Schema, WarnsOfOptionsWithoutEffect) {
  Diagnostics problems;
  const Config c = parse_config("{type: ToySquare, side: 1, old: 2}", "a.yaml");
  EXPECT_TRUE(Spec<ToyPart>::parse(c, "model.part", problems).has_value());
  EXPECT_EQ(problems.warnings_text(), "a.yaml:1:33: warning: model.part.old: has no effect");
  EXPECT_FALSE(problems.has_errors());
}

TEST(Registry, PlacesErrorsOfConstructorsAtTheirOption) {
  Diagnostics problems;
  const auto build = [&](const std::string& yaml) {
    const auto spec = Spec<ToyPart>::parse(parse_config(yaml, "a.yaml"), "model.part", problems);
    return test::config_error([&] { spec->build(2.0); });
  };
  EXPECT_EQ(
      build("type: ToySquare\nside: 200\n"),
      "a.yaml:2:7: error: model.part.side: too long for scale 2\n1 error in the configuration");
  EXPECT_EQ(build("type: ToySquare\nside: 2\nborder: {width: 60}\n"),
            "a.yaml:3:17: error: model.part.border.width: too wide\n1 error in the configuration");
}

TEST(Registry, KeepsDuplicatesForMain) {
  auto& problems = registration_problems();
  const auto before = problems;
  { const Registrar<ToyPart, ToyDot> again("ToyDot", "elsewhere.cpp"); }
  ASSERT_EQ(problems.size(), before.size() + 1);
  EXPECT_EQ(problems.back(),
            text("toy part 'ToyDot' is registered twice: ", __FILE__, " and elsewhere.cpp"));
  problems = before;
}

TEST(Listing, ShowsCategoriesTypesAndOptions) {
  EXPECT_EQ(list_categories(), "toy part  2\n");
  const AnyRegistry& registry = find_category("Toy-Parts");
  EXPECT_EQ(list_types(registry), "ToyDot     A dot.\nToySquare  A square | of parts.\n");
  const std::string options = list_options(registry, find_type(registry, "mmseg.ToySquare"));
  EXPECT_EQ(options.substr(0, options.find("  File:")),
            "ToySquare (toy part)\n"
            "  A square | of parts.\n"
            "  Source: Euclid, Elements, book 1\n");
  EXPECT_EQ(options.substr(options.find("\n\n")),
            "\n\n"
            "  side: float, above 0 (required)\n"
            "      length of a side\n"
            "  count: int or null, at least 1 = null\n"
            "      how many\n"
            "  dilations: list of int, at least 1 = [1, 6]\n"
            "      rates\n"
            "  size: 2 values of type int = [2, 3]\n"
            "      height and width\n"
            "  stride: int or list of int = 1\n"
            "      of both sides, or of each\n"
            "  weights: mapping to float = {}\n"
            "      by name\n"
            "  border: mapping = {}\n"
            "      around it\n"
            "  border.width: int, at least 0 = 1\n"
            "      in pixels\n"
            "  border.color: string, one of: black, white = black\n"
            "      of the line\n"
            "  parts: toy part or list of toy part = []\n"
            "      what is inside\n"
            "  filled: bool = true\n"
            "      whether it is filled\n"
            "  label: string = 'a: b'\n"
            "      what is written on it\n"
            "  anything: any value = null\n"
            "      kept as it is\n"
            "  old: any = null\n"
            "      it had an effect once\n"
            "  opacity: float, 0 to 1 = 1.0\n"
            "      how much shows\n");
  EXPECT_EQ(markdown_of(registry, find_type(registry, "ToyDot")),
            "### ToyDot\n\nA dot.\n\nNo options.\n");
  const std::string markdown = markdown_of_all();
  EXPECT_EQ(markdown.rfind("# Types and their options\n\n## toy part\n\n### ToyDot\n", 0), 0u);
  EXPECT_NE(markdown.find("A square \\| of parts."), std::string::npos);
  EXPECT_NE(markdown.find("| `side` | float, above 0 | **required** | length of a side |\n"),
            std::string::npos);
}

TEST(Listing, SuggestsTheNearestName) {
  const auto usage_error = [](auto&& f) {
    try {
      f();
    } catch (const UsageError& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(usage_error([] { find_category("toy prt"); }),
            "there is no category 'toy prt'. Did you mean 'toy part'? Known: toy part");
  EXPECT_EQ(usage_error([] { find_type(find_category("toy part"), "ToyDo"); }),
            "no toy part is called 'ToyDo'. Did you mean 'ToyDot'? Known: ToyDot, ToySquare");
  EXPECT_EQ(usage_error([] { find_listed("ToySquar"); }),
            "no category or type is called 'ToySquar'. Did you mean 'ToySquare'? "
            "Categories: toy part");
  EXPECT_EQ(find_listed("ToyDot").at(0).type->name, "ToyDot");
  EXPECT_FALSE(find_listed("toy_part").at(0).type.has_value());
}

TEST(JsonSchema, MatchesTheTypes) {
  std::vector<OptionDoc> root;
  root.push_back({"part", Convert<Spec<ToyPart>>::type(), "", "the part", true});
  root.push_back({"work_dir", Convert<std::optional<std::string>>::type(), "null", "where", false});
  const Config schema = parse_config(json_schema(root), "schema");
  const auto at = [&](const std::string& path) {
    const Config* found = schema.at_path(path);
    return found ? dump_flow(*found) : "missing: " + path;
  };
  EXPECT_EQ(at("$schema"), "http://json-schema.org/draft-07/schema#");
  EXPECT_EQ(at("properties._base_.anyOf"),
            "[{type: string}, {type: array, items: {type: string}}]");
  EXPECT_EQ(at("properties.part"),
            "{description: the part (required), anyOf: [{$ref: '#/definitions/toy_part'}, {$ref: "
            "'#/definitions/substitution'}]}");
  EXPECT_EQ(at("properties.work_dir"),
            "{description: where, default: null, anyOf: [{type: [string, number, boolean]}, {type: "
            "'null'}, {$ref: '#/definitions/substitution'}]}");
  EXPECT_EQ(at("required"), "missing: required");
  EXPECT_EQ(at("definitions.toy_part.properties.type.anyOf.0"), "{enum: [ToyDot, ToySquare]}");
  EXPECT_EQ(at("definitions.toy_part.allOf.1.if.properties.type.pattern"),
            "'^([A-Za-z_]\\w*\\.)?ToySquare$'");
  EXPECT_EQ(at("definitions.toy_part.allOf.1.then.$ref"), "'#/definitions/toy_part.ToySquare'");
  // A key with a dot in it is found as a whole.
  const Config* square = &schema.at_path("definitions")->find("toy_part.ToySquare")->value;
  EXPECT_EQ(square->at_path("additionalProperties")->scalar, "false");
  EXPECT_EQ(dump_flow(*square->at_path("properties.side")),
            "{description: length of a side (required), anyOf: [{type: number, exclusiveMinimum: "
            "0.0}, {$ref: '#/definitions/substitution'}]}");
  EXPECT_EQ(dump_flow(*square->at_path("properties.dilations")),
            "{description: rates, default: [1, 6], anyOf: [{type: array, items: {type: integer, "
            "minimum: 1.0}}, {$ref: '#/definitions/substitution'}]}");
  EXPECT_EQ(dump_flow(*square->at_path("properties.border.anyOf.0.properties.color.anyOf.0")),
            "{enum: [black, white]}");
  EXPECT_EQ(dump_flow(*square->at_path("properties.size.anyOf.0")),
            "{type: array, items: {type: integer}, minItems: 2, maxItems: 2}");
  EXPECT_NE(square->at_path("properties._delete_"), nullptr);
  EXPECT_NE(square->at_path("properties._scope_"), nullptr);
}

}  // namespace
}  // namespace seg
