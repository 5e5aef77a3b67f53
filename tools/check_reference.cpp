/// Compares a model with the numbers that its Python original gave.
#include <iostream>

#include "registry/yaml.hpp"
#include "segcore/testing/reference.hpp"
#include "tools/common/command_line.hpp"
#include "tools/common/help.hpp"

namespace {

struct CheckReferenceArguments {
  std::string fixture, config;
  std::vector<std::string> overrides;
  bool single = false;
};

int check_reference(const CheckReferenceArguments& arguments) {
  const seg::reference::Fixture fixture(arguments.fixture);
  std::optional<seg::Config> model;
  if (!arguments.config.empty()) {
    const seg::Config config = seg::load_config(arguments.config, arguments.overrides);
    const seg::Config* found = config.at_path("model");
    if (!found) throw seg::DataError(arguments.config + ": has no 'model'");
    model = *found;
  }
  const auto comparison = fixture.compare(arguments.single, model);
  std::cout << comparison.text();
  if (!comparison.same_order) {
    std::cout << "note  the tensors of the state dict are in another order than Python's\n";
  }
  size_t wrong = 0;
  for (const auto& quantity : comparison.quantities) wrong += quantity.holds ? 0 : 1;
  std::cout << (wrong == 0 ? seg::text("all ", comparison.quantities.size(), " quantities hold")
                           : seg::text(wrong, " of ", comparison.quantities.size(),
                                       " quantities do not hold"))
            << std::endl;
  return wrong == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  seg::run_main(
      argc, argv,
      "Compares a model with the numbers that its Python original gave: the state dict, features, "
      "logits, losses and gradients for weights, an image and labels that a formula gives. Exit "
      "code 0 if all hold, else 1.",
      [](CLI::App& app) {
        seg::add_help(
            app, {.example =
                      "tools/check_reference tests/data/reference/mmseg/segmenter_vit-t_mask.json",
                  .exit_codes = {}});
        auto arguments = std::make_shared<CheckReferenceArguments>();
        app.add_option("fixture", arguments->fixture, "file with the numbers (JSON)")->required();
        app.add_option("config", arguments->config,
                       "configuration whose model is compared (default: the fixture's own)");
        app.add_flag("--single", arguments->single,
                     "compute in single precision, with wider tolerances");
        seg::add_cfg_options(app, arguments->overrides);
        return [arguments] { return check_reference(*arguments); };
      });
}
