/// A backbone as the encoder of a model of segmentation_models_pytorch.
#pragma once
#include <memory>

#include "segcore/models/backbone.hpp"
#include "segcore/models/smp/encoder.hpp"

namespace seg::smp {

/// Gives each decoder's level the backbone's map of its stride. Where the backbone begins at 1/4,
/// the map of 1/2 has no channels, as the library does for timm's encoders.
///
/// The backbone itself is what the model registers, so that its tensors keep their names.
/// \param options  of the model; weights are the backbone's own affair.
/// \throws OptionError where the backbone lacks a map.
std::shared_ptr<Encoder> encoder_of(std::shared_ptr<Backbone> backbone,
                                    const EncoderOptions& options);

}  // namespace seg::smp
