/// The base of the models of segmentation_models_pytorch: encoder, decoder, segmentation head.
#pragma once
#include "segcore/models/backbone.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/segmentors/logit_segmentor.hpp"
#include "segcore/models/smp/modules.hpp"

namespace seg::smp {

/// The option `aux_params`.
struct AuxParams {
  int64_t classes = 0;
  std::string pooling = "avg";
  double dropout = 0.2;
  std::optional<std::string> activation;
  static Schema<AuxParams> schema();
};

/// The options of every model.
struct ModelParams {
  std::string encoder_name = "resnet34";
  int64_t encoder_depth = 5;
  std::optional<std::string> encoder_weights = "imagenet";
  std::optional<Spec<Backbone>> encoder;
  int64_t in_channels = 3;
  int64_t classes = 1;
  std::optional<std::string> activation;
  std::optional<AuxParams> aux_params;
  // Left to its users by the library.
  std::optional<OneOrMany<Spec<Loss>>> loss_decode;
  std::optional<int64_t> ignore_index = 255;
  double threshold = 0.5;
  std::optional<TestCfg> test_cfg;
  std::optional<Spec<DataPreProcessor>> data_preprocessor;
  InitCfg init_cfg;
  /// The library's decoders treat VGG's last map apart.
  bool is_vgg() const { return !encoder && encoder_name.starts_with("vgg"); }
};

/// ModelParams of models whose encoder can be dilated.
struct DilatedModelParams : ModelParams {
  int64_t encoder_output_stride = 16;
};

/// For options that allow only two strides.
inline Check<int64_t> one_of_two(int64_t a, int64_t b) {
  return {[a, b](const int64_t& v) {
            return v == a || v == b ? std::string() : text("must be ", a, " or ", b, ", got ", v);
          },
          {}};
}

/// The schema of a model's own struct P, which derives from ModelParams and may change defaults.
/// `min_depth`: of the encoder, by what the decoder joins.
template <class P>
Schema<P> model_schema(const std::string& summary, int64_t min_depth = 1) {
  Schema<P> schema(summary);
  schema
      .optional("encoder_name", &P::encoder_name, "the network that makes the maps",
                one_of(EncoderTable::instance().names()))
      .optional("encoder_depth", &P::encoder_depth, "halvings of the image in the encoder",
                in_range(static_cast<double>(min_depth), 5))
      .optional("encoder_weights", &P::encoder_weights,
                "published weights of the encoder by name, or a file; null: random ones")
      .optional("encoder", &P::encoder,
                "a backbone instead of encoder_name and encoder_weights, whose maps have the "
                "strides 4, 8, ...; null: encoder_name")
      .optional("in_channels", &P::in_channels, "bands of the images", at_least(1))
      .optional("classes", &P::classes, "output channels; 1: two classes by a threshold",
                at_least(1))
      .optional("activation", &P::activation,
                "function of the output; losses and classes are those of the logits before it",
                one_of(output_activations()))
      .optional("aux_params", &P::aux_params,
                "a head that classifies whole images, for weights that have one; not trained here: "
                "data sets have no labels of images")
      .optional("loss_decode", &P::loss_decode,
                "training objective, or a list of them; null: cross entropy, binary for one class")
      .optional("ignore_index", &P::ignore_index, "label without loss; null: none")
      .optional("threshold", &P::threshold,
                "probability above which a pixel belongs to the class, for classes 1",
                in_range(0, 1))
      .optional("test_cfg", &P::test_cfg, "prediction of whole images or by a sliding window")
      .optional("data_preprocessor", &P::data_preprocessor, "normalises and pads; null: neither")
      .optional("init_cfg", &P::init_cfg, "initialisation, after the library's own")
      .accepted("train_cfg", "has no effect: it is for heads that sample points")
      .validate([](const P& p, Problems& problems) {
        if (p.aux_params) {
          problems.warn("aux_params",
                        "the head that classifies images keeps the weights it is given: data sets "
                        "have no labels of images to train it by");
        }
      });
  return schema;
}

/// An encoder, a decoder and a convolution to the classes.
///
/// segmentation_models_pytorch 0.6.0, Iakubovskii 2019.
class SegmentationModel : public LogitSegmentor {
 public:
  static SegmentorFacts facts(const ModelParams& p) {
    return {.heads = {{p.classes == 1 ? 2 : p.classes, "classes"}}};
  }
  std::vector<torch::Tensor> extract_feat(const torch::Tensor& images) override;
  int64_t num_classes() const override { return classes_ == 1 ? 2 : classes_; }
  int64_t ignore_index() const override { return ignore_index_; }
  /// Outputs of the head of `aux_params`, [N, its classes].
  torch::Tensor classify(const torch::Tensor& images);

 protected:
  LossMap compute_loss(const torch::Tensor& images, const Targets& targets) override;
  struct HeadOptions {
    int64_t in_channels = 0, kernel_size = 3, upsampling = 1;
  };
  /// \param initialised  the head starts from Xavier's uniform, not from PyTorch's defaults.
  SegmentationModel(const ModelParams& p, int64_t output_stride = 32, bool initialised = true);
  /// Models call it once, in their constructor.
  void set_decoder(const std::shared_ptr<Decoder>& decoder, const HeadOptions& head);
  const Encoder& encoder() const { return *encoder_; }
  /// \throws OptionError where the encoder has no map of 1/2 of the images' size.
  void require_half_size_map() const;
  /// \throws OptionError where the encoder's maps are not halves of each other.
  void require_halves() const;

  torch::Tensor logits(const torch::Tensor& images, const std::vector<int64_t>&) override;
  torch::Tensor output(const torch::Tensor& logits) override {
    return output_activation(activation_, logits);
  }
  bool align_corners() const override { return false; }
  double threshold() const override { return threshold_; }
  /// Whether images must be multiples of the encoder's stride.
  virtual bool needs_whole_strides() const { return true; }

 private:
  int64_t classes_, ignore_index_;
  double threshold_;
  std::optional<std::string> activation_;
  std::optional<AuxParams> aux_;
  std::shared_ptr<Encoder> encoder_;
  std::shared_ptr<Decoder> decoder_;
  std::shared_ptr<Sequential> head_;
  std::shared_ptr<Sequential> classifier_;  ///< may be null
  std::vector<std::shared_ptr<Loss>> losses_;
};

/// Options of decoders in the shape of a U-Net.
struct UpDecoderParams : ModelParams {
  DecoderNorm decoder_use_norm;
  std::optional<DecoderNorm> decoder_use_batchnorm;
  std::vector<int64_t> decoder_channels{256, 128, 64, 32, 16};
  std::string decoder_interpolation = "nearest";
  const NormCfg& norm() const {
    return decoder_use_batchnorm ? decoder_use_batchnorm->cfg : decoder_use_norm.cfg;
  }
};

/// Adds them to the schema of a model's own struct.
template <class P>
Schema<P>& add_up_decoder_options(Schema<P>& schema) {
  return schema
      .optional("decoder_use_norm", &P::decoder_use_norm,
                "norm of the decoder: batchnorm (true), identity (false), instancenorm, or a "
                "mapping with its options")
      .optional("decoder_use_batchnorm", &P::decoder_use_batchnorm,
                "the older name of decoder_use_norm, which it replaces")
      .optional("decoder_channels", &P::decoder_channels,
                "width of each block of the decoder, coarsest first", at_least(1))
      .optional("decoder_interpolation", &P::decoder_interpolation, "how maps are enlarged",
                one_of(interpolation_modes()))
      .validate([](const P& p, Problems& problems) {
        if (static_cast<int64_t>(p.decoder_channels.size()) != p.encoder_depth) {
          problems.error("decoder_channels",
                         text("needs ", p.encoder_depth, " values (encoder_depth), got ",
                              p.decoder_channels.size()));
        }
      });
}

}  // namespace seg::smp
