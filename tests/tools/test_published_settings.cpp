/// The published settings of configs/: their weights are known, and docs/model_zoo.md lists them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <regex>
#include <set>
#include <sstream>

#include "registry/yaml.hpp"
#include "segcore/io/weight_map.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/models/weights/load_pretrained.hpp"
#include "segcore/torch.hpp"
#include "tests/support/named_weights.hpp"
#include "tests/support/paths.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"

namespace fs = std::filesystem;

namespace seg::test {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

std::string contents_of(const fs::path& file) {
  std::ifstream in(file);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

/// A config whose header promises a figure.
struct PublishedSetting {
  std::string name;    ///< "segformer/b0_ade20k"
  std::string figure;  ///< mIoU
  bool from_random_weights = false;
};

std::vector<PublishedSetting> published_settings() {
  static const std::regex figure(R"(MMSegmentation: ([\d.]+) mIoU([^)]*))");
  std::vector<PublishedSetting> out;
  const fs::path configs = source_path("configs");
  for (const auto& entry : fs::recursive_directory_iterator(configs)) {
    if (entry.path().extension() != ".yaml") continue;
    const std::string text = contents_of(entry.path());
    const std::string header = text.substr(0, text.find('\n'));
    std::smatch found;
    if (!std::regex_search(header, found, figure)) continue;
    out.push_back({fs::relative(entry.path(), configs).replace_extension().string(), found[1],
                   found[2].str().find("random weights") != std::string::npos});
  }
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return out;
}

Config setting_config(const std::string& name) {
  return load_config(source_path("configs/" + name + ".yaml"));
}

void collect_locations(const Config& tree, std::vector<std::string>& out) {
  for (const auto& item : tree.map) {
    const bool names = item.key == "checkpoint" || item.key == "pretrained";
    if (names && item.value.kind == Config::Kind::kString) out.push_back(item.value.scalar);
    collect_locations(item.value, out);
  }
  for (const auto& element : tree.list) collect_locations(element, out);
}

/// The weights that a setting begins with.
std::vector<std::string> locations_of(const Config& config) {
  std::vector<std::string> out;
  collect_locations(*config.at_path("model"), out);
  return out;
}

TEST(PublishedSettings, NameWeightsThatFetchWeightsKnows) {
  const auto settings = published_settings();
  ASSERT_GT(settings.size(), 100U);
  std::string files;
  for (const auto& setting : settings) {
    const bool named = !locations_of(setting_config(setting.name)).empty();
    EXPECT_NE(named, setting.from_random_weights) << setting.name;
    if (named) files += " configs/" + setting.name + ".yaml";
  }
  const TempDir home;
  const CommandResult result =
      run_command("cd " + source_path("") + " && SEGCORE_HOME=" + home.path().string() + " " +
                  program_path("fetch_weights") + " --dry-run" + files);
  EXPECT_EQ(result.status, 0) << result.output;
  EXPECT_THAT(result.output, Not(HasSubstr("names no weights")));
  EXPECT_THAT(result.output, Not(HasSubstr("error")));
}

TEST(PublishedSettings, MapTheNamesOfTimmAsConvertDoes) {
  const Config config = setting_config("vit/vit-b16_mln_ade20k");
  Diagnostics problems;
  const auto mapping = ::seg::Convert<KeyMapping>::from(
      *config.at_path("model.backbone.init_cfg.key_mapping"), "key_mapping", problems);
  ASSERT_TRUE(mapping) << problems.text();
  const Value timm = weights_named_as("vit");
  const auto backbone =
      Spec<Backbone>::of(
          "{type: VisionTransformer, img_size: [32, 32], patch_size: 16, embed_dims: 8, "
          "num_layers: 2, num_heads: 2, out_indices: [1], final_norm: true, patch_bias: true}")
          .build();
  const Value weights =
      weights_for(*backbone, timm, {.checkpoint = "vit.pth", .key_mapping = *mapping});
  EXPECT_EQ(load_weights(*backbone, weights, "vit.pth", true).text(), "");
}

// --- docs/model_zoo.md ---

/// Leaves of a model as "backbone.depth=50".
void collect_leaves(const nlohmann::json& tree, const std::string& path,
                    std::set<std::string>& out) {
  if (tree.is_object()) {
    for (const auto& [key, value] : tree.items()) collect_leaves(value, path + "." + key, out);
  } else if (tree.is_array() && !tree.empty() && tree[0].is_object()) {
    for (size_t i = 0; i < tree.size(); ++i) {
      collect_leaves(tree[i], path + "." + std::to_string(i), out);
    }
  } else {
    std::string shown = tree.is_string() ? tree.get<std::string>() : tree.dump();
    out.insert(path + "=" + shown);
  }
}

void collect_leaves(const Config& tree, const std::string& path, std::set<std::string>& out) {
  if (tree.is_map()) {
    for (const auto& item : tree.map) collect_leaves(item.value, path + "." + item.key, out);
  } else if (tree.is_list() && !tree.list.empty() && tree.list[0].is_map()) {
    for (size_t i = 0; i < tree.list.size(); ++i) {
      collect_leaves(tree.list[i], path + "." + std::to_string(i), out);
    }
  } else if (tree.is_list()) {
    std::string shown = "[";
    for (const Config& element : tree.list) {
      shown += (shown.size() > 1 ? "," : "") + element.scalar;
    }
    out.insert(path + "=" + shown + "]");
  } else {
    out.insert(path + "=" + (tree.is_null() ? "null" : tree.scalar));
  }
}

/// The types of backbone and heads, by which a fixture is of the same parts as a setting.
std::set<std::string> part_types(const std::set<std::string>& leaves) {
  static const std::regex part(
      R"(^\.(backbone|neck|decode_head|backbone\.backbone_cfg)(\.\d+)?(\.kernel_generate_head)?\.type=.*)");
  std::set<std::string> out;
  for (const std::string& leaf : leaves) {
    if (std::regex_match(leaf, part)) out.insert(leaf);
  }
  return out;
}

/// The fixtures of docs/parity.md that hold, with the leaves of their models.
std::map<std::string, std::set<std::string>> holding_fixtures() {
  std::map<std::string, std::set<std::string>> out;
  const std::string parity = contents_of(source_path("docs/parity.md"));
  const fs::path folder = source_path("tests/data/reference/mmseg");
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().stem().string();
    if (parity.find("| " + name + " | holds |") == std::string::npos) continue;
    const auto fixture = nlohmann::json::parse(contents_of(entry.path()));
    collect_leaves(fixture.at("model"), "", out[name]);
  }
  return out;
}

/// The fixture of the same parts that shares most options; "" for none.
std::string nearest_fixture(const Config& model,
                            const std::map<std::string, std::set<std::string>>& fixtures) {
  std::set<std::string> leaves;
  collect_leaves(model, "", leaves);
  const auto types = part_types(leaves);
  std::string best;
  size_t most = 0;
  for (const auto& [name, theirs] : fixtures) {
    if (part_types(theirs) != types) continue;
    const auto common = static_cast<size_t>(std::count_if(
        theirs.begin(), theirs.end(), [&](const auto& leaf) { return leaves.contains(leaf); }));
    if (common > most) {
      most = common;
      best = name;
    }
  }
  return best;
}

std::string weights_cell(const std::vector<std::string>& locations) {
  std::string out;
  for (const std::string& location : locations) {
    if (!out.empty()) out += "<br>";
    const bool address = location.starts_with("http");
    out += address ? "[" + location.substr(location.rfind('/') + 1) + "](" + location + ")"
                   : "`" + location + "`";
  }
  return out.empty() ? "random" : out;
}

std::string model_zoo_page() {
  std::string out =
      "# Model zoo\n\n"
      "The settings of `configs/` that reproduce a published one of MMSegmentation: the mIoU that "
      "it\n"
      "reports, the weights that the training begins with, and the fixture that shows that a model "
      "of\n"
      "the same parts computes MMSegmentation's numbers ([parity](parity.md)). "
      "`tools/fetch_weights\n"
      "configs/NAME.yaml` downloads the weights. A test writes this page from the configs:\n"
      "`SEGCORE_WRITE_DOCS=1 build/release/test_tools --gtest_filter='ModelZooPage.*'`.\n";
  const auto fixtures = holding_fixtures();
  std::string folder;
  for (const auto& setting : published_settings()) {
    const std::string of = setting.name.substr(0, setting.name.find('/'));
    if (of != folder) {
      folder = of;
      out += "\n## " + of +
             "\n\n| setting | published mIoU | initial weights | parity |\n|---|---|---|---|\n";
    }
    const Config config = setting_config(setting.name);
    const std::string fixture = nearest_fixture(*config.at_path("model"), fixtures);
    out += "| [" + setting.name.substr(of.size() + 1) + "](../configs/" + setting.name +
           ".yaml) | " + setting.figure + " | " + weights_cell(locations_of(config)) + " | " +
           (fixture.empty() ? "-" : fixture) + " |\n";
  }
  return out;
}

TEST(ModelZooPage, ListsThePublishedSettings) {
  const std::string page = model_zoo_page(), path = source_path("docs/model_zoo.md");
  if (std::getenv("SEGCORE_WRITE_DOCS")) std::ofstream(path) << page;
  EXPECT_TRUE(contents_of(path) == page)
      << path << " is not what the configs say. Write it anew: SEGCORE_WRITE_DOCS=1 test_tools "
      << "--gtest_filter='ModelZooPage.*'";
}

}  // namespace
}  // namespace seg::test
