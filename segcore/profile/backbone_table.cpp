#include "segcore/profile/backbone_table.hpp"

#include "registry/printed.hpp"
#include "segcore/models/encoders/encoder_table.hpp"
#include "segcore/profile/flops.hpp"
#include "segcore/torch.hpp"

namespace seg {
namespace {

int64_t count_parameters(const torch::nn::Module& module) {
  int64_t out = 0;
  for (const auto& parameter : module.parameters()) out += parameter.numel();
  return out;
}

int64_t flops_of_image(int64_t side, const std::function<void(const torch::Tensor&)>& run) {
  const torch::NoGradGuard no_grad;
  int64_t sum = 0;
  for (const auto& [operation, flops] : count_flops([&] {
         run(torch::zeros({1, 3, side, side}));
       })) {
    sum += flops;
  }
  return sum;
}

/// 25.6 M, 4.1 G
std::string short_count(int64_t count, double unit, const char* letter) {
  if (count == 0) return "-";
  const double units = static_cast<double>(count) / unit;
  return printed("%.*f %s", units < 10 ? 2 : 1, units, letter);
}

/// The weights' names once each: of two for one file the first.
std::vector<std::string> names_of(const std::vector<EncoderWeights>& published) {
  std::vector<std::string> out;
  std::string last;
  for (const auto& weights : published) {
    if (weights.address != last) out.push_back(weights.name);
    last = weights.address;
  }
  return out;
}

}  // namespace

std::vector<BackboneRow> encoder_rows(const std::string& part, int64_t side) {
  std::vector<BackboneRow> out;
  for (const auto& name : EncoderTable::instance().names()) {
    if (name.find(part) == std::string::npos) continue;
    if (EncoderTable::instance().find(name)->huge) {
      out.push_back({.name = name,
                     .source = EncoderTable::instance().find(name)->source,
                     .maps = {},
                     .weights = {}});
      continue;
    }
    const auto encoder = build_deepest_encoder(name, {});
    encoder->eval();
    BackboneRow row{.name = name,
                    .source = EncoderTable::instance().find(name)->source,
                    .parameters = count_parameters(*encoder),
                    .flops = flops_of_image(side, [&](const auto& x) { encoder->forward(x); }),
                    .maps = {},
                    .weights = names_of(encoder->facts().published)};
    for (const auto& map : encoder->maps()) {
      if (map.channels > 0 && map.stride > 1) row.maps.push_back(map);
    }
    out.push_back(std::move(row));
  }
  return out;
}

std::vector<BackboneRow> backbone_rows(const std::string& part, int64_t side) {
  std::vector<BackboneRow> out;
  for (const auto& type : Registry<Backbone>::instance().types()) {
    if (type.name.find(part) == std::string::npos) continue;
    try {
      const auto backbone = Spec<Backbone>::of("{type: " + type.name + "}").build();
      backbone->eval();
      out.push_back({.name = type.name,
                     .source = type.source,
                     .parameters = count_parameters(*backbone),
                     .flops = flops_of_image(side, [&](const auto& x) { backbone->forward(x); }),
                     .maps = backbone->features(),
                     .weights = {}});
    } catch (const ConfigError&) {  // it needs options
    }
  }
  return out;
}

std::string table_of(const std::vector<BackboneRow>& rows, int64_t side) {
  std::string out = text("| name | parameters | FLOPs at ", side, "x", side,
                         " | strides | widths | weights |\n| --- | ---: | ---: | --- | --- | --- "
                         "|\n");
  for (const auto& row : rows) {
    std::vector<std::string> strides, widths;
    for (const auto& map : row.maps) {
      strides.push_back(text(map.stride));
      widths.push_back(text(map.channels));
    }
    // The blocks of plain transformers are all alike.
    const auto listed = [](std::vector<std::string> values) {
      if (values.size() > 6 && values.front() == values.back()) {
        return text(values.size(), " x ", values.front());
      }
      return join(values, ", ");
    };
    out += text("| ", row.name, " | ", short_count(row.parameters, 1e6, "M"), " | ",
                short_count(row.flops, 1e9, "G"), " | ", listed(strides), " | ", listed(widths),
                " | ", join(row.weights, ", "), " |\n");
  }
  return out;
}

}  // namespace seg
