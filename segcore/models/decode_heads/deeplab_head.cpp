#include "segcore/models/decode_head.hpp"
#include "segcore/torch.hpp"

namespace seg {

struct DeepLabHeadParams : DecodeHeadParams {
  DeepLabHeadParams() {
    dropout_ratio = 0.5;
    init_cfg = init_cfg_of("{type: Normal, std: 0.01, layer: Conv2d}");
  }
  std::vector<int64_t> dilations{6, 12, 18, 24};
};

/// The heads of DeepLab v1 and v2, without the random field that both run on the result.
///
/// A branch for each dilation; their scores are summed. On VGG (`channels: 1024`) a branch is a
/// dilated 3x3 convolution and two 1x1 ones: one branch of dilation 12 is v1's LargeFOV, four are
/// v2's ASPP-L. On ResNet v2 has none between (`channels` 0): each dilated convolution scores.
class DeepLabHead final : public DecodeHead {
 public:
  using Params = DeepLabHeadParams;
  static Schema<Params> schema() {
    using P = Params;
    return Schema<P>("DeepLab v1 and v2: sums of the scores of dilated convolutions.")
        .source("Chen et al. 2014, arXiv:1412.7062, and 2016, arXiv:1606.00915")
        .include(DecodeHead::base_schema(/*channels_required=*/false))
        .optional("dilations", &P::dilations, "one branch for each", at_least(1))
        .validate([](const P& p, Problems& problems) {
          if (p.dilations.empty()) problems.error("dilations", "must not be empty");
        });
  }
  DeepLabHead(const Params& p, const std::vector<FeatureInfo>& inputs)
      : DecodeHead(with_some_channels(p), inputs) {
    remove_conv_seg();
    branches_ = register_module("branches", std::make_shared<ListOf<Sequential>>());
    for (const int64_t dilation : p.dilations) {
      auto branch = std::make_shared<Sequential>();
      const auto conv = [&](const std::string& name, int64_t in, int64_t out, int64_t kernel_size) {
        branch->push_back(name, std::make_shared<Conv2d>(
                                    ConvOptions{.in_channels = in,
                                                .out_channels = out,
                                                .kernel_size = kernel_size,
                                                .padding = kernel_size / 2 * dilation,
                                                .dilation = kernel_size > 1 ? dilation : 1}));
      };
      const auto relu_and_drop = [&](const std::string& number) {
        branch->push_back("relu" + number, std::make_shared<Lambda>(
                                               [](const torch::Tensor& x) { return x.relu(); }));
        branch->push_back("drop" + number,
                          std::make_shared<Dropout2d>(std::max(p.dropout_ratio, 0.0)));
      };
      if (p.channels > 0) {
        conv("fc6", in_channels(), p.channels, 3);
        relu_and_drop("6");
        conv("fc7", p.channels, p.channels, 1);
        relu_and_drop("7");
        conv("fc8", p.channels, out_channels(), 1);
      } else {
        conv("fc1", in_channels(), out_channels(), 3);
      }
      branches_->push_back(branch);
    }
  }
  using DecodeHead::forward;
  torch::Tensor forward(const std::vector<torch::Tensor>& features) override {
    const auto x = select_one(features);
    torch::Tensor out;
    for (const auto& branch : *branches_) {
      const auto scores = branch->forward(x);
      out = out.defined() ? out + scores : scores;
    }
    return out;
  }

 private:
  static DecodeHeadParams with_some_channels(DecodeHeadParams p) {
    p.channels = std::max<int64_t>(p.channels, 1);  // the base builds a classifier of them
    return p;
  }

  std::shared_ptr<ListOf<Sequential>> branches_;
};
SEG_REGISTER(DecodeHead, DeepLabHead);

}  // namespace seg
