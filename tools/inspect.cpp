/// Prints what a configuration's model is made of.

#include <iostream>
#include <map>
#include <regex>

#include "registry/printed.hpp"
#include "registry/yaml.hpp"
#include "runners/evaluate/image_size.hpp"
#include "runners/start/old_config.hpp"
#include "segcore/io/dtypes.hpp"
#include "segcore/io/weights.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/profile/flops.hpp"
#include "segcore/torch.hpp"
#include "tools/common/command_line.hpp"
#include "tools/common/help.hpp"

namespace {

struct InspectArguments {
  std::string config;
  std::vector<std::string> overrides;
  std::vector<int64_t> shape;
  bool state_dict = false;
  int depth = 2;
};

std::string shape_of(at::IntArrayRef sizes) { return seg::join(sizes, "x"); }

/// 3.720 M
std::string short_number(double n) {
  const char* units[] = {"", " k", " M", " G", " T"};
  int unit = 0;
  while (n >= 1000 && unit < 4) n /= 1000, ++unit;
  return seg::printed("%.*f%s", unit == 0 ? 0 : 3, n, units[unit]);
}

int64_t parameter_count(const torch::nn::Module& module) {
  int64_t count = 0;
  for (const auto& p : module.parameters()) count += p.numel();
  return count;
}

void print_modules(const torch::nn::Module& module, const std::string& name, int depth, int limit) {
  // seg::ListOf<seg::Block> as ListOf<Block>
  const std::string type = std::regex_replace(
      module.name(), std::regex("(\\(anonymous namespace\\)|[A-Za-z_]\\w*)::"), std::string());
  std::cout << std::string(static_cast<size_t>(depth) * 2, ' ') << name << "  " << type << "  "
            << short_number(static_cast<double>(parameter_count(module))) << "\n";
  if (depth == limit) return;
  for (const auto& child : module.named_children()) {
    print_modules(*child.value(), child.key(), depth + 1, limit);
  }
}

int inspect(const InspectArguments& arguments) {
  const seg::Config config = seg::load_any_config(arguments.config, arguments.overrides);
  const seg::Config* tree = config.at_path("model");
  if (!tree) throw seg::DataError(arguments.config + ": has no 'model'");
  seg::Diagnostics problems;
  const auto spec = seg::Spec<seg::Segmentor>::parse(*tree, "model", problems);
  if (problems.has_errors()) throw seg::ConfigError(problems);
  const auto model = spec->build();
  const seg::Size2 size = arguments.shape.empty()
                              ? seg::training_size(*model, config).value_or(seg::Size2(512))
                              : seg::Size2(arguments.shape[0], arguments.shape[1]);
  if (arguments.state_dict) {
    const seg::Value state = seg::state_dict(*model);
    for (const auto& [name, value] : state.as_dict()) {
      const auto& t = value.as_tensor();
      std::cout << name.as_string() << '\t' << shape_of(t.sizes()) << '\t'
                << seg::dtype_name(t.scalar_type()) << '\n';
    }
    std::cout.flush();
    return 0;
  }
  print_modules(*model, "model", 0, arguments.depth);
  int64_t trained = 0;
  for (const auto& p : model->parameters()) trained += p.requires_grad() ? p.numel() : 0;
  const auto images = torch::zeros({1, model->bands().value_or(3), size.h, size.w});
  model->eval();
  torch::NoGradGuard no_grad;
  std::vector<torch::Tensor> features;
  torch::Tensor logits;
  std::map<std::string, int64_t> encoder, all;
  try {
    encoder = seg::count_flops([&] { features = model->extract_feat(images); });
    all = seg::count_flops([&] { logits = model->encode_decode(images); });
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const c10::Error& error) {
    throw seg::DataError(seg::text("images of ", size.h, "x", size.w, " do not fit the model of ",
                                   arguments.config, ": ", error.what_without_backtrace(),
                                   ". Give another size by --shape"));
  }
  const auto sum = [](const std::map<std::string, int64_t>& counts) {
    int64_t total = 0;
    for (const auto& [name, n] : counts) total += n;
    return static_cast<double>(total);
  };
  std::cout << "\ninput       " << shape_of(images.sizes()) << "\n";
  for (size_t i = 0; i < features.size(); ++i) {
    std::cout << "feature " << i << "   " << shape_of(features[i].sizes()) << "\n";
  }
  std::cout << "logits      " << shape_of(logits.sizes()) << "\n"
            << "parameters  " << parameter_count(*model) << " ("
            << short_number(static_cast<double>(parameter_count(*model))) << "), " << trained
            << " of them trained\n"
            << "flops       " << short_number(sum(all)) << ", of which backbone and neck "
            << short_number(sum(encoder)) << "; one is a multiplication with an addition\n";
  for (const auto& [name, n] : all) {
    std::cout << "  " << name << "  " << short_number(static_cast<double>(n)) << "\n";
  }
  std::cout.flush();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  seg::run_main(
      argc, argv,
      "Prints what the model of a configuration is made of: modules with their parameters, the "
      "cost of a forward pass, and the shapes of its outputs.",
      [](CLI::App& app) {
        seg::add_help(
            app, {.example = "tools/inspect configs/quickstart.yaml --depth 1", .exit_codes = {}});
        auto arguments = std::make_shared<InspectArguments>();
        app.add_option("config", arguments->config, "configuration file")->required();
        app.add_option("--shape", arguments->shape,
                       "height and width of the image (default: the crop of the configuration)")
            ->type_name("H W")
            ->expected(2)
            ->check(seg::whole_number(1));
        app.add_option("--depth", arguments->depth,
                       "depth to which modules are listed (default: 2)")
            ->type_name("N")
            ->check(seg::whole_number(0));
        app.add_flag("--state-dict", arguments->state_dict,
                     "only the tensors, one per line: name, shape and type, separated by tabs");
        seg::add_cfg_options(app, arguments->overrides);
        return [arguments] { return inspect(*arguments); };
      });
}
