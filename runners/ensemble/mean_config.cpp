#include "runners/ensemble/mean_config.hpp"

#include <filesystem>

#include "registry/config.hpp"
#include "registry/yaml.hpp"

namespace seg {

std::string mean_config(const std::vector<MeanMember>& members) {
  const auto absolute = [](const std::string& path) {
    return std::filesystem::absolute(path).lexically_normal().string();
  };
  Config list = parse_config("[]", "");
  for (const MeanMember& member : members) {
    Config one = parse_config("{}", "");
    one.set("config", Config::of(absolute(member.config)));
    one.set("checkpoint", Config::of(absolute(member.checkpoint)));
    one.set("weight", Config::of(member.weight));
    list.list.push_back(std::move(one));
  }
  Config model = parse_config("{_delete_: true, type: EnsembleSegmentor}", "");
  model.set("members", std::move(list));
  Config tree = parse_config("{}", "");
  tree.set("_base_", Config::of(absolute(members.at(0).config)));
  tree.set("model", std::move(model));
  return dump_yaml(tree);
}

}  // namespace seg
