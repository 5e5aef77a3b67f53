// What MMEngine 0.10.7 registers and has no meaning in this program.
#include "registry/left_out.hpp"

namespace seg {
namespace {

constexpr const char* kEightBit =
    "it is of bitsandbytes, a Python package with kernels of its own. Write the optimizer of the "
    "same name without prefix and bits, such as AdamW, Lion or SGD; Adam, AdamW and SGD keep their "
    "means in 8 bits by state_dtype: int8";
constexpr const char* kFindsRate =
    "it is of dadaptation, a Python package. Write Adafactor, which also finds its own rate, or "
    "AdamW";
constexpr const char* kSophia = "it is of Sophia, a Python package. Write AdamW or Lion";
constexpr const char* kDeepSpeed = "it is of DeepSpeed, a Python package. Write Adam or AdamW";
constexpr const char* kColossal = "it is of ColossalAI, a Python package. Write Adam, AdamW or SGD";
constexpr const char* kFused =
    "it is of DeepSpeed and ColossalAI, Python packages. Write Adam, whose kernels are fused here";
constexpr const char* kLayerRates =
    "it is of Python packages (bitsandbytes, ColossalAI). Write SGD or AdamW, and grow the rate "
    "with the batch size by auto_scale_lr";

const LeftOutTypes kLeftOutOptimizers{
    {"optimizer", "LBFGS",
     "it computes the loss several times in a step, and an OptimWrapper computes it once, in "
     "Python "
     "too. Write AdamW or SGD"},
    {"optimizer", "Optimizer", "it is the base class of PyTorch's optimizers. Write AdamW or SGD"},
    {"optimizer", "DAdaptAdaGrad", kFindsRate},
    {"optimizer", "DAdaptAdam", kFindsRate},
    {"optimizer", "DAdaptSGD", kFindsRate},
    {"optimizer", "SophiaG", kSophia},
    {"optimizer", "bnb_Adagrad", kEightBit},
    {"optimizer", "Adagrad8bit", kEightBit},
    {"optimizer", "Adagrad32bit", kEightBit},
    {"optimizer", "bnb_Adam", kEightBit},
    {"optimizer", "Adam8bit", kEightBit},
    {"optimizer", "Adam32bit", kEightBit},
    {"optimizer", "PagedAdam", kEightBit},
    {"optimizer", "PagedAdam8bit", kEightBit},
    {"optimizer", "PagedAdam32bit", kEightBit},
    {"optimizer", "bnb_AdamW", kEightBit},
    {"optimizer", "AdamW8bit", kEightBit},
    {"optimizer", "AdamW32bit", kEightBit},
    {"optimizer", "PagedAdamW", kEightBit},
    {"optimizer", "PagedAdamW8bit", kEightBit},
    {"optimizer", "PagedAdamW32bit", kEightBit},
    {"optimizer", "bnb_Lion", kEightBit},
    {"optimizer", "Lion8bit", kEightBit},
    {"optimizer", "Lion32bit", kEightBit},
    {"optimizer", "PagedLion", kEightBit},
    {"optimizer", "PagedLion8bit", kEightBit},
    {"optimizer", "PagedLion32bit", kEightBit},
    {"optimizer", "bnb_RMSprop", kEightBit},
    {"optimizer", "RMSprop8bit", kEightBit},
    {"optimizer", "RMSprop32bit", kEightBit},
    {"optimizer", "bnb_SGD", kEightBit},
    {"optimizer", "SGD8bit", kEightBit},
    {"optimizer", "SGD32bit", kEightBit},
    {"optimizer", "LAMB", kLayerRates},
    {"optimizer", "LAMB8bit", kLayerRates},
    {"optimizer", "LAMB32bit", kLayerRates},
    {"optimizer", "LARS", kLayerRates},
    {"optimizer", "LARS8bit", kLayerRates},
    {"optimizer", "LARS32bit", kLayerRates},
    {"optimizer", "PytorchLARS", kLayerRates},
    {"optimizer", "Lamb", kLayerRates},
    {"optimizer", "Lars", kLayerRates},
    {"optimizer", "FusedLAMB", kLayerRates},
    {"optimizer", "FusedLamb", kLayerRates},
    {"optimizer", "FusedAdam", kFused},
    {"optimizer", "DeepSpeedCPUAdam", kDeepSpeed},
    {"optimizer", "OnebitAdam", kDeepSpeed},
    {"optimizer", "OnebitLamb", kDeepSpeed},
    {"optimizer", "ZeroOneAdam", kDeepSpeed},
    {"optimizer", "CPUAdam", kColossal},
    {"optimizer", "HybridAdam", kColossal},
    {"optimizer", "FusedSGD", kColossal},
};

const LeftOutTypes kLeftOutParts{
    {"optim_wrapper", "DeepSpeedOptimWrapper",
     "it is of DeepSpeed, a Python package. Write AmpOptimWrapper or OptimWrapper"},
    {"optim_wrapper", "ColossalAIOptimWrapper",
     "it is of ColossalAI, a Python package. Write AmpOptimWrapper or OptimWrapper"},
    {"optim_wrapper", "OptimWrapperDict",
     "several optimizers need a model whose Python code steps each. Write OptimWrapper with "
     "paramwise_cfg, which gives parts of the model other rates"},
    {"hook", "NPUProfilerHook", "it records Ascend NPUs. Write ProfilerHook"},
    {"hook", "NaiveVisualizationHook",
     "it does not know the samples of MMSegmentation and fails on them. Write {type: "
     "SegVisualizationHook, draw: true, interval: 1}"},
    {"metric", "DumpResults",
     "it writes objects of Python. tools/test --out DIR writes the predicted class ids"},
    {"dataset", "ClassBalancedDataset",
     "it asks a data set for the classes of a sample, which those of MMSegmentation do not know. "
     "Write RepeatDataset, or class_weight of the loss"},
};

}  // namespace
}  // namespace seg
