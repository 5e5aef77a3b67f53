#include <array>
#include <cmath>
#include <utility>

#include "segcore/models/blocks/mlp.hpp"
#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/models/blocks/resampled_grid.hpp"
#include "segcore/models/blocks/whole_squares.hpp"
#include "segcore/models/encoders/block_outputs.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/models/encoders/published.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/ops/attention/attention.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

struct HieraVariant {
  const char* name;  ///< timm's
  const char* summary;
  int64_t dims, heads;            ///< of the first stage; they double with each
  std::array<int64_t, 4> stages;  ///< blocks
};

constexpr HieraVariant kHieras[] = {
    {"hiera_tiny_224", "Hiera, tiny.", 96, 1, {1, 2, 7, 2}},
    {"hiera_small_224", "Hiera, small.", 96, 1, {1, 2, 11, 2}},
    {"hiera_base_224", "Hiera, base.", 96, 1, {2, 3, 16, 3}},
    {"hiera_base_plus_224", "Hiera, base plus.", 112, 2, {2, 3, 16, 3}},
    {"hiera_large_224", "Hiera, large.", 144, 2, {2, 6, 36, 4}},
    {"hiera_huge_224", "Hiera, huge.", 256, 4, {2, 6, 36, 4}},
};

/// Tokens that are pooled to one, 2x2.
constexpr int64_t kHieraPool = 4;
/// Poolings that the order of the tokens allows: one before each stage but the first.
constexpr int64_t kHieraPoolings = 3;
/// Pixels between tokens of the first stage, and tokens along a window of it.
constexpr int64_t kHieraStride = 4, kHieraWindow = 1 << kHieraPoolings;

/// Dimensions of a map [N, H, W, C] whose sides are cut `levels` times in halves, such that
/// neighbours come in the order of poolings: [N, 2, 2, ..., h, w, C] by `orders` of a view
/// [N, h, 2, 2, ..., w, 2, 2, ..., C].
std::vector<int64_t> hiera_order(int64_t levels) {
  // The last halving of a side is the one of the finest neighbours, which are pooled first.
  std::vector<int64_t> order{0};
  for (int64_t level = 0; level < levels; ++level) {
    order.push_back(1 + levels - level);
    order.push_back(2 + 2 * levels - level);
  }
  order.insert(order.end(), {1, 2 + levels, 3 + 2 * levels});
  return order;
}

/// [N, C, H, W] -> [N, H * W, C], neighbours of `levels` poolings in the first places.
torch::Tensor hiera_tokens(const torch::Tensor& map, int64_t levels) {
  const int64_t side = int64_t{1} << levels;
  std::vector<int64_t> shape{map.size(0), map.size(2) / side};
  shape.insert(shape.end(), static_cast<size_t>(levels), 2);
  shape.push_back(map.size(3) / side);
  shape.insert(shape.end(), static_cast<size_t>(levels), 2);
  shape.push_back(map.size(1));
  return map.permute({0, 2, 3, 1})
      .reshape(shape)
      .permute(hiera_order(levels))
      .reshape({map.size(0), -1, map.size(1)});
}

/// The way back, for a map of this size.
torch::Tensor hiera_map(const torch::Tensor& tokens, Size2 size, int64_t levels) {
  const int64_t side = int64_t{1} << levels;
  const auto order = hiera_order(levels);
  std::vector<int64_t> shape{tokens.size(0)}, back(order.size());
  shape.insert(shape.end(), static_cast<size_t>(2 * levels), 2);
  shape.insert(shape.end(), {size.h / side, size.w / side, tokens.size(2)});
  for (size_t i = 0; i < order.size(); ++i)
    back[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
  return tokens.reshape(shape)
      .permute(back)
      .reshape({tokens.size(0), size.h, size.w, tokens.size(2)})
      .permute({0, 3, 1, 2})
      .contiguous();
}

/// The largest of each four neighbours, [N, L, C] -> [N, L / 4, C].
torch::Tensor hiera_pooled(const torch::Tensor& tokens) {
  return tokens.view({tokens.size(0), kHieraPool, -1, tokens.size(2)}).amax(1);
}

struct HieraBlockOptions {
  int64_t in = 0, out = 0, heads = 1;
  bool pools = false;
  int64_t window = 0;  ///< tokens of a window behind the pooling; 0: attention to all
  double drop_path = 0;
};

/// Attention inside windows or to all tokens; queries may be pooled: children `qkv`, `proj`.
class HieraAttention final : public Layer {
 public:
  explicit HieraAttention(const HieraBlockOptions& o) : o_(o) {
    qkv_ = register_module("qkv", std::make_shared<Linear>(o.in, 3 * o.out));
    proj_ = register_module("proj", std::make_shared<Linear>(o.out, o.out));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const int64_t n = x.size(0), length = x.size(1), width = o_.out / o_.heads;
    const int64_t inside = o_.window > 0 ? o_.window * (o_.pools ? kHieraPool : 1) : length;
    const auto qkv = qkv_->forward(x)
                         .view({n, inside, length / inside, 3, o_.heads, width})
                         .permute({3, 0, 4, 2, 1, 5})  // [3, N, heads, windows, tokens, width]
                         .unbind();
    auto q = qkv[0];
    if (o_.pools) {
      q = q.reshape({n, o_.heads, length / inside, kHieraPool, -1, width}).amax(3);
    }
    const auto out = attention(q, qkv[1], qkv[2]);
    return proj_->forward(out.transpose(1, 3).reshape({n, -1, o_.out}));
  }
  Linear& proj() { return *proj_; }

 private:
  HieraBlockOptions o_;
  std::shared_ptr<Linear> qkv_, proj_;
};

/// Attention and a feed-forward layer, each after a norm: children `norm1`, `proj` where the width
/// changes, `attn`, `norm2`, `mlp`.
class HieraBlock final : public Layer {
 public:
  explicit HieraBlock(const HieraBlockOptions& o) : pools_(o.pools) {
    const auto norm = Spec<Norm>::of("{type: LN, eps: 1e-6}");
    norm1_ = register_module("norm1", norm.build(o.in));
    if (o.in != o.out) proj_ = register_module("proj", std::make_shared<Linear>(o.in, o.out));
    attn_ = register_module("attn", std::make_shared<HieraAttention>(o));
    norm2_ = register_module("norm2", norm.build(o.out));
    mlp_ = register_module("mlp",
                           std::make_shared<Mlp>(MlpOptions{.dims = o.out, .hidden = 4 * o.out}));
    drop_path_ = register_module("drop_path", std::make_shared<DropPath>(o.drop_path));
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    const auto normed = norm1_->forward(x);
    auto shortcut = proj_ ? proj_->forward(normed) : x;
    if (pools_) shortcut = hiera_pooled(shortcut);
    const auto y = shortcut + drop_path_->forward(attn_->forward(normed));
    return y + drop_path_->forward(mlp_->forward(norm2_->forward(y)));
  }
  /// The deeper a block, the less it adds at first.
  void shrink(int64_t index) {
    const double by = std::sqrt(2.0 * static_cast<double>(index + 1));
    attn_->proj().weight.div_(by);
    mlp_->last().weight.div_(by);
  }

 private:
  bool pools_;
  std::shared_ptr<Norm> norm1_, norm2_;
  std::shared_ptr<Linear> proj_;  ///< null where the width stays
  std::shared_ptr<HieraAttention> attn_;
  std::shared_ptr<Mlp> mlp_;
  std::shared_ptr<DropPath> drop_path_;
};

/// A pyramid of transformer stages that pool queries, with timm's names.
///
/// Tokens keep one order through the network, in which neighbours that are pooled together, and
/// windows, are slices; maps are put into order again. Position embeddings are resized for images
/// of other sizes, which timm does not take.
class TimmHiera final : public Encoder {
 public:
  TimmHiera(const HieraVariant& v, const EncoderOptions& options)
      : Encoder({.name = text("tu-", v.name),
                 .channels = {0, v.dims, 2 * v.dims, 4 * v.dims, 8 * v.dims},
                 .published = timm_weights(v.name, {"mae_in1k_ft_in1k", "mae"}),
                 .classifier = {"head."},
                 .dilates = false,
                 .drops_paths = true},
                options),
        v_(v) {
    const Size2 image = options.img_size.value_or(224);
    if (image.h < kHieraStride || image.w < kHieraStride) {
      throw OptionError("img_size", text("must be at least ", kHieraStride, ", got ",
                                         Convert<Size2>::show(image)));
    }
    grid_ = {image.h / kHieraStride, image.w / kHieraStride};
    pos_embed_ = register_parameter("pos_embed", torch::zeros({1, grid_.h * grid_.w, v.dims}));
    patches_ = std::make_shared<Conv2d>(ConvOptions{.in_channels = in_channels(),
                                                    .out_channels = v.dims,
                                                    .kernel_size = 7,
                                                    .stride = kHieraStride,
                                                    .padding = 3});
    auto patch_embed = std::make_shared<Sequential>();
    patch_embed->push_back("proj", patches_);
    register_module("patch_embed", patch_embed);
    set_first_conv("patch_embed.proj.weight", patches_);
    add_blocks();
  }

  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    const Size2 grid = grid_of(images);
    std::vector<torch::Tensor> out{images};
    const auto outputs = tokens(images, depth() - 1);
    size_t last = 0;
    for (int64_t stage = 0; stage + 1 < depth(); ++stage) {
      last += static_cast<size_t>(v_.stages[static_cast<size_t>(stage)]);
      out.push_back(
          hiera_map(outputs[last - 1], {grid.h >> stage, grid.w >> stage}, kHieraPoolings - stage));
    }
    out.insert(out.begin() + 1, empty_half(images, out.back()));
    return out;
  }
  /// Tokens of blocks in the network's order, [N, L, C].
  std::vector<torch::Tensor> outputs_of(const std::vector<std::string>& names,
                                        const torch::Tensor& images) override {
    const auto stages = static_cast<int64_t>(v_.stages.size());
    return chosen_blocks(facts().name, names, tokens(images, stages));
  }

  std::vector<StageNames> layers() const override {
    return {StageNames{.embedding = {"pos_embed", "patch_embed."},
                       .blocks = "blocks.",
                       .num_blocks = static_cast<int64_t>(blocks_->size())}};
  }

  void init_weights() override {
    const torch::NoGradGuard no_grad;
    for_each_module(*this, [](torch::nn::Module& m) {
      if (dynamic_cast<Linear*>(&m)) trunc_normal_init(m, 0, 0.02);
    });
    patches_->reset_parameters();
    trunc_normal_(pos_embed_, 0, 0.02);
    for (size_t i = 0; i < blocks_->size(); ++i) (*blocks_)[i].shrink(static_cast<int64_t>(i));
  }

  void adapt_pretrained(Value& state) const override {
    Encoder::adapt_pretrained(state);
    const Value* found = state.find("pos_embed");
    if (!found || !found->is_tensor()) return;
    const auto fitted =
        resampled_position_embedding(found->as_tensor(), pos_embed_, /*front=*/0, grid_);
    if (fitted.defined()) state.set("pos_embed", fitted);
  }

 private:
  void add_blocks() {
    blocks_ = register_module("blocks", std::make_shared<ListOf<HieraBlock>>());
    int64_t total = 0;
    for (const int64_t blocks : v_.stages) total += blocks;
    const auto rates = drop_path_rates(drop_path_rate(), total);
    HieraBlockOptions o{.in = v_.dims, .heads = v_.heads, .window = kHieraWindow * kHieraWindow};
    for (size_t stage = 0; stage < v_.stages.size(); ++stage) {
      for (int64_t b = 0; b < v_.stages[stage]; ++b) {
        o.pools = stage > 0 && b == 0;
        o.out = v_.dims << stage;
        if (o.pools) {
          o.heads *= 2;
          o.window /= kHieraPool;
        } else if (stage >= 2) {
          o.window = 0;  // the block that pools into the third stage has windows yet
        }
        o.drop_path = rates[blocks_->size()];
        const auto block = blocks_->push_back(std::make_shared<HieraBlock>(o));
        if (static_cast<int64_t>(stage) + 2 > depth()) leave_untrained(*block);
        o.in = o.out;
      }
    }
  }
  /// Tokens of images, which are made of whole windows.
  Size2 grid_of(const torch::Tensor& images) const {
    const Size2 windows = whole_squares(images, kHieraStride * kHieraWindow, facts().name);
    return {windows.h * kHieraWindow, windows.w * kHieraWindow};
  }
  /// What the blocks of the first stages give.
  std::vector<torch::Tensor> tokens(const torch::Tensor& images, int64_t stages) {
    const Size2 grid = grid_of(images);
    const auto positions = resampled_grid(pos_embed_, grid_, grid);
    auto x = hiera_tokens(patches_->forward(images) + nlc_to_nchw(positions, grid), kHieraPoolings);
    int64_t blocks = 0;
    for (int64_t i = 0; i < stages; ++i) blocks += v_.stages[static_cast<size_t>(i)];
    std::vector<torch::Tensor> out;
    for (int64_t i = 0; i < blocks; ++i) {
      x = forward_block((*blocks_)[static_cast<size_t>(i)], x);
      out.push_back(x);
    }
    return out;
  }

  HieraVariant v_;
  Size2 grid_ = 0;  ///< of the position embeddings
  torch::Tensor pos_embed_;
  std::shared_ptr<Conv2d> patches_;
  std::shared_ptr<ListOf<HieraBlock>> blocks_;
};

std::vector<EncoderEntry> hiera_encoders() {
  std::vector<EncoderEntry> out;
  for (const auto& v : kHieras) {
    out.push_back({.name = text("tu-", v.name),
                   .summary = v.summary,
                   .source = "Ryali et al. 2023, arXiv:2306.00989",
                   .build = [v](const EncoderOptions& options) {
                     return std::make_shared<TimmHiera>(v, options);
                   }});
  }
  return out;
}
SEG_REGISTER_ENCODERS(hiera_encoders);

}  // namespace
}  // namespace seg
