#include "segcore/models/blocks/beit_attention.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "segcore/models/blocks/windows.hpp"
#include "segcore/ops/attention/attention.hpp"
#include "segcore/ops/linear/linear.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

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

}  // namespace

BEiTAttention::BEiTAttention(const BEiTAttentionOptions& o)
    : heads_(o.heads), attn_drop_(o.attn_drop), table_from_zero_(o.table_from_zero) {
  const int64_t dims = o.dims;
  if (o.bias == Bias::kQueryValue) {
    q_bias_ = register_parameter("q_bias", torch::zeros({dims}));
    v_bias_ = register_parameter("v_bias", torch::zeros({dims}));
  }
  const int64_t places = (2 * o.grid.h - 1) * (2 * o.grid.w - 1) + 3;
  table_ = register_parameter("relative_position_bias_table", torch::zeros({places, o.heads}));
  index_ = register_buffer("relative_position_index", beit_relative_position_index(o.grid));
  qkv_ = register_module("qkv", std::make_shared<Linear>(dims, 3 * dims, o.bias == Bias::kAll));
  proj_ = register_module("proj", std::make_shared<Linear>(dims, dims));
}

torch::Tensor BEiTAttention::forward(const torch::Tensor& x) {
  const int64_t n = x.size(0), length = x.size(1), c = x.size(2);
  const auto bias =
      q_bias_.defined() ? at::cat({q_bias_, at::zeros_like(q_bias_), v_bias_}) : qkv_->bias;
  const auto [q, k, v] = split_heads(linear_rows(x, qkv_->weight, bias), heads_);
  const auto out = attention(q, k, v, relative_position_bias(table_, index_),
                             {.dropout = is_training() ? attn_drop_ : 0.0});
  return proj_->forward(out.transpose(1, 2).reshape({n, length, c}));
}

void BEiTAttention::init_weights() {
  if (!table_from_zero_) trunc_normal_(table_, 0, 0.02);
}

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

}  // namespace seg
