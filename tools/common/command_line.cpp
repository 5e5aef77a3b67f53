#include "tools/common/command_line.hpp"

#include <c10/util/Exception.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <iostream>
#include <new>
#include <opencv2/core.hpp>
#include <system_error>

#include "registry/config.hpp"
#include "registry/log.hpp"
#include "registry/registry.hpp"

namespace seg {
namespace {

/// Wrong options are told here and not by CLI11, which takes the word after an unknown option for
/// an argument and a forgotten value for one.
void check_options(const CLI::App& app, const std::vector<std::string>& words) {
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  }
  std::sort(known.begin(), known.end());
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--") return;
    if (!word.starts_with("--")) continue;
    const size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const CLI::Option* option = app.get_option_no_throw(name);
    if (!option) {
      throw UsageError(text("there is no option ", name, ".", did_you_mean(name, known),
                            " Known: ", join(known, ", ")));
    }
    const bool value_follows =
        equals != std::string::npos || (i + 1 < words.size() && !words[i + 1].starts_with("--"));
    if (option->get_items_expected_min() > 0 && !value_follows) {
      throw UsageError(text(name, " needs a value (", option->get_type_name(), ")"));
    }
    if (option->get_items_expected_max() == 0 && equals != std::string::npos) {
      throw UsageError(text(name, " takes no value"));
    }
  }
}

/// Parses, and words CLI11's errors as sentences. Help and version pass as CLI::Success.
void parse_command_line(CLI::App& app, int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  check_options(app, words);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success&) {
    throw;
  } catch (const CLI::RequiredError&) {
    std::vector<std::string> missing;
    for (const CLI::Option* option : app.get_options()) {
      if (option->get_required() && option->count() == 0) {
        const std::string name = option->get_name();
        // Positional arguments are shown to people in capitals, as in the usage line.
        std::string shown = name;
        if (!name.starts_with('-')) {
          std::transform(name.begin(), name.end(), shown.begin(),
                         [](unsigned char c) { return std::toupper(c); });
        }
        missing.push_back(text(shown, " (", option->get_description(), ")"));
      }
    }
    throw UsageError("missing: " + join(missing, ", "));
  } catch (const CLI::ExtrasError&) {
    const auto extras = app.remaining();
    throw UsageError(text("too many arguments: '", extras.empty() ? "" : extras.front(), "'"));
  } catch (const CLI::ParseError& e) {
    throw UsageError(e.what());
  }
  if (const CLI::Option* options = app.get_option_no_throw("--cfg-options")) {
    for (const std::string& word : options->results()) {
      const size_t equals = word.find('=');
      if (equals == std::string::npos || equals == 0) {
        throw UsageError(text("--cfg-options takes KEY=VALUE, got '", word, "'"));
      }
    }
  }
}

std::string message_of(const std::string& what) { return "error: " + what; }

}  // namespace

CLI::Option* add_cfg_options(CLI::App& app, std::vector<std::string>& overrides) {
  return app
      .add_option("--cfg-options", overrides,
                  "values that replace those of the config: model.decode_head.dropout_ratio=0.2 "
                  "param_scheduler.0.end=1500 'crop_size=[512,512]'")
      ->type_name("KEY=VALUE ...")
      ->expected(1, -1);
}

int report_exception(const std::string& program) {
  const auto say = [](const std::string& message) {
    std::fflush(stdout);
    std::cerr << message << std::endl;
  };
  try {
    throw;
  } catch (const UsageError& e) {
    say(text(program, ": ", e.what(), " (see ", program, " --help)"));
    return 2;
  } catch (const ConfigError& e) {
    const std::string warnings = e.diagnostics.warnings_text();
    if (!warnings.empty()) say(warnings);
    say(e.what());
    return 1;
  } catch (const WeightsMismatch& e) {
    say(message_of(e.what()));
    return 3;
  } catch (const RunEnded& e) {
    say(message_of(e.what()));
    return e.exit_code();
  } catch (const DataError& e) {
    say(message_of(e.what()));
    return 1;
  } catch (const CheckpointError& e) {
    say(message_of(e.what()));
    return 1;
  } catch (const OptionError& e) {
    say(message_of(text(e.option(), ": ", e.what())));
    return 1;
  } catch (const Error& e) {
    say(text("internal error: ", e.what()));
    return 70;
  } catch (const c10::OutOfMemoryError& e) {
    say(message_of(text("not enough GPU memory: ", e.what_without_backtrace())));
    return 1;
  } catch (const c10::Error& e) {
    const std::string what = e.what_without_backtrace();
    log::debug(e.what());
    if (what.find("DefaultCPUAllocator") != std::string::npos) {
      say(message_of("not enough memory: " + what));
      return 1;
    }
    say(text("internal error: ", what));
    return 70;
  } catch (const cv::Exception& e) {
    say(text("internal error: OpenCV: ", e.err, " (", e.func, ")"));
    return 70;
  } catch (const std::bad_alloc&) {
    say(message_of("not enough memory"));
    return 1;
  } catch (const std::system_error& e) {  // and std::filesystem::filesystem_error
    say(message_of(e.what()));
    return 1;
  } catch (const std::exception& e) {
    say(text("internal error: ", e.what()));
    return 70;
  } catch (...) {
    say("internal error: an exception of unknown type");
    return 70;
  }
}

int run_main(int argc, char** argv, const std::string& description,
             const std::function<std::function<int()>(CLI::App&)>& setup) {
  const std::string program =
      argc > 0 ? std::filesystem::path(argv[0]).filename().string() : std::string("segcore");
  try {
    CLI::App app(description, program);
    app.set_version_flag("--version", text("segcore ", SEG_VERSION));
    const auto body = setup(app);
    try {
      parse_command_line(app, argc, argv);
    } catch (const CLI::Success& e) {
      return app.exit(e);
    }
    if (!registration_problems().empty()) {
      throw Error(join(registration_problems(), "; "));
    }
    const int code = body();
    log::flush();
    return code;
  } catch (...) {
    const int code = report_exception(program);
    log::flush();
    return code;
  }
}

}  // namespace seg
