/// Facts of data sets that are known from their specs, before anything is built. Schemas declare
/// which options hold data sets and which the pipeline, so wrappers of any name are understood.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "segcore/data/dataset.hpp"
#include "segcore/data/transform.hpp"

namespace seg {

/// The data sets that a wrapper repeats or joins; empty for one that has samples of its own.
std::vector<Spec<Dataset>> inner_datasets(const Spec<Dataset>& spec);
/// The first data set inside of all wrappers; the given one where it wraps none.
Spec<Dataset> innermost_dataset(const Spec<Dataset>& spec);
/// The pipeline of the innermost data set; nothing where its config gives none.
std::optional<std::vector<Spec<Transform>>> dataset_pipeline(const Spec<Dataset>& spec);
/// The names that `metainfo: {classes: [...]}` of the innermost data set gives; nothing where it
/// names a file or leaves the data set its own classes.
std::optional<std::vector<std::string>> named_classes(const Spec<Dataset>& spec);

/// The same data set with `lazy_init: true`, also inside of wrappers: building it needs no files.
Spec<Dataset> lazy_dataset(const Spec<Dataset>& spec);

/// Gives each data set inside of all wrappers another pipeline, in a config that was not read yet.
void set_dataset_pipeline(Config& dataset, const Config& pipeline);

}  // namespace seg
