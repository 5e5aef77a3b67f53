/// Whole models whose layers have an order.
#pragma once
#include "segcore/models/layer_order.hpp"

namespace seg {

/// Base, beside its own, of a model that is its own backbone.
class OrdersLayers {
 public:
  virtual ~OrdersLayers() = default;
  /// Which layer each parameter belongs to, for learning rates that shrink layer by layer.
  virtual LayerOrder layer_order() const = 0;
};

}  // namespace seg
