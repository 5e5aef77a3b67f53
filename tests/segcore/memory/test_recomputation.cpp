#include "segcore/memory/recomputation.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "segcore/models/blocks/windows.hpp"
#include "segcore/models/nn/activation.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/nn/joined_maps.hpp"
#include "segcore/models/nn/norm.hpp"
#include "segcore/models/nn/recompute.hpp"
#include "segcore/models/nn/resize.hpp"
#include "segcore/ops/attention/attention.hpp"
#include "segcore/ops/batch_norm_relu/batch_norm_relu.hpp"
#include "segcore/precision.hpp"
#include "segcore/torch.hpp"
#include "tests/segcore/ops/signed_values.hpp"

namespace seg {
namespace {

/// Whether the values of tensors are still in memory.
class Watched {
 public:
  at::Tensor watch(const at::Tensor& x) {
    storages_.push_back(x.storage().getWeakStorageImpl());
    return x;
  }
  int64_t alive() const {
    return std::count_if(storages_.begin(), storages_.end(),
                         [](const auto& storage) { return !storage.expired(); });
  }

 private:
  std::vector<c10::weak_intrusive_ptr<c10::StorageImpl>> storages_;
};

class RecomputationTest : public ::testing::Test {
 protected:
  using Body = std::function<at::Tensor(const std::vector<at::Tensor>& leaves)>;

  static at::Tensor norm(const at::Tensor& x, const at::Tensor& residual = {}) {
    return batch_norm_relu(x, residual, {}, {}, {}, {}, {});
  }
  /// The gradients by the leaves; with recomputation they are the same, bit for bit.
  std::vector<at::Tensor> expect_same(const std::vector<at::Tensor>& leaves, const Body& body) {
    const auto run = [&](bool recomputes) {
      watched = {};
      at::Tensor loss;
      {
        std::optional<SavesRecomputations> scope;
        if (recomputes) scope.emplace();
        loss = body(leaves).square().sum();
      }
      alive = watched.alive();
      return torch::autograd::grad({loss}, leaves);
    };
    const auto expected = run(false);
    const auto alive_without = alive;
    const auto out = run(true);
    saved = alive_without - alive;
    for (size_t i = 0; i < leaves.size(); ++i) EXPECT_TRUE(at::equal(out[i], expected[i])) << i;
    EXPECT_EQ(watched.alive(), 0);
    return out;
  }
  Watched watched;
  int64_t alive = 0;  ///< watched results after the forward pass
  int64_t saved = 0;  ///< how many less than without
};

TEST_F(RecomputationTest, ConvolutionsDoNotKeepNormsBeforeThem) {
  expect_same({signed_leaf("x", {2, 4, 9, 11}), signed_leaf("w1", {4, 4, 3, 3}),
               signed_leaf("w2", {4, 4, 3, 3})},
              [&](const auto& in) {
                auto x = watched.watch(norm(at::conv2d(in[0], in[1], {}, 1, 1)));
                return at::conv2d(watched.watch(norm(at::conv2d(x, in[2], {}, 1, 1))), in[1]);
              });
  EXPECT_EQ(alive, 0);
  EXPECT_EQ(saved, 2);
}

TEST_F(RecomputationTest, OfAChainOfResidualBlocksOneInThreeIsKept) {
  expect_same({signed_leaf("x", {2, 3, 8, 8}), signed_leaf("w", {3, 3, 3, 3})},
              [&](const auto& in) {
                auto x = in[0];
                for (int i = 0; i < 7; ++i) {
                  x = watched.watch(norm(at::conv2d(x, in[1], {}, 1, 1), x));
                }
                return at::conv2d(x, in[1]);
              });
  EXPECT_EQ(alive, 2);
  EXPECT_EQ(saved, 5);
}

TEST_F(RecomputationTest, JoinedAndResizedMapsAreMadeOfWhatIsKept) {
  expect_same({signed_leaf("x", {1, 2, 6, 6}), signed_leaf("w", {2, 4, 3, 3})},
              [&](const auto& in) {
                const auto x = norm(in[0]);
                const auto larger = watched.watch(resize(x, {12, 12}, false));
                const auto both =
                    watched.watch(joined_maps({larger, resize(norm(larger * 2), {12, 12}, false)}));
                return at::conv2d(both, in[1]);
              });
  EXPECT_EQ(alive, 0);
  EXPECT_EQ(saved, 1);
}

TEST_F(RecomputationTest, AttentionGathersItsBiasOnceMore) {
  const auto index = torch::arange(25, torch::kLong).view({5, 5}).remainder(9);
  for (const bool fixed_mask : {false, true}) {
    expect_same(
        {signed_leaf("table", {9, 2}), signed_leaf("x", {3, 2, 5, 16})}, [&](const auto& in) {
          auto bias = watched.watch(relative_position_bias(in[0], index));
          if (fixed_mask) {
            bias = watched.watch(recomputable(
                {bias, torch::eye(5)}, [](const auto& parts) { return parts[0] + parts[1]; }));
          }
          return attention(in[1], in[1], in[1], bias);
        });
    EXPECT_EQ(alive, 0);
    EXPECT_EQ(saved, 1);
  }
}

TEST_F(RecomputationTest, SavedViewsAreViewsOfWhatIsRecomputed) {
  expect_same({signed_leaf("x", {2, 4, 3, 5}), signed_leaf("w", {4, 4})}, [&](const auto& in) {
    const auto x = watched.watch(norm(in[0]));
    // [N, h * w, C] of all but the first row.
    return at::matmul(x.narrow(2, 1, 2).flatten(2).transpose(1, 2), in[1]);
  });
  EXPECT_EQ(saved, 1);
}

TEST_F(RecomputationTest, AResultChangedInPlaceIsKept) {
  expect_same(
      {signed_leaf("x", {2, 4, 3, 5}), signed_leaf("w", {4, 4, 1, 1})}, [&](const auto& in) {
        auto x = watched.watch(recomputable({in[0]}, [](const auto& i) { return i[0] * 2; }));
        return at::conv2d(x.add_(1), in[1]);
      });
  EXPECT_EQ(saved, 0);
}

TEST_F(RecomputationTest, AnInputChangedInPlaceIsAnError) {
  const auto x = signed_leaf("x", {3, 4}), w = signed_leaf("w", {4, 4});
  at::Tensor loss;
  {
    const SavesRecomputations scope;
    auto input = x * 1;
    loss = at::matmul(recomputable({input}, [](const auto& i) { return i[0] * 2; }), w).sum();
    input.add_(1);
  }
  EXPECT_THROW(loss.backward(), c10::Error);
}

TEST_F(RecomputationTest, RecomputesByThePrecisionOfTheForwardPass) {
  expect_same({signed_leaf("x", {5, 8}), signed_leaf("w", {8, 8})}, [&](const auto& in) {
    const Autocast half(c10::kCPU, at::kBFloat16);
    const auto product = watched.watch(
        recomputable({in[0], in[1]}, [](const auto& i) { return at::matmul(i[0], i[1]); }));
    EXPECT_EQ(product.scalar_type(), at::kBFloat16);
    return at::matmul(product, in[1]).to(at::kFloat);
  });
  EXPECT_EQ(saved, 1);
}

TEST_F(RecomputationTest, GoesThroughAGraphTwice) {
  const auto x = signed_leaf("x", {2, 4, 6, 6}), w = signed_leaf("w", {4, 4, 3, 3});
  at::Tensor loss;
  {
    const SavesRecomputations scope;
    loss = at::conv2d(norm(at::conv2d(x, w, {}, 1, 1)), w).sum();
  }
  const auto first = torch::autograd::grad({loss}, {x}, {}, /*retain_graph=*/true);
  EXPECT_TRUE(at::equal(torch::autograd::grad({loss}, {x})[0], first[0]));
}

TEST_F(RecomputationTest, NothingIsKeptWithoutGradients) {
  const SavesRecomputations scope;
  Watched inputs;
  at::Tensor result, frozen;
  {
    const at::NoGradGuard no_grad;
    const auto x = inputs.watch(signed_leaf("x", {1, 4, 3, 3}) * 2);
    result = recomputable({x}, [](const auto& i) { return i[0].exp(); });
  }
  frozen = norm(inputs.watch(signed_values("x", {1, 4, 3, 3}).to(at::kFloat) * 2));
  EXPECT_EQ(inputs.alive(), 0);
}

TEST_F(RecomputationTest, OfWhatIsRecomputedAsAWholeOnlyTheInputIsKept) {
  expect_same({signed_leaf("x", {2, 4, 6, 6}), signed_leaf("w", {4, 4, 1, 1})},
              [&](const auto& in) {
                const auto block = [&](const at::Tensor& x) {
                  return norm(watched.watch(at::conv2d(x, in[1])), x);
                };
                const auto x = norm(in[0]);
                return at::conv2d(recompute(block, x), in[1]);
              });
  EXPECT_EQ(alive, 0);
}

TEST_F(RecomputationTest, DropoutKeepsAByteOfEachFactor) {
  for (const bool maps : {false, true}) {
    const std::shared_ptr<DropLayer> layer =
        maps ? std::static_pointer_cast<DropLayer>(std::make_shared<Dropout2d>(0.4))
             : std::make_shared<Dropout>(0.4);
    for (const auto format : {at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast}) {
      const auto x = signed_leaf("x", {3, 5, 4, 6});
      const auto body = [&](const auto& in) {
        torch::manual_seed(7);
        const auto input = norm(in[0].contiguous(format));
        return at::conv2d(watched.watch(layer->forward(input)), in[1]);
      };
      const auto w = signed_leaf("w", {2, 5, 3, 3});
      const auto found = expect_same({x, w}, body);
      EXPECT_EQ(saved, 1);
      // LibTorch's numbers.
      torch::manual_seed(7);
      const auto input = norm(x.contiguous(format));
      const auto expected =
          maps ? at::feature_dropout(input, 0.4, true) : at::dropout(input, 0.4, true);
      torch::manual_seed(7);
      EXPECT_TRUE(at::equal(layer->forward(input), expected));
      EXPECT_EQ(layer->forward(input).strides(), expected.strides());
      const auto by = torch::autograd::grad({at::conv2d(expected, w).square().sum()}, {x, w});
      for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(at::equal(found[i], by[i])) << i;
    }
  }
}

TEST_F(RecomputationTest, DropoutIsLibTorchsOfAllViewsAndTypes) {
  using View = at::Tensor (*)(const at::Tensor&);
  const View views[] = {
      [](const at::Tensor& x) { return x.narrow(1, 1, 3); },
      [](const at::Tensor& x) { return x.chunk(2, 1)[0]; },
      [](const at::Tensor& x) { return x.select(1, 0); },
      [](const at::Tensor& x) { return x.transpose(1, 2); },
      [](const at::Tensor& x) { return x.slice(3, 0, 8, 2); },
      [](const at::Tensor& x) {
        return x.narrow(1, 1, 1).expand({-1, 3, -1, -1});
      },
  };
  // The result, its gradient, and its strides.
  const auto numbers = [](const at::Tensor& x, View view, bool ours) {
    Dropout layer(0.4);
    torch::manual_seed(7);
    at::Tensor y, loss;
    {
      const SavesRecomputations scope;
      const at::Tensor in = view(x * 1);
      y = ours ? layer.forward(in) : at::dropout(in, 0.4, true);
      loss = (y * y).sum();  // which asks for the result
    }
    const auto gradients = torch::autograd::grad({loss}, {x});
    return std::vector<at::Tensor>{y, gradients[0], at::tensor(y.strides())};
  };
  for (const auto type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16}) {
    for (const int64_t images : {1, 2}) {
      const at::Tensor x = signed_leaf("x", {images, 4, 6, 8}).detach().to(type);
      x.requires_grad_();
      for (const View view : views) {
        const auto expected = numbers(x, view, false), found = numbers(x, view, true);
        for (size_t i = 0; i < expected.size(); ++i) {
          EXPECT_TRUE(at::equal(found[i], expected[i])) << type << " " << images << " " << i;
        }
      }
    }
  }
}

TEST_F(RecomputationTest, DropoutHasASecondDerivative) {
  Dropout layer(0.4);
  const auto x = signed_leaf("x", {3, 5});
  const auto second = [&](bool ours) {
    torch::manual_seed(7);
    const auto y = ours ? layer.forward(x.square()) : at::dropout(x.square(), 0.4, true);
    const auto first =
        torch::autograd::grad({y.square().sum()}, {x}, {}, true, /*create_graph=*/true)[0];
    return torch::autograd::grad({first.sum()}, {x})[0];
  };
  EXPECT_TRUE(at::equal(second(true), second(false)));
}

TEST_F(RecomputationTest, DropoutOfNothingAndOfEverythingIsLibTorchs) {
  Dropout all(1);
  Dropout2d maps(1);
  Dropout half(0.5);
  const auto x = signed_leaf("x", {1, 2, 3, 3});
  EXPECT_TRUE(at::equal(all.forward(x), at::zeros({1, 2, 3, 3})));
  EXPECT_TRUE(at::equal(maps.forward(x), at::zeros({1, 2, 3, 3})));
  EXPECT_EQ(half.forward(at::zeros({0, 2})).numel(), 0);
}

TEST_F(RecomputationTest, ActivationsThatSaveTheirResultKeepNoInputBesides) {
  const auto relu = Spec<Activation>::of("{type: ReLU}").build(/*inplace=*/false);
  expect_same({signed_leaf("x", {2, 4, 6, 6}), signed_leaf("w", {4, 4, 1, 1})},
              [&](const auto& in) {
                return at::conv2d(relu->forward(watched.watch(in[0] + in[0])), in[1]);
              });
  EXPECT_EQ(alive, 0);
}

}  // namespace
}  // namespace seg
