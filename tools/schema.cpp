/// Writes the JSON Schema of configurations, with which editors complete and check them.
#include <iostream>

#include "registry/json_schema.hpp"
#include "runners/ensemble/spec.hpp"
#include "runners/start/run_config.hpp"
#include "runners/sweep/spec.hpp"
#include "segcore/io/atomic_file.hpp"
#include "tools/common/command_line.hpp"
#include "tools/common/help.hpp"

int main(int argc, char** argv) {
  seg::run_main(
      argc, argv,
      "Writes the JSON Schema (draft 07) of configurations, sweeps or ensembles. Editors with YAML "
      "support "
      "use it to "
      "complete and check configs: begin a file with '# yaml-language-server: $schema=PATH'. It "
      "requires no options, because a base may set them.",
      [](CLI::App& app) {
        seg::add_help(app, {.example = "tools/schema --out schema.json", .exit_codes = {}});
        auto out = std::make_shared<std::string>();
        auto what = std::make_shared<std::string>("config");
        app.add_option("of", *what, "config (default); sweep or ensemble: a file of those tools")
            ->check(seg::known_word({"config", "sweep", "ensemble"}));
        app.add_option("--out", *out, "the file to write (default: standard output)")
            ->type_name("FILE");
        return [out, what] {
          const std::string schema =
              *what == "sweep"      ? seg::json_schema(seg::sweep_docs(), "Sweep of segcore")
              : *what == "ensemble" ? seg::json_schema(seg::ensemble_docs(), "Ensemble of segcore")
                                    : seg::json_schema(seg::run_config_docs());
          if (out->empty()) {
            std::cout << schema << std::flush;
          } else {
            seg::write_file_atomically(*out, schema);
          }
          return 0;
        };
      });
}
