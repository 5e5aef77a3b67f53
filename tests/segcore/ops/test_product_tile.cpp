#include "segcore/ops/product_tile.hpp"

#include <gtest/gtest.h>

#include "tests/segcore/ops/signed_values.hpp"

namespace seg {
namespace {

struct BlockCase {
  int64_t rows, length, columns;
  bool turned_a = false, add = false;
};

std::ostream& operator<<(std::ostream& out, const BlockCase& c) {
  return out << c.rows << "x" << c.length << "x" << c.columns << (c.turned_a ? " turned" : "")
             << (c.add ? " added" : "");
}

class ProductBlocks : public ::testing::TestWithParam<BlockCase> {};

TEST_P(ProductBlocks, AreProductsOfPartsOfMatrices) {
  const auto& c = GetParam();
  // Parts of wider matrices.
  const auto part = [](const char* name, int64_t rows, int64_t columns) {
    return signed_values(name, {rows, columns + 5}).to(at::kFloat).narrow(1, 2, columns);
  };
  const auto a = c.turned_a ? part("a", c.length, c.rows) : part("a", c.rows, c.length);
  const auto b = part("b", c.length, c.columns);
  const auto whole = signed_values("c", {c.rows + 1, c.columns + 5}).to(at::kFloat);
  const auto before = whole.clone();
  const auto result = whole.narrow(0, 0, c.rows).narrow(1, 2, c.columns);
  product_block({a.const_data_ptr<float>(), a.stride(0), c.turned_a, b.const_data_ptr<float>(),
                 b.stride(0), c.length, result.mutable_data_ptr<float>(), result.stride(0), c.rows,
                 c.columns, c.add});
  auto expected = before.to(at::kDouble);
  const auto product = at::matmul((c.turned_a ? a.t() : a).to(at::kDouble), b.to(at::kDouble));
  const auto place = expected.narrow(0, 0, c.rows).narrow(1, 2, c.columns);
  place.copy_(c.add ? place + product : product);
  EXPECT_LT((whole.to(at::kDouble) - expected).abs().max().item<double>(), 1e-6 * c.length);
  // Nothing beside the part is written.
  place.copy_(before.narrow(0, 0, c.rows).narrow(1, 2, c.columns));
  result.copy_(before.narrow(0, 0, c.rows).narrow(1, 2, c.columns));
  EXPECT_TRUE(torch::equal(whole, before));
}

INSTANTIATE_TEST_SUITE_P(Shapes, ProductBlocks,
                         ::testing::Values(BlockCase{1, 1, 16}, BlockCase{12, 7, 32},
                                           BlockCase{13, 40, 48}, BlockCase{13, 40, 48, true},
                                           BlockCase{23, 9, 80, true, true},
                                           BlockCase{49, 32, 64, false, true},
                                           BlockCase{7, 5, 16, true}));

}  // namespace
}  // namespace seg
