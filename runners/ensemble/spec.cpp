#include "runners/ensemble/spec.hpp"

#include <algorithm>

#include "registry/log.hpp"
#include "registry/merge.hpp"
#include "registry/schema.hpp"

namespace seg {
namespace {

/// The top level before its sweeps are read.
struct EnsembleFile {
  Config members, meta;
  std::vector<double> weights;
  std::vector<std::string> test_args;
  int64_t pictures = 8;
  static Schema<EnsembleFile> schema() {
    using P = EnsembleFile;
    return Schema<P>("Base models, and meta models that learn from their predictions.")
        .required("members", &P::members, "a sweep of the base models")
        .optional("meta", &P::meta,
                  "a sweep of the meta models, whose pipelines begin with LoadSoftPredictions; "
                  "null: only the means of the members")
        .optional("weights", &P::weights,
                  "of the members in the weighted mean; not given: the best validations of each",
                  above(0))
        .optional("test_args", &P::test_args, "further arguments of tools/test")
        .optional("pictures", &P::pictures, "images of the test set that are drawn", at_least(0));
  }
};

}  // namespace

EnsembleSpec load_ensemble(const std::string& path, const std::vector<std::string>& overrides) {
  Diagnostics problems;
  Config tree = detail::load_changes(path, overrides, problems);
  std::erase_if(tree.map, [](const Config::Item& item) { return item.referred; });
  for (Config::Item& item : tree.map) detail::strip_delete(item.value);
  const auto file = EnsembleFile::schema().parse(tree, "", "", problems);
  EnsembleSpec out;
  out.weights = file.weights;
  out.test_args = file.test_args;
  out.pictures = file.pictures;
  if (problems.has_errors()) throw ConfigError(problems);
  out.members = read_sweep(file.members, "members", problems);
  if (!file.meta.is_null()) out.meta = read_sweep(file.meta, "meta", problems);
  if (problems.has_errors()) throw ConfigError(problems);
  if (const std::string warnings = problems.warnings_text(); !warnings.empty()) {
    log::warn(warnings);
  }
  return out;
}

std::vector<OptionDoc> ensemble_docs() { return EnsembleFile::schema().docs(); }

}  // namespace seg
