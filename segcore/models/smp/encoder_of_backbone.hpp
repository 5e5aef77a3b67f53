/// A backbone as the encoder of a model of segmentation_models_pytorch.
#pragma once
#include <memory>

#include "segcore/models/backbone.hpp"
#include "segcore/models/encoders/encoder.hpp"

namespace seg::smp {

/// Each level of a decoder takes the backbone's map of its stride. Where the backbone starts at
/// 1/4, the map of 1/2 has no channels, as for timm's encoders in the library.
///
/// The backbone itself is what the model registers, so that its tensors keep their names.
/// \param options  of the model; its weights are ignored: the backbone has its own.
/// \throws OptionError where the backbone lacks a map.
std::shared_ptr<Encoder> encoder_of(std::shared_ptr<Backbone> backbone,
                                    const EncoderOptions& options);

}  // namespace seg::smp
