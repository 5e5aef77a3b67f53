#include "segcore/io/model_zoo.hpp"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "registry/error.hpp"

namespace seg {
namespace {

/// A name of a zoo and its file, below the zoo's base address or as a whole address.
struct ZooEntry {
  std::string_view name, file;
};

/// open-mmlab://NAME; the names are those of MMEngine's hub.
constexpr ZooEntry kOpenMmlabZoo[] = {
    {"vgg16_caffe", "vgg16_caffe-292e1171.pth"},
    {"detectron/resnet50_caffe", "resnet50_caffe-788b5fa3.pth"},
    {"detectron2/resnet50_caffe", "resnet50_msra-5891d200.pth"},
    {"detectron/resnet101_caffe", "resnet101_caffe-3ad79236.pth"},
    {"detectron2/resnet101_caffe", "resnet101_msra-6cc46731.pth"},
    {"detectron2/resnext101_32x8d", "resnext101_32x8d-1516f1aa.pth"},
    {"resnext50_32x4d", "resnext50-32x4d-0ab1a123.pth"},
    {"resnext101_32x4d", "resnext101_32x4d-a5af3160.pth"},
    {"resnext101_64x4d", "resnext101_64x4d-ee2c6f71.pth"},
    {"contrib/resnet50_gn", "resnet50_gn_thangvubk-ad1730dd.pth"},
    {"detectron/resnet50_gn", "resnet50_gn-9186a21c.pth"},
    {"detectron/resnet101_gn", "resnet101_gn-cac0ab98.pth"},
    {"jhu/resnet50_gn_ws", "resnet50_gn_ws-15beedd8.pth"},
    {"jhu/resnet101_gn_ws", "resnet101_gn_ws-3e3c308c.pth"},
    {"jhu/resnext50_32x4d_gn_ws", "resnext50_32x4d_gn_ws-0d87ac85.pth"},
    {"jhu/resnext101_32x4d_gn_ws", "resnext101_32x4d_gn_ws-34ac1a9e.pth"},
    {"jhu/resnext50_32x4d_gn", "resnext50_32x4d_gn-c7e8b754.pth"},
    {"jhu/resnext101_32x4d_gn", "resnext101_32x4d_gn-ac3bb84e.pth"},
    {"msra/hrnetv2_w18_small", "hrnetv2_w18_small-b5a04e21.pth"},
    {"msra/hrnetv2_w18", "hrnetv2_w18-00eb2006.pth"},
    {"msra/hrnetv2_w32", "hrnetv2_w32-dc9eeb4f.pth"},
    {"msra/hrnetv2_w40", "hrnetv2_w40-ed0b031c.pth"},
    {"msra/hrnetv2_w48", "hrnetv2_w48-d2186c55.pth"},
    {"res2net101_v1d_26w_4s", "res2net101_v1d_26w_4s_mmdetv2-f0a600f9.pth"},
    {"regnetx_400mf", "regnetx_400mf-a5b10d96.pth"},
    {"regnetx_800mf", "regnetx_800mf-1f4be4c7.pth"},
    {"regnetx_1.6gf", "regnetx_1.6gf-5791c176.pth"},
    {"regnetx_3.2gf", "regnetx_3.2gf-c2599b0f.pth"},
    {"regnetx_4.0gf", "regnetx_4.0gf-a88f671e.pth"},
    {"regnetx_6.4gf", "regnetx_6.4gf-006af45d.pth"},
    {"regnetx_8.0gf", "regnetx_8.0gf-3c68abe7.pth"},
    {"regnetx_12gf", "regnetx_12gf-4c2a3350.pth"},
    {"resnet18_v1c", "resnet18_v1c-b5776b93.pth"},
    {"resnet50_v1c", "resnet50_v1c-2cccc1ad.pth"},
    {"resnet101_v1c", "resnet101_v1c-e67eebb6.pth"},
    {"contrib/mobilenet_v3_large", "mobilenet_v3_large-bc2c3fd3.pth"},
    {"contrib/mobilenet_v3_small", "mobilenet_v3_small-47085aa1.pth"},
    {"resnest50", "resnest50_d2-7497a55b.pth"},
    {"resnest101", "resnest101_d2-f3b931b2.pth"},
    {"resnest200", "resnest200_d2-ca88e41f.pth"},
    {"mmdet/mobilenet_v2",
     "https://download.openmmlab.com/mmdetection/v2.0/third_party/"
     "mobilenet_v2_batch256_imagenet-ff34753d.pth"},
};

/// mmcls://NAME.
constexpr ZooEntry kMmclsZoo[] = {
    {"vgg11", "vgg/vgg11_batch256_imagenet_20210208-4271cd6c.pth"},
    {"vgg13", "vgg/vgg13_batch256_imagenet_20210208-4d1d6080.pth"},
    {"vgg16", "vgg/vgg16_batch256_imagenet_20210208-db26f1a5.pth"},
    {"vgg19", "vgg/vgg19_batch256_imagenet_20210208-e6920e4a.pth"},
    {"vgg11_bn", "vgg/vgg11_bn_batch256_imagenet_20210207-f244902c.pth"},
    {"vgg13_bn", "vgg/vgg13_bn_batch256_imagenet_20210207-1a8b7864.pth"},
    {"vgg16_bn", "vgg/vgg16_bn_batch256_imagenet_20210208-7e55cd29.pth"},
    {"vgg19_bn", "vgg/vgg19_bn_batch256_imagenet_20210208-da620c4f.pth"},
    {"resnet18", "resnet/resnet18_8xb32_in1k_20210831-fbbb1da6.pth"},
    {"resnet34", "resnet/resnet34_8xb32_in1k_20210831-f257d4e6.pth"},
    {"resnet50", "resnet/resnet50_8xb32_in1k_20210831-ea4938fc.pth"},
    {"resnet101", "resnet/resnet101_8xb32_in1k_20210831-539c63f8.pth"},
    {"resnet152", "resnet/resnet152_8xb32_in1k_20210901-4d7582fa.pth"},
    {"resnet50_v1d", "resnet/resnetv1d50_b32x8_imagenet_20210531-db14775a.pth"},
    {"resnet101_v1d", "resnet/resnetv1d101_b32x8_imagenet_20210531-6e13bcd3.pth"},
    {"resnet152_v1d", "resnet/resnetv1d152_b32x8_imagenet_20210531-278cf22a.pth"},
    {"resnext50_32x4d", "resnext/resnext50_32x4d_b32x8_imagenet_20210429-56066e27.pth"},
    {"resnext101_32x4d", "resnext/resnext101_32x4d_b32x8_imagenet_20210506-e0fa3dd5.pth"},
    {"resnext101_32x8d", "resnext/resnext101_32x8d_b32x8_imagenet_20210506-23a247d5.pth"},
    {"resnext152_32x4d", "resnext/resnext152_32x4d_b32x8_imagenet_20210524-927787be.pth"},
    {"se-resnet50", "se-resnet/se-resnet50_batch256_imagenet_20200804-ae206104.pth"},
    {"se-resnet101", "se-resnet/se-resnet101_batch256_imagenet_20200804-ba5b51d4.pth"},
    {"resnest50", "resnest/resnest50_imagenet_converted-1ebf0afe.pth"},
    {"resnest101", "resnest/resnest101_imagenet_converted-032caa52.pth"},
    {"resnest200", "resnest/resnest200_imagenet_converted-581a60f2.pth"},
    {"resnest269", "resnest/resnest269_imagenet_converted-59930960.pth"},
    {"mobilenet_v2", "mobilenet_v2/mobilenet_v2_batch256_imagenet_20200708-3b2dc3af.pth"},
    {"mobilenet_v3_small", "mobilenet_v3/convert/mobilenet_v3_small-8427ecf0.pth"},
    {"mobilenet_v3_large", "mobilenet_v3/convert/mobilenet_v3_large-3ea3c186.pth"},
    {"res2net101_w26", "res2net/res2net101-w26-s4_3rdparty_8xb32_in1k_20210927-870b6c36.pth"},
    {"res2net50_w14", "res2net/res2net50-w14-s8_3rdparty_8xb32_in1k_20210927-bc967bf1.pth"},
    {"res2net50_w26", "res2net/res2net50-w26-s8_3rdparty_8xb32_in1k_20210927-f547a94b.pth"},
    {"swin_tiny",
     "swin-transformer/swin_tiny_224_b16x64_300e_imagenet_20210616_090925-66df6be6.pth"},
    {"swin_small",
     "swin-transformer/swin_small_224_b16x64_300e_imagenet_20210615_110219-7f9d988b.pth"},
    {"swin_base", "swin-transformer/convert/swin_base_patch4_window7_224_22kto1k-f967f799.pth"},
    {"swin_large", "swin-transformer/convert/swin_large_patch4_window7_224_22kto1k-5f0996db.pth"},
    {"vit_base_p16",
     "vit/finetune/vit-base-p16_in21k-pre-3rdparty_ft-64xb64_in1k-384_20210928-98e8652b.pth"},
    {"vit_base_p32",
     "vit/finetune/vit-base-p32_in21k-pre-3rdparty_ft-64xb64_in1k-384_20210928-9cea8599.pth"},
    {"vit_large_p16",
     "vit/finetune/vit-large-p16_in21k-pre-3rdparty_ft-64xb64_in1k-384_20210928-b20ba619.pth"},
};

/// torchvision://NAME, torchvision's first weights of each (IMAGENET1K_V1).
constexpr ZooEntry kTorchvisionZoo[] = {
    {"densenet121", "densenet121-a639ec97.pth"},
    {"densenet169", "densenet169-b2777c0a.pth"},
    {"densenet201", "densenet201-c1103571.pth"},
    {"densenet161", "densenet161-8d451a50.pth"},
    {"efficientnet_b0", "efficientnet_b0_rwightman-3dd342df.pth"},
    {"efficientnet_b1", "efficientnet_b1_rwightman-533bc792.pth"},
    {"efficientnet_b2", "efficientnet_b2_rwightman-bcdf34b7.pth"},
    {"efficientnet_b3", "efficientnet_b3_rwightman-cf984f9c.pth"},
    {"efficientnet_b4", "efficientnet_b4_rwightman-7eb33cd5.pth"},
    {"efficientnet_b5", "efficientnet_b5_lukemelas-b6417697.pth"},
    {"efficientnet_b6", "efficientnet_b6_lukemelas-c76e70fd.pth"},
    {"efficientnet_b7", "efficientnet_b7_lukemelas-dcc49843.pth"},
    {"mobilenet_v2", "mobilenet_v2-b0353104.pth"},
    {"mobilenet_v3_large", "mobilenet_v3_large-8738ca79.pth"},
    {"mobilenet_v3_small", "mobilenet_v3_small-047dcff4.pth"},
    {"regnet_y_400mf", "regnet_y_400mf-c65dace8.pth"},
    {"regnet_y_800mf", "regnet_y_800mf-1b27b58c.pth"},
    {"regnet_y_1_6gf", "regnet_y_1_6gf-b11a554e.pth"},
    {"regnet_y_3_2gf", "regnet_y_3_2gf-b5a9779c.pth"},
    {"regnet_y_8gf", "regnet_y_8gf-d0d0e4a8.pth"},
    {"regnet_y_16gf", "regnet_y_16gf-9e6ed7dd.pth"},
    {"regnet_y_32gf", "regnet_y_32gf-4dee3f7a.pth"},
    {"regnet_x_400mf", "regnet_x_400mf-adf1edd5.pth"},
    {"regnet_x_800mf", "regnet_x_800mf-ad17e45c.pth"},
    {"regnet_x_1_6gf", "regnet_x_1_6gf-e3633e7f.pth"},
    {"regnet_x_3_2gf", "regnet_x_3_2gf-f342aeae.pth"},
    {"regnet_x_8gf", "regnet_x_8gf-03ceed89.pth"},
    {"regnet_x_16gf", "regnet_x_16gf-2007eb11.pth"},
    {"regnet_x_32gf", "regnet_x_32gf-9d47f8d0.pth"},
    {"resnet18", "resnet18-f37072fd.pth"},
    {"resnet34", "resnet34-b627a593.pth"},
    {"resnet50", "resnet50-0676ba61.pth"},
    {"resnet101", "resnet101-63fe2227.pth"},
    {"resnet152", "resnet152-394f9c45.pth"},
    {"resnext50_32x4d", "resnext50_32x4d-7cdf4587.pth"},
    {"resnext101_32x8d", "resnext101_32x8d-8ba56ff5.pth"},
    {"wide_resnet50_2", "wide_resnet50_2-95faca4d.pth"},
    {"wide_resnet101_2", "wide_resnet101_2-32ee1156.pth"},
    {"vgg11", "vgg11-8a719046.pth"},
    {"vgg13", "vgg13-19584684.pth"},
    {"vgg16", "vgg16-397923af.pth"},
    {"vgg19", "vgg19-dcbb9e9d.pth"},
    {"vgg11_bn", "vgg11_bn-6002323d.pth"},
    {"vgg13_bn", "vgg13_bn-abd245e5.pth"},
    {"vgg16_bn", "vgg16_bn-6c64b313.pth"},
    {"vgg19_bn", "vgg19_bn-c79401a0.pth"},
};

/// torchvision://NAME.imagenet1k_v2, and NAME.default for these.
constexpr ZooEntry kTorchvisionSecondZoo[] = {
    {"resnet50", "resnet50-11ad3fa6.pth"},
    {"resnet101", "resnet101-cd907fc2.pth"},
    {"resnet152", "resnet152-f82ba261.pth"},
    {"resnext50_32x4d", "resnext50_32x4d-1a0047aa.pth"},
    {"resnext101_32x8d", "resnext101_32x8d-110c445d.pth"},
    {"wide_resnet50_2", "wide_resnet50_2-9ba9bcbe.pth"},
    {"wide_resnet101_2", "wide_resnet101_2-d733dc28.pth"},
    {"regnet_x_400mf", "regnet_x_400mf-62229a5f.pth"},
    {"regnet_x_800mf", "regnet_x_800mf-94a99ebd.pth"},
    {"regnet_x_1_6gf", "regnet_x_1_6gf-a12f2b72.pth"},
    {"regnet_x_3_2gf", "regnet_x_3_2gf-7071aa85.pth"},
    {"regnet_x_8gf", "regnet_x_8gf-2b70d774.pth"},
    {"regnet_x_16gf", "regnet_x_16gf-ba3796d7.pth"},
    {"regnet_x_32gf", "regnet_x_32gf-6eb8fdc6.pth"},
};

/// Names of MMEngine's hub that it gave up for others.
constexpr ZooEntry kOpenMmlabOldNames[] = {
    {"resnet50_caffe", "detectron/resnet50_caffe"},
    {"resnet101_caffe", "detectron/resnet101_caffe"},
};

constexpr std::string_view kOpenMmlabBase = "https://download.openmmlab.com/pretrain/third_party/";
constexpr std::string_view kMmclsBase = "https://download.openmmlab.com/mmclassification/v0/";
constexpr std::string_view kTorchvisionBase = "https://download.pytorch.org/models/";

std::optional<std::string_view> zoo_entry(std::span<const ZooEntry> zoo, std::string_view name) {
  const auto found = std::find_if(zoo.begin(), zoo.end(),
                                  [&](const ZooEntry& entry) { return entry.name == name; });
  if (found == zoo.end()) return std::nullopt;
  return found->file;
}

std::string zoo_url(std::string_view base, std::string_view file) {
  return std::string(file.find("://") == file.npos ? base : "") + std::string(file);
}

/// Removes `ending` from the end of `name`, where it is there.
bool strip_ending(std::string_view& name, std::string_view ending) {
  if (!name.ends_with(ending)) return false;
  name.remove_suffix(ending.size());
  return true;
}

std::optional<std::string_view> torchvision_entry(std::string_view name) {
  if (strip_ending(name, ".imagenet1k_v1")) return zoo_entry(kTorchvisionZoo, name);
  if (strip_ending(name, ".imagenet1k_v2")) return zoo_entry(kTorchvisionSecondZoo, name);
  if (strip_ending(name, ".default")) {
    if (const auto second = zoo_entry(kTorchvisionSecondZoo, name)) return second;
  }
  return zoo_entry(kTorchvisionZoo, name);
}

/// The address that `scheme`://`name` means.
std::optional<std::string> zoo_address(const std::string& scheme, std::string_view name) {
  std::optional<std::string_view> file;
  std::string_view base;
  if (scheme == "open-mmlab" || scheme == "openmmlab") {
    base = kOpenMmlabBase;
    file = zoo_entry(kOpenMmlabZoo, zoo_entry(kOpenMmlabOldNames, name).value_or(name));
  } else if (scheme == "mmcls") {
    base = kMmclsBase;
    file = zoo_entry(kMmclsZoo, name);
  } else {
    base = kTorchvisionBase;
    file = torchvision_entry(name);
  }
  if (!file) return std::nullopt;
  return zoo_url(base, *file);
}

std::vector<std::string> zoo_names(const std::string& scheme) {
  std::vector<std::string> names;
  const auto add = [&](std::span<const ZooEntry> zoo) {
    for (const ZooEntry& entry : zoo) names.emplace_back(entry.name);
  };
  if (scheme == "mmcls") {
    add(kMmclsZoo);
  } else if (scheme == "torchvision" || scheme == "modelzoo") {
    add(kTorchvisionZoo);
  } else {
    add(kOpenMmlabZoo);
  }
  return names;
}

/// 20210928 in "model-20210928.pth" consists of digits, but of no digest.
bool looks_like_date(std::string_view digits) {
  if (digits.size() != 8 || !(digits.starts_with("19") || digits.starts_with("20"))) return false;
  if (!std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; })) {
    return false;
  }
  const int month = (digits[4] - '0') * 10 + (digits[5] - '0');
  const int day = (digits[6] - '0') * 10 + (digits[7] - '0');
  return month >= 1 && month <= 12 && day >= 1 && day <= 31;
}

/// The digest in "name-1a2b3c4d.pth".
std::string digest_in_name(std::string_view name) {
  const size_t dash = name.rfind('-');
  if (dash == name.npos) return "";
  const size_t dot = name.find('.', dash);
  if (dot == name.npos) return "";
  const std::string_view digits = name.substr(dash + 1, dot - dash - 1);
  const bool hexadecimal = std::all_of(digits.begin(), digits.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
  });
  if (!hexadecimal || digits.size() < 8 || digits.size() > 64 || looks_like_date(digits)) return "";
  return std::string(digits);
}

/// The place of an address below the cache folder.
std::string place_in_cache(const std::string& url) {
  const std::string_view whole = url;
  // A query ("?download=true") is no part of the name.
  const std::string_view address = whole.substr(0, whole.find_first_of("?#"));
  const std::string_view path = address.substr(address.find("://") + 3);
  std::vector<std::string> parts;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    std::string part(path.substr(begin, end - begin));
    begin = end + 1;
    if (part == "." || part == "..") {
      throw CheckpointError(text(url, ": an address of weights may not hold '", part, "'"));
    }
    if (!part.empty()) parts.push_back(std::move(part));
  }
  if (parts.size() < 2 || path.back() == '/') {
    throw CheckpointError(text(url, ": expected the address of a file, found no file name in it"));
  }
  return digest_in_name(parts.back()).empty() ? join(parts, "/") : parts.back();
}

}  // namespace

std::string weights_cache() {
  namespace fs = std::filesystem;
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value ? value : "");
  };
  if (const std::string home = variable("SEGCORE_HOME"); !home.empty()) {
    return fs::path(home) / "checkpoints";
  }
  if (const std::string home = variable("HOME"); !home.empty()) {
    return fs::path(home) / ".cache/segcore/checkpoints";
  }
  throw CheckpointError(
      "there is no folder to keep weights in: set SEGCORE_HOME to one (HOME is not set either)");
}

std::optional<ZooFile> zoo_file(const std::string& location) {
  const size_t colon = location.find("://");
  if (colon == location.npos || colon == 0) return std::nullopt;
  std::string scheme = location.substr(0, colon);
  std::transform(scheme.begin(), scheme.end(), scheme.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  if (scheme.find('/') != scheme.npos) return std::nullopt;  // a path, oddly named
  const std::string name = location.substr(colon + 3);
  ZooFile out;
  if (scheme == "https" || scheme == "http") {
    out.url = location;
  } else if (scheme == "open-mmlab" || scheme == "openmmlab" || scheme == "mmcls" ||
             scheme == "torchvision" || scheme == "modelzoo") {
    const std::optional<std::string> address = zoo_address(scheme, name);
    if (!address) {
      throw CheckpointError(text(location, ": no weights of this name are known.",
                                 did_you_mean(name, zoo_names(scheme)),
                                 " A path or an https:// address works too."));
    }
    out.url = *address;
    if (scheme == "mmcls") out.prefix = "backbone.";
  } else {
    throw CheckpointError(
        text(location, ": weights cannot come from '", scheme,
             "://'. Known: a path, https://, http://, open-mmlab://, mmcls://, torchvision://."));
  }
  const std::string place = place_in_cache(out.url);
  out.path = (std::filesystem::path(weights_cache()) / place).string();
  out.sha256_prefix = digest_in_name(std::filesystem::path(place).filename().string());
  return out;
}

std::string resolve_checkpoint(const std::string& location) {
  const std::optional<ZooFile> file = zoo_file(location);
  if (!file) return location;
  std::error_code ignored;
  if (std::filesystem::is_regular_file(file->path, ignored)) return file->path;
  throw CheckpointError(text(location,
                             ": its file is not there, and nothing is downloaded unasked. Run "
                             "'tools/fetch_weights CONFIG', or copy ",
                             file->url == location ? "it" : file->url, " to ", file->path));
}

}  // namespace seg
