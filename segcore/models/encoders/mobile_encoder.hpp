/// Encoders of mobile networks and EfficientNets: a stem, and stages of blocks that rows of a table
/// describe.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "segcore/models/blocks/mobile_block.hpp"
#include "segcore/models/encoders/chain_encoder.hpp"
#include "segcore/models/encoders/encoder_table.hpp"

namespace seg {

/// Blocks of one kind. The first takes the stride.
struct MobileRow {
  int stage = 0;
  MobileKind kind = MobileKind::kInverted;
  int64_t repeats = 1, kernel = 3, stride = 1;
  double expand = 1;  ///< middle width over the input's
  int64_t channels = 0;
  double squeeze = 0;  ///< width of squeeze and excitation over the input's or the middle one
  ActivationFn act = nullptr;  ///< null: the network's
  bool shortcut = true;        ///< where the block keeps width and size
  bool acts_last = false;
  int64_t start_kernel = 0;                        ///< of MobileKind::kUniversal
  int64_t heads = 0, key_dim = 0, key_stride = 1;  ///< of MobileKind::kAttention
};

struct MobileNetwork {
  std::span<const MobileRow> rows;
  int64_t stem = 32;
  double width = 1, depth = 1;  ///< factors of the rows' widths and numbers of blocks
  bool keeps_stem = false;      ///< whether the factor of widths leaves out the stem
  bool keeps_ends = false;  ///< whether the factor of depths leaves out the first and last stage
  MobileStyle style;
  /// Squeeze and excitation has a share of the middle width, a multiple of 8, instead of the
  /// input's.
  bool squeezes_middle = false;
  int64_t head = 0;             ///< width of the last convolution; 0: none
  bool head_makes_map = false;  ///< whether its output is the last map
  bool stem_makes_map = false;  ///< whether the first map is the stem's, not the first stage's
  /// Blocks, counted through all stages, after which the map of 1/16 is taken; 0: after its last.
  int64_t fourth_map_after = 0;
  bool numbers_stages = true;          ///< whether names count blocks in each stage, or through all
  bool counts_one_level_more = false;  ///< ChainEncoder::run_one_level_more
  /// Strides that become dilations: timm dilates the blocks that follow, others the whole stage.
  bool dilates_following = false;
  int64_t nominal_size = 0;  ///< of the images, for MobilePadding::kNominal
  enum class Start { kKaiming, kGroupFanOut, kTorch } start = Start::kKaiming;
  bool drops_paths = true;
  double drop_path_rate = 0;            ///< where the encoder's options have none
  std::vector<std::string> classifier;  ///< as EncoderFacts
};

/// MobileNetV1 to V4 and EfficientNets of timm, torchvision and segmentation_models_pytorch.
class MobileEncoder final : public ChainEncoder {
 public:
  MobileEncoder(const std::string& name, const MobileNetwork& network,
                std::vector<EncoderWeights> published, const EncoderOptions& options);
  void init_weights() override;

 private:
  void add_stem(const MobileNetwork& n);
  void add_head(const MobileNetwork& n, int64_t in, size_t layers);

  MobileNetwork::Start start_;
};

/// The entry of a network in the table of encoders.
EncoderEntry mobile_entry(const std::string& name, const std::string& summary,
                          const std::string& source, const MobileNetwork& network,
                          const std::vector<EncoderWeights>& published);

}  // namespace seg
