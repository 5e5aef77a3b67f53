#include <algorithm>
#include <cmath>

#include "registry/error.hpp"
#include "segcore/models/backbone.hpp"
#include "segcore/models/backbones/plain_transformer.hpp"
#include "segcore/models/blocks/patch_embed.hpp"
#include "segcore/models/blocks/position_embedding.hpp"
#include "segcore/models/blocks/transformer.hpp"
#include "segcore/models/blocks/windows.hpp"
#include "segcore/models/weights/adapts_pretrained.hpp"
#include "segcore/torch.hpp"

namespace seg {

/// The options that BEiT and MAE share.
struct MAEParams : PlainTransformerParams {
  double init_values = 0.1;

  static Schema<MAEParams> schema();
};

struct BEiTParams : MAEParams {
  bool qv_bias = true;
};

namespace {

/// What distinguishes the attention of the two.
struct BEiTAttentionKind {
  enum class Bias { kNone, kQueryValue, kAll } bias = Bias::kNone;
  bool of_mae = false;  ///< an init_cfg leaves tables at zero and starts deep layers smaller
};

/// Places of the table of biases for each pair of tokens, [1 + h * w, 1 + h * w]: by the relative
/// position, and three more from the class token, to it, and from it to itself.
torch::Tensor beit_relative_position_index(Size2 grid) {
  const auto rows = torch::arange(grid.h, torch::kLong).repeat_interleave(grid.w);
  const auto columns = torch::arange(grid.w, torch::kLong).repeat({grid.h});
  const auto between = [](const torch::Tensor& x) { return x.unsqueeze(1) - x.unsqueeze(0); };
  const int64_t span = 2 * grid.w - 1, pairs = (2 * grid.h - 1) * span;
  const auto places = (between(rows) + (grid.h - 1)) * span + (between(columns) + (grid.w - 1));
  auto index = at::constant_pad_nd(places, {1, 0, 1, 0});
  index.select(0, 0).fill_(pairs);
  index.select(1, 0).fill_(pairs + 1);
  index[0][0].fill_(pairs + 2);
  return index;
}

/// Attention with a learned bias for each relative position: parameters `q_bias`, `v_bias`,
/// `relative_position_bias_table`, children `qkv`, `proj`.
class BEiTAttention final : public BaseModule, public DropsValues {
 public:
  BEiTAttention(const MAEParams& p, BEiTAttentionKind kind)
      : heads_(p.num_heads), attn_drop_(p.attn_drop_rate), table_from_zero_(kind.of_mae) {
    const int64_t dims = p.embed_dims;
    if (kind.bias == BEiTAttentionKind::Bias::kQueryValue) {
      q_bias_ = register_parameter("q_bias", torch::zeros({dims}));
      v_bias_ = register_parameter("v_bias", torch::zeros({dims}));
    }
    const Size2 grid = p.grid();
    const int64_t places = (2 * grid.h - 1) * (2 * grid.w - 1) + 3;
    table_ =
        register_parameter("relative_position_bias_table", torch::zeros({places, p.num_heads}));
    index_ = register_buffer("relative_position_index", beit_relative_position_index(grid));
    qkv_ = register_module("qkv", std::make_shared<Linear>(
                                      dims, 3 * dims, kind.bias == BEiTAttentionKind::Bias::kAll));
    proj_ = register_module("proj", std::make_shared<Linear>(dims, dims));
  }

  /// x [N, 1 + h * w, C]
  torch::Tensor forward(const torch::Tensor& x) {
    const int64_t n = x.size(0), length = x.size(1), c = x.size(2);
    const auto bias =
        q_bias_.defined() ? at::cat({q_bias_, at::zeros_like(q_bias_), v_bias_}) : qkv_->bias;
    const auto qkv = at::linear(x, qkv_->weight, bias)
                         .view({n, length, 3, heads_, c / heads_})
                         .permute({2, 0, 3, 1, 4});  // [3, N, heads, L, C / heads]
    const auto out = at::scaled_dot_product_attention(qkv[0], qkv[1], qkv[2],
                                                      relative_position_bias(table_, index_),
                                                      is_training() ? attn_drop_ : 0.0);
    return proj_->forward(out.transpose(1, 2).reshape({n, length, c}));
  }
  void set_drop_probability(double p) override { attn_drop_ = p; }
  void init_weights() override {
    if (!table_from_zero_) trunc_normal_(table_, 0, 0.02);
  }

 private:
  int64_t heads_;
  double attn_drop_;
  bool table_from_zero_;
  torch::Tensor q_bias_, v_bias_;  ///< undefined for other biases
  torch::Tensor table_, index_;
  std::shared_ptr<Linear> qkv_, proj_;
};

/// Attention and a feed-forward block, each after a norm and scaled by channel: children `ln1`,
/// `attn`, `ln2`, `ffn`, parameters `gamma_1`, `gamma_2`.
class BEiTBlock final : public BaseModule {
 public:
  BEiTBlock(const MAEParams& p, BEiTAttentionKind kind, double drop_path) {
    const auto scale = [&](const char* name) {
      return register_parameter(name, torch::full({p.embed_dims}, p.init_values));
    };
    gamma1_ = scale("gamma_1");
    gamma2_ = scale("gamma_2");
    norm1_ = register_norm(*this, p.norm_cfg, p.embed_dims, "1");
    attn_ = register_module("attn", std::make_shared<BEiTAttention>(p, kind));
    norm2_ = register_norm(*this, p.norm_cfg, p.embed_dims, "2");
    ffn_ = register_module(
        "ffn", std::make_shared<FFN>(FFNOptions{.embed_dims = p.embed_dims,
                                                .feedforward_channels = p.mlp_ratio * p.embed_dims,
                                                .num_fcs = p.num_fcs,
                                                .act_cfg = p.act_cfg,
                                                .add_identity = false}));
    drop_path_ = register_module("drop_path", std::make_shared<DropPath>(drop_path));
  }
  torch::Tensor forward(const torch::Tensor& x) {
    const auto y = x + drop_path_->forward(gamma1_ * attn_->forward(norm1_->forward(x)));
    return y + drop_path_->forward(gamma2_ * ffn_->forward(norm2_->forward(y)));
  }

 private:
  torch::Tensor gamma1_, gamma2_;
  std::shared_ptr<Norm> norm1_, norm2_;
  std::shared_ptr<BEiTAttention> attn_;
  std::shared_ptr<FFN> ffn_;
  std::shared_ptr<DropPath> drop_path_;
};

/// The values of a cubic spline (not-a-knot, as FITPACK's of degree 3 without smoothing) through
/// values at `nodes`, as a matrix [points, nodes]; beyond the nodes the last value holds.
torch::Tensor spline_matrix(const std::vector<double>& nodes, const std::vector<double>& points) {
  const auto n = static_cast<int64_t>(nodes.size());
  const auto h = [&](int64_t i) { return nodes[i + 1] - nodes[i]; };
  // Second derivatives M solve `left` M = `right` y.
  auto left = torch::zeros({n, n}, torch::kFloat64), right = torch::zeros_like(left);
  auto l = left.accessor<double, 2>(), r = right.accessor<double, 2>();
  for (int64_t i = 1; i + 1 < n; ++i) {
    l[i][i - 1] = h(i - 1);
    l[i][i] = 2 * (h(i - 1) + h(i));
    l[i][i + 1] = h(i);
    r[i][i - 1] = 6 / h(i - 1);
    r[i][i] = -6 / h(i - 1) - 6 / h(i);
    r[i][i + 1] = 6 / h(i);
  }
  for (const int64_t i : {int64_t{0}, n - 3}) {
    const int64_t row = i == 0 ? 0 : n - 1;
    l[row][i] = h(i + 1);
    l[row][i + 1] = -h(i) - h(i + 1);
    l[row][i + 2] = h(i);
  }
  const auto count = static_cast<int64_t>(points.size());
  auto values = torch::zeros({count, n}, torch::kFloat64), curves = torch::zeros_like(values);
  auto v = values.accessor<double, 2>(), m = curves.accessor<double, 2>();
  for (int64_t k = 0; k < count; ++k) {
    const double x = std::clamp(points[k], nodes.front(), nodes.back());
    const auto after = std::upper_bound(nodes.begin() + 1, nodes.end() - 1, x);
    const int64_t i = after - nodes.begin() - 1;
    const double b = (x - nodes[i]) / h(i), a = 1 - b;
    v[k][i] = a;
    v[k][i + 1] = b;
    m[k][i] = (a * a * a - a) * h(i) * h(i) / 6;
    m[k][i + 1] = (b * b * b - b) * h(i) * h(i) / 6;
  }
  return values + at::matmul(curves, at::linalg_solve(left, right));
}

/// Resizes one dimension of a table of relative positions: those near zero keep their distances,
/// those far from it are spread by a geometric sequence, as in BEiT's repository.
torch::Tensor beit_resizing(int64_t from, int64_t to) {
  double low = 1.01, high = 1.5, q = 0;
  while (high - low > 1e-6) {
    q = (low + high) / 2;
    const double reach = (1 - std::pow(q, from / 2)) / (1 - q);
    if (reach > static_cast<double>(to / 2)) {
      high = q;
    } else {
      low = q;
    }
  }
  std::vector<double> nodes{0}, points;
  double distance = 1;
  for (int64_t i = 0; i < from / 2; ++i) {
    nodes.insert(nodes.begin(), -distance);
    nodes.push_back(distance);
    distance += std::pow(q, i + 1);
  }
  for (int64_t i = 0; i < to; ++i) points.push_back(static_cast<double>(i - to / 2));
  return spline_matrix(nodes, points);
}

/// A table of biases, [(2 * side - 1)^2 + 3, heads], for another grid; undefined where it fits or
/// is not that of a square.
torch::Tensor beit_resized_table(const torch::Tensor& theirs, const torch::Tensor& mine,
                                 Size2 grid) {
  constexpr int64_t kOthers = 3;  // from, to and of the class token
  if (theirs.dim() != 2 || theirs.size(1) != mine.size(1) || theirs.size(0) == mine.size(0)) {
    return {};
  }
  const int64_t pairs = theirs.size(0) - kOthers, heads = theirs.size(1);
  if (pairs < 25) return {};  // a cubic spline needs four nodes
  const auto side = static_cast<int64_t>(std::sqrt(static_cast<double>(pairs)) + 1e-6);
  if (side % 2 == 0 || side * side != pairs) return {};
  const auto values = theirs.to(torch::kFloat64);
  auto table = values.narrow(0, 0, pairs).t().reshape({heads, side, side});
  const auto rows = beit_resizing(side, 2 * grid.h - 1);
  const auto columns = beit_resizing(side, 2 * grid.w - 1);
  table = at::matmul(at::matmul(rows, table), columns.t());  // [heads, rows, columns]
  return at::cat({table.reshape({heads, -1}).t(), values.narrow(0, pairs, kOthers)})
      .to(torch::kFloat32)
      .contiguous();
}

}  // namespace

Schema<MAEParams> MAEParams::schema() {
  using P = MAEParams;
  return Schema<P>("")
      .optional("img_size", &P::img_size,
                "size of the images, which must have it: predict by a sliding window",
                sides_at_least(1))
      .include(PlainTransformerParams::schema())
      .optional("init_values", &P::init_values, "first value of the scales of blocks")
      .validate([](const P& p, Problems& problems) {
        if (p.img_size.h < p.patch_size || p.img_size.w < p.patch_size) {
          problems.error("img_size", text("must be at least patch_size, ", p.patch_size));
        }
      });
}

/// What BEiT and MAE have in common: a plain transformer over patches of images of one size.
class BEiTBase : public Backbone, public AdaptsPretrained {
 public:
  std::vector<torch::Tensor> forward(const torch::Tensor& images) override {
    auto [x, size] = patch_embed_->forward(images);
    if (size != grid_) {
      throw DataError(text("images of ", images.size(2), "x", images.size(3), " do not fit this ",
                           type_, ", which was built for ", params_.img_size.h, "x",
                           params_.img_size.w,
                           ". Train on crops of that size and predict by a sliding window, "
                           "test_cfg: {mode: slide, crop_size: [",
                           params_.img_size.h, ", ", params_.img_size.w,
                           "], stride: ...}, or set img_size of the backbone"));
    }
    x = at::cat({cls_token_.expand({x.size(0), -1, -1}), x}, 1);  // [N, 1 + h * w, C]
    if (pos_embed_.defined()) x = x + pos_embed_;
    std::vector<torch::Tensor> out;
    for (size_t i = 0; i < layers_->size(); ++i) {
      x = (*layers_)[i].forward(x);
      if (final_norm_ && i + 1 == layers_->size()) x = final_norm_->forward(x);
      if (gives_stage(out_indices_, i)) {
        out.push_back(nlc_to_nchw(x.narrow(1, 1, x.size(1) - 1), size).contiguous());
      }
    }
    return out;
  }

  std::vector<FeatureInfo> features() const override {
    std::vector<FeatureInfo> out;
    for (size_t i = 0; i < layers_->size(); ++i) {
      if (gives_stage(out_indices_, i)) out.push_back({params_.embed_dims, params_.patch_size});
    }
    return out;
  }

  LayerOrder layer_order() const override {
    return LayerOrder({StageNames{.embedding = {"cls_token", "pos_embed", "patch_embed."},
                                  .blocks = "layers.",
                                  .num_blocks = params_.num_layers}});
  }

  void train(bool on = true) override {
    Backbone::train(on);
    if (on && params_.norm_eval) freeze_norms(*this);
  }

  void init_weights() override {
    const bool from_file = init_cfg_ && !pretrained_rules().empty();
    torch::NoGradGuard no_grad;
    for (const auto& item : named_modules()) {
      auto& m = *item.value();
      if (auto* linear = dynamic_cast<Linear*>(&m)) {
        trunc_normal_init(m, 0, 0.02);
        if (!init_cfg_ && linear->bias.defined() && item.key().find("ffn") != std::string::npos) {
          linear->bias.normal_(0, 1e-6);
        }
      } else if (is_norm(m)) {
        constant_init(m, 1, 0);
      } else if (!init_cfg_ && dynamic_cast<Conv2d*>(&m)) {
        kaiming_init(m, {.fan_out = false});
      }
    }
    if (!init_cfg_) {
      trunc_normal_(cls_token_, 0, 0.02);
      return;
    }
    for (size_t i = 0; of_mae_ && i < layers_->size(); ++i) {
      auto weights = (*layers_)[i].named_parameters();
      for (const char* name : {"attn.proj.weight", "ffn.layers.1.weight"}) {
        weights[name].div_(std::sqrt(2.0 * static_cast<double>(i + 1)));
      }
    }
    // What a file lacks keeps these values; other rules hold for the children as well.
    if (from_file) {
      apply_init_cfg();
    } else {
      Backbone::init_weights();
    }
  }

  void adapt_pretrained(Value& state) const override {
    for (const auto& item : named_parameters()) {
      const Value* found = state.find(item.key());
      if (!found || !found->is_tensor()) continue;
      torch::Tensor fitted;
      if (item.key().ends_with("relative_position_bias_table")) {
        fitted = beit_resized_table(found->as_tensor(), item.value(), grid_);
      } else if (item.key() == "pos_embed") {
        fitted = fitted_position_embedding(found->as_tensor(), item.value(), grid_, "bicubic");
      }
      if (fitted.defined()) state.set(item.key(), fitted);
    }
    // Which place of the table belongs to which pair depends only on the grid.
    for (const auto& item : named_buffers()) {
      if (state.find(item.key())) state.set(item.key(), item.value());
    }
  }

 protected:
  BEiTBase(const MAEParams& p, BEiTAttentionKind kind, bool with_positions, const char* type)
      : Backbone(with_pretrained(p.init_cfg, p.pretrained)),
        params_(p),
        type_(type),
        of_mae_(kind.of_mae),
        grid_(p.grid()) {
    cls_token_ = register_parameter("cls_token", torch::zeros({1, 1, p.embed_dims}));
    if (with_positions) {
      pos_embed_ =
          register_parameter("pos_embed", torch::zeros({1, grid_.h * grid_.w + 1, p.embed_dims}));
    }
    patch_embed_ = register_module(
        "patch_embed", std::make_shared<PatchEmbed>(PatchEmbedOptions{
                           .in_channels = p.in_channels,
                           .embed_dims = p.embed_dims,
                           .kernel_size = p.patch_size,
                           .stride = p.patch_size,
                           .padding = Size2(0),
                           .norm_cfg = p.patch_norm ? NormCfg(p.norm_cfg) : NormCfg()}));
    layers_ = register_module("layers", std::make_shared<ListOf<BEiTBlock>>());
    for (const double rate : drop_path_rates(p.drop_path_rate, p.num_layers)) {
      layers_->push_back(std::make_shared<BEiTBlock>(p, kind, rate));
    }
    if (p.final_norm) final_norm_ = register_norm(*this, p.norm_cfg, p.embed_dims, "1");
    out_indices_ = p.out_blocks();
  }

 private:
  MAEParams params_;
  const char* type_;
  bool of_mae_;
  Size2 grid_;
  std::vector<int64_t> out_indices_;
  torch::Tensor cls_token_, pos_embed_;  ///< the second undefined in BEiT
  std::shared_ptr<PatchEmbed> patch_embed_;
  std::shared_ptr<ListOf<BEiTBlock>> layers_;
  std::shared_ptr<Norm> final_norm_;  ///< may be null
};

/// A plain transformer whose attention learns a bias for each relative position.
///
/// BEiT, Bao et al. 2021, arXiv:2106.08254.
class BEiT final : public BEiTBase {
 public:
  using Params = BEiTParams;
  static Schema<Params> schema() {
    return Schema<Params>("A plain transformer with learned biases of relative positions.")
        .source("BEiT, Bao et al. 2021, arXiv:2106.08254")
        .include(MAEParams::schema())
        .optional("qv_bias", &Params::qv_bias, "biases of query and value");
  }
  explicit BEiT(const Params& p)
      : BEiTBase(p,
                 {.bias = p.qv_bias ? BEiTAttentionKind::Bias::kQueryValue
                                    : BEiTAttentionKind::Bias::kNone},
                 /*with_positions=*/false, "BEiT") {}
};

SEG_REGISTER(Backbone, BEiT);

/// BEiT with position embeddings and biases of query, key and value.
///
/// Masked autoencoders, He et al. 2021, arXiv:2111.06377.
class MAE final : public BEiTBase {
 public:
  using Params = MAEParams;
  static Schema<Params> schema() {
    return Schema<Params>("A plain transformer, trained as a masked autoencoder.")
        .source("Masked autoencoders, He et al. 2021, arXiv:2111.06377")
        .include(MAEParams::schema());
  }
  explicit MAE(const Params& p)
      : BEiTBase(p, {.bias = BEiTAttentionKind::Bias::kAll, .of_mae = true},
                 /*with_positions=*/true, "MAE") {}
};

SEG_REGISTER(Backbone, MAE);

}  // namespace seg
