#include <algorithm>
#include <limits>

#include "segcore/models/assigners/assigner.hpp"
#include "segcore/precision.hpp"
#include "segcore/torch.hpp"

namespace seg {

std::vector<int64_t> linear_sum_assignment(const at::Tensor& given) {
  auto cost = given.detach().to(at::kCPU, at::kDouble).contiguous();
  const bool turned = cost.size(0) > cost.size(1);
  if (turned) cost = cost.t().contiguous();
  const auto rows = static_cast<size_t>(cost.size(0)), columns = static_cast<size_t>(cost.size(1));
  const double* c = cost.const_data_ptr<double>();
  constexpr int64_t kNone = -1;
  constexpr double kFar = std::numeric_limits<double>::infinity();
  std::vector<double> u(rows, 0), v(columns, 0);  // the dual prices
  std::vector<int64_t> column_of(rows, kNone), row_of(columns, kNone);
  for (size_t start = 0; start < rows; ++start) {
    // The shortest path from this row to a free column, along reduced costs.
    std::vector<double> distance(columns, kFar);
    std::vector<int64_t> from(columns, kNone);
    std::vector<bool> row_seen(rows, false), column_seen(columns, false);
    double least = 0;
    size_t row = start;
    int64_t end = kNone;
    while (end == kNone) {
      row_seen[row] = true;
      size_t nearest = columns;
      double best = kFar;
      for (size_t j = 0; j < columns; ++j) {
        if (column_seen[j]) continue;
        const double through = least + c[row * columns + j] - u[row] - v[j];
        if (through < distance[j]) {
          distance[j] = through;
          from[j] = static_cast<int64_t>(row);
        }
        if (distance[j] < best || (distance[j] == best && row_of[j] == kNone)) {
          best = distance[j];
          nearest = j;
        }
      }
      SEG_CHECK(nearest < columns, "costs of an assignment are not finite");
      least = best;
      column_seen[nearest] = true;
      if (row_of[nearest] == kNone) {
        end = static_cast<int64_t>(nearest);
      } else {
        row = static_cast<size_t>(row_of[nearest]);
      }
    }
    u[start] += least;
    for (size_t i = 0; i < rows; ++i) {
      if (row_seen[i] && i != start) {
        u[i] += least - distance[static_cast<size_t>(column_of[i])];
      }
    }
    for (size_t j = 0; j < columns; ++j) {
      if (column_seen[j]) v[j] -= least - distance[j];
    }
    for (int64_t j = end; j != kNone;) {  // turn the path around
      const int64_t i = from[static_cast<size_t>(j)];
      row_of[static_cast<size_t>(j)] = i;
      std::swap(column_of[static_cast<size_t>(i)], j);
      if (i == static_cast<int64_t>(start)) break;
    }
  }
  return turned ? row_of : column_of;
}

struct HungarianAssignerParams {
  OneOrMany<Spec<MatchCost>> match_costs;
};

/// Pairs predictions with truths at the least total cost.
class HungarianAssigner final : public Assigner {
 public:
  using Params = HungarianAssignerParams;
  static Schema<Params> schema() {
    return Schema<Params>("Pairs predictions with truths at the least total cost.")
        .source("DETR, Carion et al. 2020, arXiv:2005.12872")
        .required("match_costs", &Params::match_costs, "costs, which are added")
        .validate([](const Params& p, Problems& problems) {
          if (p.match_costs.values.empty()) problems.error("match_costs", "must not be empty");
        });
  }
  explicit HungarianAssigner(const Params& p) {
    for (const auto& spec : p.match_costs.values) costs_.push_back(spec.build());
  }
  at::Tensor costs(const MatchInputs& given) const override {
    const torch::NoGradGuard no_grad;
    // In half precision log(1 - p) is infinite for a confident p, and so are sums over many points.
    const Autocast off(given.scores.device().type(), std::nullopt);
    const MatchInputs in{full_precision(given.scores), full_precision(given.masks), given.labels,
                         full_precision(given.gt_masks)};
    if (in.labels.numel() == 0) return at::empty({in.scores.size(0), 0}, in.scores.options());
    at::Tensor total;
    for (const auto& cost : costs_) {
      const auto one = (*cost)(in);
      total = total.defined() ? total + one : one;
    }
    // Diverged weights show in the loss; here they must only leave the costs finite.
    return total.nan_to_num(1e12, 1e12, -1e12);
  }
  std::vector<int64_t> assign(const at::Tensor& costs) const override {
    return linear_sum_assignment(costs);
  }

 private:
  std::vector<std::unique_ptr<MatchCost>> costs_;
};

SEG_REGISTER(Assigner, HungarianAssigner);

struct MaskHungarianAssignerParams {
  Spec<MatchCost> cls_cost = Spec<MatchCost>::of("{type: ClassificationCost, weight: 1.0}");
  Spec<MatchCost> mask_cost = Spec<MatchCost>::of("{type: FocalLossCost, weight: 1.0}");
  Spec<MatchCost> dice_cost = Spec<MatchCost>::of("{type: DiceCost, weight: 1.0}");
};

/// HungarianAssigner with the options of mmdet 2.x.
class MaskHungarianAssigner final : public Assigner {
 public:
  using Params = MaskHungarianAssignerParams;
  static Schema<Params> schema() {
    return Schema<Params>("HungarianAssigner with the options of mmdet 2.x.")
        .optional("cls_cost", &Params::cls_cost, "cost of the classes")
        .optional("mask_cost", &Params::mask_cost, "cost of the masks' pixels")
        .optional("dice_cost", &Params::dice_cost, "cost of the masks' overlap");
  }
  explicit MaskHungarianAssigner(const Params& p) : assigner_(named_costs(p)) {}
  at::Tensor costs(const MatchInputs& in) const override { return assigner_.costs(in); }
  std::vector<int64_t> assign(const at::Tensor& costs) const override {
    return assigner_.assign(costs);
  }

 private:
  static HungarianAssignerParams named_costs(const Params& p) {
    HungarianAssignerParams out;
    out.match_costs.values = {p.cls_cost, p.mask_cost, p.dice_cost};
    out.match_costs.is_list = true;
    return out;
  }
  HungarianAssigner assigner_;
};

SEG_REGISTER(Assigner, MaskHungarianAssigner);

}  // namespace seg
