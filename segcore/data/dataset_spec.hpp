/// Data sets inside of wrappers, and edits of their configs. Schemas declare which options hold
/// data sets and which the pipeline, so wrappers of any name are understood.
#pragma once
#include <functional>

#include "segcore/data/dataset.hpp"

namespace seg {

/// Calls `use` for the config of each data set that a wrapper holds, in a config that was not read
/// yet.
void for_inner_datasets(Config& dataset, const std::function<void(Config&)>& use);

/// The first data set inside of all wrappers; the given one where it wraps none.
Spec<Dataset> innermost_dataset(const Spec<Dataset>& spec);

/// The same data set with `lazy_init: true`, also inside of wrappers: building it needs no files.
Spec<Dataset> lazy_dataset(const Spec<Dataset>& spec);

/// The pipeline of the first data set inside of all wrappers, in a config that was not read yet;
/// null where it has none.
const Config* dataset_pipeline(Config& dataset);

/// The data set with each image once and as it is: without wrappers of a single one, which repeat
/// or mix samples. Of a config that was not read yet.
Config unwrapped_dataset(const Config& dataset);

/// Gives each data set inside of all wrappers another pipeline, in a config that was not read yet.
void set_dataset_pipeline(Config& dataset, const Config& pipeline);

}  // namespace seg
