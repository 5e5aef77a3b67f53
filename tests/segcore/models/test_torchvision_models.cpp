// torchvision's models for segmentation. Their numbers are compared with Python's by the fixtures.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "segcore/io/weights.hpp"
#include "segcore/models/nn/drop.hpp"
#include "segcore/models/segmentor.hpp"
#include "segcore/models/weights/adapts_pretrained.hpp"
#include "segcore/torch.hpp"
#include "tests/support/config_errors.hpp"

namespace seg::torchvision_models_test {

using ::testing::HasSubstr;

std::shared_ptr<Segmentor> torchvision_model(const std::string& options) {
  torch::manual_seed(0);
  return Spec<Segmentor>::of("{" + options + "}").build();
}

std::string torchvision_error(const std::string& options) {
  return test::config_error([&] { torchvision_model(options); });
}

std::vector<std::string> files_read(const std::string& options) {
  std::vector<std::string> out;
  const auto model = torchvision_model(options);
  for_each_module(*model, [&](torch::nn::Module& m) {
    if (const auto* own = dynamic_cast<const BaseModule*>(&m)) {
      for (const auto& rule : own->pretrained_rules()) {
        out.push_back(rule.config().find("checkpoint")->value.scalar);
      }
    }
  });
  return out;
}

bool has_aux(const std::string& options) {
  return torchvision_model(options)->named_children().contains("aux_classifier");
}

TEST(TorchvisionModels, TrainBothClassifiers) {
  for (const std::string type : {"TorchvisionFCN", "TorchvisionDeepLabV3"}) {
    SCOPED_TRACE(type);
    const auto model = torchvision_model(
        "type: " + type +
        ", num_classes: 3, aux_loss: true, weights_backbone: null, in_channels: 2");
    model->init_weights();
    set_drop_probability(*model, 0);
    const auto images = torch::randn({2, 2, 64, 64});
    const auto labels = torch::randint(0, 3, {2, 64, 64}, torch::kLong);
    const auto losses = model->loss(images, labels);
    std::vector<std::string> names;
    for (const auto& [name, value] : losses) names.push_back(name);
    EXPECT_EQ(names, (std::vector<std::string>{"decode.loss_ce", "decode.acc_seg", "aux.loss_ce",
                                               "aux.acc_seg"}));
    total_loss(losses).backward();
    for (const auto& p : model->named_parameters()) {
      ASSERT_EQ(p.value().requires_grad(), p.value().grad().defined()) << p.key();
    }
    model->eval();
    const torch::NoGradGuard no_grad;
    EXPECT_EQ(model->encode_decode(images).sizes(), at::IntArrayRef({2, 3, 64, 64}));
    EXPECT_EQ(model->extract_feat(images).back().size(2), 8);
  }
}

/// The model's tensors of its backbone, as a file of the classifier names them.
Value classifier_file(Segmentor& model) {
  Value file = Value::dict();
  const Value state = state_dict(model);
  for (const auto& [name, value] : state.as_dict()) {
    const std::string key = name.as_string();
    if (key.starts_with("backbone.")) file.set("features." + key.substr(9), value);
  }
  file.set("classifier.0.weight", Value(torch::ones({1})));
  return file;
}

TEST(TorchvisionModels, HaveMobileNetsWithoutTheirFolder) {
  for (const std::string type : {"TorchvisionLRASPP", "TorchvisionDeepLabV3, aux_loss: true"}) {
    SCOPED_TRACE(type);
    const auto model = torchvision_model(
        "type: " + type + ", backbone: mobilenet_v3_large, num_classes: 3, weights_backbone: null");
    model->init_weights();
    set_drop_probability(*model, 0);
    EXPECT_TRUE(model->named_parameters().contains("backbone.0.0.weight"));
    total_loss(model->loss(torch::randn({2, 3, 64, 64}), torch::zeros({2, 64, 64}, torch::kLong)))
        .backward();
    for (const auto& p : model->named_parameters()) {
      ASSERT_EQ(p.value().requires_grad(), p.value().grad().defined()) << p.key();
    }
    Value file = classifier_file(*model);
    const auto backbone = model->named_children()["backbone"];
    dynamic_cast<const AdaptsPretrained&>(*backbone).adapt_pretrained(file);
    std::set<std::string> adapted, own;
    for (const auto& [name, value] : file.as_dict()) adapted.insert(name.as_string());
    const Value state = state_dict(*backbone);
    for (const auto& [name, value] : state.as_dict()) own.insert(name.as_string());
    EXPECT_EQ(adapted, own);
  }
}

TEST(TorchvisionModels, WeighTheAuxiliaryLoss) {
  const auto aux_loss = [](const std::string& weight) {
    const auto model = torchvision_model(
        "type: TorchvisionFCN, num_classes: 3, aux_loss: true, weights_backbone: null, "
        "aux_loss_weight: " +
        weight);
    set_drop_probability(*model, 0);
    torch::manual_seed(1);
    const auto losses =
        model->loss(torch::randn({2, 3, 32, 32}), torch::zeros({2, 32, 32}, torch::kLong));
    return losses.at(2).second.item<double>();
  };
  const double whole = aux_loss("1");
  EXPECT_NEAR(aux_loss("0.5"), whole / 2, 1e-6);
}

TEST(TorchvisionModels, TakePublishedWeights) {
  const std::string host = "https://download.pytorch.org/models/";
  EXPECT_EQ(files_read("type: TorchvisionFCN"),
            std::vector<std::string>{host + "resnet50-0676ba61.pth"});
  EXPECT_EQ(files_read("type: TorchvisionFCN, weights_backbone: imagenet"),
            std::vector<std::string>{host + "resnet50-11ad3fa6.pth"});
  EXPECT_EQ(files_read("type: TorchvisionDeepLabV3, weights: COCO_WITH_VOC_LABELS_V1"),
            std::vector<std::string>{host + "deeplabv3_resnet50_coco-cd0a2569.pth"});
  // A MobileNetV3 is its classifier's child `features`, whose weights have other names there.
  EXPECT_EQ(files_read("type: TorchvisionLRASPP"),
            std::vector<std::string>{host + "mobilenet_v3_large-8738ca79.pth"});
  EXPECT_EQ(files_read("type: TorchvisionDeepLabV3, backbone: mobilenet_v3_large"),
            std::vector<std::string>{host + "mobilenet_v3_large-8738ca79.pth"});
  // Those of whole models have the auxiliary classifier.
  EXPECT_TRUE(has_aux("type: TorchvisionFCN, weights: own.pth"));
  EXPECT_FALSE(has_aux("type: TorchvisionFCN, weights: own.pth, aux_loss: false"));
  EXPECT_FALSE(has_aux("type: TorchvisionFCN"));
}

TEST(TorchvisionModels, NameWhatTheyDoNotKnow) {
  EXPECT_THAT(torchvision_error("type: TorchvisionFCN, weights: VOC"),
              HasSubstr("unknown weights 'VOC' of this model with the backbone resnet50. Known: "
                        "COCO_WITH_VOC_LABELS_V1; a file of weights; or null for random ones"));
  EXPECT_THAT(torchvision_error("type: TorchvisionFCN, weights_backbone: imagenet1k_v3"),
              HasSubstr("weights_backbone: unknown weights 'imagenet1k_v3' of tv-resnet50. Did you "
                        "mean 'IMAGENET1K_V1'? Known: imagenet, IMAGENET1K_V1, IMAGENET1K_V2; a "
                        "file of weights; or null for random ones"));
  EXPECT_THAT(torchvision_error("type: TorchvisionFCN, backbone: vgg16"),
              HasSubstr("backbone: unknown value 'vgg16'"));
}

}  // namespace seg::torchvision_models_test
