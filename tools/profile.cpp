/// Shows where the time of a training step goes: by phase, module and operator.
#include <iostream>

#include "registry/log.hpp"
#include "tools/common/command_line.hpp"
#include "tools/common/help.hpp"
#include "tools/measure/step_options.hpp"
#include "tools/measure/step_profile.hpp"

namespace {

int profile(const seg::ProfileArguments& arguments) {
  seg::log::set_level("ERROR");
  const seg::RunConfig config = seg::load_measured(arguments.step, arguments.step.shape);
  const c10::Device device = seg::measured_device(arguments.step, config);
  std::cout << seg::profile_step(arguments, config, device) << std::flush;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  seg::run_main(
      argc, argv,
      "Shows where the time of a training step on synthetic images goes: by phase, module and "
      "operator, each with its share, the bytes and FLOPs, and how near that comes to what the "
      "machine can do. Lists operators that a GPU has to be waited for, and copies between memory "
      "formats. An operator without parameters counts for the module of the last one that has.",
      [](CLI::App& app) {
        seg::add_help(
            app, {.example = "tools/profile configs/quickstart.yaml --depth 1", .exit_codes = {}});
        auto arguments = std::make_shared<seg::ProfileArguments>();
        arguments->step.iters = 3;
        arguments->step.warmup = 2;
        seg::add_step_options(app, arguments->step);
        app.add_option("--depth", arguments->depth,
                       "parts of the names that modules are listed by (default: 2)")
            ->type_name("N")
            ->check(seg::whole_number(1));
        app.add_option("--top", arguments->top, "operators to list (default: 15)")
            ->type_name("N")
            ->check(seg::whole_number(1));
        app.add_option("--trace", arguments->trace,
                       "also write a step as a trace, which Perfetto (ui.perfetto.dev) opens")
            ->type_name("FILE.json");
        return [arguments] { return profile(*arguments); };
      });
}
