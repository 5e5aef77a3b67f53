#include "tools/common/command_line.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <iostream>
#include <optional>

#include "registry/config.hpp"
#include "registry/end_process.hpp"
#include "registry/log.hpp"
#include "registry/registry.hpp"
#include "registry/shell_path.hpp"
#include "tools/common/process.hpp"
#include "tools/common/report_exception.hpp"

namespace seg {
namespace {

/// The name of an option; arguments without one are in capitals, as in the usage line.
std::string shown_argument(const CLI::Option& option) {
  std::string name = option.get_name();
  if (!name.starts_with('-')) {
    std::transform(name.begin(), name.end(), name.begin(),
                   [](unsigned char c) { return std::toupper(c); });
  }
  return name;
}

/// Wrong options are reported here and not by CLI11, which takes the word after an unknown option
/// for an argument and a forgotten value for one.
void check_options(const CLI::App& app, const std::vector<std::string>& words) {
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  }
  std::sort(known.begin(), known.end());
  for (size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (word == "--") return;
    const bool is_short = word.size() > 1 && word[0] == '-' && std::isalpha(word[1]) != 0;
    if (is_short && word != "-h") {
      throw UsageError(text("there is no option ", word, ". Known: ", join(known, ", ")));
    }
    if (!word.starts_with("--")) continue;
    const size_t equals = word.find('=');
    const std::string name = word.substr(0, equals);
    const CLI::Option* option = app.get_option_no_throw(name);
    if (!option && app.get_option_no_throw(name.substr(2))) {
      const std::string argument = shown_argument(*app.get_option(name.substr(2)));
      throw UsageError(text(argument, " is given without ", name, ", as in the usage line"));
    }
    if (!option) {
      throw UsageError(text("there is no option ", name, ".", did_you_mean(name, known),
                            " Known: ", join(known, ", ")));
    }
    const bool value_follows =
        equals != std::string::npos
            ? equals + 1 < word.size()
            : i + 1 < words.size() && !words[i + 1].empty() && !words[i + 1].starts_with("--");
    if (option->get_items_expected_min() > 0 && !value_follows) {
      throw UsageError(text(name, " needs a value (", option->get_type_name(), ")"));
    }
    const auto is_same = [&](const std::string& other) {
      return other.substr(0, other.find('=')) == name;
    };
    if (option->get_items_expected_max() == 1 &&
        std::any_of(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(i), is_same)) {
      throw UsageError(text(name, " is given twice"));
    }
    if (option->get_items_expected_max() == 0 && equals != std::string::npos) {
      throw UsageError(text(name, " takes no value"));
    }
  }
}

/// A path that quotes, or an option's "=", kept from the shell: '~/runs', --work-dir=~/runs.
void expand_word(std::string& word) {
  const size_t value = word.starts_with("--") ? word.find('=') + 1 : 0;  // npos + 1 is 0
  const std::string path = word.substr(value);
  const auto expanded = expand_shell_path(path);
  if (!expanded) {
    throw UsageError(
        text("'", path, "' needs the variable ", shell_variable(path), ", which is not set"));
  }
  word.replace(value, std::string::npos, *expanded);
}

/// Parses, and words CLI11's errors as sentences. Help and version pass as CLI::Success.
void parse_command_line(CLI::App& app, int argc, char** argv) {
  std::vector<std::string> words(argv + 1, argv + argc);
  for (std::string& word : words) expand_word(word);
  check_options(app, words);
  try {
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));
  } catch (const CLI::Success&) {
    throw;
  } catch (const CLI::RequiredError&) {
    std::vector<std::string> missing;
    for (const CLI::Option* option : app.get_options()) {
      if (option->get_required() && option->count() == 0) {
        missing.push_back(text(shown_argument(*option), " (", option->get_description(), ")"));
      }
    }
    throw UsageError("missing: " + join(missing, ", "));
  } catch (const CLI::ExtrasError&) {
    const auto extras = app.remaining();
    throw UsageError(text("too many arguments: '", extras.empty() ? "" : extras.front(), "'"));
  } catch (const CLI::ArgumentMismatch& e) {
    for (const CLI::Option* option : app.get_options()) {
      const auto count = static_cast<int>(option->count());
      if (count > 0 && count < option->get_items_expected_min()) {
        throw UsageError(text(option->get_name(), " takes ", option->get_items_expected_min(),
                              " values (", option->get_type_name(), "), got ", count));
      }
    }
    throw UsageError(e.what());
  } catch (const CLI::ParseError& e) {
    throw UsageError(e.what());
  }
  for (const CLI::Option* option : app.get_options()) {
    const auto& given = option->results();
    if (option->get_positional() && std::find(given.begin(), given.end(), "") != given.end()) {
      throw UsageError(text(shown_argument(*option), " is empty"));
    }
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

/// The number that all of `word` is, if it is one.
template <class T>
std::optional<T> number_in(const std::string& word) {
  T number{};
  const char* end = word.data() + word.size();
  const auto [rest, failure] = std::from_chars(word.data(), end, number);
  if (failure != std::errc() || rest != end) return std::nullopt;
  return number;
}

int run_program(int argc, char** argv, const std::string& description,
                const std::function<std::function<int()>(CLI::App&)>& setup) {
  const std::string program =
      argc > 0 ? std::filesystem::path(argv[0]).filename().string() : std::string("segcore");
  occupy_standard_streams();
  ignore_write_signals();
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
    flush_standard_output();
    log::flush();
    return code;
  } catch (...) {
    const int code = report_exception(program);
    log::flush();
    return code;
  }
}

}  // namespace

CLI::Option* add_cfg_options(CLI::App& app, std::vector<std::string>& overrides) {
  return app
      .add_option("--cfg-options", overrides,
                  "values that replace those of the config: model.decode_head.dropout_ratio=0.2 "
                  "param_scheduler.0.end=1500 'data_preprocessor.size=[512,512]'; quotes keep a "
                  "comma: 'work_dir=\"runs/a,b\"'")
      ->type_name("KEY=VALUE ...")
      ->expected(1, -1);
}

void add_launcher(CLI::App& app, std::optional<std::string>& launcher) {
  app.add_option("--launcher", launcher, "who started the processes: none, pytorch, slurm or mpi")
      ->type_name("NAME")
      ->check(known_word({"none", "pytorch", "slurm", "mpi"}));
  app.add_option("--local_rank,--local-rank", "set by older launchers; not used")->type_name("N");
}

void add_device(CLI::App& app, std::optional<std::string>& device) {
  app.add_option("--device", device, "auto, cpu, cuda or cuda:N (default: env_cfg.device)")
      ->type_name("DEVICE");
}

void add_quiet(CLI::App& app) {
  app.add_flag_callback(
      "--quiet", [] { log::set_details_on_console(false); },
      "keep the environment and the configuration out of the console; the log file has them");
}

CLI::Validator known_word(std::vector<std::string> words) {
  return {[words = std::move(words)](std::string& given) {
            if (std::find(words.begin(), words.end(), given) != words.end()) return std::string();
            return text("unknown value '", given, "'.", did_you_mean(given, words),
                        " Known: ", join(words, ", "));
          },
          ""};
}

CLI::Validator whole_number(int64_t least) {
  return {[least](std::string& given) {
            const auto number = number_in<int64_t>(given);
            if (number && *number >= least) return std::string();
            return text("must be a whole number of at least ", least, ", got '", given, "'");
          },
          ""};
}

CLI::Validator number_between(double least, double most) {
  return {[least, most](std::string& given) {
            const auto number = number_in<double>(given);
            if (number && *number >= least && *number <= most) return std::string();
            return text("must be a number between ", least, " and ", most, ", got '", given, "'");
          },
          ""};
}

void add_palette(CLI::App& app, std::vector<std::string>& words) {
  app.add_option("--palette", words,
                 "colours of the classes: '#e6194b' blue ..., a file with a colour a line, a "
                 "type of data set such as CityscapesDataset, or default (default: those of the "
                 "configuration's data set, else of the checkpoint)")
      ->type_name("COLOURS ...")
      ->expected(1, -1);
}

void run_main(int argc, char** argv, const std::string& description,
              const std::function<std::function<int()>(CLI::App&)>& setup) {
  end_process(run_program(argc, argv, description, setup));
}

}  // namespace seg
