/// Predicts images without labels and writes what was seen in them.
#include "registry/log.hpp"
#include "runners/prediction.hpp"
#include "tools/common/command_line.hpp"

namespace {

struct PredictArguments {
  std::string config, checkpoint;
  seg::PredictOptions options;
  std::vector<std::string> overrides;
};

int predict(const PredictArguments& arguments) {
  const seg::RunConfig config = seg::load_run_config(arguments.config, arguments.overrides);
  const seg::PredictReport report =
      seg::predict_images(config, arguments.checkpoint, arguments.options);
  seg::log::flush();
  if (report.failed.empty()) return 0;
  std::cerr << "error: " << report.failed.size() << " of "
            << report.done.size() + report.failed.size() << " images could not be predicted:\n";
  for (const auto& [path, reason] : report.failed) {
    std::cerr << "  " << (reason.find(path) == std::string::npos ? path + ": " : "") << reason
              << "\n";
  }
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  return seg::run_main(
      argc, argv,
      "Predicts images without labels. Writes OUT/<stem>.png, the classes in colour over the "
      "image, and OUT/<stem>_ids.png, the class ids as grey values (0 is the first class). Images "
      "of subfolders go into subfolders of OUT. Large images are predicted by sliding window where "
      "model.test_cfg has mode: slide. Images that cannot be read are named at the end, and the "
      "exit code is then 1; all others are done.",
      [](CLI::App& app) {
        auto arguments = std::make_shared<PredictArguments>();
        app.add_option("config", arguments->config, "configuration file")->required();
        app.add_option("checkpoint", arguments->checkpoint, "weights")->required();
        app.add_option("input", arguments->options.input, "an image, or a folder of images")
            ->required();
        app.add_option("--out", arguments->options.out, "folder for the pictures")
            ->type_name("DIR")
            ->required();
        app.add_option("--opacity", arguments->options.opacity,
                       "of the colours over the image, 0 to 1 (default 0.5)")
            ->type_name("A")
            ->check(seg::number_between(0, 1));
        app.add_option("--device", arguments->options.device,
                       "auto, cpu, cuda or cuda:1 (default: env_cfg.device)")
            ->type_name("NAME");
        seg::add_cfg_options(app, arguments->overrides);
        return [arguments] { return predict(*arguments); };
      });
}
