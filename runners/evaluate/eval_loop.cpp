#include "runners/evaluate/eval_loop.hpp"

namespace seg {

struct EvalLoopParams {
  bool fp16 = false;
  static Schema<EvalLoopParams> schema() {
    return Schema<EvalLoopParams>("Predicts all samples of a data set and measures them.")
        .source("MMEngine 0.10, ValLoop and TestLoop")
        .optional("fp16", &EvalLoopParams::fp16, "predict in half precision (bfloat16 on a CPU)");
  }
};

class PlainEvalLoop : public EvalLoop {
 public:
  using Params = EvalLoopParams;
  static Schema<Params> schema() { return Params::schema(); }
  explicit PlainEvalLoop(const Params& params) : fp16_(params.fp16) {}
  bool fp16() const override { return fp16_; }

 private:
  bool fp16_;
};
SEG_REGISTER_AS(EvalLoop, PlainEvalLoop, "ValLoop");
SEG_REGISTER_AS(EvalLoop, PlainEvalLoop, "TestLoop");

}  // namespace seg
