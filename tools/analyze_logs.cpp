/// Draws the recorded values of runs as curves.
#include "runners/visualization/plot.hpp"
#include "runners/visualization/run_log.hpp"
#include "segcore/image/image_io.hpp"
#include "segcore/io/atomic_file.hpp"
#include "tools/common/command_line.hpp"

namespace {

struct AnalyzeArguments {
  std::vector<std::string> runs, keys{"loss", "mIoU"}, legend;
  std::string out, csv, title, size = "1000x600";
};

/// "1000x600" as width and height.
std::pair<int, int> picture_size(const std::string& words) {
  int width = 0, height = 0;
  char rest = 0;
  if (std::sscanf(words.c_str(), "%dx%d%c", &width, &height, &rest) != 2 || width < 200 ||
      height < 150 || width > 20000 || height > 20000) {
    throw seg::UsageError("--size takes WIDTHxHEIGHT from 200x150 to 20000x20000, got '" + words +
                          "'");
  }
  return {width, height};
}

int analyze_logs(AnalyzeArguments arguments, bool keys_given) {
  const auto [width, height] = picture_size(arguments.size);
  std::vector<seg::RunLog> runs;
  for (const std::string& path : arguments.runs) runs.push_back(seg::read_run_log(path));
  seg::name_runs(runs);
  if (!arguments.legend.empty()) {
    if (arguments.legend.size() != runs.size()) {
      throw seg::UsageError(seg::text("--legend takes a name for each of the ", runs.size(),
                                      " runs, got ", arguments.legend.size()));
    }
    for (size_t i = 0; i < runs.size(); ++i) runs[i].name = arguments.legend[i];
  }
  if (!keys_given) {
    // A run without validation has a loss only.
    std::erase_if(arguments.keys, [&](const std::string& key) {
      return std::none_of(runs.begin(), runs.end(), [&](const auto& r) { return r.find(key); });
    });
    if (arguments.keys.empty()) arguments.keys = {runs[0].series[0].key};
  }
  seg::check_keys(runs, arguments.keys);
  if (!arguments.csv.empty()) {
    seg::write_file_atomically(arguments.csv, seg::curves_csv(runs, arguments.keys));
  }
  if (!arguments.out.empty()) {
    std::vector<seg::PlotPanel> panels;
    for (const std::string& key : arguments.keys) {
      seg::PlotPanel panel{key, "step", {}};
      for (const seg::RunLog& run : runs) {
        seg::PlotCurve curve{run.name, {}};
        if (const seg::Series* series = run.find(key)) {
          if (series->by_epoch) panel.x_label = "epoch";
          curve.points.assign(series->points.begin(), series->points.end());
        }
        panel.curves.push_back(std::move(curve));
      }
      panels.push_back(std::move(panel));
    }
    seg::write_image(arguments.out, seg::draw_plot(panels, width, height, arguments.title));
  }
  std::cout << seg::curves_summary(runs, arguments.keys);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return seg::run_main(
      argc, argv,
      "Draws values that runs recorded (losses, learning rates, metrics) as curves over the steps, "
      "one plot per key and one line per run, and prints their last, lowest and highest "
      "values. The launches of a resumed run are joined.",
      [](CLI::App& app) {
        auto arguments = std::make_shared<AnalyzeArguments>();
        app.add_option("run", arguments->runs,
                       "work dirs, folders of single launches, or scalars.json files")
            ->required();
        const CLI::Option* keys =
            app.add_option("--keys", arguments->keys, "names of values (default: loss mIoU)")
                ->type_name("KEY ...")
                ->expected(1, -1);
        app.add_option("--out", arguments->out, "picture to write (.png, .jpg)")->type_name("FILE");
        app.add_option("--csv", arguments->csv, "table to write")->type_name("FILE");
        app.add_option("--legend", arguments->legend, "names of the runs in the picture")
            ->type_name("NAME ...")
            ->expected(1, -1);
        app.add_option("--title", arguments->title, "title of the picture")->type_name("TEXT");
        app.add_option("--size", arguments->size, "of the picture in pixels (default 1000x600)")
            ->type_name("WxH");
        return [arguments, keys] { return analyze_logs(*arguments, keys->count() > 0); };
      });
}
