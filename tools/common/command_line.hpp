/// What all tools share: reading the command line, and turning every failure into one message and
/// an exit code.
#pragma once
#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "registry/error.hpp"

namespace seg {

/// `--cfg-options a.b=1 c=2`: several words, up to the next option; may be given several times.
CLI::Option* add_cfg_options(CLI::App& app, std::vector<std::string>& overrides);

/// `--launcher pytorch`, and what older launchers also pass.
void add_launcher(CLI::App& app, std::optional<std::string>& launcher);

/// `--device cuda:1`: where a config with `env_cfg` runs.
void add_device(CLI::App& app, std::optional<std::string>& device);

/// `--quiet`: the environment and the config come into the log file alone.
void add_quiet(CLI::App& app);

/// `--palette`: colours of classes in pictures, as words for `palette_option`.
void add_palette(CLI::App& app, std::vector<std::string>& words);

/// Checks of a value for CLI::Option::check, whose messages are worded as those of configurations.
CLI::Validator known_word(std::vector<std::string> words);
CLI::Validator whole_number(int64_t least);
CLI::Validator number_between(double least, double most);

/// The body of main(), which ends the process. `setup` declares the command line and gives back
/// what to run, whose result is the exit code:
///
///   int main(int argc, char** argv) {
///     seg::run_main(argc, argv, "Trains a model.", [](CLI::App& app) {
///       auto options = std::make_shared<Options>();
///       app.add_option("config", options->config, "configuration file")->required();
///       seg::add_cfg_options(app, options->overrides);
///       return [options] { return train(*options); };
///     });
///   }
///
/// Exit codes: 0 done, 1 an error reported in one message, 2 wrong command line, 3 weights that do
/// not fit, 20 stopped by a signal with a checkpoint saved, 21 loss not finite, 22 a peer process
/// lost, 70 an error of the program itself.
[[noreturn]] void run_main(int argc, char** argv, const std::string& description,
                           const std::function<std::function<int()>(CLI::App&)>& setup);

}  // namespace seg
