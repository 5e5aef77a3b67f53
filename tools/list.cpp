/// Prints the registered types with their options.
#include <iostream>

#include "registry/left_out.hpp"
#include "registry/listing.hpp"
#include "registry/listing_search.hpp"
#include "runners/start/run_config.hpp"
#include "segcore/profile/backbone_table.hpp"
#include "tools/common/command_line.hpp"
#include "tools/common/help.hpp"

namespace {

struct ListArguments {
  std::string name, type;
  bool markdown = false, table = false;
  int64_t side = 224;
};

/// Sizes of backbones or encoders, of which `type` is a part of the name.
std::string sizes(const ListArguments& arguments) {
  const std::string category(
      arguments.name.empty() ? "" : seg::find_category(arguments.name).category());
  if (category == "encoder") {
    return seg::table_of(seg::encoder_rows(arguments.type, arguments.side), arguments.side);
  }
  if (category == "backbone") {
    return seg::table_of(seg::backbone_rows(arguments.type, arguments.side), arguments.side);
  }
  throw seg::UsageError("--table is for backbones and encoders: tools/list encoder resnet --table");
}

std::string listed(const ListArguments& arguments) {
  if (arguments.table) return sizes(arguments);
  if (arguments.name.empty()) {
    return arguments.markdown ? seg::markdown_of_all() : seg::list_categories();
  }
  std::vector<seg::Listed> found;
  try {
    if (arguments.type.empty()) {
      found = seg::find_listed(arguments.name);
    } else {
      const seg::AnyRegistry& registry = seg::find_category(arguments.name);
      found.push_back({&registry, seg::find_type(registry, arguments.type)});
    }
  } catch (const seg::UsageError& e) {
    const std::string& type = arguments.type.empty() ? arguments.name : arguments.type;
    if (const std::string reason = seg::reason_left_out(type); !reason.empty()) {
      throw seg::UsageError(seg::text(type, " is left out: ", reason));
    }
    // No name as it stands: words, then.
    std::string hits =
        seg::search_listed(arguments.name + " " + arguments.type, seg::run_config_docs());
    if (!hits.empty()) return hits;
    const std::string words = arguments.type.empty() ? seg::text("the word '", arguments.name, "'")
                                                     : seg::text("both '", arguments.name,
                                                                 "' and '", arguments.type, "'");
    throw seg::UsageError(seg::text("no name or meaning has ", words, "; ", e.what()));
  }
  std::vector<std::string> parts;
  for (const seg::Listed& one : found) {
    if (!one.type) {
      parts.push_back(arguments.markdown ? seg::markdown_of(*one.registry)
                                         : seg::list_types(*one.registry));
    } else {
      parts.push_back(arguments.markdown ? seg::markdown_of(*one.registry, *one.type)
                                         : seg::list_options(*one.registry, *one.type));
    }
  }
  return seg::join(parts, "\n");
}

}  // namespace

int main(int argc, char** argv) {
  seg::run_main(
      argc, argv,
      "Prints what configurations can name: the categories; the types of a category; a type with "
      "its options, their types, defaults and meanings, and the paper it follows. Other words are "
      "searched for in names and meanings.",
      [](CLI::App& app) {
        seg::add_help(app, {.example = "tools/list loss", .exit_codes = {}});
        auto arguments = std::make_shared<ListArguments>();
        app.add_option("name", arguments->name,
                       "a category (backbone), a type (FCNHead) or a word (ema)");
        app.add_option("type", arguments->type, "a type of that category, or a further word");
        app.add_flag("--markdown", arguments->markdown, "as Markdown, with all options");
        app.add_flag("--table", arguments->table,
                     "of backbones or encoders, built with their default options: parameters, "
                     "FLOPs, strides and published weights");
        app.add_option("--size", arguments->side, "side of the image that FLOPs are counted for")
            ->type_name("PIXELS")
            ->check(seg::number_between(32, 4096));
        return [arguments] {
          std::cout << listed(*arguments) << std::flush;
          return 0;
        };
      });
}
