/// The colours of classes in all pictures of a program.
#pragma once
#include <string>
#include <vector>

#include "segcore/data/dataset.hpp"
#include "segcore/data/palette.hpp"
#include "segcore/io/value.hpp"

namespace seg {

/// Colours of the command line: "default", the type of a data set ("CityscapesDataset" or
/// "cityscapes"), "#e6194b blue ...", or a file with a colour a line ("230 25 75", "#e6194b").
/// \throws UsageError
Palette palette_option(const std::vector<std::string>& words);

/// The first that has a colour for each class: `option`, the data set of the config, the
/// checkpoint's `dataset_meta`; else the default ones.
/// \param option  of `palette_option`; empty: not given.
/// \param data    null where the config has no data set that can be asked.
/// \throws UsageError where `option` is too short.
Palette run_palette(const Palette& option, const DatasetMeta* data, const Value& checkpoint,
                    int64_t classes);

}  // namespace seg
