/// Modules that exchange numbers with the other processes: their parts make what one process makes
/// of the whole batch, or divide by what the originals divide by.
#include "segcore/models/nn/uses_communicator.hpp"

#include <gtest/gtest.h>

#include "segcore/models/decode_head.hpp"
#include "segcore/models/nn/draws_random_numbers.hpp"
#include "segcore/testing/reference_values.hpp"
#include "tests/support/thread_ranks.hpp"
#include "tests/support/tiny_query_head.hpp"

namespace seg::uses_communicator_test {

using test::run_thread_ranks;
using test::ThreadCommunicator;

/// The half of a batch that a rank has.
torch::Tensor part(const torch::Tensor& batch, int rank) { return batch.chunk(2)[rank]; }

struct SyncedNorms {
  std::shared_ptr<Norm> alone;
  std::vector<std::shared_ptr<Norm>> joined;
  torch::Tensor expected, expected_grad;  ///< of one process with the whole batch
  torch::Tensor out, grad;                ///< of two
};

/// A batch of four through one norm, and one and three of its images through two joined ones.
SyncedNorms normalise_in_unequal_parts(const std::string& yaml, const torch::Tensor& x) {
  torch::manual_seed(1);
  const auto weight = torch::rand({x.size(1)}, torch::kFloat64) + 0.5;
  const auto g = torch::randn_like(x);
  const auto norm_of = [&] {
    auto norm = Spec<Norm>::of(yaml).build(x.size(1));
    norm->to(x.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32);
    const torch::NoGradGuard no_grad;
    if (norm->weight.defined()) norm->weight.copy_(weight);
    norm->train();
    return norm;
  };
  SyncedNorms out{norm_of(), {norm_of(), norm_of()}, {}, {}, {}, {}};
  const auto whole = x.clone().requires_grad_();
  out.expected = out.alone->forward(whole);
  out.expected.backward(g);
  out.expected_grad = whole.grad();
  std::vector<torch::Tensor> outs(2), grads(2);
  run_thread_ranks(2, [&](ThreadCommunicator& ranks) {
    const auto k = static_cast<size_t>(ranks.rank());
    const auto own = [&](const torch::Tensor& batch) { return batch.split({1, 3})[k]; };
    set_communicator(*out.joined[k], &ranks);
    const auto mine = own(x).clone().requires_grad_();
    outs[k] = out.joined[k]->forward(mine);
    outs[k].backward(own(g));
    grads[k] = mine.grad();
  });
  out.out = torch::cat(outs);
  out.grad = torch::cat(grads);
  return out;
}

TEST(UsesCommunicator, SyncBatchNormIsThatOfTheWholeBatch) {
  torch::manual_seed(0);
  const auto x = torch::randn({4, 3, 5, 6}, torch::kFloat64) * 3 + 100;
  for (const auto& input : {x, x.contiguous(torch::MemoryFormat::ChannelsLast)}) {
    const auto norms = normalise_in_unequal_parts("{type: SyncBN}", input);
    EXPECT_TRUE(torch::allclose(norms.out, norms.expected, 1e-10, 1e-10));
    EXPECT_TRUE(torch::allclose(norms.grad, norms.expected_grad, 1e-10, 1e-10));
    for (const auto& norm : norms.joined) {
      for (const char* name : {"running_mean", "running_var"}) {
        EXPECT_TRUE(torch::allclose(norm->named_buffers()[name], norms.alone->named_buffers()[name],
                                    1e-10, 1e-10));
      }
    }
    // The gradients of weights in a rank are its own share: the reducer adds them.
    const auto &a = norms.joined[0], &b = norms.joined[1];
    EXPECT_TRUE(torch::allclose(a->weight.grad() + b->weight.grad(), norms.alone->weight.grad(),
                                1e-10, 1e-10));
    EXPECT_TRUE(
        torch::allclose(a->bias.grad() + b->bias.grad(), norms.alone->bias.grad(), 1e-10, 1e-10));
  }
}

TEST(UsesCommunicator, SyncBatchNormWithoutWeights) {
  torch::manual_seed(0);
  const auto norms = normalise_in_unequal_parts("{type: SyncBN, affine: false}",
                                                torch::randn({4, 3, 5, 6}, torch::kFloat64));
  EXPECT_TRUE(torch::allclose(norms.out, norms.expected, 1e-10, 1e-10));
  EXPECT_TRUE(torch::allclose(norms.grad, norms.expected_grad, 1e-10, 1e-10));
}

TEST(UsesCommunicator, SyncBatchNormOfBfloat16KeepsItsStatisticsInFloat32) {
  torch::manual_seed(0);
  const auto x = (torch::randn({4, 3, 32, 32}) * 3 + 1).to(torch::kBFloat16);
  const auto norms = normalise_in_unequal_parts("{type: SyncBN}", x);
  EXPECT_EQ(norms.out.scalar_type(), torch::kBFloat16);
  EXPECT_TRUE(torch::allclose(norms.joined[0]->named_buffers()["running_mean"],
                              norms.alone->named_buffers()["running_mean"], 1e-6, 1e-6));
  EXPECT_TRUE(torch::allclose(norms.out, norms.expected, 0.01, 0.01));
  EXPECT_TRUE(torch::allclose(norms.grad, norms.expected_grad, 0.01, 0.02));
}

TEST(UsesCommunicator, BasesOfEmaNetAreThoseOfTheWholeBatch) {
  torch::manual_seed(0);
  const auto x = torch::randn({4, 8, 5, 6}, torch::kFloat64);
  const auto head_of = [] {
    torch::manual_seed(1);
    auto head = Spec<DecodeHead>::of(
                    "{type: EMAHead, channels: 4, num_classes: 3, ema_channels: 8, num_bases: 5, "
                    "num_stages: 2, in_index: 0, dropout_ratio: 0}")
                    .build(std::vector<FeatureInfo>{{8, 8}});
    head->to(torch::kFloat64);
    head->train();
    return head;
  };
  const auto bases = [](DecodeHead& head) { return head.named_buffers()["ema_module.bases"]; };
  const auto alone = head_of();
  const auto before = bases(*alone).clone();
  alone->forward({x});
  EXPECT_FALSE(torch::allclose(bases(*alone), before));
  std::vector<std::shared_ptr<DecodeHead>> heads{head_of(), head_of()};
  run_thread_ranks(2, [&](ThreadCommunicator& ranks) {
    auto& head = *heads[static_cast<size_t>(ranks.rank())];
    set_communicator(head, &ranks);
    head.forward({part(x, ranks.rank())});
  });
  for (const auto& head : heads) {
    EXPECT_TRUE(torch::allclose(bases(*head), bases(*alone), 1e-10, 1e-10));
  }
}

/// Two ranks with the same weights, two images each.
void expect_counts_shared(const std::string& yaml) {
  const std::vector<FeatureInfo> inputs{{8, 4}, {16, 8}, {32, 16}};
  const auto head_of = [&] {
    auto head = Spec<DecodeHead>::of(yaml).build(inputs);
    reference::fill(*head, 1);
    head->to(torch::kFloat64);
    head->train();
    set_random_source(*head, reference::random_numbers);
    return head;
  };
  torch::manual_seed(0);
  std::vector<torch::Tensor> maps;
  for (const auto& map : inputs) {
    maps.push_back(
        torch::randn({4, map.channels, 64 / map.stride, 48 / map.stride}, torch::kFloat64));
  }
  // Classes of the images: {0, 1, 2}, {3, 4}, {0}, and none, which counts as one pair.
  auto labels = torch::full({4, 64, 48}, 255, torch::kLong);
  for (int64_t k = 0; k < 3; ++k) labels[0].narrow(0, 20 * k, 20).fill_(k);
  labels[1].narrow(1, 0, 10).fill_(3);
  labels[1].narrow(1, 10, 30).fill_(4);
  labels[2].narrow(0, 10, 20).fill_(0);
  const double own[] = {3 + 2, 1 + 1};
  const double mean = (own[0] + own[1]) / 2;
  std::vector<LossMap> alone(2), together(2);
  std::vector<int> exchanges(2);
  std::vector<std::shared_ptr<DecodeHead>> heads{head_of(), head_of()};
  const auto loss_of = [&](int rank) {
    std::vector<torch::Tensor> mine;
    for (const auto& map : maps) mine.push_back(part(map, rank));
    return heads[static_cast<size_t>(rank)]->loss(mine, part(labels, rank));
  };
  for (int rank = 0; rank < 2; ++rank) alone[static_cast<size_t>(rank)] = loss_of(rank);
  run_thread_ranks(2, [&](ThreadCommunicator& ranks) {
    const auto k = static_cast<size_t>(ranks.rank());
    set_communicator(*heads[k], &ranks);
    together[k] = loss_of(ranks.rank());
    exchanges[k] = ranks.reductions;
  });
  for (size_t rank = 0; rank < 2; ++rank) {
    EXPECT_EQ(exchanges[rank], 1);  // of all layers at once
    ASSERT_GE(alone[rank].size(), 6u);
    for (size_t i = 0; i < alone[rank].size(); ++i) {
      const auto& [name, value] = alone[rank][i];
      const bool divided = !name.ends_with("loss_cls");
      const double found = together[rank][i].second.item<double>();
      EXPECT_EQ(together[rank][i].first, name);
      EXPECT_GT(found, 0);
      EXPECT_NEAR(found, value.item<double>() * (divided ? own[rank] / mean : 1), 1e-6 * found)
          << name << " of rank " << rank;
    }
  }
}

TEST(UsesCommunicator, MaskFormerDividesByTheMeanCountOfMasks) {
  expect_counts_shared(test::tiny_maskformer_head());
}

TEST(UsesCommunicator, Mask2FormerDividesByTheMeanCountOfMasks) {
  expect_counts_shared(test::tiny_mask2former_head());
}

}  // namespace seg::uses_communicator_test
